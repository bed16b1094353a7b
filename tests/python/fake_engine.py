"""A consumer and a producer without a broker: what the drop-in classes build on, scripted by the test."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tidegate import _core, _dead_letters, base_consumer, detection_producer


@dataclass
class FakeRecord:
    value: bytes | None
    offset: int = 0
    topic: str = "in"
    partition: int = 0
    key: bytes | None = b"key"
    timestamp_ms: int | None = 1_700_000_000_000
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


class FakeBatch:
    """Rows and what was noted of them."""

    def __init__(self, *values: bytes | None, first_offset: int = 0) -> None:
        self.records = [FakeRecord(value, first_offset + row) for row, value in enumerate(values)]
        self.acknowledged: list[int] = []
        self.released: list[int] = []
        self.stale: set[int] = set()
        self.acknowledge_error: BaseException | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[FakeRecord]:
        return iter(self.records)

    def __getitem__(self, row: int) -> FakeRecord:
        return self.records[row]

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    @property
    def size_bytes(self) -> int:
        return sum(len(record.value or b"") for record in self.records)

    def is_stale(self, row: int) -> bool:
        return row in self.stale

    def acknowledge_rows(self, start: int, stop: int) -> None:
        if self.acknowledge_error is not None:
            raise self.acknowledge_error
        self.acknowledged.extend(range(start, stop))

    def release_rows(self, start: int, stop: int) -> None:
        self.released.extend(range(start, stop))


class FakeConsumer:
    """Hands out `script` in order, each a batch or an exception to raise; then waits."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self.script: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.subscribed: list[str] | None = None
        self.closed = threading.Event()
        self.commits = 0

    def subscribe(self, topics: list[str], *, on_assign: Callable[..., Any] | None = None) -> None:
        self.subscribed = topics
        if on_assign is not None:
            on_assign([])

    def lease_batch(self, timeout: float | None = None, max_records: int | None = None) -> FakeBatch | None:
        if self.closed.is_set():
            raise _core.ClosedError("closed")
        try:
            item = self.script.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        batch: FakeBatch | None = item
        return batch

    def wake(self) -> None:
        self.script.put(None)

    def commit(self, timeout: float | None = None) -> None:
        self.commits += 1

    def stats(self) -> dict[str, Any]:
        return {}

    def close(self, timeout: float = 10.0) -> None:
        self.closed.set()
        self.wake()


class FakeProducer:
    """Records what is sent; each delivery ends as `outcomes` says (an exception, or None: delivered), then delivered.

    With `deliver` cleared, reports wait.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self.sent: list[dict[str, Any]] = []
        self.outcomes: list[BaseException | None] = []
        self.send_errors: list[BaseException] = []
        self.waiting: list[Callable[[], None]] = []
        self.hold = False
        self.closed = False

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Any = None,
        on_delivery: Callable[[BaseException | None, Any], None],
    ) -> None:
        if self.send_errors:
            raise self.send_errors.pop(0)
        self.sent.append({"topic": topic, "value": value, "key": key, "headers": list(headers or [])})
        outcome = self.outcomes.pop(0) if self.outcomes else None

        def report() -> None:
            on_delivery(outcome, None)

        if self.hold:
            self.waiting.append(report)
        else:
            threading.Thread(target=report).start()

    def release(self) -> None:
        """Deliver what was held back."""
        self.hold = False
        while self.waiting:
            self.waiting.pop(0)()

    def flush(self, timeout: float | None = None) -> int:
        return len(self.waiting)

    def close(self, timeout: float = 10.0) -> None:
        self.closed = True


class FakeEngine:
    """What was made through the replaced classes, newest last."""

    def __init__(self) -> None:
        self.consumers: list[FakeConsumer] = []
        self.producers: list[FakeProducer] = []

    def make_consumer(self, config: Mapping[str, Any], topics: Any = None) -> FakeConsumer:
        self.consumers.append(FakeConsumer(config))
        return self.consumers[-1]

    def make_producer(self, config: Mapping[str, Any]) -> FakeProducer:
        self.producers.append(FakeProducer(config))
        return self.producers[-1]


class _Core:
    """The real module with two classes replaced."""

    def __init__(self, engine: FakeEngine) -> None:
        self.Consumer = engine.make_consumer
        self.Producer = engine.make_producer

    def __getattr__(self, name: str) -> Any:
        return getattr(_core, name)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Replaces the native consumer and producer under the drop-in classes."""
    made = FakeEngine()
    for module in (base_consumer, detection_producer, _dead_letters):
        monkeypatch.setattr(module, "_core", _Core(made))
    return made


def until(condition: Callable[[], Any], timeout: float = 20.0) -> None:
    """Wait for something that has no event of its own.

    Raises:
        AssertionError: it has not come within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)
