"""`tidegate-scheduler`: puts assessment tasks to a language model, many at a time, one after the other for each camera.

The handler is a coroutine on `process()`, which keeps the order of each camera (its id is the record's key), repeats calls that
fail, and bounds what is in hand. A task is finished, in whatever order, when the broker has confirmed its result; the engine
commits up to the first unfinished record. What is in hand when the process dies is delivered again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate import _exit
from tidegate._handlers import current_attempt
from tidegate._json import dumps, loads
from tidegate._logging import Logger, describe
from tidegate.base_consumer import BaseKafkaConsumer
from tidegate.pipeline import stage
from tidegate.pipeline.messages import ASSESSMENT_TASKS, RISK_ASSESSMENT_RESULTS, RiskResult, camera_key, failed_result, result_of
from tidegate.pipeline.model_client import ModelClient, SimulatedModel

__all__ = ["GROUP", "Scheduler", "main"]

_log = Logger("tidegate.pipeline.scheduler")

GROUP = "scheduler"
"""The consumer group unless told otherwise."""

GRACE_S = 3.0
"""Seconds the calls in flight get to finish at `stop()` before they are cancelled and left unfinished."""

_GRACE_AT_EXIT_S = 1.0
_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 10.0


class Scheduler(BaseKafkaConsumer):
    """Reads `input_topic`, asks `model`, writes `output_topic`; the other arguments and the errors as in `BaseKafkaConsumer`.

    Args:
        model: answers the tasks; see `ModelClient`.
        concurrency: most calls of the model at once.
        window: most tasks in hand at once, waiting ones included (about); four times `concurrency` unless given.
        model_retries: how often a failing call is repeated; then the result says `failed`, with the reason.
        call_timeout_s: a call that takes longer counts as failed.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str = GROUP,
        input_topic: str = ASSESSMENT_TASKS,
        output_topic: str = RISK_ASSESSMENT_RESULTS,
        model: ModelClient | None = None,
        *,
        concurrency: int = 100,
        window: int | None = None,
        model_retries: int = 5,
        call_timeout_s: float = 60.0,
        auto_offset_reset: str = "earliest",
        dead_letter_topic: str | None = None,
        config: Mapping[str, str | int | float | bool] | None = None,
        producer_config: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self._model: ModelClient = SimulatedModel() if model is None else model
        window = 4 * concurrency if window is None else window
        super().__init__(
            bootstrap_servers,
            group_id,
            [input_topic],
            self._assess,
            auto_offset_reset=auto_offset_reset,
            dead_letter_topic=dead_letter_topic,
            config=config,
            max_in_flight=concurrency,
            max_queued=max(window - concurrency, 1),
            max_attempts=model_retries + 1,
            backoff=_FIRST_BACKOFF_S,
            max_backoff=_LONGEST_BACKOFF_S,
        )
        self._model_retries = model_retries
        self._call_timeout_s = call_timeout_s
        self._output = stage.ConfirmedSender(bootstrap_servers, output_topic, producer_config)
        self.model_calls = 0
        self.model_failures = 0
        self.results_failed = 0

    def stats(self) -> dict[str, Any]:
        """As in `BaseKafkaConsumer`, with `in_hand`, `model_calls`, `model_failures` (calls that failed) and
        `results_failed` (results that say so)."""
        stats = super().stats()
        finished = sum(stats[name] for name in ("handled", "failed", "poison", "stale"))
        return {
            **stats,
            "in_hand": max(stats["received"] - finished, 0),
            "model_calls": self.model_calls,
            "model_failures": self.model_failures,
            "results_failed": self.results_failed,
        }

    def close(self, timeout: float = 10.0) -> None:
        """As in `BaseKafkaConsumer`; the producer is closed as well."""
        super().close(timeout)
        self._output.close()

    def _decode(self, value: Any) -> Any:
        task = loads(value)
        camera_key(task)
        if not isinstance(task.get("messageId"), str):
            raise ValueError("a task has a messageId, a text")
        return task

    def _drain_s(self) -> float:
        return min(GRACE_S, _GRACE_AT_EXIT_S, _exit.HANDLER_GRACE_S) if self._exiting else GRACE_S

    async def _assess(self, task: dict[str, Any]) -> None:
        """The handler: a failed call is a failed attempt, until the last, whose result says that it failed."""
        try:
            result = await self._ask(task)
        except Exception as error:
            self.model_failures += 1
            if current_attempt() <= self._model_retries:
                raise
            self.results_failed += 1
            text = describe(error)
            _log.warning(f"task {task['messageId']} is reported as failed after {current_attempt()} calls: {text}")
            result = failed_result(task, text)
        await self._deliver(result)

    async def _ask(self, task: dict[str, Any]) -> RiskResult:
        self.model_calls += 1
        assessment = await asyncio.wait_for(self._model.assess(task), self._call_timeout_s)
        result = result_of(task, assessment)
        dumps(result)  # an answer that is not JSON is a failed call
        return result

    async def _deliver(self, result: RiskResult) -> None:
        """Until the broker has it, or the handler is cancelled: asking the model again would cost more than waiting here."""
        attempt = 0
        while True:
            try:
                await self._output.send(result)
                return
            except stage.NotDeliveredError as error:
                attempt += 1
                if attempt == 1:
                    _log.warning(f"result {result['messageId']} is not confirmed and sent again: {describe(error)}")
                await asyncio.sleep(min(_FIRST_BACKOFF_S * 2 ** min(attempt - 1, 16), _LONGEST_BACKOFF_S))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: runs until SIGTERM or Ctrl-C. Returns the exit status."""
    parser = stage.stage_parser(
        "tidegate-scheduler",
        "Put assessment tasks to the (simulated) language model.",
        GROUP,
        ASSESSMENT_TASKS,
        RISK_ASSESSMENT_RESULTS,
    )
    parser.add_argument("--concurrency", type=int, default=100, help="most calls of the model at once")
    parser.add_argument("--latency-ms", type=float, default=200.0, help="mean latency of the simulated model")
    parser.add_argument("--latency-jitter", type=float, default=0.5, help="how far it strays, as a part of the mean")
    parser.add_argument("--failure-rate", type=float, default=0.0, help="part of the calls that fail, 0 to 1")
    parser.add_argument("--seed", type=int, default=None, help="makes latencies and failures repeatable")
    parser.add_argument("--model-retries", type=int, default=5, help="how often a failing call is repeated")
    options = parser.parse_args(arguments)
    try:
        model = SimulatedModel(options.latency_ms, options.latency_jitter, options.failure_rate, options.seed)
    except ValueError as error:
        parser.error(str(error))
    if options.concurrency < 1 or options.model_retries < 0:
        parser.error("--concurrency is at least 1, --model-retries at least 0")
    return stage.run_command(
        lambda: Scheduler(
            options.bootstrap_servers,
            options.group_id,
            options.input_topic,
            options.output_topic,
            model,
            concurrency=options.concurrency,
            model_retries=options.model_retries,
            auto_offset_reset=options.auto_offset_reset,
            dead_letter_topic=options.dead_letter_topic,
            config=stage.consumer_config(options),
        ),
        parser.prog,
        options.log_level,
    )


if __name__ == "__main__":
    raise SystemExit(main())
