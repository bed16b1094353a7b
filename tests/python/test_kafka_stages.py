"""SIGKILL of each pipeline stage at random moments under load: nothing is lost end to end, and what is done twice is at most
what was unfinished plus one commit interval for each kill.

The account does not take the stages' word: the second reader reads the topics, and Redis is asked for what it keeps. A
record is told by the detection it answers and the risk it is about, both of which every stage hands on."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis import Redis

from harness.kafka import KafkaCluster
from harness.proc import Child

STAGES = ("generator", "scheduler", "aggregator")
RISKY = ("animal", "bicycle", "debris")
RISKS = {"animal": "animal on the carriageway", "bicycle": "bicycle in motor traffic", "debris": "object on the carriageway"}

PARTITIONS = 6
CAMERAS = 80
DETECTIONS = 400
PER_SECOND = 100.0
CONCURRENCY = 50
# `window` of the scheduler is four times that: the most it can have unfinished.
UNFINISHED = {"generator": len(RISKY), "scheduler": 4 * CONCURRENCY, "aggregator": 1}
COMMIT_INTERVAL_S = 0.5
# On top of the interval: the commit's own way to the broker, and the time between two samples, on a busy machine.
COMMIT_SLACK_S = 1.0
SAMPLE_S = 0.05
ROUND_S = 90.0


class Sample(NamedTuple):
    """How much each stage has put out, repetitions included."""

    at: float
    generator: int
    scheduler: int
    aggregator: int


class Pipeline:
    """Three topics, three stages in processes of their own, and who looks at what comes out."""

    def __init__(self, kafka: KafkaCluster, redis_url: str, prefix: str) -> None:
        self._kafka = kafka
        self._prefix = prefix
        self._redis_url = redis_url
        self._redis = Redis.from_url(redis_url)
        self.detections, self.tasks, self.results = (f"{prefix}.{name}" for name in ("detections", "tasks", "results"))
        for topic in (self.detections, self.tasks, self.results):
            kafka.create_topic(topic, PARTITIONS)
        self.running: dict[str, Child] = {}
        # Far more than any bound looks back on.
        self.samples: deque[Sample] = deque(maxlen=int(60 / SAMPLE_S))
        self.allowed = dict.fromkeys(STAGES, 0)

    def group(self, stage: str) -> str:
        return f"{self._prefix}.{stage}"

    def start(self, stage: str) -> None:
        common = ["--session-timeout-ms", "6000", "--property", f"auto.commit.interval.ms={COMMIT_INTERVAL_S * 1000:.0f}"]
        own = {
            "generator": ["--input-topic", self.detections, "--output-topic", self.tasks],
            "scheduler": ["--input-topic", self.tasks, "--output-topic", self.results, "--latency-ms", "200"],
            "aggregator": ["--input-topic", self.results, "--store", "redis", "--redis-url", self._redis_url],
        }[stage]
        if stage == "scheduler":
            own += ["--concurrency", str(CONCURRENCY)]
        program = {"generator": "task-generator"}.get(stage, stage)
        entry_point = Path(sys.executable).with_name(f"tidegate-{program}")
        where = ["--bootstrap-servers", self._kafka.bootstrap_servers, "--group-id", self.group(stage)]
        self.running[stage] = Child([entry_point, *where, *common, *own], name=stage)

    def sample(self) -> Sample:
        counts: Any = self._redis.hgetall("tidegate:counts")
        outputs = [sum(self._kafka.end_offsets(topic).values()) for topic in (self.tasks, self.results)]
        sample = Sample(time.monotonic(), *outputs, sum(map(int, counts.values())))
        self.samples.append(sample)
        return sample

    def kill(self, stage: str) -> None:
        """SIGKILL, a new process at once, and what may come twice because of it."""
        self.running[stage].kill()
        self.running[stage].end()
        now = self.sample()
        since = now.at - COMMIT_INTERVAL_S - COMMIT_SLACK_S
        before = max((sample for sample in self.samples if sample.at <= since), default=self.samples[0])
        self.allowed[stage] += getattr(now, stage) - getattr(before, stage) + UNFINISHED[stage]
        self.start(stage)

    def stored(self) -> set[tuple[str, str]]:
        keys = list(self._redis.scan_iter("tidegate:result:*", count=1000))
        values: list[Any] = self._redis.mget(keys) if keys else []
        return {_told_by(json.loads(value)) for value in values}

    def check(self, expected: set[tuple[str, str]]) -> tuple[dict[str, int], dict[str, int]]:
        """What each stage's output lacks, and how often each has done something again."""
        tasks = [_told_by(json.loads(message.value())) for message in self._kafka.read_all(self.tasks)]
        results = [_told_by(json.loads(message.value())) for message in self._kafka.read_all(self.results)]
        lost = {
            "generator": len(expected - set(tasks)),
            "scheduler": len(expected - set(results)),
            "aggregator": len(expected - self.stored()),
        }
        again = {
            "generator": len(tasks) - len(expected),
            "scheduler": len(results) - len(tasks),
            "aggregator": self.sample().aggregator - len(results),
        }
        return lost, again

    def stop(self) -> None:
        """In order, so that what is left undone would show."""
        for child in self.running.values():
            child.terminate()
        for stage, child in self.running.items():
            assert child.wait(30) == 0, f"{stage}\n{child.tail()}"

    def end(self) -> None:
        for child in self.running.values():
            child.end()
        self._redis.close()


def _told_by(message: dict[str, Any]) -> tuple[str, str]:
    return message["detectionId"], message["risk"]


def detection(number: int) -> tuple[str, bytes, bytes, set[tuple[str, str]]]:
    """A detection result with one, two or three risks: its id, key, value, and what has to come of it."""
    labels = RISKY[: 1 + number % len(RISKY)]
    message_id, camera = str(uuid.uuid4()), number % CAMERAS
    found = [{"label": label, "confidence": 0.5, "bbox": [0, 0, 1, 1]} for label in ("car", *labels)]
    value = {"messageId": message_id, "cameraId": camera, "timestampMs": time.time_ns() // 1_000_000, "detections": found}
    return message_id, str(camera).encode(), json.dumps(value).encode(), {(message_id, RISKS[label]) for label in labels}


class Cameras:
    """Sends the detections of one round at a pace, from a thread; `expected` is what has to come of them."""

    def __init__(self, kafka: KafkaCluster, topic: str) -> None:
        from confluent_kafka import Producer

        self._topic = topic
        self._producer = Producer({"bootstrap.servers": kafka.reader_servers, "enable.idempotence": True, "log_level": 2})
        self.expected: set[tuple[str, str]] = set()
        self._ending = threading.Event()
        self._failed: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        started = time.monotonic()
        for number in range(DETECTIONS):
            if self._ending.wait(max(0.0, started + number / PER_SECOND - time.monotonic())):
                return
            _, key, value, expected = detection(number)
            self._producer.produce(self._topic, value, key, on_delivery=lambda error, _: error and self._failed.append(str(error)))
            self._producer.poll(0)
            self.expected |= expected

    def __enter__(self) -> Cameras:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._ending.set()
        self._thread.join(60)
        assert self._producer.flush(60) == 0
        assert not self._failed, self._failed[0]


@pytest.fixture
def pipeline(kafka: KafkaCluster, redis_url: str, fresh_name: Callable[[str], str]) -> Iterator[Pipeline]:
    created = Pipeline(kafka, redis_url, fresh_name("stages"))
    try:
        for stage in STAGES:
            created.start(stage)
        yield created
    finally:
        created.end()


def run_round(kafka: KafkaCluster, pipeline: Pipeline, chance: random.Random, expected: set[tuple[str, str]]) -> str:
    """Send, kill each stage once when its output has come to a random place of this round's, and wait for the end of it.

    Returns where they were killed.
    """
    first = pipeline.sample()
    results = DETECTIONS * 2
    places = {stage: getattr(first, stage) + chance.randrange(results // 20, results * 9 // 10) for stage in STAGES}
    told = {stage: place - getattr(first, stage) for stage, place in places.items()}
    cameras = Cameras(kafka, pipeline.detections)
    deadline = time.monotonic() + ROUND_S
    with cameras:
        while places:
            sample = pipeline.sample()
            for stage in [stage for stage, place in places.items() if getattr(sample, stage) >= place]:
                pipeline.kill(stage)
                del places[stage]
            assert time.monotonic() < deadline, f"{places} not reached: {sample}\n{_tails(pipeline)}"
            threading.Event().wait(SAMPLE_S)
    expected |= cameras.expected
    while len(pipeline.stored()) < len(expected):
        pipeline.sample()
        assert time.monotonic() < deadline, f"{len(expected - pipeline.stored())} of {len(expected)} lost\n{_tails(pipeline)}"
        threading.Event().wait(SAMPLE_S)
    return ", ".join(f"{stage} after {place}" for stage, place in told.items())


def _tails(pipeline: Pipeline) -> str:
    return "\n".join(child.tail(10) for child in pipeline.running.values())


def kill_stages(kafka: KafkaCluster, pipeline: Pipeline, rounds: int, say: Callable[[str], None]) -> None:
    seed = random.randrange(2**32)
    say(f"seed {seed}")
    chance = random.Random(seed)
    expected: set[tuple[str, str]] = set()
    for number in range(1, rounds + 1):
        started = time.monotonic()
        places = run_round(kafka, pipeline, chance, expected)
        judge(pipeline, expected, say, f"round {number}, {time.monotonic() - started:.0f} s, killed {places}")
    pipeline.stop()
    judge(pipeline, expected, say, f"{rounds} rounds of {DETECTIONS}, all stages ended in order")
    for stage, topic in zip(STAGES, (pipeline.detections, pipeline.tasks, pipeline.results), strict=True):
        assert kafka.committed(pipeline.group(stage), topic) == kafka.end_offsets(topic), stage


def judge(pipeline: Pipeline, expected: set[tuple[str, str]], say: Callable[[str], None], what: str) -> None:
    lost, again = pipeline.check(expected)
    twice = ", ".join(f"{stage} {count} (at most {pipeline.allowed[stage]})" for stage, count in again.items())
    say(f"{what}: {len(expected)} results, {sum(lost.values())} lost, done again: {twice}")
    assert not any(lost.values()), lost
    assert all(0 <= again[stage] <= pipeline.allowed[stage] for stage in STAGES)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_stages_lose_nothing(kafka: KafkaCluster, pipeline: Pipeline, say: Callable[[str], None]) -> None:
    kill_stages(kafka, pipeline, 5, say)


@pytest.mark.chaos
@pytest.mark.timeout(2400)
def test_killed_stages_lose_nothing_for_long(kafka: KafkaCluster, pipeline: Pipeline, say: Callable[[str], None]) -> None:
    kill_stages(kafka, pipeline, 20, say)
