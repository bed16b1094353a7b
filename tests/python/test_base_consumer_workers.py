"""BaseKafkaConsumer with several workers, on the embedded broker: what holds for one worker holds for many, side by side."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from dropin import SHORT_SESSION, committed, produce, read_all
from fake_engine import until

import tidegate
from tidegate.base_consumer import BaseKafkaConsumer

KEYS = 10


@pytest.fixture
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker(topics={"in": 2, "dead": 1}) as broker:
        yield broker


def fill(broker: tidegate.EmbeddedBroker, count: int, *more: bytes | None) -> None:
    values: list[bytes | None] = [json.dumps({"n": n, "camera": n % KEYS}).encode() for n in range(count)]
    keys = [str(n % KEYS).encode() for n in range(count)]
    produce(broker.bootstrap_servers, "in", [*values, *more], keys=[*keys, *(b"more" for _ in more)])


class Service:
    """A consumer of `in` in a daemon thread, as services have it."""

    def __init__(self, broker: tidegate.EmbeddedBroker, handler: Any, **arguments: Any) -> None:
        arguments = {"auto_offset_reset": "earliest", "config": SHORT_SESSION, **arguments}
        self.consumer = BaseKafkaConsumer(broker.bootstrap_servers, "g", ["in"], handler, **arguments)
        self.raised: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.consumer.start()
        except BaseException as error:
            self.raised = error

    def __enter__(self) -> BaseKafkaConsumer:
        self.thread.start()
        return self.consumer

    def __exit__(self, *_: object) -> None:
        self.consumer.close()
        self.thread.join(15)
        assert not self.thread.is_alive()


class Watch:
    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.now = self.most = 0
        self.seen: dict[int, list[int]] = defaultdict(list)
        self.threads: set[int] = set()

    def begin(self) -> None:
        with self.guard:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.get_ident())

    def end(self, message: dict[str, Any]) -> None:
        with self.guard:
            self.now -= 1
            self.seen[message["camera"]].append(message["n"])


def handlers(watch: Watch, kind: str) -> Any:
    pause = threading.Event()

    def function(message: dict[str, Any]) -> None:
        watch.begin()
        pause.wait(0.005)
        watch.end(message)

    async def coroutine(message: dict[str, Any]) -> None:
        watch.begin()
        await asyncio.sleep(0.005)
        watch.end(message)

    return function if kind == "function" else coroutine


@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("spelling", [{"workers": 8, "ordering": "key"}, {"max_in_flight": 8, "order": "key"}])
def test_workers_handle_side_by_side_and_each_key_in_order(
    broker: tidegate.EmbeddedBroker, kind: str, spelling: dict[str, Any]
) -> None:
    fill(broker, 200)
    watch = Watch()
    with Service(broker, handlers(watch, kind), **spelling) as consumer:
        assert (consumer.workers, consumer.ordering) == (8, "key")
        until(lambda: consumer.stats()["handled"] == 200, 60)
        assert consumer.running
    assert 2 < watch.most <= 8
    assert len(watch.threads) == 1 or kind == "function"
    assert all(numbers == list(range(camera, 200, KEYS)) for camera, numbers in watch.seen.items())
    stats = consumer.stats()
    assert (stats["received"], stats["handled"], stats["failed"], stats["poison"]) == (200, 200, 0, 0)
    assert sum(committed(broker.bootstrap_servers, "g", "in", 2).values()) == 200


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_failures_and_poison_reach_the_dead_letter_topic(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 20, b"not json", None, b"")
    attempts: dict[int, int] = defaultdict(int)
    told: list[tuple[str, int]] = []

    def function(message: dict[str, Any]) -> None:
        attempts[message["n"]] += 1
        if message["n"] == 3 or (message["n"] == 5 and attempts[5] < 3):
            raise ConnectionError("away {} %s")
        if message["n"] == 7:
            raise LookupError("no such camera")

    async def coroutine(message: dict[str, Any]) -> None:
        function(message)

    options = {"retries": 2, "retry_backoff_ms": 1, "give_up_on": (LookupError,), "dead_letter_topic": "dead"}
    on_error = lambda error, record: told.append((type(error).__name__, record.offset))  # noqa: E731
    handler = function if kind == "function" else coroutine
    with Service(broker, handler, workers=4, on_error=on_error, **options) as consumer:
        until(lambda: consumer.stats()["handled"] == 18 and consumer.stats()["dead_lettered"] == 5, 60)
    assert (attempts[3], attempts[5], attempts[7]) == (3, 3, 1)
    stats = consumer.stats()
    assert (stats["failed"], stats["poison"], stats["tombstones"], stats["retried"]) == (2, 3, 1, 4)
    assert stats["dead_letters_waiting"] == 0
    assert len(told) == 5
    assert {"ConnectionError", "LookupError"} <= {name for name, _ in told}
    letters = {letter.value: dict(letter.headers) for letter in read_all(broker.bootstrap_servers, "dead", 5)}
    assert {b"not json", None, b""} < letters.keys()
    (failed,) = [headers for value, headers in letters.items() if value and b'"n": 3,' in value]
    assert failed["tidegate.dlq.attempts"] == b"3"
    assert failed["tidegate.dlq.exception"] == b"ConnectionError"
    assert b"JSON" in letters[b"not json"]["tidegate.dlq.exception"]
    assert sum(committed(broker.bootstrap_servers, "g", "in", 2).values()) == 23


def test_without_a_dead_letter_topic_a_failure_is_counted_and_skipped(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 20, b"not json")

    def handler(message: dict[str, Any]) -> None:
        if message["n"] == 3:
            raise ValueError("no such camera")

    with Service(broker, handler, workers=4) as consumer:
        until(lambda: consumer.stats()["handled"] == 19 and consumer.stats()["poison"] == 1, 60)
        assert consumer.stats()["failed"] == 1
    assert sum(committed(broker.bootstrap_servers, "g", "in", 2).values()) == 21


@pytest.mark.parametrize("workers", [1, 4])
def test_on_failure_stop_ends_start_and_leaves_the_record(broker: tidegate.EmbeddedBroker, workers: int) -> None:
    fill(broker, 1)

    def handler(_message: dict[str, Any]) -> None:
        raise ValueError("no such camera")

    service = Service(broker, handler, workers=workers, on_failure="stop")
    with service:
        service.thread.join(60)
    assert isinstance(service.raised, tidegate.ListenerError)
    assert "no such camera" in str(service.raised)
    assert sum(committed(broker.bootstrap_servers, "g", "in", 2).values()) == 0


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_base_exception_ends_start_and_leaves_the_record(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 1)

    def function(_message: dict[str, Any]) -> None:
        raise SystemExit("the service gives up")

    async def coroutine(message: dict[str, Any]) -> None:
        function(message)

    service = Service(broker, function if kind == "function" else coroutine, workers=3)
    with service:
        service.thread.join(60)
    assert isinstance(service.raised, SystemExit)
    assert sum(committed(broker.bootstrap_servers, "g", "in", 2).values()) == 0


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_stop_and_close_from_a_handler_end_it(broker: tidegate.EmbeddedBroker, kind: str) -> None:
    fill(broker, 30)
    made: list[BaseKafkaConsumer] = []
    ready = threading.Event()

    def function(_message: dict[str, Any]) -> None:
        assert ready.wait(30)
        made[0].stop()
        made[0].close()  # from within: no deadlock

    async def coroutine(message: dict[str, Any]) -> None:
        function(message)

    service = Service(broker, function if kind == "function" else coroutine, workers=2)
    made.append(service.consumer)
    with service:
        ready.set()
        service.thread.join(60)
        assert not service.thread.is_alive()
    assert service.raised is None
    handled = service.consumer.stats()["handled"]
    assert handled >= 1
    assert sum(committed(broker.bootstrap_servers, "g", "in", 2).values()) <= handled


def test_close_is_bounded_when_handlers_hang(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, 30)
    release, inside = threading.Event(), threading.Semaphore(0)

    def stuck(_message: dict[str, Any]) -> None:
        inside.release()
        release.wait(120)

    service = Service(broker, stuck, workers=2)
    try:
        service.thread.start()
        assert inside.acquire(timeout=60)
        closed = threading.Thread(target=service.consumer.close, kwargs={"timeout": 0.5}, daemon=True)
        closed.start()
        closed.join(30)
        assert not closed.is_alive()
        assert sum(committed(broker.bootstrap_servers, "g", "in", 2).values()) == 0
    finally:
        release.set()
        service.thread.join(30)
    assert not service.thread.is_alive()


def test_a_broker_that_is_away_at_start_is_waited_for() -> None:
    with tidegate.EmbeddedBroker(topics={"in": 1, "dead": 1}) as broker:
        produce(broker.bootstrap_servers, "in", [b'{"n":0,"camera":0}'])
        broker.broker_down(1)
        service = Service(broker, lambda _message: None, workers=2)
        with service as consumer:
            assert not consumer.wait_until_assigned(1.0)
            assert consumer.running
            broker.broker_up(1)
            until(lambda: consumer.stats()["handled"] == 1, 60)
        assert service.raised is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"workers": 2, "max_in_flight": 3}, "max_in_flight: workers says the same"),
        ({"retries": 2, "max_attempts": 3}, "max_attempts: retries says the same"),
        ({"ordering": "none", "order": "key"}, "order: ordering says the same"),
        ({"retry_backoff_ms": 5, "backoff": 1.0}, "backoff: retry_backoff_ms says the same"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"park_retries": True}, "park_retries"),
        ({"dead_letter_topic": "dead", "on_failure": "skip"}, "on_failure"),
        ({"worker": 2}, "worker: BaseKafkaConsumer has no such argument"),
        ({"backoff": 60.0, "max_backoff": 1.0}, "backoff"),
    ],
)
def test_wrong_and_contradicting_arguments_are_told(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(tidegate.ArgumentError, match=told):
        BaseKafkaConsumer("127.0.0.1:1", "g", ["in"], print, **arguments)
