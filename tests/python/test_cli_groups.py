"""`tidegate offsets` and `tidegate dlq` on the embedded broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from dropin import produce, read_all
from fake_engine import until

import tidegate
from tidegate import _cli_groups, cli


@pytest.fixture
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker(topics={"tasks": 1, "dead": 1, "other": 1}) as broker:
        yield broker


def command(broker: tidegate.EmbeddedBroker, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = cli.main([*words, "--bootstrap-servers", broker.bootstrap_servers])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def bury(broker: tidegate.EmbeddedBroker, count: int) -> None:
    """`count` records of `tasks` fail for good and go to `dead`."""
    produce(broker.bootstrap_servers, "tasks", [json.dumps({"n": n}).encode() for n in range(count)], keys=[b"k"] * count)

    def fail(_record: tidegate.Record) -> None:
        raise ValueError("no such camera {} %s")

    config = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
    with tidegate.Consumer(config, ["tasks"]) as consumer, consumer.process(fail, dead_letter_topic="dead") as processing:
        until(lambda: processing.ledger()["dead_lettered"] == count, 60)


def test_dead_letters_are_listed_shown_and_sent_back_once(
    broker: tidegate.EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(broker, 3)
    status, text = command(broker, capsys, "dlq", "list", "--topic", "dead")
    assert status == 0
    assert text.count("ValueError: no such camera {} %s") == 3
    assert "tasks [0] offset 2" in text
    assert text.endswith("dead: 3 records\n")
    status, text = command(broker, capsys, "dlq", "show", "--topic", "dead", "--partition", "0", "--offset", "1")
    assert status == 0
    assert 'value: {"n": 1}' in text
    assert "tidegate.dlq.group: g" in text
    status, text = command(broker, capsys, "dlq", "show", "--topic", "dead", "--partition", "0", "--offset", "9")
    assert status == 1

    status, text = command(broker, capsys, "dlq", "replay", "--topic", "dead", "--dry-run")
    assert "3 records would be sent, 0 not" in text
    status, text = command(broker, capsys, "dlq", "replay", "--topic", "dead", "--limit", "2")
    assert (status, "2 records sent, 0 not" in text) == (0, True)
    status, text = command(broker, capsys, "dlq", "replay", "--topic", "dead")
    assert "1 records sent" in text
    status, text = command(broker, capsys, "dlq", "replay", "--topic", "dead")
    assert (status, "0 records sent" in text) == (0, True)
    back = read_all(broker.bootstrap_servers, "tasks", 6)
    dead = [record.json()["n"] for record in read_all(broker.bootstrap_servers, "dead", 3)]
    assert [record.json()["n"] for record in back] == [0, 1, 2, *dead]
    assert {record.key for record in back} == {b"k"}
    assert dict(back[4].headers) == {"tidegate.dlq.replayed_from": b"dead/0/1"}

    status, text = command(broker, capsys, "dlq", "replay", "--topic", "dead", "--again", "--to", "other")
    assert "sent again, as told: dead [0] offsets 0 to 2" in text
    assert len(read_all(broker.bootstrap_servers, "other", 3)) == 3


@pytest.mark.parametrize("what", ["repeat", "skip"])
def test_an_interrupted_replay_says_what_is_in_doubt(
    broker: tidegate.EmbeddedBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    bury(broker, 4)
    monkeypatch.setattr(_cli_groups, "_CHUNK", 2)
    whole = tidegate.Producer.flush
    flushes = 0

    class Producer:
        """Dies after the second chunk was sent, before its cursor moves."""

        def __init__(self, config: dict[str, str]) -> None:
            self._producer = tidegate.Producer(config)
            self.send = self._producer.send

        def __enter__(self) -> Producer:
            return self

        def __exit__(self, *_: object) -> None:
            self._producer.close()

        def flush(self, timeout: float) -> int:
            nonlocal flushes
            flushes += 1
            left = whole(self._producer, timeout)
            if flushes == 2:
                raise KeyboardInterrupt
            return left

    class Core:
        def __getattr__(self, name: str) -> object:
            return Producer if name == "Producer" else getattr(tidegate._core, name)

    with monkeypatch.context() as broken:
        broken.setattr(_cli_groups, "_core", Core())
        with pytest.raises(KeyboardInterrupt):
            command(broker, capsys, "dlq", "replay", "--topic", "dead", "--to", "other")
    capsys.readouterr()
    status, text = command(broker, capsys, "dlq", "replay", "--topic", "dead", "--to", "other")
    assert status == 1
    assert "may or may not have sent dead [0] offsets 2 to 3" in text
    status, text = command(broker, capsys, "dlq", "replay", "--topic", "dead", "--to", "other", "--in-doubt", what)
    assert status == 0
    dead = [record.json()["n"] for record in read_all(broker.bootstrap_servers, "dead", 4)]
    expected = dead + dead[2:] if what == "repeat" else dead
    assert [record.json()["n"] for record in read_all(broker.bootstrap_servers, "other", len(expected))] == expected
    assert ("sent perhaps twice" in text) == (what == "repeat")


def test_offsets_are_shown_with_lag_and_the_map_of_what_is_done_beyond(
    broker: tidegate.EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(broker.bootstrap_servers, "tasks", [str(n).encode() for n in range(10)], keys=[str(n).encode() for n in range(10)])

    async def handle(record: tidegate.Record) -> None:
        if record.offset in (3, 7):
            await asyncio.sleep(3600)

    config = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
    with tidegate.Consumer(config, ["tasks"]) as consumer:
        processing = consumer.process(handle, max_in_flight=4)
        until(lambda: processing.ledger()["done"] == 8, 60)
        processing.stop(drain=0.1)
        status, text = command(broker, capsys, "offsets", "show", "--group", "g", "--topic", "tasks")
    assert status == 0
    assert "tasks [0] committed 3, end 10, lag 7; 5 done beyond it: 4-6, 8-9 (" in text
    status, text = command(broker, capsys, "offsets", "show", "--group", "nobody")
    assert status == 1
    assert "nobody has committed nothing" in text


def test_what_is_not_there_is_told(broker: tidegate.EmbeddedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(broker, capsys, "dlq", "list", "--topic", "absent") == (2, "tidegate: there is no topic absent\n")
    status, text = command(broker, capsys, "dlq", "list", "--topic", "dead", "--property", "x")
    assert (status, text) == (2, "tidegate: --property x: write NAME=VALUE\n")
