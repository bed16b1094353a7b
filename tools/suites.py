"""Runs checks and test suites one after the other and closes with the sum of their tests.

    tools/suites.py --check rustfmt 'cargo fmt --check' --test rust 'cargo test' --test python 'pytest tests/python'

Every command runs, whatever those before it did; its output is shown as it comes. The last line is
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


def run(name: str, command: str) -> tuple[int, list[str]]:
    """Run a shell command, showing its output; returns its exit code and its output."""
    print(f"\n---- {name}: {command}", flush=True)
    started = time.monotonic()
    # A group of its own, so that what the command started can be ended with it.
    process = subprocess.Popen(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    timer = threading.Timer(LIMIT_S, _stop, (process, f"{name} still ran after {LIMIT_S:.0f} s"))
    timer.daemon = True
    timer.start()
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for raw in process.stdout:
            sys.stdout.buffer.write(raw)
            sys.stdout.buffer.flush()
            lines.append(raw.decode("utf-8", "replace"))
        code = process.wait()
    except BaseException:
        _stop(process, f"{name} interrupted")
        raise
    finally:
        timer.cancel()
    print(f"---- {name}: {'ok' if code == 0 else f'exit {code}'}, {time.monotonic() - started:.0f} s", flush=True)
    return code, lines


def _stop(process: subprocess.Popen[bytes], reason: str) -> None:
    """Interrupt the group, then kill what is left of it."""
    print(f"---- {reason}: ended", flush=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    if not arguments or len(arguments) % 3 or not {"--check", "--test"}.issuperset(arguments[::3]):
        print(__doc__, file=sys.stderr)
        return 2
    total = Counts()
    failures: list[str] = []
    for kind, name, command in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        code, lines = run(name, command)
        if kind == "--check":
            counts = Counts(failed=int(code != 0))
        else:
            told = count(lines)
            counts = told or Counts()
            if counts.failed == 0 and (code != 0 or counts.passed + counts.skipped == 0):
                counts = counts.plus(Counts(failed=1))
        if counts.failed:
            failures.append(f"{name} ({counts if kind == '--test' else f'exit {code}'})")
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
