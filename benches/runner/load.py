"""Fills the topics of a run, once, before the first contender starts.

The producer is confluent-kafka-python's: what the brokers store must not depend on the library under test.
Records go round the partitions in runs, uncompressed, so that every contender pays for fetching and not for a codec.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from confluent_kafka import Producer

PARTITIONS = 12
VALUE_BYTES = 100
JSON_BYTES = 500
# So many records go to a partition before the next one's turn: long enough for full batches on the broker.
RUN_LENGTH = 500
DISTINCT_VALUES = 1000
KEYS = 100


@dataclass(frozen=True)
class Topic:
    """A topic of a run and what is in it."""

    name: str
    records: int
    values: list[bytes]

    @property
    def size_bytes(self) -> int:
        """All values together."""
        return self.records * len(self.values[0])

    @property
    def offset_sum(self) -> int:
        """The sum of all offsets: a reader that lost or doubled a record has another one."""
        counts = [0] * PARTITIONS
        whole, rest = divmod(self.records, RUN_LENGTH)
        for partition in range(PARTITIONS):
            counts[partition] = RUN_LENGTH * (whole // PARTITIONS + (partition < whole % PARTITIONS))
        counts[whole % PARTITIONS] += rest
        return sum(count * (count - 1) // 2 for count in counts)


def plain(name: str, records: int) -> Topic:
    """Records of exactly `VALUE_BYTES`."""
    source = random.Random(1)
    return Topic(name, records, [source.randbytes(VALUE_BYTES) for _ in range(DISTINCT_VALUES)])


def detections(name: str, records: int) -> Topic:
    """Detection results as JSON of exactly `JSON_BYTES`: nested objects, floats, integers, text and a bit of non-ASCII."""
    source = random.Random(2)
    return Topic(name, records, [_detection(source) for _ in range(DISTINCT_VALUES)])


def _detection(source: random.Random) -> bytes:
    boxes = [
        {
            "label": source.choice(["car", "truck", "bus", "bicycle", "person"]),
            "confidence": round(source.random(), 4),
            "box": [source.randrange(1920), source.randrange(1080), source.randrange(400), source.randrange(400)],
        }
        for _ in range(4)
    ]
    document = {
        "messageId": f"{source.getrandbits(128):032x}",
        "cameraId": source.randrange(64),
        "timestamp": 1_700_000_000.0 + source.randrange(10_000_000) / 1000,
        "algorithm": "vehicle_counting",
        "location": "Königstraße",
        "detections": boxes,
        "note": "",
    }
    encoded = json.dumps(document, ensure_ascii=False).encode()
    document["note"] = "x" * (JSON_BYTES - len(encoded))
    encoded = json.dumps(document, ensure_ascii=False).encode()
    assert len(encoded) == JSON_BYTES, len(encoded)
    return encoded


def fill(bootstrap: str, topic: Topic) -> None:
    """Write the records of a topic that is there and empty; returns when the broker has acknowledged all of them."""
    failed = 0

    def on_delivery(error: object, _message: object) -> None:
        nonlocal failed
        failed += error is not None

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            # Errors only: a broker that has just started is not ready at the first try.
            "log_level": 3,
            # Order within a partition holds, retries included.
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
            "on_delivery": on_delivery,
        }
    )
    keys = [str(key).encode() for key in range(KEYS)]
    for number in range(topic.records):
        partition = number // RUN_LENGTH % PARTITIONS
        value = topic.values[number % DISTINCT_VALUES]
        while True:
            try:
                producer.produce(topic.name, value, keys[number % KEYS], partition)
                break
            except BufferError:
                producer.poll(0.05)
    left = producer.flush(300)
    if left or failed:
        raise RuntimeError(f"loading {topic.name}: {left} records not sent, {failed} failed")
