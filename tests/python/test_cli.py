"""The command `tidegate`: config, init-topics, and what it says when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tidegate
from tidegate import cli
from tidegate.pipeline import messages

PROPERTIES = """\
# the service's consumer
! another comment
bootstrap.servers = kafka-1:9092,\\
    kafka-2:9092
group.id: detections
auto.offset.reset latest
   enable.auto.commit=false

client.id=a=b
"""

EXPECTED = {
    "bootstrap.servers": "kafka-1:9092,kafka-2:9092",
    "group.id": "detections",
    "auto.offset.reset": "latest",
    "enable.auto.commit": "false",
    "client.id": "a=b",
}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_properties_file_is_read_as_java_does(tmp_path: Path) -> None:
    assert cli.read_properties(written(tmp_path / "client.properties", PROPERTIES)) == EXPECTED
    assert cli.read_properties(written(tmp_path / "bom.properties", "\ufeffgroup.id=g\n")) == {"group.id": "g"}
    assert cli.read_properties(written(tmp_path / "empty.properties", "")) == {}


def test_json_and_toml_are_joined_by_dots(tmp_path: Path) -> None:
    tree = {"group": {"id": "g"}, "fetch.min.bytes": 5, "enable.auto.commit": False, "topics": ["a", "b"], "nothing": None}
    expected = {"group.id": "g", "fetch.min.bytes": 5, "enable.auto.commit": False, "topics": "a,b"}
    assert cli.read_properties(written(tmp_path / "c.json", json.dumps(tree))) == expected
    if sys.version_info >= (3, 11):
        text = '"fetch.min.bytes" = 5\n"enable.auto.commit" = false\ntopics = ["a", "b"]\n[group]\nid = "g"\n'
        assert cli.read_properties(written(tmp_path / "c.toml", text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("c.json", "{", "not JSON"), ("c.toml", "a = ", "TOML"), ("c.properties", "ok=1\n=value\n", "line 2")],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    assert cli.main(["config", "check", str(written(tmp_path / name, text))]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert name in errors
    assert cli.main(["config", "check", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err


def test_check_prints_every_problem_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "bootstrap.servers=b:9092\ngroup.id=g\nsesion.timeout.ms=1\nfetch.min.bytes=many\nkey.deserializer=x\n"
    assert cli.main(["config", "check", str(written(tmp_path / "c.properties", text))]) == 1
    output = capsys.readouterr().out
    for name in ("sesion.timeout.ms", "fetch.min.bytes", "key.deserializer"):
        assert f"error: {name}=" in output
    assert "session.timeout.ms" in output  # the nearest known name
    assert "3 errors" in output


def test_check_is_content_with_a_right_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "check", str(written(tmp_path / "c.properties", PROPERTIES))]) == 0
    assert "0 errors" in capsys.readouterr().out


def test_check_looks_with_the_eyes_of_a_producer_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "c.properties", "bootstrap.servers=b:9092\nenable.idempotence=true\nacks=1\n")
    assert cli.main(["config", "check", str(path), "--for", "producer"]) == 1
    assert "acks" in capsys.readouterr().out


def test_a_secret_is_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "c.properties", "bootstrap.servers=b\ngroup.id=g\nsasl.password=hunter2\nsasl.mechanism=NONSENSE\n")
    cli.main(["config", "check", str(path)])
    assert "hunter2" not in capsys.readouterr().out


def test_explain_knows_both_names_and_guesses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "explain", "session.timeout.ms"]) == 0
    assert "session.timeout.ms" in capsys.readouterr().out
    assert cli.main(["config", "explain", "ssl.truststore.location"]) == 0
    assert "ssl.ca.location" in capsys.readouterr().out
    assert cli.main(["config", "explain", "sesion.timeout"]) == 1
    assert "session.timeout.ms" in capsys.readouterr().out


def test_list_has_them_all_or_those_of_one_client(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "list"]) == 0
    everything = capsys.readouterr().out.splitlines()
    assert len(everything) > 150
    assert cli.main(["config", "list", "--for", "producer"]) == 0
    producers = capsys.readouterr().out
    assert "linger.ms" in producers
    assert "fetch.min.bytes" not in producers


def test_init_topics_creates_what_is_missing_and_says_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    with tidegate.EmbeddedBroker() as broker:
        arguments = ["init-topics", "--bootstrap-servers", broker.bootstrap_servers, "--partitions", "3", "--timeout", "2"]
        # The embedded broker has no CreateTopics: the answer must be a clear line for each topic, not a traceback.
        assert cli.main(arguments) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out or captured.err
    assert "Traceback" not in captured.err


@pytest.mark.kafka
def test_init_topics_on_a_real_broker(kafka, capsys: pytest.CaptureFixture[str], fresh_name) -> None:  # type: ignore[no-untyped-def]
    prefix = fresh_name("init") + "-"
    arguments = ["init-topics", "--bootstrap-servers", kafka.bootstrap_servers, "--partitions", "3", "--topic-prefix", prefix]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [f"{prefix}{name}: created with 3 partitions" for name in messages.TOPICS]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [f"{prefix}{name}: exists already, left as it is" for name in messages.TOPICS]


def test_a_broker_that_is_away_is_said_within_the_timeout(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init-topics", "--bootstrap-servers", "127.0.0.1:1", "--timeout", "0.5"]) == 2
    assert capsys.readouterr().err.startswith("tidegate: ")


@pytest.mark.parametrize(
    "arguments",
    [[], ["config"], ["config", "check"], ["pipeline", "--duration", "0"], ["pipeline", "--mode", "x"], ["init-topics"]],
)
def test_a_wrong_command_line_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: tidegate" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tidegate", "tidegate.pipeline.task_generator", "tidegate.pipeline.scheduler"])
def test_help_is_there(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "usage: tidegate" in done.stdout
