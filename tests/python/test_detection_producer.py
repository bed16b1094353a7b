"""DetectionResultProducer: what a detection loop may rely on."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import threading
import uuid
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine, engine, until

import tidegate
from tidegate import _logging, detection_producer
from tidegate.detection_producer import DetectionResultProducer

__all__ = ["engine"]  # the fixture, for pytest

NASTY = 'KafkaError{code=_TRANSPORT,str="50% of {0} %s {}"}'


@pytest.fixture(autouse=True)
def plain_logging(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "loguru", None)
    monkeypatch.setattr(detection_producer, "_log", _logging.Logger("tidegate.detection_producer"))
    caplog.set_level(logging.DEBUG, logger="tidegate")


def texts(caplog: pytest.LogCaptureFixture, least: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= least]


def test_it_is_called_as_the_original_was(engine: FakeEngine) -> None:
    producer = DetectionResultProducer("b:9092", "detections", True)
    assert producer.topic == "detections"
    assert producer.enable_kafka is True
    assert engine.producers[0].config == {
        "bootstrap.servers": "b:9092",
        "compression.type": "snappy",
        "linger.ms": 10,
        "batch.size": 32768,
        "acks": "all",
        "retries": 3,
        "retry.backoff.ms": 100,
        "enable.idempotence": True,
    }
    detection = {"ort": "Straße 東京", "boxes": [[1, 2], [3, 4]]}
    message_id = producer.send(detection, 7)
    assert message_id is not None
    assert uuid.UUID(message_id).version == 4
    assert detection["messageId"] == message_id
    (sent,) = engine.producers[0].sent
    assert sent["topic"] == "detections"
    assert sent["key"] == b"7"
    assert json.loads(sent["value"]) == detection
    assert "Straße 東京".encode() in sent["value"]
    assert producer.send(detection_result=detection, camera_id=8) != message_id
    producer.flush()
    producer.flush(timeout=1.0)
    producer.close()
    producer.close()


def test_deliveries_are_counted_and_a_failure_is_logged(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    producer = DetectionResultProducer("b", "t")
    engine.producers[0].outcomes = [None, tidegate.KafkaError(NASTY), None]
    ids = [producer.send({"n": n}, 1) for n in range(3)]
    until(lambda: producer.stats()["delivered"] + producer.stats()["failed"] == 3)
    stats = producer.stats()
    assert (stats["sent"], stats["delivered"], stats["failed"], stats["refused"]) == (3, 2, 1, 0)
    assert NASTY in stats["last_error"]
    (line,) = texts(caplog)
    assert NASTY in line
    assert str(ids[1]) in line


def test_a_refused_record_is_counted_logged_and_none(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    producer = DetectionResultProducer("b", "t")
    engine.producers[0].send_errors = [tidegate.QueueFullError(NASTY)]
    assert producer.send({"n": 1}, 1) is None
    assert producer.send({"n": 2}, 1) is not None
    stats = producer.stats()
    assert (stats["sent"], stats["refused"]) == (1, 1)
    assert NASTY in stats["last_error"]
    assert len(texts(caplog)) == 1


class Unwritable:
    def __repr__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize("detection", [{"a": object()}, {(1, 2): 3}, {"a": Unwritable()}, None, [1], "text", {"a": {1, 2}}])
def test_what_is_not_json_is_none_and_never_raises(engine: FakeEngine, detection: Any, caplog: pytest.LogCaptureFixture) -> None:
    producer = DetectionResultProducer("b", "t")
    assert producer.send(detection, 1) is None
    assert producer.stats()["refused"] == 1
    assert len(texts(caplog)) == 1
    assert not engine.producers[0].sent


def test_a_camera_id_that_cannot_be_printed_never_raises(engine: FakeEngine) -> None:
    producer = DetectionResultProducer("b", "t")
    assert producer.send({"a": 1}, Unwritable()) is None  # type: ignore[arg-type]


def test_numpy_and_datetime_are_taken(engine: FakeEngine) -> None:
    producer = DetectionResultProducer("b", "t")
    assert producer.send({"score": np.float32(0.5), "box": np.array([1, 2]), "at": datetime.datetime(2026, 1, 2)}, 1)
    value = json.loads(engine.producers[0].sent[0]["value"])
    assert (value["score"], value["box"], value["at"]) == (0.5, [1, 2], "2026-01-02T00:00:00")


def test_disabled_it_sends_nothing_and_says_so_once(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    producer = DetectionResultProducer("b", "t", enable_kafka=False)
    assert not engine.producers
    assert producer.enable_kafka is False
    for _ in range(3):
        assert producer.send({"a": 1}, 1) is None
    assert len(texts(caplog)) == 1
    assert len(texts(caplog, logging.DEBUG)) == 3
    assert producer.stats()["refused"] == 3
    producer.flush()
    producer.close()


def test_disabled_later_it_sends_nothing(engine: FakeEngine) -> None:
    producer = DetectionResultProducer("b", "t")
    producer.enable_kafka = False
    assert producer.send({"a": 1}, 1) is None
    assert not engine.producers[0].sent


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"config": {"no.such.property": 1}}, "no.such.property"),
        ({"config": {"acks": 0}}, "acks"),
        ({"config": {"linger.ms": "{} soon %s"}}, "linger.ms"),
        ({"topic": ""}, "topic"),
        ({"topic": None}, "topic"),
        ({"bootstrap_servers": None}, ""),
        ({"config": 3}, ""),
    ],
)
def test_a_wrong_configuration_disables_it_with_the_reason(
    arguments: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    producer = DetectionResultProducer(**{"bootstrap_servers": "127.0.0.1:1", "topic": "t", **arguments})
    assert producer.enable_kafka is False
    (line,) = texts(caplog)
    assert said in line
    assert producer.stats()["last_error"]
    assert producer.send({"a": 1}, 1) is None
    producer.flush()
    producer.close()


def test_from_many_threads_nothing_is_miscounted(engine: FakeEngine) -> None:
    producer = DetectionResultProducer("b", "t")
    threads = [threading.Thread(target=lambda: [producer.send({"n": n}, n) for n in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: producer.stats()["delivered"] == 200)
    assert producer.stats()["sent"] == 200


def test_a_failing_flush_or_close_never_raises(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    producer = DetectionResultProducer("b", "t")

    def fail(timeout: float) -> int:
        raise tidegate.KafkaError(NASTY)

    monkeypatch.setattr(engine.producers[0], "flush", fail)
    monkeypatch.setattr(engine.producers[0], "close", fail)
    producer.flush()
    producer.close()
    assert len(texts(caplog)) == 2


# -- on a broker ---------------------------------------------------------------------------------------------------------


def test_results_reach_the_topic_in_order_of_each_camera() -> None:
    with tidegate.EmbeddedBroker(topics={"detections": 3}) as broker:
        producer = DetectionResultProducer(broker.bootstrap_servers, "detections")
        ids = [producer.send({"n": n, "ort": "Straße"}, n % 5) for n in range(100)]
        assert None not in ids
        assert producer.flush(timeout=20) == 0
        assert producer.stats() == {"sent": 100, "delivered": 100, "failed": 0, "refused": 0, "last_error": None}
        producer.close()
        assert producer.send({"n": 1}, 1) is None  # closed: said, not raised

        consumer = tidegate.Consumer(
            {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["detections"])
        got: list[Any] = []
        while len(got) < 100:
            record = consumer.poll(timeout=20)
            assert record is not None
            got.append(record)
        consumer.close()
    assert {record.json()["messageId"] for record in got} == set(ids)
    for camera in range(5):
        numbers = [record.json()["n"] for record in got if record.key == str(camera).encode()]
        assert numbers == list(range(camera, 100, 5))


def test_without_a_broker_nothing_blocks_and_the_failure_is_readable() -> None:
    producer = DetectionResultProducer("127.0.0.1:1", "t", config={"delivery.timeout.ms": 300, "linger.ms": 0})
    assert producer.enable_kafka is True
    assert producer.send({"a": 1}, 1) is not None
    until(lambda: producer.stats()["failed"] == 1)
    assert producer.stats()["last_error"]
    producer.close(timeout=0.5)


def test_a_full_queue_is_waited_for_within_a_bound_then_refused() -> None:
    config = {"queue.buffering.max.messages": 2, "tidegate.queue.full.timeout.ms": 100}
    producer = DetectionResultProducer("127.0.0.1:1", "t", config=config)
    results = [producer.send({"n": n}, 1) for n in range(4)]
    assert [result is not None for result in results] == [True, True, False, False]
    stats = producer.stats()
    assert (stats["sent"], stats["refused"]) == (2, 2)
    producer.close(timeout=0.1)
