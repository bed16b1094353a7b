"""confluent-kafka-python record by record: `poll()`, the error checked.

`loop.touch` is what is done with a message besides: `count` (nothing), `each` (its offset and the length of its value) or `read`
(its key, too). `loop.module` is who brings the API: confluent_kafka, or tidegate.confluent.
"""

from __future__ import annotations

import importlib

from common import Stopwatch, arguments, steady


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    touch = run.loop.get("touch", "count")
    each, read = touch != "count", touch == "read"
    module = importlib.import_module(run.loop.get("module", "confluent_kafka"))
    consumer = module.Consumer(run.config)
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
        if read:
            message.key()
    watch.report(records, size_bytes, offset_sum=offsets, librdkafka=module.libversion()[0])
    consumer.close()


main()
