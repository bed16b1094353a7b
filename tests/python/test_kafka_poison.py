"""Poison records on a real Kafka reach the counters, the log exactly once each, and the dead-letter topic when there is one, just
as they were; nothing behind them is held up."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from dropin import Service
from fake_engine import until

from harness.kafka import KafkaCluster

PARTITIONS = 2
MEGABYTE = 1_000_000
HUNDRED_HEADERS = tuple((f"h{n % 90}", None if n == 7 else b"\xff%d" % n) for n in range(100))
HELD_UP_S = 30.0


class Poison(NamedTuple):
    """A record the handler cannot get, and why."""

    reason: str
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


POISON = [
    Poison("not-json", b"not json"),
    Poison("tombstone", None),
    Poison("tombstone", None, b"camera-7"),
    Poison("not-json", b"[" + b"1," * (MEGABYTE // 2)),
    Poison("empty", b""),
    Poison("not-json", b'{"n": "\xff\xfe"}', b"\x00\xff"),
    Poison("not-json", b"{}}", None, HUNDRED_HEADERS),
    Poison("not-json", b"[" * 100_000),
    Poison("not-json", b'{"braces": {0} %s <red>}'),
]
# Handled, although they look odd.
GOOD_BUT_ODD: list[tuple[bytes, tuple[tuple[str, bytes | None], ...]]] = [
    (b'{"n": NaN}', ()),
    (b'{"n": 1, "text": "' + b"x" * MEGABYTE + b'"}', ()),
    (b'{"n": 2}', HUNDRED_HEADERS),
    (b'{"n": 123456789012345678901234567890}', ()),
]


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    """What is logged at warning or above, as loguru's messages."""
    loguru = pytest.importorskip("loguru").logger
    lines: list[Any] = []
    handler = loguru.add(lines.append, level="WARNING", format="{message}")
    yield lines
    loguru.remove(handler)


class Written(NamedTuple):
    """What is in the topic: where each poison record is, where the one is whose handler fails, how many the handler gets."""

    poison: dict[tuple[int, int], Poison]
    failing: tuple[int, int]
    good: int


def write(servers: str, topic: str) -> Written:
    """In each partition: good records with poison between them, each followed by a good one."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 2 * MEGABYTE, "log_level": 2})
    at: dict[int, tuple[int, int]] = {}
    kinds: list[Poison | None] = []

    def send(partition: int, poison: Poison | None, value: bytes | None, key: bytes | None, headers: Any) -> None:
        row = len(kinds)
        kinds.append(poison)

        def on_delivery(error: Any, message: Any) -> None:
            assert error is None, error
            at[row] = (message.partition(), message.offset())

        producer.produce(topic, value, key, partition, on_delivery=on_delivery, headers=list(headers))

    good = 0
    for partition in range(PARTITIONS):
        for poison in POISON:
            send(partition, None, b'{"n": %d}' % good, None, ())
            send(partition, poison, poison.value, poison.key, poison.headers)
            good += 1
        for value, headers in GOOD_BUT_ODD:
            send(partition, None, value, b"odd", headers)
            good += 1
    failing = len(kinds)
    send(0, None, b'{"fails": true}', b"k", HUNDRED_HEADERS)
    for partition in range(PARTITIONS):
        send(partition, None, b'{"last": true}', None, ())
        good += 1
    assert producer.flush(60) == 0
    return Written({at[row]: kind for row, kind in enumerate(kinds) if kind is not None}, at[failing], good)


def handler(message: Any) -> None:
    if "fails" in message:
        raise LookupError("the handler says {no} 100%")


def check_log(log_lines: list[Any], topic: str, written: Written) -> None:
    """One line for each record that was not handled, with its place; none for the others."""
    place = re.compile(rf"{re.escape(topic)} \[(\d+)\] offset (\d+)\b")
    told = Counter((int(match[1]), int(match[2])) for line in log_lines if (match := place.search(str(line))))
    assert told == Counter([*written.poison, written.failing])


@pytest.mark.parametrize("dead_letters", [True, False], ids=["dead-letter topic", "no dead-letter topic"])
def test_poison_is_seen_and_holds_up_nothing(
    kafka: KafkaCluster,
    fresh_topic: Callable[..., str],
    fresh_group: str,
    log_lines: list[Any],
    say: Callable[[str], None],
    dead_letters: bool,
) -> None:
    topic = fresh_topic(partitions=PARTITIONS)
    dead_topic = fresh_topic(partitions=1) if dead_letters else None
    written = write(kafka.reader_servers, topic)
    not_handled = len(written.poison) + 1
    told: list[Any] = []
    service = Service(
        kafka.bootstrap_servers,
        fresh_group,
        [topic],
        handler,
        config=None,
        dead_letter_topic=dead_topic,
        on_error=lambda error, record: told.append((record.partition, record.offset, type(error).__name__)),
    )
    started = time.monotonic()
    with service:
        service.wait_seen(written.good, HELD_UP_S)
        took_s = time.monotonic() - started
        if dead_letters:
            until(lambda: service.consumer.stats()["dead_lettered"] == not_handled)
    stats = service.consumer.stats()
    assert sum("last" in message for message in service.seen) == PARTITIONS
    assert len(service.seen) == written.good
    assert stats["received"] == written.good + not_handled
    assert (stats["handled"], stats["failed"], stats["poison"]) == (written.good, 1, len(written.poison))
    assert stats["tombstones"] == sum(poison.value is None for poison in written.poison.values())
    assert stats["dead_lettered"] == (not_handled if dead_letters else 0)
    assert sorted(told)[:1] and {place[:2] for place in told} == {*written.poison, written.failing}
    assert len(told) == not_handled
    check_log(log_lines, topic, written)
    assert kafka.committed(fresh_group, topic) == kafka.end_offsets(topic)
    say(
        f"{written.good} handled around {len(written.poison)} poison records and a failing one in {took_s:.1f} s; "
        f"{stats['dead_lettered']} in the dead-letter topic, {not_handled} lines in the log"
    )
    if dead_topic is not None:
        check_dead_letters(kafka, topic, dead_topic, written, fresh_group)


def check_dead_letters(kafka: KafkaCluster, topic: str, dead_topic: str, written: Written, group: str) -> None:
    """Each record once, key, value and headers as they were, with origin and reason behind them."""
    found: dict[tuple[int, int], Any] = {}
    for message in kafka.read_all(dead_topic):
        headers = message.headers()
        own = {name.removeprefix("tidegate.dlq."): value.decode() for name, value in headers if name.startswith("tidegate.dlq.")}
        origin = (int(own["partition"]), int(own["offset"]))
        assert origin not in found, f"{origin} is there twice"
        found[origin] = (message.key(), message.value(), tuple(h for h in headers if not h[0].startswith("tidegate.dlq.")), own)
    assert set(found) == {*written.poison, written.failing}
    for origin, poison in written.poison.items():
        key, value, headers, own = found[origin]
        assert (key, value, headers) == (poison.key, poison.value, poison.headers)
        assert (own["topic"], own["reason"], own["group"], own["attempts"]) == (topic, poison.reason, group, "0")
        assert own["text"]
        assert int(own["timestamp_ms"]) <= int(own["first_ms"]) <= time.time() * 1000
    key, value, headers, own = found[written.failing]
    assert (key, json.loads(value), headers) == (b"k", {"fails": True}, HUNDRED_HEADERS)
    assert (own["reason"], own["exception"], own["attempts"]) == ("handler", "LookupError", "1")
    assert "the handler says {no} 100%" in own["text"]
