"""BaseKafkaConsumer's own rules, on a scripted engine: what is finished, retried, given up, and how it ends."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import FakeBatch, FakeConsumer, FakeEngine, engine, until

import tidegate
from tidegate import _exit, _logging, base_consumer
from tidegate.base_consumer import BaseKafkaConsumer

__all__ = ["engine"]  # the fixture, for pytest

NASTY = 'KafkaError{code=_TRANSPORT,str="50% of {0} %s {}"}'


@pytest.fixture(autouse=True)
def plain_logging(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "loguru", None)
    monkeypatch.setattr(base_consumer, "_log", _logging.Logger("tidegate.base_consumer"))
    caplog.set_level(logging.DEBUG, logger="tidegate")


class Running:
    """A consumer whose start() runs in a daemon thread, as services have it."""

    def __init__(self, engine: FakeEngine, handler: Callable[[Any], Any], **arguments: Any) -> None:
        self.consumer = BaseKafkaConsumer("127.0.0.1:1", "group", ["in"], handler, **arguments)
        self.native: FakeConsumer = engine.consumers[-1]
        self.raised: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.consumer.start()
        except BaseException as error:
            self.raised = error

    def give(self, *values: bytes | None, first_offset: int = 0) -> FakeBatch:
        batch = FakeBatch(*values, first_offset=first_offset)
        self.native.script.put(batch)
        return batch

    def end(self) -> None:
        self.consumer.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


def texts(caplog: pytest.LogCaptureFixture, least: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= least]


# -- the original's face -------------------------------------------------------------------------------------------------


def test_it_is_called_as_the_original_was(engine: FakeEngine) -> None:
    def handler(message: dict[str, Any]) -> None: ...

    consumer = BaseKafkaConsumer("b:9092", "g", ["one", "two"], handler, True, "latest")
    assert consumer.topics == ["one", "two"]
    assert consumer.message_handler is handler
    assert consumer.running is False
    assert engine.consumers[0].config == {
        "bootstrap.servers": "b:9092",
        "group.id": "g",
        "enable.auto.commit": True,
        "auto.offset.reset": "latest",
        "auto.commit.interval.ms": 5000,
        "queued.max.messages.kbytes": 65536,
        "session.timeout.ms": 30000,
        "heartbeat.interval.ms": 3000,
    }
    consumer.close()
    consumer.close()
    BaseKafkaConsumer(
        bootstrap_servers="b", group_id="g", topics=["t"], message_handler=handler, auto_commit=False, auto_offset_reset="earliest"
    ).close()
    assert engine.consumers[1].config["enable.auto.commit"] is False
    assert engine.consumers[1].config["auto.offset.reset"] == "earliest"


def test_config_goes_over_the_original_settings(engine: FakeEngine) -> None:
    BaseKafkaConsumer("b", "g", ["t"], print, config={"session.timeout.ms": 6000, "fetch.min.bytes": 10}).close()
    assert engine.consumers[-1].config["session.timeout.ms"] == 6000
    assert engine.consumers[-1].config["fetch.min.bytes"] == 10
    BaseKafkaConsumer("b", "g", ["t"], print, config={"group.protocol": "consumer"}).close()
    assert not {"session.timeout.ms", "heartbeat.interval.ms"} & set(engine.consumers[-1].config)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"bootstrap_servers": ""}, "bootstrap_servers"),
        ({"bootstrap_servers": None}, "bootstrap_servers"),
        ({"group_id": " "}, "group_id"),
        ({"topics": "detections"}, "topics"),
        ({"topics": []}, "topics"),
        ({"topics": [1]}, "topics"),
        ({"topics": None}, "topics"),
        ({"message_handler": None}, "message_handler"),
        ({"workers": 0}, "workers"),
        ({"workers": True}, "workers"),
        ({"ordering": "camera"}, "ordering"),
        ({"retries": -1}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"retry_backoff_ms": -1}, "retry_backoff_ms"),
        ({"dead_letter_topic": ""}, "dead_letter_topic"),
        ({"dead_letter_topic": "in"}, "dead_letter_topic"),
        ({"on_error": 3}, "on_error"),
    ],
)
def test_a_wrong_argument_is_named(engine: FakeEngine, arguments: dict[str, Any], named: str) -> None:
    right: dict[str, Any] = {"bootstrap_servers": "b", "group_id": "g", "topics": ["in"], "message_handler": print}
    with pytest.raises(tidegate.ArgumentError, match=f"^{named}: "):
        BaseKafkaConsumer(**{**right, **arguments})
    assert issubclass(tidegate.ArgumentError, ValueError)
    assert not engine.consumers


# -- the way of a record -------------------------------------------------------------------------------------------------


def test_a_record_is_finished_after_its_handler_and_not_before(engine: FakeEngine) -> None:
    seen: list[Any] = []
    batch: FakeBatch | None = None

    def handler(message: dict[str, Any]) -> None:
        assert batch is not None
        seen.append((message, list(batch.acknowledged)))

    running = Running(engine, handler)
    batch = FakeBatch(b'{"a":1}', '{"ort":"Straße"}'.encode(), b"[1]", b'"text"', b"12345678901234567890123")
    running.native.script.put(batch)
    until(lambda: batch.acknowledged == [0, 1, 2, 3, 4])
    running.end()
    # JSON that is no object is handed over as it decodes, as the original did.
    assert [message for message, _ in seen] == [{"a": 1}, {"ort": "Straße"}, [1], "text", 12345678901234567890123]
    assert [done for _, done in seen] == [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    stats = running.consumer.stats()
    assert (stats["received"], stats["handled"], stats["failed"], stats["poison"]) == (5, 5, 0, 0)


def test_large_batches_are_read_one_by_one(engine: FakeEngine) -> None:
    seen: list[int] = []
    running = Running(engine, lambda message: seen.append(len(message["x"])))
    value = json.dumps({"x": "y" * 3_000_000}).encode()
    batch = running.give(value, value)
    until(lambda: batch.acknowledged == [0, 1])
    running.end()
    assert seen == [3_000_000, 3_000_000]


def test_a_stale_record_never_reaches_the_handler(engine: FakeEngine) -> None:
    seen: list[Any] = []
    batch = FakeBatch(b"0", b"1", b"2")

    def handler(number: Any) -> None:
        seen.append(number)
        batch.stale.add(1)  # revoked while the handler runs

    running = Running(engine, handler)
    running.native.script.put(batch)
    until(lambda: 2 in batch.acknowledged)
    running.end()
    assert seen == [0, 2]
    assert batch.acknowledged == [0, 2]
    assert batch.released == [1]  # a revoke waits for nobody who does not work on it
    assert running.consumer.stats()["stale"] == 1


def test_finishing_too_late_is_no_failure(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    running = Running(engine, lambda _message: None)
    late = FakeBatch(b"0")
    late.acknowledge_error = tidegate.KafkaError(NASTY)
    running.native.script.put(late)
    good = running.give(b"1")
    until(lambda: good.acknowledged == [0])
    running.end()
    assert not texts(caplog)


def test_the_handler_may_be_replaced_while_running(engine: FakeEngine) -> None:
    first: list[Any] = []
    second: list[Any] = []
    running = Running(engine, first.append)
    running.give(b"1")
    until(lambda: first == [1])
    running.consumer.message_handler = second.append
    running.give(b"2")
    until(lambda: second == [2])
    running.end()


# -- what fails ----------------------------------------------------------------------------------------------------------


def test_a_failing_handler_is_counted_logged_once_and_holds_nobody_up(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    def handler(number: Any) -> None:
        if number == 1:
            raise RuntimeError(NASTY)

    told: list[Any] = []
    running = Running(engine, handler, on_error=lambda error, record: told.append((error, record.offset)))
    batch = running.give(b"0", b"1", b"2", first_offset=70)
    until(lambda: batch.acknowledged == [0, 1, 2])
    running.end()
    stats = running.consumer.stats()
    assert (stats["handled"], stats["failed"], stats["retried"]) == (2, 1, 0)
    (line,) = texts(caplog)
    assert "in [0] offset 71" in line
    assert NASTY in line
    assert any(record.levelno == logging.DEBUG and record.exc_info for record in caplog.records)
    ((error, offset),) = told
    assert isinstance(error, RuntimeError)
    assert offset == 71


def test_retries_call_the_handler_again_then_give_up(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []

    def handler(number: Any) -> None:
        calls.append(number)
        if number == 0 and len(calls) < 3:
            raise RuntimeError("not yet")
        if number == 1:
            raise RuntimeError("never")

    running = Running(engine, handler, retries=2, retry_backoff_ms=1)
    batch = running.give(b"0", b"1", b"2")
    until(lambda: batch.acknowledged == [0, 1, 2])
    running.end()
    assert calls == [0, 0, 0, 1, 1, 1, 2]
    stats = running.consumer.stats()
    assert (stats["handled"], stats["failed"], stats["retried"]) == (2, 1, 4)
    (line,) = texts(caplog)
    assert "3 times" in line


def test_give_up_on_is_not_tried_again(engine: FakeEngine) -> None:
    calls: list[Any] = []

    def handler(number: Any) -> None:
        calls.append(number)
        raise KeyError if number == 0 else (OSError if len(calls) < 4 else KeyError)

    running = Running(engine, handler, retries=None, retry_backoff_ms=1, give_up_on=(LookupError,))
    batch = running.give(b"0", b"1")
    until(lambda: batch.acknowledged == [0, 1])
    running.end()
    assert calls == [0, 1, 1, 1]


def test_stop_ends_a_pause_before_a_retry_and_leaves_the_record_unfinished(engine: FakeEngine) -> None:
    failed = threading.Event()

    def handler(_number: Any) -> None:
        failed.set()
        raise RuntimeError("down")

    running = Running(engine, handler, retries=None, retry_backoff_ms=60_000)
    batch = running.give(b"0", b"1")
    assert failed.wait(10)
    started = time.monotonic()
    running.consumer.stop()
    running.thread.join(10)
    assert not running.thread.is_alive()
    assert time.monotonic() - started < 5
    assert batch.acknowledged == []
    assert running.raised is None


def test_a_record_revoked_between_two_attempts_is_left(engine: FakeEngine) -> None:
    batch = FakeBatch(b"0", b"1")

    def handler(number: Any) -> None:
        if number == 0:
            batch.stale.add(0)
            raise RuntimeError("down")

    running = Running(engine, handler, retries=None, retry_backoff_ms=1)
    running.native.script.put(batch)
    until(lambda: batch.acknowledged == [1])
    running.end()
    assert batch.released == [0]
    assert running.consumer.stats()["stale"] == 1


@pytest.mark.parametrize(
    "value", [None, b"", b"not json {} %s", b"\xff\xfe\xfa", b"{", b"[" * 100_000, b'{"a":\xed\xa0}', b"\x00" * 100]
)
def test_poison_is_counted_logged_once_and_holds_nobody_up(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, value: bytes | None
) -> None:
    seen: list[Any] = []
    told: list[Any] = []
    running = Running(engine, seen.append, on_error=lambda _error, record: told.append(record.offset))
    batch = running.give(b"1", value, b"2", first_offset=5)
    until(lambda: batch.acknowledged == [0, 1, 2])
    running.end()
    assert seen == [1, 2]
    stats = running.consumer.stats()
    assert (stats["poison"], stats["tombstones"], stats["handled"]) == (1, 1 if value is None else 0, 2)
    (line,) = texts(caplog)
    assert "in [0] offset 6" in line
    assert told == [6]


def test_on_error_that_raises_harms_nobody(engine: FakeEngine) -> None:
    def on_error(_error: BaseException, _record: Any) -> None:
        raise RuntimeError(NASTY)

    running = Running(engine, lambda _message: None, on_error=on_error)
    batch = running.give(b"", b"1")
    until(lambda: batch.acknowledged == [0, 1])
    running.end()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_base_exception_leaves_the_record_unfinished_and_comes_out(engine: FakeEngine, kind: type[BaseException]) -> None:
    def handler(number: Any) -> None:
        if number == 1:
            raise kind

    running = Running(engine, handler, retries=5, dead_letter_topic="dead")
    batch = running.give(b"0", b"1", b"2")
    running.thread.join(10)
    assert isinstance(running.raised, kind)
    assert batch.acknowledged == [0]
    assert running.native.closed.is_set()
    assert running.consumer.running is False


# -- dead letters --------------------------------------------------------------------------------------------------------


def test_a_dead_letter_carries_the_record_and_the_reason(engine: FakeEngine) -> None:
    def handler(number: Any) -> None:
        raise RuntimeError("no \N{SNOWMAN} \ud800 today")

    running = Running(engine, handler, retries=1, retry_backoff_ms=1, dead_letter_topic="dead")
    batch = FakeBatch(b"0", b"not json", None, b"", first_offset=40)
    batch.records[0].headers = [("trace", b"x"), ("empty", None)]
    running.native.script.put(batch)
    until(lambda: sorted(batch.acknowledged) == [0, 1, 2, 3])
    running.end()
    letters = engine.producers[0].sent
    assert [letter["value"] for letter in letters] == [b"0", b"not json", None, b""]
    assert {letter["topic"] for letter in letters} == {"dead"}
    assert {letter["key"] for letter in letters} == {b"key"}
    assert letters[0]["headers"][:2] == [("trace", b"x"), ("empty", None)]
    headers = dict(letters[0]["headers"])
    assert headers["tidegate.dlq.topic"] == b"in"
    assert headers["tidegate.dlq.partition"] == b"0"
    assert headers["tidegate.dlq.offset"] == b"40"
    assert headers["tidegate.dlq.timestamp_ms"] == b"1700000000000"
    assert headers["tidegate.dlq.group"] == b"group"
    assert headers["tidegate.dlq.reason"] == b"handler"
    assert headers["tidegate.dlq.exception"] == b"RuntimeError"
    assert headers["tidegate.dlq.text"].decode() == "RuntimeError: no \N{SNOWMAN} \\ud800 today"
    assert headers["tidegate.dlq.attempts"] == b"2"
    assert 0 < int(headers["tidegate.dlq.first_ms"]) <= int(headers["tidegate.dlq.last_ms"])
    assert [dict(letter["headers"])["tidegate.dlq.reason"] for letter in letters[1:]] == [b"not-json", b"tombstone", b"empty"]
    stats = running.consumer.stats()
    assert (stats["dead_lettered"], stats["dead_letters_waiting"], stats["poison"], stats["failed"]) == (4, 0, 3, 1)
    assert engine.producers[0].closed


def test_a_record_is_unfinished_until_its_dead_letter_is_confirmed(engine: FakeEngine) -> None:
    running = Running(engine, lambda _message: None, dead_letter_topic="dead")
    producer = engine.producers[0]
    producer.hold = True
    batch = running.give(b"bad", b"1", b"worse", b"2")
    until(lambda: batch.acknowledged == [1, 3])  # nothing behind it is held up
    assert running.consumer.stats()["dead_letters_waiting"] == 2
    producer.release()
    until(lambda: sorted(batch.acknowledged) == [0, 1, 2, 3])
    running.end()


def test_a_refused_dead_letter_is_sent_until_it_is_taken(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate._dead_letters._FIRST_BACKOFF_S", 0.001)
    running = Running(engine, lambda _message: None, dead_letter_topic="dead")
    producer = engine.producers[0]
    producer.send_errors = [tidegate.QueueFullError(NASTY)]
    producer.outcomes = [tidegate.KafkaError(NASTY), tidegate.KafkaError(NASTY), None]
    batch = running.give(b"bad", b"1")
    until(lambda: sorted(batch.acknowledged) == [0, 1])
    running.end()
    assert len(producer.sent) == 3
    assert running.consumer.stats()["dead_lettered"] == 1


def test_stop_works_while_the_dead_letter_topic_refuses(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_consumer, "_DRAIN_DEAD_LETTERS_S", 0.2)
    monkeypatch.setattr("tidegate._dead_letters.MOST_IN_FLIGHT", 2)
    running = Running(engine, lambda _message: None, dead_letter_topic="dead")
    producer = engine.producers[0]
    producer.outcomes = [tidegate.KafkaError(NASTY)] * 1000
    batch = running.give(*[b"bad"] * 10)
    until(lambda: len(producer.sent) >= 3)
    started = time.monotonic()
    running.end()
    assert time.monotonic() - started < 5
    assert batch.acknowledged == []
    # It waits between attempts: a spinning loop would have used up all of them.
    assert len(producer.sent) < 100


def test_dead_letters_on_their_way_are_waited_for_at_the_end(engine: FakeEngine) -> None:
    running = Running(engine, lambda _message: None, dead_letter_topic="dead")
    producer = engine.producers[0]
    producer.hold = True
    batch = running.give(b"bad", b"1")
    until(lambda: batch.acknowledged == [1])
    running.consumer.stop()
    threading.Timer(0.2, producer.release).start()
    running.thread.join(10)
    assert sorted(batch.acknowledged) == [0, 1]


def test_the_dead_letter_producer_reaches_the_cluster_as_the_consumer_does(engine: FakeEngine) -> None:
    security = {"security.protocol": "SASL_SSL", "sasl.username": "me", "sasl.password": "secret"}
    BaseKafkaConsumer("b:1", "g", ["in"], print, dead_letter_topic="dead", config={**security, "fetch.min.bytes": 1}).close()
    config = engine.producers[0].config
    assert config["bootstrap.servers"] == "b:1"
    assert {name: config.get(name) for name in security} == security
    assert "group.id" not in config
    assert "fetch.min.bytes" not in config


# -- coroutines ----------------------------------------------------------------------------------------------------------


class AsyncCallable:
    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    async def __call__(self, message: Any) -> None:
        await asyncio.sleep(0)
        self.seen.append(message)


async def _append(seen: list[Any], message: Any) -> None:
    await asyncio.sleep(0)
    seen.append(message)


@pytest.mark.parametrize("make", [lambda seen: functools.partial(_append, seen), AsyncCallable])
def test_a_coroutine_handler_runs_on_a_loop_of_its_own(engine: FakeEngine, make: Callable[[list[Any]], Any]) -> None:
    seen: list[Any] = []
    running = Running(engine, make(seen))
    batch = running.give(b"1", b"2")
    until(lambda: batch.acknowledged == [0, 1])
    running.end()
    assert seen == [1, 2]


def test_a_coroutine_that_fails_is_a_failing_handler(engine: FakeEngine) -> None:
    async def handler(number: Any) -> None:
        await asyncio.sleep(0)
        if number == 0:
            raise RuntimeError(NASTY)

    running = Running(engine, handler, retries=1, retry_backoff_ms=1)
    batch = running.give(b"0", b"1")
    until(lambda: batch.acknowledged == [0, 1])
    running.end()
    assert running.consumer.stats()["failed"] == 1


def test_what_a_coroutine_leaves_behind_is_cancelled_at_the_end(engine: FakeEngine) -> None:
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    left: list[Any] = []

    async def handler(_number: Any) -> None:
        left.append(asyncio.ensure_future(forever()))
        await asyncio.sleep(0)

    running = Running(engine, handler)
    batch = running.give(b"0")
    until(lambda: batch.acknowledged == [0])
    running.end()
    assert cancelled.is_set()


def test_a_coroutine_handler_inside_a_running_loop_is_refused(engine: FakeEngine) -> None:
    async def handler(_number: Any) -> None: ...

    async def main() -> None:
        consumer = BaseKafkaConsumer("b", "g", ["in"], handler)
        with pytest.raises(RuntimeError, match="event loop"):
            consumer.start()

    asyncio.run(main())


# -- beginning and end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "close", "running"])
def test_told_to_stop_before_start_it_does_not_begin(engine: FakeEngine, how: str) -> None:
    consumer = BaseKafkaConsumer("b", "g", ["in"], lambda _message: None)
    if how == "running":
        consumer.running = False
    else:
        getattr(consumer, how)()
    consumer.start()
    assert consumer.running is False
    assert engine.consumers[0].subscribed is None
    assert engine.consumers[0].closed.is_set()


def test_running_tells_and_may_be_cleared(engine: FakeEngine) -> None:
    running = Running(engine, lambda _message: None)
    assert running.consumer.wait_until_assigned(10)
    until(lambda: running.consumer.running)
    running.consumer.running = False
    running.thread.join(10)
    assert not running.thread.is_alive()
    assert running.consumer.running is False


def test_stop_from_the_handler_ends_after_that_record(engine: FakeEngine) -> None:
    running: Running | None = None
    seen: list[Any] = []
    ready = threading.Event()

    def handler(number: Any) -> None:
        seen.append(number)
        assert ready.wait(10)
        assert running is not None
        running.consumer.stop()
        running.consumer.close()  # from within: no deadlock

    running = Running(engine, handler)
    ready.set()
    batch = running.give(b"0", b"1")
    running.thread.join(10)
    assert not running.thread.is_alive()
    assert seen == [0]
    assert batch.acknowledged == [0]


def test_start_twice_is_an_error_at_the_same_time_and_afterwards(engine: FakeEngine) -> None:
    running = Running(engine, lambda _message: None)
    assert running.consumer.wait_until_assigned(10)
    with pytest.raises(tidegate.ConcurrentUseError):
        running.consumer.start()
    running.end()
    with pytest.raises(tidegate.ClosedError):
        running.consumer.start()


def test_close_is_bounded_when_the_handler_hangs(engine: FakeEngine) -> None:
    inside, release = threading.Event(), threading.Event()

    def handler(_number: Any) -> None:
        inside.set()
        release.wait(30)

    running = Running(engine, handler)
    batch = running.give(b"0", b"1")
    assert inside.wait(10)
    started = time.monotonic()
    running.consumer.close(timeout=0.2)
    assert time.monotonic() - started < 3
    assert running.native.closed.is_set()
    assert batch.acknowledged == []
    release.set()
    running.thread.join(10)
    assert not running.thread.is_alive()


def test_trouble_is_logged_once_for_each_change(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_consumer, "_ERROR_BACKOFF_S", 0.001)
    running = Running(engine, lambda _message: None)
    for _ in range(20):
        running.native.script.put(tidegate.KafkaError(NASTY))
    batch = running.give(b"1")
    until(lambda: batch.acknowledged == [0])
    running.end()
    (line,) = texts(caplog)
    assert NASTY in line
    assert "records arrive again" in texts(caplog, logging.INFO)


def test_a_forked_child_gets_a_clear_error(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = BaseKafkaConsumer("b", "g", ["in"], lambda _message: None)
    parent = os.getpid()
    monkeypatch.setattr(base_consumer.os, "getpid", lambda: parent + 1)
    with pytest.raises(tidegate.ForkedError):
        consumer.start()
    consumer.stop()
    consumer.close()
    assert not engine.consumers[0].closed.is_set()  # the parent's


def test_stats_are_there_after_close(engine: FakeEngine) -> None:
    running = Running(engine, lambda _message: None)
    batch = running.give(b"1")
    until(lambda: batch.acknowledged == [0])
    running.end()
    assert running.consumer.stats()["handled"] == 1


def test_commit_is_the_applications_with_auto_commit_off(engine: FakeEngine) -> None:
    consumer = BaseKafkaConsumer("b", "g", ["in"], print, auto_commit=False)
    consumer.commit()
    assert engine.consumers[0].commits == 1
    consumer.close()


def test_the_exit_hook_waits_for_the_handler_in_progress(engine: FakeEngine) -> None:
    inside, release = threading.Event(), threading.Event()

    def handler(_number: Any) -> None:
        inside.set()
        release.wait(30)

    running = Running(engine, handler)
    batch = running.give(b"0", b"1")
    assert inside.wait(10)
    threading.Timer(0.3, release.set).start()
    _exit.close_everything()
    assert batch.acknowledged == [0]
    assert running.native.closed.is_set()


def test_the_exit_hook_is_bounded(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_exit, "HANDLER_GRACE_S", 0.2)
    inside, release = threading.Event(), threading.Event()

    def handler(_number: Any) -> None:
        inside.set()
        release.wait(30)

    running = Running(engine, handler)
    batch = running.give(b"0")
    assert inside.wait(10)
    started = time.monotonic()
    _exit.close_everything()
    assert time.monotonic() - started < 3
    assert running.native.closed.is_set()
    assert batch.acknowledged == []
    release.set()
    running.thread.join(10)
