"""An event loop whose time is virtual: `asyncio.sleep(3600)` takes none of ours, and the same program runs the same way each time.

Where asyncio would wait for the next timer, the clock is set to it. There are no files, sockets or other threads in such a loop;
what is given to an executor (`asyncio.to_thread`) runs at once, in no time.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import math
from collections.abc import Callable
from typing import Any

__all__ = ["Stalled", "VirtualLoop"]

_A_NANOSECOND_US = 0.001


class Stalled(Exception):
    """Nothing is ready, and no timer runs: nothing would ever happen any more."""


class _Clock:
    """What asyncio takes for its selector. Time is kept in whole microseconds, as the engine keeps it."""

    def __init__(self) -> None:
        self.now_us = 0

    def select(self, timeout: float | None) -> tuple[()]:
        """Let the time until the next timer pass."""
        if timeout is None:
            raise Stalled
        if timeout > 0:
            # Not one step too early: the timer would not be due, and asked for again.
            self.now_us += max(math.ceil(timeout * 1e6 - _A_NANOSECOND_US), 1)
        return ()


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """See the module. For one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Clock()

    @property
    def now_us(self) -> int:
        """Microseconds since the beginning."""
        return self._selector.now_us

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._selector.now_us / 1e6

    def run_in_executor(  # type: ignore[override]  # asyncio's own returns a future, too
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run it here and now: another thread would have a time of its own."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """It never waits, so there is nothing to wake."""
