"""Consumers on a real Kafka: one program, run on the original and on `tidegate.confluent`, has the same outcomes on both."""

from __future__ import annotations

import importlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import confluent_kafka
import pytest

from tidegate import confluent

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PACKAGES = (confluent_kafka, confluent)
RECORDS = 60
WAIT_S = 60.0
Program = Callable[[ModuleType, str, str, str], Any]


def both(program: Program, servers: str, topic: str, group: str) -> Any:
    """The outcome of a program that is the same on both; they run side by side, each with a group of its own."""
    with ThreadPoolExecutor(2) as threads:
        ran = [threads.submit(program, package, servers, topic, f"{group}-{number}") for number, package in enumerate(PACKAGES)]
        theirs, ours = (one.result() for one in ran)
    assert ours == theirs
    return ours


@pytest.fixture
def filled(kafka: Any, fresh_topic: Any) -> Callable[..., str]:
    """A topic whose partitions hold the same number of records; timestamps are 1000 ms apart."""

    def fill(partitions: int = 2, first_ms: int = 1_700_000_000_000) -> str:
        topic: str = fresh_topic(partitions=partitions)
        producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap_servers})
        for number in range(RECORDS):
            place, time_ms = number % partitions, first_ms + 1000 * number
            producer.produce(
                topic, f"v{number}", key=f"k{number}", partition=place, timestamp=time_ms, headers=[("n", str(number))]
            )
        assert producer.flush(WAIT_S) == 0
        return topic

    return fill


def plain(value: Any, topic: str) -> Any:
    """Without what differs between two classes or two topics."""
    if isinstance(value, (list, tuple)):
        return [plain(one, topic) for one in value]
    if type(value).__name__ == "TopicPartition":
        error = None if value.error is None else value.error.code()
        return value.topic.replace(topic, "T"), value.partition, value.offset, value.metadata, error
    if type(value).__name__ == "Message":
        if value.error() is not None:
            return "error", value.error().code(), value.partition(), value.offset()
        return value.partition(), value.offset(), value.key(), value.value(), value.timestamp(), value.headers()
    return value


def outcome(call: Callable[[], Any], topic: str) -> Any:
    try:
        return plain(call(), topic)
    except Exception as error:
        argument = error.args[0] if error.args else None
        return type(error).__name__, argument.code() if hasattr(argument, "code") else None


def wait_for(consumer: Any, wanted: Callable[[], Any]) -> list[Any]:
    """Polls until something is true; what came meanwhile."""
    messages = []
    end = time.monotonic() + WAIT_S
    while not wanted():
        assert time.monotonic() < end, "it does not come"
        message = consumer.poll(0.1)
        if message is not None:
            messages.append(message)
    return messages


def take(consumer: Any, count: int) -> list[Any]:
    messages: list[Any] = []
    end = time.monotonic() + WAIT_S
    while len(messages) < count and time.monotonic() < end:
        message = consumer.poll(1)
        if message is not None:
            messages.append(message)
    return messages


def until_told(call: Callable[[], Any]) -> None:
    """Calls until it raises no more: a broker that has just started is no coordinator yet."""
    end = time.monotonic() + WAIT_S
    while isinstance(outcome(call, ""), tuple) and time.monotonic() < end:
        threading.Event().wait(0.2)


def by_hand(package: ModuleType, servers: str, topic: str, group: str) -> list[Any]:
    """Everything that needs no rebalance: places, ends, pauses, commits of all kinds, and mistakes with each."""
    place = package.TopicPartition
    committed: list[Any] = []
    told = threading.Event()

    def on_commit(error: Any, offsets: list[Any]) -> None:
        committed.append((None if error is None else error.code(), plain(offsets, topic)))
        told.set()

    conf = {"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = package.Consumer({**conf, "auto.offset.reset": "earliest", "on_commit": on_commit})
    seen: list[Any] = []

    def step(name: str, call: Callable[[], Any]) -> Any:
        seen.append((name, outcome(call, topic)))
        return seen[-1][1]

    def all_committed() -> None:
        told.wait(0)
        wait_for(consumer, told.is_set)
        told.clear()

    first = place(topic, 0)
    step("topics", lambda: sorted(consumer.list_topics(topic, WAIT_S).topics[topic].partitions))
    until_told(lambda: consumer.committed([first], WAIT_S))
    step("nothing committed", lambda: consumer.committed([first, place(topic, 1)], WAIT_S))
    step("watermarks", lambda: consumer.get_watermark_offsets(first, WAIT_S))
    step(
        "times",
        lambda: consumer.offsets_for_times([place(topic, 0, 1_700_000_010_000), place(topic, 1, 1_900_000_000_000)], WAIT_S),
    )
    step("no such topic", lambda: consumer.get_watermark_offsets(place(topic + "-no", 0), 10))
    step("assign", lambda: consumer.assign([place(topic, 0, 3)]))
    step("read", lambda: take(consumer, 2))

    def positions(*partitions: int) -> list[tuple[int, int | None]]:
        return [(one.offset, one.leader_epoch) for one in consumer.position([place(topic, number) for number in partitions])]

    step("position", lambda: positions(0))
    step("position of another", lambda: consumer.position([place(topic, 1)]))
    step("both positions", lambda: positions(0, 1))
    step("seek", lambda: consumer.seek(place(topic, 0, 20)))
    step("read after it", lambda: take(consumer, 2))
    step("position after the seek", lambda: positions(0))
    step("seek to the beginning", lambda: consumer.seek(place(topic, 0, package.OFFSET_BEGINNING)))
    step("read the first", lambda: take(consumer, 1))
    step("seek to the last", lambda: consumer.seek(place(topic, 0, 29)))
    step("the last and the end", lambda: take(consumer, 2))
    step("seek what is not assigned", lambda: consumer.seek(place(topic, 1, 0)))
    step("pause", lambda: consumer.pause([first]))
    step("seek while paused", lambda: consumer.seek(place(topic, 0, 5)))
    step("nothing comes", lambda: consumer.poll(0.5))
    step("resume", lambda: consumer.resume([first]))
    message = take(consumer, 1)[0]
    step("it goes on", lambda: message)
    step("commit a message", lambda: consumer.commit(message, asynchronous=False)[0].offset)
    step("committed", lambda: consumer.committed([first], WAIT_S)[0].offset)
    noted = place(topic, 1, 9, metadata="noted")
    step("commit offsets", lambda: consumer.commit(offsets=[noted], asynchronous=False)[0].offset)
    step("with their text", lambda: [(one.offset, one.metadata) for one in consumer.committed([place(topic, 1)], WAIT_S)])
    step("commit without waiting", lambda: consumer.commit(offsets=[place(topic, 1, 11)]))
    all_committed()
    step("and a message", lambda: consumer.commit(message=message, asynchronous=True))
    all_committed()
    step("what on_commit heard", lambda: [(error, [one[:3] for one in offsets]) for error, offsets in committed])
    step("commit nothing", lambda: consumer.commit(offsets=[], asynchronous=False))
    step("both", lambda: consumer.commit(message=message, offsets=[noted]))
    step("many at once", lambda: consumer.seek(place(topic, 0, 10)))
    step("consumed", lambda: consumer.consume(7, WAIT_S))
    step("add a partition", lambda: consumer.incremental_assign([place(topic, 1, 28)]))
    step("twice", lambda: consumer.incremental_assign([place(topic, 1, 28)]))
    step("take one away", lambda: consumer.incremental_unassign([first]))
    step("assignment", lambda: [one.partition for one in consumer.assignment()])
    step("the rest", lambda: take(consumer, 3))
    step("unassign", consumer.unassign)
    step("no assignment", consumer.assignment)
    step("cluster", lambda: len(consumer.cluster_id(WAIT_S)) > 10)
    step("member", consumer.memberid)
    consumer.close()
    return seen


def test_without_rebalances(kafka: Any, filled: Any, fresh_group: str, say: Callable[[str], None]) -> None:
    seen = both(by_hand, kafka.bootstrap_servers, filled(), fresh_group)
    assert dict(seen)["committed"] == 6
    say(f"{len(seen)} calls on a real Kafka, the same on both")


class Member:
    """A consumer of a group that assigns incrementally inside of its callbacks, and what it was told."""

    def __init__(self, package: ModuleType, servers: str, topic: str, group: str, **more: Any) -> None:
        self.events: list[tuple[str, int]] = []
        self.held: set[int] = set()
        conf = {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest"}
        self.consumer = package.Consumer({**conf, **{name.replace("_", "."): value for name, value in more.items()}})
        self.consumer.subscribe([topic], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_lost)

    def on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        assert consumer is self.consumer
        consumer.incremental_assign(partitions)
        self.held |= {one.partition for one in partitions}
        self.note("assign", partitions)

    def on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        if partitions:
            consumer.commit(offsets=[type(one)(one.topic, one.partition, 7) for one in partitions], asynchronous=False)
        consumer.incremental_unassign(partitions)
        self.held -= {one.partition for one in partitions}
        self.note("revoke", partitions)

    def on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        self.held -= {one.partition for one in partitions}
        self.note("lost", partitions)

    def note(self, what: str, partitions: list[Any]) -> None:
        if partitions:
            self.events.append((what, len(partitions)))


def cooperative(more: dict[str, Any]) -> Program:
    def program(package: ModuleType, servers: str, topic: str, group: str) -> Any:
        one = Member(package, servers, topic, group, **more)
        got = wait_for(one.consumer, lambda: len(one.held) == 4)
        other = Member(package, servers, topic, group, **more)
        stop = threading.Event()

        def poll() -> None:
            while not stop.is_set():
                message = other.consumer.poll(0.1)
                if message is not None:
                    assert message.error() is None

        polling = threading.Thread(target=poll)
        polling.start()
        got += wait_for(one.consumer, lambda: len(one.held) == 2 and len(other.held) == 2)
        assert one.held.isdisjoint(other.held) and one.held | other.held == {0, 1, 2, 3}
        of_other = sorted(other.held)
        stop.set()
        polling.join()
        other.consumer.close()
        got += wait_for(one.consumer, lambda: len(one.held) == 4)
        offsets = {one.offset for one in one.consumer.committed([package.TopicPartition(topic, n) for n in of_other], WAIT_S)}
        member = one.consumer.memberid()
        assert member and all(message.error() is None for message in got)
        one.consumer.close()
        return one.events, other.events, offsets

    return program


@pytest.mark.parametrize(
    "more",
    [{"partition_assignment_strategy": "cooperative-sticky", "heartbeat_interval_ms": 500}, {"group_protocol": "consumer"}],
    ids=["cooperative-sticky", "KIP-848"],
)
def test_members_that_assign_incrementally_in_their_callbacks(
    kafka: Any, filled: Any, fresh_group: str, more: dict[str, Any]
) -> None:
    one, other, offsets = both(cooperative(more), kafka.bootstrap_servers, filled(4), fresh_group)
    total = Counter[str]()
    for what, count in one:
        total[what] += count
    assert total == {"assign": 6, "revoke": 6} and other[-1][0] == "revoke"
    assert offsets == {7}, "what on_revoke committed"


def late(package: ModuleType, servers: str, topic: str, group: str) -> Any:
    """A member that does not poll for longer than it may."""
    events: list[Any] = []

    def note(what: str) -> Callable[[Any, list[Any]], None]:
        return lambda consumer, partitions: events.append((what, len(partitions)))

    conf = {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest", "session.timeout.ms": 6000}
    consumer = package.Consumer({**conf, "max.poll.interval.ms": 6000})
    consumer.subscribe([topic], on_assign=note("assign"), on_revoke=note("revoke"), on_lost=note("lost"))
    wait_for(consumer, lambda: events)
    threading.Event().wait(8)  # the time is what this is about
    came = wait_for(consumer, lambda: len(events) >= 3)
    errors = [message.error().code() for message in came if message.error() is not None]
    consumer.close()
    return events, errors


def test_a_member_that_comes_too_late_hears_that_its_partitions_are_lost(kafka: Any, filled: Any, fresh_group: str) -> None:
    events, errors = both(late, kafka.bootstrap_servers, filled(), fresh_group)
    assert events == [("assign", 2), ("lost", 2), ("assign", 2), ("revoke", 2)]
    assert errors == [confluent_kafka.KafkaError._MAX_POLL_EXCEEDED]


def test_a_subscription_by_pattern_finds_topics_that_come_later(kafka: Any, fresh_name: Any, fresh_group: str) -> None:
    stem = fresh_name("pattern")
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap_servers})

    def add(name: str) -> None:
        kafka.create_topic(name, 1)
        producer.produce(name, name)
        assert producer.flush(WAIT_S) == 0

    def program(package: ModuleType, servers: str, topic: str, group: str) -> Any:
        conf = {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest"}
        consumer = package.Consumer({**conf, "topic.metadata.refresh.interval.ms": 500, "heartbeat.interval.ms": 500})
        consumer.subscribe([f"^{topic}-.*"])
        seen = {message.value().decode() for message in take(consumer, 2)}
        assert seen == {f"{topic}-a", f"{topic}-b"}
        first_two.wait()
        seen |= {message.value().decode() for message in take(consumer, 1)}
        consumer.close()
        return sorted(name.replace(topic, "T") for name in seen)

    for name in ("a", "b"):
        add(f"{stem}-{name}")
    add(f"other-{stem}")
    first_two = threading.Barrier(2, action=lambda: add(f"{stem}-c"))
    assert both(program, kafka.bootstrap_servers, stem, fresh_group) == ["T-a", "T-b", "T-c"]


@pytest.mark.parametrize("level", ["read_committed", "read_uncommitted"])
def test_transactions_are_read_as_the_isolation_level_says(kafka: Any, fresh_topic: Any, fresh_group: str, level: str) -> None:
    topic = fresh_topic()
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(WAIT_S)
    for name, end in (
        ("kept", producer.commit_transaction),
        ("given up", producer.abort_transaction),
        ("kept too", producer.commit_transaction),
    ):
        producer.begin_transaction()
        producer.produce(topic, name)
        producer.flush(WAIT_S)
        end(WAIT_S)

    def program(package: ModuleType, servers: str, topic: str, group: str) -> Any:
        conf = {"bootstrap.servers": servers, "group.id": group, "enable.partition.eof": True, "isolation.level": level}
        consumer = package.Consumer(conf)
        consumer.assign([package.TopicPartition(topic, 0, 0)])
        messages = take(consumer, 3 if level == "read_committed" else 4)
        consumer.close()
        return plain(messages[:-1], topic), messages[-1].error().code()

    values, end = both(program, kafka.bootstrap_servers, topic, fresh_group)
    assert end == confluent_kafka.KafkaError._PARTITION_EOF
    expected = [b"kept", b"given up", b"kept too"]
    assert [value[3] for value in values] == [one for one in expected if level == "read_uncommitted" or one != b"given up"]


def seen(client: Any, topic: str | None) -> Any:
    """What list_topics() tells, but for topics of other tests."""
    deadline = time.monotonic() + WAIT_S
    while True:
        told = client.list_topics(topic, timeout=WAIT_S)
        # A connection to the broker by the address in the configuration has no number yet.
        if told.orig_broker_id != -1:
            break
        assert time.monotonic() < deadline, "only the first connection is there"
    topics = {
        name: (one.topic, one.error, [(p.id, p.leader, p.replicas, p.isrs, p.error) for p in one.partitions.values()], str(one))
        for name, one in told.topics.items()
        if topic is None or name == topic
    }
    brokers = {number: (broker.id, broker.host, broker.port, repr(broker)) for number, broker in told.brokers.items()}
    known = told.cluster_id, told.controller_id, told.orig_broker_id, told.orig_broker_name
    return known, brokers, topics[topic] if topic else sorted(topics)


def test_every_client_tells_the_same_of_the_cluster(kafka: Any, fresh_topic: Any) -> None:
    topic = fresh_topic(partitions=3)
    config = {"bootstrap.servers": kafka.bootstrap_servers, "topic.metadata.refresh.interval.ms": 100}
    told: list[Any] = []
    for package in PACKAGES:
        admin = importlib.import_module(package.__name__ + ".admin")
        for client in (package.Producer(config), package.Consumer({**config, "group.id": "g"}), admin.AdminClient(config)):
            assert topic in seen(client, None)[2]
            one = seen(client, topic)
            for wrong in ("a\0b", 5):
                with pytest.raises((TypeError, ValueError)) as raised:
                    client.list_topics(wrong)
                one = (*one, raised.type)
            told.append(one)
    assert [one for one in told if one != told[0]] == []
    assert told[0][0][1] == 1


COMMITS: dict[str, Callable[[ModuleType, Any, str, Any], Any]] = {
    "sync": lambda p, c, t, ps: c.commit(offsets=[p.TopicPartition(t, 0, 7)], asynchronous=False),
    "twice": lambda p, c, t, ps: [
        c.commit(offsets=[p.TopicPartition(t, 0, at), p.TopicPartition(t, 1, at)], asynchronous=False) for at in (3, 9)
    ],
    "then assign": lambda p, c, t, ps: [
        c.commit(offsets=[p.TopicPartition(t, 0, 7)], asynchronous=False),
        c.assign(ps),
    ],
    "then assign what is stored": lambda p, c, t, ps: [
        c.commit(offsets=[p.TopicPartition(t, 0, 7)], asynchronous=False),
        c.assign([p.TopicPartition(t, number, p.OFFSET_STORED) for number in (0, 1)]),
    ],
    "then assign elsewhere": lambda p, c, t, ps: [
        c.commit(offsets=[p.TopicPartition(t, 0, 7)], asynchronous=False),
        c.assign([p.TopicPartition(t, 0, 20), p.TopicPartition(t, 1, 21)]),
    ],
    "pause": lambda p, c, t, ps: c.pause(ps),
    "pause, then assign": lambda p, c, t, ps: [c.pause(ps), c.assign(ps)],
    "assign, then pause one": lambda p, c, t, ps: [c.assign(ps), c.pause([p.TopicPartition(t, 1)])],
}


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("name", COMMITS)
def test_what_on_assign_does_before_it_assigns(kafka: Any, filled: Any, fresh_group: str, name: str, committed: bool) -> None:
    """Where a commit says that a partition begins, it begins; what is paused before it is assigned is not paused."""

    def program(package: ModuleType, servers: str, topic: str, group: str) -> Any:
        config = {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        if committed:
            before = package.Consumer(config)
            before.commit(offsets=[package.TopicPartition(topic, number, 5) for number in (0, 1)], asynchronous=False)
            before.close()
        consumer = package.Consumer(config)
        consumer.subscribe([topic], on_assign=lambda c, partitions: COMMITS[name](package, c, topic, partitions))
        first: dict[int, int] = {}
        wanted = {0} if name == "assign, then pause one" else {0, 1}
        deadline = time.monotonic() + WAIT_S
        while first.keys() != wanted:
            assert time.monotonic() < deadline, (package.__name__, first, consumer.assignment())
            message = consumer.poll(1)
            if message is not None:
                assert message.error() is None, message.error()
                first.setdefault(message.partition(), message.offset())
        consumer.close()
        return sorted(first.items())

    both(program, kafka.bootstrap_servers, filled(), fresh_group)


def test_what_one_has_committed_the_other_reads(kafka: Any, filled: Any, fresh_group: str) -> None:
    """With leader epochs and metadata, by name and by message; programs go back, and groups are mixed."""
    topic = filled(partitions=1)
    told: dict[str, Any] = {}
    for package in PACKAGES:
        group = f"{fresh_group}-{package.__name__}"
        config = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": group, "auto.offset.reset": "earliest"}
        consumer = package.Consumer({**config, "enable.auto.commit": False})
        consumer.subscribe([topic])
        messages = take(consumer, 3)
        commits: list[dict[str, Any]] = [
            {"offsets": [package.TopicPartition(topic, 0, 1, "some text", 0)]},
            {"offsets": [package.TopicPartition(topic, 0, 1, "", 0)]},
            {"offsets": [package.TopicPartition(topic, 0, 1, "überall")]},
            {"offsets": [package.TopicPartition(topic, 0, 1)]},
            {"message": messages[1]},
        ]
        for number, commit in enumerate(commits):
            done = consumer.commit(**commit, asynchronous=False)
            seen = [(one.offset, one.metadata, one.leader_epoch) for one in done]
            for reader in PACKAGES:
                other = reader.Consumer(config)
                (found,) = other.committed([reader.TopicPartition(topic, 0)], timeout=WAIT_S)
                seen.append((found.offset, found.metadata, found.leader_epoch))
                other.close()
            told[f"{package.__name__.partition('.')[0]} {number}"] = seen
        consumer.close()
    ours = {name.split()[1]: seen for name, seen in told.items() if name.startswith("tidegate")}
    theirs = {name.split()[1]: seen for name, seen in told.items() if name.startswith("confluent")}
    assert ours == theirs


def test_a_cluster_that_does_not_tell_its_id_is_an_exception() -> None:
    codes = []
    for package in PACKAGES:
        consumer = package.Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g"})
        with pytest.raises(package.KafkaException) as raised:
            consumer.cluster_id(timeout=0.2)
        codes.append(raised.value.args[0].name())
        with pytest.raises(package.KafkaException) as raised:
            consumer.list_topics(timeout=0.2)
        codes.append(str(raised.value.args[0]))
        consumer.close()
    assert codes[2:] == codes[:2]
