"""confluent-kafka-python's poll() with a task for each message: what coroutines cost at least, without order, bounds or commits."""

from __future__ import annotations

import asyncio

from common import Run, Stopwatch, arguments, steady
from confluent_kafka import Consumer, Message

TURN = 1000


async def handle(_message: Message) -> None:
    """Nothing, as the handlers beside it."""


async def consume(run: Run) -> None:
    """Consume the topic once."""
    consumer = Consumer(run.config)
    consumer.subscribe([run.topic])
    steady()
    watch = Stopwatch()
    records = 0
    tasks: set[asyncio.Task[None]] = set()
    while records < run.count:
        message = consumer.poll(1.0)
        if message is None:
            watch.nothing(records)
            continue
        if message.error():
            continue
        if records == 0:
            watch.start()
        records += 1
        task = asyncio.create_task(handle(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if records % TURN == 0:
            await asyncio.sleep(0)
    while tasks:
        await asyncio.sleep(0)
    watch.report(records, 0)
    consumer.close()


asyncio.run(consume(arguments()))
