"""What the failure tests on a real Kafka keep account with: numbered records sent at a pace, and a file of what was handled.

A service under test runs `kafka_service.py` in a process of its own and writes one line for each record its handler has
finished, before the handler returns. A line is one `write()` to a file opened for appending: SIGKILL neither tears it nor
takes it back.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from harness.proc import Child

SERVICE = Path(__file__).with_name("kafka_service.py")
FLUSH_S = 90.0


class Entry(NamedTuple):
    """One handled record. `at` is `time.monotonic()`, the same clock in every process of the machine."""

    partition: int
    number: int
    at: float


def write_entry(descriptor: int, message: dict[str, Any]) -> None:
    """Add a line to a ledger opened with O_APPEND."""
    os.write(descriptor, f"{message['p']} {message['n']} {time.monotonic()}\n".encode())


def read_ledger(path: Path) -> list[Entry]:
    """The entries so far, in the order they were written."""
    if not path.exists():
        return []
    # A reader can see the beginning of a line whose write is under way: what has no end is no entry yet.
    written, _, _ = path.read_text().rpartition("\n")
    lines = (line.split() for line in written.splitlines())
    return [Entry(int(partition), int(number), float(at)) for partition, number, at in lines]


def wait_for_entries(path: Path, count: int, service: Child, timeout: float = 60.0) -> None:
    """Wait until a ledger has `count` entries; a file tells nobody of its growth, so it is looked at again and again."""
    deadline = time.monotonic() + timeout
    while len(read_ledger(path)) < count:
        if time.monotonic() > deadline or not service.alive:
            raise TimeoutError(f"{len(read_ledger(path))} of {count} records handled\n{service.tail()}")
        time.sleep(0.02)


def start_service(servers: str, group: str, topic: str, ledger: Path, **options: Any) -> Child:
    """`kafka_service.py` in a process of its own; see there for the options."""
    told = {"servers": servers, "group": group, "topic": topic, "ledger": str(ledger), **options}
    return Child.python(SERVICE, json.dumps(told), name=options.get("name", "service"))


class Load:
    """Sends `{"n": number, "p": partition}` at a steady pace from a thread, number after number, partition after partition.

    `connect` makes the producer: confluent-kafka's unless told otherwise, or anything with `send(partition, value, report)` that
    calls `report(error, delivery)`. `delivered` tells where each number is. A context manager; leaving it flushes.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        partitions: int,
        per_second: float,
        connect: Callable[[str, str], Any] | None = None,
    ) -> None:
        self.delivered: dict[int, tuple[int, int]] = {}
        self.delivered_at: dict[int, float] = {}
        self.failed: list[str] = []
        self.sent = 0
        self._partitions = partitions
        self._pause_s = 1 / per_second
        self._sender = (connect or ConfluentSender)(servers, topic)
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def _run(self) -> None:
        started = time.monotonic()
        while not self._ending.wait(max(0.0, started + self.sent * self._pause_s - time.monotonic())):
            number, partition = self.sent, self.sent % self._partitions
            value = json.dumps({"n": number, "p": partition}).encode()
            try:
                self._sender.send(partition, value, lambda error, at, number=number: self._report(number, error, at))
            except Exception as error:
                self.failed.append(f"{number} not accepted: {error}")
            self.sent += 1

    def _report(self, number: int, error: str | None, at: tuple[int, int]) -> None:
        with self._changed:
            if error is None:
                self.delivered[number] = at
                self.delivered_at[number] = time.monotonic()
            else:
                self.failed.append(f"{number}: {error}")
            self._changed.notify_all()

    def wait_delivered(self, more: int, timeout: float = 60.0) -> None:
        """Wait until `more` records than now are delivered."""
        with self._changed:
            target = len(self.delivered) + more
            assert self._changed.wait_for(lambda: len(self.delivered) >= target, timeout), f"{len(self.delivered)} of {target}"

    def stop(self) -> None:
        """Send no more, and wait for every delivery report. Idempotent."""
        self._ending.set()
        self._thread.join(FLUSH_S)
        self._sender.flush(FLUSH_S)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class ConfluentSender:
    """The independent producer."""

    def __init__(self, servers: str, topic: str) -> None:
        from confluent_kafka import Producer

        self._topic = topic
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "enable.idempotence": True, "log_level": 2})

    def send(self, partition: int, value: bytes, report: Callable[[str | None, tuple[int, int]], None]) -> None:
        def on_delivery(error: Any, message: Any) -> None:
            report(None if error is None else str(error), (message.partition(), message.offset()))

        self._producer.produce(self._topic, value, partition=partition, on_delivery=on_delivery)
        self._producer.poll(0)

    def flush(self, timeout: float) -> None:
        self._producer.flush(timeout)


class TidegateSender:
    """The producer under test, where it is part of the test."""

    def __init__(self, servers: str, topic: str) -> None:
        import tidegate

        self._topic = topic
        self._producer = tidegate.Producer({"bootstrap.servers": servers, "linger.ms": 5, "enable.idempotence": True})

    def send(self, partition: int, value: bytes, report: Callable[[str | None, tuple[int, int]], None]) -> None:
        def on_delivery(error: Any, delivery: Any) -> None:
            at = (-1, -1) if delivery is None else (delivery.partition, delivery.offset)
            report(None if error is None else str(error), at)

        self._producer.send(self._topic, value, partition=partition, on_delivery=on_delivery)

    def flush(self, timeout: float) -> None:
        self._producer.close(timeout=timeout)


def repeated(entries: list[Entry]) -> int:
    """How many records were handled more than once, each repetition counted."""
    return sum(count - 1 for count in Counter(entry.number for entry in entries).values())
