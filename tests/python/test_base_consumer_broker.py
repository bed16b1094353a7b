"""BaseKafkaConsumer on the embedded broker: what a restart finds, dead letters, brokers that are away, commits."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from dropin import Service, committed, numbers, produce, read_all, start_script
from fake_engine import until

import tidegate
from tidegate.base_consumer import BaseKafkaConsumer


@pytest.fixture(scope="module")
def broker() -> Iterator[Any]:
    names = ["restart", "raise", "poison", "latest", "manual", "dead", "away"]
    with tidegate.EmbeddedBroker(topics={**dict.fromkeys(names, 1), "many": 4}) as running:
        yield running


def test_everything_is_handled_once_over_a_restart(broker: Any) -> None:
    servers = broker.bootstrap_servers
    produce(servers, "restart", numbers(0, 500))
    with Service(servers, "restart", ["restart"]) as first:
        first.wait_seen(500)
    produce(servers, "restart", numbers(500, 700))
    with Service(servers, "restart", ["restart"]) as second:
        second.wait_seen(200)
    assert [message["n"] for message in first.seen + second.seen] == list(range(700))
    assert committed(servers, "restart", "restart") == {0: 700}


def test_a_record_unfinished_when_the_handler_dies_comes_again(broker: Any) -> None:
    servers = broker.bootstrap_servers
    produce(servers, "raise", numbers(0, 10))

    def handler(message: Any) -> None:
        if message["n"] == 4:
            raise SystemExit("the service gives up")

    with Service(servers, "raise", ["raise"], handler) as first:
        first.thread.join(60)
    assert isinstance(first.raised, SystemExit)
    assert [message["n"] for message in first.seen] == [0, 1, 2, 3]
    with Service(servers, "raise", ["raise"]) as second:
        second.wait_seen(6)
    assert [message["n"] for message in second.seen] == [4, 5, 6, 7, 8, 9]


HEADERS = [(f"h{number}", b"x" * number) for number in range(100)]


def check_poison(servers: str, group: str, topic: str, dead: str, **arguments: Any) -> None:
    """Issue 7h: every kind of poison reaches the counters, the log once, and the dead-letter topic; nothing is held up."""
    large = b"[" + b"1," * 500_000
    poison: list[bytes | None] = [b"not json", None, b"", b"\xff\xfe", large]
    produce(servers, topic, [b'{"n":0}', *poison])
    producer = tidegate.Producer({"bootstrap.servers": servers})
    producer.send(topic, b"with headers", headers=HEADERS)
    producer.send(topic, b'{"n":1}', headers=HEADERS)
    producer.close()
    poison.append(b"with headers")
    with Service(servers, group, [topic], dead_letter_topic=dead, **arguments) as service:
        service.wait_seen(2)
        until(lambda: service.consumer.stats()["dead_lettered"] == len(poison))
    assert [message["n"] for message in service.seen] == [0, 1]
    stats = service.consumer.stats()
    assert (stats["handled"], stats["poison"], stats["tombstones"], stats["dead_letters_waiting"]) == (2, 6, 1, 0)
    letters = read_all(servers, dead, len(poison))
    assert sorted(letter.value or b"" for letter in letters) == sorted(value or b"" for value in poison)
    assert {dict(letter.headers)["tidegate.dlq.topic"] for letter in letters} == {topic.encode()}
    assert sorted(int(dict(letter.headers)["tidegate.dlq.offset"]) for letter in letters) == [1, 2, 3, 4, 5, 6]
    (headers,) = [letter.headers for letter in letters if letter.value == b"with headers"]
    assert list(headers)[:100] == HEADERS
    assert committed(servers, group, topic) == {0: 8}


def test_poison_reaches_the_dead_letter_topic_and_holds_up_nothing(broker: Any) -> None:
    check_poison(broker.bootstrap_servers, "poison", "poison", "dead")


@pytest.mark.kafka
def test_poison_on_a_real_kafka(kafka: Any, fresh_topic: Any, fresh_group: str) -> None:
    check_poison(kafka.bootstrap_servers, fresh_group, fresh_topic(), fresh_topic(), config=None)


def test_what_a_latest_group_missed_before_its_first_commit_is_not_lost(broker: Any) -> None:
    servers = broker.bootstrap_servers
    produce(servers, "latest", numbers(0, 5))
    with Service(servers, "latest", ["latest"], auto_offset_reset="latest") as first:
        assert first.consumer.wait_until_assigned(60)
        until(lambda: committed(servers, "latest", "latest") == {0: 5})
    produce(servers, "latest", numbers(5, 8))
    with Service(servers, "latest", ["latest"], auto_offset_reset="latest") as second:
        second.wait_seen(3)
    assert first.seen == []
    assert [message["n"] for message in second.seen] == [5, 6, 7]


def test_with_auto_commit_off_only_the_application_commits(broker: Any) -> None:
    servers = broker.bootstrap_servers
    produce(servers, "manual", numbers(0, 10))
    with Service(servers, "manual", ["manual"], auto_commit=False) as service:
        service.wait_seen(10)
    assert committed(servers, "manual", "manual") == {}
    with Service(servers, "manual", ["manual"], auto_commit=False) as service:
        service.wait_seen(10)
        until(lambda: service.consumer.stats()["handled"] == 10)
        service.consumer.commit()
    assert committed(servers, "manual", "manual") == {0: 10}


def test_many_partitions_keep_their_order(broker: Any) -> None:
    servers = broker.bootstrap_servers
    keys = [str(n % 13).encode() for n in range(2000)]
    values = [json.dumps({"camera": n % 13, "n": n}).encode() for n in range(2000)]
    produce(servers, "many", values, keys=keys)
    with Service(servers, "many", ["many"]) as service:
        service.wait_seen(2000)
    for camera in range(13):
        assert [m["n"] for m in service.seen if m["camera"] == camera] == list(range(camera, 2000, 13))
    assert sum(committed(servers, "many", "many", 4).values()) == 2000


def test_a_broker_that_is_away_at_start_is_waited_for() -> None:
    with tidegate.EmbeddedBroker(topics={"late": 1}) as broker:
        servers = broker.bootstrap_servers
        produce(servers, "late", numbers(0, 3))
        broker.broker_down(1)
        with Service(servers, "g", ["late"]) as service:
            assert not service.consumer.wait_until_assigned(1.0)
            assert service.consumer.running
            broker.broker_up(1)
            service.wait_seen(3)
            assert service.raised is None


AWAY = """
    import threading
    from tidegate.base_consumer import BaseKafkaConsumer

    consumer = BaseKafkaConsumer("127.0.0.1:1", "g", ["t"], print)
    threading.Timer(4, consumer.stop).start()
    consumer.start()
"""


def test_a_broker_that_is_away_is_not_logged_every_second() -> None:
    with start_script(AWAY) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = [line for line in errors.splitlines() if "| ERROR" in line or "| WARNING" in line]
    assert lines
    assert len(lines) <= 6, errors


def test_stop_works_without_a_broker() -> None:
    with Service("127.0.0.1:1", "g", ["t"]) as service:
        until(lambda: service.consumer.running)
        started = time.monotonic()
        service.consumer.stop()
        service.thread.join(15)
        assert time.monotonic() - started < 5
    assert service.raised is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"config": {"sesion.timeout.ms": 1}}, "session.timeout.ms"),
        ({"config": {"session.timeout.ms": 600_000, "max.poll.interval.ms": 300_000}}, "max.poll.interval.ms"),
        ({"auto_offset_reset": "newest"}, "auto.offset.reset"),
        ({"config": {"key.deserializer": "x", "fetch.min.bytes": "{} %s"}}, "fetch.min.bytes"),
    ],
)
def test_a_wrong_configuration_is_said_at_once(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(tidegate.ConfigError) as raised:
        BaseKafkaConsumer("127.0.0.1:1", "g", ["t"], print, **arguments)
    assert said in str(raised.value)


def _in_the_child(consumer: BaseKafkaConsumer, results: Any) -> None:
    try:
        consumer.start()
    except BaseException as error:
        results.put(type(error).__name__)
    consumer.stop()
    consumer.close()
    results.put("closed")


def test_a_forked_child_gets_a_clear_error_and_harms_nobody(broker: Any) -> None:
    consumer = BaseKafkaConsumer(broker.bootstrap_servers, "fork", ["away"], lambda _message: None)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_in_the_child, args=(consumer, results))
    child.start()
    assert results.get(timeout=30) == "ForkedError"
    assert results.get(timeout=30) == "closed"
    child.join(30)
    assert child.exitcode == 0
    consumer.close()


@pytest.mark.kafka
def test_a_second_member_takes_over_without_loss_or_doubles(kafka: Any, fresh_topic: Any, fresh_group: str) -> None:
    """A slow handler holds a leased batch when the partitions are taken away: the revoke waits for the record in progress
    and for nothing else, and the rest of the batch goes to the other member."""
    servers, topic = kafka.bootstrap_servers, fresh_topic(partitions=4)
    produce(servers, topic, numbers(0, 200), keys=[str(n).encode() for n in range(200)])
    hurry = threading.Event()
    config = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200}
    with Service(servers, fresh_group, [topic], lambda _m: hurry.wait(0.05), config=config) as first:
        first.wait_seen(5)
        started = time.monotonic()
        with Service(servers, fresh_group, [topic], lambda _m: hurry.wait(0.05), config=config) as second:
            second.wait_seen(1)
            took = time.monotonic() - started
            second.wait_seen(5)
            hurry.set()
            until(lambda: len(first.seen) + len(second.seen) >= 200, timeout=60)
    assert sorted(message["n"] for message in first.seen + second.seen) == list(range(200))
    assert first.consumer.stats()["stale"] > 0
    assert took < 8  # tidegate.revoke.drain.ms is 15 s
