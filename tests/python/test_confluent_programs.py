"""Programs for a consumer that hypothesis writes: at each step `tidegate.confluent`'s gives what confluent_kafka's own gives."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import confluent_kafka
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tidegate
import tidegate.confluent as ours

PARTITIONS = 3
RECORDS = 12
"""In each partition."""
WAIT_S = 20.0

PARTITION = st.integers(0, PARTITIONS - 1)
ANY_PARTITION = st.integers(0, PARTITIONS)
"""One of them does not exist."""
SOME = st.lists(PARTITION, min_size=1, max_size=PARTITIONS, unique=True)
OFFSET = st.integers(0, RECORDS - 1)

STEPS = st.one_of(
    st.tuples(st.just("assign"), st.dictionaries(PARTITION, OFFSET, min_size=1)),
    st.tuples(st.just("incremental_assign"), PARTITION, OFFSET),
    st.tuples(st.just("incremental_unassign"), PARTITION),
    st.tuples(st.just("unassign")),
    st.tuples(st.just("read"), st.integers(1, 6)),
    st.tuples(st.just("consume"), st.integers(1, 6)),
    st.tuples(st.just("seek"), PARTITION, OFFSET),
    st.tuples(st.just("pause"), SOME),
    st.tuples(st.just("resume"), SOME),
    st.tuples(st.just("position"), st.lists(ANY_PARTITION, max_size=3)),
    st.tuples(st.just("assignment")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("commit_message")),
    st.tuples(st.just("commit_offsets"), PARTITION, OFFSET),
    st.tuples(st.just("committed"), SOME),
    st.tuples(st.just("store_message")),
    st.tuples(st.just("store_offsets"), ANY_PARTITION, OFFSET),
    st.tuples(st.just("watermarks"), PARTITION),
)
PROGRAMS = st.lists(STEPS, min_size=4, max_size=14).map(lambda steps: [("assign", {0: 0, 1: 3}), *steps])


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    with tidegate.EmbeddedBroker(topics={"t": PARTITIONS}) as broker:
        with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
            for number in range(PARTITIONS * RECORDS):
                producer.send("t", b"%d" % (number // PARTITIONS), partition=number % PARTITIONS)
        yield broker.bootstrap_servers


@dataclass
class Run:
    """A program on one client."""

    client: ModuleType
    consumer: Any
    next: dict[int, int] = field(default_factory=dict)
    """Of each assigned partition: what is to come next."""
    paused: set[int] = field(default_factory=set)
    sought: set[int] = field(default_factory=set)
    """Nothing was read there since."""
    last: Any = None

    def at(self, partition: int, offset: int = -1001) -> Any:
        return self.client.TopicPartition("t", partition, offset)

    def left(self) -> int:
        return sum(RECORDS - offset for partition, offset in self.next.items() if partition not in self.paused)

    def take(self, poll: Callable[[], list[Any]], count: int) -> dict[int, list[int]] | str:
        """Reads so many, or what there is: offsets by partition, for between partitions there is no order.

        Reading a part of several partitions would give each client another part, so then it is everything.
        """
        active = [partition for partition in self.next if partition not in self.paused and self.next[partition] < RECORDS]
        wanted = min(count, self.left()) if len(active) == 1 else self.left()
        got: dict[int, list[int]] = {}
        deadline = time.monotonic() + WAIT_S
        while wanted > 0:
            assert time.monotonic() < deadline, f"{wanted} did not come; {got}"
            for message in poll():
                assert message.error() is None, message.error()
                got.setdefault(message.partition(), []).append(message.offset())
                self.next[message.partition()] = message.offset() + 1
                self.sought.discard(message.partition())
                self.last = message if len(active) == 1 else None
                wanted -= 1
        return dict(sorted(got.items()))

    def began(self) -> None:
        """A seek is refused, by both, until fetching has begun."""
        self.take(self.poll, 1)

    def resume_all(self) -> None:
        """librdkafka keeps a pause over the next assignment, and ours does not: docs/confluent.md tells it."""
        self.consumer.resume([self.at(partition) for partition in self.paused])
        self.paused = set()
        self.sought = set()

    def poll(self) -> list[Any]:
        message = self.consumer.poll(0.5)
        return [] if message is None else [message]

    def step(self, name: str, *given: Any) -> Any:
        """Makes a step, and tells what it gave."""
        consumer, at = self.consumer, self.at
        match name, given:
            case "assign", (places,):
                self.resume_all()
                consumer.assign([at(*place) for place in places.items()])
                self.next = dict(places)
                return self.began()
            case "incremental_assign", (partition, offset):
                if partition not in self.next:
                    consumer.incremental_assign([at(partition, offset)])
                    self.next[partition] = offset
                    return self.began()
            case "incremental_unassign", (partition,):
                if partition in self.next:
                    self.resume_all()
                    consumer.incremental_unassign([at(partition)])
                    del self.next[partition]
            case "unassign", ():
                self.resume_all()
                consumer.unassign()
                self.next = {}
            case "read", (count,):
                return self.take(self.poll, count)
            case "consume", (count,):
                return self.take(lambda: consumer.consume(1, 0.5), count)
            case "seek", (partition, offset):
                consumer.seek(at(partition, offset))
                self.next[partition] = offset
                self.sought.add(partition)
            case "pause", (partitions,):
                partitions = [partition for partition in partitions if partition in self.next]
                consumer.pause([at(partition) for partition in partitions])
                self.paused.update(partitions)
            case "resume", (partitions,):
                partitions = [partition for partition in partitions if partition in self.next]
                consumer.resume([at(partition) for partition in partitions])
                self.paused.difference_update(partitions)
            case "position", (partitions,):
                return shown(consumer.position([at(partition) for partition in partitions]))
            case "assignment", ():
                return sorted(place.partition for place in consumer.assignment())
            case "commit", ():
                # What the group has already, or what is before that, is nothing to commit for librdkafka, and is for us, as
                # docs/confluent.md tells. What the group has then counts.
                every = [at(partition) for partition in range(PARTITIONS)]
                has = {place.partition: place.offset for place in consumer.committed(every, WAIT_S)}
                if self.sought or any(offset < has[partition] for partition, offset in self.next.items()):
                    return "it went back"
                with contextlib.suppress(self.client.KafkaException):
                    consumer.commit(asynchronous=False)
                return shown(consumer.committed(every, WAIT_S))
            case "commit_message", ():
                if self.last is not None:
                    return shown(consumer.commit(self.last, asynchronous=False))
            case "commit_offsets", (partition, offset):
                return shown(consumer.commit(offsets=[at(partition, offset)], asynchronous=False))
            case "committed", (partitions,):
                return shown(consumer.committed([at(partition) for partition in partitions], WAIT_S))
            case "store_message", ():
                if self.last is not None:
                    consumer.store_offsets(self.last)
            case "store_offsets", (partition, offset):
                return consumer.store_offsets(offsets=[at(partition, offset)])
            case "watermarks", (partition,):
                return consumer.get_watermark_offsets(at(partition), WAIT_S)
        return None


def shown(places: list[Any]) -> list[tuple[Any, ...]]:
    """Order apart: a commit without arguments has none."""
    return sorted((place.partition, place.offset, place.error.code() if place.error else None) for place in places)


def run(client: ModuleType, servers: str, program: list[tuple[Any, ...]], *, stores: bool) -> list[Any]:
    config = {
        "bootstrap.servers": servers,
        "group.id": uuid.uuid4().hex,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": stores,
        "fetch.wait.max.ms": 20,
    }
    consumer = client.Consumer(config)
    outcomes: list[Any] = []
    try:
        this = Run(client, consumer)
        for step in program:
            try:
                outcomes.append((step[0], this.step(*step)))
            except client.KafkaException as raised:
                outcomes.append((step[0], "KafkaException", raised.args[0].code()))
            except AssertionError:
                raise
            except Exception as raised:
                outcomes.append((step[0], type(raised).__name__))
    finally:
        consumer.close()
    return outcomes


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # a program is short, and takes seconds
)
@given(program=PROGRAMS, stores=st.booleans())
def test_both_clients_give_the_same_at_each_step(servers: str, program: list[tuple[Any, ...]], stores: bool) -> None:
    theirs = run(confluent_kafka, servers, program, stores=stores)
    mine = run(ours, servers, program, stores=stores)
    assert mine == theirs
