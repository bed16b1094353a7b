"""`process_service.py` as the tests run it: asked to leave by the end of its input, its account read from a file and its lines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tidegate
from harness.kafka import KafkaCluster
from harness.proc import Child
from tidegate import _core

SERVICE = Path(__file__).with_name("process_service.py")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


Known = dict[int, tuple[int, list[tuple[int, int]]]]


def known_to_group(kafka: KafkaCluster, group: str, topic: str) -> Known:
    """What a group has as done, by partition: its offset, and the ranges beyond it in the map.

    By our own client: confluent-kafka reads metadata beyond its end.
    """
    committed = kafka.committed(group, topic)
    with tidegate.Consumer({"bootstrap.servers": kafka.reader_servers, "group.id": group, "enable.auto.commit": False}) as consumer:
        told = _core._committed_metadata(consumer, [(topic, partition) for partition in committed], 20)
    known: Known = {}
    for (_, partition), metadata in told.items():
        base, _, done = _core._offset_map(metadata) if metadata else (-1, None, [])
        # Metadata that came a moment later belongs to another offset.
        known[partition] = (committed[partition], done if base == committed[partition] else [])
    return known


class Handled(NamedTuple):
    """A line of a service's file."""

    partition: int
    offset: int
    value: str
    failed: bool


def child_with_input(command: list[str | Path], name: str) -> tuple[Child, int]:
    """A child, and the descriptor that asks it to leave when it is closed."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stdin:
        return Child(command, name=name, stdin=stdin), write


class ProcessService:
    """A service on `Consumer.process`; a context manager that ends it."""

    def __init__(self, servers: str, group: str, topic: str, ledger: Path, **options: Any) -> None:
        told = {"servers": servers, "group": group, "topic": topic, "ledger": str(ledger), **options}
        self._ledger = ledger
        self.child, self._input = child_with_input([sys.executable, "-u", SERVICE, json.dumps(told)], "service")

    def handled(self) -> list[Handled]:
        """What was handled so far, in the order it was done."""
        if not self._ledger.exists():
            return []
        # A reader can see the beginning of a line whose write is under way: what has no end is no entry yet.
        written, _, _ = self._ledger.read_text().rpartition("\n")
        lines = (line.split() for line in written.splitlines())
        return [Handled(int(line[0]), int(line[1]), line[2], len(line) > 3) for line in lines]

    def wait_handled(self, enough: Callable[[list[Handled]], bool], timeout: float = 60.0) -> None:
        """Until what was handled is enough; a file tells nobody of its growth, so it is looked at again and again."""
        deadline = time.monotonic() + timeout
        while not enough(self.handled()):
            assert time.monotonic() < deadline and self.child.alive, f"{len(self.handled())} handled\n{self.child.tail()}"
            time.sleep(0.05)

    def ledgers(self) -> list[dict[str, int]]:
        """What it reported of its engine's ledger."""
        return [json.loads(line.removeprefix("ledger ")) for line in self.child.lines if line.startswith("ledger ")]

    def cpu_s(self) -> float:
        """Processor time of the process until now."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def leave(self) -> dict[str, int]:
        """Ends it in order; its last ledger."""
        os.close(self._input)
        self._input = -1
        assert self.child.wait(60) == 0, self.child.tail()
        lines = self.child.wait_for_output_end()
        (left,) = [line for line in lines if line.startswith("left ")]
        ledger: dict[str, int] = json.loads(left.removeprefix("left "))
        return ledger

    def __enter__(self) -> ProcessService:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.end()
        if self._input >= 0:
            os.close(self._input)
