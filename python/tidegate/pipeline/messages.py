"""The records of the pipeline: topics, shapes and ids.

Pure functions, any thread. Ids of tasks and results are derived (uuid5) from the id of what they answer: doing a record
again after a crash gives the same ids, and whoever receives both keeps one.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, TypedDict, TypeVar

__all__ = [
    "ASSESSMENT_TASKS",
    "DETECTION_RESULTS",
    "RISK_ASSESSMENT_RESULTS",
    "TOPICS",
    "Assessment",
    "Detection",
    "DetectionResult",
    "RiskResult",
    "Task",
    "camera_key",
    "failed_result",
    "result_of",
    "tasks_of",
]

DETECTION_RESULTS: Final = "detection-results"
ASSESSMENT_TASKS: Final = "assessment-tasks"
RISK_ASSESSMENT_RESULTS: Final = "risk-assessment-results"

TOPICS: Final = (DETECTION_RESULTS, ASSESSMENT_TASKS, RISK_ASSESSMENT_RESULTS)
"""In the order a record passes them."""

_Message = TypeVar("_Message")

_NAMESPACE: Final = uuid.UUID("6c0a8c53-3b46-5b7e-9d0c-7f6b3f0f7a10")

RISKY_CLASSES: Final = {
    "person": "person on the carriageway",
    "bicycle": "bicycle in motor traffic",
    "animal": "animal on the carriageway",
    "debris": "object on the carriageway",
    "wrong-way": "vehicle against the direction of travel",
}
"""Which detected classes need an assessment, and the risk each stands for."""

GENERAL_RISK: Final = "general situation"
"""The risk of the one task for a detection result without any risky object."""


class Detection(TypedDict, total=False):
    """One object in a frame. `label` is its class, `confidence` 0 to 1, `bbox` x, y, width, height in pixels."""

    label: str
    confidence: float
    bbox: list[int]


class DetectionResult(TypedDict, total=False):
    """What a camera's detector sends (topic `detection-results`). `timestampMs` is when the frame was taken."""

    messageId: str
    cameraId: int | str
    timestampMs: int
    detections: list[Detection]


class Task(TypedDict, total=False):
    """One question for the model (topic `assessment-tasks`). `detectionId` is the detection result's `messageId`."""

    messageId: str
    detectionId: str
    cameraId: int | str
    timestampMs: int
    risk: str
    detections: list[Detection]
    run: str


class Assessment(TypedDict):
    """What a model answers: `level` is `low`, `medium` or `high`, `score` 0 to 1."""

    level: str
    score: float
    explanation: str


class RiskResult(TypedDict, total=False):
    """The answer (topic `risk-assessment-results`). `status` is `assessed`, or `failed` with `error` and no `assessment`."""

    messageId: str
    taskId: str
    detectionId: str
    cameraId: int | str
    timestampMs: int
    risk: str
    status: str
    assessment: Assessment
    error: str
    run: str


def camera_key(message: Any) -> bytes:
    """The record key: the camera's id as text, so that one camera's records stay in one partition and in order.

    Raises:
        ValueError: `message` is not an object with a `cameraId`.
    """
    if not isinstance(message, dict) or "cameraId" not in message:
        raise ValueError("a record of the pipeline is a JSON object with a cameraId")
    return str(message["cameraId"]).encode()


def tasks_of(detection: Any) -> list[Task]:
    """The tasks of one detection result: one per kind of risk found in it, or one for the situation as a whole.

    Deterministic: the same detection result gives the same tasks with the same ids in the same order.

    Raises:
        ValueError: `detection` has no `messageId` or no `cameraId`.
    """
    camera_key(detection)
    detection_id = detection.get("messageId")
    if not isinstance(detection_id, str) or not detection_id:
        raise ValueError("a detection result has a messageId, a text")
    found = [item for item in detection.get("detections") or [] if isinstance(item, dict)]
    by_risk: dict[str, list[Detection]] = {}
    for item in found:
        risk = RISKY_CLASSES.get(str(item.get("label")))
        if risk is not None:
            by_risk.setdefault(risk, []).append(item)  # type: ignore[arg-type]
    if not by_risk:
        by_risk = {GENERAL_RISK: found}  # type: ignore[dict-item]
    return [_task(detection, detection_id, risk, items) for risk, items in sorted(by_risk.items())]


def _task(detection: dict[str, Any], detection_id: str, risk: str, items: list[Detection]) -> Task:
    task = Task(
        messageId=_derived(detection_id, risk),
        detectionId=detection_id,
        cameraId=detection["cameraId"],
        risk=risk,
        detections=items,
    )
    return _carry(detection, task)


def result_of(task: Any, assessment: Assessment) -> RiskResult:
    """The result that carries a model's answer to `task`."""
    result = _result(task, "assessed")
    result["assessment"] = assessment
    return result


def failed_result(task: Any, error: str) -> RiskResult:
    """The result of a task the model could not answer: it is reported, not lost."""
    result = _result(task, "failed")
    result["error"] = error
    return result


def _result(task: Any, status: str) -> RiskResult:
    task_id = str(task["messageId"])
    result = RiskResult(
        messageId=_derived(task_id, "result"),
        taskId=task_id,
        detectionId=str(task.get("detectionId", "")),
        cameraId=task["cameraId"],
        risk=str(task.get("risk", GENERAL_RISK)),
        status=status,
    )
    return _carry(task, result)


def _carry(source: dict[str, Any], target: _Message) -> _Message:
    """What every record of a run hands on: when the frame was taken, and which end-to-end run it belongs to."""
    fields: Any = target
    for name in ("timestampMs", "run"):
        if name in source:
            fields[name] = source[name]
    return target


def _derived(parent: str, part: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{parent}/{part}"))
