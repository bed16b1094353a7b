"""What the tests of the native API share: an embedded broker, records in it, and consumers that read them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tidegate

WAIT_S = 30.0
"""Longer than anything here takes; a test that waits so long has failed."""


def name(prefix: str = "topic") -> str:
    """A name nobody else uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def topic_with(broker: tidegate.EmbeddedBroker, values: Iterable[Any], partitions: int = 1) -> str:
    """A new topic with these values; value `i` is in partition `i % partitions`, its key is `k{i}`."""
    topic = name()
    broker.create_topic(topic, partitions)
    produce(broker, topic, values, partitions)
    return topic


def produce(broker: tidegate.EmbeddedBroker, topic: str, values: Iterable[Any], partitions: int = 1) -> None:
    """Send the values and wait until they are there."""
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        for row, value in enumerate(values):
            producer.send(topic, value, key=f"k{row}", partition=row % partitions)
        assert producer.flush(WAIT_S) == 0


@contextmanager
def reading(broker: tidegate.EmbeddedBroker, topic: str, partitions: int = 1, **config: Any) -> Iterator[tidegate.Consumer]:
    """A consumer of every partition from the beginning, without a group's joining time; closed at the end.

    Underscores in the names of `config` stand for dots.
    """
    with grouped(broker, **config) as consumer:
        consumer.assign({(topic, partition): "beginning" for partition in range(partitions)})
        yield consumer


@contextmanager
def grouped(broker: tidegate.EmbeddedBroker, **config: Any) -> Iterator[tidegate.Consumer]:
    """A consumer that is neither subscribed nor assigned; closed at the end, whatever happens."""
    settings = {
        "bootstrap.servers": broker.bootstrap_servers,
        "group.id": name("group"),
        "auto.offset.reset": "earliest",
        **{key.replace("_", "."): value for key, value in config.items()},
    }
    consumer = tidegate.Consumer(settings)
    try:
        yield consumer
    finally:
        consumer.close(WAIT_S)
