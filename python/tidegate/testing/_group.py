"""The simulated broker's side: logs, committed offsets, and who has which partition.

A rebalance goes as a real one: members that are to give up partitions begin nothing more of them, let handlers finish within the
drain time, commit, and only then somebody else begins where the group stands.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from tidegate import _core
from tidegate.processing import ProcessingOptions
from tidegate.testing._clock import VirtualLoop
from tidegate.testing._member import LogRecord, Member
from tidegate.testing._result import Completion, DeadLetter, Result

__all__ = ["Group"]

Commit = tuple[int, "str | None"]
"""An offset and its metadata."""


class Group:
    """See the module. Everything runs in the loop's thread."""

    def __init__(
        self,
        loop: VirtualLoop,
        chance: Random,
        handler: Callable[[Any], Any],
        options: ProcessingOptions,
        *,
        topic: str,
        partitions: int,
        seed: int,
        cooperative: bool,
        commit_s: float,
        drain_s: float,
        session_s: float,
        restart_s: float | None,
        on_change: Callable[[], None],
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._chance = chance
        self._handler = handler
        self._options = options
        self._topic = topic
        self._seed = seed
        self._cooperative = cooperative
        self._commit_s = commit_s
        self._drain_s = drain_s
        self._session_s = session_s
        self._restart_s = restart_s
        self._on_change = on_change
        self._on_broken = on_broken
        self.has_begun = False
        self._logs: dict[int, list[LogRecord]] = {number: [] for number in range(partitions)}
        self._committed: dict[int, Commit] = {}
        self._members: list[Member] = []
        self._every: list[Member] = []
        self._leaving: set[Member] = set()
        self._waiting = 0
        self._rebalances_under_way = 0
        self._turn = asyncio.Lock()
        self._drained: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._commit_timers: dict[Member, asyncio.TimerHandle] = {}
        self._outages: Counter[str] = Counter()
        self._completions: list[Completion] = []
        self._given_up: set[tuple[int, int]] = set()
        self._failed_attempts = 0
        self._crashes = 0
        self._rebalances = 0
        self._trace: list[str] = []

    # -- what the simulation asks for ------------------------------------------------------------------------------------

    def begin(self, members: int) -> None:
        """The first members join together."""
        self.has_begun = True
        try:
            for _ in range(members):
                self._new_member()
        except Exception as error:
            self._on_broken(error)
        self.begin_rebalance()

    def append(self, partition: int, record: LogRecord) -> None:
        """There is a further record."""
        self._logs[partition].append(record)
        for member in self._members:
            member.append(partition, record)

    def schedule(self, when: float, function: Callable[[], Any]) -> None:
        """Call it then; until it has been called nothing is done."""
        self._waiting += 1

        def call() -> None:
            self._waiting -= 1
            try:
                function()
            except Exception as error:
                self._on_broken(error)
            self._on_change()

        self._loop.call_at(when, call)

    def join(self) -> None:
        """One more."""
        self._new_member()
        self.begin_rebalance()

    def leave(self, number: int | None) -> None:
        """One less, in good order."""
        member = self._pick(number)
        self._leaving.add(member)
        self._say(f"member {member.number} is stopped")
        self.begin_rebalance()

    def crash(self, number: int | None, restart_s: float | None) -> None:
        """One dies."""
        member = self._pick(number)
        self._crashes += 1
        held = len(member.running())
        self._say(f"member {member.number} crashes with {held} records in flight")
        self._remove(member)
        self._loop.call_later(self._session_s, self._notice)
        if restart_s is not None:
            self._loop.call_later(restart_s, self.join)

    def _notice(self) -> None:
        """The session of one that crashed is over. Somebody who joined may have what it had."""
        if len({number for member in self._members for number in member.assigned}) < len(self._logs):
            self.begin_rebalance()

    def lose(self, number: int | None) -> None:
        """One is taken for dead."""
        member = self._pick(number)
        self._say(f"member {member.number} loses its partitions with {len(member.running())} records in flight")
        member.lose()
        self.begin_rebalance()

    def commit_outage(self, seconds: float, answers_only: bool) -> None:
        """No commit for a while, or none that is answered."""
        self._begin_outage("answers" if answers_only else "commits", seconds)

    def dead_letter_outage(self, seconds: float) -> None:
        """No dead letters for a while."""
        self._begin_outage("letters", seconds)

    def _begin_outage(self, what: str, seconds: float) -> None:
        self._outages[what] += 1
        self._waiting += 1
        names = {"answers": "answers to commits", "commits": "commits", "letters": "dead letters"}
        self._say(f"no {names[what]} for {seconds} s")
        self._set_outages()
        self._loop.call_later(seconds, self._end_outage, what)

    def _end_outage(self, what: str) -> None:
        self._waiting -= 1
        self._outages[what] -= 1
        self._set_outages()
        for member in tuple(self._members):
            member.sync()
            self.settled(member)
            member.wake()

    def _set_outages(self) -> None:
        for member in self._members:
            member.engine.set_commit_outage(self._outages["commits"] > 0)
            member.engine.set_answers_lost(self._outages["answers"] > 0)
            member.engine.hold_dead_letters(self._outages["letters"] > 0)

    def is_done(self) -> bool:
        """True when nothing is to happen any more, and everything is finished and committed."""
        if self._waiting or self._rebalances_under_way or not self.has_begun:
            return False
        return all(self._committed.get(number, (0, None))[0] >= len(log) for number, log in self._logs.items())

    def whats_left(self) -> str:
        """For the text of an error."""
        behind = {
            number: f"{self._committed.get(number, (0, None))[0]} of {len(log)}"
            for number, log in self._logs.items()
            if self._committed.get(number, (0, None))[0] < len(log)
        }
        running = [
            f"partition {record.partition} offset {record.offset}" for member in self._members for record in member.running()
        ]
        shown = ", ".join(running[:5]) + (" ..." if len(running) > 5 else "")
        ledgers = "; ".join(f"member {member.number}: {_counts(member.engine.ledger())}" for member in self._members)
        return (
            f"committed by partition {behind or 'everything'}, with handlers: {shown or 'nothing'}, "
            f"{ledgers or 'no member lives'}, {self._waiting} actions and {self._rebalances_under_way} rebalances to come"
        )

    def end(self) -> None:
        """Nothing goes on."""
        for member in tuple(self._members):
            self._remove(member)

    def result(self) -> Result:
        """What has happened."""
        total: Counter[str] = Counter()
        letters: dict[tuple[int, int], DeadLetter] = {}
        begun: set[tuple[int, int]] = set()
        for member in self._every:
            total.update(member.engine.ledger())
            begun.update(member.engine.letters_begun())
            for letter in member.engine.dead_letters():
                letters[letter[:2]] = DeadLetter(*letter)
        mapped: set[tuple[int, int]] = set()
        for number, (offset, metadata) in self._committed.items():
            base, _, ranges = _core._offset_map(metadata) if metadata else (offset, None, [])
            mapped.update((number, done) for first, end in ranges for done in range(first, end) if base == offset)
        return Result(
            seed=self._seed,
            time=self._loop.time(),
            order=self._options["order"],
            parks_retries=self._options["park_retries"],
            completions=tuple(self._completions),
            dead_letters=tuple(letters.values()),
            letters_begun=frozenset(begun),
            given_up=frozenset(self._given_up),
            failed_attempts=self._failed_attempts,
            ledger=dict(total),
            committed={number: self._committed.get(number, (0, None))[0] for number in self._logs},
            mapped=frozenset(mapped),
            ends={number: len(log) for number, log in self._logs.items()},
            crashes=self._crashes,
            rebalances=self._rebalances,
            most_in_flight=max((member.most_in_flight for member in self._every), default=0),
            maps_left_out=sum(member.engine.maps_left_out for member in self._every),
            trace=tuple(self._trace),
        )

    # -- members ---------------------------------------------------------------------------------------------------------

    def _new_member(self) -> None:
        member = Member(len(self._every), self, self._loop, self._handler, self._options, self._topic)
        for number, log in self._logs.items():
            for record in log:
                member.append(number, record)
        self._every.append(member)
        self._members.append(member)
        self._set_outages()
        self._say(f"member {member.number} joins")

    def _remove(self, member: Member) -> None:
        member.kill()
        self._members.remove(member)
        self._leaving.discard(member)
        if (timer := self._commit_timers.pop(member, None)) is not None:
            timer.cancel()
        self._look_at_drain()

    def _pick(self, number: int | None) -> Member:
        if not self._members:
            raise _core.ArgumentError("member: none lives; let one join first")
        if number is None:
            return self._chance.choice(self._members)
        for member in self._members:
            if member.number == number:
                return member
        alive = ", ".join(str(member.number) for member in self._members)
        raise _core.ArgumentError(f"member: there is no member {number}; there are {alive}")

    def _say(self, text: str) -> None:
        self._trace.append(f"{self._loop.time():10.3f} s  {text}")

    # -- rebalances ------------------------------------------------------------------------------------------------------

    def begin_rebalance(self) -> None:
        """Deal the partitions out, when those before are through with it."""
        self._rebalances_under_way += 1
        task = self._loop.create_task(self._rebalance())
        self._tasks.add(task)
        task.add_done_callback(self._rebalanced)

    def _rebalanced(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._rebalances_under_way -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_broken(error)
        self._on_change()

    async def _rebalance(self) -> None:
        async with self._turn:
            self._rebalances += 1
            staying = [member for member in self._members if member not in self._leaving]
            wanted = self._deal(staying)
            taken = {
                member: {number for number in member.assigned if wanted.get(number) is not member or not self._cooperative}
                for member in self._members
            }
            for member, numbers in taken.items():
                member.begin_revoke(numbers)
            await self._drain(taken)
            for member, numbers in taken.items():
                if member.is_alive:
                    # What the group has taken from it meanwhile is not its to commit.
                    left = numbers & member.assigned
                    member.end_revoke(left)
                    self._keep_commits(member, left)
            for member in [member for member in self._members if member in self._leaving]:
                self._remove(member)
            # Somebody may have died meanwhile: then those who are left get less until the group notices.
            for member in staying:
                free = {number for number, owner in wanted.items() if owner is member} - member.assigned
                if member.is_alive and free:
                    self._give(member, free)
            has = {member.number: sorted(member.assigned) for member in self._members}
            self._say(f"rebalance {self._rebalances}: {has}")

    def _deal(self, members: list[Member]) -> dict[int, Member]:
        """Who is to have which; nobody keeps what is better dealt evenly."""
        if not members:
            return {}
        order = list(self._logs)
        self._chance.shuffle(order)
        wanted: dict[int, Member] = {}
        most = -(-len(order) // len(members))
        if self._cooperative:
            for member in members:
                wanted.update(dict.fromkeys(sorted(member.assigned)[:most], member))
        count = Counter(wanted.values())
        for number in order:
            if number not in wanted:
                member = min(members, key=lambda member: (count[member], member.number))
                wanted[number] = member
                count[member] += 1
        return wanted

    async def _drain(self, taken: dict[Member, set[int]]) -> None:
        """Until handlers have nothing of these partitions, or the time is over."""
        deadline = self._loop.time() + self._drain_s
        while (left := deadline - self._loop.time()) > 0:
            if all(not member.is_alive or member.is_drained(numbers) for member, numbers in taken.items()):
                return
            self._drained = self._loop.create_future()
            await asyncio.wait([self._drained], timeout=left)

    def _look_at_drain(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _give(self, member: Member, numbers: set[int]) -> None:
        for number in numbers:
            if number in self._committed:
                member.engine.set_committed(number, *self._committed[number])
        member.assign(numbers)

    # -- commits ---------------------------------------------------------------------------------------------------------

    def _keep_commits(self, member: Member, numbers: set[int]) -> None:
        """What the broker has of these partitions, of a member that has them; answered or not."""
        for number in numbers:
            if (commit := member.engine.committed(number)) is not None:
                self._committed[number] = commit

    def _commit(self, member: Member) -> None:
        self._commit_timers.pop(member, None)
        try:
            member.sync()
            if not member.is_alive:
                return
            ledger = member.engine.ledger()
            if ledger["missing"]:
                raise AssertionError(f"member {member.number}: {ledger['missing']} records are in no state: {ledger}")
            if not member.engine.commit():
                self.settled(member)
            self._keep_commits(member, member.assigned)
            member.wake()
            self._on_change()
        except Exception as error:
            self._on_broken(error)

    # -- what members tell -----------------------------------------------------------------------------------------------

    def handled(self, member: Member, record: Any, attempt: int) -> None:
        """A handler has returned."""
        self._completions.append(Completion(self._loop.time(), member.number, record.partition, record.offset, record.key, attempt))

    def attempt_failed(self, member: Member) -> None:
        """A handler has raised, or took too long."""
        self._failed_attempts += 1

    def given_up(self, partition: int, offset: int) -> None:
        """A record is skipped."""
        self._given_up.add((partition, offset))

    def settled(self, member: Member) -> None:
        """There may be something to commit: the timer runs, unless it does."""
        if member.is_alive and member not in self._commit_timers:
            self._commit_timers[member] = self._loop.call_later(self._commit_s, self._commit, member)
        self._look_at_drain()

    def ended(self, member: Member, text: str) -> None:
        """Its engine has ended the processing: it commits what is done and leaves."""
        if not member.is_alive:
            return
        self._say(f"member {member.number} ends: {text}")
        member.engine.stop()
        member.engine.commit()
        self._keep_commits(member, member.assigned)
        self._remove(member)
        if self._restart_s is None:
            self._on_broken(_core.ListenerError(text))
            return
        self.begin_rebalance()
        self._loop.call_later(self._restart_s, self.join)

    def broken(self, error: BaseException) -> None:
        """A handler raised what is no Exception, or the simulation is wrong."""
        self._on_broken(error)


def _counts(ledger: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in ledger.items() if count)
