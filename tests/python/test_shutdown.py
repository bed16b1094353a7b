"""wait_for_shutdown: signals, timeouts, other threads, and stoppables that misbehave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
from fake_engine import until

from tidegate import shutdown
from tidegate.shutdown import request_shutdown, wait_for_shutdown


def soon(action: Any, *arguments: Any) -> None:
    """Call it from another thread once the caller waits."""
    before = len(shutdown._waiting)

    def run() -> None:
        until(lambda: len(shutdown._waiting) > before)
        action(*arguments)

    threading.Thread(target=run, daemon=True).start()


class Stoppable:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


class Closable:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_everything_in_its_way(name: str) -> None:
    stoppable, closable, called = Stoppable(), Closable(), threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    soon(os.kill, os.getpid(), getattr(signal, name))
    assert wait_for_shutdown(stoppable, closable, called.set) == name
    assert stoppable.calls == ["stop"]
    assert closable.closed
    assert called.is_set()
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_timeout_is_none_and_stops_nothing() -> None:
    stoppable = Stoppable()
    started = time.monotonic()
    assert wait_for_shutdown(stoppable, timeout=0.15) is None
    assert 0.14 < time.monotonic() - started < 2
    assert wait_for_shutdown(stoppable, timeout=0) is None
    assert stoppable.calls == []
    assert not shutdown._waiting


def test_one_that_raises_and_one_that_hangs_hold_up_nobody() -> None:
    release = threading.Event()
    last = Stoppable()

    def fails() -> None:
        raise RuntimeError("{} %s")

    def exits() -> None:
        raise SystemExit(3)

    soon(request_shutdown)
    started = time.monotonic()
    assert wait_for_shutdown(fails, lambda: release.wait(30), exits, last, stop_timeout=0.3) == "REQUEST"
    assert time.monotonic() - started < 5
    assert last.calls == ["stop"]
    release.set()


def test_what_cannot_be_stopped_is_refused_before_waiting() -> None:
    with pytest.raises(TypeError, match=r"stop\(\)"):
        wait_for_shutdown(object())
    with pytest.raises(ValueError, match="timeout"):
        wait_for_shutdown(timeout=-1)
    with pytest.raises(ValueError, match="timeout"):
        wait_for_shutdown(stop_timeout=-1)


def test_off_the_main_thread_it_waits_for_a_request() -> None:
    results: list[Any] = []
    stoppable = Stoppable()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=lambda: results.append(wait_for_shutdown(stoppable, timeout=30)))
    thread.start()
    until(lambda: shutdown._waiting)
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    request_shutdown("the camera is gone")
    thread.join(10)
    assert results == ["the camera is gone"]
    assert stoppable.calls == ["stop"]


def test_a_request_reaches_a_wait_that_is_only_about_to_begin() -> None:
    heard = threading.Event()
    thread = threading.Thread(target=shutdown.request_until, args=(heard, "ended"))
    thread.start()
    assert wait_for_shutdown(timeout=30) == "ended"
    heard.set()
    thread.join(10)
    assert not thread.is_alive()


def test_off_the_main_thread_it_hears_of_the_main_threads_signal() -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(wait_for_shutdown(timeout=30)))
    thread.start()
    until(lambda: shutdown._waiting)
    soon(os.kill, os.getpid(), signal.SIGTERM)
    assert wait_for_shutdown(timeout=30) == "SIGTERM"
    thread.join(10)
    assert results == ["SIGTERM"]


def run_script(script: str, *signals: int) -> subprocess.CompletedProcess[str]:
    """Run it, send it each signal at its next "ready" line, and give what it printed."""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for number in signals:
                assert process.stdout.readline() == "ready\n"
                process.send_signal(number)
            output, errors = process.communicate(timeout=30)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


SERVICE = """
    import sys, threading
    from tidegate.shutdown import wait_for_shutdown

    class Service:
        def stop(self):
            print("stopped")

    threading.Timer(0.3, print, ("ready",)).start()
    print(wait_for_shutdown(Service()))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_service_ends_by_a_signal(name: str) -> None:
    done = run_script(SERVICE, getattr(signal, name))
    assert done.stdout == f"stopped\n{name}\n", done.stderr
    assert done.returncode == 0


HANGING = """
    import threading
    from tidegate.shutdown import wait_for_shutdown

    def hang():
        print("ready")
        threading.Event().wait()

    threading.Timer(0.3, print, ("ready",)).start()
    try:
        wait_for_shutdown(hang, stop_timeout=60)
    except KeyboardInterrupt:
        print("at once")
"""


def test_a_second_ctrl_c_takes_effect_at_once() -> None:
    done = run_script(HANGING, signal.SIGINT, signal.SIGINT)
    assert done.stdout == "at once\n", done.stderr
    assert done.returncode == 0


def test_a_second_sigterm_ends_the_process_at_once() -> None:
    done = run_script(HANGING, signal.SIGTERM, signal.SIGTERM)
    assert done.returncode == -signal.SIGTERM
