"""`process()` while something is away on a real Kafka: the group's coordinator for 20 s, and the dead-letter topic, because its
leader is away or because it does not exist."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ledger import Load
from services import Handled, ProcessService

from harness.kafka import KafkaCluster

PARTITIONS = 6
PER_SECOND = 300.0
AWAY_S = 20.0
# The broker that is away, for the code under test alone.
AWAY = 1
GO_ON_S = 90.0
IN_FLIGHT = 50
QUEUED = 200
REPORT_S = 0.1
POISON_EVERY = 10
# Of a processor, while everything else of a service goes on: a service that spins takes a whole one.
BUSY = 0.5
PROCESS = {"max_in_flight": IN_FLIGHT, "max_queued": QUEUED}
CONFIGS: dict[str, dict[str, object]] = {
    # The session outlives the outage, and the broker's sessions of the other protocol do not: that member is thrown out.
    "classic": {"group.protocol": "classic", "session.timeout.ms": 45_000},
    "consumer": {"group.protocol": "consumer"},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    """Three nodes of its own behind proxies, of which one can be away for the code under test alone."""
    with KafkaCluster(nodes=3, proxied=True) as running:
        yield running


def create_led_by(cluster: KafkaCluster, topic: str, leaders: list[int]) -> None:
    """A topic with a partition for each of these leaders, with another replica of each."""
    from confluent_kafka.admin import NewTopic

    replicas = [[leader, leader % 3 + 1] for leader in leaders]
    new = NewTopic(topic, num_partitions=len(leaders), replica_assignment=replicas, config={"min.insync.replicas": "1"})
    cluster.admin.create_topics([new])[topic].result(20)
    cluster.await_state(f"leaders of {topic}", lambda: _leaders(cluster, topic) == leaders)


def _leaders(cluster: KafkaCluster, topic: str) -> list[int]:
    partitions = cluster.admin.list_topics(topic, timeout=5).topics[topic].partitions
    return [partitions[number].leader for number in sorted(partitions)]


def group_at(cluster: KafkaCluster, broker: int, name: str) -> str:
    """A group with this coordinator: the broker that leads the group's partition of __consumer_offsets."""
    leaders = _leaders(cluster, "__consumer_offsets")

    def place(group: str) -> int:
        code = 0
        for character in group:
            code = (31 * code + ord(character)) & 0xFFFFFFFF
        return min(code, 2**32 - code) % len(leaders)  # the absolute value of a signed number

    return next(group for number in range(1000) if leaders[place(group := f"{name}-{number}")] == broker)


def warm_up(cluster: KafkaCluster, topic: str, group: str) -> None:
    """The first group of a cluster has the brokers create __consumer_offsets."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": cluster.reader_servers, "group.id": group, "log_level": 2})
    try:
        cluster.await_state("a first commit", lambda: consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False))
    finally:
        consumer.close()


class Watched(NamedTuple):
    """What a service had come to at one moment."""

    handled: int
    ledgers: int
    cpu_s: float
    committed: int


class Group:
    """A service, its group, and the dead-letter topic that it has for itself."""

    def __init__(self, cluster: KafkaCluster, protocol: str, topic: str, group: str, ledger: Path) -> None:
        self._cluster = cluster
        self.protocol, self.topic, self.group = protocol, topic, group
        self.dead = f"{topic}-dead-{protocol}"
        create_led_by(cluster, self.dead, [AWAY])
        process = {**PROCESS, "dead_letter_topic": self.dead}
        told: dict[str, Any] = {"config": CONFIGS[protocol], "process": process, "poison_every": POISON_EVERY, "report_s": REPORT_S}
        self.service = ProcessService(cluster.bootstrap_servers, group, topic, ledger, **told)

    def wait_working(self) -> None:
        """Until it works, has made a dead letter, and has its coordinator where it should be."""
        self.service.wait_handled(lambda handled: len(handled) >= 300)
        self._cluster.await_group(self.group, lambda group: group.coordinator.id == AWAY)
        self._cluster.await_state("a dead letter", lambda: any(self._cluster.end_offsets(self.dead).values()))

    def watch(self) -> Watched:
        committed = sum(self._cluster.committed(self.group, self.topic).values())
        return Watched(len(self.service.handled()), len(self.service.ledgers()), self.service.cpu_s(), committed)

    def wait_committed(self) -> None:
        ends = self._cluster.end_offsets(self.topic)
        self._cluster.await_state(
            f"everything committed ({self.protocol})",
            lambda: self._cluster.committed(self.group, self.topic) == ends,
            timeout=GO_ON_S,
        )

    def judge(self, sent: int, before: Watched, after: Watched) -> str:
        """Bounded, nothing lost, no spin; handled again only where the group has thrown the member out."""
        ledgers = self.service.ledgers()[before.ledgers : after.ledgers]
        waiting = max(ledger["in_flight"] + ledger["queued"] for ledger in ledgers)
        letters = max(ledger["dead_letters_pending"] for ledger in ledgers)
        busy = (after.cpu_s - before.cpu_s) / AWAY_S
        handled = self.service.handled()
        places = {(entry.partition, entry.offset) for entry in handled}
        lost, again = sent - len(places), len(handled) - len(places)
        taken = sum(int(line.split()[1]) for line in self.service.child.lines if line.startswith("lost "))
        left = self.service.leave()
        said = (
            f"{self.protocol}: {after.handled - before.handled} handled and {after.committed - before.committed} committed in "
            f"{AWAY_S:.0f} s without coordinator, in flight and queued at most {waiting} (bound {IN_FLIGHT + QUEUED}), "
            f"{letters} dead letters waiting, {busy:.0%} of a processor; in all {sent} sent, {lost} lost, {again} handled again, "
            f"{taken} partitions taken"
        )
        assert waiting <= IN_FLIGHT + QUEUED, said
        assert busy < BUSY, said
        assert letters > 0, "the dead-letter topic was not away"
        assert after.handled > before.handled, "the intake stood still"
        assert lost == 0 and left["missing"] == 0, said
        assert again == 0 or taken > 0, said
        judge_letters(self._cluster, self.dead, handled, exact=taken == 0)
        return said


@pytest.mark.slow
@pytest.mark.kafka3
@pytest.mark.timeout(400)
def test_nothing_is_lost_while_the_coordinator_and_the_dead_letter_topics_leader_are_away(
    cluster: KafkaCluster, fresh_name: Callable[[str], str], tmp_path: Path, say: Callable[[str], None]
) -> None:
    """No restart is needed, either: the same members go on."""
    topic = fresh_name("topic")
    create_led_by(cluster, topic, [2, 3] * (PARTITIONS // 2))
    warm_up(cluster, topic, fresh_name("first"))
    with contextlib.ExitStack() as ending:
        groups = [Group(cluster, name, topic, group_at(cluster, AWAY, fresh_name(name)), tmp_path / name) for name in CONFIGS]
        for group in groups:
            ending.enter_context(group.service)
        load = ending.enter_context(Load(cluster.reader_servers, topic, PARTITIONS, PER_SECOND))
        for group in groups:
            group.wait_working()
        before = [group.watch() for group in groups]
        cluster.proxies[AWAY].cut()
        threading.Event().wait(AWAY_S)  # the outage itself
        after = [group.watch() for group in groups]
        cluster.proxies[AWAY].restore()
        load.wait_delivered(300)
        load.stop()
        for group, *watched in zip(groups, before, after, strict=True):
            group.wait_committed()
            say(group.judge(load.sent, *watched))
    assert not load.failed


def judge_letters(cluster: KafkaCluster, topic: str, handled: list[Handled], exact: bool) -> None:
    """Every record that failed has its dead letter; those of a partition came in order, but for repetitions."""
    failed = {(entry.partition, entry.offset) for entry in handled if entry.failed}
    places = []
    for message in cluster.read_all(topic):
        headers = dict(message.headers())
        places.append((int(headers["tidegate.dlq.partition"]), int(headers["tidegate.dlq.offset"])))
    assert set(places) == failed
    assert not exact or len(places) == len(failed)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_dead_letter_topic_that_does_not_exist_loses_nothing_and_does_not_spin(
    kafka: KafkaCluster, fresh_topic: Callable[..., str], fresh_group: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    """The brokers create no topics by themselves; librdkafka gives a topic 30 s to appear, and refuses its records then."""
    topic, records, keys = fresh_topic(partitions=2), 300, 15
    dead = f"{topic}-dead"
    kafka.produce(
        topic, [str(number).encode() for number in range(records)], [b"key-%d" % (number % keys) for number in range(records)]
    )
    process = {**PROCESS, "dead_letter_topic": dead}
    told: dict[str, Any] = {"config": CONFIGS["consumer"], "process": process, "poison_every": POISON_EVERY, "report_s": REPORT_S}
    with ProcessService(kafka.bootstrap_servers, fresh_group, topic, tmp_path / "ledger", **told) as service:
        service.wait_handled(lambda handled: len(handled) == records)
        poison = sorted((entry.partition, entry.offset) for entry in service.handled() if entry.failed)
        began, cpu_s = time.monotonic(), service.cpu_s()
        service.child.wait_for_line("the dead-letter topic .* refuses records", 60)
        threading.Event().wait(10)  # it is sent again, with pauses, and refused again
        away_s = time.monotonic() - began
        busy = (service.cpu_s() - cpu_s) / away_s
        ledger = service.ledgers()[-1]
        refused = sum("refuses records" in line for line in service.child.lines)
        committed = kafka.committed(fresh_group, topic)
        attempts = len(service.handled())
        assert all(offset <= min(o for p, o in poison if p == partition) for partition, offset in committed.items())
        assert ledger["dead_letters_pending"] == len(poison) and ledger["missing"] == 0
        assert attempts == records, "a handler had a record again"
        kafka.create_topic(dead, 1)
        ends = kafka.end_offsets(topic)
        kafka.await_state("everything committed", lambda: kafka.committed(fresh_group, topic) == ends, timeout=GO_ON_S)
        left = service.leave()
    order: dict[bytes, list[int]] = defaultdict(list)
    letters = []
    for message in kafka.read_all(dead):
        letters.append(message)
        order[message.key()].append(int(message.value()))
    say(
        f"no dead-letter topic for {away_s:.0f} s: {len(poison)} dead letters wait, {refused} warnings, {busy:.1%} of a processor, "
        f"committed {committed}; then {len(letters)} letters of {len(poison)}, {left['done']} done, {left['missing']} missing"
    )
    assert busy < BUSY
    assert refused == 1, "one line per outage"
    assert left["dead_lettered"] == len(poison) and left["done"] == records - len(poison)
    assert len(letters) == len(poison)
    assert all(numbers == sorted(numbers) for numbers in order.values()), order
