"""A service around `BaseKafkaConsumer` as the algo modules run it, for tests that end it one way or another.

    python kafka_service.py OPTIONS      a JSON object

`servers`, `group`, `topic`, `ledger`: see `ledger.py`. Optional: `reset` (auto_offset_reset), `config`, `handler_s` (seconds a
record takes), `stick_at` (the handler of the record after so many never returns), `die_when_assigned` (SIGKILL to itself as soon
as it knows), `stall_s` (the first record takes so long, and memory is reported), `wait_for_go` (start() only after SIGUSR2).

`start()` runs in a daemon thread and nobody calls `close()`. SIGUSR1 lets the main thread come to its end. Lines: `constructed`,
`assigned [[partition, position], ...]`, `stuck`, `stalled`, `memory {...}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ledger import write_entry

from tidegate.base_consumer import BaseKafkaConsumer

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
NEVER_S = 3600.0
TURN_S = 0.02

wanted: set[int] = set()
handled = 0
ledger = os.open(OPTIONS["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def memory_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def handler(message: dict[str, Any]) -> None:
    global handled
    if handled == OPTIONS.get("stick_at"):
        print("stuck")
        time.sleep(NEVER_S)
    if handled == 0 and "stall_s" in OPTIONS:
        print("stalled")
        time.sleep(OPTIONS["stall_s"])
        engine = consumer.stats()["engine"]
        print("memory", json.dumps({"baseline_kib": baseline_kib, "peak_kib": memory_kib("VmHWM"), "engine": engine}))
    if handler_s := OPTIONS.get("handler_s"):
        time.sleep(handler_s)
    if "stall_s" not in OPTIONS:
        write_entry(ledger, message)
    handled += 1


def wait_for(number: int) -> None:
    while number not in wanted:
        time.sleep(TURN_S)


def tell_assigned() -> None:
    consumer.wait_until_assigned()
    if OPTIONS.get("die_when_assigned"):
        os.kill(os.getpid(), signal.SIGKILL)
    print("assigned")


for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, _frame: wanted.add(number))
consumer = BaseKafkaConsumer(
    OPTIONS["servers"],
    OPTIONS["group"],
    [OPTIONS["topic"]],
    handler,
    auto_offset_reset=OPTIONS.get("reset", "earliest"),
    config=OPTIONS.get("config"),
)
print("constructed")
if OPTIONS.get("wait_for_go"):
    wait_for(signal.SIGUSR2)
baseline_kib = memory_kib("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
threading.Thread(target=consumer.start, daemon=True).start()
threading.Thread(target=tell_assigned, daemon=True).start()
wait_for(signal.SIGUSR1)
