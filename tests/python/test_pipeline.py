"""The pipeline: ids that can be derived, stages that finish nothing too early, stores that keep each result once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from dropin import SHORT_SESSION, committed, produce, read_all
from fake_engine import until
from hypothesis import given
from hypothesis import strategies as st

import tidegate
from tidegate import cli
from tidegate.pipeline import e2e, messages, stage
from tidegate.pipeline.aggregator import Aggregator
from tidegate.pipeline.model_client import ModelError, SimulatedModel
from tidegate.pipeline.scheduler import Scheduler
from tidegate.pipeline.stage import ConfirmedSender, NotDeliveredError
from tidegate.pipeline.store import MemoryStore, RedisStore, Store
from tidegate.pipeline.task_generator import TaskGenerator

DETECTION: dict[str, Any] = {
    "messageId": "0d4e6cf2-5a3e-4bd5-9d4f-111111111111",
    "cameraId": 7,
    "timestampMs": 1_700_000_000_000,
    "run": "r1",
    "detections": [
        {"label": "car", "confidence": 0.9},
        {"label": "person", "confidence": 0.8},
        {"label": "debris", "confidence": 0.4},
        {"label": "person", "confidence": 0.5},
    ],
}


@pytest.fixture(autouse=True)
def logging_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sets up the process's logging; here the process is the test session's."""
    monkeypatch.setattr(stage, "set_up_logging", lambda _level: None)


def detection(number: int, camera: int = 0) -> bytes:
    labels = [{"label": "person", "confidence": 0.5}]
    return json.dumps({"messageId": str(uuid.UUID(int=number)), "cameraId": camera, "n": number, "detections": labels}).encode()


def task(number: int, camera: int = 0) -> bytes:
    return json.dumps({"messageId": f"task-{number}", "cameraId": camera, "n": number, "risk": "r", "detections": []}).encode()


# -- messages ------------------------------------------------------------------------------------------------------------


def test_a_detection_gives_one_task_for_each_risk() -> None:
    tasks = messages.tasks_of(DETECTION)
    assert [item["risk"] for item in tasks] == sorted(["person on the carriageway", "object on the carriageway"])
    assert [len(item["detections"]) for item in tasks] == [1, 2]
    for item in tasks:
        assert item["detectionId"] == DETECTION["messageId"]
        assert (item["cameraId"], item["timestampMs"], item["run"]) == (7, 1_700_000_000_000, "r1")
    (general,) = messages.tasks_of({"messageId": "x", "cameraId": 1})
    assert general["risk"] == messages.GENERAL_RISK


labels = st.sampled_from(["car", "person", "debris", "animal", "wrong-way", "", "?"])


@given(st.uuids(), st.lists(labels, max_size=6))
def test_ids_are_derived_and_differ(message_id: uuid.UUID, found: list[str]) -> None:
    given_detection = {"messageId": str(message_id), "cameraId": 1, "detections": [{"label": label} for label in found]}
    tasks = messages.tasks_of(given_detection)
    assert messages.tasks_of(json.loads(json.dumps(given_detection))) == tasks
    results = [messages.failed_result(item, "x") for item in tasks]
    ids = [str(message_id)] + [item["messageId"] for item in tasks] + [item["messageId"] for item in results]
    assert len(set(ids)) == len(ids)
    answered = [messages.result_of(item, {"level": "low", "score": 0.1, "explanation": ""}) for item in tasks]
    assert [item["messageId"] for item in answered] == [item["messageId"] for item in results]


@pytest.mark.parametrize("wrong", [None, [], "x", {}, {"cameraId": 1}, {"messageId": "x"}, {"messageId": 1, "cameraId": 1}])
def test_what_is_no_detection_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"cameraId|messageId"):
        messages.tasks_of(wrong)


@pytest.mark.parametrize("found", [None, [None, 3, "x"], [{"label": None}], {"label": "person"}])
def test_odd_detections_are_no_accident(found: Any) -> None:
    assert len(messages.tasks_of({"messageId": "x", "cameraId": 1, "detections": found})) == 1


# -- the model -----------------------------------------------------------------------------------------------------------


def test_the_simulated_model_is_repeatable_and_slow_as_told() -> None:
    async def answers(seed: int) -> tuple[list[Any], float]:
        model = SimulatedModel(latency_ms=20, jitter=0.5, failure_rate=0.5, seed=seed)
        started = time.monotonic()
        found = await asyncio.gather(*(model.assess({"risk": "r", "n": n}) for n in range(20)), return_exceptions=True)
        return [type(item).__name__ for item in found], time.monotonic() - started

    first, took = asyncio.run(answers(1))
    assert first == asyncio.run(answers(1))[0]
    assert set(first) == {"dict", ModelError.__name__}
    assert took >= 0.01
    for wrong in ({"latency_ms": -1}, {"jitter": 2}, {"failure_rate": -0.1}):
        with pytest.raises(ValueError, match="latency_ms"):
            SimulatedModel(**wrong)


# -- stores --------------------------------------------------------------------------------------------------------------


def check_store(store: Store) -> None:
    results = [{"messageId": f"m{n}", "cameraId": n % 3, "ort": "Straße"} for n in range(30)]
    barrier = threading.Barrier(4)
    outcomes: list[bool] = []

    def add_all() -> None:
        barrier.wait()
        outcomes.extend([store.add(dict(result)) for result in results])

    threads = [threading.Thread(target=add_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(outcomes) == {True: 30, False: 90}
    assert store.counts() == {"results": 30, "doubled": 90}
    assert store.get("m7") == results[7]
    assert store.get("absent") is None
    store.close()


def test_the_memory_store_keeps_a_result_once() -> None:
    check_store(MemoryStore())


def test_redis_keeps_a_result_once(redis_url: str) -> None:
    check_store(RedisStore(redis_url, prefix="check"))


def test_redis_forgets_after_the_time_given(redis_url: str) -> None:
    from redis import Redis

    store = RedisStore(redis_url, prefix="short", expire_s=100)
    assert store.add({"messageId": "m", "cameraId": 1})
    with Redis.from_url(redis_url) as client:
        assert 0 < client.ttl("short:result:m") <= 100
    store.close()


# -- stages on the embedded broker ---------------------------------------------------------------------------------------


class Threaded:
    """A stage in a daemon thread."""

    def __init__(self, stage: Any) -> None:
        self.stage = stage
        self.thread = threading.Thread(target=stage.start, daemon=True)

    def __enter__(self) -> Any:
        self.thread.start()
        return self.stage

    def __exit__(self, *_: object) -> None:
        self.stage.close()
        self.thread.join(15)
        assert not self.thread.is_alive()


def test_the_generator_sends_the_tasks_before_it_finishes_the_detection() -> None:
    with tidegate.EmbeddedBroker(topics={"detections": 1, "tasks": 3, "dead": 1}) as broker:
        servers = broker.bootstrap_servers
        produce(servers, "detections", [detection(1), b'{"no":"camera"}', b"not json", json.dumps(DETECTION).encode()])
        with Threaded(TaskGenerator(servers, "g", "detections", "tasks", dead_letter_topic="dead")) as generator:
            until(lambda: generator.stats()["tasks_sent"] == 3)
            until(lambda: generator.stats()["dead_lettered"] == 2)
        tasks = [record.json() for record in read_all(servers, "tasks", 3)]
        assert {item["detectionId"] for item in tasks} == {str(uuid.UUID(int=1)), DETECTION["messageId"]}
        assert committed(servers, "g", "detections") == {0: 4}


def test_a_detection_whose_tasks_cannot_be_sent_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    with tidegate.EmbeddedBroker(topics={"detections": 1, "tasks": 1}) as broker:
        servers = broker.bootstrap_servers
        produce(servers, "detections", [detection(1), detection(2)])
        with Threaded(TaskGenerator(servers, "g", "detections", "tasks")) as generator:

            def refuse(_messages: Any) -> None:
                raise NotDeliveredError("the topic is read-only {} %s")

            monkeypatch.setattr(generator._output, "send_all", refuse)
            until(lambda: generator.stats()["retried"] >= 2)
        assert generator.stats()["handled"] == 0
        # The start position is committed at assignment; nothing beyond it.
        assert committed(servers, "g", "detections") == {0: 0}


class ScriptedModel:
    """Fails a task's first calls as told, and remembers who was in flight together.

    The first calls wait until `together` of them are in flight.
    """

    def __init__(self, failures: dict[int, int] | None = None, latency_s: float = 0.02, together: int = 1) -> None:
        self.failures = Counter(failures or {})
        self.latency_s = latency_s
        self.together = together
        self.met = asyncio.Event()
        self.running: Counter[Any] = Counter()
        self.most_at_once = 0
        self.most_of_a_camera = 0
        self.order: list[tuple[Any, int]] = []

    async def assess(self, item: dict[str, Any]) -> messages.Assessment:
        camera = item["cameraId"]
        self.running[camera] += 1
        self.most_at_once = max(self.most_at_once, self.running.total())
        self.most_of_a_camera = max(self.most_of_a_camera, self.running[camera])
        if self.most_at_once >= self.together:
            self.met.set()
        try:
            await asyncio.wait_for(self.met.wait(), 30)
            await asyncio.sleep(self.latency_s)
        finally:
            self.running[camera] -= 1
        if self.failures[item["n"]] > 0:
            self.failures[item["n"]] -= 1
            raise ModelError("overloaded {} %s")
        self.order.append((camera, item["n"]))
        return {"level": "low", "score": 0.1, "explanation": f"{item['n']}"}


def test_the_scheduler_asks_many_at_once_and_each_camera_in_order() -> None:
    with tidegate.EmbeddedBroker(topics={"tasks": 3, "results": 3}) as broker:
        servers = broker.bootstrap_servers
        values = [task(n, n % 10) for n in range(200)]
        produce(servers, "tasks", values, keys=[str(n % 10).encode() for n in range(200)])
        model = ScriptedModel(failures={5: 1, 17: 2}, together=8)
        # A window for all of them: a small one could be full of the tasks of fewer than eight cameras.
        with Threaded(Scheduler(servers, "g", "tasks", "results", model, concurrency=8, window=200)) as scheduler:
            until(lambda: scheduler.stats()["handled"] == 200, timeout=60)
            assert scheduler.stats()["in_hand"] == 0
        assert model.most_at_once == 8
        assert model.most_of_a_camera == 1
        for camera in range(10):
            assert [n for c, n in model.order if c == camera] == list(range(camera, 200, 10))
        stats = scheduler.stats()
        assert (stats["model_calls"], stats["model_failures"], stats["retried"], stats["results_failed"]) == (203, 3, 3, 0)
        results = [record.json() for record in read_all(servers, "results", 200)]
        assert Counter(item["taskId"] for item in results) == Counter(f"task-{n}" for n in range(200))
        assert sum(committed(servers, "g", "tasks", 3).values()) == 200


def test_a_task_the_model_never_answers_is_reported_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.pipeline.scheduler._FIRST_BACKOFF_S", 0.001)
    with tidegate.EmbeddedBroker(topics={"tasks": 1, "results": 1, "dead": 1}) as broker:
        servers = broker.bootstrap_servers
        produce(servers, "tasks", [task(0), b'{"cameraId":1}', None, task(1)])
        model = ScriptedModel(failures={0: 99})
        scheduler = Scheduler(servers, "g", "tasks", "results", model, concurrency=2, model_retries=2, dead_letter_topic="dead")
        with Threaded(scheduler):
            until(lambda: scheduler.stats()["handled"] == 2 and scheduler.stats()["dead_lettered"] == 2)
        results = {item["taskId"]: item for item in (record.json() for record in read_all(servers, "results", 2))}
        assert results["task-0"]["status"] == "failed"
        assert "overloaded {} %s" in results["task-0"]["error"]
        assert results["task-1"]["status"] == "assessed"
        assert committed(servers, "g", "tasks") == {0: 4}


def test_a_model_whose_answer_is_not_json_is_a_failing_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.pipeline.scheduler._FIRST_BACKOFF_S", 0.001)

    class Odd:
        async def assess(self, _task: dict[str, Any]) -> Any:
            return {"level": object()}

    with tidegate.EmbeddedBroker(topics={"tasks": 1, "results": 1}) as broker:
        servers = broker.bootstrap_servers
        produce(servers, "tasks", [task(0)])
        with Threaded(Scheduler(servers, "g", "tasks", "results", Odd(), model_retries=1)) as scheduler:
            until(lambda: scheduler.stats()["handled"] == 1)
        assert scheduler.stats()["results_failed"] == 1


def test_calls_in_flight_at_stop_are_left_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.pipeline.scheduler.GRACE_S", 0.2)
    with tidegate.EmbeddedBroker(topics={"tasks": 1, "results": 1}) as broker:
        servers = broker.bootstrap_servers
        produce(servers, "tasks", [task(n, n) for n in range(20)])
        model = ScriptedModel(latency_s=3600)
        with Threaded(Scheduler(servers, "g", "tasks", "results", model, concurrency=5, config=SHORT_SESSION)) as scheduler:
            until(lambda: model.most_at_once == 5)
            started = time.monotonic()
            scheduler.stop()
        assert time.monotonic() - started < 8
        assert committed(servers, "g", "tasks") == {0: 0}
        again = ScriptedModel(latency_s=0)
        with Threaded(Scheduler(servers, "g", "tasks", "results", again, config=SHORT_SESSION)) as scheduler:
            until(lambda: scheduler.stats()["handled"] == 20)


def test_the_aggregator_waits_for_its_store_and_counts_doubles() -> None:
    class Stubborn(MemoryStore):
        refusals = 3

        def add(self, result: dict[str, Any]) -> bool:
            if self.refusals:
                self.refusals -= 1
                raise ConnectionError("redis is away {} %s")
            return super().add(result)

    with tidegate.EmbeddedBroker(topics={"results": 1, "dead": 1}) as broker:
        servers = broker.bootstrap_servers
        one, two = b'{"messageId":"1","cameraId":1}', b'{"messageId":"2","cameraId":1}'
        produce(servers, "results", [one, two, one, b"{}", b"7", one])
        store = Stubborn()
        with Threaded(Aggregator(servers, "g", "results", store, dead_letter_topic="dead")) as aggregator:
            until(lambda: aggregator.stats()["doubled"] == 2 and aggregator.stats()["dead_lettered"] == 2)
        assert store.counts() == {"results": 2, "doubled": 2}
        assert committed(servers, "g", "results") == {0: 6}


def test_the_confirmed_sender_says_what_was_not_confirmed() -> None:
    sender = ConfirmedSender("127.0.0.1:1", "t", {"delivery.timeout.ms": 100})
    with pytest.raises(NotDeliveredError):
        sender.send_all([{"cameraId": 1}, {"cameraId": 2}])
    with pytest.raises(NotDeliveredError):
        asyncio.run(sender.send({"cameraId": 1}))
    with pytest.raises(ValueError, match="cameraId"):
        sender.send_all([{"camera": 1}])
    sender.close(timeout=0.5)
    sender.close(timeout=0.5)
    with pytest.raises(NotDeliveredError):
        sender.send_all([{"cameraId": 1}])


# -- all of it -----------------------------------------------------------------------------------------------------------


def test_end_to_end_accounts_for_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--duration", "2", "--rate", "100", "--latency-ms", "20", "--failure-rate", "0.05", "--seed", "1"]
    assert cli.main(["pipeline", "--mode", "e2e", *settings]) == 0
    table = dict(line.rsplit(None, 1) for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
    found = {name.strip(): value for name, value in table.items()}
    assert int(found["sent"]) == 200
    assert int(found["results"]) == int(found["tasks"]) >= 200
    assert (found["lost"], found["doubled"]) == ("0", "0")


def test_a_lost_record_is_an_exit_status_of_1() -> None:
    account = e2e.Account()
    account.note_sent(DETECTION)
    assert account.missing() == 2
    (first, _) = messages.tasks_of(DETECTION)
    account.note_result(messages.failed_result(first, "x") | {"run": "r1"}, True, "r1")
    account.note_result(messages.failed_result(first, "x") | {"run": "r1"}, False, "r1")
    account.note_result({"messageId": "?", "run": "another"}, True, "r1")
    assert (account.missing(), account.doubled, account.foreign) == (1, 1, 1)
    summary = e2e.Summary(1, 2, 1, account.missing(), 1, 0, 0, 1.0, 2.0, None, 3.0)
    assert summary.exit_status == 1
    assert dict(summary.rows())["lost"] == "1"
    assert e2e.Summary(1, 2, 2, 0, 0, 0, 0, 1.0, 2.0, 5 << 20, 3.0).exit_status == 0
    assert e2e.Summary(0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, None, 3.0).exit_status == 1


def command(name: str, servers: str, *arguments: str) -> subprocess.Popen[str]:
    module = f"tidegate.pipeline.{name}"
    short = ["--session-timeout-ms", "6000", "--bootstrap-servers", servers]
    return subprocess.Popen(
        [sys.executable, "-m", module, *short, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def end_all(processes: list[subprocess.Popen[str]]) -> list[str]:
    """SIGTERM, and what each wrote."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    texts = []
    for process in processes:
        try:
            texts.append(process.communicate(timeout=30)[1])
        except subprocess.TimeoutExpired:
            process.kill()
            texts.append(process.communicate()[1])
    return texts


def check_commands(servers: str, *aggregator_arguments: str) -> list[str]:
    produce(servers, messages.DETECTION_RESULTS, [detection(n, n % 5) for n in range(50)])
    processes = [
        command("task_generator", servers),
        command("scheduler", servers, "--latency-ms", "10", "--failure-rate", "0.1", "--seed", "1"),
        command("aggregator", servers, *aggregator_arguments),
    ]
    try:
        read_all(servers, messages.RISK_ASSESSMENT_RESULTS, 50)
        until(lambda: sum(committed(servers, "aggregator", messages.RISK_ASSESSMENT_RESULTS, 3).values()) == 50, timeout=60)
    finally:
        texts = end_all(processes)
    assert [process.returncode for process in processes] == [0, 0, 0], texts
    return texts


def test_the_three_commands_do_it_together_and_end_by_sigterm() -> None:
    with tidegate.EmbeddedBroker(topics=dict.fromkeys(messages.TOPICS, 3)) as broker:
        texts = check_commands(broker.bootstrap_servers)
    assert "'results': 50" in texts[2]


@pytest.mark.kafka
def test_the_three_commands_on_a_real_kafka_into_a_real_redis(kafka: Any, redis_url: str) -> None:
    assert cli.main(["init-topics", "--bootstrap-servers", kafka.bootstrap_servers, "--partitions", "3"]) == 0
    check_commands(kafka.bootstrap_servers, "--store", "redis", "--redis-url", redis_url)
    store = RedisStore(redis_url)
    assert store.counts() == {"results": 50, "doubled": 0}
    store.close()


@pytest.mark.kafka
def test_end_to_end_on_a_real_kafka(kafka: Any, fresh_name: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic-prefix", fresh_name("e2e") + "-"]
    assert cli.main(["pipeline", "--duration", "4", "--rate", "100", "--latency-ms", "50", *arguments]) == 0
    print(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["task_generator", "scheduler", "aggregator"])
def test_a_command_with_a_wrong_property_says_so(name: str, tmp_path: Path) -> None:
    with command(name, "127.0.0.1:1", "--property", "sesion.timeout.ms=1") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "session.timeout.ms" in errors
    assert "Traceback" not in errors
