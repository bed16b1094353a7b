"""Plain functions as handlers: on threads of their own, for `tidegate.processing`.

A thread whose function is quick takes many records at once, so that handing over costs little. Nothing waits behind one that
hangs: the others take over what it has not begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tidegate import _core
from tidegate._handlers import MOST_AT_ONCE, CancelledInsideError, Handlers, OwnerOfHandlers, Work, attempt, unawaited
from tidegate._logging import describe

__all__ = ["OnThreads"]

_TURN_S = 0.0002
"""A handler that is quicker than this gets many records at a time, so that hand-over costs little; a slow one gets one."""
_LOOK_S = 0.25
"""A thread that has nothing to do looks so often whether another hangs with records in its hand."""


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
        *,
        cost: Callable[[Any], float] | None = None,
        is_batched: bool = False,
        makes_outputs: bool = False,
    ) -> None:
        super().__init__(owner, dispatcher, handler, give_up_on, cost, is_batched, makes_outputs)
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
                if self._cost is not None:
                    works = self.priced(works)
                if self._is_batched:
                    self._handle_together(works)
                    continue
                began = time.perf_counter()
                mine.works.extend(works)
                self._handle(mine)
            except _core.TidegateError:
                return  # whoever waits for the end is told, and a forked child is nobody's
            # A slow one is remembered for a while: few should wait behind the next.
            slowest = max(slowest / 2, (time.perf_counter() - began) / max(len(works), 1))
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
                if returned is not None and unawaited(returned):
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

    def _handle_together(self, works: list[Work]) -> None:
        """Handles the records of one batch with one call."""
        if not works:
            return
        tickets = [ticket for ticket, _, _ in works]
        token = attempt.set(max(attempts for _, attempts, _ in works) + 1)
        try:
            returned = self._handler([record for _, _, record in works])
            if returned is not None and unawaited(returned):
                self.misused(tickets, returned)
                return
        except Exception as error:
            if self.is_in_child:
                raise
            self.failed_together(works, error)
        except asyncio.CancelledError as error:
            self.failed_together(works, CancelledInsideError(describe(error)))
        except BaseException as error:
            self.broke(tickets, error)
        else:
            self._dispatcher.settle(tickets)
        finally:
            attempt.reset(token)

    def _again(self, record: Any, attempts: int) -> Any:
        token = attempt.set(attempts + 1)
        try:
            return self._handler(record)
        finally:
            attempt.reset(token)

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
