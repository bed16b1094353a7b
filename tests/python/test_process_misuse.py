"""`Consumer.process` with handlers and options that cannot be right: each is told, and no record is lost by it."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from dropin import SHORT_SESSION, committed
from fake_engine import until

import tidegate
from tidegate import _handlers, _logging


@pytest.fixture(scope="module")
def running() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker() as broker:
        yield broker


class Place:
    """A topic of three records, `0` to `2`, and a group."""

    def __init__(self, broker: tidegate.EmbeddedBroker, name: str) -> None:
        self.servers, self.name = broker.bootstrap_servers, name
        broker.create_topic(name, 1)
        with tidegate.Producer({"bootstrap.servers": self.servers}) as producer:
            for number in range(3):
                producer.send(name, str(number).encode(), key="k")

    def consume(self) -> tidegate.Consumer:
        config = {"bootstrap.servers": self.servers, "group.id": self.name, "auto.offset.reset": "earliest"}
        return tidegate.Consumer(config | SHORT_SESSION, [self.name])

    def committed(self) -> int:
        return committed(self.servers, self.name, self.name).get(0, 0)


@pytest.fixture
def place(running: tidegate.EmbeddedBroker, request: pytest.FixtureRequest) -> Place:
    return Place(running, "".join(c if c.isalnum() else "-" for c in request.node.name)[:200])


async def _nothing() -> None: ...


def _returns_a_coroutine(_record: tidegate.Record) -> Any:
    return _nothing()


def _returns_a_generator(_record: tidegate.Record) -> Any:
    return (number for number in range(3))


async def _forgets_to_await(_record: tidegate.Record) -> Any:
    return _nothing()


def _returns_an_awaitable(_record: tidegate.Record) -> Any:
    class Later:
        def __await__(self) -> Iterator[None]:
            yield None

    return Later()


@pytest.mark.parametrize("handler", [_returns_a_coroutine, _returns_a_generator, _forgets_to_await, _returns_an_awaitable])
def test_what_nobody_would_run_ends_it_and_is_not_taken_for_done(place: Place, handler: Callable[[Any], Any]) -> None:
    """Not even `skip` may: every record would be skipped, none handled."""
    with place.consume() as consumer:
        processing = consumer.process(handler, on_failure="skip", max_attempts=5)
        with pytest.raises(tidegate.ListenerError, match=f"{handler.__name__} returned a.*nobody runs"):
            processing.wait(60)
        assert processing.stop()["done"] == 0
    assert place.committed() == 0


def test_any_other_return_is_ignored(place: Place) -> None:
    with place.consume() as consumer, consumer.process(lambda record: record.value) as processing:
        until(lambda: processing.ledger()["done"] == 3, 60)


def _generator(_record: tidegate.Record) -> Iterator[None]:
    yield None


async def _async_generator(_record: tidegate.Record) -> AsyncIterator[None]:
    yield None


class Callable_:
    def __call__(self, _record: tidegate.Record) -> Iterator[None]:
        yield None


@pytest.mark.parametrize("handler", [_generator, _async_generator, functools.partial(_generator), Callable_()])
def test_a_generator_function_is_no_handler(place: Place, handler: Callable[[Any], Any]) -> None:
    with place.consume() as consumer, pytest.raises(tidegate.ArgumentTypeError, match=r"handler: .* is a generator function"):
        consumer.process(handler)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_base_exception_ends_it_and_leaves_the_record(place: Place, error: type[BaseException], kind: str) -> None:
    def handler(record: tidegate.Record) -> None:
        if record.value == b"1":
            raise error("enough")

    async def handler_later(record: tidegate.Record) -> None:
        handler(record)

    with place.consume() as consumer:
        processing = consumer.process(handler if kind == "function" else handler_later, on_failure="skip")
        with pytest.raises(error):
            processing.wait(60)
        assert processing.stop()["done"] == 1
    assert place.committed() == 1


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_something_cancelled_inside_is_a_failed_attempt(place: Place, kind: str) -> None:
    calls: list[bytes | None] = []

    async def coroutine(record: tidegate.Record) -> None:
        calls.append(record.value)
        if len(calls) == 1:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    def function(record: tidegate.Record) -> None:
        calls.append(record.value)
        if len(calls) == 1:
            raise asyncio.CancelledError

    with place.consume() as consumer:
        handler = function if kind == "function" else coroutine
        with consumer.process(handler, max_attempts=2, backoff=0.001) as processing:  # type: ignore[arg-type]
            until(lambda: processing.ledger()["done"] == 3 or processing.wait(0), 60)
    assert calls == [b"0", b"0", b"1", b"2"]


def test_a_handlers_task_that_somebody_cancels_is_not_taken_for_failed(place: Place) -> None:
    async def handler(_record: tidegate.Record) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    with place.consume() as consumer:
        processing = consumer.process(handler, on_failure="skip")
        with pytest.raises(tidegate.ListenerError, match="cancelled by somebody else"):
            processing.wait(60)
        assert processing.stop()["done"] == 0
    assert place.committed() == 0


def test_a_handler_that_blocks_the_loop_is_named_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_handlers, "BLOCKED_S", 0.1)
    monkeypatch.setattr(_handlers, "_log", _logging.Logger("tidegate.processing"))
    monkeypatch.setattr(_handlers._log, "_loguru", None)
    caplog.set_level(logging.WARNING, logger="tidegate")

    def told() -> list[str]:
        return [line for line in caplog.messages if "blocks it" in line]

    async def slow_query(record: tidegate.Record) -> None:
        deadline = time.monotonic() + 60
        while not told() and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251  # it is what must not be
        if record.value != b"0":
            time.sleep(0.5)  # noqa: ASYNC251  # again, and not told again

    with place.consume() as consumer, consumer.process(slow_query) as processing:
        until(lambda: processing.ledger()["done"] == 3, 60)
    (line,) = told()
    assert "slow_query" in line
    assert "test_process_misuse.py" in line


def test_a_handler_that_forks_shares_nothing_with_its_child(place: Place) -> None:
    """One child ends at once, the other returns from the handler: neither settles the parent's record twice, nor hangs."""
    statuses: list[int] = []

    def handler(record: tidegate.Record) -> None:
        if record.value == b"2":
            return
        child = os.fork()
        if child == 0:
            if record.value == b"0":
                os._exit(0)
            threading.excepthook = lambda _args: os._exit(9)
            return
        statuses.append(os.waitpid(child, 0)[1])

    with place.consume() as consumer, consumer.process(handler) as processing:
        until(lambda: processing.ledger()["done"] == 3, 60)
        ledger = processing.stop()
    assert ledger["received"] == ledger["done"] == 3
    assert statuses[0] == 0
    assert place.committed() == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dead_letter_topic": "dead", "on_failure": "skip"}, "on_failure: 'skip'.*give one of the two"),
        ({"dead_letter_topic": "THE TOPIC"}, "dead_letter_topic: .* is one of the topics consumed"),
        ({"park_retries": True}, "park_retries: with max_attempts=1"),
        ({"park_retries": True, "max_attempts": 3, "order": "none"}, "park_retries: with order='none'"),
        ({"backoff": 2.0, "max_backoff": 1.0}, "backoff"),
    ],
)
def test_options_that_contradict_each_other_are_told(place: Place, options: dict[str, Any], told: str) -> None:
    if options.get("dead_letter_topic") == "THE TOPIC":
        options = {"dead_letter_topic": place.name}
    with place.consume() as consumer, pytest.raises(tidegate.ArgumentError, match=told):
        consumer.process(print, **options)


def test_a_consumer_is_processed_once_at_a_time(place: Place) -> None:
    with place.consume() as consumer:
        with consumer.process(lambda _record: None) as processing:
            with pytest.raises(tidegate.ConcurrentUseError, match="handled already"):
                consumer.process(print)
            until(lambda: processing.ledger()["done"] == 3, 60)
        consumer.process(print).stop()


def test_a_handler_knows_which_attempt_it_is(place: Place) -> None:
    attempts: list[int] = []

    def handler(record: tidegate.Record) -> None:
        attempts.append(tidegate.current_attempt())
        if record.value == b"0" and attempts[-1] < 3:
            raise tidegate.Retry("not yet")

    with place.consume() as consumer, consumer.process(handler, max_attempts=3, backoff=0.001) as processing:
        until(lambda: processing.ledger()["done"] == 3, 60)
    assert attempts == [1, 2, 3, 1, 1]


def _no_argument() -> None: ...


def _two_arguments(_record: tidegate.Record, _more: int) -> None: ...


def _only_keywords(*, record: tidegate.Record) -> None: ...


@pytest.mark.parametrize("handler", [_no_argument, _two_arguments, _only_keywords, functools.partial(_two_arguments, None, 2)])
def test_a_handler_that_takes_no_record_is_told_before_any_record_fails(place: Place, handler: Callable[..., Any]) -> None:
    with place.consume() as consumer, pytest.raises(tidegate.ArgumentTypeError, match=r"handler: .* takes no single argument"):
        consumer.process(handler)
    with place.consume() as consumer, consumer.process(functools.partial(_two_arguments, _more=2)) as processing:
        until(lambda: processing.ledger()["done"] == 3, 60)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("error", [Unspeakable(), ValueError("half a \ud83d pair")])
def test_an_exception_whose_text_cannot_be_told_is_a_failed_attempt_all_the_same(place: Place, error: Exception, kind: str) -> None:
    """Nobody could tell the engine, and the record stayed in flight for ever."""

    def handler(_record: tidegate.Record) -> None:
        raise error

    async def handler_later(_record: tidegate.Record) -> None:
        raise error

    with place.consume() as consumer:
        with consumer.process(
            handler if kind == "function" else handler_later, on_failure="skip", max_attempts=2, backoff=0
        ) as all_of:
            until(lambda: all_of.ledger()["done"] == 3, 60)


class EnoughError(BaseException):
    """Its text holds half of a surrogate pair."""


def test_a_base_exception_whose_text_cannot_be_told_ends_it_all_the_same(place: Place) -> None:
    def handler(_record: tidegate.Record) -> None:
        raise EnoughError("half a \ud83d pair")

    with place.consume() as consumer:
        processing = consumer.process(handler)
        with pytest.raises(EnoughError):
            processing.wait(60)
        processing.stop()


@pytest.mark.parametrize("after", ["soon", -1, float("nan"), True, 1e12])
def test_a_retry_after_that_is_no_time_is_none(place: Place, after: Any) -> None:
    def handler(record: tidegate.Record) -> None:
        if tidegate.current_attempt() == 1:
            raise tidegate.Retry("busy", after=after)

    with place.consume() as consumer, consumer.process(handler, max_attempts=2, backoff=0) as processing:
        until(lambda: processing.ledger()["done"] == 3, 60)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_coroutine_that_never_returns_holds_up_no_stop(place: Place, refuses: bool) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def handler(_record: tidegate.Record) -> None:
        begun.set()
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.set()
                if not refuses:
                    raise

    with place.consume() as consumer:
        processing = consumer.process(handler)
        assert begun.wait(60)
        since = time.monotonic()
        ledger = processing.stop(drain=0.1)
        assert time.monotonic() - since < 15
        assert cancelled.is_set()
        assert (ledger["in_flight"], ledger["done"]) == (1, 0)
    assert place.committed() == 0


def test_a_handler_that_makes_no_progress_loses_its_partitions(place: Place) -> None:
    """After `max.poll.interval.ms`, as a loop that does not poll would; the records come again, and it goes on when it returns."""
    release = threading.Event()
    seen: list[bytes | None] = []

    def handler(record: tidegate.Record) -> None:
        seen.append(record.value)
        if len(seen) == 1:
            release.wait(60)

    config = {"bootstrap.servers": place.servers, "group.id": place.name, "auto.offset.reset": "earliest"}
    config |= {"session.timeout.ms": "6000", "max.poll.interval.ms": "6000", "tidegate.revoke.drain.ms": "500"}
    lost: list[Any] = []
    with tidegate.Consumer(config) as consumer:
        consumer.subscribe([place.name], on_lost=lost.append, on_revoke=lost.append)
        with consumer.process(handler) as processing:
            until(lambda: bool(lost), 60)
            release.set()
            until(lambda: processing.ledger()["done"] == 3, 60)
            ledger = processing.stop()
    assert seen == [b"0", b"0", b"1", b"2"]
    assert (ledger["stale"], ledger["missing"]) == (3, 0)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_handler_that_closes_its_consumer_waits_no_longer_than_it_says(place: Place, kind: str) -> None:
    took: list[float] = []

    def handler(_record: tidegate.Record) -> None:
        since = time.monotonic()
        try:
            consumer.close(timeout=1)
        except tidegate.TidegateError:
            pass
        took.append(time.monotonic() - since)

    async def handler_later(record: tidegate.Record) -> None:
        handler(record)

    with place.consume() as consumer:
        processing = consumer.process(handler if kind == "function" else handler_later)
        assert processing.wait(60)
        until(lambda: bool(took), 60)
        processing.stop()
    assert took[0] < 10


FORKING = """
import asyncio, os, sys, tidegate, time

begun = 0
may_go_on = asyncio.Event()

async def handler(record):
    global begun
    if record.value == b"0":
        while begun < 2:
            await asyncio.sleep(0.01)
        may_go_on.set()  # both are ready when the process forks
        child = os.fork()
        if child == 0:
            return
        for _ in range(1000):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            await asyncio.sleep(0.01)
        else:
            os.kill(child, 9)
            status = "the child went on"
        os.write(1, f"child: {status}\\n".encode())
        return
    begun += 1
    await may_go_on.wait()
    os.write(1, b"handled\\n")

config = {"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "auto.offset.reset": "earliest"}
with tidegate.Consumer(config, [sys.argv[2]]) as consumer, consumer.process(handler, order="none") as processing:
    while processing.ledger()["done"] < 3 and not processing.wait(0.01):
        pass
    began = time.monotonic()
    processing.stop()
    # The child that ends has the parent's selector too: a loop that heard of nothing any more was waited for, for 5 s.
    assert time.monotonic() - began < 4
"""


def test_the_child_of_a_coroutine_that_forks_does_not_go_on_with_the_others(place: Place) -> None:
    """It has a copy of the event loop, and of every task in it."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, place.servers, place.name],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.splitlines()) == ["child: 0", "handled", "handled"], run.stdout
