"""What an `AdminClient` is beside its requests: its callbacks, its life, and what is polled for.

Callbacks run inside of `poll()`, on the thread that calls it; what one raises comes out of it, and what was not told yet waits for
the next call. `oauth_cb` alone runs on a thread of the client's own, as in the original.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from types import FunctionType, TracebackType
from typing import Any, TypeVar

from tidegate import _core
from tidegate.confluent._errors import KafkaError
from tidegate.confluent._types import ThrottleEvent

CLOSED = "AdminClient has been closed"
HANDLE_CLOSED = "Handle has been closed"
OF_THE_HANDLE = {"list_topics", "list_groups", "cluster_id", "set_sasl_credentials"}
"""Calls that the original shares between its clients, and that say so."""

LEVELS = (50, 50, 50, 40, 30, 20, 20, 10)
"""logging's levels for syslog's."""

LOOK_S = 3600.0
"""A wait for ever is cut into waits of so long."""

C = TypeVar("C", bound=type)
S = TypeVar("S", bound="Handle")


def refuses_when_closed(client: C) -> C:
    """Has every request of the class look first whether the client is open."""
    for name, function in list(vars(client).items()):
        if isinstance(function, FunctionType) and not name.startswith("_"):
            setattr(client, name, _guarded(function, HANDLE_CLOSED if name in OF_THE_HANDLE else CLOSED))
    return client


def _guarded(function: FunctionType, said: str) -> Any:
    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._native is None:
            raise RuntimeError(said)
        return function(self, *args, **kwargs)

    return call


def _number(name: str, timeout: Any) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{name}: must be real number, not {type(timeout).__name__}; give seconds")
    return float(timeout)


def _value(value: Any) -> Any:
    return value if isinstance(value, (str, bool, int, float)) else str(value)


class Handle:
    """The native client, while it is open, and the callbacks."""

    _native: Any = None
    """None before `__init__` and after closing."""

    def _open(self, conf: dict[str, Any], more: dict[str, Any]) -> None:
        if self._native is not None:
            raise RuntimeError("Admin already __init__:ialized")
        properties = {**conf, **more}
        self._callbacks: dict[str, Any] = {}
        for name in ("error_cb", "stats_cb", "throttle_cb", "oauth_cb"):
            if name not in properties:
                continue
            callback = self._callbacks[name] = properties.pop(name)
            if not callable(callback):
                wrong = ValueError if name == "throttle_cb" else TypeError
                raise wrong(f"expected {name} property as a callable function, not {type(callback).__name__}")
        self._logger = properties.pop("logger", None)
        oauth = self._callbacks.pop("oauth_cb", None)
        topic = properties.pop("default.topic.config", None)
        if isinstance(topic, dict):
            properties.update(topic)
        # None means librdkafka's default.
        given = {str(name): _value(value) for name, value in properties.items() if value is not None}
        polled = bool(self._callbacks) or self._logger is not None
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._telling = threading.Lock()
        self._native = _core._ConfluentAdmin(given, oauth, polled, self._logger is not None)

    def poll(self, timeout: float) -> int:
        """Run the callbacks of what was said; waits up to `timeout` seconds for something, -1 for ever; how much there was.

        Answers of requests need no poll.
        """
        native = self._native
        if native is None:
            raise RuntimeError(CLOSED)
        seconds = _number("timeout", timeout)
        until = time.monotonic() + seconds if seconds >= 0 else None
        while True:
            self._waiting.extend(native.take_events())
            count = self._tell()
            if count:
                return count
            left = LOOK_S if until is None else until - time.monotonic()
            if left <= 0 or self._native is None:
                return 0
            native.wait_events(left)

    def _tell(self) -> int:
        count = 0
        while True:
            try:
                event = self._waiting.popleft()
            except IndexError:
                return count
            count += 1
            self._tell_one(*event)

    def _tell_one(self, kind: str, *said: Any) -> None:
        if kind == "log":
            level, facility, line = said
            if self._logger is not None:
                self._logger.log(LEVELS[min(max(level, 0), 7)], "%s [%s] %s", facility, "tidegate#admin", line)
            return
        callback = self._callbacks.get(kind)
        if callback is None:
            return
        if kind == "error_cb":
            code, reason, fatal = said
            callback(KafkaError(code, reason, fatal=fatal))
        elif kind == "throttle_cb":
            callback(ThrottleEvent(*said))
        else:
            callback(*said)

    def set_sasl_credentials(self, username: str, password: str) -> None:
        """Set user and password of SASL PLAIN or SCRAM for the next connections."""
        if self._native is None:
            raise RuntimeError(HANDLE_CLOSED)
        for name, value in (("username", username), ("password", password)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be str, not {type(value).__name__}")
        self._native.set_sasl_credentials(username, password)

    def __len__(self) -> int:
        return len(self._waiting) if self._native is not None else 0

    def __bool__(self) -> bool:
        return True

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        exc_traceback: TracebackType | None = None,
    ) -> None:
        # A request that is under way keeps the client alive until it is answered.
        self._native = None
