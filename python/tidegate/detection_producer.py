"""`DetectionResultProducer`: sends detection results as JSON, and never raises into the detection loop.

Any thread may call any method. Delivery reports are counted on the producer's own thread.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from tidegate import _core, _exit
from tidegate._json import dumps
from tidegate._logging import Logger, describe, forward_native_lines, shown

__all__ = ["DetectionResultProducer"]

_log = Logger("tidegate.detection_producer")

ConfigValue = str | int | float | bool
"""What a configuration property may be given as."""

ORIGINAL_SETTINGS: Mapping[str, ConfigValue] = {
    "compression.type": "snappy",
    "linger.ms": 10,
    "batch.size": 32768,
    "acks": "all",
    "retries": 3,
    "retry.backoff.ms": 100,
    "enable.idempotence": True,
}
"""Settings of the class this one replaces; `config=` goes over them."""

FLUSH_TIMEOUT_S = 10.0
"""Seconds `flush()` and `close()` wait for delivery reports unless told otherwise."""


class DetectionResultProducer:
    """Sends one camera's detection results after the other to a topic.

    Args:
        bootstrap_servers: `host:port`, several separated by commas. Nobody needs to listen there yet: records wait in the
            queue until a broker answers (librdkafka's `message.timeout.ms`, five minutes unless `config` says otherwise).
        topic: where the results go.
        enable_kafka: False: nothing is sent and `send` returns None.
        config: further properties of librdkafka or the Java client; they go over the settings above.

    A wrong configuration or argument does not raise: the reason is logged, `enable_kafka` becomes False, and `stats()` has
    it as `last_error`. What is queued when the process ends is flushed, within the few seconds of the exit hook.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        enable_kafka: bool = True,
        *,
        config: Mapping[str, ConfigValue] | None = None,
    ) -> None:
        self.topic = topic
        self.enable_kafka = enable_kafka
        self._producer: Any = None
        self._lock = threading.Lock()
        self._sent = 0
        self._refused = 0
        self._delivered = 0
        self._failed = 0
        self._last_error: str | None = None
        self._disabled_logged = False
        self._closed = False
        if not enable_kafka:
            return
        try:
            forward_native_lines()
            _check_topic(topic)
            self._producer = _core.Producer({"bootstrap.servers": bootstrap_servers, **ORIGINAL_SETTINGS, **(config or {})})
        except Exception as error:
            self.enable_kafka = False
            self._last_error = describe(error)
            _log.error(f"detection results are not sent, the producer is disabled: {_whole_text(error)}")
            return
        _exit.register(self)

    def send(self, detection_result: dict[str, Any], camera_id: int) -> str | None:
        """Queue one detection result and return its message id. Never raises an Exception, whatever it is given.

        Adds `messageId` (a new uuid4, as text) to the caller's `detection_result`. The record's key is `str(camera_id)`, its
        value the dict as UTF-8 JSON with non-ASCII characters as themselves. What `json.dumps` takes is taken, and
        numpy scalars and arrays, `datetime` (ISO 8601), `UUID`, enum members and dataclasses as well.

        Returns None, with a log line, when the producer is disabled or closed, when the dict cannot be written as JSON, or
        when the record could not be queued: a full queue is waited for first (`tidegate.queue.full.timeout.ms`, 10 s unless
        `config` says otherwise). A record that was queued and then not delivered is logged and counted in `stats()`.
        """
        try:
            return self._send(detection_result, camera_id)
        except Exception as error:
            self._refuse(describe(error), camera_id)
            return None

    def _send(self, detection_result: dict[str, Any], camera_id: int) -> str | None:
        if not self.enable_kafka or self._producer is None:
            self._refuse_disabled()
            return None
        message_id = str(uuid.uuid4())
        detection_result["messageId"] = message_id
        self._producer.send(
            self.topic,
            dumps(detection_result),
            key=str(camera_id).encode(),
            on_delivery=functools.partial(self._on_delivery, message_id),
        )
        with self._lock:
            self._sent += 1
        return message_id

    def flush(self, timeout: float = FLUSH_TIMEOUT_S) -> int:
        """Wait until everything sent is delivered or has failed, `timeout` seconds at most. Never raises an Exception.

        Returns how many records are still under way (0 when disabled).
        """
        if self._producer is None:
            return 0
        try:
            remaining = int(self._producer.flush(timeout=timeout))
        except Exception as error:
            self._note(describe(error))
            _log.warning(f"flush of {self.topic} failed: {describe(error)}")
            return self._under_way()
        if remaining:
            _log.warning(f"{remaining} records for {self.topic} are still under way after {timeout} s")
        return remaining

    def close(self, timeout: float = FLUSH_TIMEOUT_S) -> None:
        """Flush within `timeout` seconds and give the connections back. Idempotent; never raises an Exception."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._producer is None:
            return
        try:
            self._producer.close(timeout=timeout)
        except Exception as error:
            self._note(describe(error))
            _log.warning(f"closing the producer of {self.topic}: {describe(error)}")

    def stats(self) -> dict[str, Any]:
        """What became of the results so far. Any thread, also after `close()`.

        `sent`: queued; of these `delivered` and `failed` by their delivery reports, the rest is under way. `refused`: never
        queued (full queue, not JSON, disabled, closed). `last_error`: the text of the latest failure, or None.
        """
        with self._lock:
            return {
                "sent": self._sent,
                "delivered": self._delivered,
                "failed": self._failed,
                "refused": self._refused,
                "last_error": self._last_error,
            }

    def _on_delivery(self, message_id: str, error: BaseException | None, _metadata: object) -> None:
        if error is None:
            with self._lock:
                self._delivered += 1
            return
        text = describe(error)
        with self._lock:
            self._failed += 1
            self._last_error = text
        _log.error(f"detection result {message_id} was not delivered to {self.topic}: {text}")

    def _refuse(self, text: str, camera_id: object) -> None:
        with self._lock:
            self._refused += 1
            self._last_error = text
        _log.error(f"detection result of camera {shown(camera_id)} is not sent to {self.topic}: {text}")

    def _refuse_disabled(self) -> None:
        with self._lock:
            self._refused += 1
            first, self._disabled_logged = not self._disabled_logged, True
        text = f"detection results for {self.topic} are not sent: Kafka is disabled"
        if first:
            _log.warning(text)
        else:
            _log.debug(text)

    def _note(self, text: str) -> None:
        with self._lock:
            self._last_error = text

    def _under_way(self) -> int:
        with self._lock:
            return self._sent - self._delivered - self._failed

    # -- the process's end (see _exit); no lock here, a signal handler may run in a thread that holds it ------------------

    def begin_exit(self) -> None:
        """Part of the exit hook: nothing to stop, records still go out meanwhile."""

    def exit_done(self) -> bool:
        """Part of the exit hook: True when nothing is under way."""
        return self._closed or self._sent <= self._delivered + self._failed

    def runs_in(self, thread_id: int) -> bool:
        """Part of the exit hook: a producer has no loop."""
        return False

    def force_exit(self, timeout: float) -> None:
        """Part of the exit hook: a last flush of `timeout` seconds."""
        with contextlib.suppress(Exception):
            self._producer.flush(timeout=timeout)


def _check_topic(topic: object) -> None:
    if not isinstance(topic, str) or not topic:
        raise _core.ArgumentError(f"topic: {topic!r} is not the name of a topic")


def _whole_text(error: BaseException) -> str:
    """All of a configuration error's lines: they say what to write instead."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return describe(error)
