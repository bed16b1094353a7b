"""What a simulation has seen: every end of a handler, what was committed, and whether that is as promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Completion", "DeadLetter", "Result"]

_SHOWN = 5
_TRACE_SHOWN = 20


@dataclass(frozen=True)
class Completion:
    """A handler that has returned."""

    time: float
    """Virtual seconds since the beginning."""
    member: int
    """Which member of the group it was; a restarted one has a new number."""
    partition: int
    offset: int
    key: bytes | None
    attempt: int
    """Of this member at this record; the first is 1."""


@dataclass(frozen=True)
class DeadLetter:
    """A record that failed for good, whose copy the dead-letter topic has."""

    partition: int
    offset: int
    exception: str
    """The exception's name."""
    text: str
    """What it said."""
    attempts: int


@dataclass(frozen=True)
class Result:
    """What has happened until now. The `assert_...` methods raise AssertionError with the seed and the latest events."""

    seed: int
    time: float
    """Virtual seconds since the beginning."""
    order: str
    parks_retries: bool
    completions: tuple[Completion, ...]
    """Every handler that returned, in the order of time."""
    dead_letters: tuple[DeadLetter, ...]
    letters_begun: frozenset[tuple[int, int]]
    """(partition, offset) of what was to go to the dead-letter topic, whether or not it arrived before its member ended."""
    given_up: frozenset[tuple[int, int]]
    """(partition, offset) of what failed for good with `on_failure="skip"`."""
    failed_attempts: int
    """How often a handler raised or took too long."""
    ledger: Mapping[str, int]
    """As `Processing.ledger()`, of all members that ever were, together; a record that came twice is received twice."""
    committed: Mapping[int, int]
    """By partition: the offset that the group has committed; 0 if none."""
    mapped: frozenset[tuple[int, int]]
    """(partition, offset) of what the committed metadata says is done beyond the committed offset."""
    ends: Mapping[int, int]
    """By partition: how many records were produced."""
    crashes: int
    rebalances: int
    most_in_flight: int
    """The most records that handlers of one member had at once."""
    maps_left_out: int
    """Commits without their map of what is done beyond, because it was too long."""
    trace: tuple[str, ...]
    """What happened to members, in the order of time."""

    # -- what one asks ---------------------------------------------------------------------------------------------------

    @property
    def handled(self) -> frozenset[tuple[int, int]]:
        """(partition, offset) of every record that a handler has handled."""
        return frozenset((done.partition, done.offset) for done in self.completions)

    @property
    def repeated(self) -> dict[tuple[int, int], int]:
        """(partition, offset) of what was handled more than once: how many times more."""
        counts = Counter((done.partition, done.offset) for done in self.completions)
        return {place: count - 1 for place, count in counts.items() if count > 1}

    @property
    def duplicates(self) -> int:
        """How often a handler handled what had been handled before."""
        return len(self.completions) - len(self.handled)

    @property
    def first_completions(self) -> dict[tuple[int, bytes | None], list[int]]:
        """By partition and key: the offsets, in the order in which they were handled for the first time."""
        seen: set[tuple[int, int]] = set()
        found: dict[tuple[int, bytes | None], list[int]] = {}
        for done in self.completions:
            place = (done.partition, done.offset)
            if place not in seen:
                seen.add(place)
                found.setdefault((done.partition, done.key), []).append(done.offset)
        return found

    @property
    def unfinished(self) -> frozenset[tuple[int, int]]:
        """(partition, offset) of what was neither handled nor given up, nor is in the dead-letter topic."""
        every = {(partition, offset) for partition, end in self.ends.items() for offset in range(end)}
        return frozenset(every - self._finished())

    def _finished(self) -> frozenset[tuple[int, int]]:
        letters = {(letter.partition, letter.offset) for letter in self.dead_letters}
        return self.handled | self.given_up | letters

    # -- what one asserts ------------------------------------------------------------------------------------------------

    def assert_nothing_lost(self) -> None:
        """Nothing is committed, or in a committed map, that was never finished: it would not come again."""
        committed = {(partition, offset) for partition, end in self.committed.items() for offset in range(end)}
        lost = (committed | self.mapped) - self._finished()
        if lost:
            self._fail(f"{len(lost)} records are committed and were never handled: {_places(lost)}")
        if self.ledger["missing"]:
            self._fail(f"{self.ledger['missing']} records are in no state: {dict(self.ledger)}")

    def assert_all_handled(self) -> None:
        """Nothing is lost, and everything was handled (or given up, or is a dead letter) and is committed."""
        self.assert_nothing_lost()
        if self.unfinished:
            self._fail(f"{len(self.unfinished)} records were never handled: {_places(self.unfinished)}")
        behind = {partition: self.committed[partition] for partition, end in self.ends.items() if self.committed[partition] < end}
        if behind:
            self._fail(f"everything was handled, and not all of it is committed: {behind} of {dict(self.ends)}")

    def assert_order_kept(self) -> None:
        """What has an order was handled, for the first time, in that order.

        A record that is to go to the dead-letter topic lets those behind it pass from then on. If its member ends before the copy
        is confirmed, it comes again, after them.

        Raises:
            ValueError: nothing is promised, with `order="none"` or `park_retries`.
        """
        if self.order == "none" or self.parks_retries:
            raise ValueError("order='none' and park_retries promise no order; there is nothing to assert")
        # What is let pass may be handled yet, by somebody slow or after a crash.
        seen = set(self.letters_begun | self.given_up)
        latest: dict[tuple[int, bytes | None], int] = {}
        for done in self.completions:
            place = (done.partition, done.offset)
            if place in seen or (self.order == "key" and done.key is None):
                continue
            seen.add(place)
            group = (done.partition, done.key if self.order == "key" else None)
            before = latest.get(group, -1)
            if done.offset < before:
                of_key = f" of key {done.key!r}" if self.order == "key" else ""
                self._fail(f"partition {done.partition}{of_key}: offset {done.offset} was handled only after {before}")
            latest[group] = done.offset

    def _fail(self, text: str) -> None:
        lines = self.trace[-_TRACE_SHOWN:]
        before = "" if len(lines) == len(self.trace) else "\n    ..."
        raise AssertionError(f"{text} (seed {self.seed}){before}" + "".join(f"\n    {line}" for line in lines))


def _places(places: set[tuple[int, int]] | frozenset[tuple[int, int]]) -> str:
    shown = [f"partition {partition} offset {offset}" for partition, offset in sorted(places)[:_SHOWN]]
    return ", ".join(shown) + (" ..." if len(places) > _SHOWN else "")
