"""confluent-kafka-python record by record: `poll()`, the error checked.

`loop.touch` is what is done with a message besides: `count` (nothing) or `each` (its offset and the length of its value).
"""

from __future__ import annotations

from common import Stopwatch, arguments, steady
from confluent_kafka import Consumer, libversion


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    each = run.loop.get("touch", "count") == "each"
    consumer = Consumer(run.config)
    consumer.subscribe([run.topic])
    steady()
    watch = Stopwatch()
    records = size_bytes = offsets = 0
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
        if each:
            offsets += message.offset()
            size_bytes += len(message.value())
    watch.report(records, size_bytes, offset_sum=offsets, librdkafka=libversion()[0])
    consumer.close()


main()
