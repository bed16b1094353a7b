"""Tidegate record by record: `poll()`.

`loop.touch` is what is done with a record: `count` (nothing, the cheapest a program can do) or `each` (its offset and the
length of its value).
"""

from __future__ import annotations

from common import Stopwatch, arguments, steady

import tidegate


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    each = run.loop.get("touch", "count") == "each"
    consumer = tidegate.Consumer(run.config, [run.topic])
    steady()
    watch = Stopwatch()
    records = size_bytes = offsets = 0
    while records < run.count:
        record = consumer.poll(1.0)
        if record is None:
            watch.nothing(records)
            continue
        if records == 0:
            watch.start()
        records += 1
        if each:
            offsets += record.offset
            size_bytes += len(record.value)
    watch.report(records, size_bytes, offset_sum=offsets)
    consumer.close()


main()
