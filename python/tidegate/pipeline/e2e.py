"""`tidegate pipeline --mode e2e`: cameras and all three stages in one process, with an account of every record.

Because ids are derived, the ids of the results a detection must lead to are known when it is sent: lost is what is expected
and did not arrive, doubled is what the store was given twice. Cameras run in one thread, each stage in its own, the
account is kept under one lock, and the main thread shows the progress.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from tidegate import _core
from tidegate._logging import Logger, describe
from tidegate.detection_producer import DetectionResultProducer
from tidegate.pipeline.aggregator import Aggregator
from tidegate.pipeline.messages import (
    ASSESSMENT_TASKS,
    DETECTION_RESULTS,
    RISK_ASSESSMENT_RESULTS,
    RISKY_CLASSES,
    TOPICS,
    failed_result,
    tasks_of,
)
from tidegate.pipeline.model_client import SimulatedModel
from tidegate.pipeline.progress import Progress, show_table
from tidegate.pipeline.scheduler import Scheduler
from tidegate.pipeline.stage import Stage
from tidegate.pipeline.task_generator import TaskGenerator
from tidegate.pipeline.topics import init_topics
from tidegate.shutdown import request_until, wait_for_shutdown

__all__ = ["Account", "Settings", "Summary", "run"]

_log = Logger("tidegate.pipeline.e2e")

ASSIGNMENT_TIMEOUT_S = 60.0
"""Seconds the three stages get to have their partitions."""

_SHOW_EVERY_S = 0.25
_DONE = "done"
_ORDINARY_CLASSES = ("car", "truck", "bus")


@dataclass(frozen=True)
class Settings:
    """What one end-to-end run is given."""

    duration_s: float = 30.0
    """How long the cameras send."""
    bootstrap_servers: str | None = None
    """The cluster; None starts an embedded broker."""
    rate: float = 100.0
    """Detection results a second, of all cameras together."""
    cameras: int = 40
    partitions: int = 12
    """Of each topic, where it has to be created."""
    latency_ms: float = 200.0
    """Mean latency of the simulated model."""
    latency_jitter: float = 0.5
    failure_rate: float = 0.0
    """Part of the model's calls that fail, and are repeated."""
    concurrency: int = 100
    """Most calls of the model at once."""
    session_timeout_ms: int = 6000
    drain_s: float = 30.0
    """After the last detection: how long to wait without any progress before what is missing counts as lost."""
    topic_prefix: str = ""
    seed: int | None = None


@dataclass
class Account:
    """What was sent, what must come of it, and what has come. Any thread."""

    sent: int = 0
    refused: int = 0
    expected: set[str] = field(default_factory=set)
    arrived: set[str] = field(default_factory=set)
    doubled: int = 0
    foreign: int = 0
    failed_results: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    tasks: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note_sent(self, detection: dict[str, Any]) -> None:
        """A detection result was accepted by the producer."""
        tasks = tasks_of(detection)
        with self._lock:
            self.sent += 1
            self.tasks += len(tasks)
            # A result's id follows from its task, whatever the model says.
            self.expected.update(failed_result(task, "")["messageId"] for task in tasks)

    def note_refused(self) -> None:
        """A detection result was not accepted by the producer."""
        with self._lock:
            self.refused += 1

    def note_result(self, result: dict[str, Any], first: bool, run_id: str) -> None:
        """The store has answered for a result."""
        now_ms = time.time() * 1000
        with self._lock:
            if result.get("run") != run_id:
                self.foreign += 1
            elif not first:
                self.doubled += 1
            else:
                self.arrived.add(result["messageId"])
                self.failed_results += result.get("status") == "failed"
                self.latencies_ms.append(now_ms - float(result.get("timestampMs", now_ms)))

    def missing(self) -> int:
        """Results that are expected and have not arrived."""
        with self._lock:
            return len(self.expected - self.arrived)

    def latency_ms(self, part: float) -> float:
        """The latency that `part` (0.5: half) of the results stay within, from camera to store; 0 without results."""
        with self._lock:
            ordered = sorted(self.latencies_ms)
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0


@dataclass(frozen=True)
class Summary:
    """What an end-to-end run ended with."""

    sent: int
    tasks: int
    results: int
    lost: int
    doubled: int
    failed_results: int
    refused: int
    p50_ms: float
    p99_ms: float
    peak_memory_bytes: int | None
    """The process's peak resident size; None where the platform does not tell."""
    seconds: float

    @property
    def exit_status(self) -> int:
        """0: something was sent and everything arrived. 1: something is lost, was refused, or nothing was sent."""
        return 1 if self.lost or self.refused or not self.sent else 0

    def rows(self) -> list[tuple[str, str]]:
        """The closing table."""
        memory = "unknown" if self.peak_memory_bytes is None else f"{self.peak_memory_bytes / 2**20:.0f} MiB"
        return [
            ("sent", f"{self.sent}"),
            ("tasks", f"{self.tasks}"),
            ("results", f"{self.results}"),
            ("lost", f"{self.lost}"),
            ("doubled", f"{self.doubled}"),
            ("refused by the producer", f"{self.refused}"),
            ("assessments failed", f"{self.failed_results}"),
            ("latency p50", f"{self.p50_ms:.0f} ms"),
            ("latency p99", f"{self.p99_ms:.0f} ms"),
            ("peak memory", memory),
            ("took", f"{self.seconds:.1f} s"),
        ]


def run(settings: Settings) -> int:
    """Run cameras and stages, show the progress and the closing table. Returns the exit status (see `Summary`).

    Main thread: SIGTERM and Ctrl-C end the sending, a second one the waiting for what is under way.

    Raises:
        tidegate.TidegateError: the configuration is wrong, or the cluster cannot be reached.
    """
    with contextlib.ExitStack() as opened:
        if settings.bootstrap_servers is None:
            topics = {settings.topic_prefix + name: settings.partitions for name in TOPICS}
            servers = opened.enter_context(_core.EmbeddedBroker(topics=topics)).bootstrap_servers
        else:
            servers = settings.bootstrap_servers
            init_topics(servers, settings.partitions, prefix=settings.topic_prefix)
        summary = _Run(settings, servers).run()
    show_table("Tidegate end to end", summary.rows())
    return summary.exit_status


class _Run:
    """One run against a broker that is there."""

    def __init__(self, settings: Settings, servers: str) -> None:
        self._settings = settings
        self._servers = servers
        self._run_id = uuid.uuid4().hex[:8]
        self._account = Account()
        self._no_more = threading.Event()
        self._sent_all = threading.Event()
        self._given_up = threading.Event()

    def run(self) -> Summary:
        started = time.monotonic()
        stages = self._make_stages()
        producer = DetectionResultProducer(self._servers, self._topic(DETECTION_RESULTS))
        try:
            for name, stage in stages.items():
                threading.Thread(target=_run_stage, args=(name, stage), name=name, daemon=True).start()
            for name, stage in stages.items():
                if not stage.wait_until_assigned(ASSIGNMENT_TIMEOUT_S):
                    _log.error(f"{name} has no partitions after {ASSIGNMENT_TIMEOUT_S} s")
            threading.Thread(target=self._send, args=(producer,), name="cameras", daemon=True).start()
            with Progress(self._settings.duration_s) as progress:
                watching = threading.Thread(target=self._watch, args=(progress,), name="progress", daemon=True)
                watching.start()
                self._wait(progress)
                watching.join()
        finally:
            self._no_more.set()
            for stage in stages.values():
                stage.stop()
            for stage in stages.values():
                stage.close()
            producer.close()
        return self._summary(time.monotonic() - started)

    def _topic(self, name: str) -> str:
        return self._settings.topic_prefix + name

    def _make_stages(self) -> dict[str, Stage]:
        settings = self._settings
        config: dict[str, str | int | float | bool] = {
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": min(2000, settings.session_timeout_ms // 3),
        }
        if settings.bootstrap_servers is None:
            # The embedded broker answers a fetch that found nothing only when this is over, whatever arrives meanwhile.
            config["fetch.wait.max.ms"] = 20
        group = f"tidegate-e2e-{self._run_id}"
        model = SimulatedModel(settings.latency_ms, settings.latency_jitter, settings.failure_rate, settings.seed)
        return {
            "task generator": TaskGenerator(
                self._servers,
                f"{group}-generator",
                self._topic(DETECTION_RESULTS),
                self._topic(ASSESSMENT_TASKS),
                auto_offset_reset="latest",
                config=config,
            ),
            "scheduler": Scheduler(
                self._servers,
                f"{group}-scheduler",
                self._topic(ASSESSMENT_TASKS),
                self._topic(RISK_ASSESSMENT_RESULTS),
                model,
                concurrency=settings.concurrency,
                auto_offset_reset="latest",
                config=config,
            ),
            "aggregator": Aggregator(
                self._servers,
                f"{group}-aggregator",
                self._topic(RISK_ASSESSMENT_RESULTS),
                auto_offset_reset="latest",
                config=config,
                on_result=lambda result, first: self._account.note_result(result, first, self._run_id),
            ),
        }

    def _send(self, producer: DetectionResultProducer) -> None:
        """The cameras: evenly spaced at the rate, whatever the time a send takes."""
        chance = random.Random(self._settings.seed)
        started = time.monotonic()
        number = 0
        while not self._no_more.is_set():
            due = started + number / self._settings.rate
            if due - started >= self._settings.duration_s:
                break
            if (pause := due - time.monotonic()) > 0 and self._no_more.wait(pause):
                break
            camera_id = number % self._settings.cameras
            detection = self._detection(chance, camera_id)
            if producer.send(detection, camera_id) is None:
                self._account.note_refused()
            else:
                self._account.note_sent(detection)
            number += 1
        producer.flush(self._settings.drain_s)
        self._sent_all.set()

    def _detection(self, chance: random.Random, camera_id: int) -> dict[str, Any]:
        labels = chance.choices((*_ORDINARY_CLASSES, *RISKY_CLASSES), weights=(8, 4, 2, 1, 1, 1, 1, 1), k=3)
        return {
            "cameraId": camera_id,
            "timestampMs": time.time_ns() // 1_000_000,
            "run": self._run_id,
            "detections": [
                {
                    "label": label,
                    "confidence": round(chance.uniform(0.3, 1.0), 3),
                    "bbox": [chance.randrange(1800), chance.randrange(1000), 80, 60],
                }
                for label in labels
            ],
        }

    def _watch(self, progress: Progress) -> None:
        """Show the progress until everything has arrived, or nothing has for `drain_s` seconds, or it is given up."""
        account = self._account
        arrived, last_progress = 0, time.monotonic()
        while not self._given_up.wait(_SHOW_EVERY_S):
            missing = account.missing()
            progress.update(sent=account.sent, tasks=account.tasks, results=len(account.arrived), missing=missing)
            if len(account.arrived) != arrived or not self._sent_all.is_set():
                arrived, last_progress = len(account.arrived), time.monotonic()
            if self._sent_all.is_set() and (not missing or time.monotonic() - last_progress > self._settings.drain_s):
                break
        request_until(self._given_up, _DONE)

    def _wait(self, progress: Progress) -> None:
        """In the main thread: until the watching has come to its end, or a second signal."""
        reason = wait_for_shutdown(self._no_more.set)
        if reason != _DONE:
            progress.note(f"{reason}: no more detections, waiting for what is under way")
            wait_for_shutdown()
        self._given_up.set()

    def _summary(self, seconds: float) -> Summary:
        account = self._account
        return Summary(
            sent=account.sent,
            tasks=account.tasks,
            results=len(account.arrived),
            lost=account.missing(),
            doubled=account.doubled,
            failed_results=account.failed_results,
            refused=account.refused,
            p50_ms=account.latency_ms(0.5),
            p99_ms=account.latency_ms(0.99),
            peak_memory_bytes=_peak_memory_bytes(),
            seconds=seconds,
        )


def _run_stage(name: str, stage: Stage) -> None:
    try:
        stage.start()
    except Exception as error:
        _log.error(f"{name} ended: {describe(error)}")


def _peak_memory_bytes() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
