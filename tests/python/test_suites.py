"""The tool that sums up the suites: counts as the runners print them, and no failure goes unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_engine import until

from harness.proc import Child, wait_gone

TOOL = Path(__file__).resolve().parents[2] / "tools" / "suites.py"

CARGO = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.20s"
CARGO_FAILED = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.20s"
PYTEST = "=================== 7 passed, 2 skipped, 1 xfailed in 12.34s (0:00:12) ==================="
PYTEST_QUIET = "1 failed, 5 passed, 6 deselected, 2 errors in 3.21s"


def suites(*arguments: str, limit_s: str = "60") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TIDEGATE_SUMMARY"}
    environment["TIDEGATE_SUITE_LIMIT_S"] = limit_s
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("arguments", "last_line", "code"),
    [
        (("--test", "a", f"echo '{CARGO}'; echo '{CARGO}'"), "24 passed, 0 failed, 6 skipped", 0),
        (
            ("--test", "a", f"echo '{CARGO}'", "--test", "b", f"printf '\\033[32m{PYTEST}\\033[0m\\n'"),
            "20 passed, 0 failed, 5 skipped",
            0,
        ),
        # A failure does not hide what comes after it.
        (
            ("--test", "a", f"echo '{CARGO_FAILED}'; exit 101", "--test", "b", f"echo '{PYTEST}'"),
            "9 passed, 2 failed, 2 skipped",
            1,
        ),
        (("--test", "a", f"echo '{PYTEST_QUIET}'; exit 1"), "5 passed, 3 failed, 0 skipped", 1),
        # An error beside tests that all passed, a crash, and a suite without a test.
        (("--test", "a", f"echo '{CARGO}'; exit 1"), "12 passed, 1 failed, 3 skipped", 1),
        (("--test", "a", "kill -9 $$"), "0 passed, 1 failed, 0 skipped", 1),
        (("--test", "a", "true"), "0 passed, 1 failed, 0 skipped", 1),
        (("--test", "a", "echo '=== no tests ran in 0.01s ==='; exit 5"), "0 passed, 1 failed, 0 skipped", 1),
        # A check counts when it fails.
        (("--check", "lint", "true", "--test", "a", f"echo '{CARGO}'"), "12 passed, 0 failed, 3 skipped", 0),
        (("--check", "lint", "false", "--test", "a", f"echo '{CARGO}'"), "12 passed, 1 failed, 3 skipped", 1),
        # So does each of two that run at the same time.
        (("--test", "a", f"echo '{CARGO}'", "--beside", "b", f"echo '{PYTEST}'"), "20 passed, 0 failed, 5 skipped", 0),
        (("--test", "a", f"echo '{CARGO}'", "--beside", "b", "exit 3"), "12 passed, 1 failed, 3 skipped", 1),
        (("--check", "a", "false", "--beside", "b", f"echo '{PYTEST_QUIET}'; exit 1"), "5 passed, 4 failed, 0 skipped", 1),
    ],
)
def test_the_last_line_is_the_sum(arguments: tuple[str, ...], last_line: str, code: int) -> None:
    ran = suites(*arguments)
    assert ran.stdout.splitlines()[-1] == last_line
    assert ran.returncode == code


def test_commands_get_no_standard_input() -> None:
    assert "12 passed" in suites("--test", "a", f"cat; echo '{CARGO}'").stdout


def test_a_suite_that_hangs_is_ended_and_the_next_one_runs() -> None:
    ran = suites("--test", "a", "sleep 1000 & wait", "--test", "b", f"echo '{CARGO}'", limit_s="0.5")
    assert ran.stdout.splitlines()[-1] == "12 passed, 1 failed, 3 skipped"


def test_two_suites_run_at_the_same_time_and_their_output_is_not_mixed(tmp_path: Path) -> None:
    meet = "touch {0}; until [ -e {1} ]; do sleep 0.01; done; echo {2} {2}; sleep 0.1; echo {2}"
    here, there = tmp_path / "here", tmp_path / "there"
    first, second = meet.format(here, there, "first"), meet.format(there, here, "second")
    ran = suites("--test", "a", f"{first}; echo '{CARGO}'", "--beside", "b", f"{second}; echo '{CARGO}'")
    lines = [line for line in ran.stdout.splitlines() if line and not line.startswith("----")]
    assert lines == ["first first", "first", CARGO, "second second", "second", CARGO, "24 passed, 0 failed, 6 skipped"]


def test_an_interrupt_ends_all_that_runs(tmp_path: Path) -> None:
    process_ids = [tmp_path / "a", tmp_path / "b"]
    program = "import os, sys, time; os.symlink(str(os.getpid()), sys.argv[1]); time.sleep(1000)"
    commands = [f"exec {sys.executable} -c '{program}' {path}" for path in process_ids]
    command = [sys.executable, str(TOOL), "--test", "a", commands[0], "--beside", "b", commands[1]]
    with Child(command, name="suites") as child:
        until(lambda: all(path.is_symlink() for path in process_ids))
        child.interrupt()
        assert child.wait(60) == 130, child.tail()
        assert all(wait_gone(int(path.readlink().name)) for path in process_ids)


def test_wrong_arguments_run_nothing() -> None:
    for arguments in ((), ("--test", "a"), ("--tset", "a", "echo ran"), ("--beside", "a", "echo ran")):
        ran = suites(*arguments)
        assert ran.returncode == 2
        assert "\nran" not in ran.stdout
