"""The command line of ``harness.kafka``: a cluster for the time of one command."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from types import FrameType

from . import jars, proc
from .kafka import KafkaCluster

REQUIRE = "TIDEGATE_REQUIRE_KAFKA"
BOOTSTRAP = "TIDEGATE_TEST_BOOTSTRAP"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.kafka", description="A real Apache Kafka for tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("available", help="say whether Java and Maven are there; exit 1 if not")
    commands.add_parser("fetch", help="get Kafka's jars if they are not there yet")
    run = commands.add_parser("run", help=f"start a cluster, run COMMAND with {BOOTSTRAP} set, end the cluster")
    run.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    run.add_argument("--topic", action="append", default=[], metavar="NAME:PARTITIONS", help="create a topic; may be repeated")
    run.add_argument(
        "--optional",
        action="store_true",
        help=f"without Java or Maven, run COMMAND without {BOOTSTRAP}, unless {REQUIRE}=1",
    )
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")
    options = parser.parse_args(arguments)

    reason = jars.unavailable()
    if options.command == "available":
        print(f"not available: {reason}" if reason else f"Kafka {jars.KAFKA_VERSION} can be started")
        return 1 if reason else 0
    if options.command == "fetch":
        if reason:
            print(reason, file=sys.stderr)
            return 1
        print(jars.class_path())
        return 0

    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        parser.error("no COMMAND after --")
    topics = []
    for text in options.topic:
        name, _, partitions = text.partition(":")
        if not name or not (partitions or "1").isdigit():
            parser.error(f"--topic {text}: write NAME:PARTITIONS, for example events:12")
        topics.append((name, int(partitions or 1)))
    if reason and options.optional and os.environ.get(REQUIRE) != "1":
        print(f"real Kafka skipped: {reason}", file=sys.stderr, flush=True)
        return subprocess.call(program)
    if reason:
        print(f"cannot start Kafka: {reason}", file=sys.stderr)
        return 1

    # SIGTERM's default would end us without ending the cluster in order.
    signal.signal(signal.SIGTERM, _terminated)
    with KafkaCluster(nodes=options.nodes) as cluster:
        for name, partitions in topics:
            cluster.create_topic(name, partitions, replication=options.nodes)
        environment = {**os.environ, BOOTSTRAP: cluster.bootstrap_servers}
        with proc.Child(program, env=environment, capture=False, own_group=False, stdin=None) as child:
            while True:
                try:
                    code = child.wait(timeout=86_400)
                    # As a shell tells a death by signal.
                    return code if code >= 0 else 128 - code
                except KeyboardInterrupt:
                    continue  # the command got the Ctrl-C too and decides what it means
                except SystemExit:
                    child.terminate()


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
