"""Builds the compiled contenders: the Rust programs with cargo, C and C++ programs against what cargo made.

The peers in C are linked with librdkafka.a: cargo tells where each build script put its libraries, so they get exactly those of
this build, one librdkafka for both sides of the comparison. They get no allocator but the C library's, which is checked in the
finished programs. Ours in C and C++ are linked with the shared library, as a user's are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "benches" / "c"
PEERS = ("batch_loop.c", "producer_loop.c")
OURS = ("tidegate_batches.c", "tidegate_send.c", "tidegate_ranges.cpp")
# Static libraries in the order the linker needs them, and the crate whose build script makes each.
LIBRARIES = {
    "librdkafka.a": "rdkafka-sys",
    "libssl.a": "openssl-sys",
    "libcrypto.a": "openssl-sys",
    "libzstd.a": "zstd-sys",
    "libz.a": "libz-sys",
}


def build() -> dict[str, Path]:
    """Build everything; returns each program's path by its name, those in C and C++ among them.

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
    release = folders["rdkafka-sys"].parents[2]
    for name in PEERS:
        programs[Path(name).stem] = _compile_peer(SOURCES / name, libraries, release)
    shared = _shared_library(messages, release)
    for name in OURS:
        headers = [f"-I{ROOT / 'include'}"]
        programs[Path(name).stem] = _compile(SOURCES / name, release, headers, [str(shared), "-Wl,-rpath,$ORIGIN"])
    return programs


def _cargo() -> list[dict[str, Any]]:
    packages = [argument for name in ("tidegate-benches", "tidegate-ffi") for argument in ("-p", name)]
    command = ["cargo", "build", "--release", *packages, "--message-format=json-render-diagnostics"]
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


def _shared_library(messages: list[dict[str, Any]], release: Path) -> Path:
    """The shared library under the name that programs look for, which ends with the major version."""
    for message in messages:
        if message["reason"] == "compiler-artifact" and "cdylib" in message["target"]["kind"]:
            for name in message["filenames"]:
                if name.endswith(".so") and _crate(message["package_id"]) == "tidegate-ffi":
                    major = message["package_id"].rpartition("@")[2].partition(".")[0]
                    link = release / f"libtidegate.so.{major}"
                    link.unlink(missing_ok=True)
                    link.symlink_to(name)
                    return link
    raise RuntimeError("cargo made no shared library of tidegate-ffi")


def _compile_peer(source: Path, libraries: list[Path], release: Path) -> Path:
    # librdkafka's own header declares a `const int` return value, which -Wextra remarks upon.
    headers = ["-isystem", str(libraries[0].parent)]
    target = _compile(source, release, headers, [*map(str, libraries), "-lm", "-lpthread", "-ldl"])
    symbols = subprocess.run(["nm", str(target)], capture_output=True, text=True, check=True).stdout
    if " mi_malloc" in symbols or " T malloc" in symbols:
        raise RuntimeError(f"{target} holds an allocator of its own; the baseline is the stock one")
    return target


def _compile(source: Path, release: Path, headers: list[str], libraries: list[str]) -> Path:
    target = release / source.stem
    compiler = [os.environ.get("CXX", "c++"), "-std=c++17"] if source.suffix == ".cpp" else [os.environ.get("CC", "cc")]
    command = [*compiler, "-O2", "-g", "-Wall", "-Wextra", "-Werror", *headers, str(source), "-o", str(target), *libraries]
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed")
    return target
