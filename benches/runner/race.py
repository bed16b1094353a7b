"""Runs one contender after the other, each a fresh process with a fresh group, and keeps what each said.

Rounds are interleaved: everybody runs once before anybody runs again, and each round starts with another contender, so
that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contenders import Contender

if TYPE_CHECKING:
    from .load import Topic

# More than this many CPUs busy with something else, and what a contender did says little about it.
DISTURBED_CPUS = 0.25
QUIET_FOR_S = 1.0
# Far above what the slowest contender takes for the largest topic.
DEADLINE_S = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Result:
    """One contender's run in one round. `others_cpus`: how many CPUs were busy with neither it nor the broker meanwhile."""

    contender: str
    round: int
    records: int
    seconds: float
    cpu_seconds: float
    others_cpus: float
    said: dict[str, Any]

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds of the contender's process per million records."""
        return self.cpu_seconds / self.records * 1e6

    def figure(self, name: str) -> float:
        """What a bar compares: a figure of this run, or one that the contender said."""
        return float(self.said[name]) if name in self.said else float(getattr(self, name))

    def to_dict(self) -> dict[str, object]:
        """For the file of results."""
        return asdict(self) | {"records_per_second": self.rate}


class ContenderFailed(Exception):
    """A contender ended with an error, said nothing, or read something else than what is in the topic."""


class Race:
    """A loaded cluster and everybody's results so far."""

    def __init__(
        self,
        bootstrap: str,
        broker_pid: int,
        topics: Mapping[str, Topic],
        empty_topic: Callable[[], AbstractContextManager[str]],
        as_installed: bool,
        patience_s: float,
    ) -> None:
        """`empty_topic`: a topic for a producer, and its end. `patience_s`: seconds to spend, in all, on waiting for a quiet
        machine and on repeating disturbed runs."""
        self.results: list[Result] = []
        self.failures: list[str] = []
        self._bootstrap = bootstrap
        self._broker_pid = broker_pid
        self._topics = topics
        self._empty_topic = empty_topic
        self._as_installed = as_installed
        self._patience_s = patience_s

    def run(self, commands: Mapping[Contender, list[str]], rounds: int) -> None:
        """All rounds; what fails is kept in `failures` and told at once, and the others go on."""
        order = list(commands)
        # The broker's own code warms up on somebody whose time is not counted.
        self._run_once(order[0], commands[order[0]], 0)
        for number in range(1, rounds + 1):
            for contender in order:
                result = self._run_undisturbed(contender, commands[contender], number)
                if result is not None:
                    self.results.append(result)
            order = order[1:] + order[:1]

    def _run_undisturbed(self, contender: Contender, command: list[str], number: int) -> Result | None:
        """The first run during which nobody else was busy; with the patience at its end, whatever comes."""
        while True:
            self._await_quiet()
            start = time.monotonic()
            result = self._run_once(contender, command, number)
            if result is None or result.others_cpus <= DISTURBED_CPUS or self._patience_s <= 0:
                return result
            self._patience_s -= time.monotonic() - start

    def _await_quiet(self) -> None:
        while self._patience_s > 0:
            before, start = _busy_cpu(), time.monotonic()
            time.sleep(QUIET_FOR_S)
            took = time.monotonic() - start
            if (_busy_cpu() - before) / took <= DISTURBED_CPUS:
                return
            self._patience_s -= took

    def _run_once(self, contender: Contender, command: list[str], number: int) -> Result | None:
        try:
            result = self._measure(contender, command, self._topics[contender.topic], number)
        except ContenderFailed as error:
            self.failures.append(str(error))
            say(f"FAILED: {error}")
            return None
        say(
            f"round {number}  {contender.name:24} {result.rate:>12,.0f} records/s  {result.cpu_per_million:.3f} CPU s per million"
            f"  ({result.others_cpus:.2f} other CPUs busy)"
        )
        return result

    def _measure(self, contender: Contender, command: list[str], topic: Topic, number: int) -> Result:
        with self._empty_topic() if contender.topic == "sent" else nullcontext(topic.name) as name:
            count = min(topic.records, contender.most or topic.records)
            arguments = [self._bootstrap, name, str(count), *contender.properties(self._as_installed)]
            others, start = self._others_cpu(), time.monotonic()
            try:
                run = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, timeout=DEADLINE_S)
            except subprocess.TimeoutExpired as error:
                raise ContenderFailed(f"{contender.name} still ran after {DEADLINE_S:.0f} s") from error
            took = time.monotonic() - start
            others = max(0.0, self._others_cpu() - others) / took
        if run.returncode != 0:
            raise ContenderFailed(f"{contender.name} ended with {run.returncode}: {run.stderr.strip()[-2000:]}")
        said = _last_json(run.stdout)
        if said is None:
            raise ContenderFailed(f"{contender.name} printed no result: {run.stdout[-500:]}{run.stderr[-1500:]}")
        _check(contender, said, topic, count)
        return Result(contender.name, number, said["records"], said["seconds"], said["cpu_seconds"], others, said)

    def _others_cpu(self) -> float:
        """CPU seconds so far of everything but the contenders that have ended and the broker."""
        return _busy_cpu() - _children_cpu() - _process_cpu(self._broker_pid)


def say(line: str) -> None:
    """Progress, beside the tables on standard output."""
    print(line, file=sys.stderr, flush=True)


def _last_json(output: str) -> dict[str, Any] | None:
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            said: dict[str, Any] = json.loads(line)
            return said
    return None


def _check(contender: Contender, said: Mapping[str, Any], topic: Topic, count: int) -> None:
    """A rate counts only when it was reached with every record of the topic, each once, or with as many as were wanted."""
    if count < topic.records:
        if said["records"] < count:
            raise ContenderFailed(f"{contender.name} read or sent {said['records']} records, not {count}")
        return
    if said["records"] != topic.records:
        raise ContenderFailed(f"{contender.name} read or sent {said['records']} records, not {topic.records}")
    if said.get("offset_sum") not in (None, 0, topic.offset_sum):
        raise ContenderFailed(f"{contender.name} saw offsets that sum to {said['offset_sum']}, not {topic.offset_sum}")
    if said["bytes"] not in (0, topic.size_bytes):
        raise ContenderFailed(f"{contender.name} saw {said['bytes']} bytes of values, not {topic.size_bytes}")


def _busy_cpu() -> float:
    """CPU seconds the machine has been busy since it started."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split(None, 8)[1:8])
    return (user + nice + system + irq + softirq) / _TICKS


def _process_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system
