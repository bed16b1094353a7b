"""`BaseKafkaConsumer`: subscribe, decode JSON, call a handler, and never lose a record.

A record is *finished* when the handler has returned (or its coroutine has), when the handler has failed for good, or when
the dead-letter topic has confirmed its copy. Only finished records are committed, so whatever was unfinished when the
process died is delivered again. `start()` runs everything in the thread that calls it; `stop()`, `close()`, `commit()` and
`stats()` may come from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidegate import _core, _exit
from tidegate._arguments import (
    ConfigValue,
    check_callable,
    check_choice,
    check_number,
    check_text,
    check_topics,
    options_of,
    properties_of,
)
from tidegate._dead_letters import DeadLetters, Reason, producer_config
from tidegate._handlers import Undecodable, close_event_loop, is_coroutine_function
from tidegate._json import loads
from tidegate._logging import WARNING, Logger, describe, forward_native_lines
from tidegate._side_by_side import SERIAL_TOO, MoreOptions, SideBySide

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BaseKafkaConsumer"]

_log = Logger("tidegate.base_consumer")

CLOSE_TIMEOUT_S = 10.0
"""Seconds `close()` waits for a handler in progress, the last commit and leaving the group."""

_IDLE_WAIT_S = 1.0
_LOOK_S = 0.1
_FOR_THE_CALLER = (_core.ForkedError, _core.ConcurrentUseError, _core.ArgumentError, _core.ListenerError)
_RESEND_WAIT_S = 0.1
_DRAIN_DEAD_LETTERS_S = 5.0
_DRAIN_DEAD_LETTERS_AT_EXIT_S = 1.0
_ERROR_BACKOFF_S = 0.5
_VALUES_AT_ONCE_BYTES = 4 * 1024 * 1024


class _Counters:
    """What became of the records. Written by the loop thread, `dead_lettered` by the delivery thread; read by any."""

    __slots__ = ("dead_lettered", "failed", "handled", "poison", "received", "retried", "stale", "tombstones")

    def __init__(self) -> None:
        self.received = 0
        self.handled = 0
        self.failed = 0
        self.retried = 0
        self.poison = 0
        self.tombstones = 0
        self.dead_lettered = 0
        self.stale = 0


class BaseKafkaConsumer:
    """A consumer that calls `message_handler` with each record's JSON.

    Args:
        bootstrap_servers: `host:port`, several separated by commas. Nobody needs to listen there yet.
        group_id: the consumer group.
        topics: names to subscribe to; a name that starts with `^` is a regular expression.
        message_handler: called with the decoded JSON of one record at a time, in the thread that runs `start()`, in offset
            order within a partition. JSON that is not an object is passed on as it decodes. A coroutine function is run on
            an event loop of its own, one record at a time; tasks it leaves behind advance only while it runs.
        auto_commit: False: finished offsets are committed by `commit()` only.
        auto_offset_reset: where a group without a committed offset begins: `latest`, `earliest` or `error`.
        workers: how many records may be handled at once: by so many threads, or by one event loop if the handler is a
            coroutine function. 1 handles them one after the other in the thread of `start()`. Also `max_in_flight=`.
        ordering: what stays in order among several workers: records of a partition with the same `key` (default), a
            `partition`, or `none`. Also `order=`.
        retries: how often a failing handler is called again for the same record; None: until it succeeds or `stop()`. Also
            `max_attempts=`, which counts the first call.
        give_up_on: exceptions that mean that calling again is pointless (ValueError, say): such a record fails for good at
            its first attempt.
        retry_backoff_ms: pause before the first repetition, doubled for each further one up to 30 s (`max_backoff=`).
            `stop()` ends it. Also `backoff=`, in seconds.
        dead_letter_topic: where records go that are not JSON or whose handler failed for good, with the reason in
            headers `tidegate.dlq.*`. Such a record is finished when the broker has confirmed the copy. Without a
            dead-letter topic it is counted, logged, and finished.
        config: further properties of librdkafka or the Java client; they go over the settings above.
        on_error: called as `on_error(exception, record)` once for each record that failed for good or is not JSON, in the
            loop's thread (with several workers: in the handler's, one call at a time); what it raises is logged.
        more: `max_queued`, `max_bytes`, `park_retries`, `offset_map_bytes`, `attempt_timeout`, `rate_limit`, `min_in_flight` and
            `dead_letter_limit` as in `Consumer.process`; `cost`, which gets a record's JSON; `batch_size` and `batch_timeout`,
            with which the handler gets a list of JSON, of at most `workers` records; `on_failure="stop"`: without a dead-letter
            topic a record that has failed for good ends `start()` with a ListenerError, unfinished.

    Records with a null value (tombstones), an empty value, invalid UTF-8 or anything else that is not JSON never reach the
    handler: they count as `poison`. A handler's `KeyboardInterrupt`, `SystemExit` or other BaseException ends `start()`
    and leaves the record unfinished.

    If the process ends by SIGTERM, Ctrl-C or normally while `start()` runs and nobody called `close()`, what is finished is
    committed and the group is left, within 5 s; a handler in progress gets 3 s. (SIGTERM: only where it has its default
    action and the object is constructed or started in the main thread. Otherwise use `tidegate.wait_for_shutdown`.)

    Raises:
        tidegate.ConfigError: the configuration is wrong; says every problem at once.
        tidegate.ArgumentError: an argument is.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str,
        topics: list[str],
        message_handler: Callable[[dict[str, Any]], Any],
        auto_commit: bool = True,
        auto_offset_reset: str = "latest",
        *,
        workers: int = 1,
        ordering: str = "key",
        retries: int | None = 0,
        retry_backoff_ms: int = 100,
        give_up_on: tuple[type[Exception], ...] = (),
        dead_letter_topic: str | None = None,
        config: Mapping[str, ConfigValue] | None = None,
        on_error: Callable[[BaseException, Any], None] | None = None,
        **more: Unpack[MoreOptions],
    ) -> None:
        check_text("bootstrap_servers", bootstrap_servers, "host:port, several separated by commas")
        check_text("group_id", group_id, "the name of the consumer group")
        check_topics(topics)
        check_callable("message_handler", message_handler)
        check_choice("ordering", ordering, ("key", "partition", "none"))
        check_number("workers", workers, 1)
        if retries is not None:
            check_number("retries", retries, 0)
        check_number("retry_backoff_ms", retry_backoff_ms, 0)
        own = {"workers": workers, "ordering": ordering, "retries": retries, "retry_backoff_ms": retry_backoff_ms}
        options = options_of(own, more, dead_letter_topic)
        if on_error is not None:
            check_callable("on_error", on_error)
        if dead_letter_topic is not None:
            check_text("dead_letter_topic", dead_letter_topic, "the name of a topic, or None")
            if dead_letter_topic in topics:
                raise _core.ArgumentError(
                    f"dead_letter_topic: {dead_letter_topic!r} is one of the topics consumed, a failing record would come "
                    "back for ever; name another topic"
                )

        self.topics: list[str] = list(topics)
        self.message_handler: Callable[[dict[str, Any]], Any] = message_handler
        self.workers = options["max_in_flight"]
        self.ordering = options["order"]
        self._max_attempts = options["max_attempts"]
        self._give_up_on = options["give_up_on"] = give_up_on
        self._retry_backoff_s = options["backoff"]
        self._max_backoff_s = options["max_backoff"]
        self._stops_on_failure = options["on_failure"] == "stop"
        self._on_error = on_error

        properties = properties_of(bootstrap_servers, group_id, auto_commit, auto_offset_reset, config)
        self._group_id = str(properties.get("group.id", group_id))
        self._counters = _Counters()
        self._stopping = False
        self._exiting = False
        self._owner_pid = os.getpid()
        self._looping = False
        self._finishing = False
        self._done = False
        self._loop_thread: int | None = None
        # A SimpleQueue and not an Event: stop() may run in a signal handler, whose thread may hold the Event's lock.
        self._stop_signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._start_guard = threading.Lock()
        self._assigned = threading.Event()
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._trouble: str | None = None
        self._last_engine_stats: dict[str, Any] = {}

        forward_native_lines()
        self._consumer = _core.Consumer(properties)
        self._dead_letters: DeadLetters | None = None
        self._has_dead_letters = dead_letter_topic is not None
        self._side_by_side: SideBySide | None = None
        if self.workers > 1 or not more.keys() <= SERIAL_TOO:
            self._side_by_side = SideBySide(
                self._consumer, self._decode, lambda: self.message_handler, options, self._attempt_failed
            )
        elif dead_letter_topic is not None:
            try:
                self._dead_letters = DeadLetters(
                    dead_letter_topic, producer_config(properties), self._group_id, self._count_dead_letter
                )
            except BaseException:
                self._consumer.close(timeout=CLOSE_TIMEOUT_S)
                raise
        _exit.register(self)

    # -- running ---------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """True from `start()` until it is told to stop. Setting it to False is `stop()`."""
        return self._looping and not self._stopping

    @running.setter
    def running(self, value: bool) -> None:
        if not value:
            self.stop()

    def start(self) -> None:
        """Consume until `stop()`, in this thread; then commit what is finished, leave the group, and return.

        Returns at once if `stop()` or `close()` came first. A broker that cannot be reached is tried again for ever.

        Raises:
            tidegate.ClosedError: `start()` has run before; make a new object.
            tidegate.ConcurrentUseError: `start()` is running in another thread.
            tidegate.ForkedError: the object was made in the parent process.
            tidegate.KafkaError: a fatal error, after which this member cannot go on.
            RuntimeError: a coroutine handler, and an event loop already runs in this thread.
            BaseException: what the handler raised, if it is not an Exception.
        """
        if os.getpid() != self._owner_pid:
            raise _core.ForkedError("this BaseKafkaConsumer was made in the parent process; make one in the child")
        if not self._start_guard.acquire(blocking=False):
            raise _core.ConcurrentUseError("start() is already running in another thread")
        try:
            if self._done:
                if self._loop_thread is None:
                    return  # closed before it began
                raise _core.ClosedError("start() has run and ended; make a new BaseKafkaConsumer to consume again")
            self._loop_thread = threading.get_ident()
            _exit.register(self)
            try:
                self._run()
            finally:
                self._finish(CLOSE_TIMEOUT_S)
        finally:
            self._start_guard.release()
        _exit.resume_termination()

    def stop(self) -> None:
        """Ask `start()` to end; returns at once. Any thread, also before `start()`, also a signal handler.

        The handler in progress finishes its record; a pause before a retry ends at once. Never raises.
        """
        if self._stopping:
            return
        self._stopping = True
        self._stop_signal.put(None)
        with contextlib.suppress(Exception):  # a forked child's copy, or closed already
            self._consumer.wake()

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Stop, wait for `start()` to end, commit what is finished and leave the group. Idempotent; any thread.

        Returns after `timeout` seconds at the latest, plus what a commit in progress takes. A handler that is still running
        then keeps its thread, but its record stays unfinished. Called from the handler itself, it is `stop()`.
        """
        if os.getpid() != self._owner_pid:
            return  # the parent's, and the parent closes it
        self.stop()
        if self.runs_in(threading.get_ident()):
            return
        deadline = time.monotonic() + timeout
        ended = self._start_guard.acquire(timeout=max(timeout, 0.0))
        try:
            if not self._done:
                self._finish(max(deadline - time.monotonic(), 0.5))
        finally:
            if ended:
                self._start_guard.release()

    def commit(self, timeout: float = 10.0) -> None:
        """Commit what is finished, now. Any thread. What `auto_commit=False` leaves to the application.

        Raises:
            tidegate.TimedOutError: no answer within `timeout` seconds.
            tidegate.KafkaError: the broker refused.
            tidegate.ClosedError: after `close()`.
        """
        self._consumer.commit(timeout=timeout)

    def wait_until_assigned(self, timeout: float | None = None) -> bool:
        """Wait until the group has given this member its first partitions. False after `timeout` seconds. Any thread."""
        return self._assigned.wait(timeout)

    def stats(self) -> dict[str, Any]:
        """What became of the records so far. Any thread, also after `close()`.

        `received` handed to the loop; of these `handled`: the handler returned; `failed`: it failed for good; `poison`: not
        JSON (`tombstones`: those among them with a null value); `stale`: their partition was revoked first; the rest is
        unfinished. `retried`: repetitions of the handler; `dead_lettered`: copies the dead-letter topic has confirmed,
        `dead_letters_waiting`: those it has not. `engine`: the counters of the native consumer.
        """
        with contextlib.suppress(_core.TidegateError):
            self._last_engine_stats = self._consumer.stats()
        counters = {name: getattr(self._counters, name) for name in _Counters.__slots__}
        letters = self._dead_letters
        waiting = 0 if letters is None else letters.waiting
        if self._side_by_side is not None:
            ledger = self._side_by_side.ledger()
            counters["received"] = ledger.get("received", 0)
            counters["stale"] = ledger.get("stale", 0)
            counters["dead_lettered"] = ledger.get("dead_lettered", 0)
            waiting = ledger.get("dead_letters_pending", 0)
            # What is skipped is done for the dispatcher.
            skipped = 0 if self._has_dead_letters else counters["failed"] + counters["poison"]
            counters["handled"] = max(ledger.get("done", 0) - skipped, 0)
        return {
            **counters,
            "dead_letters_waiting": waiting,
            "engine": self._last_engine_stats,
        }

    # -- the loop --------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._stopping:
            return
        self._open()
        self._looping = True
        self._consumer.subscribe(self.topics, on_assign=self._on_assign)
        if self._side_by_side is not None:
            self._run_side_by_side(self._side_by_side)
            return
        while not self._stopping:
            letters = self._dead_letters
            if letters is not None and letters.has_refused:
                letters.pump()
            waiting = letters is not None and letters.has_refused
            try:
                batch = self._lease(_RESEND_WAIT_S if waiting else _IDLE_WAIT_S)
            except _core.ClosedError:
                return
            except _core.TidegateError as error:
                self._wait_out(error)
                continue
            if batch is not None:
                self._report_trouble(None)
                self._handle_batch(batch)

    def _run_side_by_side(self, side_by_side: SideBySide) -> None:
        """Wait in this thread while others handle."""
        while not self._stopping:
            processing = side_by_side.begin()
            try:
                while not self._stopping:
                    if processing.wait(0.0):
                        return  # the consumer was closed
                    self._pause(_LOOK_S)
            except _core.TidegateError as error:
                side_by_side.stop(0.0)
                self._wait_out(error)

    def _wait_out(self, error: _core.TidegateError) -> None:
        """Return after a pause if the error may pass, else raise it."""
        if isinstance(error, _FOR_THE_CALLER):
            raise error
        if error.fatal:
            _log.error(f"the consumer cannot go on: {describe(error)}")
            raise error
        self._report_trouble(describe(error))
        self._pause(_ERROR_BACKOFF_S)

    def _open(self) -> None:
        """First thing in `start()`, in its thread."""
        if is_coroutine_function(self.message_handler):
            _refuse_running_loop()
            if self._side_by_side is None:
                self._event_loop = asyncio.new_event_loop()

    def _lease(self, timeout: float) -> Any:
        """The next batch to handle, or None after `timeout` seconds."""
        return self._consumer.lease_batch(timeout=timeout)

    def _decode(self, value: Any) -> Any:
        """What the handler gets of a record's value; ValueError, TypeError or RecursionError: it is poison."""
        return loads(value)

    def _attempt_failed(self, record: Any, error: Exception, is_final: bool) -> None:
        """With several workers: the handler raised, or the record could not be decoded. One call at a time."""
        if isinstance(error, Undecodable):
            value = record.value
            self._count_poison(record, value, error.original)
            return
        counters = self._counters
        _log.debug(f"handler failed on {_place(record)}", error=error)
        if not is_final:
            counters.retried += 1
            return
        counters.failed += 1
        if self._has_dead_letters:  # else the engine says so
            _log.error(f"handler failed for good on {_place(record)}: {describe(error)}")
        self._tell_application(error, record)

    def _handle_batch(self, batch: Any) -> None:
        """Handle every row, in this thread."""
        counters = self._counters
        counters.received += len(batch)
        handler = self._bound_handler()
        is_stale = batch.is_stale
        acknowledge = batch.acknowledge_rows
        for row, value in enumerate(_values(batch)):
            if self._stopping:
                return
            if is_stale(row):
                self._skip_stale(batch, row)
                continue
            try:
                document = loads(value)  # type: ignore[arg-type]  # None is told apart from the rest in _poison
            except (ValueError, TypeError, RecursionError) as error:
                self._poison(batch, row, value, error)
                continue
            try:
                handler(document)
            except Exception as error:
                self._failed(batch, row, handler, document, error)
            else:
                counters.handled += 1
                try:
                    acknowledge(row, row + 1)
                except _core.TidegateError as error:
                    self._too_late(batch, row, error)

    def _too_late(self, batch: Any, row: int, error: BaseException) -> None:
        """The partition was revoked, or the consumer closed, while the handler ran: the record comes again elsewhere."""
        _log.debug(f"{_place(batch[row])} was handled but is delivered again: {describe(error)}")

    def _skip_stale(self, batch: Any, row: int) -> None:
        """Its partition is being taken away: whoever gets it handles the record, and need not wait for us to."""
        self._counters.stale += 1
        batch.release_rows(row, row + 1)

    def _acknowledge(self, batch: Any, row: int) -> None:
        try:
            batch.acknowledge_rows(row, row + 1)
        except _core.TidegateError as error:
            self._too_late(batch, row, error)

    def _bound_handler(self) -> Callable[[Any], Any]:
        handler = self.message_handler
        if not is_coroutine_function(handler):
            return handler
        if self._event_loop is None:  # replaced by a coroutine function while running
            self._event_loop = asyncio.new_event_loop()
        return functools.partial(_run_coroutine, self._event_loop, handler)

    def _poison(self, batch: Any, row: int, value: bytes | None, error: Exception) -> None:
        kind, text = self._count_poison(batch[row], value, error)
        now = _now_ms()
        self._finish_unhandled(batch, row, Reason(kind, type(error).__name__, text, 0, now, now))

    def _count_poison(self, record: Any, value: bytes | None, error: Exception) -> tuple[str, str]:
        self._counters.poison += 1
        if value is None:
            self._counters.tombstones += 1
            kind, text = "tombstone", "its value is null"
        elif not value:
            kind, text = "empty", "its value is empty"
        else:
            kind, text = "not-json", describe(error)
        _log.warning(f"{_place(record)} cannot be decoded: {text}{self._fate()}")
        self._tell_application(error, record)
        return kind, text

    def _failed(self, batch: Any, row: int, handler: Callable[[Any], Any], document: Any, error: Exception) -> None:
        """The handler raised: call it again as often as allowed, then give the record up (or leave it unfinished)."""
        counters = self._counters
        record = batch[row]
        first_ms = _now_ms()
        attempts = 1
        _log.debug(f"handler failed on {_place(record)}", error=error)
        if self._max_attempts is None and not isinstance(error, self._give_up_on):
            _log.warning(f"handler failed on {_place(record)}: {describe(error)}; it is called again until it succeeds")
        while not isinstance(error, self._give_up_on) and (self._max_attempts is None or attempts < self._max_attempts):
            backoff = min(self._retry_backoff_s * 2 ** min(attempts - 1, 16), self._max_backoff_s)
            if self._pause(backoff):
                _log.info(f"{_place(record)} is left unfinished at stop, after {attempts} attempts")
                return
            if batch.is_stale(row):
                self._skip_stale(batch, row)
                return
            attempts += 1
            counters.retried += 1
            try:
                handler(document)
            except Exception as again:
                error = again
                _log.debug(f"handler failed on {_place(record)}, attempt {attempts}", error=error)
                continue
            counters.handled += 1
            self._acknowledge(batch, row)
            return
        counters.failed += 1
        times = "once" if attempts == 1 else f"{attempts} times"
        _log.error(f"handler failed {times} on {_place(record)}: {describe(error)}{self._fate()}")
        self._tell_application(error, record)
        reason = Reason("handler", type(error).__name__, describe(error), attempts, first_ms, _now_ms())
        self._finish_unhandled(batch, row, reason)

    def _finish_unhandled(self, batch: Any, row: int, reason: Reason) -> None:
        letters = self._dead_letters
        if letters is None and self._stops_on_failure:
            raise _core.ListenerError(f"failed for good at {_place(batch[row])}: {reason.text}")
        if letters is None:
            self._acknowledge(batch, row)
            return
        while not letters.has_room():
            if self._stopping:
                return  # unfinished: it comes again
            letters.pump()
            letters.wait(_RESEND_WAIT_S)
        letters.send(batch, row, reason)

    def _fate(self) -> str:
        if self._has_dead_letters:
            return ""
        if self._stops_on_failure:
            return "; there is no dead-letter topic, so the consumer ends and leaves it unfinished"
        return "; there is no dead-letter topic, so it is skipped"

    def _tell_application(self, error: Exception, record: Any) -> None:
        if self._on_error is not None:
            try:
                self._on_error(error, record)
            except Exception as raised:
                _log.log(WARNING, f"on_error failed: {describe(raised)}", error=raised)

    def _pause(self, seconds: float) -> bool:
        """Wait, or return True at once when `stop()` was or is called."""
        if not self._stopping:
            with contextlib.suppress(queue.Empty):
                self._stop_signal.get(timeout=seconds)
        return self._stopping

    def _report_trouble(self, text: str | None) -> None:
        """One line for each change of state, however often the same error comes."""
        if text == self._trouble:
            return
        self._trouble = text
        if text is None:
            _log.info("records arrive again")
        else:
            _log.warning(f"no records for now, trying again: {text}")

    def _on_assign(self, partitions: Sequence[Any]) -> None:
        _log.debug(f"group {self._group_id} gave {len(partitions)} partitions")
        self._assigned.set()

    def _count_dead_letter(self) -> None:
        self._counters.dead_lettered += 1

    def _drain_s(self) -> float:
        """With several workers: the seconds that handlers in progress get at the end."""
        return _exit.HANDLER_GRACE_S if self._exiting else CLOSE_TIMEOUT_S - 1.0

    def _finish(self, timeout: float) -> None:
        """Leave nothing behind. Idempotent; what it cannot do in time stays unfinished and comes again."""
        self._stopping = self._finishing = True
        deadline = time.monotonic() + timeout
        if self._side_by_side is not None:
            self._side_by_side.stop(min(timeout, self._drain_s()))
        letters = self._dead_letters
        if letters is not None:
            longest = _DRAIN_DEAD_LETTERS_AT_EXIT_S if self._exiting else _DRAIN_DEAD_LETTERS_S
            if not letters.drain(min(timeout, longest)):
                _log.warning(f"{letters.waiting} records have not reached the dead-letter topic and stay unfinished")
        self.stats()
        try:
            self._consumer.close(timeout=max(deadline - time.monotonic(), 0.5))
        except _core.TidegateError as error:
            _log.warning(f"closing took too long or failed; unfinished records come again: {describe(error)}")
        if letters is not None:
            letters.close(0.5)
        if self._event_loop is not None and self._loop_thread == threading.get_ident():
            close_event_loop(self._event_loop)
            self._event_loop = None
        self._looping = False
        self._done = True

    # -- the process's end (see _exit) -----------------------------------------------------------------------------------

    def begin_exit(self) -> None:
        """Part of the exit hook: like `stop()`, with less patience afterwards."""
        self._exiting = True
        self.stop()

    def exit_done(self) -> bool:
        """Part of the exit hook: True once closed, or when `start()` never ran, so that there is no group to leave."""
        return self._done or self._loop_thread is None

    def runs_in(self, thread_id: int) -> bool:
        """True while `start()`, or one of several workers, runs in the thread with that identifier."""
        if self._done:
            return False
        return self._loop_thread == thread_id or (self._side_by_side is not None and self._side_by_side.runs_in(thread_id))

    def force_exit(self, timeout: float) -> None:
        """Part of the exit hook: close although the handler has not returned; its record stays unfinished."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(Exception):
            self._consumer.close(timeout=timeout)
        # The handler may have returned in the last moment: then the loop's thread closes, and is given the time.
        while self._finishing and not self._done and time.monotonic() < deadline:
            time.sleep(0.01)


def _run_coroutine(loop: asyncio.AbstractEventLoop, handler: Callable[[Any], Coroutine[Any, Any, Any]], document: Any) -> Any:
    return loop.run_until_complete(handler(document))


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("start() blocks and runs the coroutine handler itself; call it in a thread without an event loop")


def _values(batch: Any) -> Iterable[bytes | None]:
    """The values one after the other: all at once while they are small together, else one by one to save memory."""
    if batch.size_bytes <= _VALUES_AT_ONCE_BYTES:
        values: list[bytes | None] = batch.values
        return values
    return (record.value for record in batch)


def _place(record: Any) -> str:
    return f"{record.topic} [{record.partition}] offset {record.offset}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
