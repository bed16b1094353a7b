"""A handler stalls for 60 s against 2 GB of backlog: what the process keeps in memory stays within `queued.max.messages.kbytes`.

Values are JSON texts of random characters. Baseline: the same process before it subscribes."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ledger import start_service
from programs import build_program

import tidegate
from harness.kafka import KafkaCluster
from harness.proc import Child

MIB = 2**20
QUEUE_KBYTES = 65536
BOUND = 1.25
STALL_S = 60.0
FLUSH_S = 60.0
PARTITIONS = 4
SEND_AT_ONCE = 5000
# On disk a topic is gone soon after it was deleted.
TOPIC_CONFIG: dict[str, object] = {"segment.bytes": 256 * MIB, "file.delete.delay.ms": 1000}


class Backlog(NamedTuple):
    topic: str
    value_bytes: int


def backlog(kafka: KafkaCluster, name: str, value_bytes: int, total_bytes: int, say: Callable[[str], None]) -> Backlog:
    """A topic with `total_bytes` of values."""
    kafka.create_topic(name, PARTITIONS, config=TOPIC_CONFIG)
    pool = base64.b64encode(os.urandom(8 * MIB))
    count = total_bytes // value_bytes
    started = time.monotonic()
    config = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "acks": 1,
        "linger.ms": 20,
        "batch.size": MIB,
        "compression.type": "none",
    }
    with tidegate.Producer(config) as producer:
        for first in range(0, count, SEND_AT_ONCE):
            rows = min(SEND_AT_ONCE, count - first)
            places = ((first + row) * 4099 % (len(pool) - value_bytes) for row in range(rows))
            values = [b'"%b"' % pool[place : place + value_bytes - 2] for place in places]
            assert producer.send_batch(name, values) == rows
        assert producer.flush(FLUSH_S) == 0
    took_s = time.monotonic() - started
    say(f"{count} records of {value_bytes} B, {total_bytes / 1e9:.1f} GB, loaded in {took_s:.1f} s")
    assert sum(kafka.end_offsets(name).values()) == count
    return Backlog(name, value_bytes)


@pytest.fixture(scope="module")
def stall_program() -> Path:
    """The Rust program, built if it is not there or older than its sources."""
    return build_program("stall")


@pytest.fixture
def topics(kafka: KafkaCluster) -> Iterator[list[str]]:
    """Names of topics to delete afterwards."""
    names: list[str] = []
    yield names
    for name in names:
        kafka.delete_topic(name)


class Stalled(NamedTuple):
    """What a stalled process says of itself, in bytes."""

    baseline: int
    peak: int
    queued: int

    @property
    def grown(self) -> int:
        return self.peak - self.baseline


def of_rust(child: Child) -> Stalled:
    line = child.wait_for_line(r'^(\{"allocator".*)$', STALL_S + 120)
    told: dict[str, Any] = json.loads(line[1])
    return Stalled(told["baseline_kib"] * 1024, told["peak_kib"] * 1024, told["queue_bytes"])


def of_python(child: Child) -> Stalled:
    line = child.wait_for_line(r"^memory (.*)$", STALL_S + 120)
    told: dict[str, Any] = json.loads(line[1])
    return Stalled(told["baseline_kib"] * 1024, told["peak_kib"] * 1024, told["engine"]["queue_bytes"])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_stalled_handler_keeps_memory_bounded(
    kafka: KafkaCluster,
    fresh_name: Callable[[str], str],
    topics: list[str],
    tmp_path: Path,
    stall_program: Path,
    say: Callable[[str], None],
) -> None:
    servers = kafka.bootstrap_servers
    topics += [fresh_name("1kB"), fresh_name("100B")]
    large = backlog(kafka, topics[0], 1024, 2 * 2**30, say)
    small = backlog(kafka, topics[1], 100, 300_000_000, say)
    config = {"queued.max.messages.kbytes": QUEUE_KBYTES}

    def rust(of: Backlog) -> Child:
        return Child([stall_program, servers, of.topic, str(STALL_S), str(QUEUE_KBYTES)], name="stall")

    def python(of: Backlog) -> Child:
        return start_service(servers, fresh_name("group"), of.topic, tmp_path / "ledger", config=config, stall_s=STALL_S)

    # All four stall at the same time.
    with rust(large) as rust_large, python(large) as python_large, rust(small) as rust_small, python(small) as python_small:
        found = {
            ("Rust", 1024): of_rust(rust_large),
            ("BaseKafkaConsumer", 1024): of_python(python_large),
            ("Rust", 100): of_rust(rust_small),
            ("BaseKafkaConsumer", 100): of_python(python_small),
        }
    for (face, size), stalled in found.items():
        say(
            f"{face}, {size} B records, {STALL_S:.0f} s: {stalled.grown / MIB:.1f} MiB above the baseline of "
            f"{stalled.baseline / MIB:.1f} MiB, {stalled.grown / 1024 / QUEUE_KBYTES:.2f} times queued.max.messages.kbytes "
            f"({stalled.queued / MIB:.1f} MiB in the queue)"
        )
    for (face, size), stalled in found.items():
        # Without a full prefetch there is nothing to bound.
        assert stalled.grown > QUEUE_KBYTES * 1024 / 2, f"{face}, {size} B: hardly anything was fetched"
        if size == 1024:
            assert stalled.grown <= BOUND * QUEUE_KBYTES * 1024, f"{face}: {stalled.grown / MIB:.1f} MiB"
