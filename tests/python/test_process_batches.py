"""`process()` with batches, and with a rate in units of cost: on threads, on an event loop, and through BaseKafkaConsumer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_process import consume, fill, until

import tidegate
from tidegate.base_consumer import BaseKafkaConsumer


@pytest.fixture
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker(topics={"t": 2, "dead": 1}) as broker:
        yield broker


def of_kind(kind: str, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The handler as it is, or as a coroutine function."""

    async def later(given: Any) -> Any:
        await asyncio.sleep(0)
        return handler(given)

    return handler if kind == "function" else later


@pytest.fixture(scope="module")
def idle() -> Iterator[tidegate.EmbeddedBroker]:
    """For what is refused before anything is fetched."""
    with tidegate.EmbeddedBroker(topics={"t": 1}) as broker:
        yield broker


KINDS = pytest.mark.parametrize("kind", ["function", "coroutine"])


@KINDS
def test_batches_are_lists_each_key_in_order_and_everything_is_committed(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 203)
    guard = threading.Lock()
    batches: list[list[int]] = []
    busy: set[bytes | None] = set()

    def handle(records: list[tidegate.Record]) -> None:
        keys = {record.key for record in records}
        with guard:
            assert isinstance(records, list) and not busy & keys
            busy.update(keys)
            batches.append([int(record.value or b"") for record in records])
        time.sleep(0.002)
        with guard:
            busy.difference_update(keys)

    options: Any = {"batch_size": 10, "batch_timeout": 0.05, "max_in_flight": 40}
    with consume(broker) as consumer, consumer.process(of_kind(kind, handle), **options) as processing:
        until(lambda: processing.ledger()["done"] == 203)
        ledger = processing.stop()
    seen = [number for batch in batches for number in batch]
    assert sorted(seen) == list(range(203))
    for key in range(20):
        of_key = [number for number in seen if number % 20 == key]
        assert of_key == sorted(of_key)
    assert max(len(batch) for batch in batches) == 10
    assert (ledger["received"], ledger["missing"]) == (203, 0)
    with tidegate.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g"}) as reader:
        assert sum(offset or 0 for offset in reader.committed([("t", 0), ("t", 1)]).values()) == 203


def test_one_record_at_a_quiet_hour_waits_no_longer_than_it_may(broker: tidegate.EmbeddedBroker) -> None:
    came = threading.Event()
    with consume(broker) as consumer:
        with consumer.process(lambda records: came.set(), batch_size=16, batch_timeout=0.2) as processing:
            fill(broker, 1)
            assert came.wait(60)
            until(lambda: processing.ledger()["done"] == 1)


@KINDS
def test_a_batch_fails_together_or_as_its_handler_says(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 12, keys=1)
    attempts: dict[int, list[int]] = {}

    def handle(records: list[tidegate.Record]) -> None:
        numbers = [int(record.value or b"") for record in records]
        for number in numbers:
            attempts.setdefault(number, []).append(tidegate.current_attempt())
        if 1 in numbers:
            raise ConnectionError("the model is away")
        if 6 in numbers and tidegate.current_attempt() == 1:
            failures: dict[int, Exception] = {
                numbers.index(6): ValueError("no such camera"),
                numbers.index(7): tidegate.Retry("busy"),
            }
            raise tidegate.BatchError(failures)

    options: Any = {"batch_size": 4, "max_attempts": 2, "backoff": 0.001, "give_up_on": (ValueError,), "dead_letter_topic": "dead"}
    with consume(broker) as consumer, consumer.process(of_kind(kind, handle), **options) as processing:
        until(lambda: processing.ledger()["done"] + processing.ledger()["dead_lettered"] == 12)
        ledger = processing.stop()
    assert (ledger["dead_lettered"], ledger["missing"]) == (5, 0)
    assert {number: len(times) for number, times in attempts.items()} == {
        **dict.fromkeys(range(4), 2),
        **dict.fromkeys((4, 5, 6), 1),
        7: 2,
        **dict.fromkeys(range(8, 12), 1),
    }
    with consume(broker, "dead", "reader") as reader:
        letters = {}
        while len(letters) < 5:
            record = reader.poll(30)
            assert record is not None
            letters[int(record.value or b"")] = dict(record.headers)["tidegate.dlq.exception"]
    assert letters == {**dict.fromkeys(range(4), b"ConnectionError"), 6: b"ValueError"}


@KINDS
def test_a_place_that_is_none_fails_the_whole_batch(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 4, keys=1)

    def handle(records: list[tidegate.Record]) -> None:
        raise tidegate.BatchError({len(records): ValueError("beyond it")})

    with consume(broker) as consumer:
        processing = consumer.process(of_kind(kind, handle), batch_size=4)
        with pytest.raises(tidegate.ListenerError, match="BatchError: record 4: ValueError: beyond it"):
            processing.wait(60)
        assert processing.stop()["done"] == 0


@pytest.mark.parametrize("failures", [{}, None, {"0": ValueError()}, {0: "no"}, {True: ValueError()}, [ValueError()]])
def test_what_names_no_failures_is_told(failures: Any) -> None:
    with pytest.raises(TypeError, match=r"failures: .* does not say which places failed"):
        tidegate.BatchError(failures)


class Enough(BaseException):
    """What no handler may raise."""


@KINDS
def test_what_no_handler_may_do_leaves_the_whole_batch_unfinished(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 4, keys=1)

    def enough(_records: list[tidegate.Record]) -> None:
        raise Enough("of it")

    def forget(_records: list[tidegate.Record]) -> Any:
        return (number for number in range(3))

    for handler, error in ((enough, Enough), (forget, tidegate.ListenerError)):
        with consume(broker) as consumer:
            processing = consumer.process(of_kind(kind, handler), batch_size=4, on_failure="skip", max_attempts=3)
            with pytest.raises(error):
                processing.wait(60)
            ledger = processing.stop()
            assert (ledger["done"], ledger["returned"], ledger["missing"]) == (0, 4, 0)


@KINDS
def test_a_batch_over_its_time_fails_and_its_late_result_is_nothing(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 4, keys=1)
    release = threading.Event()
    calls: list[int] = []

    def handle(records: list[tidegate.Record]) -> None:
        calls.append(len(records))
        if len(calls) == 1:
            release.wait(60)

    async def later(records: list[tidegate.Record]) -> None:
        await asyncio.to_thread(handle, records)

    with consume(broker) as consumer:
        handler: Any = handle if kind == "function" else later
        with consumer.process(
            handler, batch_size=4, max_in_flight=8, attempt_timeout=0.2, max_attempts=2, backoff=0.01
        ) as processing:
            until(lambda: processing.ledger()["timed_out"] == 4)
            assert processing.ledger()["done"] == 0
            release.set()
            until(lambda: processing.ledger()["done"] == 4)
            assert processing.ledger()["missing"] == 0
    assert calls == [4, 4]


# -- costs -------------------------------------------------------------------------------------------------------------------


@KINDS
def test_no_more_tokens_a_second_than_the_rate_says(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 100)
    begun: list[float] = []
    with consume(broker) as consumer:
        handler = of_kind(kind, lambda _record: begun.append(time.monotonic()))
        with consumer.process(handler, rate_limit=1000, cost=lambda _record: 40) as processing:
            until(lambda: processing.ledger()["done"] == 100)
    # 4000 tokens: a second's worth may be saved up, and each thread may begin one before it is known what that costs.
    assert begun[-1] - begun[0] > (4000 - 1000 - 16 * 40) / 1000


def _no_camera(_record: tidegate.Record) -> float:
    raise KeyError("camera")


BAD_COSTS: list[Any] = [-1, float("nan"), float("inf"), "5", None, True, _no_camera]


@KINDS
def test_a_cost_that_is_none_fails_its_record_and_no_other(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 20, keys=20)
    handled: list[int] = []

    def cost_of(record: tidegate.Record) -> Any:
        number = int(record.value or b"")
        cost = BAD_COSTS[number] if number < len(BAD_COSTS) else 1
        return cost(record) if callable(cost) else cost

    handler = of_kind(kind, lambda record: handled.append(int(record.value)))
    options: Any = {"rate_limit": 1e6, "cost": cost_of, "max_attempts": 2, "backoff": 0.001, "dead_letter_topic": "dead"}
    with consume(broker) as consumer, consumer.process(handler, **options) as processing:
        until(lambda: processing.ledger()["done"] == 13 and processing.ledger()["dead_lettered"] == 7)
        assert processing.stop()["missing"] == 0
    assert sorted(handled) == list(range(7, 20))
    with consume(broker, "dead", "reader") as reader:
        letters = {}
        while len(letters) < 7:
            record = reader.poll(60)
            assert record is not None
            letters[int(record.value or b"")] = dict(record.headers)
    for number, headers in letters.items():
        told = (headers["tidegate.dlq.exception"], headers["tidegate.dlq.attempts"])
        if number == 6:
            assert told == (b"KeyError", b"2")
        else:
            assert told == (b"CostError", b"1")
            assert f"gave {BAD_COSTS[number]!r} as what a record costs".encode() in (headers["tidegate.dlq.text"] or b"")


@KINDS
def test_a_cost_that_raises_what_it_must_not_ends_it(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 3, keys=1)

    def cost(_record: tidegate.Record) -> float:
        raise Enough("of it")

    with consume(broker) as consumer:
        processing = consumer.process(of_kind(kind, print), rate_limit=5, cost=cost, on_failure="skip")
        with pytest.raises(Enough):
            processing.wait(60)
        assert processing.stop()["done"] == 0


async def _later(_record: tidegate.Record) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"batch_size": 0}, tidegate.ArgumentError, "batch_size: 0 cannot be"),
        ({"batch_size": 2.5}, tidegate.ArgumentTypeError, "batch_size: 2.5 is no whole number"),
        ({"batch_size": True}, tidegate.ArgumentTypeError, "batch_size"),
        ({"batch_size": 17}, tidegate.ArgumentError, "batch_size: 17 records never come together while max_in_flight is 16"),
        ({"batch_size": 9, "max_queued": 8}, tidegate.ArgumentError, "while max_queued is 8"),
        ({"batch_timeout": -0.1}, tidegate.ArgumentError, "batch_timeout"),
        ({"batch_timeout": float("nan")}, tidegate.ArgumentError, "batch_timeout"),
        ({"batch_timeout": "soon"}, tidegate.ArgumentTypeError, "batch_timeout"),
        ({"cost": len}, tidegate.ArgumentError, "cost: there is no rate_limit"),
        ({"cost": 5, "rate_limit": 5}, tidegate.ArgumentTypeError, "cost: 5 is no plain function"),
        ({"cost": _later, "rate_limit": 5}, tidegate.ArgumentTypeError, "cost: .*_later.* is no plain function"),
    ],
)
def test_batches_and_costs_that_cannot_be_are_told(
    idle: tidegate.EmbeddedBroker, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with consume(idle) as consumer, pytest.raises(error, match=told):
        consumer.process(print, **options)


@pytest.mark.parametrize("name", ["batch_size", "batch_timeout", "cost"])
def test_a_stream_has_neither(idle: tidegate.EmbeddedBroker, name: str) -> None:
    with consume(idle) as consumer, pytest.raises(tidegate.ArgumentTypeError, match=f"{name}: there is no such option"):
        consumer.stream(**{name: 2})  # type: ignore[arg-type]  # wrong on purpose


# -- BaseKafkaConsumer ---------------------------------------------------------------------------------------------------------


@KINDS
def test_the_drop_in_takes_batches_and_costs_of_documents(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        for number in range(20):
            value = b"no json" if number == 3 else json.dumps({"n": number, "tokens": number}).encode()
            producer.send("t", value, key=b"k")
    batches: list[list[int]] = []
    costs: list[int] = []

    def handle(documents: list[dict[str, Any]]) -> None:
        numbers = [document["n"] for document in documents]
        batches.append(numbers)
        if 5 in numbers:
            raise tidegate.BatchError({numbers.index(5): ValueError("no such camera")})

    def cost(document: dict[str, Any]) -> int:
        costs.append(document["tokens"])
        return document["tokens"]

    consumer = BaseKafkaConsumer(
        broker.bootstrap_servers,
        "g",
        ["t"],
        of_kind(kind, handle),
        auto_offset_reset="earliest",
        workers=8,
        dead_letter_topic="dead",
        batch_size=4,
        rate_limit=1e6,
        cost=cost,
    )
    thread = threading.Thread(target=consumer.start)
    thread.start()
    try:
        until(lambda: consumer.stats()["handled"] == 18 and consumer.stats()["dead_lettered"] == 2)
        stats = consumer.stats()
    finally:
        consumer.close()
        thread.join(60)
    assert (stats["poison"], stats["failed"], stats["handled"]) == (1, 1, 18)
    assert sorted(costs) == sorted(number for number in range(20) if number != 3)
    assert [number for batch in batches for number in batch] == [number for number in range(20) if number != 3]
