"""Libraries that import confluent_kafka themselves do their work on Tidegate, with `install()` and no other change.

They need another confluent-kafka than the one the other tests compare with, so they live in an environment of their own, which is
made once and kept under `.cache/`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tidegate

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

HERE = Path(__file__).parent / "third_party"
REQUIREMENTS = HERE / "requirements.txt"
ENVIRONMENT = Path(__file__).parents[2] / ".cache" / "third_party"
PACKAGE = Path(tidegate.__file__).parents[1]


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of an environment with the libraries, and with this package in it."""
    interpreter = ENVIRONMENT / "bin" / "python"
    made = ENVIRONMENT / "requirements.txt"
    if not made.exists() or made.read_text() != REQUIREMENTS.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True, timeout=120)
        install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS]
        done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            pytest.skip(f"the libraries cannot be had: {done.stderr.strip()[-300:]}")
        made.write_text(REQUIREMENTS.read_text())
    return interpreter


@pytest.mark.parametrize("program", ["windows", "services"])
def test_a_library_does_the_same_on_both(
    kafka: Any, fresh_name: Callable[[str], str], say: Callable[[str], None], python: Path, program: str
) -> None:
    def run(package: str) -> Any:
        command = [python, HERE / f"{program}.py", package, kafka.bootstrap_servers, fresh_name(package)]
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    # Side by side: each has topics and groups of its own.
    packages = ("tidegate", "original")
    with ThreadPoolExecutor(len(packages)) as threads:
        results = dict(zip(packages, threads.map(run, packages), strict=True))
    assert results["tidegate"]["module"] == "tidegate.confluent"
    assert results["original"]["module"] == "confluent_kafka"
    assert results["tidegate"]["found"] == results["original"]["found"]
    assert len(results["tidegate"]["found"]) == results["tidegate"]["expected"]
    say(f"{program}: {len(results['tidegate']['found'])} results, the same on both")
