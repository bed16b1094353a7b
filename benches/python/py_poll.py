"""Tidegate record by record: `poll()`; offset, key and value read."""

from __future__ import annotations

from common import Stopwatch, arguments, steady

import tidegate


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    consumer = tidegate.Consumer(run.config, [run.topic])
    steady()
    watch = Stopwatch()
    records = size_bytes = offsets = keys = 0
    while records < run.count:
        record = consumer.poll(1.0)
        if record is None:
            watch.nothing(records)
            continue
        if records == 0:
            watch.start()
        records += 1
        offsets += record.offset
        keys += record.key is not None
        size_bytes += len(record.value)
    watch.report(records, size_bytes, offset_sum=offsets, keys=keys)
    consumer.close()


main()
