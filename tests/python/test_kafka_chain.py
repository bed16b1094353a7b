"""Chained groups on a real Kafka: records go through three stages of key-ordered handlers, many at once, each stage a group of its
own, while members join, leave in order and are killed (SIGKILL).

A stage hands on each record to the next topic and finishes it when the broker has confirmed the copy, so the topics themselves
are the account. A copy's headers say which record it is of and who made it. What may come twice is known record by record: what
the killed member had handed on and the group, asked right after the kill, had in neither committed offset nor map. Members are
`tests/src/bin/stage.rs`; the second stage has one in Python beside them."""

from __future__ import annotations

import itertools
import os
import random
import sys
import textwrap
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import build_program
from services import Known, child_with_input, known_to_group

from harness.kafka import KafkaCluster

PARTITIONS = 6
KEYS = 600
STAGES = 3
IN_FLIGHT = 200
MEMBERS = 2
MOST_MEMBERS = 4
# Between two changes in membership. A killed member is noticed after 6 s.
PACE_S = (0.6, 1.6)
# A member that is as old has work in its hands, and something to repeat.
SETTLED_S = 3.0
END_S = 120.0

PYTHON_MEMBER = """
    import asyncio, sys, tidegate

    bootstrap, source, target, group, name, protocol, in_flight = sys.argv[1:]
    cluster = {"bootstrap.servers": bootstrap, "client.id": name}
    config = cluster | {"group.id": group, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500}
    config["group.protocol"] = protocol
    if protocol == "classic":
        config |= {"session.timeout.ms": 6000, "partition.assignment.strategy": "cooperative-sticky"}
    producer = tidegate.Producer(cluster | {"enable.idempotence": True, "linger.ms": 2})

    async def handle(record):
        loop, sent = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def tell(error):
            if not sent.done():
                sent.set_exception(error) if error else sent.set_result(None)

        headers = {"from": f"{record.partition}:{record.offset}", "by": name}
        producer.send(target, record.value, key=record.key, headers=headers,
                      on_delivery=lambda error, _: loop.call_soon_threadsafe(tell, error))
        await sent

    consumer = tidegate.Consumer(config)
    consumer.subscribe([source], on_lost=lambda partitions: print("lost", len(partitions), flush=True))
    processing = consumer.process(handle, max_in_flight=int(in_flight), max_attempts=None)
    print("ready", flush=True)
    sys.stdin.read()
    ledger = processing.stop(drain=20)
    consumer.close()
    producer.close()
    print("left", ledger, flush=True)
    assert ledger["in_flight"] == 0 and ledger["missing"] == 0, ledger
"""


class Place(NamedTuple):
    """Of a record in its topic."""

    partition: int
    offset: int


class Copy(NamedTuple):
    """What a member handed on."""

    of: Place
    by: str
    key: bytes
    number: int


class Member:
    """A process of one stage; asked to leave by the end of its input."""

    def __init__(self, command: list[str | Path], name: str) -> None:
        self.name = name
        self.began = time.monotonic()
        self.child, self._write = child_with_input(command, name)

    def leave(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def end(self) -> None:
        self.child.end()
        self.leave()

    @property
    def lost(self) -> int:
        """How many partitions were taken from it without being asked back."""
        return sum(int(line.split()[1]) for line in self.child.lines if line.startswith("lost "))


class Kill(NamedTuple):
    """A member that was killed, and what its group had committed then: the offset, and what was done beyond it."""

    by: str
    known: Known

    def knows(self, place: Place) -> bool:
        """Whether the group had the record as done."""
        committed, done = self.known.get(place.partition, (0, []))
        return place.offset < committed or any(start <= place.offset < end for start, end in done)


class Stage:
    """One group: what it reads, what it writes, its members."""

    def __init__(self, kafka: KafkaCluster, program: Path, number: int, topics: list[str], protocol: str) -> None:
        self._kafka = kafka
        self._program = program
        self._names = itertools.count()
        self._protocol = protocol
        self.number = number
        self.source, self.target = topics[number], topics[number + 1]
        self.group = f"{self.source}-group"
        self.members: list[Member] = []
        self.left: list[Member] = []
        self.killed: list[Member] = []
        self.kills: list[Kill] = []
        self.joined = 0

    def join(self, python: bool = False) -> None:
        name = f"{self.number}-{next(self._names)}"
        arguments = [self._kafka.bootstrap_servers, self.source, self.target, self.group, name, self._protocol, str(IN_FLIGHT)]
        command = [sys.executable, "-u", "-c", textwrap.dedent(PYTHON_MEMBER)] if python else [str(self._program)]
        self.members.append(Member([*command, *arguments], name))
        self.joined += 1

    def settled(self) -> list[Member]:
        """The members that have been there for a while."""
        return [member for member in self.members if time.monotonic() - member.began > SETTLED_S]

    def leave(self, member: Member) -> None:
        self.members.remove(member)
        member.leave()
        self.left.append(member)

    def kill(self, member: Member) -> None:
        self.members.remove(member)
        member.child.kill()
        # Its partitions are nobody's for as long as its session lasts: what the group has of them now is what it had.
        self.kills.append(Kill(member.name, known_to_group(self._kafka, self.group, self.source)))
        member.end()
        self.killed.append(member)

    def is_through(self) -> bool:
        return self._kafka.committed(self.group, self.source) == self._kafka.end_offsets(self.source)

    def copies(self) -> list[Copy]:
        """What it has handed on, each partition in order."""
        read = []
        for message in self._kafka.read_all(self.target, timeout=240):
            headers = dict(message.headers())
            partition, offset = map(int, headers["from"].split(b":"))
            read.append(Copy(Place(partition, offset), headers["by"].decode(), message.key(), int(message.value())))
        return read

    def end(self) -> None:
        for member in self.members + self.left:
            member.end()

    def tails(self) -> str:
        return "\n".join(member.child.tail(8) for member in self.members)


class Chain:
    """The stages, and what happens to their members."""

    def __init__(self, kafka: KafkaCluster, program: Path, name: str, protocol: str, records: int, seed: int) -> None:
        self._kafka = kafka
        self._chance = random.Random(seed)
        self.records = records
        topics = [f"{name}.{number}" for number in range(STAGES + 1)]
        for topic in topics:
            kafka.create_topic(topic, PARTITIONS)
        self._source = topics[0]
        self.stages = [Stage(kafka, program, number, topics, protocol) for number in range(STAGES)]

    def begin(self) -> None:
        """The first members of each stage."""
        for stage in self.stages:
            stage.join(python=stage.number == 1)
            for _ in range(1, MEMBERS):
                stage.join()
        for stage in self.stages:
            for member in stage.members:
                member.child.wait_for_line("ready")

    def feed(self, seconds: float) -> threading.Thread:
        """Sends the records evenly over some time, from a thread."""
        thread = threading.Thread(target=self._feed, args=(seconds,), daemon=True)
        thread.start()
        return thread

    def _feed(self, seconds: float) -> None:
        from confluent_kafka import Producer

        producer = Producer(
            {"bootstrap.servers": self._kafka.reader_servers, "enable.idempotence": True, "linger.ms": 10, "log_level": 2}
        )
        began, at_once = time.monotonic(), 500
        for first in range(0, self.records, at_once):
            for number in range(first, min(first + at_once, self.records)):
                producer.produce(self._source, str(number).encode(), f"key-{number % KEYS}".encode())
            producer.poll(0)
            threading.Event().wait(max(0.0, began + seconds * (first + at_once) / self.records - time.monotonic()))
        assert producer.flush(60) == 0

    def disturb(self, changes: int) -> None:
        """Members join, leave and are killed, until so many have left each stage in order and so many of it were killed."""
        while stages := [stage for stage in self.stages if min(len(stage.killed), len(stage.left)) < changes]:
            threading.Event().wait(self._chance.uniform(*PACE_S))  # the life of a group between two changes
            self._change(self._chance.choice(stages), changes)

    def _change(self, stage: Stage, changes: int) -> None:
        choices = []
        if len(stage.members) < MOST_MEMBERS:
            choices.append("join")
        if settled := stage.settled():
            choices += ["kill"] * (len(stage.killed) < changes) + ["leave"] * (len(stage.left) < changes)
        match self._chance.choice(choices or ["wait"]):
            case "join":
                stage.join(python=stage.number == 1 and self._chance.random() < 0.3)
            case "leave":
                stage.leave(self._chance.choice(settled))
                if not stage.members:
                    stage.join()
            case "kill":
                stage.kill(self._chance.choice(settled))
                stage.join()

    def finish(self, timeout: float) -> None:
        """Until every stage has committed everything, then all leave in order."""
        deadline = time.monotonic() + timeout
        for stage in self.stages:
            while not stage.is_through():
                assert time.monotonic() < deadline, f"stage {stage.number} is not through: {self._standing(stage)}\n{stage.tails()}"
                threading.Event().wait(0.2)
        for stage in self.stages:
            for member in stage.members:
                member.leave()
        for stage in self.stages:
            for member in stage.members + stage.left:
                assert member.child.wait(60) == 0, member.child.tail()

    def _standing(self, stage: Stage) -> str:
        return f"{self._kafka.committed(stage.group, stage.source)} of {self._kafka.end_offsets(stage.source)}"

    def end(self) -> None:
        for stage in self.stages:
            stage.end()


def judge(stage: Stage, records: int) -> str:
    """Nothing lost, nothing out of order, and nothing twice but what a kill allows."""
    copies = stage.copies()
    first: dict[bytes, list[int]] = defaultdict(list)
    seen: set[int] = set()
    by: dict[Place, list[str]] = defaultdict(list)
    for copy in copies:
        by[copy.of].append(copy.by)
        if copy.number not in seen:
            seen.add(copy.number)
            first[copy.key].append(copy.number)
    lost = records - len(seen)
    out_of_order = [key for key, numbers in first.items() if numbers != sorted(numbers)]
    kills = {kill.by: kill for kill in stage.kills}
    again = sum(len(makers) - 1 for makers in by.values())
    unknown = Counter({kill.by: 0 for kill in stage.kills})
    for place, makers in by.items():
        unknown.update(maker for maker in makers if maker in kills and not kills[maker].knows(place))
    taken = sum(member.lost for member in stage.members + stage.left + stage.killed)
    others: Counter[str] = Counter()
    for place, makers in by.items():
        for maker in makers[:-1]:
            if maker not in kills:
                others["of members that were not killed"] += 1
            elif kills[maker].knows(place):
                others["known when their maker was killed"] += 1
    said = (
        f"stage {stage.number}: {len(copies)} copies, {stage.joined} joined, {len(stage.left)} left, {len(kills)} killed, "
        f"{lost} lost, {len(out_of_order)} keys out of order, {len(first)} keys served, again {again} (at most {unknown.total()}: "
        f"in flight or not in the map, by kill {sorted(unknown.values())}), {taken} partitions taken, others again {dict(others)}"
    )
    assert lost == 0, said
    assert out_of_order == [], said
    assert len(first) == min(KEYS, records), said
    assert again <= unknown.total() or taken, said
    assert not others or taken, said
    return said


@pytest.fixture(scope="module")
def stage_program() -> Path:
    """The Rust member, built if it is not there or older than its sources."""
    return build_program("stage")


@pytest.fixture
def run_chain(
    kafka: KafkaCluster, stage_program: Path, fresh_name: Callable[[str], str], say: Callable[[str], None]
) -> Iterator[Callable[..., None]]:
    running: list[Chain] = []

    def run(protocol: str, records: int, seconds: float, changes: int) -> None:
        seed = random.randrange(2**32)
        chain = Chain(kafka, stage_program, fresh_name("chain"), protocol, records, seed)
        running.append(chain)
        began = time.monotonic()
        chain.begin()
        feeding = chain.feed(seconds)
        chain.disturb(changes)
        feeding.join(END_S + seconds)
        chain.finish(END_S + records / 2000)
        say(f"{protocol}, seed {seed}: {records} records through {STAGES} stages in {time.monotonic() - began:.0f} s")
        for stage in chain.stages:
            say(judge(stage, records))

    yield run
    for chain in running:
        chain.end()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_chain_of_groups_loses_nothing_while_members_come_go_and_are_killed(
    run_chain: Callable[..., None], protocol: str
) -> None:
    run_chain(protocol, records=60_000, seconds=24.0, changes=2)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_long_chain_of_groups_loses_nothing(run_chain: Callable[..., None], protocol: str) -> None:
    run_chain(protocol, records=500_000, seconds=240.0, changes=20)
