"""What every Python contender shares: the same arguments, the same clocks, the same line of JSON at the end.

usage of each: PROGRAM BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]

NAME=VALUE are librdkafka properties; a run gives the same ones to every contender. Names that start with
`loop.` belong to the contender itself. The clocks start at the first record and stop when COUNT is reached.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

# A run that gets no record for so long has failed: say so instead of hanging.
SILENCE_S = 60.0


@dataclass
class Run:
    """One contender's arguments."""

    bootstrap: str
    topic: str
    count: int
    config: dict[str, str]
    loop: dict[str, str] = field(default_factory=dict)


def arguments() -> Run:
    """Read the command line; the group is a fresh one."""
    if len(sys.argv) < 4:
        sys.exit(f"usage: {sys.argv[0]} BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]")
    bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": f"bench-{Path(sys.argv[0]).stem}-{os.getpid()}-{time.time_ns()}",
    }
    loop = {}
    for pair in sys.argv[4:]:
        name, _, value = pair.partition("=")
        if name.startswith("loop."):
            loop[name.removeprefix("loop.")] = value
        else:
            config[name] = value
    return Run(bootstrap, topic, count, config, loop)


class Stopwatch:
    """Wall and CPU time from the first record on."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0
        self._waiting_since = time.monotonic()
        self._records_then = 0

    def start(self) -> None:
        """The first record is here."""
        self._wall = time.monotonic()
        self._cpu = time.process_time()

    def nothing(self, records: int) -> None:
        """Call when a wait brought nothing, with the records so far; ends the program when that lasts."""
        now = time.monotonic()
        if records != self._records_then:
            self._records_then, self._waiting_since = records, now
        elif now - self._waiting_since > SILENCE_S:
            sys.exit(f"no record for {SILENCE_S:.0f} s after {records}")

    def report(self, records: int, size_bytes: int, **more: object) -> None:
        """Stop the clocks and print the line the runner reads."""
        seconds = time.monotonic() - self._wall
        cpu = time.process_time() - self._cpu
        line = {"records": records, "seconds": seconds, "cpu_seconds": cpu, "bytes": size_bytes}
        print(json.dumps(line | more), flush=True)


def steady() -> None:
    """The collector's default settings hold for every contender; what start-up left behind does not count."""
    gc.collect()
