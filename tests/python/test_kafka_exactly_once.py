"""`process(..., produce_to=, transactional_id=)` on a real Kafka: members are killed and rebalanced while they consume, process and
produce. A reader with `isolation.level=read_committed` must find the output of each input once, in order per key.

The same run without transactions must find doubled outputs: else these tests could not fail."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import textwrap
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

import tidegate
from harness.kafka import KafkaCluster
from harness.proc import Child
from tidegate import confluent

pytestmark = pytest.mark.kafka

PARTITIONS = 6
KEYS = 120
DEADLINE_S = 150.0

MEMBER = """
    import asyncio, os, random, sys, tidegate

    bootstrap, source, target, name, calls, protocol, mode, map_bytes = sys.argv[1:]
    log = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    config = {"bootstrap.servers": bootstrap, "group.id": source + "-group", "auto.offset.reset": "earliest",
              "group.protocol": protocol}
    if protocol == "classic":
        config |= {"session.timeout.ms": 6000, "partition.assignment.strategy": "cooperative-sticky"}

    consumer = tidegate.Consumer(config, [source])
    producer = tidegate.Producer({"bootstrap.servers": bootstrap}) if mode == "plain" else None

    async def handle(record):
        # Now and then a slow one, so that much is done beyond it.
        await asyncio.sleep(1.0 if random.random() < 0.002 else random.uniform(0.005, 0.03))
        os.write(log, b"%s\\n" % record.value)
        if producer is not None:
            producer.send(target, record.value, key=record.key)
            return None
        return tidegate.Output(record.value, headers={"by": name})

    options = {} if mode == "plain" else {"produce_to": target, "transactional_id": name}
    processing = consumer.process(handle, max_in_flight=60, offset_map_bytes=int(map_bytes), **options)
    print("ready", flush=True)
    tidegate.wait_for_shutdown(processing, consumer)
    print("ledger", processing.ledger(), flush=True)
"""


def _load(kafka: KafkaCluster, topic: str, count: int) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True, "linger.ms": 20})
    for number in range(count):
        producer.produce(topic, str(number).encode(), f"key-{number % KEYS}".encode())
        producer.poll(0)
    assert producer.flush(60) == 0


class Reader:
    """Reads a topic as far as transactions are committed; counts what it finds."""

    def __init__(self, servers: str, topic: str, partitions: int = PARTITIONS) -> None:
        self.values: Counter[bytes] = Counter()
        self.by_key: dict[bytes, list[int]] = defaultdict(list)
        self.messages: list[Any] = []
        self._ended: set[int] = set()
        self._places = [confluent_kafka.TopicPartition(topic, number, 0) for number in range(partitions)]
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"reader-{topic}-{uuid.uuid4().hex[:6]}",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
            }
        )
        self._consumer.assign(self._places)

    def read(self, timeout: float = 0.2) -> None:
        for message in self._consumer.consume(1000, timeout):
            if message.error() is None:
                self._ended.discard(message.partition())
                self.values[message.value()] += 1
                self.by_key[message.key()].append(int(message.value()))
                self.messages.append(message)
            elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                self._ended.add(message.partition())

    def read_to_the_end(self, wait_s: float = 30.0) -> None:
        """Read on until every partition has said that there is no more, from now on."""
        for place in self._places:
            seen = [message.offset() + 1 for message in self.messages if message.partition() == place.partition]
            place.offset = max(seen, default=0)
        self._consumer.assign(self._places)
        self._ended.clear()
        until = time.monotonic() + wait_s
        while len(self._ended) < len(self._places):
            assert time.monotonic() < until, f"only the ends of partitions {self._ended} are reached"
            self.read()

    def close(self) -> None:
        self._consumer.close()


def _run(
    kafka: KafkaCluster,
    tmp_path: Path,
    protocol: str,
    mode: str,
    records: int,
    kills: int,
    map_bytes: int = 4096,
    outage_s: float = 0.0,
) -> Counter[str]:
    """Members with random kills, and one that comes and goes by itself; what a reader found."""
    source = f"eos-{uuid.uuid4().hex[:8]}"
    target = f"{source}-out"
    kafka.create_topic(source, PARTITIONS)
    kafka.create_topic(target, PARTITIONS)
    _load(kafka, source, records)
    calls = tmp_path / "calls"
    calls.touch()

    def member(name: str) -> Child:
        arguments = [kafka.bootstrap_servers, source, target, f"{source}-{name}", str(calls), protocol, mode, str(map_bytes)]
        return Child([sys.executable, "-c", textwrap.dedent(MEMBER), *arguments], name=name)

    chance = random.Random(7)
    members = {"a": member("a"), "b": member("b")}
    guest: Child | None = None
    done = 0
    reader = Reader(kafka.bootstrap_servers, target)
    try:
        began = time.monotonic()
        next_kill = began + 2.0
        while len(reader.values) < records:
            if outage_s and len(reader.values) > records / 4:
                kafka.freeze_broker(1)
                time.sleep(outage_s)
                kafka.thaw_broker(1)
                outage_s = 0.0
            assert time.monotonic() - began < DEADLINE_S, f"{records - len(reader.values)} outputs are missing after {done} kills"
            reader.read()
            if time.monotonic() >= next_kill and done < kills and reader.values:
                name = chance.choice(sorted(members))
                members[name].kill()
                members[name].end()
                members[name] = member(name)
                done += 1
                if guest is None:
                    guest = member("guest")
                else:
                    guest.terminate()
                    guest.end()
                    guest = None
                next_kill = time.monotonic() + chance.uniform(0.7, 2.5)
    finally:
        for child in [*members.values(), *([guest] if guest else [])]:
            child.terminate()
        for child in [*members.values(), *([guest] if guest else [])]:
            child.end()
    reader.read_to_the_end()
    reader.close()
    twice = sum(count - 1 for count in reader.values.values())
    lost = records - len(reader.values)
    firsts = {key: list(dict.fromkeys(numbers)) for key, numbers in reader.by_key.items()}
    disordered = sum(numbers != sorted(numbers) for numbers in firsts.values())
    handled = len(calls.read_bytes().split())
    print(
        f"\n{protocol}, {mode}, map of {map_bytes} bytes: {records} records, {done} kills, {handled} calls of handlers; "
        f"outputs: lost {lost}, doubled {twice}, keys out of order {disordered}"
    )
    assert done == kills
    return Counter({"lost": lost, "doubled": twice, "disordered": disordered})


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_killed_and_rebalanced_members_output_each_input_once(kafka: KafkaCluster, tmp_path: Path, protocol: str) -> None:
    assert _run(kafka, tmp_path, protocol, "transactions", records=9_000, kills=4).total() == 0


@pytest.mark.chaos
@pytest.mark.parametrize("map_bytes", [0, 48, 4096])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_for_long_killed_and_rebalanced_members_output_each_input_once(
    kafka: KafkaCluster, tmp_path: Path, protocol: str, map_bytes: int
) -> None:
    assert _run(kafka, tmp_path, protocol, "transactions", records=60_000, kills=20, map_bytes=map_bytes).total() == 0


@pytest.mark.chaos
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_through_an_outage_of_the_broker_members_output_each_input_once(tmp_path: Path, protocol: str) -> None:
    with KafkaCluster() as kafka:
        assert _run(kafka, tmp_path, protocol, "transactions", records=30_000, kills=4, outage_s=20.0).total() == 0


def test_without_transactions_the_same_run_doubles_outputs(kafka: KafkaCluster, tmp_path: Path) -> None:
    found = _run(kafka, tmp_path, "classic", "plain", records=9_000, kills=3)
    assert found["lost"] == 0
    assert found["doubled"] > 0


def _until(condition: Callable[[], bool], what: str, timeout: float = 40.0) -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def _until_done(processing: tidegate.Processing, count: int) -> None:
    _until(lambda: processing.ledger()["done"] == count, f"{count} done")


def _read(kafka: KafkaCluster, topic: str, count: int) -> list[Any]:
    """The messages of a topic of one partition, once there are `count`, and whatever comes beyond."""
    reader = Reader(kafka.bootstrap_servers, topic, partitions=1)

    def is_there() -> bool:
        reader.read()
        return len(reader.messages) >= count

    _until(is_there, f"{count} messages in {topic}")
    reader.read_to_the_end()
    reader.close()
    return reader.messages


def _config(kafka: KafkaCluster, group: str) -> dict[str, Any]:
    return {"bootstrap.servers": kafka.bootstrap_servers, "group.id": group, "auto.offset.reset": "earliest"}


def test_values_outputs_lists_and_dead_letters_in_one_transaction(kafka: KafkaCluster, fresh_topic: Callable[..., str]) -> None:
    source, target, other, dead = (fresh_topic(partitions=1) for _ in range(4))
    _load(kafka, source, 7)

    def handle(record: tidegate.Record) -> object:
        number = int(record.value or b"")
        answers: list[object] = [
            None,
            b"1",
            "2",
            tidegate.Output("3", key="mine", headers={"a": "b"}),
            ["4", tidegate.Output(b"40", topic=other, without_key=True)],
        ]
        if number < len(answers):
            return answers[number]
        if number == 5:
            raise ValueError("no")
        return {"a": "dict"}

    with tidegate.Consumer(_config(kafka, f"{source}-g"), [source]) as consumer:
        options: dict[str, Any] = {"produce_to": target, "transactional_id": f"{source}-id", "dead_letter_topic": dead}
        with consumer.process(handle, order="partition", **options) as processing:
            _until(lambda: processing.ledger()["done"] + processing.ledger()["dead_lettered"] == 7, str(processing.ledger()))
            ledger = processing.ledger()
        (committed,) = consumer.committed([tidegate.TopicPartition(source, 0)]).values()
    assert (ledger["done"], ledger["dead_lettered"], ledger["missing"]) == (5, 2, 0)
    assert committed == 7
    letters = _read(kafka, dead, 2)
    found = {topic: _read(kafka, topic, count) for topic, count in {target: 4, other: 1}.items()} | {dead: letters}
    kinds = [dict(message.headers())["tidegate.dlq.exception"] for message in letters]
    pairs = {topic: [(message.key(), message.value()) for message in messages] for topic, messages in found.items()}
    assert pairs[target] == [(b"key-1", b"1"), (b"key-2", b"2"), (b"mine", b"3"), (b"key-4", b"4")]
    assert pairs[other] == [(None, b"40")]
    assert pairs[dead] == [(b"key-5", b"5"), (b"key-6", b"6")]
    assert kinds == [b"ValueError", b"ArgumentTypeError"]


def test_a_fenced_producer_ends_the_processing_with_a_clear_error(kafka: KafkaCluster, fresh_topic: Callable[..., str]) -> None:
    source, target = fresh_topic(partitions=1), fresh_topic(partitions=1)
    _load(kafka, source, 1)
    calls: list[bytes | None] = []

    def handle(record: tidegate.Record) -> bytes | None:
        calls.append(record.value)
        return record.value

    with tidegate.Consumer(_config(kafka, f"{source}-g"), [source]) as consumer:
        processing = consumer.process(handle, produce_to=target, transactional_id=f"{source}-id")
        _until(lambda: processing.ledger()["done"] == 1, "the first transaction")
        newer = confluent.Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"{source}-id"})
        newer.init_transactions(30)
        _load(kafka, source, 1)
        with pytest.raises(tidegate.KafkaError, match="another producer has this transactional_id"):
            processing.wait(40)
        began = time.monotonic()
        ledger = processing.stop(drain=20)
        assert time.monotonic() - began < 10, "there is nothing to wait for"
        assert (ledger["done"], ledger["returned"], ledger["missing"]) == (1, 1, 0)
        newer.close()
        (committed,) = consumer.committed([tidegate.TopicPartition(source, 0)]).values()
    assert committed == 1, "the second record comes again"


def test_an_output_that_no_broker_takes_ends_the_processing(kafka: KafkaCluster, fresh_topic: Callable[..., str]) -> None:
    source, target = fresh_topic(partitions=1), fresh_topic(partitions=1)
    _load(kafka, source, 1)
    with tidegate.Consumer(_config(kafka, f"{source}-g"), [source]) as consumer:
        processing = consumer.process(lambda record: b"x" * 2_000_000, produce_to=target, transactional_id=f"{source}-id")
        with pytest.raises(tidegate.KafkaError) as raised:
            processing.wait(40)
        assert raised.value.kafka_code is not None and "MSG_SIZE_TOO_LARGE" in str(raised.value)
        assert processing.stop()["returned"] == 1


def test_coroutines_and_one_stuck_record(kafka: KafkaCluster, fresh_topic: Callable[..., str]) -> None:
    """What is done beyond a stuck record is committed with its outputs, and a restart makes the stuck one's only."""
    source, target = fresh_topic(partitions=1), fresh_topic(partitions=1)
    _load(kafka, source, 1_000)
    calls: Counter[bytes] = Counter()
    stuck = True

    async def handle(record: tidegate.Record) -> bytes:
        value = record.value or b""
        calls[value] += 1
        if stuck and value == b"0":
            await asyncio.sleep(3600)
        return value

    options: dict[str, Any] = {"produce_to": target, "transactional_id": f"{source}-id", "max_in_flight": 50, "order": "none"}
    for expected in (999, 1):
        with tidegate.Consumer(_config(kafka, f"{source}-g"), [source]) as consumer:
            processing = consumer.process(handle, **options)
            _until_done(processing, expected)
            assert processing.stop(drain=0)["missing"] == 0
            stuck = False
    assert calls == Counter({str(number).encode(): 1 for number in range(1_000)}) + Counter([b"0"])
    values = [message.value() for message in _read(kafka, target, 1_000)]
    assert len(values) == len(set(values)) == 1_000


def test_the_map_of_what_is_done_is_part_of_the_transaction(kafka: KafkaCluster, fresh_topic: Callable[..., str]) -> None:
    source, target = fresh_topic(partitions=1), fresh_topic(partitions=1)
    _load(kafka, source, 10)
    with tidegate.Consumer(_config(kafka, f"{source}-g"), [source]) as consumer:

        def handle(record: tidegate.Record) -> str:
            if record.value == b"0":
                raise tidegate.Retry("busy", after=3600)
            return json.dumps({"n": int(record.value or b"")})

        processing = consumer.process(handle, produce_to=target, transactional_id=f"{source}-id", max_attempts=None)
        _until(lambda: processing.ledger()["done"] == 9, "all but the first")
        processing.stop(drain=0)
        found = tidegate._core._committed_metadata(consumer, [tidegate.TopicPartition(source, 0)], 10)
    base, _epoch, done = tidegate._core._offset_map(found[source, 0] or "")
    assert (base, done) == (0, [(1, 10)])
