"""Who runs against whom, with which settings, and the bars.

Every contender is a program called as `PROGRAM BOOTSTRAP TOPIC COUNT NAME=VALUE...` that prints one line of JSON.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[1] / "python"

COMMON = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": "false",
    "queued.max.messages.kbytes": "65536",
}
# At librdkafka's default of 1000 ms a consumer whose queue is full once asks for nothing during a second: both C and
# confluent-kafka-python then stand still for most of a run. The bars are measured against peers without these stalls,
# `--as-installed` shows them as they come.
TUNED = {
    "fetch.queue.backoff.ms": "10",
    "queued.min.messages": "1000000",
    "fetch.wait.max.ms": "10",
}
# Producers: acknowledged by the whole cluster, which is one node, and a queue that the broker and not librdkafka's default of
# 100,000 messages keeps short. The partitioner chooses, there are no keys.
PRODUCER = {
    "acks": "all",
    "enable.idempotence": "false",
    "compression.codec": "none",
    "linger.ms": "20",
    "queue.buffering.max.messages": "500000",
    "queue.buffering.max.kbytes": "1048576",
}
# What BaseKafkaConsumer and its predecessors configure; the loop it is compared with gets the same.
BASE_CONSUMER = {
    "enable.auto.commit": "true",
    "auto.commit.interval.ms": "5000",
    "session.timeout.ms": "30000",
    "heartbeat.interval.ms": "3000",
}


# A handler that waits for 50 ms, as one does that asks a service.
WORKING = {"handler": "coroutine", "work_ms": "50", "order": "none"}
AT_ONCE = {"linger.ms": "0"}
# Two awaits a record, or 200 records a second, take their time.
FEW, LATENCIES = 50_000, 1_000


@dataclass(frozen=True, eq=False)
class Contender:
    """A program of a run. `peer` says that it is not ours, `topic` is what it reads, "plain" or "json"; "sent": it writes.

    `most`: it reads or writes no more than so many records, because each takes its time.
    """

    name: str
    program: str
    loop: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    topic: str = "plain"
    peer: bool = False
    most: int | None = None

    def command(self, programs: Mapping[str, Path]) -> list[str] | None:
        """The command without its arguments, or None when what it needs is not installed."""
        if not self.program.endswith(".py"):
            path = programs.get(self.program)
            return None if path is None else [str(path)]
        needed = "confluent_kafka" if self.peer else "tidegate"
        if importlib.util.find_spec(needed) is None:
            return None
        return [sys.executable, str(PYTHON / self.program)]

    def properties(self, as_installed: bool) -> list[str]:
        """The `NAME=VALUE` arguments."""
        common = PRODUCER if self.topic == "sent" else COMMON | ({} if as_installed else TUNED)
        settings = common | dict(self.settings)
        settings |= {f"loop.{name}": value for name, value in self.loop.items()}
        return [f"{name}={value}" for name, value in settings.items()]


@dataclass(frozen=True, eq=False)
class Bar:
    """`contender` must reach `factor` times the best of `baselines`; without a factor the ratio is only shown.

    `figure` is what is compared: "rate", or "cpu_per_million", "p50_ms" and "p99_ms", of which less is better: there the ratio
    must not be above the factor. `ideal` is a rate in place of a baseline.
    """

    what: str
    contender: str
    baselines: tuple[str, ...]
    factor: float | None = None
    figure: str = "rate"
    ideal: float | None = None


# Counted only: what is done with the messages costs more than getting them, and is the application's.
CONSUME = tuple(f"confluent_consume_{n}" for n in (100, 500, 1000, 10000))
CONSUME_EACH = ("confluent_consume_each",)

CONTENDERS = (
    Contender("c_batch_loop", "batch_loop", loop={"batch": "10000", "timeout.ms": "5"}, peer=True),
    Contender("rust_batches", "rust_batches"),
    Contender("c_tidegate_batches", "tidegate_batches"),
    Contender("cpp_tidegate_ranges", "tidegate_ranges"),
    Contender("rust_poll", "rust_poll"),
    Contender("rust_process", "rust_process"),
    *(Contender(name, "py_confluent_consume.py", loop={"n": name.rpartition("_")[2]}, peer=True) for name in CONSUME),
    Contender("confluent_consume_each", "py_confluent_consume.py", loop={"n": "1000", "touch": "each"}, peer=True),
    Contender("confluent_poll_each", "py_confluent_poll.py", loop={"touch": "each"}, peer=True),
    Contender("py_batches", "py_batches.py"),
    Contender("py_batches_each", "py_batches.py", loop={"touch": "each"}),
    Contender("py_poll", "py_poll.py"),
    Contender("py_poll_each", "py_poll.py", loop={"touch": "each"}),
    Contender("py_process", "py_process.py", loop={"handler": "function", "in_flight": "4"}),
    Contender("confluent_poll_read", "py_confluent_poll.py", loop={"touch": "read"}, peer=True),
    Contender("face_poll_read", "py_confluent_poll.py", loop={"touch": "read", "module": "tidegate.confluent"}),
    Contender("confluent_consume_read", "py_confluent_consume.py", loop={"n": "500", "touch": "read"}, peer=True),
    Contender("face_consume_read", "py_confluent_consume.py", loop={"n": "500", "touch": "read", "module": "tidegate.confluent"}),
    Contender("confluent_aio_poll", "py_confluent_aio.py", peer=True, most=FEW),
    Contender("face_aio_poll", "py_confluent_aio.py", loop={"module": "tidegate.confluent"}, most=FEW),
    Contender("confluent_produce", "py_confluent_produce.py", topic="sent", peer=True),
    Contender("face_produce", "py_confluent_produce.py", loop={"module": "tidegate.confluent"}, topic="sent"),
    Contender("confluent_produce_batch", "py_confluent_produce.py", loop={"batch": "1000"}, topic="sent", peer=True),
    Contender(
        "face_produce_batch", "py_confluent_produce.py", loop={"batch": "1000", "module": "tidegate.confluent"}, topic="sent"
    ),
    Contender("confluent_latency", "py_confluent_latency.py", settings=AT_ONCE, topic="sent", peer=True, most=LATENCIES),
    Contender(
        "face_latency",
        "py_confluent_latency.py",
        loop={"module": "tidegate.confluent"},
        settings=AT_ONCE,
        topic="sent",
        most=LATENCIES,
    ),
    Contender("process_100_in_flight", "py_process.py", loop=WORKING | {"in_flight": "100"}, most=20_000),
    Contender("process_1000_in_flight", "py_process.py", loop=WORKING | {"in_flight": "1000"}, most=100_000),
    Contender("process_coroutines", "py_process.py", loop={"handler": "coroutine", "in_flight": "1000"}, most=1_000_000),
    Contender("confluent_create_task", "py_confluent_tasks.py", peer=True),
    Contender("py_process_sends", "py_process.py", loop={"outputs": "producer", "in_flight": "4"}),
    Contender("py_process_exactly_once", "py_process.py", loop={"outputs": "transactions", "in_flight": "4"}),
    Contender("confluent_json", "py_confluent_json.py", settings=BASE_CONSUMER, topic="json", peer=True),
    Contender("confluent_orjson", "py_confluent_json.py", loop={"json": "orjson"}, settings=BASE_CONSUMER, topic="json", peer=True),
    Contender("py_base_consumer", "py_base_consumer.py", settings=BASE_CONSUMER, topic="json"),
    Contender("c_producer_loop", "producer_loop", topic="sent", peer=True),
    Contender("c_tidegate_send", "tidegate_send", topic="sent"),
    Contender("c_tidegate_send_batch", "tidegate_send", loop={"batch": "1000"}, topic="sent"),
)

BARS = (
    Bar("Rust batches / plain C batch loop, stock malloc", "rust_batches", ("c_batch_loop",), 1.25),
    Bar("Rust poll() / plain C batch loop, stock malloc", "rust_poll", ("c_batch_loop",)),
    Bar("Rust process() by key / Rust batches", "rust_process", ("rust_batches",), 0.5),
    Bar("C batches / Rust batches", "c_tidegate_batches", ("rust_batches",), 0.98),
    Bar("C batches / plain C batch loop, stock malloc", "c_tidegate_batches", ("c_batch_loop",), 1.25),
    Bar("C++ ranges / C batches", "cpp_tidegate_ranges", ("c_tidegate_batches",), 0.98),
    Bar("C batches sent / plain rd_kafka_producev loop, stock malloc", "c_tidegate_send_batch", ("c_producer_loop",), 1.2),
    Bar("C single sends / plain rd_kafka_producev loop, stock malloc", "c_tidegate_send", ("c_producer_loop",), 0.95),
    Bar("Python batches, columns touched / confluent's best consume(n), counted only", "py_batches", CONSUME, 3.0),
    Bar("Python batches, every record touched / confluent's consume, every message touched", "py_batches_each", CONSUME_EACH),
    Bar("Python poll(), counted only / confluent's best consume(n), counted only", "py_poll", CONSUME, 1.8),
    Bar("Python poll(), every record touched / confluent's consume, every message touched", "py_poll_each", CONSUME_EACH),
    Bar(
        "Python poll(), every record touched / confluent's poll(), every message touched", "py_poll_each", ("confluent_poll_each",)
    ),
    Bar("Python process() by key / confluent's poll(), every message touched", "py_process", ("confluent_poll_each",), 0.5),
    Bar("confluent face, poll(), messages read / confluent's poll()", "face_poll_read", ("confluent_poll_read",), 2.5),
    Bar("confluent face, consume(500), messages read / confluent's", "face_consume_read", ("confluent_consume_read",), 2.0),
    Bar(
        "confluent face, consume(500), CPU time / confluent's, less is better",
        "face_consume_read",
        ("confluent_consume_read",),
        0.6,
        figure="cpu_per_million",
    ),
    Bar("confluent face, await AIOConsumer.poll() / confluent's", "face_aio_poll", ("confluent_aio_poll",), 5.0),
    Bar("confluent face, produce() with a callback / confluent's", "face_produce", ("confluent_produce",), 2.0),
    Bar("confluent face, produce_batch() / confluent's", "face_produce_batch", ("confluent_produce_batch",), 2.0),
    Bar(
        "confluent face, produce() to poll() at 200/s, p50 / confluent's, less is better",
        "face_latency",
        ("confluent_latency",),
        1.0,
        figure="p50_ms",
    ),
    Bar(
        "confluent face, produce() to poll() at 200/s, p99 / confluent's, less is better",
        "face_latency",
        ("confluent_latency",),
        1.0,
        figure="p99_ms",
    ),
    Bar("process(), 100 in flight of 50 ms / 2,000 a second", "process_100_in_flight", (), 0.97, ideal=2_000),
    Bar("process(), 1,000 in flight of 50 ms / 20,000 a second", "process_1000_in_flight", (), 0.93, ideal=20_000),
    Bar(
        "process(), coroutines by key / confluent's poll(), every message touched",
        "process_coroutines",
        ("confluent_poll_each",),
        0.2,
    ),
    Bar(
        "confluent's poll() with asyncio.create_task for each / confluent's poll(): the limit of coroutines",
        "confluent_create_task",
        ("confluent_poll_each",),
    ),
    Bar(
        "Python process(), each record output exactly once / sent with a producer in the handler",
        "py_process_exactly_once",
        ("py_process_sends",),
    ),
    Bar("BaseKafkaConsumer, 500 B JSON / confluent's poll(), json.loads, handler", "py_base_consumer", ("confluent_json",), 2.5),
    Bar("BaseKafkaConsumer, 500 B JSON / confluent's poll(), orjson.loads, handler", "py_base_consumer", ("confluent_orjson",)),
)


def chosen(only: Iterable[str]) -> list[Contender]:
    """All contenders, or those with a name of `only` or whose name holds one, with the baselines of their bars."""
    wanted = list(only)
    if not wanted:
        return list(CONTENDERS)
    exact = {contender.name for contender in CONTENDERS}.intersection(wanted)
    parts = [text for text in wanted if text not in exact]
    names = exact | {contender.name for contender in CONTENDERS if any(text in contender.name for text in parts)}
    if not names:
        raise ValueError(f"no contender's name holds {' or '.join(wanted)}; there are {', '.join(c.name for c in CONTENDERS)}")
    for bar in BARS:
        if bar.contender in names:
            names.update(bar.baselines)
    return [contender for contender in CONTENDERS if contender.name in names]
