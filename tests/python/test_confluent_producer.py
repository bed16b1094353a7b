"""`tidegate.confluent.Producer` beside confluent_kafka's: the same program on both, results and exceptions compared."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import confluent_kafka
import native
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tidegate
from tidegate import confluent
from tidegate.confluent import KafkaError, KafkaException, Producer

WAIT_S = 30.0
LARGE = b"x" * 2_000_000
NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker() as broker:
        yield broker


def said(call: Callable[[], Any]) -> Any:
    """What a call gives: its result, or the exception's type and what its KafkaError says."""
    try:
        return call()
    except Exception as error:
        told = error.args[0] if error.args else None
        if hasattr(told, "code"):
            flags = told.fatal(), told.retriable(), told.txn_requires_abort()
            return type(error).__name__, told.code(), told.name(), told.str(), flags
        return type(error).__name__


def seen(error: Any, message: Any) -> tuple[Any, ...]:
    """All that a delivery callback can see."""
    return (
        repr(error),
        repr(message.error()),
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.headers(),
        message.timestamp()[0],
        message.latency() is not None,
        message.leader_epoch(),
        len(message),
    )


def both(program: Callable[[Any, str], Any]) -> None:
    """Runs a program on both packages, each with a broker of its own, and compares what it gives."""
    answers = []
    for package in (confluent_kafka, confluent):
        with tidegate.EmbeddedBroker({"t": 1}) as broker:
            answers.append(program(package, broker.bootstrap_servers))
    assert answers[1] == answers[0]


def test_reports_say_the_same() -> None:
    def program(package: Any, servers: str) -> Any:
        producer = package.Producer({"bootstrap.servers": servers}, **{"linger.ms": 0})
        reports: list[Any] = []
        report = lambda error, message: reports.append(seen(error, message))  # noqa: E731
        producer.produce("t", "v1", key="k", callback=report)
        producer.produce("t", b"v2", on_delivery=report, headers={"a": "b", "c": None}, partition=0)
        producer.produce("t", None, b"only a key", on_delivery=report)
        producer.produce("t", "", "", on_delivery=report)
        producer.produce("t")
        producer.produce("t", "with a time", timestamp=123456, callback=report)
        left = producer.flush(WAIT_S)
        return left, reports, len(producer), bool(producer), producer.close(), producer.close(), len(producer)

    both(program)


def test_mistakes_are_told_by_the_same_exceptions() -> None:
    mistakes: list[Callable[[Any], Any]] = [
        lambda p: p.produce(5),
        lambda p: p.produce(None),
        lambda p: p.produce(),
        lambda p: p.produce("t", 5),
        lambda p: p.produce("t", "v", 5),
        lambda p: p.produce("t", partition="x"),
        lambda p: p.produce("t", partition=99),
        lambda p: p.produce("t", LARGE),
        lambda p: p.produce("a\0b"),
        lambda p: p.produce("t", "v", headers=[]),
        lambda p: p.produce("t", "v", headers={}),
        lambda p: p.produce("t", "v", headers=5),
        lambda p: p.produce("t", "v", nope=5),
        lambda p: p.poll("a"),
        lambda p: p.poll(None),
        lambda p: p.flush("a"),
        lambda p: p.init_transactions(1),
        lambda p: p.begin_transaction(),
        lambda p: p.commit_transaction(1),
        lambda p: p.abort_transaction(1),
        lambda p: p.init_transactions(timeout=1),
        lambda p: p.send_offsets_to_transaction([], b"x"),
        lambda p: p.send_offsets_to_transaction(5, b"x"),
        lambda p: p.send_offsets_to_transaction([5], b"x"),
        lambda p: p.send_offsets_to_transaction([], 5),
        lambda p: p.produce_batch("t", 5),
        lambda p: p.produce_batch("t", []),
        lambda p: p.produce_batch("t", [5]),
        lambda p: p.produce_batch("t", [{"value": 5}]),
        lambda p: p.produce_batch("t", [{"key": 5}]),
        lambda p: p.produce_batch("t", [{"partition": "x"}]),
        lambda p: p.produce_batch("t", [{"timestamp": 5}]),
        lambda p: p.purge(),
        lambda p: p.purge(in_queue=False, in_flight=False, blocking=False),
        lambda p: p.set_sasl_credentials("a"),
        lambda p: type(p.cluster_id(WAIT_S)).__name__,
        lambda p: p.flush(WAIT_S),
        lambda p: p.close(),
        lambda p: p.close(),
        lambda p: p.produce("t"),
        lambda p: p.produce_batch("t", [{}]),
        lambda p: p.poll(0),
        lambda p: p.flush(),
        lambda p: p.purge(),
        lambda p: p.begin_transaction(),
        len,
        lambda p: p.__exit__(None, None, None),
    ]

    def program(package: Any, servers: str) -> list[Any]:
        producer = package.Producer({"bootstrap.servers": servers})
        return [said(lambda mistake=mistake: mistake(producer)) for mistake in mistakes]  # type: ignore[misc]

    both(program)


def test_constructors_refuse_the_same() -> None:
    def program(package: Any, servers: str) -> list[Any]:
        base = {"bootstrap.servers": servers}
        made = [
            package.Producer,
            lambda: package.Producer(5),
            lambda: package.Producer({}, {}),
            lambda: package.Producer({**base, "on_delivery": 5}),
            lambda: package.Producer({**base, "error_cb": 5}),
            lambda: package.Producer({**base, "stats_cb": 5}),
            lambda: package.Producer({**base, "throttle_cb": 5}),
        ]
        shared = package.Producer({**base, "group.id": "a dict shared with a consumer", "default.topic.config": {"acks": "all"}})
        codes = [said(functools.partial(package.Producer, {**base, name: "x"}))[:3] for name in ("nope", "acks", "linger.ms")]
        return [said(make) for make in made] + codes + [said(lambda: shared.__init__(base)), shared.close()]

    both(program)


def test_a_callback_that_raises_comes_out_and_the_others_run_at_the_next_call() -> None:
    def program(package: Any, servers: str) -> Any:
        producer = package.Producer({"bootstrap.servers": servers})
        values: list[Any] = []

        def boom(error: Any, message: Any) -> None:
            raise ValueError("boom")

        producer.produce("t", "1", callback=boom)
        producer.produce("t", "2", callback=lambda error, message: values.append(message.value()))
        return said(lambda: producer.flush(WAIT_S)), said(lambda: producer.flush(WAIT_S)), values

    both(program)


@pytest.mark.parametrize("end", ["flush", "close", "close with a timeout"])
def test_what_callbacks_raise_stops_no_other(end: str) -> None:
    """They all run, and then comes what the last one raised; the producer is closed all the same. The original's close() runs no
    other, and raises the first."""

    def program(package: Any, servers: str) -> Any:
        producer = package.Producer({"bootstrap.servers": servers})
        values: list[Any] = []

        def tell(error: Any, message: Any) -> None:
            values.append(message.value())
            if message.value() in (b"0", b"3"):
                raise ValueError(message.value().decode())

        for number in range(10):
            producer.produce("t", str(number), callback=tell, partition=0)
        calls = {"flush": producer.flush, "close": producer.close, "close with a timeout": lambda: producer.close(timeout=5.0)}
        ended = said(calls[end])
        if package is confluent and end != "flush":
            assert len(values) == 10
        told = ended, values if end == "flush" else None
        return told, said(lambda: producer.flush(WAIT_S)), said(lambda: producer.produce("t", "v"))

    both(program)


def test_a_full_queue_is_a_buffer_error_and_purged_records_fail() -> None:
    def program(package: Any, servers: str) -> Any:
        reports: list[Any] = []
        report = lambda error, message: reports.append(seen(error, message))  # noqa: E731
        conf = {"bootstrap.servers": NOWHERE, "queue.buffering.max.messages": 3, "on_delivery": report}
        producer = package.Producer(conf)
        for value in "abc":
            producer.produce("t", value)
        full = said(lambda: producer.produce("t", "d"))
        batch = [{"value": "e"}]
        accepted = producer.produce_batch("t", batch), repr(batch)
        producer.purge()
        return full, accepted, producer.flush(WAIT_S), sorted(reports)

    both(program)


def test_batches_say_the_same() -> None:
    def program(package: Any, servers: str) -> Any:
        producer = package.Producer({"bootstrap.servers": servers})
        reports: list[Any] = []
        report = lambda error, message: reports.append(seen(error, message)[:8])  # noqa: E731
        own: list[Any] = []
        batch: list[dict[str, Any]] = [
            {"value": "a"},
            {"value": b"b", "key": "k"},
            {},
            {"value": "c", "callback": lambda error, message: own.append(message.value())},
            {"value": LARGE},
            {"value": "d", "partition": 0},
        ]
        accepted = producer.produce_batch("t", batch, on_delivery=report)
        left = producer.flush(WAIT_S)
        return accepted, left, reports, own, [repr(message.get("_error")) for message in batch]

    both(program)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(
        st.tuples(st.none() | st.binary(max_size=20) | st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=20
    ),
    in_batches=st.booleans(),
)
def test_whatever_is_produced_is_reported_as_the_original_reports_it(
    records: list[tuple[bytes | str | None, bytes | None]], in_batches: bool
) -> None:
    def program(package: Any, servers: str) -> Any:
        reports: list[Any] = []
        producer = package.Producer(
            {"bootstrap.servers": servers, "on_delivery": lambda error, message: reports.append(seen(error, message))}
        )
        if in_batches:
            batch = [{"value": value, "key": key} for value, key in records]
            assert producer.produce_batch("t", batch) == len(records)
        else:
            for value, key in records:
                producer.produce("t", value, key)
        return producer.flush(WAIT_S), reports

    both(program)


def test_statistics_and_errors_are_told_inside_of_poll() -> None:
    here: set[int] = set()
    statistics: list[str] = []
    errors: list[KafkaError] = []

    def on_statistics(json: str) -> None:
        here.add(threading.get_ident())
        statistics.append(json)

    def on_error(error: KafkaError) -> None:
        here.add(threading.get_ident())
        errors.append(error)

    producer = Producer(
        {"bootstrap.servers": NOWHERE, "statistics.interval.ms": 10, "stats_cb": on_statistics, "error_cb": on_error}
    )
    until = time.monotonic() + WAIT_S
    while not (statistics and errors) and time.monotonic() < until:
        producer.poll(1)
    assert statistics[0].startswith("{") and isinstance(errors[0], KafkaError)
    assert here == {threading.get_ident()}


def test_a_logger_gets_librdkafkas_lines_in_poll() -> None:
    lines: list[tuple[Any, ...]] = []

    class Logger:
        def log(self, *line: Any) -> None:
            lines.append(line)

    producer = Producer({"bootstrap.servers": NOWHERE, "debug": "broker", "logger": Logger()})
    until = time.monotonic() + WAIT_S
    while not lines and time.monotonic() < until:
        producer.poll(1)
    assert lines[0][0] in (10, 20, 30, 40, 50)
    assert str(lines[0][1]) % lines[0][2:]


def test_block_waits_for_room_and_runs_callbacks_meanwhile(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    reports: list[Any] = []
    conf = {"bootstrap.servers": broker.bootstrap_servers, "queue.buffering.max.messages": 10}
    producer = Producer({**conf, "on_delivery": lambda error, message: reports.append(error)})
    for number in range(200):
        producer.produce(topic, str(number), block=True)
    assert producer.flush(WAIT_S) == 0
    assert reports == [None] * 200


def test_a_property_makes_every_produce_wait_with_a_bound() -> None:
    conf = {"bootstrap.servers": NOWHERE, "queue.buffering.max.messages": 1, "tidegate.queue.full.timeout.ms": 50}
    producer = Producer(conf)
    producer.produce("t", "1")
    with pytest.raises(BufferError, match=r"50 ms.*tidegate\.queue\.full\.timeout\.ms"):
        producer.produce("t", "2")
    # A producer that goes with something unsent waits for it.
    producer.purge()
    producer.close()


def test_headers_of_a_batch_are_sent_and_a_message_chooses_its_partition(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [], partitions=3)
    places: list[int | None] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    batch = [{"value": "a", "headers": {"h": "1"}, "partition": partition} for partition in (2, 0, 1)]
    assert producer.produce_batch(topic, batch, callback=lambda error, message: places.append(message.partition())) == 3
    assert producer.flush(WAIT_S) == 0
    assert sorted(filter(None, places)) == [1, 2]
    with native.reading(broker, topic) as consumer:
        read = consumer.poll(native.WAIT_S)
        assert read is not None and read.headers == [("h", b"1")]


def test_a_forked_child_gets_an_exception_at_once(broker: tidegate.EmbeddedBroker) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    child = os.fork()
    if child == 0:
        try:
            producer.produce("t", "v")
        except RuntimeError as error:
            os._exit(0 if "fork()" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert producer.flush(WAIT_S) == 0


def test_a_subclass_that_forgets_init_is_told_so() -> None:
    class Forgetful(Producer):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Forgetful().produce("t")


def test_every_callback_runs_once_under_many_threads(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    values: list[bytes] = []

    def send(worker: int) -> None:
        for number in range(500):
            producer.produce(topic, f"{worker}-{number}", callback=lambda error, message: values.append(message.value()))
            if number % 50 == 0:
                producer.poll(0)

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert producer.flush(WAIT_S) == 0
    assert sorted(values) == sorted(f"{worker}-{number}".encode() for worker in range(4) for number in range(500))
    with pytest.raises(KafkaException):
        producer.begin_transaction()
