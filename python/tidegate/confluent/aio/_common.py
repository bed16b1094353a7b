"""What the asyncio clients share: waiting calls on threads, and callbacks that are coroutine functions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
from collections.abc import Callable
from typing import Any


class LoopLogger:
    """A logger whose lines are written by the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, logger: logging.Logger) -> None:
        self.loop = loop
        self.logger = logger

    def log(self, *args: Any, **kwargs: Any) -> None:
        """As Logger.log, soon."""
        self.loop.call_soon_threadsafe(functools.partial(self.logger.log, *args, **kwargs))


def on_loop(
    loop: asyncio.AbstractEventLoop,
    callback: Callable[..., Any],
    edit_args: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None,
) -> Callable[..., Any]:
    """A function for another thread that runs a coroutine function on the loop and waits for it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if edit_args is not None:
            args = edit_args(args)
        return asyncio.run_coroutine_threadsafe(callback(*args, **kwargs), loop).result()

    return call


def wrap_callbacks(loop: asyncio.AbstractEventLoop, conf: dict[str, Any], *more: str) -> dict[str, Any]:
    """The configuration with its coroutine functions as functions that any thread can call."""
    wrapped = dict(conf)
    for name in ("error_cb", "throttle_cb", "stats_cb", *more):
        if name in wrapped:
            wrapped[name] = on_loop(loop, wrapped[name])
    if wrapped.get("logger") is not None:
        wrapped["logger"] = LoopLogger(loop, wrapped["logger"])
    return wrapped


async def in_thread(executor: concurrent.futures.Executor, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a call that waits on a thread of the executor."""
    return await asyncio.get_running_loop().run_in_executor(executor, functools.partial(call, *args, **kwargs))
