"""`BaseKafkaConsumer` as the services use it: decode JSON, call the handler. Its configuration is its own."""

from __future__ import annotations

import threading

from common import SILENCE_S, Stopwatch, arguments, steady

from tidegate.base_consumer import BaseKafkaConsumer


def main() -> None:
    """Consume the topic once."""
    run = arguments()
    watch = Stopwatch()
    records = cameras = 0
    count = run.count

    def handler(message: dict) -> None:
        nonlocal records, cameras
        if records == 0:
            watch.start()
            silence.cancel()
        records += 1
        cameras += message["cameraId"]
        if records == count:
            watch.report(records, 0, camera_sum=cameras)
            consumer.stop()

    consumer = BaseKafkaConsumer(run.bootstrap, run.config["group.id"], [run.topic], handler, auto_offset_reset="earliest")
    # Nothing arrives: end loudly instead of waiting for ever.
    silence = threading.Timer(SILENCE_S, consumer.stop)
    steady()
    silence.daemon = True
    silence.start()
    consumer.start()
    if records != count:
        raise SystemExit(f"only {records} of {count} records arrived")


main()
