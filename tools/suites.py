"""Runs checks and test suites one after the other and closes with the sum of their tests.

    tools/suites.py --check rustfmt 'cargo fmt --check' --test rust 'cargo test' --test python 'pytest tests/python'

Every command runs, whatever those before it did; its output is shown as it comes. `--beside` is a test suite that runs at the
same time as the command before it; its output is shown when that one has ended. The last line is
`N passed, N failed, N skipped`, the sum over the test suites. A check that fails, a suite that ends with an error without
naming a failed test, and a suite that ran no test at all count as one failure each. Exit code 1 when anything failed.
TIDEGATE_SUMMARY names a file that gets the last line too: make adds a line of its own after a failure.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

# Longer than any suite of `make test` takes; a suite that hangs is ended, and the next one runs.
LIMIT_S = float(os.environ.get("TIDEGATE_SUITE_LIMIT_S", "2100"))
_STOP_GRACE_S = 15

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;")
_PYTEST = re.compile(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in [\d.]+s\b")
_PYTEST_COLUMN = {"passed": 0, "xfailed": 0, "failed": 1, "error": 1, "errors": 1, "xpassed": 1, "skipped": 2}


class Counts(NamedTuple):
    """How the tests of one or more suites ended."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(mine + its for mine, its in zip(self, other, strict=True)))

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def count(lines: Iterable[str]) -> Counts | None:
    """The sum of the closing lines of cargo's and pytest's runs in some output; None when there is none."""
    total = None
    for raw in lines:
        line = _ESCAPES.sub("", raw).strip()
        if match := _CARGO.match(line):
            found = Counts(*map(int, match.groups()))
        elif match := _PYTEST.match(line):
            columns = [0, 0, 0]
            for number, word in re.findall(r"(\d+) (\w+)", match[1]):
                if (column := _PYTEST_COLUMN.get(word)) is not None:
                    columns[column] += int(number)
            found = Counts(*columns)
        else:
            continue
        total = found if total is None else total.plus(found)
    return total


class Suite:
    """A shell command; once started, a thread reads its output, which is shown as it comes when `show` was called."""

    def __init__(self, kind: str, name: str, command: str) -> None:
        self.kind, self.name, self._command = kind, name, command
        self.lines: list[str] = []
        self._kept = [f"\n---- {name}: {command}\n".encode()]
        self._shown = False
        self._output = threading.Lock()
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # A group of its own, so that what the command started can be ended with it.
        self._process = subprocess.Popen(
            ["bash", "-c", self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self._process,), name=f"output of {self.name}", daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        timer = threading.Timer(LIMIT_S, self._stop, (process, f"still ran after {LIMIT_S:.0f} s"))
        timer.daemon = True
        timer.start()
        assert process.stdout is not None
        for raw in process.stdout:
            self._write(raw)
            self.lines.append(raw.decode("utf-8", "replace"))
        code = process.wait()
        timer.cancel()
        self._write(f"---- {self.name}: {'ok' if code == 0 else f'exit {code}'}, {time.monotonic() - started:.0f} s\n".encode())
        self._ended.set()

    def _write(self, text: bytes) -> None:
        with self._output:
            if not self._shown:
                self._kept.append(text)
                return
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()

    def show(self) -> None:
        """Show what there is, and from now on everything as it comes."""
        with self._output:
            sys.stdout.buffer.write(b"".join(self._kept))
            sys.stdout.buffer.flush()
            self._kept.clear()
            self._shown = True

    def wait(self) -> int:
        """Wait until it has ended and all its output is read; its exit code."""
        assert self._process is not None
        self._ended.wait()
        return self._process.wait()

    def end(self) -> None:
        """End it if it still runs."""
        if self._process is not None and not self._ended.is_set():
            self._stop(self._process, "interrupted")

    def _stop(self, process: subprocess.Popen[bytes], reason: str) -> None:
        """Interrupt the group, then kill what is left of it."""
        self._write(f"---- {self.name} {reason}: ended\n".encode())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_GRACE_S)
            os.killpg(process.pid, signal.SIGKILL)

    def counts(self, code: int) -> Counts:
        """What counts of it: its tests, and whatever else went wrong."""
        if self.kind == "--check":
            return Counts(failed=int(code != 0))
        counts = count(self.lines) or Counts()
        if counts.failed == 0 and (code != 0 or counts.passed + counts.skipped == 0):
            counts = counts.plus(Counts(failed=1))
        return counts


def run_together(commands: Sequence[tuple[str, str, str]]) -> list[tuple[Suite, int]]:
    """Run commands at the same time, the output of one behind that of another; each with its exit code."""
    suites = [Suite(*command) for command in commands]
    codes = []
    try:
        for suite in suites:
            suite.start()
        for suite in suites:
            suite.show()
            codes.append(suite.wait())
    except BaseException:
        for suite in suites:
            suite.end()
        raise
    return list(zip(suites, codes, strict=True))


def main(arguments: Sequence[str]) -> int:
    kinds = arguments[::3]
    if not arguments or len(arguments) % 3 or not {"--check", "--test", "--beside"}.issuperset(kinds) or kinds[0] == "--beside":
        print(__doc__, file=sys.stderr)
        return 2
    groups: list[list[tuple[str, str, str]]] = []
    for command in zip(kinds, arguments[1::3], arguments[2::3], strict=True):
        if command[0] == "--beside":
            groups[-1].append(command)
        else:
            groups.append([command])
    total = Counts()
    failures: list[str] = []
    for group in groups:
        for suite, code in run_together(group):
            counts = suite.counts(code)
            if counts.failed:
                failures.append(f"{suite.name} ({f'exit {code}' if suite.kind == '--check' else counts})")
            total = total.plus(counts)
    if failures:
        print(f"\nfailed: {'; '.join(failures)}")
    print(f"\n{total}", flush=True)
    if path := os.environ.get("TIDEGATE_SUMMARY"):
        Path(path).write_text(f"{total}\n")
    return 1 if total.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
