"""`tidegate pipeline --mode e2e` on a real Kafka: to its end, and ended by Ctrl-C; judged by what is in the topics."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable

import pytest

from harness.kafka import KafkaCluster
from harness.proc import Child
from tidegate.pipeline.messages import DETECTION_RESULTS, RISK_ASSESSMENT_RESULTS, failed_result, tasks_of


def pipeline(kafka: KafkaCluster, prefix: str, duration_s: float) -> Child:
    command = [sys.executable, "-m", "tidegate", "pipeline", "--mode", "e2e", "--duration", str(duration_s)]
    where = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic-prefix", prefix, "--partitions", "6", "--latency-ms", "100"]
    return Child([*command, *where], name="pipeline")


def table(lines: list[str]) -> dict[str, int]:
    """The whole numbers of the closing table."""
    rows = (re.search(r"(sent|tasks|results|lost|doubled)\W+(\d+)\W*$", line) for line in lines)
    return {row[1]: int(row[2]) for row in rows if row}


def check_topics(kafka: KafkaCluster, prefix: str, told: dict[str, int]) -> None:
    """Every detection in the topic has all its results in the topic, and the table says what is there."""
    detections = [json.loads(message.value()) for message in kafka.read_all(prefix + DETECTION_RESULTS)]
    expected = {failed_result(task, "")["messageId"] for detection in detections for task in tasks_of(detection)}
    results = [json.loads(message.value())["messageId"] for message in kafka.read_all(prefix + RISK_ASSESSMENT_RESULTS)]
    assert expected
    assert expected - set(results) == set()
    assert len(results) == len(expected), "a run in which nothing dies does nothing twice"
    assert told == {"sent": len(detections), "tasks": len(expected), "results": len(expected), "lost": 0, "doubled": 0}


@pytest.mark.slow
def test_the_whole_pipeline(kafka: KafkaCluster, fresh_name: Callable[[str], str], say: Callable[[str], None]) -> None:
    prefix = f"{fresh_name('e2e')}."
    with pipeline(kafka, prefix, 8) as child:
        assert child.wait(90) == 0, child.tail()
        told = table(child.wait_for_output_end())
    say(f"e2e, 8 s: {told}")
    check_topics(kafka, prefix, told)
    assert told["sent"] > 400


@pytest.mark.slow
def test_ctrl_c_loses_nothing(kafka: KafkaCluster, fresh_name: Callable[[str], str], say: Callable[[str], None]) -> None:
    """No more detections are sent, and what is under way comes to its end."""
    prefix = f"{fresh_name('e2e')}."
    with pipeline(kafka, prefix, 600) as child:
        results = prefix + RISK_ASSESSMENT_RESULTS
        kafka.await_state("results", lambda: results in kafka.admin.list_topics(timeout=5).topics, 60)
        kafka.await_state("results", lambda: sum(kafka.end_offsets(results).values()) > 100, 60)
        child.interrupt()
        assert child.wait(60) == 0, child.tail()
        told = table(child.wait_for_output_end())
    say(f"e2e, Ctrl-C: {told}")
    check_topics(kafka, prefix, told)
