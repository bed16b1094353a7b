"""The Rust programs of `tests/src/bin`, as the Python tests run them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from harness.jars import REPOSITORY


def build_program(name: str) -> Path:
    """The program, built if it is not there or older than its sources."""
    command = ["cargo", "build", "--release", "--locked", "--package", "tidegate-tests", "--bin", name]
    built = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-4000:]
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return target / "release" / name
