"""`tidegate.confluent.Consumer` and `Message` beside confluent_kafka's own: the same program on both, and where ours is better."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import confluent_kafka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tidegate
import tidegate.confluent as ours

CLIENTS = [confluent_kafka, ours]
RECORDS = 10
WAIT = 30.0


@pytest.fixture
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker(topics={"t": 2, "e": 1, "one": 1}) as broker:
        with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
            for number in range(RECORDS):
                producer.send("t", b"v%d" % number, key=b"k", partition=number % 2, headers={"h": b"x"} if number == 0 else None)
                producer.send("one", b"v%d" % number)
        yield broker


def config(broker: tidegate.EmbeddedBroker, client: ModuleType, **more: Any) -> dict[str, Any]:
    """A group of its own for each client, and the same for both otherwise."""
    base = {
        "bootstrap.servers": broker.bootstrap_servers,
        "group.id": "group-" + client.__name__,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    }
    return base | {name.replace("_", "."): value for name, value in more.items()}


def plain(value: Any) -> Any:
    """What both clients should agree on."""
    match type(value).__name__:
        case "TopicPartition":
            return value.topic, value.partition, value.offset, value.metadata, value.error and value.error.code()
        case "Message":
            error = value.error()
            assert error is None or error.str().encode() == value.value()
            return (
                *(value.topic(), value.partition(), value.offset(), value.key(), value.value(), value.headers()),
                *(value.timestamp()[0], value.latency(), len(value), error and error.code()),
            )
        case "list":
            return [plain(item) for item in value]
    return value


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or what it raises: the class, and the code of a KafkaException."""
    try:
        return plain(call())
    except Exception as raised:
        code = raised.args[0].code() if type(raised).__name__ == "KafkaException" else None
        return type(raised).__name__, code


def until(consumer: Any, count: int) -> list[Any]:
    """So many messages, events included."""
    got: list[Any] = []
    deadline = time.monotonic() + WAIT
    while len(got) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None:
            got.append(message)
    assert len(got) == count, [plain(message) for message in got]
    return got


def assigned_by_hand(client: ModuleType, broker: tidegate.EmbeddedBroker) -> list[tuple[str, Any]]:
    """A program without a subscription; each step with its outcome."""
    at = client.TopicPartition
    heard: list[Any] = []
    quiet = config(broker, client, **{"auto.commit.interval.ms": 600_000})
    consumer = client.Consumer(quiet, on_commit=lambda error, parts: heard.append((error and error.code(), plain(parts))))
    steps: list[tuple[str, Any]] = []

    def step(name: str, call: Callable[[], Any]) -> Any:
        steps.append((name, outcome(call)))

    def listen(name: str) -> None:
        deadline = time.monotonic() + WAIT
        while not heard and time.monotonic() < deadline:
            consumer.poll(0.05)
        steps.append((name, list(heard)))
        heard.clear()

    step("member", consumer.memberid)
    step("assignment", consumer.assignment)
    step("position of nothing", lambda: consumer.position([at("t", 0)]))
    step("committed", lambda: consumer.committed([at("t", 0), at("t", 7)], timeout=10))
    step("commit nothing", lambda: consumer.commit(asynchronous=False))
    step("commit nothing later", consumer.commit)
    listen("heard of nothing")
    step("assign", lambda: consumer.assign([at("t", 0, 0)]))
    step("position before", lambda: consumer.position([at("t", 0)]))
    step("poll", lambda: consumer.poll(WAIT))
    step("position", lambda: consumer.position([at("t", 0)]))
    step("watermarks", lambda: consumer.get_watermark_offsets(at("t", 0), timeout=10))
    step("watermarks cached", lambda: consumer.get_watermark_offsets(at("t", 0), cached=True))
    step("watermarks of nothing", lambda: consumer.get_watermark_offsets(at("nope", 0), timeout=5))
    step("watermarks cached of nothing", lambda: consumer.get_watermark_offsets(at("nope", 0), cached=True))
    step("watermarks of a str", lambda: consumer.get_watermark_offsets("t"))
    step("consume", lambda: consumer.consume(5, WAIT))
    step("position at the end", lambda: consumer.position([at("t", 0)]))
    step("commit", lambda: consumer.commit(asynchronous=False))
    step("commit again", lambda: consumer.commit(asynchronous=False))
    step("committed", lambda: consumer.committed([at("t", 0), at("t", 1)], timeout=10))
    step("commit offsets", lambda: consumer.commit(offsets=[at("t", 0, 3, metadata="mine"), at("t", 1)], asynchronous=False))
    step("committed with text", lambda: consumer.committed([at("t", 0)], timeout=10))
    step("commit a logical offset", lambda: consumer.commit(offsets=[at("t", 0, -5)], asynchronous=False))
    step("commit no offsets", lambda: consumer.commit(offsets=[], asynchronous=False))
    step("commit a stranger", lambda: consumer.commit(offsets=[at("nope", 0, 3)], asynchronous=False))
    step("commit both", lambda: consumer.commit(message=1, offsets=[]))
    step("commit an int", lambda: consumer.commit(message=1))
    step("commit one partition", lambda: consumer.commit(offsets=at("t", 0, 3)))
    step("commit ints", lambda: consumer.commit(offsets=[1]))
    step("commit later", lambda: consumer.commit(offsets=[at("t", 0, 4)]))
    listen("heard of it")
    step("seek", lambda: consumer.seek(at("t", 0, 1)))
    step("position after", lambda: consumer.position([at("t", 0)]))
    step("sought", lambda: consumer.poll(WAIT))
    step("commit what was sought", lambda: consumer.commit(asynchronous=False))
    step("seek elsewhere", lambda: consumer.seek(at("t", 1, 1)))
    step("seek a str", lambda: consumer.seek("t"))
    step("pause elsewhere", lambda: consumer.pause([at("t", 1)]))
    step("pause", lambda: consumer.pause([at("t", 0)]))
    step("paused", lambda: consumer.poll(0.3))
    step("resume", lambda: consumer.resume([at("t", 0)]))
    step("resumed", lambda: [consumer.poll(WAIT), consumer.poll(WAIT)])
    step("store", lambda: consumer.store_offsets(offsets=[at("t", 0, 2)]))
    step("store nothing", consumer.store_offsets)
    step("times", lambda: consumer.offsets_for_times([at("t", 1, 10**15)], timeout=10))
    step("times of nothing", lambda: consumer.offsets_for_times([at("nope", 0, 0)], timeout=5))
    step("times of an int", lambda: consumer.offsets_for_times(3))
    step("add again", lambda: consumer.incremental_assign([at("t", 0)]))
    step("add", lambda: consumer.incremental_assign([at("e", 0, 0)]))
    step("take a stranger", lambda: consumer.incremental_unassign([at("t", 1)]))
    step("take", lambda: consumer.incremental_unassign([at("t", 0)]))
    step("the end of nothing", lambda: consumer.poll(WAIT))
    step("unassign", consumer.unassign)
    step("assignment", consumer.assignment)
    for wrong in ("x", ["x"], None, [at("t", 0, -7)], [at("t", 0), at("t", 0)]):
        step(f"assign {wrong}", lambda wrong=wrong: consumer.assign(wrong))  # type: ignore[misc]
    for topics in ("t", [], None, [""], ["^("]):
        step(f"subscribe {topics!r}", lambda topics=topics: consumer.subscribe(topics))  # type: ignore[misc]
    step("a callback", lambda: consumer.subscribe(["t"], on_assign=3))
    step("a keyword", lambda: consumer.subscribe(topics=["t"], foo=3))
    for number in (-1, 1_000_001, 0, None, 1.5):
        step(f"consume {number}", lambda number=number: consumer.consume(number, 0))  # type: ignore[misc]
    for timeout in (None, "a"):
        step(f"poll {timeout!r}", lambda timeout=timeout: consumer.poll(timeout))  # type: ignore[misc]
    step("metadata", lambda: type(consumer.consumer_group_metadata()))
    step("credentials", lambda: consumer.set_sasl_credentials("a", "b"))
    step("no credentials", lambda: consumer.set_sasl_credentials("a", None))
    step("close", consumer.close)
    step("close again", consumer.close)
    after: dict[str, Callable[[], Any]] = {
        "poll": lambda: consumer.poll(0),
        "consume": lambda: consumer.consume(1, 0),
        "assign": lambda: consumer.assign([]),
        "subscribe": lambda: consumer.subscribe(["t"]),
        "unsubscribe": consumer.unsubscribe,
        "commit": consumer.commit,
        "committed": lambda: consumer.committed([]),
        "position": lambda: consumer.position([]),
        "seek": lambda: consumer.seek(at("t", 0, 0)),
        "store": lambda: consumer.store_offsets(offsets=[]),
        "assignment": consumer.assignment,
        "metadata": consumer.consumer_group_metadata,
        "exit": lambda: consumer.__exit__(None, None, None),
    }
    for name, call in after.items():
        step(f"{name} after close", call)
    return steps


def test_the_same_calls_give_the_same(broker: tidegate.EmbeddedBroker, say: Callable[[str], None]) -> None:
    theirs, mine = (assigned_by_hand(client, broker) for client in CLIENTS)
    differing = [(a, b) for a, b in zip(theirs, mine, strict=True) if a != b]
    say(f"{len(mine)} calls on both clients, {len(differing)} with different outcomes")
    assert not differing, differing


@pytest.mark.parametrize(
    "given_config",
    [
        (),
        ({},),
        ({"bootstrap.servers": "127.0.0.1:1"},),
        ({"group.id": "x", "foo": 1},),
        ({"group.id": "x", "session.timeout.ms": "abc"},),
        ({"group.id": "x", "session.timeout.ms": -5},),
        ({"group.id": "x", "error_cb": 5},),
        ({"group.id": "x", "error_cb": None},),
        ({"group.id": "x", "stats_cb": 5},),
        ({"group.id": "x", "throttle_cb": 5},),
        ({"group.id": "x", "oauth_cb": 5},),
        ({"group.id": "x", "on_commit": 5},),
        ({"group.id": "x", "on_commit": None},),
        ({"group.id": "x", "enable.auto.commit": "maybe"},),
        ({"group.id": "x", "auto.offset.reset": "foo"},),
        ({"group.id": "x", "session.timeout.ms": 5000, "max.poll.interval.ms": 1000},),
        ({"group.id": "x", 3: 5},),
        ("abc",),
        ({"group.id": "x"}, {}),
    ],
)
def test_a_wrong_configuration_raises_the_same(given_config: tuple[Any, ...]) -> None:
    theirs, mine = (outcome(lambda client=client: client.Consumer(*given_config)) for client in CLIENTS)  # type: ignore[misc]
    assert theirs == mine


@pytest.mark.parametrize("client", CLIENTS)
def test_configurations_that_librdkafka_takes(client: ModuleType) -> None:
    for more in (
        {"linger.ms": 5, "acks": 1},
        {"session.timeout.ms": 1000, "socket.timeout.ms": "100"},
        {"default.topic.config": {"auto.offset.reset": "earliest"}, "client.id": None},
        {"enable.auto.commit": "True", "enable.auto.offset.store": "false"},
    ):
        client.Consumer({"group.id": "x"} | more).close()  # type: ignore[operator]
    client.Consumer(**{"group.id": "x"}).close()


def grouped(client: ModuleType, broker: tidegate.EmbeddedBroker, **more: Any) -> list[Any]:
    """A program of a group: what its callbacks and polls give, and what the group has in the end."""
    told: list[Any] = []
    consumer = client.Consumer(config(broker, client, **more))
    consumer.subscribe(
        ["^on.$"],
        on_assign=lambda c, parts: told.append(("assign", c is consumer, sorted(plain(parts)))),
        on_revoke=lambda c, parts: told.append(("revoke", c is consumer, [p.partition for p in parts])),
    )
    told.append(plain(until(consumer, RECORDS + 1)))
    told.append(bool(consumer.memberid()))
    told.append([p.partition for p in consumer.assignment()])
    consumer.close()
    with client.Consumer(config(broker, client)) as look:
        told.append(plain(look.committed([client.TopicPartition("one", 0)], timeout=10)))
    return told


@pytest.mark.parametrize("more", [{}, {"enable_auto_commit": False}, {"enable_auto_offset_store": False}], ids=str)
def test_the_same_group_sees_and_commits_the_same(broker: tidegate.EmbeddedBroker, more: dict[str, Any]) -> None:
    more = {name.replace("_", "."): value for name, value in more.items()}
    theirs, mine = (grouped(client, broker, **more) for client in CLIENTS)
    assert theirs == mine


def stored_by_hand(client: ModuleType, broker: tidegate.EmbeddedBroker) -> list[Any]:
    more = {"enable.auto.offset.store": False, "enable.auto.commit": False}
    seen: list[Any] = []
    at = client.TopicPartition("one", 0)
    with client.Consumer(config(broker, client, **more)) as consumer:
        consumer.assign([client.TopicPartition("one", 0, 0)])
        messages = until(consumer, 5)
        seen.append(outcome(lambda: consumer.commit(asynchronous=False)))
        consumer.store_offsets(messages[2])
        seen.append(outcome(lambda: consumer.commit(asynchronous=False)))
        consumer.store_offsets(offsets=[client.TopicPartition("one", 0, 2)])
        seen.append(outcome(lambda: consumer.commit(asynchronous=False)))
        # Of a partition that it has never heard of librdkafka says _UNKNOWN_PARTITION, we say _STATE for all that are not assigned.
        seen.append(outcome(lambda: consumer.store_offsets(offsets=[client.TopicPartition("t", 0, 2)]))[0])
        seen.append(outcome(lambda: consumer.commit(messages[3], asynchronous=False)))
        seen.append(plain(consumer.committed([at], timeout=10)))
    return seen


def test_offsets_stored_by_hand(broker: tidegate.EmbeddedBroker) -> None:
    theirs, mine = (stored_by_hand(client, broker) for client in CLIENTS)
    assert theirs == mine


def from_on_assign(client: ModuleType, broker: tidegate.EmbeddedBroker, offset: int) -> list[Any]:
    def on_assign(consumer: Any, partitions: list[Any]) -> None:
        for partition in partitions:
            partition.offset = offset
        consumer.assign(partitions)

    with client.Consumer(config(broker, client)) as consumer:
        consumer.subscribe(["one"], on_assign=on_assign)
        return list(plain(until(consumer, 1)))


@pytest.mark.parametrize("offset", [7, -2, -1, -1000, -1001, -2003])
def test_an_assign_inside_on_assign_is_honoured(broker: tidegate.EmbeddedBroker, offset: int) -> None:
    theirs, mine = (from_on_assign(client, broker, offset) for client in CLIENTS)
    assert theirs == mine


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_callback_raises_comes_out_of_the_call(broker: tidegate.EmbeddedBroker, client: ModuleType) -> None:
    class Mine(Exception):
        pass

    def raises(*_: object) -> None:
        raise Mine

    consumer = client.Consumer(config(broker, client))
    consumer.subscribe(["one"], on_assign=raises, on_revoke=raises)
    deadline = time.monotonic() + WAIT
    with pytest.raises(Mine):
        while time.monotonic() < deadline:
            assert consumer.poll(0.5) is None
    values = [message.value() for message in until(consumer, 3)]
    # The original drops the message that it had taken when the callback raised.
    assert values == [b"v0", b"v1", b"v2"] or (client is confluent_kafka and values == [b"v1", b"v2", b"v3"])
    with pytest.raises(Mine):
        consumer.close()
    with pytest.raises(RuntimeError, match="Consumer closed"):
        consumer.poll(0)
    consumer.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_statistics_and_errors_are_told_inside_poll(broker: tidegate.EmbeddedBroker, client: ModuleType) -> None:
    told: list[tuple[str, threading.Thread]] = []
    here = threading.current_thread()

    class Logger:
        def log(self, *_: object) -> None:
            told.append(("log", threading.current_thread()))

    with client.Consumer(
        config(broker, client, **{"statistics.interval.ms": 50, "debug": "cgrp"}),
        stats_cb=lambda text: told.append((text[:1], threading.current_thread())),
        logger=Logger(),
    ) as consumer:
        consumer.subscribe(["one"])
        deadline = time.monotonic() + WAIT
        while {kind for kind, _ in told} != {"{", "log"} and time.monotonic() < deadline:
            consumer.poll(0.2)
    assert {kind for kind, _ in told} == {"{", "log"}
    assert {thread for _, thread in told} == {here}
    codes: list[Any] = []
    away = {"bootstrap.servers": "127.0.0.1:1", "group.id": "x", "error_cb": lambda error: codes.append(error.code())}
    with client.Consumer(away) as consumer:
        deadline = time.monotonic() + WAIT
        while client.KafkaError._ALL_BROKERS_DOWN not in codes and time.monotonic() < deadline:
            assert consumer.poll(0.2) is None
    assert client.KafkaError._ALL_BROKERS_DOWN in codes


# Message


FIELDS = {
    "topic": st.none() | st.text(max_size=3),
    "partition": st.integers(-2, 5),
    "offset": st.integers(-1001, 2**40),
    "key": st.none() | st.binary(max_size=3) | st.integers(),
    "value": st.none() | st.binary(max_size=3) | st.text(max_size=3),
    "headers": st.none() | st.lists(st.tuples(st.text(max_size=2), st.none() | st.binary(max_size=2)), max_size=2),
    "timestamp": st.tuples(st.integers(0, 2), st.integers(-1, 2**40)),
    "latency": st.sampled_from([-1, 0, 0.5, 2]),
    "leader_epoch": st.integers(-2, 5),
}
GETTERS = [*FIELDS, "error", "delivery_count", "deserialized_key", "deserialized_value"]


def shown(message: Any) -> dict[str, Any]:
    return {name: getattr(message, name)() for name in GETTERS} | {"len": outcome(lambda: len(message))}


@settings(max_examples=150, deadline=None)
@given(one=st.fixed_dictionaries({}, optional=FIELDS), other=st.fixed_dictionaries({}, optional=FIELDS))
def test_messages_made_by_hand(one: dict[str, Any], other: dict[str, Any]) -> None:
    theirs, mine = ((client.Message(**one), client.Message(**other)) for client in CLIENTS)
    assert shown(theirs[0]) == shown(mine[0])
    assert (theirs[0] == theirs[1], theirs[0] != theirs[1]) == (mine[0] == mine[1], mine[0] != mine[1])
    assert theirs[0].__reduce__()[1] == mine[0].__reduce__()[1]
    assert copy.copy(mine[0]) == mine[0] == pickle.loads(pickle.dumps(mine[0]))
    for made in (theirs[0], mine[0]):
        made.set_value(other.get("value"))
        made.set_key("key")
        made.set_headers([("a", None)])
        made.set_topic("elsewhere")
        made.set_error("error")
    assert shown(theirs[0]) == shown(mine[0])


@pytest.mark.parametrize(
    "wrong",
    [{"topic": "t", "foo": 1}, {"partition": "x"}, {"offset": 2**70}, {"partition": 2**40}, {"timestamp": 5}, {"latency": None}],
)
def test_messages_that_cannot_be_made(wrong: dict[str, Any]) -> None:
    theirs, mine = (outcome(lambda client=client: client.Message(**wrong)) for client in CLIENTS)  # type: ignore[misc]
    assert theirs == mine
    with pytest.raises(TypeError):
        hash(ours.Message())


def test_a_consumed_message_can_be_changed_and_pickled(broker: tidegate.EmbeddedBroker) -> None:
    with ours.Consumer(config(broker, ours)) as consumer:
        consumer.assign([ours.TopicPartition("t", 0, 0)])
        (message,) = until(consumer, 1)
    assert pickle.loads(pickle.dumps(message)) == message == copy.copy(message)
    assert message.headers() is message.headers()
    message.headers().append(("more", b""))
    assert message.headers() == [("h", b"x"), ("more", b"")]
    message.set_value({"a": 1})
    assert (message.value(), message.key(), len(message)) == ({"a": 1}, b"k", 1)


# Where ours is better


def test_a_message_outlives_its_consumer_and_its_thread(broker: tidegate.EmbeddedBroker) -> None:
    consumer = ours.Consumer(config(broker, ours))
    consumer.assign([ours.TopicPartition("t", 0, 0)])
    messages = until(consumer, 5)
    consumer.close()
    del consumer
    gc.collect()
    ends: list[bytes] = []
    thread = threading.Thread(target=lambda: ends.extend(m.value() for m in messages) or messages.clear() or gc.collect())
    thread.start()
    thread.join()
    assert ends == [b"v0", b"v2", b"v4", b"v6", b"v8"]


def test_an_interpreter_that_ends_with_messages_in_hand(broker: tidegate.EmbeddedBroker) -> None:
    program = (
        "import sys, tidegate.confluent as c\n"
        "consumer = c.Consumer({'bootstrap.servers': sys.argv[1], 'group.id': 'ends', 'auto.offset.reset': 'earliest'})\n"
        "consumer.subscribe(['one'], on_assign=lambda c, p: None)\n"
        "kept = consumer.consume(3, 30)\n"
        "sys.kept = kept, consumer\n"
        "print(len(kept))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, broker.bootstrap_servers], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def test_the_timer_never_commits_the_record_in_hand(broker: tidegate.EmbeddedBroker) -> None:
    at = [ours.TopicPartition("one", 0)]
    committed: list[int] = []
    timer = {"auto.commit.interval.ms": 50}
    consumer = ours.Consumer(config(broker, ours, **timer), on_commit=lambda error, parts: committed.append(parts[0].offset))
    consumer.subscribe(["one"])
    until(consumer, 3)
    with ours.Consumer(config(broker, ours)) as look:
        deadline = time.monotonic() + WAIT
        while look.committed(at, timeout=10)[0].offset < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        # Many times the interval: the third record is still in hand.
        time.sleep(0.5)
        assert look.committed(at, timeout=10)[0].offset == 2
        consumer.close()
        assert look.committed(at, timeout=10)[0].offset == 3, "closing commits what was handed out, as there"


def test_consume_fills_up_to_its_deadline(broker: tidegate.EmbeddedBroker) -> None:
    with (
        ours.Consumer(config(broker, ours)) as consumer,
        tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer,
    ):
        consumer.assign([ours.TopicPartition("e", 0, 0)])
        assert until(consumer, 1)[0].error().code() == ours.KafkaError._PARTITION_EOF
        got: list[Any] = []
        began = time.monotonic()
        thread = threading.Thread(target=lambda: got.extend(consumer.consume(4, WAIT)))
        thread.start()
        for number in range(3):
            # Each is followed by the partition's end, which is a message as well.
            producer.send("e", b"%d" % number)
            producer.flush()
            time.sleep(0.05)
        thread.join()
        assert len(got) == 4
        assert got[0].value() == b"0"
        assert time.monotonic() - began < WAIT / 2, "a partition's end counts as well"
        began = time.monotonic()
        consumer.consume(1000, 0.3)
        assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("call", ["poll", "consume"])
def test_ctrl_c_ends_a_wait_and_costs_no_message(broker: tidegate.EmbeddedBroker, call: str) -> None:
    with ours.Consumer(config(broker, ours, **{"enable.partition.eof": False})) as consumer:
        consumer.assign([ours.TopicPartition("one", 0, 0)])
        waits = consumer.poll if call == "poll" else (lambda: consumer.consume(RECORDS + 1))
        if call == "poll":
            until(consumer, RECORDS)
        sent: list[float] = []

        def interrupt() -> None:
            time.sleep(0.5)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            waits()
        assert time.monotonic() - sent[0] < 2, "100 ms, and a slow machine"
        thread.join()
        if call == "consume":
            assert [m.value() for m in consumer.consume(RECORDS, WAIT)] == [b"v%d" % n for n in range(RECORDS)]


@pytest.mark.parametrize("call", ["poll", "consume"])
def test_closing_in_another_thread_ends_a_wait(broker: tidegate.EmbeddedBroker, call: str) -> None:
    consumer = ours.Consumer(config(broker, ours))
    consumer.assign([ours.TopicPartition("e", 0, 0)])
    until(consumer, 1)
    thread = threading.Timer(0.3, consumer.close)
    thread.start()
    assert consumer.poll() is None if call == "poll" else consumer.consume(5) == []
    thread.join()
    consumer.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_commits_inside_on_revoke_work_while_the_consumer_closes(broker: tidegate.EmbeddedBroker, client: ModuleType) -> None:
    told: list[Any] = []

    def on_revoke(consumer: Any, partitions: list[Any]) -> None:
        offsets = [client.TopicPartition(one.topic, one.partition, 3) for one in partitions]
        told.append(plain(consumer.commit(offsets=offsets, asynchronous=False)))
        told.append(len(consumer.assignment()) == len(partitions))
        consumer.unassign()

    consumer = client.Consumer(config(broker, client, enable_auto_commit=False))
    consumer.subscribe(["t"], on_revoke=on_revoke)
    until(consumer, 1)
    consumer.close()
    assert len(told) == 2 and told[1] is True
    with pytest.raises(RuntimeError, match="Consumer closed"):
        consumer.commit()
    again = client.Consumer(config(broker, client))
    place = again.committed([client.TopicPartition("t", 0)], 20)[0]
    assert place.offset == 3
    again.close()


@pytest.mark.slow  # it takes the whole bound
def test_closing_is_bounded_when_nobody_answers(broker: tidegate.EmbeddedBroker) -> None:
    consumer = ours.Consumer(config(broker, ours))
    consumer.subscribe(["t"])
    until(consumer, 1)
    broker.broker_down(-1)
    started = time.monotonic()
    try:
        consumer.close()
    except ours.KafkaException as error:
        assert error.args[0].code() in (ours.KafkaError._TIMED_OUT, ours.KafkaError._TRANSPORT)
    consumer.close()
    took_s = time.monotonic() - started
    broker.broker_up(-1)
    assert took_s < 35


def test_two_threads_may_poll(broker: tidegate.EmbeddedBroker) -> None:
    with ours.Consumer(config(broker, ours, **{"enable.partition.eof": False})) as consumer:
        consumer.assign([ours.TopicPartition("t", 0, 0), ours.TopicPartition("t", 1, 0)])
        got: list[bytes] = []

        def poll() -> None:
            deadline = time.monotonic() + WAIT
            while len(got) < RECORDS and time.monotonic() < deadline:
                if message := consumer.poll(0.1):
                    got.append(message.value())

        threads = [threading.Thread(target=poll) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == [b"v%d" % number for number in range(RECORDS)]


def test_a_forked_child_is_told_at_once(broker: tidegate.EmbeddedBroker) -> None:
    with ours.Consumer(config(broker, ours)) as consumer:
        consumer.assign([ours.TopicPartition("one", 0, 0)])
        message = until(consumer, 1)[0]
        child = os.fork()
        if child == 0:
            outcomes = [outcome(lambda: consumer.poll(5))[0], outcome(consumer.commit)[0], outcome(consumer.close)[0]]
            os._exit(0 if outcomes == ["RuntimeError"] * 3 and message.value() == b"v0" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [m.value() for m in until(consumer, 2)] == [b"v1", b"v2"]


def test_names_of_the_java_client_are_understood(broker: tidegate.EmbeddedBroker) -> None:
    more = {"isolation.level": "read_committed", "fetch.max.wait.ms": 10, "max.poll.records": 2}
    with ours.Consumer(config(broker, ours, **more)) as consumer:
        consumer.assign([ours.TopicPartition("one", 0, 0)])
        assert until(consumer, 1)[0].value() == b"v0"


def test_a_consumer_in_a_cycle_is_collected(broker: tidegate.EmbeddedBroker) -> None:
    class Owner:
        def __init__(self) -> None:
            self.consumer = ours.Consumer(config(broker, ours), on_commit=self.heard)
            self.consumer.subscribe(["one"], on_assign=self.heard)

        def heard(self, *_: object) -> None:
            pass

    import weakref

    gone = weakref.ref(Owner())
    gc.collect()
    assert gone() is None
