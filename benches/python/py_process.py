"""Tidegate's `process()`: a handler that does nothing but count, in order by key.

`loop.handler` is `function` (on threads) or `coroutine` (on an event loop); `loop.in_flight` the most at once; `loop.work_ms`
how long a coroutine sleeps. With `loop.outputs` the handler makes a record of each: `producer` sends it at once with a producer of
its own, `transactions` returns it to be sent exactly once.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from common import Stopwatch, arguments, steady

import tidegate


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    work_s = float(run.loop.get("work_ms", "0")) / 1000
    consumer = tidegate.Consumer(run.config, [run.topic])
    outputs = run.loop.get("outputs")
    target = f"{run.topic}-outputs-{os.getpid()}"
    if outputs is not None:
        with tidegate.Admin({"bootstrap.servers": run.bootstrap}) as admin:
            admin.create_topics({target: 12})
    producer = tidegate.Producer({"bootstrap.servers": run.bootstrap, "linger.ms": "5"}) if outputs == "producer" else None
    options: dict[str, Any] = {}
    if outputs == "transactions":
        options = {"produce_to": target, "transactional_id": f"bench-{os.getpid()}"}
    steady()
    watch = Stopwatch()

    def function(record: tidegate.Record) -> None:
        pass

    def make(record: tidegate.Record) -> bytes | None:
        return record.value

    def send(record: tidegate.Record) -> None:
        if producer is not None:
            producer.send(target, record.value, key=record.key)

    async def coroutine(record: tidegate.Record) -> None:
        if work_s:
            await asyncio.sleep(work_s)

    handlers = {"coroutine": coroutine, "function": function, "producer": send, "transactions": make}
    handler = handlers[outputs or run.loop.get("handler", "function")]
    in_flight, order = int(run.loop.get("in_flight", "16")), run.loop.get("order", "key")
    processing = consumer.process(handler, max_in_flight=in_flight, order=order, max_queued=50_000, **options)
    started = False
    while (records := processing.ledger()["done"]) < run.count:
        if records and not started:
            started = True
            watch.start()
        watch.nothing(records)
        time.sleep(0.001)
    if producer is not None:
        producer.flush(60)
    watch.report(records, 0)
    processing.stop()
    consumer.close()
    if outputs is not None:
        with tidegate.Admin({"bootstrap.servers": run.bootstrap}) as admin:
            admin.delete_topics([target])


main()
