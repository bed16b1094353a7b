"""Handlers side by side: `consumer.process(handler)`.

    >>> import tidegate
    >>> def handle(record):
    ...     print(record.json())
    >>> consumer = tidegate.Consumer({"bootstrap.servers": "localhost:9092", "group.id": "assessors"}, ["assessment-tasks"])
    >>> processing = consumer.process(handle, max_in_flight=100, max_attempts=3)
    >>> tidegate.wait_for_shutdown(processing, consumer)

The engine decides what may be handled next and what is committed; this module runs the handlers: plain functions on threads,
coroutine functions on an event loop. A record is finished when its handler has returned, or when the dead-letter topic has
confirmed its copy, and a commit never passes an unfinished record.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypedDict

from tidegate import _core, _exit
from tidegate._logging import Logger, describe

__all__ = ["Processing", "ProcessingOptions", "Retry", "process"]

_log = Logger("tidegate.processing")

_ORDERS = ("key", "partition", "none")
_FAILURES = ("stop", "skip")
_TURN_S = 0.0002
"""A handler that is quicker than this gets many records at a time, so that hand-over costs little; a slow one gets one."""
_MOST_AT_ONCE = 256
_MOST_IN_FLIGHT = 1_000_000
_DRAIN_S = 10.0
_LOOP_END_S = 5.0


class Retry(Exception):
    """Raised by a handler: call me again for this record, not before `after` seconds (a server's Retry-After).

    It counts as an attempt.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class ProcessingOptions(TypedDict, total=False):
    """The keywords of `Consumer.process`; see `process` for what they mean."""

    order: str
    max_in_flight: int
    max_queued: int
    max_bytes: int
    max_attempts: int | None
    backoff: float
    max_backoff: float
    park_retries: bool
    give_up_on: tuple[type[Exception], ...]
    dead_letter_topic: str | None
    on_failure: str
    offset_map_bytes: int


def process(
    consumer: _core.Consumer,
    handler: Callable[[_core.Record], Any],
    *,
    order: str = "key",
    max_in_flight: int = 16,
    max_queued: int = 10_000,
    max_bytes: int = 64 * 1024 * 1024,
    max_attempts: int | None = 1,
    backoff: float = 0.1,
    max_backoff: float = 30.0,
    park_retries: bool = False,
    give_up_on: tuple[type[Exception], ...] = (),
    dead_letter_topic: str | None = None,
    on_failure: str = "stop",
    offset_map_bytes: int = 4096,
) -> Processing:
    """Handle the consumer's records in the background until `stop()`, `consumer.close()` or an error.

    Args:
        consumer: subscribed or assigned, now or later. Nobody else may poll it meanwhile; its rebalance callbacks run in a
            thread of their own.
        handler: called with each Record. A plain function runs on `max_in_flight` threads; a coroutine function runs on the
            event loop of the caller, if one runs, else on one of its own. What it returns is ignored.
        order: what stays in order: `key` (records of one partition with the same key; records without a key have no order),
            `partition`, or `none`.
        max_in_flight: the most records with handlers at once.
        max_queued: the most records that wait for a handler.
        max_bytes: the most bytes of batches that have unfinished records.
        max_attempts: how often a record is with the handler before it has failed for good; None: until it succeeds.
        backoff: seconds before the second attempt, doubled for each further one, varied by a quarter.
        max_backoff: the longest of these pauses.
        park_retries: let the others of its key go on while a record waits for its next attempt; it then loses its place.
        give_up_on: exceptions after which another attempt is pointless.
        dead_letter_topic: where a copy of what has failed for good goes, with the reason in headers `tidegate.dlq.*`; the record
            is finished when the broker has confirmed the copy.
        on_failure: without a dead-letter topic: `stop` (processing ends, `wait()` raises, the record comes again after a
            restart) or `skip` (it is logged and finished).

        offset_map_bytes: how much metadata a commit may carry about what is done beyond the committed offset, so that a restart
            does not repeat it; 0 for none. The broker must take as much (`offset.metadata.max.bytes`, 4096 unless changed).

    A handler may raise `Retry(after=seconds)`. A BaseException that is no Exception (KeyboardInterrupt, SystemExit) ends the
    processing and leaves the record unfinished.

    Raises:
        tidegate.ArgumentError: an argument is wrong.
        tidegate.ClosedError: the consumer is closed.
        tidegate.ConfigError: the dead-letter producer cannot have this consumer's settings.
    """
    if not callable(handler):
        raise _core.ArgumentTypeError(f"handler: {handler!r} cannot be called; give a function that takes a Record")
    _check_choice("order", order, _ORDERS)
    _check_choice("on_failure", on_failure, _FAILURES)
    for name, count in (("max_in_flight", max_in_flight), ("max_queued", max_queued), ("max_bytes", max_bytes)):
        _check_count(name, count)
    if max_in_flight > _MOST_IN_FLIGHT:
        raise _core.ArgumentError(f"max_in_flight: {max_in_flight} at once cannot be; use at most {_MOST_IN_FLIGHT}")
    if max_attempts is not None:
        _check_count("max_attempts", max_attempts)
    for name, seconds in (("backoff", backoff), ("max_backoff", max_backoff)):
        _check_seconds(name, seconds)
    _check_number("offset_map_bytes", offset_map_bytes, 0, 65_536)
    _check_kinds(give_up_on)
    _check_topic(dead_letter_topic)
    loop = None
    if is_coroutine_function(handler):
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
    # A thread may have several records of a quick function, of which one is being handled.
    at_once = 1 if is_coroutine_function(handler) else _MOST_AT_ONCE
    dispatcher = _core._Dispatcher(
        consumer,
        order=order,
        max_in_flight=max_in_flight * at_once,
        max_queued=max_queued,
        max_bytes=max_bytes,
        max_attempts=max_attempts,
        backoff=float(backoff),
        max_backoff=float(max_backoff),
        park_retries=bool(park_retries),
        on_failure=on_failure,
        dead_letter_topic=dead_letter_topic,
        offset_map_bytes=offset_map_bytes,
    )
    return Processing(consumer, dispatcher, handler, max_in_flight, give_up_on, loop)


class Processing:
    """Handlers at work; made by `Consumer.process`. Any thread may call any method.

    As a context manager it is stopped at the end. One that runs when the interpreter ends is stopped (within 5 s).
    """

    def __init__(
        self,
        consumer: _core.Consumer,
        dispatcher: _core._Dispatcher,
        handler: Callable[[_core.Record], Any],
        max_in_flight: int,
        give_up_on: tuple[type[Exception], ...],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._consumer = consumer
        self._dispatcher = dispatcher
        self._raised: BaseException | None = None
        self._stopped = threading.Event()
        self._exiting = False
        self._handlers: _OnThreads | _OnLoop
        if is_coroutine_function(handler):
            self._handlers = _OnLoop(self, dispatcher, handler, give_up_on, loop)
        else:
            self._handlers = _OnThreads(self, dispatcher, handler, give_up_on, max_in_flight)
        _exit.register(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over: after `stop()`, because the consumer was closed, or with an error. False after `timeout` seconds.

        Raises:
            tidegate.TidegateError: what ended it; ListenerError for a record that has failed for good.
            BaseException: what a handler raised that is no Exception.
        """
        try:
            return self._dispatcher.wait(timeout)
        except _core.TidegateError:
            if self._raised is not None:
                raise self._raised from None
            raise

    def stop(self, drain: float = _DRAIN_S) -> dict[str, int]:
        """Begin no other record, let handlers finish for `drain` seconds, commit what is done; gives the ledger.

        What waited, and what was not finished in time, comes again after a restart. The consumer stays open. Stopping twice is
        fine.

        Raises:
            RuntimeError: called on the event loop that runs the handlers: `await aclose()` there.
        """
        self._handlers.refuse_to_wait()
        ledger, is_drained = self._dispatcher.stop(drain)
        if not is_drained:
            _log.warning(f"handlers still had {ledger['in_flight']} records after {drain} s; they come again after a restart")
        self._handlers.end(is_drained)
        self._stopped.set()
        return ledger

    async def aclose(self, drain: float = _DRAIN_S) -> dict[str, int]:
        """As `stop()`, for the event loop that runs the handlers: they go on meanwhile."""
        loop = asyncio.get_running_loop()
        ledger, is_drained = await loop.run_in_executor(None, self._dispatcher.stop, drain)
        self._handlers.end(is_drained)
        self._stopped.set()
        return ledger

    def ledger(self) -> dict[str, int]:
        """What became of everything received: `received` is the sum of `done`, `dead_lettered`, `stale` (given back at a revoke),
        `returned` (given back at a stop), `queued`, `in_flight`, `retry_wait` and `dead_letters_pending`. `missing` is 0."""
        return self._dispatcher.ledger()

    def __enter__(self) -> Processing:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Processing:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- what the handlers tell ------------------------------------------------------------------------------------------

    def _ended_by(self, error: BaseException) -> None:
        """A handler raised something that is no Exception."""
        self._raised = error
        self._dispatcher.end_with(f"the handler raised {describe(error)}")

    # -- at the interpreter's end (see _exit) ----------------------------------------------------------------------------

    def begin_exit(self) -> None:
        """Ask for the end; returns at once."""
        self._exiting = True
        threading.Thread(target=self._end_quietly, args=(_exit.HANDLER_GRACE_S,), daemon=True).start()

    def exit_done(self) -> bool:
        """True once it has stopped."""
        return self._stopped.is_set() or (self._dispatcher.is_stopping and not self._exiting)

    def runs_in(self, thread_id: int) -> bool:
        """True in the thread of the event loop that runs the handlers."""
        return self._handlers.runs_in(thread_id)

    def force_exit(self, timeout: float) -> None:
        """Leave unfinished what is unfinished."""
        self._end_quietly(timeout)

    def _end_quietly(self, drain: float) -> None:
        with contextlib.suppress(Exception):
            self._dispatcher.stop(drain)
        self._stopped.set()


class _Handlers:
    """What both kinds share: what an exception means."""

    def __init__(
        self,
        owner: Processing,
        dispatcher: _core._Dispatcher,
        handler: Callable[[_core.Record], Any],
        give_up_on: tuple[type[Exception], ...],
    ) -> None:
        self._owner = owner
        self._dispatcher = dispatcher
        self._handler = handler
        self._give_up_on = give_up_on

    def _failed(self, ticket: int, error: Exception) -> None:
        after = error.after if isinstance(error, Retry) else None
        is_retriable = not isinstance(error, self._give_up_on)
        text = str(error) or type(error).__name__
        self._dispatcher.fail(ticket, type(error).__qualname__, text, is_retriable, _sensible(after))

    def _broke(self, tickets: list[int], error: BaseException) -> None:
        self._dispatcher.give_back(tickets)
        self._owner._ended_by(error)


class _OnThreads(_Handlers):
    """Plain functions, on threads of their own."""

    def __init__(
        self,
        owner: Processing,
        dispatcher: _core._Dispatcher,
        handler: Callable[[_core.Record], Any],
        give_up_on: tuple[type[Exception], ...],
        count: int,
    ) -> None:
        super().__init__(owner, dispatcher, handler, give_up_on)
        self._threads = [threading.Thread(target=self._run, name=f"tidegate-handler-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        most, slowest = 1, 0.0
        while True:
            try:
                works = self._dispatcher.take(most)
            except _core.TidegateError:
                return  # whoever waits for the end is told
            if works is None:
                return
            began = time.perf_counter()
            self._handle(works)
            # A slow one is remembered for a while: none should wait behind the next.
            slowest = max(slowest / 2, (time.perf_counter() - began) / len(works))
            most = min(max(int(_TURN_S / slowest), 1), _MOST_AT_ONCE)

    def _handle(self, works: list[tuple[int, int, _core.Record]]) -> None:
        handler = self._handler
        done: list[int] = []
        for index, (ticket, _attempts, record) in enumerate(works):
            try:
                returned = handler(record)
                if returned is not None and inspect.iscoroutine(returned):
                    returned.close()
                    raise TypeError("the handler returned a coroutine; give process() the coroutine function itself")
            except Exception as error:
                self._failed(ticket, error)
            except BaseException as error:
                self._dispatcher.settle(done)
                self._broke([left for left, _, _ in works[index:]], error)
                return
            else:
                done.append(ticket)
        self._dispatcher.settle(done)

    def refuse_to_wait(self) -> None:
        """A handler may not wait for itself."""
        if threading.current_thread() in self._threads:
            raise RuntimeError("a handler cannot stop the processing that runs it and wait for that; do it in another thread")

    def runs_in(self, thread_id: int) -> bool:
        return any(thread.ident == thread_id for thread in self._threads)

    def end(self, is_drained: bool) -> None:
        if is_drained:
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join()


class _OnLoop(_Handlers):
    """Coroutine functions, on an event loop. A thread takes records from the dispatcher and begins their tasks on the loop."""

    def __init__(
        self,
        owner: Processing,
        dispatcher: _core._Dispatcher,
        handler: Callable[[_core.Record], Coroutine[Any, Any, Any]],
        give_up_on: tuple[type[Exception], ...],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(owner, dispatcher, handler, give_up_on)
        self._own_loop = loop is None
        self._loop = asyncio.new_event_loop() if loop is None else loop
        self._loop_thread = threading.get_ident()
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: list[int] = []
        self._thread: threading.Thread | None = None
        if self._own_loop:
            self._thread = threading.Thread(target=self._run_loop, name="tidegate-loop", daemon=True)
            self._thread.start()
        self._feeder = threading.Thread(target=self._feed, name="tidegate-feeder", daemon=True)
        self._feeder.start()

    def _run_loop(self) -> None:
        self._loop_thread = threading.get_ident()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _feed(self) -> None:
        while True:
            try:
                works = self._dispatcher.take(_MOST_AT_ONCE)
            except _core.TidegateError:
                return  # whoever waits for the end is told
            if works is None:
                return
            try:
                self._loop.call_soon_threadsafe(self._begin, works)
            except RuntimeError:  # the user's loop was closed
                self._dispatcher.give_back([ticket for ticket, _, _ in works])
                self._dispatcher.end_with("the event loop that runs the handlers was closed")
                return

    def _begin(self, works: list[tuple[int, int, _core.Record]]) -> None:
        loop, tasks = self._loop, self._tasks
        for ticket, _attempts, record in works:
            task = loop.create_task(self._one(ticket, record))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _one(self, ticket: int, record: _core.Record) -> None:
        try:
            await self._handler(record)
        except Exception as error:
            self._failed(ticket, error)
        except asyncio.CancelledError:
            self._dispatcher.give_back([ticket])
            raise
        except BaseException as error:
            self._broke([ticket], error)
        else:
            # What ends in one turn of the loop is told at once.
            if not self._done:
                self._loop.call_soon(self._settle)
            self._done.append(ticket)

    def _settle(self) -> None:
        done, self._done = self._done, []
        self._dispatcher.settle(done)

    def refuse_to_wait(self) -> None:
        """The loop cannot both wait for its handlers and run them."""
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError("stop() would stop the event loop that runs the handlers; use `await processing.aclose()` there")

    def runs_in(self, thread_id: int) -> bool:
        return thread_id == self._loop_thread

    def end(self, is_drained: bool) -> None:
        if not is_drained:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel)
        if self._own_loop:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.stop)
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(_LOOP_END_S)

    def _cancel(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()


def is_coroutine_function(handler: Callable[..., Any]) -> bool:
    """True for coroutine functions, also partial ones, and for objects whose class has `async def __call__`."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def _sensible(seconds: object) -> float | None:
    """What a handler said of a Retry-After, if that is a time."""
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e9:
        return float(seconds)
    return None


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise _core.ArgumentError(f"{name}: {value!r} is none of {', '.join(choices)}")


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _core.ArgumentTypeError(f"{name}: {value!r} is no whole number; use 1 or more")
    if not 1 <= value <= 1_000_000_000_000:
        raise _core.ArgumentError(f"{name}: {value} cannot be; use 1 or more")


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _core.ArgumentTypeError(f"{name}: {value!r} is no whole number; use {least} to {most}")
    if not least <= value <= most:
        raise _core.ArgumentError(f"{name}: {value} cannot be; use {least} to {most}")


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _core.ArgumentTypeError(f"{name}: {value!r} is no number of seconds")
    if not 0 <= value < 1e9:
        raise _core.ArgumentError(f"{name}: {value} s cannot be; use seconds of 0 or more")


def _check_kinds(value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in value):
        raise _core.ArgumentTypeError(f"give_up_on: {value!r} is no tuple of exception classes; give (ValueError,), for example")


def _check_topic(value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise _core.ArgumentTypeError(f"dead_letter_topic: {value!r} is no topic; give its name, or None")
