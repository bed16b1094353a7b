"""A service on `Consumer.process`, in a process of its own: `python process_service.py '{"servers": ..., ...}'`.

Takes `servers`, `group`, `topic`, `ledger`; and, if given, `config` (consumer properties), `process` (keywords of `process()`),
`stuck` (values whose handler never returns), `poison_every` (of each so many records of a partition one fails for good), `report_s`
(prints the engine's ledger so often). Writes a line `partition offset value` to the file `ledger` for each record that was
handled, with ` failed` behind it for each that could not be. Ends in order when its input does, and prints `left {ledger}`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading

import tidegate

OPTIONS = json.loads(sys.argv[1])
STUCK = {value.encode() for value in OPTIONS.get("stuck", [])}
POISON_EVERY = OPTIONS.get("poison_every", 0)
LEDGER = os.open(OPTIONS["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def handle(record: tidegate.Record) -> None:
    value = record.value or b""
    if value in STUCK:
        print("stuck", flush=True)
        await asyncio.Event().wait()
    place = b"%d %d %b" % (record.partition, record.offset, value.replace(b" ", b""))
    if POISON_EVERY and record.offset % POISON_EVERY == 0:
        os.write(LEDGER, place + b" failed\n")
        raise ValueError("poison")
    os.write(LEDGER, place + b"\n")


def main() -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(name)s %(message)s")
    config = {
        "bootstrap.servers": OPTIONS["servers"],
        "group.id": OPTIONS["group"],
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 500,
        **OPTIONS.get("config", {}),
    }
    consumer = tidegate.Consumer(config)
    consumer.subscribe(
        [OPTIONS["topic"]],
        on_assign=lambda partitions: print("assigned", len(partitions), flush=True),
        on_lost=lambda partitions: print("lost", len(partitions), flush=True),
    )
    processing = consumer.process(handle, **OPTIONS.get("process", {}))
    print("ready", flush=True)
    asked = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), asked.set()), daemon=True).start()
    while not asked.wait(OPTIONS.get("report_s")):
        print("ledger", json.dumps(processing.ledger()), flush=True)
    ledger = processing.stop(drain=20)
    consumer.close()
    print("left", json.dumps(ledger), flush=True)


main()
