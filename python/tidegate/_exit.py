"""Closes what is still open when the process ends and nobody called `close()`.

A service runs `start()` in a daemon thread and is then ended by SIGTERM, by Ctrl-C or by falling off the end of its main
program. Without this module the group would wait a whole session timeout for the dead member and then hand its finished
but uncommitted records out again. With it, at exit: every open object is told to stop, a handler in progress gets
`HANDLER_GRACE_S` to finish, what is finished is committed and the group is left, all within `EXIT_BUDGET_S`.

How the end is noticed:

- the interpreter's normal exit, `sys.exit`, an uncaught exception, Ctrl-C: `atexit`;
- SIGTERM: its default action ends the process without `atexit`, so a handler is installed, only if SIGTERM still has its
  default action and only from the main thread (Python allows no other). It closes everything and then lets the default
  action happen, so the parent sees a process ended by SIGTERM. A handler the application installs, before or after,
  is left alone: it ends the process its own way and `atexit` follows.

No lock is taken here: a signal handler runs between any two instructions of the main thread, also while that thread holds
one of the locks it would want.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Protocol

__all__ = ["EXIT_BUDGET_S", "HANDLER_GRACE_S", "Closing", "register", "resume_termination"]

HANDLER_GRACE_S = 3.0
"""Seconds a handler in progress gets at exit before its record is left unfinished."""

EXIT_BUDGET_S = 5.0
"""Seconds the whole of the closing may take at exit."""

_POLL_S = 0.01


class Closing(Protocol):
    """What this module closes. None of the methods may raise or take a lock the main thread can hold."""

    def begin_exit(self) -> None:
        """Ask for the end; returns at once."""

    def exit_done(self) -> bool:
        """True once everything is closed."""

    def runs_in(self, thread_id: int) -> bool:
        """True while that thread runs this object's loop, so that it cannot wait for the loop's end."""

    def force_exit(self, timeout: float) -> None:
        """Close now, within `timeout` seconds, leaving unfinished what is unfinished."""


class _State:
    """Everything that changes, in one place; only the main thread and forked children write to it."""

    def __init__(self) -> None:
        self.open: weakref.WeakSet[Closing] = weakref.WeakSet()
        self.termination_pending = False


_state = _State()


def register(item: Closing) -> None:
    """Close `item` at the process's end, unless it is closed (or collected) before. Held weakly. Any thread."""
    _state.open.add(item)
    _install_sigterm_handler()


def _install_sigterm_handler() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    # ValueError: a sub-interpreter's main thread is not the process's.
    with contextlib.suppress(ValueError):
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(_signum: int, _frame: FrameType | None) -> None:
    if _state.termination_pending:
        _die_of_sigterm()
    _state.termination_pending = True
    here = threading.get_ident()
    items = _open_items()
    if any(item.runs_in(here) for item in items):
        # start() runs in this very thread: it must go on to be able to end, and calls resume_termination() then.
        for item in items:
            item.begin_exit()
        _thread.start_new_thread(_watch_termination, ())  # threading.Thread would take a lock
        return
    close_everything()
    _die_of_sigterm()


def resume_termination() -> None:
    """End the process if a SIGTERM waits for the loop that has just ended in the main thread; else nothing."""
    if _state.termination_pending and threading.current_thread() is threading.main_thread():
        close_everything()
        _die_of_sigterm()


def _watch_termination() -> None:
    """Ends a process whose main thread got SIGTERM in a handler that does not come to an end."""
    close_everything()
    if sys.platform != "win32":
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(1.0)
    # The main thread does not even run Python's signal handlers: the default action's exit status, the hard way.
    os._exit(128 + signal.SIGTERM)


def _die_of_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _open_items() -> list[Closing]:
    while True:
        try:
            return [item for item in list(_state.open) if not item.exit_done()]
        except RuntimeError:  # another thread registered one meanwhile
            continue


def close_everything() -> None:
    """Close every registered object, within `EXIT_BUDGET_S` in all. Never raises, except for a second Ctrl-C."""
    started = time.monotonic()
    items = _open_items()
    for item in items:
        item.begin_exit()
    here = threading.get_ident()
    waiting = [item for item in items if not item.runs_in(here)]
    while waiting and time.monotonic() - started < HANDLER_GRACE_S:
        time.sleep(_POLL_S)
        waiting = [item for item in waiting if not item.exit_done()]
    for item in waiting:
        remaining = EXIT_BUDGET_S - (time.monotonic() - started)
        item.force_exit(max(remaining, _POLL_S))


def _after_fork_in_child() -> None:
    """A child owns none of its parent's clients, and gets its default SIGTERM back."""
    _state.open = weakref.WeakSet()
    _state.termination_pending = False
    with contextlib.suppress(ValueError):
        if signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


atexit.register(close_everything)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
