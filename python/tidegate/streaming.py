"""Records in an `async for`, each finished when you say so: `consumer.stream()`.

    >>> async def main(consumer):
    ...     async with consumer.stream(max_in_flight=100, max_attempts=3) as stream, asyncio.TaskGroup() as group:
    ...         async for task in stream:
    ...             group.create_task(assess(task))
    >>> async def assess(task):
    ...     with task:  # done at the end; an exception is a failed attempt
    ...         await ask_the_model(task.record.json())

What `process()` does for a handler this does for a loop: order, retries, dead letters, bounded memory, and a commit that never
passes a record without an answer. Leaving the block ends it, however it is left: what has no answer then comes again.

Threads: `Stream` belongs to the event loop it was entered on. A `StreamTask` may be answered in any thread. A thread of its own
asks the dispatcher for records, and only when the loop wants some, so that a revoke finds none lying about here.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from types import TracebackType
from typing import Any

from tidegate import _core, _exit
from tidegate._handlers import MOST_AT_ONCE, sensible_seconds, text_of
from tidegate._logging import Logger
from tidegate.processing import DEFAULTS, ProcessingOptions, Retry, SharedOptions, check_seconds, dispatch

__all__ = ["Stream", "StreamOptions", "StreamTask", "stream"]

_log = Logger("tidegate.streaming")

_TURN_S = 0.0002
"""A loop that comes back sooner than this for each record gets many at a time; a slow one gets one."""
_DRAIN_S = 10.0
_NOT_HERE = ("cost", "batch_size", "batch_timeout")
"""Options of `process` that a loop of one record at a time has no use for."""
_FEEDER_END_S = 5.0


class StreamOptions(SharedOptions, total=False):
    """The keywords of `Consumer.stream`: those it shares with `process`, and how long a block that ends waits for answers."""

    drain: float


def stream(consumer: _core.Consumer, *, drain: float = _DRAIN_S, **options: Any) -> Stream:
    """The consumer's records for an `async for`, with explicit answers.

    Args:
        consumer: subscribed or assigned, now or later; nobody else may poll it meanwhile.
        drain: seconds that tasks without an answer get when the block ends normally; with an exception they get none.
        options: as in `Consumer.process`: `order`, `max_in_flight` (tasks without an answer), `max_attempts`, `backoff`,
            `dead_letter_topic`, `on_failure` and so on.

    Raises:
        tidegate.ArgumentError: an argument is wrong, or two contradict each other.
    """
    names = [name for name in DEFAULTS if name not in _NOT_HERE]
    unknown = options.keys() - set(names)
    if unknown:
        raise _core.ArgumentTypeError(f"{sorted(unknown)[0]}: there is no such option; there are {', '.join(names)} and drain")
    check_seconds("drain", drain)
    merged: Any = {**DEFAULTS, **options}
    if merged["produce_to"] is not None or merged["transactional_id"] is not None:
        raise _core.ArgumentError("produce_to: the answers of a stream have no outputs; use process(), whose handlers return them")
    return Stream(consumer, merged, float(drain))


class Stream:
    """Records on their way into an `async for`; made by `Consumer.stream`.

    `async with` begins and ends it; it can be entered once. One `async for` at a time.
    """

    def __init__(self, consumer: _core.Consumer, options: ProcessingOptions, drain: float) -> None:
        self._consumer = consumer
        self._options = options
        self._drain = drain
        self._dispatcher: _core._Dispatcher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._ready: deque[StreamTask] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._asked = False
        self._over = False
        self._failure: BaseException | None = None
        self._done: list[int] = []
        self._open: set[int] = set()
        self._handed: tuple[int, float] = (0, 0.0)
        self._stopped = threading.Event()
        self._ledger: dict[str, int] = {}
        self._feeder = threading.Thread(target=self._feed, name="tidegate-stream", daemon=True)

    # -- the block -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Stream:
        if self._dispatcher is not None:
            raise RuntimeError("this stream was entered before; call consumer.stream() again for another")
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._dispatcher = dispatch(self._consumer, self._options)
        self._feeder.start()
        _exit.register(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose(self._drain if kind is None else 0.0)

    async def aclose(self, drain: float = 0.0) -> dict[str, int]:
        """End it: hand out nothing more, wait `drain` seconds for answers, commit what is done. Gives the ledger.

        What has no answer then is unfinished and comes again after a restart. Cancelling this does not leave it half done.
        """
        dispatcher = self._entered()
        loop = asyncio.get_running_loop()
        self._over = True
        self._wake()
        self._give_back_unseen()
        self._flush()
        ending = loop.run_in_executor(None, self._end, dispatcher, drain)
        cancelled: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError as error:
                if ending.cancelled():
                    raise
                cancelled = error
                # Whoever cancels does not want to wait for answers.
                self._give_back_open(dispatcher)
        # What the feeder had in its hand has arrived by now and was given back.
        self._ledger = dispatcher.ledger()
        if cancelled is not None:
            raise cancelled
        ending.result()
        return self._ledger

    def _end(self, dispatcher: _core._Dispatcher, drain: float) -> None:
        # In a thread: the loop goes on meanwhile, so that its tasks can answer.
        if drain == 0.0:
            self._give_back_open(dispatcher)
        dispatcher.stop(drain)
        if self._open:
            _log.warning(f"{len(self._open)} records had no answer after {drain} s; they come again after a restart")
            self._give_back_open(dispatcher)
        self._wanted.put(0)
        self._feeder.join(_FEEDER_END_S)
        self._stopped.set()

    def _give_back_open(self, dispatcher: _core._Dispatcher) -> None:
        """A late answer is nobody's then."""
        dispatcher.give_back(tuple(self._open))

    def ledger(self) -> dict[str, int]:
        """What became of everything received, as `Processing.ledger`."""
        return self._ledger or self._entered().ledger()

    def _entered(self) -> _core._Dispatcher:
        if self._dispatcher is None:
            raise RuntimeError("a stream begins with its block; write `async with consumer.stream() as stream:`")
        return self._dispatcher

    # -- the loop --------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Stream:
        self._entered()
        return self

    async def __anext__(self) -> StreamTask:
        self._entered()
        if self._waiter is not None:
            raise RuntimeError("another task waits for this stream's next record; use one `async for` and start tasks from it")
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._over:
                raise StopAsyncIteration
            if not self._asked:
                self._asked = True
                self._flush()
                self._wanted.put(self._how_many())
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                # Cancelled here: what comes meanwhile waits in `_ready`, and is nobody's until it is taken below.
                await self._waiter
            finally:
                self._waiter = None
        return self._ready.popleft()

    def _how_many(self) -> int:
        """As many as the loop works off in a turn, by how long the last ones took it."""
        count, since = self._handed
        if not count:
            return 1
        each = (time.perf_counter() - since) / count
        return min(max(int(_TURN_S / max(each, 1e-9)), 1), MOST_AT_ONCE)

    def _feed(self) -> None:
        """In a thread of its own: fetch when the loop asks."""
        dispatcher, loop = self._entered(), self._loop
        assert loop is not None
        works: list[tuple[int, int, _core.Record]] | None
        while (most := self._wanted.get()) > 0:
            failure: BaseException | None = None
            try:
                works = dispatcher.take(most)
            except _core.TidegateError as error:
                works, failure = None, error
            try:
                loop.call_soon_threadsafe(self._arrived, works, failure)
            except RuntimeError:  # the loop was closed, and nobody left the block
                with contextlib.suppress(_core.TidegateError):
                    if works:
                        dispatcher.give_back([ticket for ticket, _, _ in works])
                    dispatcher.end_with("the event loop of the stream was closed")
                return
            if works is None:
                return

    def _arrived(self, works: list[tuple[int, int, _core.Record]] | None, failure: BaseException | None) -> None:
        self._asked = False
        if works is None:
            self._failure = None if self._over else failure
            self._over = True
        else:
            for ticket, attempts, record in works:
                self._ready.append(StreamTask(self, ticket, attempts, record))
            self._handed = (len(works), time.perf_counter())
            if self._over:
                self._give_back_unseen()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _give_back_unseen(self) -> None:
        while self._ready:
            self._ready.popleft().give_back()

    # -- answers ---------------------------------------------------------------------------------------------------------

    def _finished(self, ticket: int) -> None:
        """One is done: what is done in one turn of the loop is told at once."""
        if threading.get_ident() != self._loop_thread or self._over:
            self._entered().settle([ticket])
            return
        if not self._done:
            assert self._loop is not None
            self._loop.call_soon(self._flush)
        self._done.append(ticket)

    def _flush(self) -> None:
        if self._done:
            done, self._done = self._done, []
            self._entered().settle(done)

    # -- at the interpreter's end (see _exit) ----------------------------------------------------------------------------

    def begin_exit(self) -> None:
        """Ask for the end; returns at once."""
        threading.Thread(target=self.force_exit, args=(0.0,), daemon=True).start()

    def exit_done(self) -> bool:
        """True once it has ended."""
        return self._stopped.is_set()

    def runs_in(self, thread_id: int) -> bool:
        """True in the thread of its event loop."""
        return thread_id == self._loop_thread

    def force_exit(self, timeout: float) -> None:
        """Commit what is done and leave the rest."""
        with contextlib.suppress(Exception):
            self._flush()
            self._entered().stop(timeout)
        self._stopped.set()


class StreamTask:
    """One record of a stream, to be answered once: `done()`, `retry()` or `fail()`; a second answer is ignored. Any thread.

    As a context manager it is done at the end of the block; an Exception in it is a failed attempt and ends there (it is
    logged, and repeated or given up as the stream's options say), a cancellation or other BaseException leaves the record
    unfinished and goes on.

    One that is dropped without an answer counts as a failed attempt, for a record without an answer would hold the commit for
    ever.
    """

    __slots__ = ("__weakref__", "_attempts", "_record", "_stream", "_ticket")

    def __init__(self, stream: Stream, ticket: int, attempts: int, record: _core.Record) -> None:
        self._stream: Stream | None = stream
        self._ticket = ticket
        self._attempts = attempts
        self._record = record
        stream._open.add(ticket)

    @property
    def record(self) -> _core.Record:
        """The record."""
        return self._record

    @property
    def attempt(self) -> int:
        """Which attempt this is; the first is 1."""
        return self._attempts + 1

    def done(self) -> None:
        """It is handled: it may be committed, and the next of its key may come."""
        if (stream := self._answer()) is not None:
            stream._finished(self._ticket)

    def retry(self, after: float | None = None, reason: str = "to be tried again") -> None:
        """It comes again, not before `after` seconds. Counts as an attempt, as every failure."""
        self.fail(Retry(reason, after=after))

    def fail(self, error: BaseException | str = "failed", *, retriable: bool = True) -> None:
        """The attempt has failed: another one if there is any left and `retriable`, else the dead-letter topic or the end."""
        if (stream := self._answer()) is None:
            return
        after = error.after if isinstance(error, Retry) else None
        kind = type(error).__qualname__ if isinstance(error, BaseException) else "failed"
        is_retriable = retriable and not isinstance(error, stream._options["give_up_on"])
        stream._entered().fail(self._ticket, kind, text_of(error), is_retriable, sensible_seconds(after))

    def give_back(self) -> None:
        """Neither done nor failed: it is unfinished and comes again after a restart."""
        if (stream := self._answer()) is not None:
            stream._entered().give_back([self._ticket])

    def _answer(self) -> Stream | None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream._open.discard(self._ticket)
        return stream

    def __enter__(self) -> StreamTask:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        if error is None:
            self.done()
            return False
        if not isinstance(error, Exception):
            self.give_back()
            return False
        record = self._record
        _log.debug(f"attempt {self.attempt} failed on {record.topic} [{record.partition}] offset {record.offset}", error=error)
        self.fail(error)
        return True

    def __del__(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(Exception):
                self.fail("dropped without an answer; call done(), retry() or fail(), or write `with task:`")

    def __repr__(self) -> str:
        record = self._record
        return f"<StreamTask {record.topic} [{record.partition}] offset {record.offset}, attempt {self.attempt}>"
