"""`tidegate dlq purge` deletes what was sent back, on a real Kafka; the embedded broker deletes no records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import tidegate
from harness.kafka import KafkaCluster
from tidegate import cli

DAY_MS = 86_400_000


def command(servers: str, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = cli.main(["dlq", *words, "--bootstrap-servers", servers])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def bury(servers: str, topic: str, partition: int, ages_days: list[int]) -> None:
    now_ms = time.time_ns() // 1_000_000
    with tidegate.Producer({"bootstrap.servers": servers}) as producer:
        for number, age in enumerate(ages_days):
            headers = [("tidegate.dlq.topic", b"tasks"), ("tidegate.dlq.exception", b"ValueError")]
            producer.send(
                topic, str(number).encode(), headers=headers, partition=partition, timestamp_ms=now_ms - age * DAY_MS - 1000
            )
        assert producer.flush() == 0


def left(servers: str, topic: str) -> list[tuple[int, int]]:
    with tidegate.Consumer({"bootstrap.servers": servers, "group.id": "look"}) as consumer:
        count = consumer.topics()[topic]
        return [consumer.watermarks((topic, partition)) for partition in range(count)]


def test_what_was_sent_back_is_deleted_and_nothing_else_without_saying_so(
    kafka: KafkaCluster, fresh_topic: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    servers = kafka.bootstrap_servers
    dead, other = fresh_topic(partitions=2), fresh_topic()
    bury(servers, dead, 0, [0] * 5)
    bury(servers, dead, 1, [0] * 3)

    status, text = command(servers, capsys, "purge", "--topic", dead, "--yes")
    assert status == 0
    assert f"kept: {dead} [0] offsets 0 to 4 were never sent back" in text
    assert text.endswith(f"{dead}: nothing to delete\n")
    assert left(servers, dead) == [(0, 5), (0, 3)]

    # Partition 0 is sent back as far as offset 3.
    assert command(servers, capsys, "replay", "--topic", dead, "--to", other, "--limit", "4")[0] == 0
    status, text = command(servers, capsys, "purge", "--topic", dead)
    assert (status, f"would delete {dead} [0] offsets 0 to 3: 4 records\n" in text) == (0, True)
    assert "nothing was deleted; say --yes" in text
    assert left(servers, dead) == [(0, 5), (0, 3)]

    status, text = command(servers, capsys, "purge", "--topic", dead, "--partition", "0", "--before", "2", "--yes")
    assert (status, f"{dead} [0] now begins at offset 2" in text) == (0, True)
    assert left(servers, dead) == [(2, 5), (0, 3)]

    status, text = command(servers, capsys, "purge", "--topic", dead, "--yes")
    assert status == 0
    assert f"deleting {dead} [0] offsets 2 to 3: 2 records\n" in text
    assert f"kept: {dead} [0] offsets 4 to 4 were never sent back" in text
    assert f"kept: {dead} [1] offsets 0 to 2 were never sent back" in text
    assert left(servers, dead) == [(4, 5), (0, 3)]

    # What is left is sent back all the same, once.
    status, text = command(servers, capsys, "replay", "--topic", dead, "--to", other)
    assert (status, "4 records sent" in text) == (0, True)
    assert command(servers, capsys, "list", "--topic", dead)[1].endswith(f"{dead}: 4 records\n")
    assert command(servers, capsys, "purge", "--topic", dead, "--yes")[0] == 0
    assert left(servers, dead) == [(5, 5), (3, 3)]
    assert command(servers, capsys, "purge", "--topic", dead, "--yes") == (0, f"{dead}: nothing to delete\n")


def test_what_is_old_is_deleted_unreplayed_only_if_that_is_said(
    kafka: KafkaCluster, fresh_topic: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    servers = kafka.bootstrap_servers
    dead = fresh_topic(partitions=2, config={"retention.ms": -1, "message.timestamp.before.max.ms": 9_000_000_000_000})
    bury(servers, dead, 0, [40, 35, 31, 29, 0])
    bury(servers, dead, 1, [50, 45])
    status, text = command(servers, capsys, "purge", "--topic", dead, "--older-than", "30d", "--yes")
    assert (status, text.count("were never sent back"), text.endswith("nothing to delete\n")) == (0, 2, True)
    status, text = command(servers, capsys, "purge", "--topic", dead, "--older-than", "30d", "--unreplayed")
    assert status == 0
    assert f"would delete {dead} [0] offsets 0 to 2: 3 records, 3 of which were never sent back\n" in text
    assert left(servers, dead) == [(0, 5), (0, 2)]
    status, text = command(servers, capsys, "purge", "--topic", dead, "--older-than", "30d", "--unreplayed", "--yes")
    assert (status, f"deleting {dead} [1] offsets 0 to 1: 2 records, 2 of which" in text) == (0, True)
    assert left(servers, dead) == [(3, 5), (2, 2)]


@pytest.fixture(scope="module")
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker(topics={"dead": 2}) as broker:
        yield broker


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--before", "5"), "--before: an offset is one of a single partition"),
        (("--before", "5", "--partition", "0", "--partition", "1"), "--before: an offset is one of a single partition"),
        (("--before", "-5", "--partition", "0"), "--before -5: use an offset of 0 or more"),
        (("--partition", "2"), "--partition 2: dead has no such partition"),
    ],
)
def test_what_cannot_be_asked_is_told(
    broker: tidegate.EmbeddedBroker, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    status, text = command(broker.bootstrap_servers, capsys, "purge", "--topic", "dead", "--yes", *words)
    assert (status, told in text) == (2, True), text


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1y", "1.5h"])
def test_an_age_that_is_none_is_told(broker: tidegate.EmbeddedBroker, capsys: pytest.CaptureFixture[str], age: str) -> None:
    with pytest.raises(SystemExit):
        command(broker.bootstrap_servers, capsys, "purge", "--topic", "dead", f"--older-than={age}")
    assert "is no age; write a number and s, m, h, d or w, such as 30d" in capsys.readouterr().err


def test_a_cluster_that_deletes_nothing_says_so(broker: tidegate.EmbeddedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    bury(broker.bootstrap_servers, "dead", 0, [0] * 3)
    status, text = command(broker.bootstrap_servers, capsys, "purge", "--topic", "dead", "--unreplayed", "--yes")
    assert (status, "dead [0] was not purged: " in text) == (1, True), text
    assert left(broker.bootstrap_servers, "dead")[0] == (0, 3)
