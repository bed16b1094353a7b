"""The stubs say what the native module is, with nothing excepted."""

from __future__ import annotations

import ast
import pydoc
import subprocess
import sys
from pathlib import Path

import tidegate
from tidegate import _core

ROOT = Path(__file__).resolve().parents[2]


def test_stubtest_agrees_with_an_empty_allowlist() -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy.stubtest",
            "tidegate._core",
            "tidegate.confluent",
            "--mypy-config-file",
            "python/pyproject.toml",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_public_name_of_the_module_is_exported_by_the_package_or_an_iterator() -> None:
    assert set(_core.__all__) - set(tidegate.__all__) == {"BatchIterator", "RecordIterator"}


def test_everything_public_has_a_docstring() -> None:
    missing = []
    for public in tidegate.__all__:
        thing = getattr(tidegate, public)
        if isinstance(thing, str):
            continue
        if not (thing.__doc__ or "").strip():
            missing.append(public)
        if not isinstance(thing, type) or issubclass(thing, BaseException):
            continue
        for member, value in vars(thing).items():
            if not member.startswith("_") and not (getattr(value, "__doc__", "") or "").strip():
                missing.append(f"{public}.{member}")
    assert not missing


def test_help_shows_signatures_and_units() -> None:
    text = pydoc.render_doc(tidegate.Consumer, renderer=pydoc.plaintext)
    assert "poll(self, /, timeout=None)" in text or "poll(self, timeout=None)" in text
    assert "commit(self, offsets=None, timeout=10.0, asynchronous=False)" in text.replace("/, ", "")
    assert "seconds" in text and "ConcurrentUseError" in text


def test_the_stub_file_is_python_that_parses_on_the_oldest_version() -> None:
    stub = ROOT / "python" / "tidegate" / "_core.pyi"
    ast.parse(stub.read_text(), feature_version=(3, 10))
