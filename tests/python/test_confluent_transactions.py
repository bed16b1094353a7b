"""Transactions of `tidegate.confluent.Producer` on a real Kafka, what readers see told by the original package's consumer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import confluent_kafka
import pytest

from tidegate import confluent
from tidegate.confluent import KafkaException
from tidegate.confluent.aio import AIOProducer

pytestmark = pytest.mark.kafka
WAIT_S = 60.0


def committed_values(servers: str, topic: str, count: int) -> list[bytes]:
    """What a read_committed consumer finds, once it has `count` values and the end of the partition."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"reader-{topic}",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    until = time.monotonic() + WAIT_S
    ended = False
    while not (ended and len(values) >= count) and time.monotonic() < until:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error() is None:
            values.append(message.value())
        else:
            ended = message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
    consumer.close()
    return values


@pytest.mark.parametrize("package", [confluent, confluent_kafka], ids=["tidegate", "original"])
def test_committed_records_are_seen_aborted_ones_are_not_and_an_older_producer_is_fenced(
    kafka: Any, fresh_topic: Any, package: Any
) -> None:
    topic = fresh_topic(partitions=1)
    conf = {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"id-{topic}"}
    reports: list[tuple[str, bytes]] = []

    def report(error: Any, message: Any) -> None:
        reports.append((repr(error), message.value()))

    producer = package.Producer({**conf, "on_delivery": report})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, "committed")
    producer.commit_transaction(WAIT_S)
    assert reports == [("None", b"committed")], "told before the commit returned"
    producer.begin_transaction()
    producer.produce(topic, "aborted")
    producer.flush(WAIT_S)
    producer.abort_transaction(WAIT_S)

    newer = package.Producer(conf)
    newer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, "fenced")
    with pytest.raises(package.KafkaException) as raised:
        producer.commit_transaction(WAIT_S)
    error = raised.value.args[0]
    assert (error.name(), error.fatal(), error.retriable()) == ("_FENCED", True, False)

    newer.begin_transaction()
    newer.produce(topic, "open when it was closed")
    newer.flush(WAIT_S)
    newer.close()
    last = package.Producer(conf)
    last.init_transactions(WAIT_S)
    last.begin_transaction()
    last.produce(topic, "last")
    last.commit_transaction(WAIT_S)
    last.close()
    assert committed_values(kafka.bootstrap_servers, topic, 2) == [b"committed", b"last"]


# The original's `with` ends in a SystemError of the interpreter instead.
@pytest.mark.parametrize(
    ("package", "how"), [(confluent, "close"), (confluent, "with"), (confluent_kafka, "close")], ids=["close", "with", "original"]
)
def test_closing_a_fenced_producer_says_so(kafka: Any, fresh_topic: Any, package: Any, how: str) -> None:
    topic = fresh_topic(partitions=1)
    conf = {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"id-{topic}"}
    producer = package.Producer(conf)
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, "never seen")
    producer.flush(WAIT_S)
    newer = package.Producer(conf)
    newer.init_transactions(WAIT_S)
    with pytest.raises(package.KafkaException) as raised:
        if how == "close":
            producer.close()
        else:
            with producer:
                pass
    error = raised.value.args[0]
    assert (error.name(), error.fatal()) == ("_FENCED", True)
    newer.close()


def test_closing_a_fenced_aio_producer_says_so_and_ends_it(kafka: Any, fresh_topic: Any) -> None:
    async def program() -> None:
        topic = fresh_topic(partitions=1)
        conf = {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"id-{topic}"}
        producer = AIOProducer(conf)
        await producer.init_transactions()
        await producer.begin_transaction()
        await producer.produce(topic, "never seen")
        await producer.flush()
        newer = AIOProducer(conf)
        await newer.init_transactions()
        with pytest.raises(KafkaException) as raised:
            await producer.close()
        assert raised.value.args[0].name() == "_FENCED"
        with pytest.raises(RuntimeError, match="shutdown"):
            producer.executor.submit(len, ())
        await producer.close()
        await newer.close()

    asyncio.run(program())


def test_a_groups_offsets_are_committed_with_the_transaction_and_only_then(kafka: Any, fresh_topic: Any) -> None:
    topic = fresh_topic(partitions=1)
    group = f"group-{topic}"
    servers = kafka.bootstrap_servers
    consumer = confluent_kafka.Consumer({"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False})
    place = confluent_kafka.TopicPartition(topic, 0)
    producer = confluent.Producer({"bootstrap.servers": servers, "transactional.id": f"id-{topic}"})
    producer.init_transactions(WAIT_S)
    # The original's own form of a group's metadata is understood.
    member = consumer.consumer_group_metadata()
    for commits, expected in ((False, confluent_kafka.OFFSET_INVALID), (True, 7)):
        producer.begin_transaction()
        offsets = [confluent.TopicPartition(topic, 0, 7, metadata="mine", leader_epoch=0)]
        producer.send_offsets_to_transaction(offsets, member, WAIT_S)
        if commits:
            producer.commit_transaction(WAIT_S)
        else:
            producer.abort_transaction(WAIT_S)
        (committed,) = consumer.committed([place], WAIT_S)
        assert committed.offset == expected
    with pytest.raises(KafkaException) as raised:
        producer.send_offsets_to_transaction(offsets, b"nonsense")
    assert raised.value.args[0].name() == "_BAD_MSG"
    producer.close()
    consumer.close()
