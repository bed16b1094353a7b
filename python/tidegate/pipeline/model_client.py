"""The language model behind the scheduler: what the scheduler needs of one, and a stand-in that needs no network."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Protocol

from tidegate.pipeline.messages import GENERAL_RISK, Assessment

__all__ = ["ModelClient", "ModelError", "SimulatedModel"]


class ModelError(Exception):
    """A call that failed and may be repeated."""


class ModelClient(Protocol):
    """Answers tasks. Called on the scheduler's event loop, many calls at a time."""

    async def assess(self, task: dict[str, Any]) -> Assessment:
        """The assessment of one task.

        Any Exception counts as a failed call and is repeated as often as the scheduler's `retries` say. The call is
        cancelled when the scheduler stops before it has answered.
        """
        ...


class SimulatedModel:
    """Answers after a pause, fails now and then, and gives the same answer to the same task.

    Args:
        latency_ms: the mean pause.
        jitter: how far the pause strays from the mean, as a part of it: 0.5 means half to one and a half times.
        failure_rate: the part of calls that raise `ModelError`, 0 to 1.
        seed: makes pauses and failures repeatable.
    """

    def __init__(self, latency_ms: float = 200.0, jitter: float = 0.5, failure_rate: float = 0.0, seed: int | None = None) -> None:
        if latency_ms < 0 or not 0 <= jitter <= 1 or not 0 <= failure_rate <= 1:
            raise ValueError("latency_ms is 0 or more, jitter and failure_rate are between 0 and 1")
        self._latency_s = latency_ms / 1000
        self._jitter = jitter
        self._failure_rate = failure_rate
        self._random = random.Random(seed)
        self.calls = 0
        """Calls so far, failed ones included."""

    async def assess(self, task: dict[str, Any]) -> Assessment:
        """An answer after the pause.

        Raises:
            ModelError: in `failure_rate` of the calls.
        """
        self.calls += 1
        spread = self._random.uniform(1 - self._jitter, 1 + self._jitter)
        fails = self._random.random() < self._failure_rate
        await asyncio.sleep(self._latency_s * spread)
        if fails:
            raise ModelError("the simulated model is overloaded")
        return _answer(task)


def _answer(task: dict[str, Any]) -> Assessment:
    risk = str(task.get("risk", GENERAL_RISK))
    detections = task.get("detections") or []
    score = 0.1 if risk == GENERAL_RISK else max((float(item.get("confidence", 0.5)) for item in detections), default=0.5)
    level = "high" if score >= 0.8 else "medium" if score >= 0.4 else "low"
    return Assessment(level=level, score=round(score, 3), explanation=f"{risk}: {len(detections)} object(s)")
