"""Measures Tidegate beside its peers on a real Kafka and says which bars are reached.

    python benches/run.py [--quick] [--rounds N] [--records N] [--only NAME]... [--as-installed] [--patience S] [--strict]

One single-node Kafka is started and loaded once; then every contender reads the same topic, each as a fresh process with
a fresh group, or fills an empty one, interleaved round by round. Only ratios within one run mean anything: the figures of two
machines, or of two moments of one, do not compare. In a calm round the machine did nothing else meanwhile. Results are also
written to benches/results/, which git ignores.

Needs Java and Maven (for Kafka), Rust and a C compiler, and in this Python tidegate and the tools: `make bench` has them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runner import build, contenders, race, table

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))

# Three million pass in under a second: the start of a run and one pause of the broker then decide (2026-11-23).
RECORDS, QUICK_RECORDS = 10_000_000, 200_000
JUDGED_RECORDS = 3_000_000
ROUNDS, QUICK_ROUNDS = 5, 1
PATIENCE_S = 300
NEEDED = ("confluent_kafka", "numpy", "orjson")


def parse(args: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RECORDS:,} records, one round: does everything still run?")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--records", type=int, help=f"records in each topic, default {RECORDS:,}")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="the contender NAME, or those whose name holds it, and their baselines",
    )
    parser.add_argument(
        "--as-installed", action="store_true", help="fetch settings as librdkafka has them, one-second stalls included"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_S,
        metavar="S",
        help=f"seconds to spend on waiting for an idle machine and repeating disturbed runs, default {PATIENCE_S}",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is not reached")
    parser.add_argument("--list", action="store_true", help="name the contenders and end")
    return parser.parse_args(args)


def main(args: Sequence[str]) -> int:
    """Run; returns the exit code: 1 when a contender failed or is missing, or with --strict when a bar is not reached."""
    options = parse(args)
    picked = contenders.chosen(options.only)
    if options.list:
        print("\n".join(contender.name for contender in picked))
        return 0
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"{', '.join(missing)} not installed in {sys.executable}: `make bench` sets everything up", file=sys.stderr)
        return 1

    programs = build.build()
    commands = {contender: command for contender in picked if (command := contender.command(programs)) is not None}
    left_out = [contender.name for contender in picked if contender not in commands]
    if left_out:
        print(f"left out, not built or not installed: {', '.join(left_out)}", file=sys.stderr)
    if not commands:
        return 1
    records = options.records or (QUICK_RECORDS if options.quick else RECORDS)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    ran = _race(commands, records, rounds, options.as_installed, 0 if options.quick else options.patience)

    judged = records >= JUDGED_RECORDS
    found, unmeasured = table.verdicts(ran.results)
    unmeasured = [bar for bar in unmeasured if any(bar.contender == contender.name for contender in picked)]
    settings = "fetch settings as installed" if options.as_installed else "the same fetch settings for all"
    amount = f"{records:,} records ({_json_records(records):,} of JSON)"
    print(f"\n{amount}, {rounds} interleaved round(s), {os.cpu_count()} CPUs, {settings}")
    print(f"\n{table.contenders_table(ran.results)}\n\n{table.bars_table(found, unmeasured, judged)}")
    if not judged:
        print(f"\nWith fewer than {JUDGED_RECORDS:,} records the start of a run outweighs the rest: no bar is judged.")
    _write(
        {
            "records": records,
            "rounds": rounds,
            "as_installed": options.as_installed,
            "cpus": os.cpu_count(),
            "bars": [verdict.to_dict() for verdict in found],
            "results": [result.to_dict() for result in ran.results],
        }
    )
    for failure in ran.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    short = not judged or unmeasured or any(verdict.reached is False for verdict in found)
    return 1 if ran.failures or left_out or (options.strict and short) else 0


def _race(
    commands: Mapping[contenders.Contender, list[str]], records: int, rounds: int, as_installed: bool, patience_s: float
) -> race.Race:
    """Start Kafka, load what these contenders read, run them all."""
    # These need what `main` has looked for.
    from runner import load

    from harness.kafka import KafkaCluster

    topics = {
        "plain": load.plain("bench-plain", records),
        "json": load.detections("bench-json", _json_records(records)),
        "sent": load.plain("bench-sent", records),
    }
    with KafkaCluster(fast=True) as kafka:
        numbers = itertools.count()

        @contextlib.contextmanager
        def empty_topic() -> Iterator[str]:
            name = f"{topics['sent'].name}-{next(numbers)}"
            # What a run wrote is gone before the disk fills.
            kafka.create_topic(name, partitions=load.PARTITIONS, config={"file.delete.delay.ms": 1000})
            try:
                yield name
            finally:
                kafka.delete_topic(name)

        for kind in sorted({contender.topic for contender in commands} - {"sent"}):
            topic = topics[kind]
            race.say(f"loading {topic.records:,} records of {len(topic.values[0])} B into {topic.name}")
            kafka.create_topic(topic.name, partitions=load.PARTITIONS)
            load.fill(kafka.bootstrap_servers, topic)
        ran = race.Race(kafka.bootstrap_servers, kafka.pid(1), topics, empty_topic, as_installed, patience_s)
        ran.run(commands, rounds)
    return ran


def _json_records(records: int) -> int:
    """A third: decoding JSON in Python takes several times as long as everything else of a run."""
    return max(1, records // 3)


def _write(document: Mapping[str, object]) -> None:
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    path = folder / f"{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps({"at": now.isoformat(timespec="seconds"), **document}, indent=1) + "\n")
    race.say(f"\nwritten to {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
