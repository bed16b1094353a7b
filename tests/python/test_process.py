"""`Consumer.process`: handlers side by side, on threads and on event loops, over the embedded broker."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import textwrap
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
from dropin import SHORT_SESSION

import tidegate
from tidegate.processing import Processing

KEYS = 20


@pytest.fixture
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker(topics={"t": 2, "dead": 1}) as broker:
        yield broker


def fill(broker: tidegate.EmbeddedBroker, count: int, keys: int = KEYS) -> None:
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        for number in range(count):
            producer.send("t", str(number).encode(), key=f"key-{number % keys}")
        producer.flush()


def consume(broker: tidegate.EmbeddedBroker, topic: str = "t", group: str = "g") -> tidegate.Consumer:
    config = {"bootstrap.servers": broker.bootstrap_servers, "group.id": group, "auto.offset.reset": "earliest"}
    return tidegate.Consumer(config | SHORT_SESSION, [topic])


def until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Watch:
    """Counts what runs at once and keeps what came, per key."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.now = self.most = 0
        self.seen: dict[bytes, list[int]] = defaultdict(list)

    def begin(self) -> None:
        with self.guard:
            self.now += 1
            self.most = max(self.most, self.now)

    def end(self, record: tidegate.Record) -> None:
        with self.guard:
            self.now -= 1
            self.seen[record.key or b""].append(int(record.value or b"-1"))


def committed(broker: tidegate.EmbeddedBroker, group: str = "g") -> int:
    with tidegate.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group}) as consumer:
        offsets = consumer.committed([("t", 0), ("t", 1)])
        return sum(offset or 0 for offset in (offsets.values() if isinstance(offsets, dict) else offsets))


def test_functions_run_side_by_side_and_each_key_in_order(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 200)
    watch = Watch()

    def handle(record: tidegate.Record) -> None:
        watch.begin()
        time.sleep(0.005)
        watch.end(record)

    with consume(broker) as consumer, consumer.process(handle, max_in_flight=10) as processing:
        until(lambda: processing.ledger()["done"] == 200)
        assert watch.most > 5
        assert all(numbers == sorted(numbers) and len(numbers) == 10 for numbers in watch.seen.values())
        ledger = processing.stop()
        assert ledger["received"] == 200
        assert ledger["missing"] == 0


def test_coroutines_run_on_a_loop_of_their_own(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 400)
    watch = Watch()

    async def handle(record: tidegate.Record) -> None:
        watch.begin()
        await asyncio.sleep(0.05)
        watch.end(record)

    with consume(broker) as consumer, consumer.process(handle, order="none", max_in_flight=100) as processing:
        until(lambda: processing.ledger()["done"] == 400)
        assert 20 < watch.most <= 100


def test_coroutines_run_on_the_callers_loop(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 50)
    loops = set()

    async def handle(record: tidegate.Record) -> None:
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)

    async def main() -> None:
        with consume(broker) as consumer:
            async with consumer.process(handle) as processing:
                while processing.ledger()["done"] < 50:
                    await asyncio.sleep(0.01)
                with pytest.raises(RuntimeError, match="aclose"):
                    processing.stop()
            assert loops == {asyncio.get_running_loop()}

    asyncio.run(asyncio.wait_for(main(), 60))


def test_what_fails_is_tried_again_and_then_goes_to_the_dead_letter_topic(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 20)
    attempts: dict[int, list[float]] = defaultdict(list)

    def handle(record: tidegate.Record) -> None:
        number = int(record.value or b"")
        attempts[number].append(time.monotonic())
        if number == 3:
            raise ConnectionError("the model is {away} 100%")
        if number == 5:
            raise ValueError("no such camera")
        if number == 7 and len(attempts[7]) == 1:
            raise tidegate.Retry("busy", after=0.3)

    with consume(broker) as consumer:
        options = {"max_attempts": 3, "backoff": 0.001, "give_up_on": (ValueError,), "dead_letter_topic": "dead"}
        with consumer.process(handle, **options) as processing:
            until(lambda: processing.ledger()["done"] == 18 and processing.ledger()["dead_lettered"] == 2)
    assert len(attempts[3]) == 3
    assert len(attempts[5]) == 1
    assert attempts[7][1] - attempts[7][0] >= 0.3
    with consume(broker, "dead", "reader") as reader:
        letters = {}
        while len(letters) < 2:
            record = reader.poll(30)
            assert record is not None
            letters[record.value] = dict(record.headers)
    assert letters[b"3"]["tidegate.dlq.text"] == b"the model is {away} 100%"
    assert letters[b"3"]["tidegate.dlq.exception"] == b"ConnectionError"
    assert letters[b"3"]["tidegate.dlq.attempts"] == b"3"
    assert letters[b"5"]["tidegate.dlq.exception"] == b"ValueError"
    assert letters[b"5"]["tidegate.dlq.group"] == b"g"


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_failure_ends_it_and_the_record_comes_again(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 10, keys=1)

    def fail_at_four(record: tidegate.Record) -> None:
        if record.value == b"4":
            raise ValueError("this one cannot be")

    async def fail_at_four_later(record: tidegate.Record) -> None:
        fail_at_four(record)

    with consume(broker) as consumer:
        processing = consumer.process(fail_at_four if kind == "function" else fail_at_four_later)
        with pytest.raises(tidegate.ListenerError, match="this one cannot be"):
            processing.wait(60)
        processing.stop()
    with consume(broker) as again:
        record = again.poll(60)
        assert record is not None
        assert record.value == b"4"


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_an_exception_that_is_none_comes_out_of_wait(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 1)

    class Enough(BaseException):
        pass

    def give_up(_record: tidegate.Record) -> None:
        raise Enough("of it")

    async def give_up_later(record: tidegate.Record) -> None:
        give_up(record)

    with consume(broker) as consumer:
        processing = consumer.process(give_up if kind == "function" else give_up_later)
        with pytest.raises(Enough, match="of it"):
            processing.wait(60)
        assert processing.stop()["done"] == 0


def test_skip_finishes_what_failed(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 10)

    def fail(_record: tidegate.Record) -> None:
        raise ValueError

    with consume(broker) as consumer, consumer.process(fail, on_failure="skip") as processing:
        until(lambda: processing.ledger()["done"] == 10)


def test_a_stop_is_bounded_while_a_handler_never_returns(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 30)
    release = threading.Event()

    def stuck(_record: tidegate.Record) -> None:
        release.wait(60)

    try:
        with consume(broker) as consumer:
            processing = consumer.process(stuck, max_in_flight=2)
            until(lambda: processing.ledger()["in_flight"] == 2)
            began = time.monotonic()
            ledger = processing.stop(drain=0.2)
            assert time.monotonic() - began < 10
            assert ledger["in_flight"] == 2
            assert ledger["done"] == 0
            assert ledger["missing"] == 0
    finally:
        release.set()


def test_closing_the_consumer_ends_it(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 5)
    consumer = consume(broker)
    processing = consumer.process(lambda _record: None)
    until(lambda: processing.ledger()["done"] == 5)
    consumer.close()
    assert processing.wait(30)


def test_a_handler_that_stops_it_is_told_not_to_wait(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 1)
    told: list[str] = []
    made: list[Processing] = []

    def handle(_record: tidegate.Record) -> None:
        until(lambda: bool(made))
        try:
            made[0].stop()
        except RuntimeError as error:
            told.append(str(error))

    with consume(broker) as consumer:
        made.append(consumer.process(handle))
        until(lambda: made[0].ledger()["done"] == 1)
        made[0].stop()
    assert "cannot stop the processing that runs it" in told[0]


def test_a_function_that_returns_a_coroutine_is_told(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 1)

    async def handle(_record: tidegate.Record) -> None:
        pass

    def hidden(record: tidegate.Record) -> object:
        return handle(record)

    with consume(broker) as consumer:
        processing = consumer.process(hidden)
        with pytest.raises(tidegate.ListenerError, match="coroutine function itself"):
            processing.wait(60)


def test_a_partial_coroutine_function_is_one(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 3)

    async def handle(_factor: int, _record: tidegate.Record) -> None:
        await asyncio.sleep(0)

    with consume(broker) as consumer, consumer.process(functools.partial(handle, 2)) as processing:
        until(lambda: processing.ledger()["done"] == 3)


def test_nobody_else_may_poll_meanwhile(broker: tidegate.EmbeddedBroker) -> None:
    with consume(broker) as consumer, consumer.process(lambda _record: None):
        with pytest.raises(tidegate.ConcurrentUseError):
            until(lambda: consumer.poll(0) is not None, 10)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"order": "random"}, tidegate.ArgumentError, "order: 'random' is none of key, partition, none"),
        ({"max_in_flight": 0}, tidegate.ArgumentError, "max_in_flight"),
        ({"max_in_flight": "many"}, tidegate.ArgumentTypeError, "max_in_flight"),
        ({"max_queued": True}, tidegate.ArgumentTypeError, "max_queued"),
        ({"max_attempts": 0}, tidegate.ArgumentError, "max_attempts"),
        ({"backoff": -1}, tidegate.ArgumentError, "backoff"),
        ({"backoff": 60.0}, tidegate.ArgumentError, "max_backoff"),
        ({"give_up_on": ValueError}, tidegate.ArgumentTypeError, "give_up_on"),
        ({"on_failure": "drop"}, tidegate.ArgumentError, "on_failure"),
        ({"dead_letter_topic": ""}, tidegate.ArgumentTypeError, "dead_letter_topic"),
    ],
)
def test_bad_options_are_told(
    broker: tidegate.EmbeddedBroker, options: dict[str, object], error: type[Exception], told: str
) -> None:
    with consume(broker) as consumer, pytest.raises(error, match=told):
        consumer.process(lambda _record: None, **options)  # type: ignore[arg-type]  # wrong on purpose


def test_a_handler_that_cannot_be_called_is_told(broker: tidegate.EmbeddedBroker) -> None:
    with consume(broker) as consumer:
        with pytest.raises(tidegate.ArgumentTypeError, match="handler: 7 cannot be called"):
            consumer.process(7)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(tidegate.ClosedError):
        consumer.process(lambda _record: None)


def test_at_the_interpreters_end_what_is_done_is_committed(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 40)
    program = """
        import sys, time, tidegate
        consumer = tidegate.Consumer({"bootstrap.servers": sys.argv[1], "group.id": "g", "auto.offset.reset": "earliest",
                                      "auto.commit.interval.ms": 100000}, ["t"])
        processing = consumer.process(lambda record: None, max_in_flight=4)
        while processing.ledger()["done"] < 40:
            time.sleep(0.01)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), broker.bootstrap_servers],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert committed(broker) == 40


@pytest.mark.parametrize("order", ["key", "none"])
def test_nothing_waits_behind_a_quick_handler_that_hangs_once(broker: tidegate.EmbeddedBroker, order: str) -> None:
    """A quick handler's thread has many records in its hand; the others take them over, and tell what it had done."""
    fill(broker, 6000, keys=6000)
    release = threading.Event()
    seen: list[int] = []

    def handle(record: tidegate.Record) -> None:
        seen.append(int(record.value or b""))
        if seen[-1] == 4000:
            release.wait(60)

    with consume(broker) as consumer:
        processing = consumer.process(handle, order=order, max_in_flight=3)
        try:
            until(lambda: processing.ledger()["done"] == 5999)
        finally:
            release.set()
        until(lambda: processing.ledger()["done"] == 6000)
        ledger = processing.stop()
    assert sorted(seen) == list(range(6000))
    assert (ledger["done"], ledger["missing"]) == (6000, 0)


def test_a_restart_repeats_what_was_unfinished_and_not_what_was_done_beyond_it(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 500, keys=500)
    release = threading.Event()

    def handle(record: tidegate.Record) -> None:
        if record.value == b"0":
            release.wait(60)

    consumer = consume(broker)
    processing = consumer.process(handle, order="none", max_in_flight=4)
    try:
        until(lambda: processing.ledger()["done"] == 499)
        assert processing.stop(drain=0)["in_flight"] == 1
        consumer.close()
    finally:
        release.set()
    again: list[bytes | None] = []
    with consume(broker) as consumer, consumer.process(lambda record: again.append(record.value)) as processing:
        until(lambda: processing.ledger()["received"] > 0 and processing.ledger()["done"] == 1)
        ledger = processing.stop()
    assert again == [b"0"]
    assert ledger["missing"] == 0


def test_metadata_that_is_no_map_is_told_apart() -> None:
    base, epoch, done = tidegate._core._offset_map("tgmap1:AQcE4wcA4AfAbeIq")
    assert (base, epoch, done) == (7, 3, [(8, 1000), (1001, 1002)])
    for text, problem in (("mine", "no offset map"), ("tgmap9:", "another version"), ("tgmap1:AAAA", "damaged")):
        with pytest.raises(ValueError, match=problem):
            tidegate._core._offset_map(text)
