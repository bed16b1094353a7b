"""The harness itself: the servers are real, come back where they were, and never outlive their owner."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import proc
from harness.kafka import KafkaCluster
from harness.proc import Child

TESTS = Path(__file__).resolve().parents[1]


def confluent_round_trip(servers: str, topic: str, group: str, values: list[bytes]) -> list[bytes]:
    """Produce ``values`` and read as many back, through confluent-kafka and a group."""
    from confluent_kafka import Consumer, Producer

    producer = Producer({"bootstrap.servers": servers, "log_level": 2})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest", "log_level": 2})
    read: list[bytes] = []
    try:
        consumer.subscribe([topic])
        while len(read) < len(values):
            messages = consumer.consume(len(values) - len(read), timeout=30)
            assert messages, "no records for 30 s"
            for message in messages:
                assert message.error() is None
                read.append(message.value())
    finally:
        consumer.close()  # commits
    return read


def test_one_node_serves_a_round_trip(kafka: KafkaCluster, fresh_topic: Callable[..., str], fresh_group: str) -> None:
    topic = fresh_topic(partitions=3)
    values = [b"%d" % number for number in range(500)]
    assert sorted(confluent_round_trip(kafka.bootstrap_servers, topic, fresh_group, values)) == sorted(values)

    # The second reader agrees with what was written and with what the group committed.
    assert sorted(message.value() for message in kafka.read_all(topic)) == sorted(values)
    ends = kafka.end_offsets(topic)
    assert sum(ends.values()) == len(values)
    assert kafka.committed(fresh_group, topic) == {partition: end for partition, end in ends.items() if end}
    described = kafka.await_group(fresh_group, lambda group: not group.members)
    assert described.group_id == fresh_group


@pytest.mark.kafka
def test_broker_restarts_on_the_same_port_with_its_data(fresh_name: Callable[[str], str]) -> None:
    topic = fresh_name("topic")
    with KafkaCluster() as cluster:
        servers = cluster.bootstrap_servers
        cluster.create_topic(topic)
        for round_, hard in enumerate((False, True), start=1):
            cluster.produce(topic, [b"before"] * 10)
            cluster.stop_broker(1, hard=hard)
            cluster.start_broker(1)
            assert cluster.bootstrap_servers == servers
            assert cluster.end_offsets(topic) == {0: 10 * round_}


def test_three_nodes_serve_with_one_stopped(kafka3: KafkaCluster, fresh_topic3: Callable[..., str], fresh_group: str) -> None:
    topic = fresh_topic3(partitions=3)
    kafka3.stop_broker(2, hard=True)
    try:
        values = [b"%d" % number for number in range(100)]
        assert sorted(confluent_round_trip(kafka3.bootstrap_servers, topic, fresh_group, values)) == sorted(values)
    finally:
        kafka3.start_broker(2)
    kafka3.await_state("three brokers", lambda: len(kafka3.admin.list_topics(timeout=5).brokers) == 3)


@pytest.mark.kafka
def test_sasl_and_the_proxy(fresh_name: Callable[[str], str]) -> None:
    from confluent_kafka import Producer

    topic = fresh_name("topic")
    with KafkaCluster(sasl=True, proxied=True) as cluster:
        cluster.create_topic(topic)
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            producer = Producer({**cluster.client_config, "sasl.mechanism": mechanism, "log_level": 2})
            producer.produce(topic, mechanism.encode())
            assert producer.flush(30) == 0
        proxy = cluster.proxies[1]
        for close_the_way in (proxy.stall, proxy.cut):
            close_the_way()
            producer.produce(topic, b"held back")
            assert producer.flush(1) == 1, "the record passed a closed proxy"
            proxy.restore()
            assert producer.flush(30) == 0
        assert [m.value() for m in cluster.read_all(topic)] == [
            b"PLAIN",
            b"SCRAM-SHA-256",
            b"SCRAM-SHA-512",
            b"held back",
            b"held back",
        ]


@pytest.mark.kafka
def test_a_failing_block_leaves_nothing() -> None:
    pid, folder = 0, Path()
    with pytest.raises(ZeroDivisionError):
        with KafkaCluster() as cluster:
            pid, folder = cluster.pid(1), cluster._nodes[1].folder
            assert proc.is_running(pid) and folder.exists()
            raise ZeroDivisionError
    assert not proc.is_running(pid)
    assert not folder.exists()


@pytest.mark.kafka
def test_a_killed_owner_takes_its_broker_along() -> None:
    owner_program = """
import threading
from harness.kafka import KafkaCluster
with KafkaCluster() as cluster:
    # Restarted from a thread that ends: the broker must not end with it.
    def restart():
        cluster.stop_broker(1, hard=True)
        cluster.start_broker(1)
    thread = threading.Thread(target=restart)
    thread.start()
    thread.join()
    assert cluster.admin.list_topics(timeout=20).brokers
    print("broker", cluster.pid(1), flush=True)
    threading.Event().wait()
"""
    with Child.python(owner_program, env={"PYTHONPATH": str(TESTS)}) as owner:
        broker = int(owner.wait_for_line(r"^broker (\d+)", 100)[1])
        assert proc.is_running(broker)
        owner.kill()
        assert proc.wait_gone(broker, 20)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_ended_owner_takes_its_child_along(number: signal.Signals) -> None:
    owner_program = """
import threading
from harness.proc import Child
child = Child.python("import threading; print('up', flush=True); threading.Event().wait()")
child.wait_for_line("up")
print("child", child.pid, flush=True)
threading.Event().wait()
"""
    with Child.python(owner_program, env={"PYTHONPATH": str(TESTS)}) as owner:
        child = int(owner.wait_for_line(r"^child (\d+)")[1])
        assert proc.is_running(child)
        owner.signal(number)
        owner.wait(20)
        assert proc.wait_gone(child)


def test_a_child_tells_lines_memory_and_exit() -> None:
    program = """
import signal, sys, threading
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
block = bytearray(64 << 20)
print("{ready} 100%", flush=True)
threading.Event().wait()
"""
    with Child.python(program) as child:
        child.wait_for_line(r"^\{ready\} 100%$")
        assert child.peak_rss_bytes() >= child.rss_bytes() > 64 << 20
        with pytest.raises(TimeoutError, match=r"no line matching 'never'"):
            child.wait_for_line("never", timeout=0.05)
        child.terminate()
        assert child.wait(10) == 7
        with pytest.raises(RuntimeError, match="ended without a line"):
            child.wait_for_line("never")
    assert not proc.is_running(child.pid)


def test_ending_a_child_ends_its_children() -> None:
    program = """
import subprocess, sys, threading
grandchild = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
print("grandchild", grandchild.pid, flush=True)
threading.Event().wait()
"""
    with Child.python(program) as child:
        grandchild = int(child.wait_for_line(r"^grandchild (\d+)")[1])
        child.kill()
        assert proc.is_running(grandchild)
    assert proc.wait_gone(grandchild)


def test_a_forked_copy_leaves_the_owners_children_alone() -> None:
    with Child.python("import threading; print('up', flush=True); threading.Event().wait()") as child:
        child.wait_for_line("up")
        forked = os.fork()
        if forked == 0:
            os._exit(len(proc.end_all()))
        assert os.waitpid(forked, 0)[1] == 0
        assert child.alive


def test_redis_answers_and_comes_back_empty(redis_url: str) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        assert client.set("key", "value")
        assert client.get("key") == b"value"


@pytest.mark.redis
def test_redis_restarts_on_the_same_port() -> None:
    from redis import Redis

    from harness.redis import RedisServer

    with RedisServer() as server:
        first = server.pid
        with Redis.from_url(server.url) as client:
            client.set("key", "value")
        server.stop()
        assert not proc.is_running(first)
        server.start()
        with Redis.from_url(server.url) as client:
            assert client.get("key") is None
    assert not proc.is_running(first)
