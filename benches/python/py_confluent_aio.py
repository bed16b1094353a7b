"""The asyncio consumer: `await AIOConsumer.poll()`, one message after the other, each read.

`loop.module` is who brings the API: confluent_kafka, or tidegate.confluent.
"""

from __future__ import annotations

import asyncio
import importlib

from common import Run, Stopwatch, arguments, steady


async def consume(run: Run) -> None:
    """Consume so many records."""
    aio = importlib.import_module(run.loop.get("module", "confluent_kafka") + ".aio")
    consumer = aio.AIOConsumer(run.config)
    await consumer.subscribe([run.topic])
    steady()
    watch = Stopwatch()
    records = size_bytes = 0
    while records < run.count:
        message = await consumer.poll(timeout=1.0)
        if message is None:
            watch.nothing(records)
            continue
        if message.error():
            continue
        if records == 0:
            watch.start()
        records += 1
        message.key()
        message.offset()
        size_bytes += len(message.value())
    watch.report(records, size_bytes)
    await consumer.close()


asyncio.run(consume(arguments()))
