"""The native producer, the admin client and the embedded broker."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import native
import pytest

import tidegate
from tidegate import Delivery, Producer, TidegateError


@pytest.fixture(scope="module")
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def producer(broker: tidegate.EmbeddedBroker) -> Iterator[Producer]:
    with Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        yield producer


def values_in(broker: tidegate.EmbeddedBroker, topic: str, count: int) -> list[bytes | None]:
    with native.reading(broker, topic) as consumer:
        batch = consumer.fill_batch(native.WAIT_S, count)
        assert batch is not None and consumer.poll(0.05) is None
        return batch.values


def test_every_kind_of_payload_arrives_as_its_bytes(broker: tidegate.EmbeddedBroker, producer: Producer) -> None:
    topic = native.topic_with(broker, [])
    payloads = [b"bytes", "tëxt", bytearray(b"array"), memoryview(b"view")[1:], memoryview(b"abcd")[::2], None, b"", ""]
    for payload in payloads:
        producer.send(topic, payload, key=payload)
    assert producer.flush(native.WAIT_S) == 0
    expected = [b"bytes", "tëxt".encode(), b"array", b"iew", b"ac", None, b"", b""]
    with native.reading(broker, topic) as consumer:
        batch = consumer.fill_batch(native.WAIT_S, len(expected))
        assert batch is not None and batch.values == expected == batch.keys


def test_headers_of_a_dict_and_of_pairs(broker: tidegate.EmbeddedBroker, producer: Producer) -> None:
    topic = native.topic_with(broker, [])
    producer.send(topic, "x", headers={"a": b"1", "b": None, "c": "ö"})
    producer.send(topic, "x", headers=[("a", "1"), ("a", bytearray(b"2"))])
    producer.send(topic, "x", headers=(pair for pair in [("a", "1")]))
    producer.send(topic, "x", headers={})
    assert producer.flush(native.WAIT_S) == 0
    with native.reading(broker, topic) as consumer:
        batch = consumer.fill_batch(native.WAIT_S, 4)
    assert batch is not None
    assert [record.headers for record in batch] == [
        [("a", b"1"), ("b", None), ("c", "ö".encode())],
        [("a", b"1"), ("a", b"2")],
        [("a", b"1")],
        [],
    ]


def test_delivery_callbacks(broker: tidegate.EmbeddedBroker, producer: Producer) -> None:
    topic = native.topic_with(broker, [])
    told: list[tuple[TidegateError | None, Delivery | None]] = []
    threads = set()

    def on_delivery(error: TidegateError | None, delivery: Delivery | None) -> None:
        told.append((error, delivery))
        threads.add(threading.get_ident())

    for _ in range(1000):
        producer.send(topic, "x", partition=0, on_delivery=on_delivery)
    assert producer.flush(native.WAIT_S) == 0 and len(told) == 1000, "a flush waits for the callbacks"
    assert len(producer) == producer.in_flight == 0 and producer
    deliveries = [delivery for error, delivery in told if error is None and delivery is not None]
    assert [delivery.offset for delivery in deliveries] == list(range(1000))
    first = deliveries[0]
    assert (first.topic, first.partition) == (topic, 0) and first.latency_us > 0
    assert first.timestamp_ms is not None and first.timestamp_ms > 0
    assert repr(first) == f"<tidegate.Delivery {topic} [0] offset 0>"
    assert len(threads) == 1 and threading.get_ident() not in threads
    assert producer.stats()["records_delivered"] == 1000


def test_a_failed_delivery_is_told_with_kafkas_code(broker: tidegate.EmbeddedBroker) -> None:
    with tidegate.EmbeddedBroker({"gone": 1}) as gone:
        producer = Producer({"bootstrap.servers": gone.bootstrap_servers, "delivery.timeout.ms": 1000, "linger.ms": 0})
        gone.broker_down(1)
        told: list[tuple[Any, Any]] = []
        producer.send("gone", "x", on_delivery=lambda error, delivery: told.append((error, delivery)))
        assert producer.flush(native.WAIT_S) == 0
        ((error, delivery),) = told
        assert isinstance(error, tidegate.KafkaError) and error.kafka_name == "_MSG_TIMED_OUT" and delivery is None
        assert producer.stats()["records_failed"] == 1
        producer.close()


def test_a_callback_may_send_and_what_it_raises_is_logged(broker: tidegate.EmbeddedBroker, producer: Producer) -> None:
    topic = native.topic_with(broker, [])
    lines: list[tuple[int, str, str]] = []
    tidegate.set_log_sink(lambda *line: lines.append(line))
    refused: list[TidegateError] = []

    def on_delivery(_error: object, delivery: Delivery | None) -> None:
        if delivery is not None and delivery.offset < 3:
            producer.send(topic, "more", on_delivery=on_delivery)
        for call in (producer.flush, producer.close):
            try:
                call()
            except tidegate.ArgumentError as error:
                refused.append(error)
        raise ZeroDivisionError("in the {callback} %s")

    try:
        producer.send(topic, "first", on_delivery=on_delivery)
        deadline = time.monotonic() + native.WAIT_S
        while len(refused) < 8 and time.monotonic() < deadline:
            producer.flush(1)
        assert len(refused) == 8 and all("on_delivery" in str(error) for error in refused)
        assert producer.flush(native.WAIT_S) == 0
    finally:
        from tidegate._logging import NativeLines

        tidegate.set_log_sink(NativeLines())  # waits for the lines so far
    raised = [text for level, target, text in lines if level == 40 and target == "tidegate" and "on_delivery raised" in text]
    assert len(raised) == 4 and "ZeroDivisionError: in the {callback} %s" in raised[0]
    assert __file__ in raised[0], "with its traceback"


def test_callbacks_do_not_cost_a_switch_of_threads_each(broker: tidegate.EmbeddedBroker, producer: Producer) -> None:
    """A busy thread gives the interpreter away every 5 ms: with one attachment per report 4000 reports took 20 s."""
    topic = native.topic_with(broker, [])
    told = 0

    def on_delivery(_error: object, _delivery: object) -> None:
        nonlocal told
        told += 1

    for _ in range(4000):
        producer.send(topic, "x", on_delivery=on_delivery)
    started = time.monotonic()
    while told < 4000 and time.monotonic() - started < native.WAIT_S:
        sum(range(1000))
    assert told == 4000 and time.monotonic() - started < 5


def test_send_batch(broker: tidegate.EmbeddedBroker, producer: Producer) -> None:
    topic = native.topic_with(broker, [])
    assert producer.send_batch(topic, [b"a", "b", None], keys=["k", None, b"z"]) == 3
    assert producer.send_batch(topic, (str(number) for number in range(1000))) == 1000
    assert producer.send_batch(topic, []) == 0
    assert producer.flush(native.WAIT_S) == 0
    assert values_in(broker, topic, 1003) == [b"a", b"b", None, *(b"%d" % number for number in range(1000))]


def test_send_batch_tells_what_was_refused(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    with Producer({"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 2000}) as producer:
        with pytest.raises(tidegate.KafkaError) as caught:
            producer.send_batch(topic, ["a", "b" * 5000, "c"])
        error: Any = caught.value
        assert error.accepted == 2 and error.kafka_name == "MSG_SIZE_TOO_LARGE"
        assert [(row, type(reason)) for row, reason in error.refused] == [(1, tidegate.KafkaError)]
        with pytest.raises(tidegate.KafkaError):
            producer.send(topic, "x" * 5000)
        assert producer.flush(native.WAIT_S) == 0
    assert values_in(broker, topic, 2) == [b"a", b"c"]


def test_a_full_queue_is_waited_for_and_then_an_error() -> None:
    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        config = {
            "bootstrap.servers": broker.bootstrap_servers,
            "queue.buffering.max.messages": 10,
            "tidegate.queue.full.timeout.ms": 200,
            "delivery.timeout.ms": 60_000,
        }
        producer = Producer(config)
        broker.broker_down(-1)
        told: list[Any] = []
        for _ in range(10):
            producer.send("t", "x", on_delivery=lambda error, _: told.append(error))
        assert producer.in_flight == 10
        started = time.monotonic()
        with pytest.raises(tidegate.QueueFullError) as caught:
            producer.send("t", "x", on_delivery=lambda error, _: told.append("the refused one"))
        assert 0.15 < time.monotonic() - started < 5
        assert caught.value.retriable and isinstance(caught.value, BufferError) and caught.value.code == "QUEUE_FULL"
        with pytest.raises(tidegate.QueueFullError) as caught:
            producer.send_batch("t", ["x"] * 3)
        error: Any = caught.value
        assert error.accepted == 0 and [row for row, _ in error.refused] == [0, 1, 2]
        assert producer.flush(0.05) == 10
        broker.broker_up(-1)
        assert producer.flush(native.WAIT_S) == 0
        for _ in range(100):
            producer.send("t", "y")
        assert producer.flush(native.WAIT_S) == 0 and told == [None] * 10
        producer.close()


def test_closing(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    told: list[Any] = []
    with Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 500}) as producer:
        producer.send(topic, "x", on_delivery=lambda error, _: told.append(error))
        assert not producer.closed and "1 records in flight" in repr(producer)
    assert told == [None] and producer.closed and "closed" in repr(producer)
    producer.close()
    for call in (lambda: producer.send(topic, "x"), lambda: producer.send_batch(topic, ["x"]), producer.flush):
        with pytest.raises(tidegate.ClosedError):
            call()
    assert producer.stats()["records_delivered"] == 1 and producer.in_flight == 0


def test_closing_gives_up_what_does_not_go_out_and_says_so() -> None:
    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        broker.broker_down(-1)
        told: list[Any] = []
        producer.send("t", "x", on_delivery=lambda error, _: told.append(error))
        with pytest.raises(tidegate.TimedOutError, match="1 record") as caught:
            producer.close(0.2)
        assert isinstance(caught.value, TimeoutError)
        assert len(told) == 1 and told[0].kafka_name in ("_PURGE_QUEUE", "_PURGE_INFLIGHT")


def test_a_collected_producer_has_sent_everything(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    told: list[Any] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 200})
    producer.send(topic, "x", on_delivery=lambda error, _: told.append(error))
    del producer
    gc.collect()
    assert values_in(broker, topic, 1) == [b"x"]


def test_many_threads_send_with_one_producer(broker: tidegate.EmbeddedBroker, producer: Producer) -> None:
    topic = native.topic_with(broker, [])
    told: list[Any] = []

    def work() -> None:
        for _ in range(500):
            producer.send(topic, "x", on_delivery=lambda error, _: told.append(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert producer.flush(native.WAIT_S) == 0 and told == [None] * 2000


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: p.send("", "x"), "topic: "),
        (lambda p: p.send("a\0b", "x"), "topic: "),
        (lambda p: p.send(None, "x"), "topic: None .* is no topic name"),
        (lambda p: p.send("t", 3), "value: 3 .* has no bytes"),
        (lambda p: p.send("t", {"a": 1}), "value: .* has no bytes"),
        (lambda p: p.send("t", "x", key=1.5), "key: 1.5 .* has no bytes"),
        (lambda p: p.send("t", "x", headers="abc"), "headers: "),
        (lambda p: p.send("t", "x", headers=[("a",)]), "headers: "),
        (lambda p: p.send("t", "x", headers={"a": 3}), "headers: 3 .* has no bytes"),
        (lambda p: p.send("t", "x", headers={3: b""}), "headers: 3 .* is no header"),
        (lambda p: p.send("t", "x", headers=7), "headers: 7 .* is no header"),
        (lambda p: p.send("t", "x", partition=-1), "partition: "),
        (lambda p: p.send("t", "x", timestamp_ms=-1), "timestamp_ms: "),
        (lambda p: p.send("t", "x", on_delivery=3), "on_delivery: 3 .* cannot be called"),
        (lambda p: p.send_batch("t", "abc"), "values: 'abc' .* is no list"),
        (lambda p: p.send_batch("t", 3), "values: 3 .* is no list"),
        (lambda p: p.send_batch("t", ["x", 3]), "values: 3 .* has no bytes"),
        (lambda p: p.send_batch("t", ["x"], keys=["a", "b"]), "keys: there are 2 keys for 1 values"),
        (lambda p: p.send_batch("", ["x"]), "topic: "),
        (lambda p: p.flush(-1), "timeout: "),
        (lambda p: p.close("now"), "timeout: "),
    ],
)
def test_wrong_arguments_name_themselves(producer: Producer, call: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(tidegate.ArgumentError, match=says):
        call(producer)
    assert producer.in_flight == 0, "nothing was sent"


def test_text_that_has_no_utf8(producer: Producer) -> None:
    with pytest.raises(UnicodeEncodeError):
        producer.send("t", "\ud800")


def test_a_consumers_property_is_none_of_a_producer(broker: tidegate.EmbeddedBroker) -> None:
    with pytest.raises(tidegate.ConfigError) as caught:
        Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": 1, "enable.idempotence": True, "group.id": "g"})
    assert {problem["property"] for problem in caught.value.problems} >= {"acks", "group.id"}


# -- admin and broker ----------------------------------------------------------------------------------------------------


def test_admin(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [], 3)
    with tidegate.Admin({"bootstrap.servers": broker.bootstrap_servers}) as admin:
        assert admin.topics(native.WAIT_S)[topic] == 3
        for topics, says in (({"a b": 1}, "topic: "), ({"a": 0}, "partitions: "), ({"a": "x"}, "topics: 'x'"), (3, "topics: ")):
            with pytest.raises(tidegate.ArgumentError, match=says):
                admin.create_topics(topics)  # type: ignore[arg-type]
        with pytest.raises(tidegate.ArgumentError, match="replication: "):
            admin.create_topics({"a": 1}, replication=0)
        with pytest.raises(tidegate.ArgumentError, match=r"topics: 'a' .* is one name"):
            admin.delete_topics("a")
    admin.close()
    with pytest.raises(tidegate.ClosedError):
        admin.topics()


def test_the_embedded_broker() -> None:
    with tidegate.EmbeddedBroker({"a": 2}, brokers=3) as broker:
        assert broker.bootstrap_servers.count(":") == 3 and broker.bootstrap_servers in repr(broker)
        broker.create_topic("b", 5)
        with tidegate.Admin({"bootstrap.servers": broker.bootstrap_servers}) as admin:
            assert {name: count for name, count in admin.topics(native.WAIT_S).items() if name in "ab"} == {"a": 2, "b": 5}
        for call, says in (
            (lambda: broker.create_topic("b"), "topic"),
            (lambda: broker.create_topic("c", 0), "partitions"),
            (lambda: broker.broker_down(9), "broker"),
        ):
            with pytest.raises(tidegate.ArgumentError, match=says):
                call()
    broker.close()
    with pytest.raises(tidegate.ClosedError):
        broker.create_topic("d")
    for wrong in ({"topics": ["a"]}, {"topics": {"a": 1.5}}, {"topics": {1: 1}}, {"brokers": 0}, {"topics": {"": 1}}):
        with pytest.raises(tidegate.ArgumentError):
            tidegate.EmbeddedBroker(**wrong)  # type: ignore[arg-type]


# -- configuration -------------------------------------------------------------------------------------------------------


def test_the_configuration_table() -> None:
    table = tidegate.config_table()
    by_name = {row["name"]: row for row in table}
    assert len(table) > 150 and len(by_name) == len(table)
    assert by_name["group.id"]["scope"] == "consumer" and by_name["linger.ms"]["scope"] == "producer"
    assert all(row["doc"] and row["type"] and row["scope"] in ("global", "consumer", "producer") for row in table)
    assert by_name["tidegate.revoke.drain.ms"]["own"] and by_name["sasl.password"]["sensitive"]


def test_explaining_a_property() -> None:
    known = tidegate.config_explain("auto.offset.reset")
    assert known["known"] and known["nearest"] is None and "auto.offset.reset" in known["text"]
    unknown = tidegate.config_explain("auto.ofset.reset")
    assert not unknown["known"] and unknown["nearest"] == "auto.offset.reset" and "did you mean" in unknown["text"]


def test_checking_a_configuration() -> None:
    good = {"bootstrap.servers": "localhost:9092", "group.id": "g"}
    assert tidegate.config_check(good) == [] == tidegate.config_check(good, "consumer")
    problems = tidegate.config_check({**good, "linger.ms": "soon"}, "producer")
    assert {problem["property"] for problem in problems if problem["severity"] == "error"} == {"linger.ms", "group.id"}
    warned = tidegate.config_check({**good, "session.timeout.ms": 6000, "heartbeat.interval.ms": 5000})
    assert [problem["severity"] for problem in warned] == ["warning"]
    with pytest.raises(tidegate.ArgumentError, match='scope: "broker"'):
        tidegate.config_check(good, "broker")
