"""Sends records that could not be handled to a dead-letter topic, and never gives one up.

A record counts as finished only when the broker has confirmed its copy: the delivery report acknowledges the row. A copy
that is refused waits its backoff and is sent again, for as long as the process lives; if it ends first, the original is
still unfinished and is delivered again after the restart.

`send`, `pump`, `drain` and `close` belong to the consumer's loop thread. Delivery reports arrive on the producer's thread;
what they share with the loop is guarded by one lock that is never held across a call.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate import _core
from tidegate._logging import Logger, describe

__all__ = ["DeadLetters", "Reason", "producer_config"]

_log = Logger("tidegate.dead_letters")

MOST_IN_FLIGHT = 1000
"""Records on their way to the dead-letter topic at once; the loop waits for room beyond that."""

MOST_BYTES_IN_FLIGHT = 16 * 1024 * 1024
"""Bytes of values on their way at once (a single larger one is sent alone)."""

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 30.0
_LONGEST_REASON = 1000

_FOR_COPIES: Mapping[str, str | int] = {
    "acks": "all",
    "compression.type": "snappy",
    "linger.ms": 5,
    # What was consumed may be larger than a producer's default limit; the broker has the last word.
    "message.max.bytes": 1_000_000_000,
    # The loop must be able to answer stop().
    "tidegate.queue.full.timeout.ms": 500,
}


def producer_config(consumer_config: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of `consumer_config` that say how to reach the cluster: what a producer beside it needs as well."""
    reaching = {row["name"] for row in _core.config_table() if row["scope"] == "global"}
    return {name: value for name, value in consumer_config.items() if name in reaching}


@dataclass(frozen=True)
class Reason:
    """Why a record goes to the dead-letter topic."""

    kind: str
    """`handler`, `not-json`, `tombstone` or `empty`."""
    error: str
    """The exception's type, or an empty text."""
    text: str
    """What it said."""
    attempts: int
    """How often the handler was called."""
    first_ms: int
    """When it failed first, milliseconds since 1970."""
    last_ms: int
    """When it failed last."""


@dataclass
class _Letter:
    batch: Any
    row: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    size: int
    refusals: int = 0
    due: float = field(default=0.0)


class DeadLetters:
    """The way to one dead-letter topic.

    `config` is a producer's configuration, `group_id` is written into the headers, `on_confirmed` is called (on the
    producer's thread) for every copy the broker has confirmed.

    Raises:
        tidegate.ConfigError: `config` is wrong.
    """

    def __init__(self, topic: str, config: Mapping[str, Any], group_id: str, on_confirmed: Callable[[], None]) -> None:
        self._topic = topic
        self._group = group_id.encode()
        self._on_confirmed = on_confirmed
        self._producer = _core.Producer({**_FOR_COPIES, **config})
        self._refused: deque[_Letter] = deque()
        self._reported = threading.Event()
        self._guard = threading.Lock()
        self._unconfirmed = 0
        self._bytes_in_flight = 0
        self._broken = False

    @property
    def waiting(self) -> int:
        """Copies that are not confirmed yet, in flight or waiting to be sent again."""
        return self._unconfirmed

    @property
    def has_refused(self) -> bool:
        """True while a refused copy waits to be sent again."""
        return bool(self._refused)

    def has_room(self) -> bool:
        """False while as much is on its way as may be."""
        return self.waiting < MOST_IN_FLIGHT and (self._bytes_in_flight < MOST_BYTES_IN_FLIGHT or self.waiting == 0)

    def send(self, batch: Any, row: int, reason: Reason) -> None:
        """Send a copy of `batch[row]`; the row is acknowledged when the broker has confirmed it. Never raises."""
        record = batch[row]
        value = record.value
        headers = [*record.headers, *self._reason_headers(record, reason)]
        with self._guard:
            self._unconfirmed += 1
        self._produce(_Letter(batch, row, record.key, value, headers, len(value or b"")))

    def pump(self) -> None:
        """Send again what was refused and has waited long enough."""
        now = time.monotonic()
        for _ in range(len(self._refused)):
            letter = self._refused.popleft()
            if letter.due <= now:
                self._produce(letter)
            else:
                self._refused.append(letter)

    def wait(self, timeout: float) -> None:
        """Wait for a delivery report, `timeout` seconds at most."""
        self._reported.wait(timeout)
        self._reported.clear()

    def drain(self, timeout: float) -> bool:
        """Wait until every copy is confirmed, `timeout` seconds at most. False when some are not."""
        deadline = time.monotonic() + timeout
        while self.waiting and (remaining := deadline - time.monotonic()) > 0:
            self.pump()
            self.wait(min(remaining, _FIRST_BACKOFF_S))
        return not self.waiting

    def close(self, timeout: float) -> None:
        """Close the producer within `timeout` seconds. Never raises."""
        with contextlib.suppress(Exception):
            self._producer.close(timeout=timeout)

    def _produce(self, letter: _Letter) -> None:
        with self._guard:
            self._bytes_in_flight += letter.size

        def on_delivery(error: BaseException | None, _metadata: object) -> None:
            self._report(letter, error)

        try:
            self._producer.send(self._topic, letter.value, key=letter.key, headers=letter.headers, on_delivery=on_delivery)
        except Exception as error:  # whatever it is, the record stays unfinished and is sent again
            self._report(letter, error)

    def _report(self, letter: _Letter, error: BaseException | None) -> None:
        if error is None:
            # Stale: the partition went to another member meanwhile, which gets the record again.
            with contextlib.suppress(_core.TidegateError):
                letter.batch.acknowledge_rows(letter.row, letter.row + 1)
            self._on_confirmed()
        else:
            letter.refusals += 1
            letter.due = time.monotonic() + min(_FIRST_BACKOFF_S * 2 ** min(letter.refusals, 16), _LONGEST_BACKOFF_S)
            self._refused.append(letter)
        with self._guard:
            self._bytes_in_flight -= letter.size
            self._unconfirmed -= error is None
            news = self._broken is (error is None)
            self._broken = error is not None
        self._reported.set()
        if not news:
            return
        if error is None:
            _log.info(f"dead-letter topic {self._topic} takes records again")
        else:
            _log.error(
                f"dead-letter topic {self._topic} refuses a record, which stays unfinished and is sent again: {describe(error)}"
            )

    def _reason_headers(self, record: Any, reason: Reason) -> list[tuple[str, bytes | None]]:
        timestamp_ms = record.timestamp_ms
        texts = {
            "tidegate.dlq.topic": record.topic,
            "tidegate.dlq.partition": str(record.partition),
            "tidegate.dlq.offset": str(record.offset),
            "tidegate.dlq.timestamp_ms": "" if timestamp_ms is None else str(timestamp_ms),
            "tidegate.dlq.reason": reason.kind,
            "tidegate.dlq.exception": reason.error,
            "tidegate.dlq.text": reason.text[:_LONGEST_REASON],
            "tidegate.dlq.attempts": str(reason.attempts),
            "tidegate.dlq.first_ms": str(reason.first_ms),
            "tidegate.dlq.last_ms": str(reason.last_ms),
        }
        headers: list[tuple[str, bytes | None]] = [(name, text.encode("utf-8", "backslashreplace")) for name, text in texts.items()]
        return [*headers, ("tidegate.dlq.group", self._group)]
