"""Runs handlers for `tidegate.processing`: plain functions on threads, coroutine functions on an event loop.

What a handler's end means is said once, in `Handlers`: it returned, it raised an Exception (a failed attempt), or it did what no
handler may (a BaseException, a coroutine nobody awaits), which ends the processing and leaves the record unfinished, because
to count it as done or as failed would lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from tidegate import _core
from tidegate._logging import Logger, describe

__all__ = ["Handlers", "OnLoop", "OnThreads", "Retry", "Undecodable", "current_attempt", "is_coroutine_function", "name_of"]

_log = Logger("tidegate.processing")

MOST_AT_ONCE = 256
_TURN_S = 0.0002
"""A handler that is quicker than this gets many records at a time, so that hand-over costs little; a slow one gets one."""
_LOOK_S = 0.25
"""A thread that has nothing to do looks so often whether another hangs with records in its hand."""
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
        makes_outputs: bool = False,
    ) -> None:
        self._makes_outputs = makes_outputs
        self._owner = owner
        self._dispatcher = dispatcher
        self._handler = handler
        self._give_up_on = give_up_on
        self._pid = os.getpid()

    def failed(self, work: Work, error: Exception) -> None:
        """An attempt has failed."""
        ticket, attempts, record = work
        after = error.after if isinstance(error, Retry) else None
        is_retriable = not isinstance(error, (Undecodable, *self._give_up_on))
        self._owner.attempt_failed(record, error, attempts + 1, is_retriable)
        told = error.original if isinstance(error, Undecodable) else error
        text = str(told) or type(told).__name__
        self._dispatcher.fail(ticket, type(told).__qualname__, text, is_retriable, sensible_seconds(after))

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
        # In this order: a record that is given back frees its key, and the next one must not come before it.
        self._owner.broken_by(error)
        self._dispatcher.give_back(tickets)

    def misused(self, tickets: list[int], returned: Any) -> None:
        """The handler returned something that means its work was not done: every record would be lost so."""
        what = _unawaited(returned)
        self._dispatcher.end_with(
            f"the handler {name_of(self._handler)} returned {what} that nobody runs, so nothing was done; "
            "give process() the coroutine function itself, and await in it what it calls"
        )
        self._dispatcher.give_back(tickets)

    @property
    def is_in_child(self) -> bool:
        """True in a process that a handler has forked: it owns none of these records, and ends what it is without a word."""
        return os.getpid() != self._pid


def _tickets(hand: _Hand) -> list[int]:
    """Of the records that nobody has begun; the hand is empty after that."""
    tickets: list[int] = []
    with contextlib.suppress(IndexError):
        while True:
            tickets.append(hand.works.popleft()[0])
    return tickets


class _Hand:
    """What a thread has taken. Others take from it too, and settle what is done: nothing waits behind a handler that hangs.

    A deque's single steps are atomic: each record is popped, and each answer settled, by one thread.
    """

    __slots__ = ("done", "works")

    def __init__(self) -> None:
        self.works: deque[Work] = deque()
        self.done: deque[Any] = deque()


class OnThreads(Handlers):
    """Plain functions, on threads of their own."""

    def __init__(
        self,
        owner: OwnerOfHandlers,
        dispatcher: _core._Dispatcher,
        handler: Callable[[Any], Any],
        give_up_on: tuple[type[Exception], ...],
        count: int,
        most_at_once: int = MOST_AT_ONCE,
        makes_outputs: bool = False,
    ) -> None:
        super().__init__(owner, dispatcher, handler, give_up_on, makes_outputs)
        self._most_at_once = most_at_once
        self._hands = [_Hand() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._run, args=(hand,), name=f"tidegate-handler-{number}", daemon=True)
            for number, hand in enumerate(self._hands)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, mine: _Hand) -> None:
        most, slowest = 1, 0.0
        # Hands of one record hold nobody up.
        look_s = _LOOK_S if self._most_at_once > 1 else None
        while True:
            try:
                works = self._dispatcher.take(most, look_s)
                if works is None:
                    self._leave()
                    return
                if not works:
                    self._help()
                    continue
                began = time.perf_counter()
                mine.works.extend(works)
                self._handle(mine)
            except _core.TidegateError:
                return  # whoever waits for the end is told, and a forked child is nobody's
            # A slow one is remembered for a while: few should wait behind the next.
            slowest = max(slowest / 2, (time.perf_counter() - began) / len(works))
            most = min(max(int(_TURN_S / slowest), 1), self._most_at_once)

    def _help(self) -> None:
        """There is nothing to take: what other threads have not come to, and not told yet."""
        for hand in self._hands:
            if hand.works or hand.done:
                self._handle(hand)

    def _leave(self) -> None:
        """It is over: what nobody has begun comes again, what is done is told."""
        for hand in self._hands:
            self._dispatcher.give_back(_tickets(hand))
            self._settle(hand)

    def _settle(self, hand: _Hand) -> None:
        done: list[Any] = []
        with contextlib.suppress(IndexError):
            while True:
                done.append(hand.done.popleft())
        self.tell(done)

    def _handle(self, hand: _Hand) -> None:
        """Handles what is in a hand until it is empty; any number of threads at once."""
        handler, take, done = self._handler, hand.works.popleft, hand.done.append
        makes_outputs = self._makes_outputs
        answer: Any
        while True:
            try:
                work = take()
            except IndexError:
                break
            ticket, attempts, record = work
            try:
                # A first attempt has nothing to set.
                returned = handler(record) if not attempts else self._again(record, attempts)
                if returned is not None and _unawaited(returned):
                    self._settle(hand)
                    self.misused([ticket, *_tickets(hand)], returned)
                    return
                answer = self.answer(ticket, returned) if makes_outputs else ticket
            except Exception as error:
                if self.is_in_child:
                    raise
                self.failed(work, error)
            except asyncio.CancelledError as error:
                # Of a future that somebody cancelled: this thread is no task.
                self.failed(work, CancelledInsideError(describe(error)))
            except BaseException as error:
                self._settle(hand)
                self.broke([ticket, *_tickets(hand)], error)
                return
            else:
                done(answer)
        self._settle(hand)

    def _again(self, record: Any, attempts: int) -> Any:
        token = _attempt.set(attempts + 1)
        try:
            return self._handler(record)
        finally:
            _attempt.reset(token)

    def refuse_to_wait(self) -> None:
        """A handler may not wait for itself."""
        if threading.current_thread() in self._threads:
            raise RuntimeError("a handler cannot stop the processing that runs it and wait for that; do it in another thread")

    def runs_in(self, thread_id: int) -> bool:
        """True in a thread of a handler."""
        return any(thread.ident == thread_id for thread in self._threads)

    def end(self, is_drained: bool) -> None:
        """Join the threads; one whose handler does not return keeps it."""
        if is_drained:
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join()


class OnLoop(Handlers):
    """Coroutine functions, on an event loop. A thread takes records from the dispatcher and begins their tasks on the loop."""

    def __init__(
        self,
        owner: OwnerOfHandlers,
        dispatcher: _core._Dispatcher,
        handler: Callable[[Any], Coroutine[Any, Any, Any]],
        give_up_on: tuple[type[Exception], ...],
        loop: asyncio.AbstractEventLoop | None,
        makes_outputs: bool = False,
    ) -> None:
        super().__init__(owner, dispatcher, handler, give_up_on, makes_outputs)
        self._own_loop = loop is None
        self._loop = asyncio.new_event_loop() if loop is None else loop
        self._loop_thread = threading.get_ident()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._done: list[Any] = []
        self._is_ending = False
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
            close_event_loop(self._loop)

    def _feed(self) -> None:
        while True:
            try:
                works = self._dispatcher.take(MOST_AT_ONCE)
            except _core.TidegateError:
                return  # whoever waits for the end is told
            if works is None:
                return
            try:
                self._loop.call_soon_threadsafe(self._begin, works)
            except RuntimeError:  # the user's loop was closed
                self._dispatcher.end_with("the event loop that runs the handlers was closed")
                self._dispatcher.give_back([ticket for ticket, _, _ in works])
                return

    def _begin(self, works: list[Work]) -> None:
        loop, tasks = self._loop, self._tasks
        for work in works:
            tasks[work[0]] = loop.create_task(self._one(work))

    async def _one(self, work: Work) -> None:
        ticket, attempts, record = work
        if attempts:
            _attempt.set(attempts + 1)  # in this task's own context
        try:
            returned = await self._handler(record)
            if returned is not None and _unawaited(returned):
                self.misused([ticket], returned)
                return
            answer: Any = self.answer(ticket, returned) if self._makes_outputs else ticket
        except Exception as error:
            if not self.is_in_child:
                self.failed(work, error)
        except asyncio.CancelledError as error:
            self._cancelled(work, error)
        except BaseException as error:
            self.broke([ticket], error)
        else:
            # What ends in one turn of the loop is told at once.
            if not self._done:
                self._loop.call_soon(self._settle)
            self._done.append(answer)
        finally:
            self._tasks.pop(ticket, None)

    def _cancelled(self, work: Work, error: BaseException) -> None:
        """Either the handler's task was cancelled, or something that it awaited was."""
        if self._is_ending or self._dispatcher.is_stopping:
            self._dispatcher.give_back([work[0]])
            return
        task = asyncio.current_task()
        # Before Python 3.11 the two cannot be told apart: the record is left unfinished, which loses nothing.
        was_cancelled = getattr(task, "cancelling", lambda: 1)()
        if was_cancelled:
            self._dispatcher.end_with(f"a task of the handler {name_of(self._handler)} was cancelled by somebody else")
            self._dispatcher.give_back([work[0]])
        else:
            self.failed(work, CancelledInsideError(describe(error)))

    def _settle(self) -> None:
        done, self._done = self._done, []
        with contextlib.suppress(_core.ForkedError):
            self.tell(done)

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

    def _cancel(self) -> None:
        for task in tuple(self._tasks.values()):
            task.cancel()


class CancelledInsideError(Exception):
    """Something that the handler awaited was cancelled, the handler was not: a failed attempt."""


_attempt: contextvars.ContextVar[int] = contextvars.ContextVar("tidegate_attempt", default=1)


def current_attempt() -> int:
    """In a handler: which attempt at its record this is; the first is 1."""
    return _attempt.get()


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


def name_of(handler: object) -> str:
    """What the user calls it."""
    function = getattr(handler, "func", handler)  # of a functools.partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?')}.{name}"


def _unawaited(returned: Any) -> str:
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
