"""`process(..., produce_to=)`: arguments, outputs and contradictions. Exactly-once itself is in `test_kafka_exactly_once`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tidegate
from tidegate import ArgumentError, ArgumentTypeError, Output

WAIT_S = 30.0


@pytest.fixture
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker(topics={"in": 2, "out": 2}) as broker:
        yield broker


def config(broker: tidegate.EmbeddedBroker, **more: object) -> dict[str, Any]:
    return {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest", **more}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


BOTH = {"produce_to": "out", "transactional_id": "me"}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"produce_to": "out"}, ArgumentError, "no transactional_id"),
        ({"transactional_id": "me"}, ArgumentError, "no produce_to"),
        ({"transaction_interval": 1.0}, ArgumentError, "there are no transactions"),
        ({**BOTH, "produce_to": "in"}, ArgumentError, "one of the topics consumed"),
        ({**BOTH, "produce_to": 5}, ArgumentTypeError, "no topic"),
        ({**BOTH, "produce_to": "a b"}, ArgumentError, "topic"),
        ({**BOTH, "transactional_id": ""}, ArgumentTypeError, "no name"),
        ({**BOTH, "transaction_interval": -1}, ArgumentError, "cannot be"),
        ({**BOTH, "dead_letter_topic": "dead", "on_failure": "skip"}, ArgumentError, "on_failure"),
    ],
)
def test_options_that_contradict_each_other_are_told(
    broker: tidegate.EmbeddedBroker, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with tidegate.Consumer(config(broker), ["in"]) as consumer, pytest.raises(error, match=text):
        consumer.process(lambda record: None, **options)


@pytest.mark.parametrize(
    ("changed", "text"), [({"isolation.level": "read_uncommitted"}, "isolation.level"), ({"group.id": None}, "group")]
)
def test_a_consumer_that_cannot_be_exactly_once_is_told(
    broker: tidegate.EmbeddedBroker, changed: dict[str, Any], text: str
) -> None:
    settings = {name: value for name, value in config(broker, **changed).items() if value is not None}
    with tidegate.Consumer(settings) as consumer, pytest.raises(ArgumentError, match=text):
        consumer.process(lambda record: None, **BOTH)


def test_a_stream_has_no_outputs(broker: tidegate.EmbeddedBroker) -> None:
    with tidegate.Consumer(config(broker), ["in"]) as consumer, pytest.raises(ArgumentError, match="answers of a stream"):
        consumer.stream(**BOTH)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        ((5,), {}, ArgumentTypeError, "value"),
        ((b"v", 5), {}, ArgumentTypeError, "key"),
        ((b"v", b"k"), {"without_key": True}, ArgumentError, "one of the two"),
        ((b"v",), {"topic": ""}, ArgumentError, "topic"),
        ((b"v",), {"partition": -1}, ArgumentError, "partition"),
        ((b"v",), {"timestamp_ms": -1}, ArgumentError, "timestamp_ms"),
        ((b"v",), {"headers": 7}, ArgumentTypeError, "headers"),
    ],
)
def test_an_output_that_cannot_be_is_told(
    arguments: tuple[Any, ...], keywords: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Output(*arguments, **keywords)


@pytest.mark.parametrize("returned", [{"a": 1}, 5, (b"a", b"b"), [None], ["a", 5]])
def test_what_is_no_output_fails_the_record_for_good(broker: tidegate.EmbeddedBroker, returned: object) -> None:
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        producer.send("in", b"v")
    with tidegate.Consumer(config(broker), ["in"]) as consumer:
        processing = consumer.process(lambda record: returned, max_attempts=5, **BOTH)
        with pytest.raises(tidegate.ListenerError, match="the handler returned"):
            processing.wait(WAIT_S)
        assert processing.stop()["returned"] == 1


@pytest.mark.parametrize("auto_commit", [True, False])
def test_nothing_but_transactions_commits(broker: tidegate.EmbeddedBroker, auto_commit: bool) -> None:
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        for number in range(50):
            producer.send("in", str(number), key=str(number % 5))
    settings = config(broker, **{"enable.auto.commit": auto_commit, "auto.commit.interval.ms": 20})
    with tidegate.Consumer(settings, ["in"]) as consumer:
        processing = consumer.process(lambda record: record.value, **BOTH)
        until(lambda: processing.ledger()["done"] == 50, "all")
        place = tidegate.TopicPartition("in", 0)
        consumer.commit()
        with pytest.raises(ArgumentError, match="transactions"):
            consumer.commit({place: 1})
        ledger = processing.stop()
        assert (ledger["done"], ledger["outputs_pending"], ledger["missing"]) == (50, 0, 0)
        with pytest.raises(ArgumentError, match="close it and make a new one"):
            consumer.process(lambda record: None)
        again = consumer.process(lambda record: None, **BOTH)
        again.stop()
