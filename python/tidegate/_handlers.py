"""Runs handlers for `tidegate.processing`: coroutine functions on an event loop here, plain functions on threads in `_on_threads`.

What a handler's end means is said once, in `Handlers`: it returned, it raised an Exception (a failed attempt), or it did what no
handler may (a BaseException, a coroutine nobody awaits), which ends the processing and leaves the record unfinished, because
to count it as done or as failed would lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import math
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from tidegate import _core
from tidegate._logging import Logger, describe

__all__ = ["BatchError", "Handlers", "OnLoop", "Retry", "Tasks", "Undecodable", "current_attempt", "is_coroutine_function"]

_log = Logger("tidegate.processing")

MOST_AT_ONCE = 256
_LOOP_END_S = 5.0
_LEFT_BEHIND_S = 1.0

BLOCKED_S = 1.0
"""An event loop that has handlers and does not turn for so long is blocked by one of them."""

Work = tuple[int, int, Any]
"""A ticket, how often the record was tried before, the record."""


class Retry(Exception):
    """Raised by a handler: call me again for this record, not before `after` seconds (a server's Retry-After).

    It counts as an attempt: with `max_attempts=1` there is no other.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class BatchError(Exception):
    """Raised by a handler of batches: these of its records have failed, the others are done.

        >>> raise BatchError({2: ValueError("no such camera"), 5: Retry("busy", after=2.0)})

    Args:
        failures: for the place of each failed record in the list (from 0) the exception that it failed with.

    Any other exception fails all records of the batch. One that names a place outside of the batch does, too.

    Raises:
        TypeError: `failures` is no mapping of places to exceptions, or an empty one.
    """

    def __init__(self, failures: Mapping[int, Exception]) -> None:
        given: Any = failures
        is_one = isinstance(given, Mapping) and len(given) > 0
        if not is_one or not all(type(row) is int and isinstance(error, Exception) for row, error in given.items()):
            raise TypeError(f"failures: {given!r} does not say which places failed with what; give {{0: ValueError(...)}}")
        super().__init__(", ".join(f"record {row}: {describe(error)}" for row, error in failures.items()))
        self.failures: dict[int, Exception] = dict(failures)


class CostError(Exception):
    """What a record costs cannot be told: `cost` gave something that is no cost. Another attempt is pointless."""


class Undecodable(Exception):
    """Raised by the package's own handlers: what the record holds cannot be decoded, now or later."""

    def __init__(self, original: Exception) -> None:
        super().__init__(str(original))
        self.original = original


class OwnerOfHandlers(Protocol):
    """Who is told what concerns the whole processing. Called on any thread."""

    def broken_by(self, error: BaseException) -> None:
        """A handler raised something that is no Exception."""

    def attempt_failed(self, record: Any, error: Exception, attempt: int, is_retriable: bool) -> None:
        """A handler raised; `attempt` counts from 1. Before the dispatcher hears of it."""


class Handlers:
    """What both kinds share: what a return and an exception mean."""

    def __init__(
        self,
        owner: OwnerOfHandlers,
        dispatcher: _core._Dispatcher,
        handler: Callable[[Any], Any],
        give_up_on: tuple[type[Exception], ...],
        cost: Callable[[Any], float] | None = None,
        is_batched: bool = False,
        makes_outputs: bool = False,
    ) -> None:
        self._makes_outputs = makes_outputs
        self._owner = owner
        self._dispatcher = dispatcher
        self._handler = handler
        self._give_up_on = give_up_on
        self._cost = cost
        self._is_batched = is_batched
        self._pid = os.getpid()

    def failed(self, work: Work, error: Exception) -> None:
        """An attempt has failed."""
        ticket, attempts, record = work
        after = error.after if isinstance(error, Retry) else None
        is_retriable = not isinstance(error, (Undecodable, CostError, *self._give_up_on))
        self._owner.attempt_failed(record, error, attempts + 1, is_retriable)
        told = error.original if isinstance(error, Undecodable) else error
        self._dispatcher.fail(ticket, type(told).__qualname__, text_of(told), is_retriable, sensible_seconds(after))

    def failed_together(self, works: list[Work], error: Exception) -> None:
        """An attempt at a batch has failed: at all of its records, or at those that the handler names."""
        failures: dict[int, Exception] = error.failures if isinstance(error, BatchError) else {}
        if not failures or not all(0 <= row < len(works) for row in failures):
            failures = dict.fromkeys(range(len(works)), error)
        for row, work in enumerate(works):
            if row in failures:
                self.failed(work, failures[row])
        self._dispatcher.settle([ticket for row, (ticket, _, _) in enumerate(works) if row not in failures])

    def priced(self, works: list[Work]) -> list[Work]:
        """Tells what each of these costs, before its handler begins; those of which that cannot be told have failed and go."""
        kept: list[Work] = []
        assert self._cost is not None
        for row, work in enumerate(works):
            try:
                cost: Any = self._cost(work[2])
                if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not 0 <= cost < math.inf:
                    raise CostError(f"{name_of(self._cost)} gave {cost!r} as what a record costs; give a number of 0 or more")
            except Exception as error:
                if self.is_in_child:
                    raise
                self.failed(work, error)
            except BaseException as error:
                self.broke([ticket for ticket, _, _ in [*kept, *works[row:]]], error)
                return []
            else:
                self._dispatcher.charge(work[0], float(cost))
                kept.append(work)
        return kept

    def tell(self, done: list[Any]) -> None:
        """These records are handled; each is what `answer` gave, or a ticket where no outputs are wanted."""
        if self._makes_outputs:
            self._dispatcher.produce(done)
        else:
            self._dispatcher.settle(done)

    def answer(self, ticket: int, returned: Any) -> tuple[int, _core._Outputs]:
        """A ticket and what the handler made of its record.

        Raises:
            Undecodable: it is nothing that can be sent, now or later.
        """
        try:
            return ticket, _core._Outputs(returned)
        except _core.TidegateError as error:
            raise Undecodable(error) from None

    def broke(self, tickets: list[int], error: BaseException) -> None:
        """The processing cannot go on; these records are unfinished."""
        # In this order: whoever waits hears of the error and not of records that were given back.
        self._owner.broken_by(error)
        self._dispatcher.give_back(tickets)

    def misused(self, tickets: list[int], returned: Any) -> None:
        """The handler returned something that means its work was not done: every record would be lost so."""
        what = unawaited(returned)
        self._dispatcher.end_with(
            f"the handler {name_of(self._handler)} returned {what} that nobody runs, so nothing was done; "
            "give process() the coroutine function itself, and await in it what it calls"
        )
        self._dispatcher.give_back(tickets)

    @property
    def is_in_child(self) -> bool:
        """True in a process that a handler has forked: it owns none of these records, and ends what it is without a word."""
        return os.getpid() != self._pid


class Tasks(Handlers):
    """Coroutine functions, one task for each record or batch, on an event loop that somebody else runs."""

    def __init__(
        self,
        owner: OwnerOfHandlers,
        dispatcher: _core._Dispatcher,
        handler: Callable[[Any], Coroutine[Any, Any, Any]],
        give_up_on: tuple[type[Exception], ...],
        loop: asyncio.AbstractEventLoop,
        *,
        cost: Callable[[Any], float] | None = None,
        is_batched: bool = False,
        makes_outputs: bool = False,
    ) -> None:
        super().__init__(owner, dispatcher, handler, give_up_on, cost, is_batched, makes_outputs)
        self._loop = loop
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._done: list[Any] = []
        self._is_ending = False

    def begin(self, works: list[Work]) -> None:
        """Begin their tasks; in the loop's thread. With batches: of one batch."""
        loop, tasks = self._loop, self._tasks
        if self._is_batched:
            if works:
                tasks[works[0][0]] = loop.create_task(self._together(works))
            return
        for work in works:
            tasks[work[0]] = loop.create_task(self._one(work))

    async def _one(self, work: Work) -> None:
        ticket, attempts, record = work
        if attempts:
            attempt.set(attempts + 1)  # in this task's own context
        try:
            returned = await self._handler(record)
            if returned is not None and unawaited(returned):
                self.misused([ticket], returned)
                return
            answer: Any = self.answer(ticket, returned) if self._makes_outputs else ticket
        except Exception as error:
            if not self.is_in_child:
                self.failed(work, error)
        except asyncio.CancelledError as error:
            self._cancelled([work], error)
        except BaseException as error:
            self.broke([ticket], error)
        else:
            # What ends in one turn of the loop is told at once.
            if not self._done:
                self._loop.call_soon(self._settle)
            self._done.append(answer)
        finally:
            self._tasks.pop(ticket, None)

    async def _together(self, works: list[Work]) -> None:
        """One call for all records of a batch."""
        tickets = [ticket for ticket, _, _ in works]
        attempt.set(max(attempts for _, attempts, _ in works) + 1)
        try:
            returned = await self._handler([record for _, _, record in works])
            if returned is not None and unawaited(returned):
                self.misused(tickets, returned)
                return
        except Exception as error:
            if not self.is_in_child:
                self.failed_together(works, error)
        except asyncio.CancelledError as error:
            self._cancelled(works, error)
        except BaseException as error:
            self.broke(tickets, error)
        else:
            self._dispatcher.settle(tickets)
        finally:
            self._tasks.pop(tickets[0], None)

    def _cancelled(self, works: list[Work], error: BaseException) -> None:
        """Either the handler's task was cancelled, or something that it awaited was."""
        tickets = [ticket for ticket, _, _ in works]
        if self._is_ending or self._dispatcher.is_stopping:
            self._dispatcher.give_back(tickets)
            return
        task = asyncio.current_task()
        # Before Python 3.11 the two cannot be told apart: the record is left unfinished, which loses nothing.
        was_cancelled = getattr(task, "cancelling", lambda: 1)()
        if was_cancelled:
            self._dispatcher.end_with(f"a task of the handler {name_of(self._handler)} was cancelled by somebody else")
            self._dispatcher.give_back(tickets)
        else:
            self.failed_together(works, CancelledInsideError(describe(error)))

    def _settle(self) -> None:
        done, self._done = self._done, []
        with contextlib.suppress(_core.ForkedError):
            self.tell(done)

    def _cancel(self) -> None:
        for task in tuple(self._tasks.values()):
            task.cancel()


class OnLoop(Tasks):
    """Coroutine functions, on the user's event loop or one of our own. A thread takes records and begins their tasks there."""

    def __init__(
        self,
        owner: OwnerOfHandlers,
        dispatcher: _core._Dispatcher,
        handler: Callable[[Any], Coroutine[Any, Any, Any]],
        give_up_on: tuple[type[Exception], ...],
        loop: asyncio.AbstractEventLoop | None,
        *,
        cost: Callable[[Any], float] | None = None,
        is_batched: bool = False,
        makes_outputs: bool = False,
    ) -> None:
        self._own_loop = loop is None
        _loops.add(self)
        loop = asyncio.new_event_loop() if loop is None else loop
        super().__init__(
            owner, dispatcher, handler, give_up_on, loop, cost=cost, is_batched=is_batched, makes_outputs=makes_outputs
        )
        self._loop_thread = threading.get_ident()
        # What a record costs is told before the next is taken, and a batch is taken as one: those are the feeder's.
        self._feeds_itself = cost is None and not is_batched and not makes_outputs
        self._thread: threading.Thread | None = None
        if self._own_loop:
            self._thread = threading.Thread(target=self._run_loop, name="tidegate-loop", daemon=True)
            self._thread.start()
        self._feeder = threading.Thread(target=self._feed, name="tidegate-feeder", daemon=True)
        self._feeder.start()
        self._watch = threading.Thread(target=self._watch_loop, name="tidegate-watch", daemon=True)
        self._watch.start()

    def _run_loop(self) -> None:
        self._loop_thread = threading.get_ident()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            # A forked child shares the selector with its parent, whose loop would hear of nothing any more.
            if not self.is_in_child:
                close_event_loop(self._loop)

    def _settle(self) -> None:
        if not self._feeds_itself or self._is_ending:
            super()._settle()
            return
        done, self._done = self._done, []
        # In the same turn: the feeder's thread would need the interpreter for it, while this one has it.
        with contextlib.suppress(_core.TidegateError):  # whoever waits for the end is told
            self.begin(self._dispatcher.settle_and_take(done, MOST_AT_ONCE))

    def _feed(self) -> None:
        # What a record costs must be known before the next one is taken.
        most = 1 if self._cost is not None else MOST_AT_ONCE
        while True:
            try:
                works = self._dispatcher.take(most)
            except _core.TidegateError:
                return  # whoever waits for the end is told
            if works is None:
                return
            try:
                if self._cost is not None:
                    works = self.priced(works)
                self._loop.call_soon_threadsafe(self.begin, works)
            except RuntimeError:  # the user's loop was closed
                self._dispatcher.end_with("the event loop that runs the handlers was closed")
                self._dispatcher.give_back([ticket for ticket, _, _ in works])
                return

    def _watch_loop(self) -> None:
        """Say once when a handler keeps the loop from turning: then all others stand still as well."""
        turned = threading.Event()
        ended = _core.TidegateError
        while not self._is_over():
            if not self._tasks:
                with contextlib.suppress(ended):
                    self._dispatcher.wait(BLOCKED_S)
                continue
            turned.clear()
            with contextlib.suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(turned.set)
            if not turned.wait(BLOCKED_S) and not self._is_over():
                where = _where(self._loop_thread)
                _log.warning(
                    f"the event loop has not turned for {BLOCKED_S} s: the handler {name_of(self._handler)} blocks it{where}; "
                    "await there, or use `await asyncio.to_thread(...)`, or give process() a plain function"
                )
                return
            with contextlib.suppress(ended):
                self._dispatcher.wait(BLOCKED_S / 2)

    def _is_over(self) -> bool:
        try:
            return self._is_ending or self._dispatcher.is_stopping
        except _core.TidegateError:
            return True

    def refuse_to_wait(self) -> None:
        """The loop cannot both wait for its handlers and run them."""
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError("stop() would stop the event loop that runs the handlers; use `await processing.aclose()` there")

    def runs_in(self, thread_id: int) -> bool:
        """True in the thread of the event loop."""
        return thread_id == self._loop_thread

    def end(self, is_drained: bool) -> None:
        """Cancel what has not come to its end, and the loop, if it is our own."""
        self._is_ending = True
        if not is_drained:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel)
        if self._own_loop:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.stop)
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(_LOOP_END_S)


_loops: weakref.WeakSet[OnLoop] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """A handler has forked: the other tasks are the parent's, and the child's copy of our loop would run them once more."""
    for handlers in tuple(_loops):
        if handlers._own_loop and threading.get_ident() == handlers._loop_thread:
            handlers._loop.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class CancelledInsideError(Exception):
    """Something that the handler awaited was cancelled, the handler was not: a failed attempt."""


attempt: contextvars.ContextVar[int] = contextvars.ContextVar("tidegate_attempt", default=1)


def current_attempt() -> int:
    """In a handler: which attempt at its record this is; the first is 1. Of a batch: that of its record with the most."""
    return attempt.get()


def close_event_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what the handlers left running, give it a second, and close the loop. In the loop's thread, when it does not run."""
    with contextlib.suppress(Exception):
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_LEFT_BEHIND_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    with contextlib.suppress(Exception):
        loop.close()


def is_coroutine_function(handler: Callable[..., Any]) -> bool:
    """True for coroutine functions, also partial ones, and for objects whose class has `async def __call__`."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def check_handler(handler: object) -> None:
    """Refuses what can be no handler.

    Raises:
        tidegate.ArgumentTypeError: it cannot be called, or calling it would do nothing.
    """
    if not callable(handler):
        raise _core.ArgumentTypeError(f"handler: {handler!r} cannot be called; give a function that takes a Record")
    for function in (handler, type(handler).__call__):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise _core.ArgumentTypeError(
                f"handler: {name_of(handler)} is a generator function, calling it would not run it; take the `yield` out of it"
            )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return  # of a builtin: calling it tells
    try:
        signature.bind(None)
    except TypeError as error:
        raise _core.ArgumentTypeError(
            f"handler: {name_of(handler)}{signature} takes no single argument ({error}); give a function that takes a Record"
        ) from None


def name_of(handler: object) -> str:
    """What the user calls it."""
    function = getattr(handler, "func", handler)  # of a functools.partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?')}.{name}"


def unawaited(returned: Any) -> str:
    """What it is, if it is something that has to be run by somebody, else nothing."""
    if inspect.iscoroutine(returned):
        returned.close()
        return "a coroutine"
    if inspect.isgenerator(returned):
        returned.close()
        return "a generator"
    if inspect.isasyncgen(returned):
        return "an asynchronous generator"
    if inspect.isawaitable(returned) and not (isinstance(returned, asyncio.Future) and returned.done()):
        return f"an awaitable ({type(returned).__qualname__})"
    return ""


def text_of(error: BaseException | str) -> str:
    """What an exception says, whatever its `__str__` does: a record whose failure cannot be told would stay in flight for ever."""
    try:
        text = str(error)
    except Exception as raised:
        text = f"its text cannot be had: {type(raised).__name__}"
    # No header can hold half of a surrogate pair.
    return (text or ("failed" if isinstance(error, str) else type(error).__name__)).encode("utf-8", "backslashreplace").decode()


def _where(thread_id: int) -> str:
    """The innermost line that a thread is in, as far as it can be told."""
    frame = sys._current_frames().get(thread_id)
    if frame is None:
        return ""
    innermost = traceback.extract_stack(frame)[-1]
    return f", in {innermost.name} ({innermost.filename}, line {innermost.lineno})"


def sensible_seconds(seconds: object) -> float | None:
    """What a handler said of a Retry-After, if that is a time."""
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e9:
        return float(seconds)
    return None
