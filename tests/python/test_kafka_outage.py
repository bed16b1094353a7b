"""A broker that restarts, crashes and stays away for 10 s, or falls silent, under load: the producer and the consumer that were
running go on by themselves, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from dropin import Service
from ledger import Entry, Load, TidegateSender, repeated

from harness.kafka import KafkaCluster

PARTITIONS = 6
PER_SECOND = 200.0
AWAY_S = 10.0
# The handler is quick: what was fetched before the outage is handled by then.
AT_HAND_S = 3.0
CONFIG = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "auto.commit.interval.ms": 1000}
# librdkafka waits up to 10 s between two attempts to connect, and a classic member finds the group again after that.
GO_ON_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    """A node of its own, behind a proxy: other tests need theirs alive."""
    with KafkaCluster(proxied=True) as running:
        yield running


def stop(cluster: KafkaCluster) -> None:
    cluster.stop_broker(1)


def crash(cluster: KafkaCluster) -> None:
    cluster.stop_broker(1, hard=True)


def start(cluster: KafkaCluster) -> None:
    cluster.start_broker(1)


def fall_silent(cluster: KafkaCluster) -> None:
    cluster.proxies[1].stall()


def speak_again(cluster: KafkaCluster) -> None:
    cluster.proxies[1].restore()


class Outage(NamedTuple):
    """How the broker goes, how long it is away, and how it comes back."""

    begin: Callable[[KafkaCluster], None]
    away_s: float
    end: Callable[[KafkaCluster], None]


OUTAGES = {
    "restart": Outage(stop, 0.0, start),
    "crash, 10 s away": Outage(crash, AWAY_S, start),
    "10 s of silence": Outage(fall_silent, AWAY_S, speak_again),
}


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(400)
def test_produce_and_consume_go_on_by_themselves(
    cluster: KafkaCluster, fresh_name: Callable[[str], str], say: Callable[[str], None]
) -> None:
    servers, topic, group = cluster.bootstrap_servers, fresh_name("topic"), fresh_name("group")
    cluster.create_topic(topic, PARTITIONS)
    entries: list[Entry] = []
    service = Service(servers, group, [topic], _note_in(entries), config=CONFIG)
    allowed = 0
    with Load(servers, topic, PARTITIONS, PER_SECOND, TidegateSender) as load, service:
        for name, outage in OUTAGES.items():
            load.wait_delivered(200)
            at_least = len(load.delivered)
            wait_handled(entries, load, at_least)
            cluster.await_state("a commit", lambda at_least=at_least: sum(cluster.committed(group, topic).values()) >= at_least)
            committed = sum(cluster.committed(group, topic).values())
            sent_before = load.sent
            outage.begin(cluster)
            gone = time.monotonic()
            threading.Event().wait(outage.away_s)  # the outage itself
            outage.end(cluster)
            back = time.monotonic()
            # Sent after the broker was back: delivered, and handled.
            first_after = load.sent
            wait_handled(entries, load, first_after + 1)
            delivered_s = min(at for number, at in load.delivered_at.copy().items() if number >= first_after) - back
            # What was finished and not committed when the broker went, and what was at hand then.
            allowed += len({entry.number for entry in list(entries) if entry.at < gone + AT_HAND_S}) - committed
            handled_s = min(entry.at for entry in list(entries) if entry.number >= first_after) - back
            say(
                f"{name}: {first_after - sent_before} sent meanwhile; after the broker was back records were delivered again "
                f"in {delivered_s:.1f} s and all handled in {handled_s:.1f} s"
            )
        load.stop()
        wait_handled(entries, load, load.sent)
    handled = {entry.number for entry in entries}
    lost = set(range(load.sent)) - handled
    say(f"{load.sent} sent, {len(load.failed)} failed, {len(lost)} lost, {repeated(entries)} handled again (at most {allowed})")
    assert not load.failed
    assert not lost
    assert repeated(entries) <= allowed
    written = [message.value() for message in cluster.read_all(topic)]
    assert len(written) == load.sent, "an idempotent producer writes each record once"
    assert cluster.committed(group, topic) == cluster.end_offsets(topic)
    assert service.raised is None


def wait_handled(entries: list[Entry], load: Load, below: int) -> None:
    """Wait until every number below `below` was handled."""
    deadline = time.monotonic() + GO_ON_S
    while missing := set(range(below)) - {entry.number for entry in list(entries)}:
        assert time.monotonic() < deadline, f"{len(missing)} of {below} not handled after {GO_ON_S} s; {load.failed[:3]}"
        threading.Event().wait(0.05)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_leader_that_dies_is_replaced(
    kafka3: KafkaCluster, fresh_topic3: Callable[..., str], fresh_group: str, say: Callable[[str], None]
) -> None:
    """Three nodes; the one that coordinates the group and leads a third of the partitions is killed, and comes back later.

    A group that begins in that moment looks up where `latest` is: librdkafka went on asking the dead leader, which it remembered
    for five minutes.
    """
    servers, topic = kafka3.bootstrap_servers, fresh_topic3(partitions=PARTITIONS)
    standing: list[Entry] = []
    beginning: list[Entry] = []
    service = Service(servers, fresh_group, [topic], _note_in(standing), config=CONFIG)
    late = Service(servers, f"{fresh_group}-late", [topic], _note_in(beginning), config=CONFIG, auto_offset_reset="latest")
    with Load(servers, topic, PARTITIONS, PER_SECOND, TidegateSender) as load, service:
        load.wait_delivered(200)
        wait_handled(standing, load, 200)
        coordinator = kafka3.describe_group(fresh_group).coordinator.id
        killed = time.monotonic()
        kafka3.stop_broker(coordinator, hard=True)
        below = load.sent
        with late:
            wait_handled(standing, load, below + 1)
            standing_s = time.monotonic() - killed
            try:
                late.wait_seen(1, GO_ON_S)
            except AssertionError as error:
                sent = f"{len(load.delivered)} of {load.sent} delivered, {load.failed[:3]}"
                raise AssertionError(f"the new group: {error}; {sent}; {late.raised}; {late.consumer.stats()}") from error
            late_s = time.monotonic() - killed
            kafka3.start_broker(coordinator)
            load.stop()
            wait_handled(standing, load, load.sent)
            wait_last(beginning, load)
    numbers = {entry.number for entry in beginning}
    by_partition = [[n for n in range(load.sent) if n % PARTITIONS == partition] for partition in range(PARTITIONS)]
    holes = sum(n not in numbers for row in by_partition for n in row if n >= min(numbers & set(row)))
    say(
        f"three nodes: coordinator killed; the standing group had everything sent before after {standing_s:.1f} s, a new group its "
        f"first record after {late_s:.1f} s; {load.sent} sent, {len(load.failed)} failed, 0 lost, {holes} lost of the new group, "
        f"{repeated(standing)} handled again"
    )
    assert not load.failed
    assert len(kafka3.read_all(topic)) == load.sent
    assert holes == 0
    assert (service.raised, late.raised) == (None, None)


def _note_in(entries: list[Entry]) -> Callable[[Any], None]:
    return lambda message: entries.append(Entry(message["p"], message["n"], time.monotonic()))


def wait_last(entries: list[Entry], load: Load) -> None:
    """Wait until the last record of each partition was handled."""
    last = set(range(load.sent - PARTITIONS, load.sent))
    deadline = time.monotonic() + GO_ON_S
    while not last <= {entry.number for entry in list(entries)}:
        assert time.monotonic() < deadline, "the new group has not come to the end"
        threading.Event().wait(0.05)
