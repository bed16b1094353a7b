"""`Simulation`: a group, its broker and its handlers in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tidegate import _core
from tidegate._handlers import check_handler, close_event_loop, is_coroutine_function, name_of
from tidegate.processing import DEFAULTS, ProcessingOptions, check_seconds, check_values
from tidegate.testing._clock import VirtualLoop
from tidegate.testing._group import Group
from tidegate.testing._result import Result

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Simulation", "SimulationError"]

_HOUR_S = 3600.0
_BEGINNING_MS = 1_577_836_800_000
"""2020-01-01, the first record's timestamp."""

Handler = TypeVar("Handler", bound=Callable[..., Any])
Latency = float | Callable[[Any], float]


class SimulationError(Exception):
    """A simulation did not come to its end: somebody waits for what never happens."""


class Simulation:
    """A consumer group that handles the records of one topic, and the broker it reads from, in virtual time.

        >>> with Simulation(partitions=4, max_in_flight=100, seed=7) as sim:
        ...     @sim.handler
        ...     async def assess(record):
        ...         await asyncio.sleep(sim.random.uniform(2, 10))
        ...     sim.fill(1000, keys=50)
        ...     sim.crash(at=30)
        ...     result = sim.run()
        >>> result.assert_all_handled()

    What decides is what runs in production under `Consumer.process`: the same engine, and the same code around the handlers.
    What is played is the broker, the group's coordinator, and time. The same program with the same seed does the same.

    Args:
        partitions: of the topic.
        members: how many processes the group begins with.
        seed: of `random`, of where keys without a partition go, and of which member is meant where none is named.
        topic: its name, as records have it.
        cooperative: a rebalance takes only what goes to somebody else; otherwise everything, as eager groups do.
        commit_interval: seconds between commits (`auto.commit.interval.ms`).
        revoke_drain: seconds that handlers have to finish when their partitions are taken (`tidegate.revoke.drain.ms`).
        session_timeout: seconds after which the group gives away what a crashed member had (`session.timeout.ms`).
        restart_after: seconds after which a member whose processing has ended with an error is started again; None: it is not, and
            `run()` raises that error.
        options: as of `Consumer.process`: `order`, `max_in_flight`, `max_attempts`, `batch_size` and so on. Any
            `dead_letter_topic` means that there is one.

    One thread. Actions take `at`, virtual seconds since the beginning; without it they happen now, or when `run()` goes on.

    Raises:
        tidegate.ArgumentError: an argument is wrong, or two contradict each other.
    """

    def __init__(
        self,
        *,
        partitions: int = 4,
        members: int = 1,
        seed: int = 0,
        topic: str = "simulated",
        cooperative: bool = False,
        commit_interval: float = 5.0,
        revoke_drain: float = 30.0,
        session_timeout: float = 10.0,
        restart_after: float | None = None,
        **options: Unpack[ProcessingOptions],
    ) -> None:
        for name, count in (("partitions", partitions), ("members", members)):
            if type(count) is not int or not 1 <= count <= 10_000:
                raise _core.ArgumentError(f"{name}: {count!r} cannot be; use a whole number from 1 to 10000")
        for name, seconds in (
            ("commit_interval", commit_interval),
            ("revoke_drain", revoke_drain),
            ("session_timeout", session_timeout),
            ("restart_after", 1.0 if restart_after is None else restart_after),
        ):
            check_seconds(name, seconds)
            if seconds == 0 and name in ("commit_interval", "restart_after"):
                raise _core.ArgumentError(f"{name}: 0 s would never let time pass; use more")
        unknown = options.keys() - DEFAULTS.keys()
        if unknown:
            raise _core.ArgumentTypeError(f"{min(unknown)}: there is no such option; there are {', '.join(DEFAULTS)}")
        merged: ProcessingOptions = {**DEFAULTS, **options}
        check_values(merged)
        _core._Simulation(topic=topic)  # it knows what a topic's name may be
        self.random = random.Random(seed)
        """For handlers and tests that want chance which is the same each time."""
        self._options = merged
        self._partitions = partitions
        self._members = members
        self._handler: Callable[[Any], Any] | None = None
        self._latency: Latency | None = None
        self._round_robin = 0
        self._goal: asyncio.Future[None] | None = None
        self._is_bounded = False
        self._broken: BaseException | None = None
        self._loop = VirtualLoop()
        self._call = self._call_handler()
        # Chance of its own: what handlers draw does not change what happens to them.
        self._group = Group(
            self._loop,
            random.Random(seed ^ 0x5EED),
            self._call,
            merged,
            topic=topic,
            partitions=partitions,
            seed=seed,
            cooperative=cooperative,
            commit_s=commit_interval,
            drain_s=revoke_drain,
            session_s=session_timeout,
            restart_s=restart_after,
            on_change=self._look,
            on_broken=self._break,
        )

    # -- the handler -----------------------------------------------------------------------------------------------------

    @overload
    def handler(self, function: Handler, *, latency: Latency | None = None) -> Handler: ...
    @overload
    def handler(self, *, latency: Latency | None = None) -> Callable[[Handler], Handler]: ...
    def handler(self, function: Any = None, *, latency: Latency | None = None) -> Any:
        """Says what handles records; also a decorator.

        Args:
            function: as for `Consumer.process`. A coroutine function awaits `asyncio.sleep` (or `sim.sleep`), locks and timeouts of
                asyncio as ever; all of them are in virtual time. A plain function takes no time, or as many seconds as it
                returns, if that is a number.
            latency: seconds that pass before the function is called, a number or a function of what the handler gets; what
                it returns is then ignored, as in production.

        Raises:
            tidegate.ArgumentTypeError: it cannot be called, is a generator function, or `latency` is neither of the two.
        """
        if function is None:
            return lambda given: self.handler(given, latency=latency)
        check_handler(function)
        if latency is not None and not callable(latency):
            check_seconds("latency", latency)
        if self._handler is not None and is_coroutine_function(function) != is_coroutine_function(self._handler):
            raise _core.ArgumentTypeError("handler: a coroutine function and a plain one cannot take each other's place")
        self._handler, self._latency = function, latency
        call: Any = self._call
        call.__module__, _, call.__qualname__ = name_of(function).rpartition(".")
        return function

    def _call_handler(self) -> Callable[[Any], Any]:
        async def handle(given: Any) -> Any:
            handler, latency = self._handler, self._latency
            assert handler is not None  # `run` has looked
            if latency is not None:
                await asyncio.sleep(self._seconds(latency(given) if callable(latency) else latency))
            returned = handler(given)
            if is_coroutine_function(handler):
                return await returned
            if latency is None and isinstance(returned, (int, float)) and not isinstance(returned, bool):
                await asyncio.sleep(self._seconds(returned))
                return None
            return returned

        return handle

    def _seconds(self, seconds: object) -> float:
        """How long a handler takes, which may be no time at all, but not less."""
        try:
            check_seconds("latency", seconds)
        except _core.TidegateError as error:
            # Not the handler's failure: the test is wrong.
            self._break(error)
            return 0.0
        assert isinstance(seconds, (int, float))
        return float(seconds)

    async def sleep(self, seconds: float) -> None:
        """In a coroutine: let virtual seconds pass. The same as `asyncio.sleep`."""
        await asyncio.sleep(seconds)

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self._loop.time()

    # -- records ---------------------------------------------------------------------------------------------------------

    def produce(
        self,
        value: Any = None,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        at: float | None = None,
    ) -> None:
        """Appends a record.

        Args:
            value: bytes, a text, or anything else as JSON; None is a tombstone.
            partition: None: by the key, or one after the other without one.
            at: when; None: now.
        """
        key = key.encode() if isinstance(key, str) else key
        if not isinstance(value, bytes | None):
            value = value.encode() if isinstance(value, str) else json.dumps(value, ensure_ascii=False).encode()
        if partition is None:
            if key is None:
                partition, self._round_robin = self._round_robin, (self._round_robin + 1) % self._partitions
            else:
                partition = zlib.crc32(key) % self._partitions
        if type(partition) is not int or not 0 <= partition < self._partitions:
            raise _core.ArgumentError(f"partition: {partition!r} cannot be; use 0 to {self._partitions - 1}")
        chosen = partition

        def append() -> None:
            self._group.append(chosen, (key, value, list(headers), _BEGINNING_MS + self._loop.now_us // 1000))

        if at is None:
            append()
        else:
            self._at(at, append)

    def fill(self, count: int, *, keys: int = 20, every: float = 0.0, at: float | None = None) -> None:
        """Appends many records whose values are the numbers from 0 on.

        Args:
            count: how many.
            keys: of how many keys, `key-0` and so on; 0: without keys.
            every: seconds from one to the next; 0: all at once.
            at: when the first one comes; None: now.
        """
        check_seconds("every", every)
        begin = self.now if at is None else at
        for number in range(count):
            when = None if at is None and every == 0 else begin + number * every
            self.produce(str(number), key=f"key-{number % keys}" if keys else None, at=when)

    # -- what happens ----------------------------------------------------------------------------------------------------

    def call(self, function: Callable[[], Any], *, at: float) -> None:
        """Calls a function of the test's, at that time."""
        self._at(at, function)

    def rebalance(self, *, times: int = 1, every: float = 0.5, at: float | None = None) -> None:
        """The group deals its partitions out anew; several times in a row for a storm, `every` so many seconds."""
        for number in range(times):
            self._at((self.now if at is None else at) + number * every, self._group.begin_rebalance)

    def crash(self, member: int | None = None, *, restart_after: float | None = 1.0, at: float | None = None) -> None:
        """A member dies in this moment: nothing more of it is committed, and what it had comes again.

        Its coroutines are cancelled, so that their `finally` runs, which a real crash does not grant.

        Args:
            member: which one, by number; None: any.
            restart_after: seconds until another takes its place; None: nobody does.
        """
        if restart_after is not None:
            check_seconds("restart_after", restart_after)
        self._at(at, lambda: self._group.crash(member, restart_after))

    def lose(self, member: int | None = None, *, at: float | None = None) -> None:
        """The group takes a member for dead, as after a long pause: it has lost its partitions without a word, commits nothing of
        them, and joins again. Its handlers go on meanwhile."""
        self._at(at, lambda: self._group.lose(member))

    def join(self, *, at: float | None = None) -> None:
        """A further member joins the group."""
        self._at(at, self._group.join)

    def leave(self, member: int | None = None, *, at: float | None = None) -> None:
        """A member is stopped as it should be: it finishes what it has, within `revoke_drain`, commits and leaves."""
        self._at(at, lambda: self._group.leave(member))

    def commit_outage(self, seconds: float, *, answers_only: bool = False, at: float | None = None) -> None:
        """The broker takes no commit for so many seconds; with `answers_only` it takes them, and nobody hears of it."""
        check_seconds("seconds", seconds)
        self._at(at, lambda: self._group.commit_outage(seconds, answers_only))

    def dead_letter_outage(self, seconds: float, *, at: float | None = None) -> None:
        """The dead-letter topic confirms nothing for so many seconds."""
        check_seconds("seconds", seconds)
        self._at(at, lambda: self._group.dead_letter_outage(seconds))

    def _at(self, at: float | None, function: Callable[[], Any]) -> None:
        if at is not None:
            check_seconds("at", at)
            if at < self.now:
                raise _core.ArgumentError(f"at: {at} s is over, it is {self.now} s; use a later time")
        self._group.schedule(self.now if at is None else at, function)

    # -- running ---------------------------------------------------------------------------------------------------------

    def run(self, seconds: float | None = None, *, limit: float = _HOUR_S) -> Result:
        """Lets time pass, and gives what has happened until then. May be called again and goes on there.

        Args:
            seconds: so long; None: until everything that is to happen has happened, every record is finished and all of
                that is committed. Handlers that still run then, of members that have lost their records, are left.
            limit: the most virtual seconds that this may take.

        Raises:
            SimulationError: the limit is over first.
            tidegate.ListenerError: the processing has ended with an error, and nobody starts it again (`restart_after`).
            BaseException: what a handler raised that is no Exception.
            RuntimeError: an event loop runs in this thread; call it from a plain function.
        """
        if self._handler is None:
            raise SimulationError("nobody handles the records: say who does with sim.handler(function)")
        if self._loop.is_closed():
            raise SimulationError("the simulation is over; make another one")
        if _is_in_a_loop():
            raise RuntimeError("an event loop runs in this thread; call run() from a plain function, it has a loop of its own")
        check_seconds("seconds", 0 if seconds is None else seconds)
        check_seconds("limit", limit)
        self._goal = goal = self._loop.create_future()
        if self._broken is not None:
            raise self._broken
        if not self._group.has_begun:
            self._loop.call_soon(self._group.begin, self._members)
        self._is_bounded = seconds is not None
        if seconds is None:
            end = self._loop.call_later(limit, self._too_long, limit)
            self._loop.call_soon(self._look)
        else:
            end = self._loop.call_later(seconds, _reach, goal)
        try:
            self._loop.run_until_complete(goal)
        finally:
            end.cancel()
            self._goal = None
        if self._broken is not None:
            raise self._broken
        return self.result()

    def result(self) -> Result:
        """What has happened until now."""
        return self._group.result()

    def _look(self) -> None:
        """Something has changed: perhaps it is done."""
        if self._goal is not None and not self._is_bounded and self._group.is_done():
            _reach(self._goal)

    def _break(self, error: BaseException) -> None:
        if self._broken is None:
            self._broken = error
        # Not by an exception of the goal's: a KeyboardInterrupt there would not end the loop.
        if self._goal is not None:
            _reach(self._goal)

    def _too_long(self, limit: float) -> None:
        if self._goal is not None and not self._goal.done():
            self._goal.set_exception(SimulationError(f"not done after {limit} s: {self._group.whats_left()}"))

    # -- the end ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancels what runs. Results stay as they are."""
        if self._loop.is_closed():
            return
        self._group.end()
        if _is_in_a_loop():
            self._loop.close()
        else:
            close_event_loop(self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()


def _reach(goal: asyncio.Future[None]) -> None:
    if not goal.done():
        goal.set_result(None)


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
