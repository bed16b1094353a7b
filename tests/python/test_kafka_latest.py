"""A fresh group with `auto.offset.reset=latest` while producers already send, and SIGKILL before the first timed commit: nothing
is lost from the moment start() had its first assignment on, over restarts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger import Entry, Load, read_ledger, repeated, start_service, wait_for_entries

from harness.kafka import KafkaCluster
from harness.proc import Child

PARTITIONS = 4
PER_SECOND = 400.0
LIVES = 3
DEATHS = 5
CONFIG = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "auto.commit.interval.ms": 5000}


def lost(load: Load, entries: list[Entry], assigned_ends: dict[int, int]) -> list[int]:
    """Numbers that were delivered behind where the partition ended when the assignment was known, and not handled; and those
    behind the first handled one of their partition, wherever that is."""
    handled = {entry.number for entry in entries}
    starts = dict(assigned_ends)
    for number in handled:
        partition, offset = load.delivered[number]
        starts[partition] = min(starts[partition], offset)
    return sorted(n for n, (partition, offset) in load.delivered.items() if offset >= starts[partition] and n not in handled)


@pytest.mark.slow
@pytest.mark.parametrize("handler_s", [0.0, 0.02], ids=["quick", "behind"])
def test_nothing_is_lost_from_the_first_assignment_on(
    kafka: KafkaCluster,
    fresh_topic: Callable[..., str],
    fresh_group: str,
    tmp_path: Path,
    say: Callable[[str], None],
    handler_s: float,
) -> None:
    """Quick: killed after some hundred records. Behind: the handler cannot keep up, so much is fetched and unfinished."""
    servers, topic, ledger = kafka.bootstrap_servers, fresh_topic(partitions=PARTITIONS), tmp_path / "ledger"
    kills: list[int] = []
    with Load(servers, topic, PARTITIONS, PER_SECOND) as load:
        load.wait_delivered(200)
        before = kafka.end_offsets(topic)
        for life in range(LIVES):
            last = life == LIVES - 1
            with service(servers, fresh_group, topic, ledger, 0.0 if last else handler_s) as running:
                running.wait_for_line("^assigned$", 60)
                if life == 0:
                    assigned_ends = kafka.end_offsets(topic)
                if last:
                    load.stop()
                    kafka.await_state(
                        "everything committed", lambda: kafka.committed(fresh_group, topic) == kafka.end_offsets(topic)
                    )
                    continue
                wait_for_entries(ledger, len(read_ledger(ledger)) + 100, running)
                running.kill()
            kills.append(len(read_ledger(ledger)))
            if life == 0:
                starts = kafka.committed(fresh_group, topic)
    # Killed before the first timed commit: what is committed is where the group began, in every partition.
    assert set(starts) == set(range(PARTITIONS))
    assert all(before[partition] <= start <= assigned_ends[partition] for partition, start in starts.items())
    entries = read_ledger(ledger)
    assert not load.failed
    gone = lost(load, entries, assigned_ends)
    say(
        f"latest: {len(load.delivered)} sent, {sum(starts.values())} of them before the start, killed after {kills} records, "
        f"{len(gone)} lost, {repeated(entries)} handled again"
    )
    assert not gone
    places = [load.delivered[entry.number] for entry in entries]
    assert all(offset >= starts[partition] for partition, offset in places), "a record from before the start was handled"


@pytest.mark.slow
def test_killed_in_the_moment_of_the_assignment(
    kafka: KafkaCluster,
    fresh_topic: Callable[..., str],
    fresh_name: Callable[[str], str],
    tmp_path: Path,
    say: Callable[[str], None],
) -> None:
    """The process dies as soon as it can know that it has an assignment: where the group began is known to the broker by then."""
    servers, topic = kafka.bootstrap_servers, fresh_topic(partitions=PARTITIONS)
    groups = [fresh_name("group") for _ in range(DEATHS)]
    found: list[dict[int, int]] = []
    with Load(servers, topic, PARTITIONS, PER_SECOND) as load:
        for group in groups:
            with start_service(
                servers, group, topic, tmp_path / group, reset="latest", config=CONFIG, die_when_assigned=True
            ) as child:
                assert child.wait(60) == -signal.SIGKILL, child.tail()
            ends = kafka.end_offsets(topic)
            found.append(kafka.committed(group, topic))
            assert all(found[-1].get(partition, 0) <= end for partition, end in ends.items())
        ledger = tmp_path / "again"
        with service(servers, groups[0], topic, ledger, 0.0) as running:
            wait_for_entries(ledger, 1, running)
            load.stop()
            wait_committed(kafka, groups[0], topic)
    say(f"killed when assigned, {DEATHS} times: the start was committed for {[len(starts) for starts in found]} of {PARTITIONS}")
    assert all(set(starts) == set(range(PARTITIONS)) for starts in found)
    assert not lost(load, read_ledger(ledger), found[0])


def service(servers: str, group: str, topic: str, ledger: Path, handler_s: float, **options: Any) -> Child:
    return start_service(servers, group, topic, ledger, reset="latest", config=CONFIG, handler_s=handler_s, **options)


def wait_committed(kafka: KafkaCluster, group: str, topic: str) -> None:
    kafka.await_state("everything committed", lambda: kafka.committed(group, topic) == kafka.end_offsets(topic))
