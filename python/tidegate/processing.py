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
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypedDict

from tidegate import _core, _exit
from tidegate._handlers import MOST_AT_ONCE, BatchError, OnLoop, Retry, check_handler, current_attempt, is_coroutine_function
from tidegate._logging import Logger, describe
from tidegate._on_threads import OnThreads

__all__ = ["BatchError", "Processing", "ProcessingOptions", "Retry", "SharedOptions", "current_attempt", "process"]

_log = Logger("tidegate.processing")

_ORDERS = ("key", "partition", "none")
_FAILURES = ("stop", "skip")
_MOST_IN_FLIGHT = 1_000_000
_DRAIN_S = 10.0


class SharedOptions(TypedDict, total=False):
    """The keywords that `Consumer.process` and `Consumer.stream` share; see `process` for what they mean."""

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
    on_failure: str | None
    offset_map_bytes: int
    attempt_timeout: float | None
    rate_limit: float | None
    min_in_flight: int | None
    dead_letter_limit: int | None


class ProcessingOptions(SharedOptions, total=False):
    """The keywords of `Consumer.process`; see `process` for what they mean."""

    cost: Callable[[_core.Record], float] | None
    batch_size: int
    batch_timeout: float
    produce_to: str | None
    transactional_id: str | None
    transaction_interval: float


DEFAULTS: ProcessingOptions = {
    "order": "key",
    "max_in_flight": 16,
    "max_queued": 10_000,
    "max_bytes": 64 * 1024 * 1024,
    "max_attempts": 1,
    "backoff": 0.1,
    "max_backoff": 30.0,
    "park_retries": False,
    "give_up_on": (),
    "dead_letter_topic": None,
    "on_failure": None,
    "offset_map_bytes": 4096,
    "attempt_timeout": None,
    "rate_limit": None,
    "min_in_flight": None,
    "dead_letter_limit": None,
    "produce_to": None,
    "transactional_id": None,
    "transaction_interval": 0.1,
    "cost": None,
    "batch_size": 1,
    "batch_timeout": 0.1,
}
"""What `process` takes unless told otherwise, and `stream` but for what only `process` has."""


class OnAttemptFailed(Protocol):
    """Hears of every attempt that fails, in the handler's thread; `is_final`: there will be no other."""

    def __call__(self, record: Any, error: Exception, attempt: int, is_final: bool) -> None: ...


def process(
    consumer: _core.Consumer,
    handler: Callable[[Any], Any],
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
    on_failure: str | None = None,
    offset_map_bytes: int = 4096,
    attempt_timeout: float | None = None,
    rate_limit: float | None = None,
    min_in_flight: int | None = None,
    dead_letter_limit: int | None = None,
    produce_to: str | None = None,
    transactional_id: str | None = None,
    transaction_interval: float = 0.1,
    cost: Callable[[_core.Record], float] | None = None,
    batch_size: int = 1,
    batch_timeout: float = 0.1,
) -> Processing:
    """Handle the consumer's records in the background until `stop()`, `consumer.close()` or an error.

    Args:
        consumer: subscribed or assigned, now or later. Nobody else may poll it meanwhile; its rebalance callbacks run in a
            thread of their own.
        handler: called with each Record, or with a list of them if `batch_size` is more than 1. A plain function runs on threads,
            for `max_in_flight` records; a coroutine function runs on the event loop of the caller, if one runs, else on one of
            its own. What it returns is ignored, unless there is `produce_to`.
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
            restart; the default) or `skip` (it is logged and finished).
        offset_map_bytes: how much metadata a commit may carry about what is done beyond the committed offset, so that a restart
            does not repeat it; 0 for none. The broker must take as much (`offset.metadata.max.bytes`, 4096 unless changed).
        attempt_timeout: seconds after which an attempt counts as failed. Its handler is not stopped: its key stays busy until it
            returns, and what it says then is thrown away.
        rate_limit: the most records begun per second, or the most that they may `cost` per second. What is not used up is saved
            for a second; a record that costs more is begun all the same, and what it is too much is waited for afterwards.
        min_in_flight: let the number of records at once follow the service, between this and `max_in_flight`: more while handlers
            stay quick, fewer when they slow down or fail.
        dead_letter_limit: the most records that go to the dead-letter topic; one more ends the processing, unfinished.
        produce_to: exactly-once. What the handler returns goes to this topic, in a transaction with the offset of what it handled:
            bytes, a str, an Output, a list of these, or None for nothing. Readers with `isolation.level=read_committed` see the
            outputs of each record once. Needs `transactional_id`.
        transactional_id: the name of this member's producer: no other member may have it at the same time. Best the same after a
            restart, which then need not wait 30 s for what a crash left open.
        transaction_interval: the least seconds from one transaction to the next; outputs wait so long.
        cost: with `rate_limit`: called with each Record before the handler, for each attempt, in a thread of ours; gives what it
            costs, 0 or more, in the unit that `rate_limit` is per second (tokens of a language model, say). What it raises
            is a failed attempt; anything that is no such number is a failure for good.
        batch_size: how many records the handler gets at a time; more than 1: always as a list. Those of one key follow each
            other in order. An exception fails all of them, each with its own attempts; `BatchError` says which ones.
        batch_timeout: seconds that a record waits at most for the others of a batch.

    A handler may raise `Retry(after=seconds)`. A BaseException that is no Exception (KeyboardInterrupt, SystemExit) ends the
    processing and leaves the record unfinished, and so does a handler that returns a coroutine or a generator, which nobody
    runs.

    Raises:
        tidegate.ArgumentError: an argument is wrong, or two contradict each other.
        tidegate.ClosedError: the consumer is closed.
        tidegate.ConcurrentUseError: it is being processed already.
        tidegate.ConfigError: the dead-letter producer cannot have this consumer's settings.
    """
    options: ProcessingOptions = {
        "order": order,
        "max_in_flight": max_in_flight,
        "max_queued": max_queued,
        "max_bytes": max_bytes,
        "max_attempts": max_attempts,
        "backoff": backoff,
        "max_backoff": max_backoff,
        "park_retries": park_retries,
        "give_up_on": give_up_on,
        "dead_letter_topic": dead_letter_topic,
        "on_failure": on_failure,
        "offset_map_bytes": offset_map_bytes,
        "attempt_timeout": attempt_timeout,
        "rate_limit": rate_limit,
        "min_in_flight": min_in_flight,
        "dead_letter_limit": dead_letter_limit,
        "produce_to": produce_to,
        "transactional_id": transactional_id,
        "transaction_interval": transaction_interval,
        "cost": cost,
        "batch_size": batch_size,
        "batch_timeout": batch_timeout,
    }
    return begin(consumer, handler, options)


def begin(
    consumer: _core.Consumer,
    handler: Callable[[Any], Any],
    options: ProcessingOptions,
    *,
    on_attempt_failed: OnAttemptFailed | None = None,
    at_exit: bool = True,
) -> Processing:
    """`process` for the package itself: with a hook, and with the exit left to the caller if `at_exit` is False."""
    check_handler(handler)
    loop = None
    is_coroutine = is_coroutine_function(handler)
    if is_coroutine:
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
    # A thread may have several records of a quick function, of which one is being handled.
    options = {**DEFAULTS, **options}
    dispatcher = dispatch(consumer, options, 1 if is_coroutine else most_at_once(options))
    processing = Processing(dispatcher, handler, options, loop, on_attempt_failed)
    if at_exit:
        _exit.register(processing)
    return processing


def most_at_once(options: ProcessingOptions) -> int:
    """How many records a thread may take: one, where each record's beginning counts."""
    paced = any(options[name] is not None for name in ("attempt_timeout", "rate_limit", "min_in_flight"))
    return 1 if paced or options["batch_size"] > 1 else MOST_AT_ONCE


_dispatchers: weakref.WeakKeyDictionary[_core.Consumer, _core._Dispatcher] = weakref.WeakKeyDictionary()
_dispatchers_guard = threading.Lock()


def dispatch(consumer: _core.Consumer, options: ProcessingOptions, records_each: int = 1) -> _core._Dispatcher:
    """The engine's dispatcher for these options, checked; a handler may have `records_each` of the records in flight.

    Raises:
        tidegate.TidegateError: as `process`.
    """
    check_values(options)
    letters = options["dead_letter_topic"]
    if letters is not None and not consumer.closed and letters in consumer.subscription():
        raise _core.ArgumentError(
            f"dead_letter_topic: {letters!r} is one of the topics consumed, a failing record would come back for ever; "
            "name another topic"
        )
    outputs = options["produce_to"]
    if outputs is not None and not consumer.closed and outputs in consumer.subscription():
        raise _core.ArgumentError(
            f"produce_to: {outputs!r} is one of the topics consumed, every output would be handled again; name another topic"
        )
    with _dispatchers_guard:
        known = _dispatchers.get(consumer)
        if known is not None and not known.is_stopping:
            raise _core.ConcurrentUseError(
                "this consumer's records are handled already; stop() that first, or use a consumer for each of the two"
            )
        dispatcher = _dispatchers[consumer] = _core._Dispatcher(
            consumer,
            dead_letter_topic=letters,
            transactional=_transactional(options),
            **engine_options(options, records_each),
        )
    return dispatcher


def _transactional(options: ProcessingOptions) -> tuple[str, str, float] | None:
    topic, name = options["produce_to"], options["transactional_id"]
    return (topic, name, float(options["transaction_interval"])) if topic is not None and name is not None else None


def engine_options(options: ProcessingOptions, records_each: int = 1) -> dict[str, Any]:
    """Checked options as the engine takes them, but for the dead-letter topic."""
    return {
        "order": options["order"],
        "max_in_flight": options["max_in_flight"] * records_each,
        "max_queued": options["max_queued"],
        "max_bytes": options["max_bytes"],
        "max_attempts": options["max_attempts"],
        "backoff": float(options["backoff"]),
        "max_backoff": float(options["max_backoff"]),
        "park_retries": bool(options["park_retries"]),
        "on_failure": options["on_failure"] or "stop",
        "offset_map_bytes": options["offset_map_bytes"],
        "attempt_timeout": options["attempt_timeout"],
        "rate_limit": options["rate_limit"],
        "min_in_flight": options["min_in_flight"],
        "dead_letter_limit": options["dead_letter_limit"],
        "batch_size": options["batch_size"],
        "batch_timeout": float(options["batch_timeout"]),
    }


class Processing:
    """Handlers at work; made by `Consumer.process`. Any thread may call any method.

    As a context manager it is stopped at the end. One that runs when the interpreter ends is stopped (within 5 s).
    """

    def __init__(
        self,
        dispatcher: _core._Dispatcher,
        handler: Callable[[_core.Record], Any],
        options: ProcessingOptions,
        loop: asyncio.AbstractEventLoop | None,
        on_attempt_failed: OnAttemptFailed | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._max_attempts = options["max_attempts"]
        self._on_attempt_failed = on_attempt_failed
        self._raised: BaseException | None = None
        self._stopped = threading.Event()
        self._exiting = False
        self._handlers: OnThreads | OnLoop
        give_up_on, cost, is_batched = options["give_up_on"], options["cost"], options["batch_size"] > 1
        makes_outputs = options["produce_to"] is not None
        if is_coroutine_function(handler):
            self._handlers = OnLoop(
                self, dispatcher, handler, give_up_on, loop, cost=cost, is_batched=is_batched, makes_outputs=makes_outputs
            )
        else:
            # So many batches can be full at once.
            count = -(-options["max_in_flight"] // options["batch_size"])
            at_once = most_at_once(options)
            self._handlers = OnThreads(
                self,
                dispatcher,
                handler,
                give_up_on,
                count,
                at_once,
                cost=cost,
                is_batched=is_batched,
                makes_outputs=makes_outputs,
            )

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
        `returned` (given back at a stop), `queued`, `in_flight`, `retry_wait`, `dead_letters_pending` and `outputs_pending`
        (handled, waiting for their transaction). `missing` is 0."""
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

    def broken_by(self, error: BaseException) -> None:
        """A handler raised something that is no Exception."""
        self._raised = error
        self._dispatcher.end_with(f"the handler raised {describe(error)}")

    def attempt_failed(self, record: Any, error: Exception, attempt: int, is_retriable: bool) -> None:
        """A handler raised."""
        if self._on_attempt_failed is not None:
            is_final = not is_retriable or (self._max_attempts is not None and attempt >= self._max_attempts)
            self._on_attempt_failed(record, error, attempt, is_final)

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


def check_values(options: ProcessingOptions) -> None:
    """Refuses values that cannot be, and those that contradict each other.

    Raises:
        tidegate.ArgumentError: names the first one.
    """
    _check_choice("order", options["order"], _ORDERS)
    if options["on_failure"] is not None:
        _check_choice("on_failure", options["on_failure"], _FAILURES)
    given: dict[str, Any] = {**options}
    for name in ("max_in_flight", "max_queued", "max_bytes"):
        _check_count(name, given[name])
    if options["max_in_flight"] > _MOST_IN_FLIGHT:
        raise _core.ArgumentError(f"max_in_flight: {options['max_in_flight']} at once cannot be; use at most {_MOST_IN_FLIGHT}")
    if options["max_attempts"] is not None:
        _check_count("max_attempts", options["max_attempts"])
    for name in ("backoff", "max_backoff"):
        check_seconds(name, given[name])
    _check_batches(options)
    _check_number("offset_map_bytes", options["offset_map_bytes"], 0, 65_536)
    _check_pace(options)
    _check_kinds(options["give_up_on"])
    _check_topic("dead_letter_topic", options["dead_letter_topic"])
    _check_transactions(options)
    letters = options["dead_letter_topic"]
    if letters is not None and options["on_failure"] is not None:
        raise _core.ArgumentError(
            f"on_failure: {options['on_failure']!r} says what happens without a dead-letter topic, and dead_letter_topic is "
            f"{letters!r}; give one of the two"
        )
    if options["backoff"] > options["max_backoff"]:
        raise _core.ArgumentError(
            f"backoff: {options['backoff']} s is longer than max_backoff, {options['max_backoff']} s; use at most as long a one"
        )
    if options["park_retries"] and options["max_attempts"] == 1:
        raise _core.ArgumentError("park_retries: with max_attempts=1 there is no other attempt; give max_attempts, or leave it out")
    if options["park_retries"] and options["order"] == "none":
        raise _core.ArgumentError("park_retries: with order='none' nothing waits for a retry; leave one of the two out")


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


def check_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _core.ArgumentTypeError(f"{name}: {value!r} is no number of seconds")
    if not 0 <= value < 1e9:
        raise _core.ArgumentError(f"{name}: {value} s cannot be; use seconds of 0 or more")


def _check_kinds(value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in value):
        raise _core.ArgumentTypeError(f"give_up_on: {value!r} is no tuple of exception classes; give (ValueError,), for example")


def _check_topic(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise _core.ArgumentTypeError(f"{name}: {value!r} is no topic; give its name, or None")


def _check_transactions(options: ProcessingOptions) -> None:
    _check_topic("produce_to", options["produce_to"])
    name: object = options["transactional_id"]
    if name is not None and (not isinstance(name, str) or not name):
        raise _core.ArgumentTypeError(f"transactional_id: {name!r} is no name; give a str, or None")
    check_seconds("transaction_interval", options["transaction_interval"])
    if options["produce_to"] is not None and name is None:
        raise _core.ArgumentError(
            "produce_to: outputs are sent in transactions, and there is no transactional_id; give one that no other member has"
        )
    if options["produce_to"] is not None and options["batch_size"] > 1:
        raise _core.ArgumentError(
            "batch_size: a handler of batches has no outputs of its own for each record; leave produce_to or batch_size out"
        )
    if options["produce_to"] is None and name is not None:
        raise _core.ArgumentError(
            "transactional_id: there is no produce_to, so there is nothing to send in a transaction; give the topic of the outputs"
        )
    if name is None and options["transaction_interval"] != DEFAULTS["transaction_interval"]:
        raise _core.ArgumentError("transaction_interval: there are no transactions; give produce_to and transactional_id")


def _check_batches(options: ProcessingOptions) -> None:
    _check_count("batch_size", options["batch_size"])
    check_seconds("batch_timeout", options["batch_timeout"])
    for name, most in (("max_in_flight", options["max_in_flight"]), ("max_queued", options["max_queued"])):
        if options["batch_size"] > most:
            raise _core.ArgumentError(
                f"batch_size: {options['batch_size']} records never come together while {name} is {most}; use a smaller "
                f"batch_size, or raise {name}"
            )


def _check_cost(options: ProcessingOptions) -> None:
    cost: Any = options["cost"]
    if cost is None:
        return
    if not callable(cost) or is_coroutine_function(cost):
        raise _core.ArgumentTypeError(f"cost: {cost!r} is no plain function; give one that takes a Record and returns a number")
    if options["rate_limit"] is None:
        raise _core.ArgumentError("cost: there is no rate_limit that it counts against; give one, in the same unit per second")


def _check_pace(options: ProcessingOptions) -> None:
    _check_cost(options)
    given: dict[str, Any] = {**options}
    for name, unit in (("attempt_timeout", "seconds"), ("rate_limit", "records per second")):
        value = given[name]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise _core.ArgumentError(f"{name}: {value!r} is no number of {unit} above 0; give one, or None for no limit")
    for name in ("min_in_flight", "dead_letter_limit"):
        if given[name] is not None:
            _check_count(name, given[name])
    least, most = options["min_in_flight"], options["max_in_flight"]
    if least is not None and least > most:
        raise _core.ArgumentError(f"min_in_flight: {least} is more than max_in_flight, {most}; use at most as many")
    if options["dead_letter_limit"] is not None and options["dead_letter_topic"] is None:
        raise _core.ArgumentError("dead_letter_limit: there is no dead_letter_topic to limit; name one, or leave the limit out")
