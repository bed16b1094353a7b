"""The confluent producer: `produce()` with a delivery callback for each record, or `produce_batch()` of `loop.batch` records.

`loop.module` is who brings the API: confluent_kafka, or tidegate.confluent.
"""

from __future__ import annotations

import importlib
import random
import sys

from common import Stopwatch, arguments, steady

DISTINCT_VALUES = 1000
VALUE_BYTES = 100
FLUSH_S = 300.0


def main() -> None:
    """Send so many records, and wait until all are delivered."""
    run = arguments()
    batch = int(run.loop.get("batch", "0"))
    module = importlib.import_module(run.loop.get("module", "confluent_kafka"))
    config = {name: value for name, value in run.config.items() if name != "group.id"}
    producer = module.Producer(config)
    source = random.Random(1)
    values = [source.randbytes(VALUE_BYTES) for _ in range(DISTINCT_VALUES)]
    delivered = failed = 0

    def on_delivery(error: object, _message: object) -> None:
        nonlocal delivered, failed
        delivered += 1
        failed += error is not None

    steady()
    watch = Stopwatch()
    watch.start()
    sent = 0
    if batch:
        messages = [{"value": values[number % DISTINCT_VALUES]} for number in range(batch)]
        while sent < run.count:
            some = messages[: run.count - sent]
            while some:
                taken = producer.produce_batch(run.topic, some)
                sent += taken
                # What found no room is marked with an error; it is offered again.
                some = [message for message in some if message.pop("_error", None)]
                producer.poll(0.01 if some else 0)
    else:
        while sent < run.count:
            try:
                producer.produce(run.topic, values[sent % DISTINCT_VALUES], on_delivery=on_delivery)
            except BufferError:
                producer.poll(0.01)
                continue
            sent += 1
            if sent % 1000 == 0:
                producer.poll(0)
    left = producer.flush(FLUSH_S)
    watch.report(sent, sent * VALUE_BYTES)
    if left or failed or (not batch and delivered != sent):
        sys.exit(f"{left} left, {failed} failed, {delivered} of {sent} reported")


main()
