"""The real package's schema registry, with its Avro, JSON and Protobuf serializers, on `tidegate.confluent`'s clients.

Each program runs in a process of its own, once as it is and once with `tidegate.confluent.install()` in front: the registry's
modules import confluent_kafka themselves. The registry is their own double, `mock://`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tidegate

PROGRAM = Path(__file__).parent / "programs" / "schema_registry_program.py"
LIMIT_S = 120.0
FORMATS = ("avro", "json", "protobuf")
USERS = ["key customer-0", "User Ada 36", "key customer-1", "User Grace 85", "key customer-2", "User Edsger 72"]


def run(kind: str, face: str, package: str, servers: str) -> str:
    """What the program prints: what the consumer got, and whose classes it ran on."""
    command = [sys.executable, str(PROGRAM), kind, face, package, servers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("face", ["sync", "asyncio"])
@pytest.mark.parametrize("kind", FORMATS)
def test_serializers_of_the_registry_work_on_both(kind: str, face: str) -> None:
    topics = {f"{kind}-{package}": 1 for package in ("original", "tidegate")}
    with tidegate.EmbeddedBroker(topics) as broker:
        theirs = run(kind, face, "original", broker.bootstrap_servers)
        ours = run(kind, face, "tidegate", broker.bootstrap_servers)
    lines = ours.splitlines()
    assert lines[0] == "clients of tidegate, registry of confluent_kafka"
    assert lines[1:] == theirs.splitlines()[1:] == USERS


@pytest.mark.parametrize("package", ["original", "tidegate"])
def test_a_builder_makes_the_serializer_and_its_client_closes_it(package: str) -> None:
    with tidegate.EmbeddedBroker({f"avro-{package}": 1}) as broker:
        told = run("avro", "builder", package, broker.bootstrap_servers)
    assert told.splitlines()[1:] == USERS
