"""Child processes whose output lines are events and whose end is certain.

A child ends with its context manager, at the latest at interpreter exit, and when its owner is killed: each child asks the
kernel for SIGKILL at its parent's death (PR_SET_PDEATHSIG). The kernel takes the *thread* that started a child for its parent,
so all children are started by one thread that lives as long as the process; a broker restarted from a short-lived thread of a
test would otherwise die with that thread.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# Runs between fork and the real program, in a fresh interpreter: preexec_fn is not safe beside threads. The parent may have
# died before the request reached the kernel, hence the look at getppid afterwards.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.execvp(sys.argv[2], sys.argv[2:])
"""

# How long an ended child may take to be reaped after SIGKILL before we call it a failure.
_KILL_DEADLINE_S = 30.0


class _Spawner:
    """The one thread that starts children."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="tidegate-spawner", daemon=True).start()

    def _serve(self) -> None:
        while True:
            start, reply = self._requests.get()
            try:
                reply.put((start(), None))
            except BaseException as error:  # handed to the caller, who raises it
                reply.put((None, error))

    def popen(self, args: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        reply: queue.SimpleQueue[tuple[subprocess.Popen[bytes] | None, BaseException | None]] = queue.SimpleQueue()
        self._requests.put((lambda: subprocess.Popen(args, **options), reply))
        process, error = reply.get()
        if process is None:
            assert error is not None
            raise error
        return process


_lock = threading.Lock()
_spawner: _Spawner | None = None
_running: dict[int, Child] = {}


def _forget_in_forked_child() -> None:
    """A forked copy of the owner has no spawner thread and must not end the owner's children."""
    global _lock, _spawner
    _lock = threading.Lock()
    _spawner = None
    _running.clear()


os.register_at_fork(after_in_child=_forget_in_forked_child)


@atexit.register
def end_all() -> list[str]:
    """Kill whatever still runs; returns a line for each, which a test session reports as a failure."""
    with _lock:
        left = list(_running.values())
    lines = []
    for child in left:
        lines.append(f"{child.name} (pid {child.pid})")
        child.end()
    return lines


class Child:
    """A running program; a context manager that ends it, with every process of its group.

    ``capture=False`` leaves standard output and error with the owner's. ``own_group=False`` leaves the child in the owner's
    process group, so that Ctrl-C on the terminal reaches both.
    """

    def __init__(
        self,
        args: Sequence[str | os.PathLike[str]],
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        capture: bool = True,
        own_group: bool = True,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    ) -> None:
        global _spawner
        command = [os.fspath(arg) for arg in args]
        self.name = name or Path(command[0]).name
        self._own_group = own_group
        self._lines: list[str] = []
        self._output_ended = not capture
        self._changed = threading.Condition()
        wrapped = command
        if sys.platform == "linux":
            wrapped = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        with _lock:
            if _spawner is None:
                _spawner = _Spawner()
            self._process = _spawner.popen(
                wrapped,
                env=None if env is None else dict(env),
                cwd=cwd,
                stdin=stdin,
                stdout=subprocess.PIPE if capture else None,
                stderr=subprocess.STDOUT if capture else None,
                start_new_session=own_group,
            )
            self.pid = self._process.pid
            _running[self.pid] = self
        if capture:
            threading.Thread(target=self._read_output, name=f"output of {self.name}", daemon=True).start()

    @classmethod
    def python(cls, program: str | Path, *args: str, env: Mapping[str, str] | None = None, **options: Any) -> Child:
        """Run a Python program, given as a path or as source text, with this interpreter; ``env`` is added to the owner's."""
        source = [os.fspath(program)] if isinstance(program, Path) else ["-c", program]
        options.setdefault("name", program.name if isinstance(program, Path) else "python")
        return cls([sys.executable, "-u", "-X", "faulthandler", *source, *args], env={**os.environ, **(env or {})}, **options)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for raw in stream:
                with self._changed:
                    self._lines.append(raw.decode("utf-8", "replace").rstrip("\r\n"))
                    self._changed.notify_all()
        with self._changed:
            self._output_ended = True
            self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """A copy of the output lines so far, standard output and error as they came."""
        with self._changed:
            return list(self._lines)

    def wait_for_line(self, pattern: str, timeout: float = 30.0, start: int = 0) -> re.Match[str]:
        """Wait for the first line at or after index ``start`` in which ``pattern`` is found.

        Raises ``TimeoutError``, or ``RuntimeError`` when the output ends without it; both tell the last lines.
        """
        compiled = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._changed:
            seen = start
            while True:
                while seen < len(self._lines):
                    if match := compiled.search(self._lines[seen]):
                        return match
                    seen += 1
                if self._output_ended:
                    raise RuntimeError(f"{self.name} ended without a line matching {pattern!r}\n{self.tail()}")
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    if seen < len(self._lines):
                        continue
                    raise TimeoutError(f"{self.name}: no line matching {pattern!r} in {timeout} s\n{self.tail()}")

    def wait_for_output_end(self, timeout: float = 30.0) -> list[str]:
        """Wait until every line was read (the program and its children closed their output); returns all lines."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._output_ended, timeout):
                raise TimeoutError(f"{self.name}: output still open after {timeout} s\n{self.tail()}")
            return list(self._lines)

    def tail(self, count: int = 30) -> str:
        """The last output lines, for messages."""
        return "\n".join(f"  {self.name}| {line}" for line in self._lines[-count:])

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the program itself, not to its group; an ended one is left alone."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as by Ctrl-C."""
        self.signal(signal.SIGINT)

    def kill(self, timeout: float = _KILL_DEADLINE_S) -> None:
        """SIGKILL, and wait until the program is gone; its children, if any, live on until ``end``."""
        self.signal(signal.SIGKILL)
        self.wait(timeout)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end; returns the exit code. Raises ``TimeoutError`` with the last lines."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout} s\n{self.tail()}") from None

    def end(self) -> None:
        """Kill the program and its group, and reap it; the lines stay readable."""
        if self._own_group:
            # The leader may be gone already while its children live on in the group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)
        self.wait(_KILL_DEADLINE_S)
        with _lock:
            _running.pop(self.pid, None)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return memory_bytes(self.pid, "VmRSS")

    def peak_rss_bytes(self) -> int:
        """The most resident memory since the start, or since ``reset_peak_rss``."""
        return memory_bytes(self.pid, "VmHWM")

    def reset_peak_rss(self) -> None:
        """Let the peak start again from the resident memory of now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


def memory_bytes(pid: int, field: str) -> int:
    """A ``kB`` field of ``/proc/PID/status`` in bytes. Raises ``ProcessLookupError`` when the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise ProcessLookupError(f"process {pid} has ended")


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie that waits for its parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def wait_gone(pid: int, timeout: float = 10.0) -> bool:
    """Wait until a process that is not our child has ended; the kernel tells through a pidfd."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """A temporary directory removed at the end; those of owners that were killed are removed by the next one.

    Its owner holds a lock on a file in it for as long as it lives, whatever happens to it.
    """
    import fcntl
    import shutil
    import tempfile

    root = Path(tempfile.gettempdir())
    for stale in root.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            # A young one may not have taken its lock yet.
            if time.time() - stale.stat().st_mtime < 60:
                continue
            with open(stale / ".owner") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(stale, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        with open(path / ".owner", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
