"""`wait_for_shutdown`: wait for the signal that ends a service, on every platform, then stop what runs.

`signal.pause()` does not exist on Windows, and a bare `Event.wait()` there does not let Ctrl-C through. This waits in
slices on a queue that a signal handler may fill at any instant (`queue.SimpleQueue` is re-entrant, `threading.Event` is
not: a handler that runs while its own thread is inside the Event's lock would wait for itself).
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from tidegate._logging import Logger, describe

__all__ = ["request_shutdown", "request_until", "wait_for_shutdown"]

_log = Logger("tidegate.shutdown")

SIGNALS = tuple(name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
"""What ends a service: Ctrl-C, the supervisor's request, and Ctrl-Break where there is one (Windows)."""

STOP_TIMEOUT_S = 10.0
"""Seconds that all stoppables together get, side by side, before `wait_for_shutdown` returns without them."""

REQUEST = "REQUEST"
"""What `wait_for_shutdown` returns after `request_shutdown()`."""

_SLICE_S = 0.1

_waiting: list[queue.SimpleQueue[str]] = []
"""One queue for each `wait_for_shutdown` under way; lists append and remove atomically."""


def request_shutdown(reason: str = REQUEST) -> None:
    """End every `wait_for_shutdown` under way, as a signal would; they return `reason`. Any thread, any signal handler."""
    for waiter in tuple(_waiting):
        waiter.put(reason)


def request_until(heard: threading.Event, reason: str = REQUEST) -> None:
    """`request_shutdown(reason)` again and again until `heard` is set: also for a wait that is only about to begin."""
    request_shutdown(reason)
    while not heard.wait(_SLICE_S):
        request_shutdown(reason)


def wait_for_shutdown(*stoppables: Any, timeout: float | None = None, stop_timeout: float = STOP_TIMEOUT_S) -> str | None:
    """Wait for SIGINT, SIGTERM or (Windows) SIGBREAK, then stop each of `stoppables`.

    Args:
        stoppables: each is stopped by its `stop()`, else its `close()`, else by calling it; in order, each in a thread of
            its own, so that one that hangs or raises holds up no other. What they raise is logged.
        timeout: seconds to wait for a signal; None waits for ever. When it runs out nothing is stopped, and the call may be
            repeated.
        stop_timeout: seconds the stopping may take in all; what is not through by then goes on in its daemon thread.

    Returns:
        The signal's name (`SIGTERM`), the reason of `request_shutdown()`, or None when `timeout` ran out.

    The handlers that were there before are back in place when it returns. A second signal while the stoppables are being
    stopped takes effect at once, with those handlers: Ctrl-C raises KeyboardInterrupt, SIGTERM ends the process.

    Only the main thread may have signal handlers. In any other thread this waits for `request_shutdown()`, or for the
    signal that a `wait_for_shutdown` in the main thread receives meanwhile.

    Raises:
        TypeError: a stoppable has neither `stop()` nor `close()` and cannot be called.
        ValueError: `timeout` or `stop_timeout` is negative.
        KeyboardInterrupt: a second Ctrl-C.
    """
    actions = [_action(stoppable) for stoppable in stoppables]
    if (timeout is not None and timeout < 0) or stop_timeout < 0:
        raise ValueError("timeout and stop_timeout are seconds, 0 or more (None: no limit)")
    received: queue.SimpleQueue[str] = queue.SimpleQueue()
    previous: dict[int, Any] = {}
    stopping = False

    def on_signal(signum: int, _frame: FrameType | None) -> None:
        if stopping:
            _restore(previous)
            signal.raise_signal(signum)
            return
        request_shutdown(signal.Signals(signum).name)

    _waiting.append(received)
    try:
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                with contextlib.suppress(ValueError):  # the main thread of a sub-interpreter: as in any other thread
                    signum = getattr(signal, name)
                    previous[signum] = signal.signal(signum, on_signal)
        reason = _wait(received, timeout)
        if reason is not None:
            stopping = True
            _log.info(f"{reason}: stopping")
            _stop_all(actions, stop_timeout)
        return reason
    finally:
        _waiting.remove(received)
        _restore(previous)


def _wait(received: queue.SimpleQueue[str], timeout: float | None) -> str | None:
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        # In slices: on Windows a wait without a timeout keeps signal handlers from running.
        remaining = _SLICE_S if deadline is None else min(_SLICE_S, deadline - time.monotonic())
        try:
            return received.get(timeout=max(remaining, 0.0))
        except queue.Empty:
            if deadline is not None and time.monotonic() >= deadline:
                return None


def _action(stoppable: Any) -> Callable[[], Any]:
    for candidate in (getattr(stoppable, "stop", None), getattr(stoppable, "close", None), stoppable):
        if callable(candidate):
            return candidate  # type: ignore[no-any-return]
    raise TypeError(f"{stoppable!r} has neither stop() nor close() and cannot be called")


def _stop_all(actions: list[Callable[[], Any]], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    threads = [threading.Thread(target=_stop_one, args=(action,), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and (remaining := deadline - time.monotonic()) > 0:
            thread.join(min(_SLICE_S, remaining))
        if thread.is_alive():
            _log.warning(f"something that was told to stop has not, after {timeout} s")


def _stop_one(action: Callable[[], Any]) -> None:
    try:
        action()
    except BaseException as error:
        _log.warning(f"stopping failed: {describe(error)}")


def _restore(previous: dict[int, Any]) -> None:
    while previous:
        signum, handler = previous.popitem()
        # None: set by something other than Python, which Python cannot put back.
        signal.signal(signum, signal.SIG_DFL if handler is None else handler)
