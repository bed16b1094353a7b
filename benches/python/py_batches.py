"""Tidegate's batches: `next_batch()`.

`loop.touch` is what is done with a batch: `columns` (its offsets and its partitions, summed through their buffers, and
its length) or `each` (every record's offset and the length of its value, in a Python loop).
"""

from __future__ import annotations

import numpy as np
from common import Stopwatch, arguments, steady

import tidegate


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    each = run.loop.get("touch", "columns") == "each"
    consumer = tidegate.Consumer(run.config, [run.topic])
    steady()
    watch = Stopwatch()
    records = size_bytes = offsets = partitions = batches = 0
    while records < run.count:
        batch = consumer.next_batch(1.0)
        if batch is None:
            watch.nothing(records)
            continue
        if records == 0:
            watch.start()
        batches += 1
        if each:
            for record in batch:
                offsets += record.offset
                size_bytes += len(record.value)
                records += 1
        else:
            offsets += int(np.frombuffer(batch.offsets, dtype=np.int64).sum())
            partitions += int(np.frombuffer(batch.partitions, dtype=np.int32).sum())
            records += len(batch)
    watch.report(records, size_bytes, offset_sum=offsets, partition_sum=partitions, batches=batches)
    consumer.close()


main()
