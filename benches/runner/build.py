"""Builds the compiled contenders: the Rust programs with cargo, the C program against the librdkafka.a cargo made.

cargo tells where each build script put its libraries, so the C program gets exactly those of this build: one librdkafka
for both sides of the comparison. It gets no allocator but the C library's, which is checked in the finished program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "benches" / "c" / "batch_loop.c"
# Static libraries in the order the linker needs them, and the crate whose build script makes each.
LIBRARIES = {
    "librdkafka.a": "rdkafka-sys",
    "libssl.a": "openssl-sys",
    "libcrypto.a": "openssl-sys",
    "libzstd.a": "zstd-sys",
    "libz.a": "libz-sys",
}


def build() -> dict[str, Path]:
    """Build everything; returns each program's path by its name, `batch_loop` among them.

    Raises `RuntimeError` when a build fails; the compiler's own output goes to standard error.
    """
    messages = _cargo()
    programs = {
        message["target"]["name"]: Path(message["executable"])
        for message in messages
        if message["reason"] == "compiler-artifact" and message.get("executable") and "bin" in message["target"]["kind"]
    }
    folders = {
        _crate(message["package_id"]): Path(message["out_dir"])
        for message in messages
        if message["reason"] == "build-script-executed"
    }
    libraries = [_library(folders, name) for name in LIBRARIES]
    # Beside the Rust programs: a build script's output is target/release/build/CRATE/out.
    target = folders["rdkafka-sys"].parents[2] / "batch_loop"
    _compile_c(libraries, target)
    return programs | {"batch_loop": target}


def _cargo() -> list[dict[str, Any]]:
    command = ["cargo", "build", "--release", "-p", "tidegate-benches", "--message-format=json-render-diagnostics"]
    run = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed")
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def _crate(package_id: str) -> str:
    """The name in `registry+https://...#name@version`."""
    return package_id.rpartition("#")[2].partition("@")[0]


def _library(folders: dict[str, Path], name: str) -> Path:
    folder = folders.get(LIBRARIES[name])
    if folder is None:
        raise RuntimeError(f"cargo ran no build script of {LIBRARIES[name]}")
    found = sorted(folder.rglob(name))
    if not found:
        raise RuntimeError(f"no {name} under {folder}")
    return found[0]


def _compile_c(libraries: list[Path], target: Path) -> None:
    # librdkafka's own header declares a `const int` return value, which -Wextra remarks upon.
    flags = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-isystem", str(libraries[0].parent)]
    command = [os.environ.get("CC", "cc"), *flags, str(SOURCE), "-o", str(target), *map(str, libraries), "-lm", "-lpthread", "-ldl"]
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed")
    symbols = subprocess.run(["nm", str(target)], capture_output=True, text=True, check=True).stdout
    if " mi_malloc" in symbols or " T malloc" in symbols:
        raise RuntimeError(f"{target} holds an allocator of its own; the baseline is the stock one")
