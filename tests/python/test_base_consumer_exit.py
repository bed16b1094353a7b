"""What happens when the process ends while start() runs in a daemon thread and nobody calls close()."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any

import pytest
from dropin import committed, numbers, produce, start_script

import tidegate

SERVICE = """
    import json, os, signal, sys, threading, time
    from tidegate.base_consumer import BaseKafkaConsumer

    servers, ending = sys.argv[1], sys.argv[2]
    pause = threading.Event()

    def handler(message):
        print(json.dumps(["begin", message["n"]]))
        if message["n"] == 5:
            if ending == "stuck":
                print("ready")
                pause.wait()
            print("ready")
            time.sleep(0.5)
        print(json.dumps(["end", message["n"]]))

    consumer = BaseKafkaConsumer(servers, "exit", ["in"], handler, auto_offset_reset="earliest")
    if ending == "main":
        consumer.start()
    else:
        threading.Thread(target=consumer.start, daemon=True).start()
        if ending == "handler":
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        if ending == "normal":
            while consumer.stats()["handled"] < 5:
                time.sleep(0.01)
        else:
            while True:
                time.sleep(60)
"""


def handled_by(output: str) -> list[int]:
    """The records whose handler came to its end."""
    pairs = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    return [number for what, number in pairs if what == "end"]


@pytest.mark.parametrize(
    ("ending", "number", "status"),
    [
        ("daemon", signal.SIGTERM, -signal.SIGTERM),
        ("daemon", signal.SIGINT, -signal.SIGINT),
        ("handler", signal.SIGTERM, 7),
        ("main", signal.SIGTERM, -signal.SIGTERM),
        ("normal", None, 0),
        ("stuck", signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_the_exit_commits_what_is_finished_and_is_bounded(ending: str, number: signal.Signals | None, status: int) -> None:
    with tidegate.EmbeddedBroker(topics={"in": 1}) as broker:
        produce(broker.bootstrap_servers, "in", numbers(0, 2000))
        with start_script(SERVICE, broker.bootstrap_servers, ending) as process:
            output, errors, took = _end_when_ready(process, number)
        assert process.returncode == status, errors
        done = handled_by(output)
        assert done == list(range(len(done)))
        assert took < 7
        if ending == "stuck":
            assert len(done) == 5
        else:
            # The handler in progress was waited for.
            assert len(done) >= 6
        # Exactly what was handled is committed: the next member repeats nothing and misses nothing.
        assert committed(broker.bootstrap_servers, "exit", "in") == {0: len(done)}


def _end_when_ready(process: subprocess.Popen[str], number: signal.Signals | None) -> tuple[str, str, float]:
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            if line == "ready\n":
                break
            lines.append(line)
        started = time.monotonic()
        if number is not None:
            process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    except BaseException:
        process.kill()
        raise
    return "".join(lines) + output, errors, time.monotonic() - started


INTERRUPTED = """
    import sys
    from tidegate.base_consumer import BaseKafkaConsumer

    def handler(message):
        print(message["n"])
        if message["n"] == 4:
            print("ready")

    consumer = BaseKafkaConsumer(sys.argv[1], "exit", ["in"], handler, auto_offset_reset="earliest")
    try:
        consumer.start()
    except KeyboardInterrupt:
        print("interrupted", consumer.running)
"""


def test_ctrl_c_interrupts_start_in_the_main_thread_at_once() -> None:
    with tidegate.EmbeddedBroker(topics={"in": 1}) as broker:
        produce(broker.bootstrap_servers, "in", numbers(0, 5))
        with start_script(INTERRUPTED, broker.bootstrap_servers) as process:
            output, errors, took = _end_when_ready(process, signal.SIGINT)
        assert process.returncode == 0, errors
        assert output.endswith("interrupted False\n")
        assert took < 5
        assert committed(broker.bootstrap_servers, "exit", "in") in ({0: 5}, {0: 4})


CHILDREN = """
    import multiprocessing, signal, sys, threading, time
    from tidegate.base_consumer import BaseKafkaConsumer

    def child(ready):
        ready.set()
        time.sleep(60)

    if __name__ == "__main__":
        consumer = BaseKafkaConsumer(sys.argv[1], "exit", ["in"], lambda message: None)
        threading.Thread(target=consumer.start, daemon=True).start()
        context = multiprocessing.get_context("fork")
        ready = context.Event()
        process = context.Process(target=child, args=(ready,))
        process.start()
        assert ready.wait(20)
        process.terminate()
        process.join(10)
        print(process.exitcode)
"""


def test_a_forked_child_still_dies_of_sigterm() -> None:
    with tidegate.EmbeddedBroker(topics={"in": 1}) as broker:
        with start_script(CHILDREN, broker.bootstrap_servers) as process:
            output, errors = process.communicate(timeout=60)
    assert output == f"{-signal.SIGTERM}\n", errors
    assert process.returncode == 0


PRODUCING = """
    import sys
    from tidegate.detection_producer import DetectionResultProducer

    producer = DetectionResultProducer(sys.argv[1], "in", config={"linger.ms": 1000})
    for n in range(50):
        assert producer.send({"n": n}, 1)
"""


def test_what_a_producer_has_queued_at_exit_is_sent() -> None:
    from dropin import read_all

    with tidegate.EmbeddedBroker(topics={"in": 1}) as broker:
        with start_script(PRODUCING, broker.bootstrap_servers) as process:
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        records: list[Any] = read_all(broker.bootstrap_servers, "in", 50)
    assert [record.json()["n"] for record in records] == list(range(50))


@pytest.mark.kafka
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT", "normal"])
def test_another_member_has_output_within_three_seconds(kafka, fresh_topic, fresh_group, ending: str) -> None:  # type: ignore[no-untyped-def]
    """Issue 7g: 0 duplicates, and the partitions are free at once; without the exit hook it takes a session timeout."""
    from dropin import Service

    topic = fresh_topic(partitions=3)
    servers = kafka.bootstrap_servers
    produce(servers, topic, numbers(0, 300), keys=[str(n).encode() for n in range(300)])
    script = SERVICE.replace('"exit", ["in"]', f'"{fresh_group}", ["{topic}"]')
    with start_script(script, servers, "normal" if ending == "normal" else "daemon") as process:
        output, errors, _ = _end_when_ready(process, None if ending == "normal" else signal.Signals[ending])
    ended = time.monotonic()
    first = handled_by(output)
    with Service(servers, fresh_group, [topic], config=None) as second:
        second.wait_seen(1)
        took = time.monotonic() - ended
        second.wait_seen(300 - len(first))
    assert took < 3, errors
    assert sorted(first + [message["n"] for message in second.seen]) == list(range(300))
    print(f"{ending}: {len(first)} records before, next member's first record {took:.2f} s after the process had ended")
