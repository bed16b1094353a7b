"""Gets Apache Kafka's jars through Maven, once per version, into ``.cache/`` at the root of the repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
REPOSITORY = Path(__file__).resolve().parents[2]
KAFKA_VERSION = re.search(r"<kafka\.version>([^<]+)<", POM.read_text()).group(1)  # type: ignore[union-attr]
LEAST_JAVA = 17
_TRIES = 3


def java() -> str | None:
    """The java command: JAVA_HOME's, else the one on the path."""
    home = os.environ.get("JAVA_HOME")
    if home and (found := shutil.which("java", path=str(Path(home) / "bin"))):
        return found
    return shutil.which("java")


def java_version(command: str) -> int:
    """The major version, 0 when the command does not say."""
    told = subprocess.run([command, "-version"], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match.group(1)) if match else 0


def unavailable() -> str | None:
    """Why a real Kafka cannot be started here, or None when it can."""
    command = java()
    if command is None:
        return f"no Java: install a JDK or JRE, {LEAST_JAVA} or newer"
    if (version := java_version(command)) < LEAST_JAVA:
        return f"Java {version} is too old: install {LEAST_JAVA} or newer"
    if not _complete() and shutil.which("mvn") is None:
        return "no Maven (mvn), which fetches Kafka's jars"
    return None


def _folder() -> Path:
    return REPOSITORY / ".cache" / f"kafka-{KAFKA_VERSION}"


def _pom_hash() -> str:
    return hashlib.sha256(POM.read_bytes()).hexdigest()


def _complete() -> bool:
    try:
        return (_folder() / "pom.sha256").read_text() == _pom_hash()
    except OSError:
        return False


def class_path() -> str:
    """Java's class path of Kafka; fetches the jars when they are not there yet.

    Raises ``RuntimeError`` with Maven's output when they cannot be fetched.
    """
    folder = _folder()
    if not _complete():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(folder.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _complete():  # another process may have fetched them while we waited
                _fetch(folder)
    return f"{folder}/*"


def _fetch(folder: Path) -> None:
    print(f"fetching Apache Kafka {KAFKA_VERSION} with Maven (about 54 MB, once)", file=sys.stderr, flush=True)
    partial = folder.with_name(folder.name + ".partial")
    for attempt in range(1, _TRIES + 1):
        shutil.rmtree(partial, ignore_errors=True)
        run = subprocess.run(
            [
                "mvn",
                "-q",
                "-B",
                "-f",
                str(POM),
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                f"-DoutputDirectory={partial}",
            ],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        if run.returncode == 0 and any(partial.glob("kafka_2.13-*.jar")):
            (partial / "pom.sha256").write_text(_pom_hash())
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
            return
        if attempt < _TRIES:
            time.sleep(2**attempt)  # a registry that hiccups; nothing to await
    raise RuntimeError(f"Maven could not fetch Kafka {KAFKA_VERSION} in {_TRIES} tries:\n{run.stdout[-4000:]}")
