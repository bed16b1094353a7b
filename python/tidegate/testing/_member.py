"""A simulated member of a group: the engine of `process()`, and handlers as tasks of a virtual event loop.

To the handlers' side (`tidegate._handlers.Tasks`, as in production) it is the dispatcher; to the group it is a process that can be
given partitions, lose them and die. One that has died hears nothing more of its handlers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from tidegate import _core
from tidegate._handlers import Tasks
from tidegate.processing import ProcessingOptions, engine_options
from tidegate.testing._clock import VirtualLoop

__all__ = ["LogRecord", "Member", "World"]

_MOST_AT_ONCE = 256
_SKIPPED = re.compile(r"\[(\d+)\] offset (\d+) was not handled and is skipped")
"""The engine's own line: it alone knows which attempt was the last one."""

LogRecord = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int]
"""Key, value, headers and timestamp in ms of a record in a partition's log."""


class World(Protocol):
    """Who is told what a member does."""

    def handled(self, member: Member, record: Any, attempt: int) -> None:
        """A handler has returned."""

    def attempt_failed(self, member: Member) -> None:
        """A handler has raised."""

    def given_up(self, partition: int, offset: int) -> None:
        """A record has failed for good and is skipped."""

    def settled(self, member: Member) -> None:
        """Something has become of a record."""

    def ended(self, member: Member, text: str) -> None:
        """The engine has ended the processing."""

    def broken(self, error: BaseException) -> None:
        """The simulation itself cannot go on."""


class Member:
    """One process. `number` is its own for ever."""

    def __init__(
        self,
        number: int,
        world: World,
        loop: VirtualLoop,
        handler: Callable[[Any], Any],
        options: ProcessingOptions,
        topic: str,
    ) -> None:
        self.number = number
        self.assigned: set[int] = set()
        self.is_alive = True
        self.most_in_flight = 0
        self._world = world
        self._loop = loop
        self._options = options
        letters = options["dead_letter_topic"] is not None
        self.engine = _core._Simulation(topic=topic, dead_letters=letters, **engine_options(options))
        self._now_us = 0
        self._held: dict[int, tuple[Any, int]] = {}
        self._lines = 0
        self._is_pump_due = False
        self._alarm: asyncio.TimerHandle | None = None
        dispatcher: Any = self  # it has what the handlers call
        self._tasks = Tasks(
            self,
            dispatcher,
            handler,
            options["give_up_on"],
            loop,
            cost=options["cost"],
            is_batched=options["batch_size"] > 1,
        )

    # -- for the group ---------------------------------------------------------------------------------------------------

    def append(self, partition: int, record: LogRecord) -> None:
        """There is a further record in a partition's log."""
        key, value, headers, timestamp_ms = record
        self.engine.produce(partition, key, value, headers, timestamp_ms)
        self.wake()

    def assign(self, partitions: Collection[int]) -> None:
        """These are its own now."""
        self.sync()
        self.engine.assign(sorted(partitions))
        self.assigned |= set(partitions)
        self.wake()

    def begin_revoke(self, partitions: Iterable[int]) -> None:
        """These are taken: nothing more of them is begun."""
        self.sync()
        self.engine.begin_revoke(sorted(partitions))

    def is_drained(self, partitions: Iterable[int]) -> bool:
        """True when no handler has anything of these."""
        return self.engine.is_drained(sorted(partitions))

    def end_revoke(self, partitions: Collection[int]) -> None:
        """Commits what is done of these, if the broker answers, and lets go of them."""
        self.sync()
        self.engine.end_revoke(sorted(partitions))
        self.assigned -= set(partitions)
        self.wake()

    def lose(self) -> None:
        """Everything is somebody else's; handlers go on, and what they say is too late."""
        self.sync()
        self.engine.lose(sorted(self.assigned))
        self.assigned.clear()
        self.wake()

    def kill(self) -> None:
        """It is gone. Its handlers are cancelled, and nobody listens to them."""
        self.is_alive = False
        if self._alarm is not None:
            self._alarm.cancel()
        self._tasks._cancel()

    def running(self) -> list[Any]:
        """The records that handlers have."""
        return [record for record, _ in self._held.values()]

    # -- time ------------------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Bring the engine's clock up to the loop's; attempts that are over their time have failed by then."""
        now_us = self._loop.now_us
        if now_us > self._now_us:
            before = self.engine.ledger()["timed_out"]
            self.engine.advance((now_us - self._now_us) / 1e6)
            self._now_us = now_us
            for _ in range(self.engine.ledger()["timed_out"] - before):
                self._world.attempt_failed(self)
            self._note()

    def wake(self) -> None:
        """There may be something to hand out; looked for when the loop turns next."""
        if self.is_alive and not self._is_pump_due:
            self._is_pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_due = False
        if not self.is_alive:
            return
        try:
            self.sync()
            self._hand_out()
            self._set_alarm()
        except Exception as error:  # else the loop would only log it
            self._world.broken(error)

    def _hand_out(self) -> None:
        most = 1 if self._options["cost"] is not None else _MOST_AT_ONCE
        while self.is_alive and (works := self.engine.take(most)):
            for ticket, attempts, record in works:
                self._held[ticket] = (record, attempts + 1)
            ledger = self.engine.ledger()
            self.most_in_flight = max(self.most_in_flight, ledger["in_flight"] + ledger["overdue"])
            if self._options["cost"] is not None:
                works = self._tasks.priced(works)
            self._tasks.begin(works)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = self.engine.next_due() if self.is_alive else None
        if due is None:
            return
        if due <= 0:
            raise AssertionError("the engine says that something is due now, and hands out nothing: whoever waited would spin")
        self._alarm = self._loop.call_later(due, self._pump)

    def _note(self) -> None:
        """What the engine has done by itself."""
        lines = self.engine.lines
        for line in lines[self._lines :]:
            if found := _SKIPPED.search(line):
                self._world.given_up(int(found[1]), int(found[2]))
        self._lines = len(lines)
        failure = self.engine.failure
        if failure is not None and self.is_alive:
            self._world.ended(self, failure)

    def _told(self) -> None:
        self._note()
        if self.is_alive:
            self._world.settled(self)
            self.wake()

    # -- for the handlers: what they use of a dispatcher -----------------------------------------------------------------

    def settle(self, tickets: Iterable[int]) -> None:
        """These are done."""
        tickets = list(tickets)
        if not self.is_alive or not tickets:
            return
        self.sync()
        for ticket in tickets:
            record, attempt = self._held.pop(ticket)
            self._world.handled(self, record, attempt)
        self.engine.settle(tickets)
        self._told()

    def give_back(self, tickets: Iterable[int]) -> None:
        """These are neither done nor failed."""
        tickets = list(tickets)
        if not self.is_alive or not tickets:
            return
        self.sync()
        for ticket in tickets:
            self._held.pop(ticket, None)
        self.engine.give_back(tickets)
        self._told()

    def fail(self, ticket: int, kind: str, text: str, is_retriable: bool, retry_after: float | None = None) -> None:
        """An attempt has failed."""
        if not self.is_alive:
            return
        self.sync()
        self._held.pop(ticket, None)
        self.engine.fail(ticket, kind, text, is_retriable, retry_after)
        self._told()

    def charge(self, ticket: int, cost: float) -> None:
        """What a record costs."""
        self.engine.charge(ticket, cost)

    def end_with(self, text: str) -> None:
        """A handler did what none may."""
        if self.is_alive:
            self.engine.end_with(text)
            self._note()

    @property
    def is_stopping(self) -> bool:
        """True when nothing counts any more."""
        return not self.is_alive

    # -- for the handlers: who owns them ---------------------------------------------------------------------------------

    def broken_by(self, error: BaseException) -> None:
        """A handler raised something that is no Exception: it comes out of `run()`, as out of `Processing.wait()`."""
        self._world.broken(error)

    def attempt_failed(self, record: Any, error: Exception, attempt: int, is_retriable: bool) -> None:
        """A handler raised."""
        if self.is_alive:
            self._world.attempt_failed(self)
