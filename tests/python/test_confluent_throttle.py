"""`throttle_cb` on a real Kafka with quotas, beside the original: who is told, what, and on which thread."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import confluent_kafka
import confluent_kafka.admin
import pytest

import tidegate.confluent
import tidegate.confluent.admin

pytestmark = pytest.mark.kafka
PACKAGES = pytest.mark.parametrize("package", [confluent_kafka, tidegate.confluent], ids=["original", "tidegate"])
WAIT_S = 60.0
ALTER_CLIENT_QUOTAS = 49


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


def set_quota(servers: str, client_id: str, name: str, value: float) -> None:
    """Kafka's AlterClientQuotas, which librdkafka has no request for."""
    entity = struct.pack(">i", 1) + text("client-id") + text(client_id)
    change = struct.pack(">i", 1) + text(name) + struct.pack(">db", value, 0)
    body = struct.pack(">hhi", ALTER_CLIENT_QUOTAS, 0, 1) + text("quotas") + struct.pack(">i", 1) + entity + change + b"\0"
    host, port = servers.split(",")[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as connection, connection.makefile("rb") as answer:
        connection.sendall(struct.pack(">i", len(body)) + body)
        size, _correlation = struct.unpack(">ii", answer.read(8))
        _throttle, _count, error = struct.unpack(">iih", answer.read(size - 4)[:10])
    assert error == 0


class Heard(list[Any]):
    """What a callback was told; it tells apart on which thread."""

    def __call__(self, event: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.append(event)

    def check(self, package: ModuleType, servers: str) -> None:
        event = max(self, key=lambda event: event.throttle_time)
        assert type(event) is package.ThrottleEvent
        assert event.throttle_time > 0.01, "seconds"
        assert event.broker_name.removesuffix(f"/{event.broker_id}").endswith(servers) or servers in event.broker_name
        assert isinstance(event.broker_id, int)


def until(heard: Heard, act: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not any(event.throttle_time > 0.01 for event in heard) and time.monotonic() < end:
        act()


@PACKAGES
def test_a_producer_hears_that_it_is_held_back(kafka: Any, fresh_topic: Any, fresh_name: Any, package: ModuleType) -> None:
    topic, client = fresh_topic(), fresh_name("client")
    set_quota(kafka.bootstrap_servers, client, "producer_byte_rate", 5000)
    heard = Heard()
    producer = package.Producer({"bootstrap.servers": kafka.bootstrap_servers, "client.id": client, "throttle_cb": heard})

    def produce() -> None:
        producer.produce(topic, b"x" * 5000)
        producer.poll(0.2)

    until(heard, produce)
    heard.check(package, kafka.bootstrap_servers)
    producer.purge()
    producer.close()


@PACKAGES
def test_a_consumer_hears_that_it_is_held_back(kafka: Any, fresh_topic: Any, fresh_name: Any, package: ModuleType) -> None:
    topic, client = fresh_topic(), fresh_name("client")
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for _ in range(40):
        producer.produce(topic, b"x" * 5000)
    assert producer.flush(WAIT_S) == 0
    producer.close()
    set_quota(kafka.bootstrap_servers, client, "consumer_byte_rate", 20000)
    heard = Heard()
    conf = {"bootstrap.servers": kafka.bootstrap_servers, "client.id": client, "group.id": client, "throttle_cb": heard}
    consumer = package.Consumer({**conf, "fetch.max.bytes": 20000, "message.max.bytes": 20000})
    consumer.assign([package.TopicPartition(topic, 0, 0)])
    until(heard, lambda: consumer.poll(0.2))
    heard.check(package, kafka.bootstrap_servers)
    consumer.close()


@PACKAGES
def test_an_admin_client_hears_that_it_is_held_back(kafka: Any, fresh_name: Any, package: ModuleType) -> None:
    client = fresh_name("client")
    set_quota(kafka.bootstrap_servers, client, "controller_mutation_rate", 0.1)
    heard = Heard()
    admin = confluent_kafka.admin if package is confluent_kafka else tidegate.confluent.admin
    conf = {"bootstrap.servers": kafka.bootstrap_servers, "client.id": client, "throttle_cb": heard}
    asking = admin.AdminClient(conf)

    def create() -> None:
        asking.create_topics([admin.NewTopic(fresh_name("topic"), 5, 1)], request_timeout=5)
        asking.poll(0.3)

    with asking:
        until(heard, create)
        heard.check(package, kafka.bootstrap_servers)


@PACKAGES
def test_what_the_callback_raises_comes_out_of_poll(kafka: Any, fresh_topic: Any, fresh_name: Any, package: ModuleType) -> None:
    topic, client = fresh_topic(), fresh_name("client")
    set_quota(kafka.bootstrap_servers, client, "producer_byte_rate", 5000)

    told: list[Any] = []

    def fails(event: Any) -> None:
        told.append(event)
        # One for poll(): the calls that end the producer are to end it.
        if len(told) == 1:
            raise LookupError(event.broker_id)

    producer = package.Producer({"bootstrap.servers": kafka.bootstrap_servers, "client.id": client, "throttle_cb": fails})
    end = time.monotonic() + WAIT_S
    with pytest.raises(LookupError):
        while time.monotonic() < end:
            producer.produce(topic, b"x" * 5000)
            producer.poll(0.2)
    producer.purge()
    producer.close()
