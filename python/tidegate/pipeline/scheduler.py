"""`tidegate-scheduler`: puts assessment tasks to a language model, many at a time, one after the other for each camera.

Two threads. The one that runs `start()` leases records while fewer than `window` are in hand. The other runs an event loop:
each camera with work has one coroutine that takes its tasks in order; at most `concurrency` of them wait for the model at
once. A task is finished, in whatever order, when the broker has confirmed its result; the engine commits up to the first
unfinished record. What is in hand when the process dies is delivered again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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

_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 10.0
_ROOM_WAIT_S = 0.2


@dataclass
class _Item:
    """One task in hand."""

    batch: Any
    row: int
    task: dict[str, Any]


class Scheduler(BaseKafkaConsumer):
    """Reads `input_topic`, asks `model`, writes `output_topic`; the other arguments and the errors as in `BaseKafkaConsumer`.

    Args:
        model: answers the tasks; see `ModelClient`.
        concurrency: most calls of the model at once.
        window: most tasks in hand at once, waiting ones included; four times `concurrency` unless given.
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
        super().__init__(
            bootstrap_servers,
            group_id,
            [input_topic],
            self._in_the_loop,
            auto_offset_reset=auto_offset_reset,
            workers=concurrency,
            dead_letter_topic=dead_letter_topic,
            config=config,
        )
        self._window = 4 * concurrency if window is None else max(window, 1)
        self._model_retries = model_retries
        self._call_timeout_s = call_timeout_s
        self._output = stage.ConfirmedSender(bootstrap_servers, output_topic, producer_config)
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._calls = asyncio.Semaphore(concurrency)
        self._cameras: dict[bytes, deque[_Item]] = {}
        self._running_cameras: set[asyncio.Task[None]] = set()
        # Leased by the lease thread, settled by the event loop: each counts up its own, the difference is in hand.
        self._leased = 0
        self._settled = 0
        self._room = threading.Event()
        self.model_calls = 0
        self.model_failures = 0
        self.results_failed = 0

    def stats(self) -> dict[str, Any]:
        """As in `BaseKafkaConsumer`, with `in_hand`, `model_calls`, `model_failures` (calls that failed) and
        `results_failed` (results that say so)."""
        return {
            **super().stats(),
            "in_hand": self._leased - self._settled,
            "model_calls": self.model_calls,
            "model_failures": self.model_failures,
            "results_failed": self.results_failed,
        }

    def close(self, timeout: float = 10.0) -> None:
        """As in `BaseKafkaConsumer`; the producer is closed as well."""
        super().close(timeout)
        self._output.close()

    # -- in the thread of start() ----------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever, name="tidegate-scheduler", daemon=True)
        self._thread.start()

    def _lease(self, timeout: float) -> Any:
        self._room.clear()
        room = self._window - (self._leased - self._settled)
        if room <= 0:
            self._room.wait(min(timeout, _ROOM_WAIT_S))
            return None
        return self._consumer.lease_batch(timeout=timeout, max_records=room)

    def _handle_batch(self, batch: Any) -> None:
        self._counters.received += len(batch)
        for row, record in enumerate(batch):
            if self._stopping:
                return
            value = record.value
            try:
                task = loads(value)
                camera = camera_key(task)
                if not isinstance(task.get("messageId"), str):
                    raise ValueError("a task has a messageId, a text")
            except (ValueError, TypeError, RecursionError) as error:
                self._poison(batch, row, value, error)
                continue
            self._leased += 1
            self._loop.call_soon_threadsafe(self._accept, camera, _Item(batch, row, task))

    def _wind_down(self, timeout: float) -> None:
        thread = self._thread
        if thread is None:
            self._loop.close()
            return
        grace = min(GRACE_S, timeout)
        if self._exiting:
            grace = min(grace, 1.0)
        with contextlib.suppress(RuntimeError):  # a second close(): the loop is closed
            ending = asyncio.run_coroutine_threadsafe(self._end_cameras(grace), self._loop)
            with contextlib.suppress(Exception):
                ending.result(grace + 2.0)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(2.0)
            if not thread.is_alive():
                self._loop.close()

    # -- on the event loop -----------------------------------------------------------------------------------------------

    def _in_the_loop(self, _task: dict[str, Any]) -> None:
        """Stands for the handler: the coroutines below do its work."""

    def _accept(self, camera: bytes, item: _Item) -> None:
        waiting = self._cameras.get(camera)
        if waiting is not None:
            waiting.append(item)
            return
        self._cameras[camera] = deque([item])
        running = self._loop.create_task(self._serve_camera(camera))
        self._running_cameras.add(running)
        running.add_done_callback(self._running_cameras.discard)

    async def _serve_camera(self, camera: bytes) -> None:
        """Take one camera's tasks in order until there are none; at `stop()` leave the rest unfinished."""
        waiting = self._cameras[camera]
        try:
            while waiting and not self._stopping:
                await self._serve(waiting.popleft())
                self._settled += 1
                self._room.set()
        finally:
            del self._cameras[camera]

    async def _serve(self, item: _Item) -> None:
        if item.batch.is_stale(item.row):
            self._skip_stale(item.batch, item.row)
            return
        result = await self._ask(item)
        if result is not None and await self._deliver(item, result):
            self._counters.handled += 1
            self._acknowledge(item.batch, item.row)

    async def _ask(self, item: _Item) -> RiskResult | None:
        """The result to send, or None when the partition was revoked meanwhile."""
        error: Exception | None = None
        for attempt in range(self._model_retries + 1):
            if attempt:
                await _back_off(attempt)
                if item.batch.is_stale(item.row):
                    self._skip_stale(item.batch, item.row)
                    return None
                self._counters.retried += 1
            async with self._calls:
                self.model_calls += 1
                try:
                    assessment = await asyncio.wait_for(self._model.assess(item.task), self._call_timeout_s)
                    result = result_of(item.task, assessment)
                    dumps(result)  # an answer that is not JSON is a failed call
                    return result
                except Exception as raised:
                    self.model_failures += 1
                    error = raised
        self.results_failed += 1
        text = describe(error) if error is not None else "not asked"
        _log.warning(f"task {item.task['messageId']} is reported as failed after {self._model_retries + 1} calls: {text}")
        return failed_result(item.task, text)

    async def _deliver(self, item: _Item, result: RiskResult) -> bool:
        attempt = 0
        while not item.batch.is_stale(item.row):
            try:
                await self._output.send(result)
            except stage.NotDeliveredError as error:
                attempt += 1
                if attempt == 1:
                    _log.warning(f"result {result['messageId']} is not confirmed and sent again: {describe(error)}")
                await _back_off(attempt)
            else:
                return True
        self._skip_stale(item.batch, item.row)
        return False

    async def _end_cameras(self, grace_s: float) -> None:
        running = set(self._running_cameras)
        if not running:
            return
        _, unfinished = await asyncio.wait(running, timeout=grace_s)
        for task in unfinished:
            task.cancel()
        if unfinished:
            _log.info(f"{len(unfinished)} calls in flight are left unfinished and come again")
            await asyncio.wait(unfinished, timeout=1.0)


async def _back_off(attempt: int) -> None:
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
