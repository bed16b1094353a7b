"""`tidegate-task-generator`: turns each detection result into the questions the model is asked.

One record at a time, in the thread that runs `start()`: the tasks of a detection result are confirmed by the broker before
the detection result is finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.base_consumer import BaseKafkaConsumer
from tidegate.pipeline import stage
from tidegate.pipeline.messages import ASSESSMENT_TASKS, DETECTION_RESULTS, tasks_of

__all__ = ["GROUP", "TaskGenerator", "main"]

GROUP = "task-generator"
"""The consumer group unless told otherwise."""


class TaskGenerator(BaseKafkaConsumer):
    """Reads `input_topic`, writes `output_topic`; arguments, threads and errors as in `BaseKafkaConsumer`.

    Output the broker does not take is tried again until it does or `stop()` comes. A record that is no detection result
    goes to `dead_letter_topic`, or is counted and skipped without one.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str = GROUP,
        input_topic: str = DETECTION_RESULTS,
        output_topic: str = ASSESSMENT_TASKS,
        *,
        auto_offset_reset: str = "earliest",
        dead_letter_topic: str | None = None,
        config: Mapping[str, str | int | float | bool] | None = None,
        producer_config: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        super().__init__(
            bootstrap_servers,
            group_id,
            [input_topic],
            self._generate,
            auto_offset_reset=auto_offset_reset,
            retries=None,
            give_up_on=(ValueError,),
            dead_letter_topic=dead_letter_topic,
            config=config,
        )
        self._output = stage.ConfirmedSender(bootstrap_servers, output_topic, producer_config)
        self.tasks_sent = 0

    def _generate(self, detection: dict[str, Any]) -> None:
        tasks = tasks_of(detection)
        self._output.send_all(tasks)
        self.tasks_sent += len(tasks)

    def close(self, timeout: float = 10.0) -> None:
        """As in `BaseKafkaConsumer`; the producer is closed as well."""
        super().close(timeout)
        self._output.close()

    def stats(self) -> dict[str, Any]:
        """As in `BaseKafkaConsumer`, with `tasks_sent`: tasks the broker has confirmed."""
        return {**super().stats(), "tasks_sent": self.tasks_sent}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: runs until SIGTERM or Ctrl-C. Returns the exit status."""
    parser = stage.stage_parser(
        "tidegate-task-generator", "Turn detection results into assessment tasks.", GROUP, DETECTION_RESULTS, ASSESSMENT_TASKS
    )
    options = parser.parse_args(arguments)
    return stage.run_command(
        lambda: TaskGenerator(
            options.bootstrap_servers,
            options.group_id,
            options.input_topic,
            options.output_topic,
            auto_offset_reset=options.auto_offset_reset,
            dead_letter_topic=options.dead_letter_topic,
            config=stage.consumer_config(options),
        ),
        parser.prog,
        options.log_level,
    )


if __name__ == "__main__":
    raise SystemExit(main())
