"""Topics that are sent to past librdkafka, on a real Kafka: brokers that restart, crash or fall silent, leaders that move,
topics that grow. Nothing is lost, and with one request in flight no record overtakes an earlier one of its key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import NewPartitions

import tidegate
from harness.kafka import KafkaCluster

PARTITIONS = 6
KEYS = 20
PATIENCE_S = 60.0
BATCH = 500
CONFIG: dict[str, object] = {
    "acks": "all",
    "linger.ms": 2,
    "batch.num.messages": BATCH,
    "tidegate.direct.after.records": 100,
    "request.timeout.ms": 4000,
    "socket.timeout.ms": 6000,
    "topic.metadata.refresh.interval.ms": 1000,
    "reconnect.backoff.max.ms": 500,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    """A node of its own, behind a proxy: other tests need theirs alive."""
    with KafkaCluster(proxied=True) as running:
        yield running


class Sender:
    """Sends numbered records, a key's in order, until it is told to stop."""

    def __init__(self, servers: str, topic: str, **config: object) -> None:
        self.producer = tidegate.Producer({**CONFIG, **config, "bootstrap.servers": servers})
        self.topic = topic
        self.sent = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        def on_delivery(error: object, _record: object) -> None:
            if error is not None:
                self.failures.append(str(error))

        while not self._stop.wait(0.002):
            for _ in range(20):
                number = self.sent
                key, value = str(number % KEYS), str(number)
                if number % 3:
                    self.producer.send(self.topic, value, key=key)
                else:
                    self.producer.send(self.topic, value, key=key, on_delivery=on_delivery)
                self.sent += 1

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.producer.close(PATIENCE_S)

    def is_direct(self) -> bool:
        """Whether the topic is sent to past librdkafka now."""
        return self.producer.stats()["topics_direct"] == 1

    def wait(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until this is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"{what} never came"
            threading.Event().wait(0.01)

    def wait_delivered_beyond_now(self) -> None:
        """Wait until what was sent so far, and something more, is delivered."""
        seen = self.sent
        self.wait(f"record {seen}", lambda: self.producer.stats()["records_delivered"] > seen)


def check(cluster: KafkaCluster, sender: Sender, most_twice: int) -> str:
    """All that was sent is there, first times in order for each key, and at most so many are there twice."""
    seen: set[int] = set()
    last: dict[bytes, int] = {}
    twice = 0
    for message in cluster.read_all(sender.topic):
        number, key = int(message.value()), message.key()
        if number in seen:
            twice += 1
            continue
        seen.add(number)
        assert number > last.get(key, -1), f"{number} came after {last[key]} of key {key!r}"
        last[key] = number
    lost = set(range(sender.sent)) - seen
    assert not lost, f"{len(lost)} of {sender.sent} lost"
    assert not sender.failures
    assert sender.producer.stats()["records_failed"] == 0
    assert twice <= most_twice
    return f"{sender.sent} sent, 0 lost, {twice} twice (at most {most_twice})"


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_nothing_is_lost_or_overtaken_when_the_broker_goes_and_comes(
    cluster: KafkaCluster, fresh_name: Callable[[str], str], say: Callable[[str], None]
) -> None:
    topic = fresh_name("topic")
    cluster.create_topic(topic, PARTITIONS)
    outages: dict[str, tuple[Callable[[], object], float, Callable[[], object]]] = {
        "restart": (lambda: cluster.stop_broker(1), 0.0, lambda: cluster.start_broker(1)),
        "crash": (lambda: cluster.stop_broker(1, hard=True), 1.0, lambda: cluster.start_broker(1)),
        "silence": (cluster.proxies[1].stall, 7.0, cluster.proxies[1].restore),
    }
    with Sender(cluster.bootstrap_servers, topic, **{"max.in.flight.requests.per.connection": 1}) as sender:
        for begin, away_s, end in outages.values():
            sender.wait("sending directly", sender.is_direct)
            sender.wait_delivered_beyond_now()
            begin()
            sender.wait("the end of sending directly", lambda: not sender.is_direct())
            threading.Event().wait(away_s)  # the outage itself
            end()
            sender.wait_delivered_beyond_now()
        sender.wait("sending directly", sender.is_direct)
        sender.wait_delivered_beyond_now()
    # One request that was on its way past librdkafka, with a batch of each partition, and one of librdkafka's own.
    most_twice = len(outages) * (PARTITIONS + 1) * BATCH
    say(f"{', '.join(outages)}: {check(cluster, sender, most_twice)}")


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_new_partitions_are_sent_to(cluster: KafkaCluster, fresh_name: Callable[[str], str], say: Callable[[str], None]) -> None:
    topic = fresh_name("topic")
    cluster.create_topic(topic, 2)
    with Sender(cluster.bootstrap_servers, topic) as sender:
        sender.wait("sending directly", sender.is_direct)
        cluster.admin.create_partitions([NewPartitions(topic, 5)])[topic].result(PATIENCE_S)
        sender.wait("records in all partitions", lambda: [*map(bool, cluster.end_offsets(topic).values())] == [True] * 5)
        sender.wait("sending directly again", sender.is_direct)
        sender.wait_delivered_beyond_now()
    numbers = sorted(int(message.value()) for message in cluster.read_all(topic))
    assert numbers == list(range(sender.sent))
    say(f"from 2 partitions to 5: {sender.sent} sent, each there once")


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_leader_that_dies_is_replaced(kafka3: KafkaCluster, fresh_topic3: Callable[..., str], say: Callable[[str], None]) -> None:
    topic = fresh_topic3(partitions=PARTITIONS)
    with Sender(kafka3.bootstrap_servers, topic, **{"max.in.flight.requests.per.connection": 1}) as sender:
        sender.wait("sending directly", sender.is_direct)
        sender.wait_delivered_beyond_now()
        kafka3.stop_broker(2, hard=True)
        sender.wait("the end of sending directly", lambda: not sender.is_direct())
        sender.wait_delivered_beyond_now()
        # To the new leaders, while one broker is away.
        sender.wait("sending directly again", sender.is_direct)
        sender.wait_delivered_beyond_now()
        kafka3.start_broker(2)
        sender.wait_delivered_beyond_now()
    most_twice = (PARTITIONS + 3) * BATCH
    say(f"three nodes, a leader killed: {check(kafka3, sender, most_twice)}")
