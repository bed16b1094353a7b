"""pyrallel-consumer with an asynchronous worker that does nothing but count."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time

from pyrallel_consumer import ExecutionConfig, KafkaConfig, OrderingMode, ParallelConsumerConfig, PyrallelConsumer


async def main(servers: str, topic: str, count: int) -> None:
    """Consume the topic once."""
    logging.disable(logging.INFO)
    left, began, done = count, 0.0, asyncio.Event()

    async def worker(_item: object) -> None:
        nonlocal left, began
        if left == count:
            began = time.monotonic()
        left -= 1
        if left == 0:
            done.set()

    parallel = ParallelConsumerConfig(ordering_mode=OrderingMode.KEY_HASH, execution=ExecutionConfig(max_in_flight=1000))
    config = KafkaConfig(
        BOOTSTRAP_SERVERS=[servers], CONSUMER_GROUP=f"pyrallel-{os.getpid()}", dlq_enabled=False, parallel_consumer=parallel
    )
    consumer = PyrallelConsumer(config, worker, topic)
    await consumer.start()
    await asyncio.wait_for(done.wait(), 600)
    print(json.dumps({"records": count, "seconds": time.monotonic() - began}), flush=True)
    await consumer.stop()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
