"""`tidegate-aggregator`: keeps every risk assessment result once.

One record at a time, in the thread that runs `start()`: a result is finished when the store has it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidegate.base_consumer import BaseKafkaConsumer
from tidegate.pipeline import stage
from tidegate.pipeline.messages import RISK_ASSESSMENT_RESULTS
from tidegate.pipeline.store import MemoryStore, RedisStore, Store

__all__ = ["GROUP", "Aggregator", "main"]

GROUP = "aggregator"
"""The consumer group unless told otherwise."""


class Aggregator(BaseKafkaConsumer):
    """Reads `input_topic` into `store`; arguments, threads and errors as in `BaseKafkaConsumer`.

    A store that fails is tried again until it takes the result or `stop()` comes. A record without a `messageId` goes to
    `dead_letter_topic`, or is counted and skipped without one. `on_result(result, first)` is called for every result
    the store has answered for; `first` is False for one that came before.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str = GROUP,
        input_topic: str = RISK_ASSESSMENT_RESULTS,
        store: Store | None = None,
        *,
        auto_offset_reset: str = "earliest",
        dead_letter_topic: str | None = None,
        config: Mapping[str, str | int | float | bool] | None = None,
        on_result: Callable[[dict[str, Any], bool], None] | None = None,
    ) -> None:
        super().__init__(
            bootstrap_servers,
            group_id,
            [input_topic],
            self._keep,
            auto_offset_reset=auto_offset_reset,
            retries=None,
            give_up_on=(ValueError,),
            dead_letter_topic=dead_letter_topic,
            config=config,
        )
        self.store: Store = MemoryStore() if store is None else store
        self._on_result = on_result
        self.results = 0
        self.doubled = 0

    def _keep(self, result: Any) -> None:
        if not isinstance(result, dict) or not isinstance(result.get("messageId"), str):
            raise ValueError("a risk assessment result is a JSON object with a messageId, a text")
        first = self.store.add(result)
        if first:
            self.results += 1
        else:
            self.doubled += 1
        if self._on_result is not None:
            self._on_result(result, first)

    def close(self, timeout: float = 10.0) -> None:
        """As in `BaseKafkaConsumer`; the store is closed as well."""
        super().close(timeout)
        self.store.close()

    def stats(self) -> dict[str, Any]:
        """As in `BaseKafkaConsumer`, with `results` kept and `doubled` recognised by this process."""
        return {**super().stats(), "results": self.results, "doubled": self.doubled}


def make_store(options: argparse.Namespace) -> Store:
    """The store that the options ask for.

    Raises:
        SystemExit: Redis is asked for and redis-py is not installed.
    """
    if options.store == "memory":
        return MemoryStore()
    try:
        return RedisStore(options.redis_url, options.redis_prefix, options.expire_s)
    except ModuleNotFoundError:
        raise SystemExit("--store redis needs redis-py: pip install redis") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: runs until SIGTERM or Ctrl-C. Returns the exit status."""
    parser = stage.stage_parser(
        "tidegate-aggregator", "Keep every risk assessment result once.", GROUP, RISK_ASSESSMENT_RESULTS, None
    )
    parser.add_argument("--store", choices=("memory", "redis"), default="memory", help="where results are kept")
    parser.add_argument("--redis-url", default="redis://localhost:6379/0", help="the Redis server")
    parser.add_argument("--redis-prefix", default="tidegate", help="begins every key")
    parser.add_argument("--expire-s", type=int, default=None, help="results vanish after so many seconds")
    options = parser.parse_args(arguments)
    return stage.run_command(
        lambda: Aggregator(
            options.bootstrap_servers,
            options.group_id,
            options.input_topic,
            make_store(options),
            auto_offset_reset=options.auto_offset_reset,
            dead_letter_topic=options.dead_letter_topic,
            config=stage.consumer_config(options),
        ),
        parser.prog,
        options.log_level,
    )


if __name__ == "__main__":
    raise SystemExit(main())
