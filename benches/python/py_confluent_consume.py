"""confluent-kafka-python's batch call, `consume(n)`.

`loop.n` is n, `loop.touch` what is done with the messages: `count` (len of the list, the cheapest a program can do), `each` (every
message's offset and the length of its value, in a Python loop) or `read` (its key, too). `loop.module` is who brings the API:
confluent_kafka, or tidegate.confluent.
"""

from __future__ import annotations

import importlib

from common import Stopwatch, arguments, steady


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    n = int(run.loop.get("n", "1000"))
    timeout = float(run.loop.get("timeout", "0.1"))
    touch = run.loop.get("touch", "count")
    each, read = touch != "count", touch == "read"
    module = importlib.import_module(run.loop.get("module", "confluent_kafka"))
    consumer = module.Consumer(run.config)
    consumer.subscribe([run.topic])
    steady()
    watch = Stopwatch()
    records = size_bytes = offsets = 0
    while records < run.count:
        messages = consumer.consume(n, timeout)
        if not messages:
            watch.nothing(records)
            continue
        if records == 0:
            watch.start()
        if each:
            for message in messages:
                if message.error() is None:
                    offsets += message.offset()
                    size_bytes += len(message.value())
                    records += 1
                    if read:
                        message.key()
        else:
            records += len(messages)
    watch.report(records, size_bytes, offset_sum=offsets, librdkafka=module.libversion()[0])
    consumer.close()


main()
