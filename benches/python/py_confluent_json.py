"""The loop BaseKafkaConsumer's predecessors run: confluent-kafka-python's `poll()`, `json.loads`, the handler.

`loop.json` picks the decoder: `json` (the standard library, the bar's baseline) or `orjson`.
"""

from __future__ import annotations

import json

from common import Stopwatch, arguments, steady
from confluent_kafka import Consumer, libversion


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    loads = json.loads
    if run.loop.get("json") == "orjson":
        import orjson

        loads = orjson.loads
    consumer = Consumer(run.config)
    consumer.subscribe([run.topic])
    records = cameras = 0

    def handler(message: dict) -> None:
        nonlocal records, cameras
        records += 1
        cameras += message["cameraId"]

    steady()
    watch = Stopwatch()
    size_bytes = 0
    while records < run.count:
        message = consumer.poll(1.0)
        if message is None:
            watch.nothing(records)
            continue
        if message.error():
            continue
        if records == 0:
            watch.start()
        value = message.value()
        size_bytes += len(value)
        handler(loads(value))
    watch.report(records, size_bytes, camera_sum=cameras, librdkafka=libversion()[0])
    consumer.close()


main()
