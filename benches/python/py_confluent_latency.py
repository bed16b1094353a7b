"""From `produce()` to `poll()` at 200 records a second: how long a record takes through both clients and the broker.

`loop.module` is who brings the API: confluent_kafka, or tidegate.confluent. The first 200 records are not counted.
"""

from __future__ import annotations

import importlib
import threading
import time

from common import Run, Stopwatch, arguments, steady

PER_SECOND = 200
UNCOUNTED = 200
PRODUCERS = ("acks", "linger.ms", "enable.idempotence", "compression.codec", "queue.buffering.max.messages")


def send(run: Run, producer: object, count: int) -> None:
    """Send the time, steadily."""
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / PER_SECOND - time.monotonic()))
        producer.produce(run.topic, str(time.monotonic_ns()).encode().ljust(100))  # type: ignore[attr-defined]  # either module's
        producer.poll(0)  # type: ignore[attr-defined]  # as above
    producer.flush(30)  # type: ignore[attr-defined]  # as above


def main() -> None:
    """Measure."""
    run = arguments()
    module = importlib.import_module(run.loop.get("module", "confluent_kafka"))
    server = {"bootstrap.servers": run.bootstrap}
    consumer = module.Consumer(server | {"group.id": run.config["group.id"], "auto.offset.reset": "earliest"})
    consumer.subscribe([run.topic])
    producer = module.Producer(server | {name: value for name, value in run.config.items() if name in PRODUCERS})
    steady()
    watch = Stopwatch()
    sender = threading.Thread(target=send, args=(run, producer, run.count))
    times: list[float] = []
    sender.start()
    while len(times) < run.count:
        message = consumer.poll(1.0)
        if message is None:
            watch.nothing(len(times))
            continue
        if message.error():
            continue
        if not times:
            watch.start()
        times.append((time.monotonic_ns() - int(message.value())) / 1e6)
    sender.join()
    counted = sorted(times[UNCOUNTED:])
    p50, p99 = counted[len(counted) // 2], counted[len(counted) * 99 // 100]
    watch.report(len(times), 0, p50_ms=p50, p99_ms=p99)
    consumer.close()


main()
