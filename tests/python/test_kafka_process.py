"""`Consumer.process` on a real Kafka: members that are killed with many records in flight.

A hundred handlers of 20 to 100 ms in each of two members, order by key; every 3 s one of them gets SIGKILL and another takes its
place. What was done is written by the handlers to a file of their own, one line each, which a kill cannot take back."""

from __future__ import annotations

import random
import sys
import textwrap
import time
import uuid
from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka import Producer

from harness.kafka import KafkaCluster
from harness.proc import Child

PARTITIONS = 6
KEYS = 200
RECORDS = 12_000
KILLS = 4
IN_FLIGHT = 100
BETWEEN_KILLS_S = 3.0
DEADLINE_S = 180.0
COMMIT_INTERVAL_S = 0.5
# A commit is on its way, and the machine may be busy.
COMMIT_SLACK_S = 1.5

MEMBER = """
    import asyncio, os, random, sys, tidegate

    bootstrap, topic, group, path, protocol = sys.argv[1:]
    done = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    config = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500,
              "group.protocol": protocol}
    if protocol == "classic":
        config |= {"session.timeout.ms": 6000, "partition.assignment.strategy": "cooperative-sticky"}

    async def handle(record):
        await asyncio.sleep(random.uniform(0.02, 0.1))
        os.write(done, b"%s %s %d\\n" % (record.key, record.value, os.getpid()))

    consumer = tidegate.Consumer(config, [topic])
    processing = consumer.process(handle, max_in_flight=100)
    print("ready", flush=True)
    processing.wait()
"""


def _load(kafka: KafkaCluster, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True, "linger.ms": 20})
    for number in range(RECORDS):
        producer.produce(topic, str(number).encode(), f"key-{number % KEYS}".encode())
        producer.poll(0)
    assert producer.flush(60) == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_killed_members_lose_nothing_and_repeat_what_was_unfinished(kafka: KafkaCluster, tmp_path: Path, protocol: str) -> None:
    topic = f"process-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, PARTITIONS)
    _load(kafka, topic)
    path = tmp_path / "done"
    path.touch()

    def member() -> Child:
        arguments = [kafka.bootstrap_servers, topic, f"{topic}-group", str(path), protocol]
        return Child([sys.executable, "-c", textwrap.dedent(MEMBER), *arguments], name="member")

    chance = random.Random(5)
    members = [member(), member()]
    kills, allowed = 0, 0
    counts: list[tuple[float, int]] = []
    try:
        began = time.monotonic()
        next_kill = began + BETWEEN_KILLS_S
        done: set[bytes] = set()
        while len(done) < RECORDS:
            now = time.monotonic()
            lines = path.read_bytes().splitlines()
            done = {line.split()[1] for line in lines if line.count(b" ") == 2}
            counts.append((now, len(lines)))
            assert now - began < DEADLINE_S, f"{RECORDS - len(done)} of {RECORDS} are not done, after {kills} kills"
            if now >= next_kill and kills < KILLS and lines:
                victim = chance.randrange(len(members))
                members[victim].kill()
                members[victim].end()
                # What was done since the last commit that must have been answered, and what was in flight. What was done above the
                # lowest unfinished record of a partition comes again too, which the key order bounds: see below.
                at = path.read_bytes().count(b"\n")
                since = now - COMMIT_INTERVAL_S - COMMIT_SLACK_S
                allowed += at - max((count for when, count in counts if when <= since), default=0) + IN_FLIGHT
                kills += 1
                members[victim] = member()
                next_kill = time.monotonic() + BETWEEN_KILLS_S
            time.sleep(0.05)
    finally:
        for child in members:
            child.end()

    lines = path.read_bytes().splitlines()
    first: dict[bytes, list[int]] = defaultdict(list)
    seen: set[bytes] = set()
    for line in lines:
        key, value, _pid = line.split()
        if value not in seen:
            seen.add(value)
            first[key].append(int(value))
    again = len(lines) - len(seen)
    print(f"\n{protocol}: {RECORDS} records, {kills} kills, lost {RECORDS - len(seen)}, again {again} (at most {allowed})")
    assert len(seen) == RECORDS
    assert kills == KILLS
    assert len(first) == KEYS
    out_of_order = [key for key, numbers in first.items() if numbers != sorted(numbers)]
    assert out_of_order == []
    assert again <= allowed
