"""What the tests of the drop-in classes on a broker share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tidegate
from tidegate.base_consumer import BaseKafkaConsumer

SHORT_SESSION: Mapping[str, str | int] = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
"""For the embedded broker, where a group takes in a new member only after the session timeout of those that were there."""


def produce(servers: str, topic: str, values: Iterable[bytes | None], *, keys: Iterable[bytes] | None = None) -> None:
    """Send `values` and wait until all are delivered.

    Raises:
        AssertionError: one is not.
    """
    producer = tidegate.Producer({"bootstrap.servers": servers, "message.max.bytes": 10_000_000})
    errors: list[Any] = []
    some_keys = iter(keys) if keys is not None else None
    for value in values:
        key = next(some_keys) if some_keys is not None else None
        producer.send(topic, value, key=key, on_delivery=lambda error, _metadata: errors.append(error) if error else None)
    assert producer.flush(timeout=60) == 0
    producer.close()
    assert not errors


def read_all(servers: str, topic: str, count: int, timeout: float = 30.0) -> list[Any]:
    """The first `count` records of `topic`, in a group of their own.

    Raises:
        AssertionError: they do not come within `timeout` seconds each.
    """
    config = {"bootstrap.servers": servers, "group.id": f"read-{os.urandom(4).hex()}", "auto.offset.reset": "earliest"}
    consumer = tidegate.Consumer(config)
    consumer.subscribe([topic])
    records = []
    while len(records) < count:
        record = consumer.poll(timeout=timeout)
        assert record is not None, f"{len(records)} of {count} records in {topic}"
        records.append(record)
    consumer.close()
    return records


def committed(servers: str, group: str, topic: str, partitions: int = 1) -> dict[int, int]:
    """Where the group stands: committed offsets by partition, without those that have none."""
    consumer = tidegate.Consumer({"bootstrap.servers": servers, "group.id": group})
    try:
        found = consumer.committed([(topic, partition) for partition in range(partitions)], timeout=30)
        return {place.partition: offset for place, offset in found.items() if offset is not None}
    finally:
        consumer.close()


class Service:
    """A consumer in a daemon thread, as the algo modules run it, that remembers what its handler saw."""

    def __init__(self, servers: str, group: str, topics: list[str], handler: Callable[[Any], Any] | None = None, **arguments: Any):
        self.seen: list[Any] = []
        self._handler = handler
        self._changed = threading.Condition()
        arguments.setdefault("auto_offset_reset", "earliest")
        arguments.setdefault("config", SHORT_SESSION)
        self.consumer = BaseKafkaConsumer(servers, group, topics, self._handle, **arguments)
        self.raised: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _handle(self, message: Any) -> None:
        if self._handler is not None:
            self._handler(message)
        with self._changed:
            self.seen.append(message)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self.consumer.start()
        except BaseException as error:
            self.raised = error

    def wait_seen(self, count: int, timeout: float = 60.0) -> None:
        """Wait until the handler has handled `count` records."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= count, timeout), f"{len(self.seen)} of {count}"

    def __enter__(self) -> Service:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.consumer.close()
        self.thread.join(15)
        assert not self.thread.is_alive()


def numbers(first: int, last: int) -> list[bytes]:
    """JSON objects that count from `first` up to and without `last`."""
    return [json.dumps({"n": n}).encode() for n in range(first, last)]


def start_script(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs `script`; its output is unbuffered and piped."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
