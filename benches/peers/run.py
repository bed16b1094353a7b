"""Tidegate's `process()` beside pyrallel-consumer: coroutines in order by key that do nothing, on a real Kafka.

    python benches/peers/run.py --python python3.12      (from the repository, in its virtual environment)

pyrallel-consumer needs Python 3.12 and gets a virtual environment of its own. prosody-events is not run: version 0.6.1 does not
start without a Cassandra cluster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tidegate
from harness.kafka import KafkaCluster

HERE = Path(__file__).resolve().parent
PYRALLEL = "pyrallel-consumer==1.0.0"
KEYS = 1000
PARTITIONS = 12


def fill(servers: str, topic: str, count: int) -> None:
    """Records of some 100 bytes."""
    with tidegate.Producer({"bootstrap.servers": servers}) as producer:
        for number in range(count):
            value = json.dumps({"n": number, "text": "x" * 70})
            producer.send(topic, value, key=str(number % KEYS))
        producer.flush(60)


def rate(program: list[str], servers: str, topic: str, count: int, *more: str) -> float:
    """Records a second of one run."""
    command = [*program, servers, topic, str(count), *more]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    figures = json.loads(run.stdout.splitlines()[-1])
    return float(figures["records"] / figures["seconds"])


def main() -> None:
    """Interleaved rounds, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3.12", help="a Python of at least 3.12")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, KafkaCluster(fast=True) as cluster:
        subprocess.run([chosen.python, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", PYRALLEL], check=True)
        cluster.create_topic("peers", PARTITIONS)
        fill(cluster.bootstrap_servers, "peers", chosen.records)
        programs = {
            "pyrallel-consumer": ([python, str(HERE / "pyrallel_process.py")], ()),
            "tidegate process()": (
                [sys.executable, str(HERE.parent / "python" / "py_process.py")],
                ("auto.offset.reset=earliest", "loop.handler=coroutine", "loop.in_flight=1000"),
            ),
        }
        rates: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(chosen.rounds):
            for name, (program, more) in programs.items():
                rates[name].append(rate(program, cluster.bootstrap_servers, "peers", chosen.records, *more))
    medians = {name: statistics.median(those) for name, those in rates.items()}
    for name, those in rates.items():
        print(f"{name:20} median {medians[name]:>10,.0f} records/s, best {max(those):>10,.0f}")
    print(f"ratio of the medians: {medians['tidegate process()'] / medians['pyrallel-consumer']:.0f}")


if __name__ == "__main__":
    main()
