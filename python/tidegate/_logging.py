"""One way out for every log line of Tidegate: loguru where it is installed, else `logging`.

A line is text, never a format: a KafkaError's text holds braces, a JSON fragment holds percent signs, and neither may
break the call that wanted to report them. Nor may a failing log sink break its caller. librdkafka's and the engine's
own lines come through `forward_native_lines`, on whatever thread wrote them, without polling.

With loguru, lines carry the name of the place that logged (`tidegate.base_consumer`, `librdkafka`); with `logging` that
name is the logger's, so `logging.getLogger("tidegate").setLevel(...)` and `"librdkafka"` are the switches.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from tidegate import _core

__all__ = ["CRITICAL", "DEBUG", "ERROR", "INFO", "WARNING", "Logger", "describe", "find_loguru", "forward_native_lines", "shown"]

DEBUG = logging.DEBUG
INFO = logging.INFO
WARNING = logging.WARNING
ERROR = logging.ERROR
CRITICAL = logging.CRITICAL

_LEVEL_NAMES = ((CRITICAL, "CRITICAL"), (ERROR, "ERROR"), (WARNING, "WARNING"), (INFO, "INFO"), (DEBUG, "DEBUG"))

QUIET_S = 30.0
"""A warning of the engine that has not been said for so many seconds is news again."""

_MOST_STATES = 1000
_CHANGING = re.compile(r"\d+ms|\d+ identical error")
"""What differs between two lines that say the same."""

_LONGEST_TEXT = 1000
"""Characters kept of an exception's text: it may quote a record of a megabyte."""


def _level_name(level: int) -> str:
    for number, name in _LEVEL_NAMES:
        if level >= number:
            return name
    return "TRACE"


def find_loguru() -> Any:
    """loguru's logger, or None where loguru is not installed (or cannot be imported)."""
    try:
        return importlib.import_module("loguru").logger
    except Exception:  # an optional package that is there but broken is as good as absent
        return None


class Logger:
    """Writes lines under one name. Any thread may use it, and no call ever raises.

    `name` is dotted, `tidegate.base_consumer` for example.
    """

    __slots__ = ("_loguru", "_name", "_standard")

    def __init__(self, name: str) -> None:
        self._name = name
        self._standard = logging.getLogger(name)
        loguru = find_loguru()
        self._loguru = None if loguru is None else loguru.patch(_renamed(name))

    def log(self, level: int, text: str, *, error: BaseException | None = None) -> None:
        """Write `text` at `level` (a number of `logging`), with the traceback of `error` when there is one."""
        self._write(level, text, error)

    def debug(self, text: str, *, error: BaseException | None = None) -> None:
        """`log` at DEBUG."""
        self._write(DEBUG, text, error)

    def info(self, text: str) -> None:
        """`log` at INFO."""
        self._write(INFO, text, None)

    def warning(self, text: str) -> None:
        """`log` at WARNING."""
        self._write(WARNING, text, None)

    def error(self, text: str) -> None:
        """`log` at ERROR."""
        self._write(ERROR, text, None)

    def _write(self, level: int, text: str, error: BaseException | None) -> None:
        # Two frames up is the caller of `log`, `debug`, ...: the place that loguru and `logging` name.
        with contextlib.suppress(Exception):
            if self._loguru is not None:
                self._loguru.opt(exception=error, depth=2).log(_level_name(level), "{}", text)
            else:
                self._standard.log(level, "%s", text, exc_info=error, stacklevel=3)


def _renamed(name: str) -> Callable[[Any], None]:
    def rename(record: Any) -> None:
        record["name"] = name

    return rename


def describe(error: BaseException) -> str:
    """`Type: text` of an exception on one line, shortened, even when its own `__str__` raises."""
    try:
        # Half of a surrogate pair goes into no log and no header.
        text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    except Exception:
        text = "(its text cannot be had)"
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}... ({len(text)} characters)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown(value: object) -> str:
    """`repr(value)`, shortened, even when that raises."""
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


class NativeLines:
    """Takes the engine's and librdkafka's lines and writes each under its own target. One thread.

    While a broker is away librdkafka says so many times a second. A warning or an error that is said again and again, with
    less than `QUIET_S` seconds between, is one state: its first line is written at its level, the others at DEBUG.
    """

    def __init__(self) -> None:
        self._loggers: dict[str, Logger] = {}
        self._last_said: dict[tuple[str, str], float] = {}

    def __call__(self, level: int, target: str, message: str) -> None:
        """One line: `level` as in `logging`, `target` such as `librdkafka`, `message` as it is."""
        logger = self._loggers.get(target)
        if logger is None:
            logger = self._loggers.setdefault(target, Logger(target))
        if level >= WARNING and self._is_repeated(target, message):
            level = DEBUG
        logger.log(level, message)

    def _is_repeated(self, target: str, message: str) -> bool:
        now = time.monotonic()
        said = (target, _CHANGING.sub("", message))
        last = self._last_said.pop(said, None)
        self._last_said[said] = now  # last in the dict: the first is the one not said for longest
        if len(self._last_said) > _MOST_STATES:
            del self._last_said[next(iter(self._last_said))]
        return last is not None and now - last < QUIET_S


@functools.cache
def forward_native_lines() -> None:
    """Send the engine's and librdkafka's log lines to loguru or `logging` from now on; a second call does nothing."""
    _core.set_log_sink(NativeLines())
