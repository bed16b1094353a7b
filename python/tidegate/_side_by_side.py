"""`BaseKafkaConsumer` with `workers` above 1: its handler on `process()`.

Retries, the dead-letter topic and the order are the dispatcher's. This module decodes, counts, and keeps going when the engine
says that it cannot for now. The serial consumer handles whole batches in the thread of `start()` instead: for a handler that does
little, handing records over to the dispatcher one by one would cost more than all the rest.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypedDict

from tidegate import _core
from tidegate._handlers import BatchError, Undecodable, is_coroutine_function
from tidegate.processing import Processing, ProcessingOptions, begin

__all__ = ["MoreOptions", "SideBySide"]


class MoreOptions(TypedDict, total=False):
    """Keywords of `BaseKafkaConsumer` that it has from `process()`; the first four are other names of its own."""

    order: str
    max_in_flight: int
    max_attempts: int | None
    backoff: float
    max_backoff: float
    max_queued: int
    max_bytes: int
    park_retries: bool
    on_failure: str | None
    offset_map_bytes: int
    attempt_timeout: float | None
    rate_limit: float | None
    min_in_flight: int | None
    dead_letter_limit: int | None
    cost: Callable[[Any], float] | None
    batch_size: int
    batch_timeout: float


SERIAL_TOO = frozenset(("order", "max_in_flight", "max_attempts", "backoff", "max_backoff", "on_failure"))
"""What the serial consumer can do as well."""


class SideBySide:
    """The processing of one BaseKafkaConsumer, begun again after an error that may pass.

    Args:
        consumer: the native one.
        decode: a record's value as the handler takes it; a ValueError, TypeError or RecursionError means poison.
        handler: gives the handler, which may be replaced by one of its kind meanwhile.
        on_failed: called in the handler's thread, one at a time, as `on_failed(record, error, is_final)`.
    """

    def __init__(
        self,
        consumer: _core.Consumer,
        decode: Callable[[Any], Any],
        handler: Callable[[], Callable[[Any], Any]],
        options: ProcessingOptions,
        on_failed: Callable[[Any, Exception, bool], None],
    ) -> None:
        self._consumer = consumer
        self._decode = decode
        self._handler = handler
        self._options: ProcessingOptions = {**options}
        self._cost = options["cost"]
        if self._cost is not None:
            self._options["cost"] = self._cost_of
        self._on_failed = on_failed
        self._guard = threading.Lock()
        self._processing: Processing | None = None
        self._before: dict[str, int] = {}

    def begin(self) -> Processing:
        """Begin, or begin again."""
        before = self.ledger()
        handle: Callable[[Any], Any]
        if self._options["batch_size"] > 1:
            handle = self._handle_together_later if is_coroutine_function(self._handler()) else self._handle_together
        else:
            handle = self._handle_later if is_coroutine_function(self._handler()) else self._handle
        self._before = before
        self._processing = begin(self._consumer, handle, self._options, on_attempt_failed=self._attempt_failed, at_exit=False)
        return self._processing

    def ledger(self) -> dict[str, int]:
        """What became of everything received, of all processings together."""
        now = {} if self._processing is None else self._processing.ledger()
        return {name: self._before.get(name, 0) + now.get(name, 0) for name in {**self._before, **now}}

    def runs_in(self, thread_id: int) -> bool:
        """True in a thread that runs handlers."""
        return self._processing is not None and self._processing.runs_in(thread_id)

    def stop(self, drain: float) -> None:
        """End it within about `drain` seconds."""
        if self._processing is not None:
            with contextlib.suppress(_core.TidegateError):
                self._processing.stop(drain)

    def _handle(self, record: Any) -> Any:
        return self._handler()(self._document(record))

    async def _handle_later(self, record: Any) -> Any:
        return await self._handler()(self._document(record))

    def _handle_together(self, records: list[Any]) -> Any:
        documents, rows, failures = self._documents(records)
        returned = None
        if documents:
            try:
                returned = self._handler()(documents)
            except Exception as error:
                failures |= _failures(error, rows)
        if failures:
            raise BatchError(failures)
        return returned

    async def _handle_together_later(self, records: list[Any]) -> Any:
        documents, rows, failures = self._documents(records)
        returned = None
        if documents:
            try:
                returned = await self._handler()(documents)
            except Exception as error:
                failures |= _failures(error, rows)
        if failures:
            raise BatchError(failures)
        return returned

    def _documents(self, records: list[Any]) -> tuple[list[Any], list[int], dict[int, Exception]]:
        """What can be decoded, the rows that it comes from, and why the others cannot."""
        documents: list[Any] = []
        rows: list[int] = []
        failures: dict[int, Exception] = {}
        for row, record in enumerate(records):
            try:
                documents.append(self._document(record))
                rows.append(row)
            except Undecodable as error:
                failures[row] = error
        return documents, rows, failures

    def _cost_of(self, record: Any) -> float:
        assert self._cost is not None
        return self._cost(self._document(record))

    def _document(self, record: Any) -> Any:
        value = record.value
        try:
            return self._decode(value)
        except (ValueError, TypeError, RecursionError) as error:
            raise Undecodable(error) from error

    def _attempt_failed(self, record: Any, error: Exception, attempt: int, is_final: bool) -> None:
        with self._guard:
            self._on_failed(record, error, is_final)


def _failures(error: Exception, rows: list[int]) -> dict[int, Exception]:
    """An error of the handler's by the rows of the whole batch, of which it saw those that could be decoded."""
    if isinstance(error, BatchError) and all(0 <= place < len(rows) for place in error.failures):
        return {rows[place]: failure for place, failure in error.failures.items()}
    return dict.fromkeys(rows, error)
