"""Ctrl-C, forks, and the interpreter's end: nothing hangs, nothing is lost, nothing is called too late."""

from __future__ import annotations

import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import native
import pytest

import tidegate
from harness.proc import Child

PROMPT_S = 0.1
"""Ctrl-C is answered within this."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks as Unix has them")


@pytest.fixture(scope="module")
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker() as broker:
        yield broker


def run(script: str, *arguments: str) -> Child:
    return Child.python(_HEAD + textwrap.dedent(script), *arguments, env={"PYTHONPATH": str(Path(__file__).parent)})


def wait_until_it_sleeps(child: Child) -> None:
    """Into the wait that it has announced: outside there is no event of that, but its main thread neither runs nor wants to."""
    stat = Path(f"/proc/{child.pid}/stat")
    slept = 0
    while slept < 10:
        # Without Linux's /proc the time has to do.
        sleeps = not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "S"
        slept = slept + 1 if sleeps else 0
        time.sleep(0.02)


_HEAD = """
import os, signal, sys, threading, time
import native, tidegate
servers, topic, call = (sys.argv[1:] + [""] * 3)[:3]
config = {"bootstrap.servers": servers, "group.id": native.name("group"), "auto.offset.reset": "earliest"}
"""


# -- Ctrl-C --------------------------------------------------------------------------------------------------------------

_WAITS = """
consumer = tidegate.Consumer(config)
consumer.assign({(topic, 0): "beginning"})
assert consumer.poll(30).value == b"0"
waits = {
    "poll": lambda: consumer.poll(),
    "poll(60)": lambda: consumer.poll(60),
    "next_batch": lambda: consumer.next_batch(),
    "fill_batch": lambda: consumer.fill_batch(60, 10),
    "lease_batch": lambda: consumer.lease_batch(),
    "iteration": lambda: next(consumer),
    "batches": lambda: next(consumer.batches()),
}
seen = []
print("waiting", flush=True)
try:
    got = waits[call]()
    print("returned", got)
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
while len(seen) < int(sys.argv[4]):
    batch = consumer.next_batch(30)
    seen += [int(value) for value in batch.values]
print("then", seen)
"""


@pytest.mark.parametrize("call", ["poll", "poll(60)", "next_batch", "fill_batch", "lease_batch", "iteration", "batches"])
def test_ctrl_c_interrupts_a_wait_at_once(broker: tidegate.EmbeddedBroker, call: str) -> None:
    topic = native.topic_with(broker, ["0"])
    with run(_WAITS, broker.bootstrap_servers, topic, call, "2") as child:
        child.wait_for_line("waiting")
        if call == "fill_batch":
            native.produce(broker, topic, ["1", "2"])  # collected by the wait, which is interrupted before it is full
        wait_until_it_sleeps(child)
        sent = time.monotonic()
        child.interrupt()
        match = child.wait_for_line(r"^interrupted (\S+)")
        assert float(match[1]) - sent < PROMPT_S
        if call != "fill_batch":
            native.produce(broker, topic, ["1", "2"])
        assert child.wait_for_line("^then")[0] and child.lines[-1] == "then [1, 2]", child.lines
        assert child.wait() == 0


@pytest.mark.parametrize("call", ["fill_batch", "next_batch", "lease_batch"])
def test_a_signal_under_a_flood_costs_no_record(broker: tidegate.EmbeddedBroker, call: str) -> None:
    """It comes at any moment, also while a batch is being taken: what was not returned comes with the next call."""
    count = 50_000
    topic = native.topic_with(broker, (str(number) for number in range(count)))
    script = """
    consumer = tidegate.Consumer(config)
    consumer.assign({(topic, 0): "beginning"})
    take, arguments = {
        "fill_batch": (consumer.fill_batch, (0.001, 500)),
        "next_batch": (consumer.next_batch, (0.001, 50)),
        "lease_batch": (consumer.lease_batch, (0.001, 50)),
    }[call]
    count, seen, interrupted, inside = int(sys.argv[4]), 0, 0, False
    class Interrupt(Exception):
        pass
    def fetch():
        return take(*arguments)
    def on_signal(_number, frame):
        # Python itself drops a value that was returned and not assigned yet; that moment is not the call's, so the handler
        # raises only inside of the call.
        if inside and frame.f_code is fetch.__code__:
            raise Interrupt
    def profile(_frame, event, function):
        global inside
        if function == take:
            inside = event == "c_call"
    signal.signal(signal.SIGALRM, on_signal)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    sys.setprofile(profile)
    while seen < count:
        try:
            batch = fetch()
        except Interrupt:
            interrupted += 1
            continue
        if batch is not None:
            assert batch.offsets[0] == seen, (batch.offsets[0], seen)
            seen += len(batch)
    signal.setitimer(signal.ITIMER_REAL, 0, 0)
    sys.setprofile(None)
    print(seen, interrupted > 3, interrupted)
    """
    with run(script, broker.bootstrap_servers, topic, call, str(count)) as child:
        assert child.wait() == 0, child.tail()
        assert child.lines[-1].startswith(f"{count} True "), child.lines


@pytest.mark.parametrize("call", ["flush", "send", "send_batch", "close", "watermarks", "admin"])
def test_ctrl_c_interrupts_a_call_that_waits_for_a_broker(broker: tidegate.EmbeddedBroker, call: str) -> None:
    script = """
    dead = "127.0.0.1:1"
    producer = tidegate.Producer({"bootstrap.servers": dead, "queue.buffering.max.messages": 1, "log_level": 0,
                                  "tidegate.queue.full.timeout.ms": 60000})
    producer.send("t", "x")
    consumer = tidegate.Consumer({"bootstrap.servers": dead, "log_level": 0})
    admin = tidegate.Admin({"bootstrap.servers": dead, "log_level": 0})
    calls = {
        "flush": lambda: producer.flush(60),
        "send": lambda: producer.send("t", "y"),
        "send_batch": lambda: producer.send_batch("t", ["y"]),
        "close": lambda: producer.close(60),
        "watermarks": lambda: consumer.watermarks(("t", 0), 60),
        "admin": lambda: admin.topics(60),
    }
    tidegate.set_log_sink(None)
    print("waiting", flush=True)
    try:
        calls[call]()
    except KeyboardInterrupt:
        print("interrupted", time.monotonic(), flush=True)
    os._exit(0)
    """
    with run(script, broker.bootstrap_servers, "t", call) as child:
        child.wait_for_line("waiting")
        wait_until_it_sleeps(child)
        sent = time.monotonic()
        child.interrupt()
        match = child.wait_for_line(r"^interrupted (\S+)")
        assert float(match[1]) - sent < PROMPT_S
        assert child.wait() == 0


def test_a_handler_that_raises_something_else_is_heard_as_well(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])

    class Alarm(Exception):
        pass

    def on_alarm(_number: int, _frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        with native.reading(broker, topic) as consumer:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Alarm):
                consumer.poll()
            native.produce(broker, topic, ["x"])
            record = consumer.poll(native.WAIT_S)
            assert record is not None and record.value == b"x"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- forks ---------------------------------------------------------------------------------------------------------------


def test_in_a_forked_child_the_parents_clients_refuse_and_new_ones_work(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, ["0", "1", "2"])
    script = """
    import gc
    consumer = tidegate.Consumer(config)
    consumer.assign({(topic, 0): "beginning"})
    record = consumer.poll(30)
    producer = tidegate.Producer({"bootstrap.servers": servers})
    producer.send(topic, "3", on_delivery=lambda *_: None)
    producer.flush()
    admin = tidegate.Admin({"bootstrap.servers": servers})
    own = tidegate.EmbeddedBroker()
    lines = []
    tidegate.set_log_sink(lambda *line: lines.append(line))
    if (child := os.fork()) == 0:
        calls = [lambda: consumer.poll(0), lambda: consumer.poll(), lambda: consumer.next_batch(1), lambda: next(consumer),
                 lambda: consumer.fill_batch(1, 2), lambda: consumer.commit(), lambda: consumer.seek((topic, 0), 0),
                 lambda: consumer.assignment(), lambda: consumer.stats(), lambda: consumer.wake(), lambda: consumer.close(),
                 lambda: consumer.topics(), lambda: consumer.__exit__(None, None, None),
                 lambda: producer.send(topic, "x"), lambda: producer.send_batch(topic, ["x"]), lambda: producer.flush(),
                 lambda: producer.close(), lambda: producer.in_flight, lambda: admin.topics(), lambda: own.create_topic("x")]
        started = time.monotonic()
        for number, call in enumerate(calls):
            try:
                call()
                print("not refused", number)
            except tidegate.ForkedError as error:
                assert error.fatal and error.code == "FORKED"
        assert consumer.closed and producer.closed and "closed" in repr(consumer)
        assert record.value == b"0", "records are the child's as well"
        del consumer, producer, admin, own, calls, call
        gc.collect()
        print("refused within a second", time.monotonic() - started < 1, flush=True)
        with tidegate.Producer({"bootstrap.servers": servers}) as mine:
            mine.send(topic, "4")
            assert mine.flush(30) == 0
        mine = tidegate.Consumer({**config, "enable.auto.commit": True, "log.connection.close": True})
        mine.assign({(topic, 0): "beginning"})
        print("child read", [mine.poll(30).value for _ in range(5)], flush=True)
        broken = tidegate.Producer({"bootstrap.servers": "127.0.0.1:1"})
        while not lines:
            time.sleep(0.01)
        print("child logs", flush=True)
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    print("parent read", [consumer.poll(30).value for _ in range(4)])
    """
    with run(script, broker.bootstrap_servers, topic) as child:
        assert child.wait() == 0, child.tail()
        lines = child.lines
        assert "refused within a second True" in lines, lines
        assert "child read [b'0', b'1', b'2', b'3', b'4']" in lines and "child logs" in lines
        assert "parent read [b'1', b'2', b'3', b'4']" in lines and not any("not refused" in line for line in lines)


# -- the interpreter's end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["falls off", "sys.exit(0)", "raise SystemExit(0)"])
def test_exit_with_everything_open_is_quick_and_clean(broker: tidegate.EmbeddedBroker, end: str) -> None:
    topic = native.topic_with(broker, [str(number) for number in range(1000)])
    script = """
    tidegate.set_log_sink(lambda level, target, message: None)
    consumers = [tidegate.Consumer({**config, "debug": "cgrp,fetch"}) for _ in range(3)]
    for consumer in consumers:
        consumer.assign({(topic, 0): "beginning"})
        assert consumer.poll(30) is not None
    waiting = threading.Thread(target=lambda: list(consumers[0]), daemon=True)
    waiting.start()
    batches = threading.Thread(target=lambda: [len(batch) for batch in consumers[1].batches()], daemon=True)
    batches.start()
    producer = tidegate.Producer({"bootstrap.servers": servers, "linger.ms": 100})
    told = []
    for _ in range(100):
        producer.send(topic, "late", on_delivery=lambda *_: (told.append(1), len(told) == 100 and print("all told", flush=True)))
    broker = tidegate.EmbeddedBroker()
    admin = tidegate.Admin({"bootstrap.servers": servers})
    print("ends", flush=True)
    """
    with run(textwrap.dedent(script) + ("" if end == "falls off" else end), broker.bootstrap_servers, topic) as child:
        child.wait_for_line("^ends")
        started = time.monotonic()
        assert child.wait() == 0, child.tail()
        assert time.monotonic() - started < 6
        assert child.lines == ["ends", "all told"] or child.lines == ["all told", "ends"], child.lines


def test_exit_commits_what_is_finished_and_not_what_is_in_hand(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [str(number) for number in range(100)])
    group = native.name("group")
    script = """
    consumer = tidegate.Consumer({**config, "group.id": sys.argv[3], "auto.commit.interval.ms": 3600000})
    consumer.assign([(topic, 0)])
    for _ in range(10):
        assert consumer.poll(30) is not None
    """
    with run(script, broker.bootstrap_servers, topic, group) as child:
        assert child.wait() == 0, child.tail()
    with native.grouped(broker, group_id=group) as consumer:
        assert consumer.committed([(topic, 0)], native.WAIT_S) == {tidegate.TopicPartition(topic, 0): 9}


def test_exit_is_bounded_when_nothing_can_be_delivered() -> None:
    script = """
    tidegate.set_log_sink(None)
    producer = tidegate.Producer({"bootstrap.servers": "127.0.0.1:1"})
    producer.send("t", "x", on_delivery=lambda *_: None)
    consumer = tidegate.Consumer({**config, "bootstrap.servers": "127.0.0.1:1"}, ["t"])
    print("ends", flush=True)
    """
    with run(script) as child:
        child.wait_for_line("^ends")
        started = time.monotonic()
        assert child.wait() == 0, child.tail()
        assert time.monotonic() - started < 9


def test_exit_while_callbacks_and_log_lines_are_coming(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    script = """
    tidegate.set_log_sink(lambda level, target, message: message.encode())
    producer = tidegate.Producer({"bootstrap.servers": servers, "debug": "all"})
    consumer = tidegate.Consumer({**config, "debug": "all"})
    consumer.subscribe([topic], on_assign=lambda partitions: str(partitions), on_revoke=lambda partitions: str(partitions))
    def send():
        try:
            while True:
                producer.send(topic, "x", on_delivery=lambda *_: sum(range(100)))
        except tidegate.ClosedError:
            pass
    for target in (send, lambda: [consumer.poll() for _ in range(10**9)]):
        threading.Thread(target=target, daemon=True).start()
    time.sleep(0.3)
    print("ends", flush=True)
    """
    for _ in range(5):
        with run(script, broker.bootstrap_servers, topic) as child:
            child.wait_for_line("^ends")
            started = time.monotonic()
            assert child.wait() == 0, child.tail()
            assert time.monotonic() - started < 9, child.tail()


# -- logs ----------------------------------------------------------------------------------------------------------------


def test_log_lines_come_with_numbers_of_logging_and_a_sink_that_raises_is_ignored() -> None:
    script = """
    lines = []
    def sink(*line):
        lines.append(line)
        raise ValueError("never seen {} %s")
    tidegate.set_log_sink(sink)
    producer = tidegate.Producer({"bootstrap.servers": "127.0.0.1:1"})
    while not any(target == "librdkafka" for _, target, _ in lines):
        time.sleep(0.01)
    assert all(level in (5, 10, 20, 30, 40) and type(message) is str for level, _, message in lines)
    assert threading.get_ident() and {target for _, target, _ in lines} <= {"tidegate", "librdkafka"}
    tidegate.set_log_sink(None)
    count = len(lines)
    tidegate.Consumer({**config, "bootstrap.servers": "127.0.0.1:1"}).close()
    assert len(lines) == count
    for wrong in (3, "x"):
        try:
            tidegate.set_log_sink(wrong)
            print("taken")
        except tidegate.ArgumentError as error:
            assert isinstance(error, TypeError) and "sink: " in str(error)
    print("done")
    """
    with run(script) as child:
        assert child.wait() == 0, child.tail()
        assert child.lines == ["done"]


def test_by_default_lines_go_to_logging_or_loguru(broker: tidegate.EmbeddedBroker) -> None:
    head = """
import logging, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sys.modules["loguru"] = None
logging.basicConfig(level=0, format="%(levelname)s %(name)s %(message)s")
"""
    body = """
producer = tidegate.Producer({"bootstrap.servers": "127.0.0.1:1", "client.id": "{brace}%s"})
signal.sigwait([signal.SIGUSR1])
"""
    with Child.python(head + _HEAD + body, env={"PYTHONPATH": str(Path(__file__).parent)}) as child:
        child.wait_for_line("^ERROR librdkafka FAIL: .*127.0.0.1:1")
        child.signal(signal.SIGUSR1)
        assert child.wait() == 0, child.tail()


def test_closing_in_a_signal_handler_and_in_atexit(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, ["x"])
    script = """
    import atexit
    consumer = tidegate.Consumer(config)
    consumer.assign({(topic, 0): "beginning"})
    atexit.register(lambda: (consumer.close(), print("closed at exit", flush=True)))
    signal.signal(signal.SIGTERM, lambda *_: consumer.close())
    print("waiting", consumer.poll(30).value, flush=True)
    print("then", consumer.poll())
    """
    with run(script, broker.bootstrap_servers, topic) as child:
        child.wait_for_line("waiting")
        wait_until_it_sleeps(child)
        child.terminate()
        assert child.wait() == 0, child.tail()
        assert child.lines[-2:] == ["then None", "closed at exit"]
