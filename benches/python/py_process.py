"""Tidegate's `process()`: a handler that does nothing but count, in order by key.

`loop.handler` is `function` (on threads) or `coroutine` (on an event loop); `loop.in_flight` the most at once; `loop.work_ms`
how long a coroutine sleeps.
"""

from __future__ import annotations

import asyncio
import time

from common import Stopwatch, arguments, steady

import tidegate


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    work_s = float(run.loop.get("work_ms", "0")) / 1000
    consumer = tidegate.Consumer(run.config, [run.topic])
    steady()
    watch = Stopwatch()

    def function(record: tidegate.Record) -> None:
        pass

    async def coroutine(record: tidegate.Record) -> None:
        if work_s:
            await asyncio.sleep(work_s)

    handler = coroutine if run.loop.get("handler") == "coroutine" else function
    processing = consumer.process(
        handler, max_in_flight=int(run.loop.get("in_flight", "16")), order=run.loop.get("order", "key"), max_queued=50_000
    )
    started = False
    while (records := processing.ledger()["done"]) < run.count:
        if records and not started:
            started = True
            watch.start()
        watch.nothing(records)
        time.sleep(0.001)
    watch.report(records, 0)
    processing.stop()
    consumer.close()


main()
