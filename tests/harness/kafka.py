"""A real Apache Kafka for tests: one or three KRaft nodes on loopback, and an independent second reader of what is in it.

    with KafkaCluster() as kafka:
        kafka.create_topic("t", partitions=3)
        run_something(kafka.bootstrap_servers)
        assert kafka.committed("group", "t") == {0: 10, 1: 10, 2: 10}

Each node has three listeners: CLIENT for the code under test (with SASL, or behind a proxy, when asked for), INTERNAL for the
brokers among themselves and for the reader here, so that what is read back never takes the path under test, and CONTROLLER.

On the command line:

    python -m harness.kafka run [--nodes 3] [--topic name:partitions ...] -- COMMAND...
    python -m harness.kafka available
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import jars, proc
from .ports import ReservedPort
from .proxy import Proxy

if TYPE_CHECKING:
    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

SASL_USER = "tidegate"
SASL_PASSWORD = "only-for-tests"

_START_DEADLINE_S = 90.0
_STOP_DEADLINE_S = 30.0
_REQUEST_DEADLINE_S = 20.0
# One try of a request that is asked again until _REQUEST_DEADLINE_S.
_TRY_DEADLINE_S = 5.0
_START_TRIES = 3
# Between two questions to the cluster about a state that it does not announce.
_ASK_AGAIN_S = 0.05

T = TypeVar("T")

_JAVA_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    # The line that says "Kafka Server started".
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)

# A broker is there in half the time and takes half the processor for it; under load the other compiler is faster.
_SOON_THERE = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

# What suits tests: no waiting for more members, short sessions allowed, quick failover, small tables.
_BASE_PROPERTIES: dict[str, object] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    "auto.create.topics.enable": False,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 4,
    "group.initial.rebalance.delay.ms": 0,
    # Classic groups: the broker's default least is 6000.
    "group.min.session.timeout.ms": 1000,
    # KIP-848 groups: session and heartbeat are the broker's to say; defaults 45000 and 5000.
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 500,
    # A killed broker is noticed after this; default 9000.
    "broker.session.timeout.ms": 4000,
    "broker.heartbeat.interval.ms": 500,
}


class Node:
    """One broker process and what it needs to start again under the same identity and ports."""

    def __init__(self, number: int, folder: Path, proxied: bool) -> None:
        self.number = number
        self.folder = folder
        self.internal, self.client, self.controller = ReservedPort(), ReservedPort(), ReservedPort()
        self.proxy = Proxy(self.client.number) if proxied else None
        self.process: proc.Child | None = None

    @property
    def config_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def advertised_port(self) -> int:
        return self.proxy.port if self.proxy else self.client.number

    def release(self) -> None:
        if self.process:
            self.process.end()
        if self.proxy:
            self.proxy.close()
        for port in (self.internal, self.client, self.controller):
            port.release()


class KafkaCluster:
    """A cluster of real brokers, a context manager; node ids are 1 to ``nodes``.

    ``properties`` are added to every broker's. ``sasl=True`` makes the CLIENT listener SASL_PLAINTEXT with PLAIN, SCRAM-SHA-256
    and SCRAM-SHA-512 and the user SASL_USER, and with OAUTHBEARER and unsecured tokens for anybody (``unsecured_token``).
    ``fast=True`` is for clusters that are to be fast under load rather than soon there.
    ``proxied=True`` puts a ``Proxy`` before each broker's CLIENT listener, in ``proxies``, to cut or stall the connections of
    the code under test.
    """

    def __init__(
        self,
        nodes: int = 1,
        properties: Mapping[str, object] | None = None,
        sasl: bool = False,
        proxied: bool = False,
        fast: bool = False,
        java_options: Sequence[str] = (),
    ) -> None:
        self._count = nodes
        self._properties = dict(properties or {})
        self._sasl = sasl
        self._proxied = proxied
        self._java_options = (*_JAVA_OPTIONS, *(() if fast else _SOON_THERE), *java_options)
        self._nodes: dict[int, Node] = {}
        self._scratch = contextlib.ExitStack()
        self._admin: AdminClient | None = None

    # ---- life -------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> KafkaCluster:
        if reason := jars.unavailable():
            raise RuntimeError(f"cannot start Kafka: {reason}")
        self._class_path = jars.class_path()
        for attempt in range(1, _START_TRIES + 1):
            try:
                self._start_all()
                return self
            except BaseException as error:
                self.close()
                # Our ports are reserved, but a neighbour that binds with SO_REUSEADDR too can still take one.
                if attempt == _START_TRIES or "already in use" not in str(error):
                    raise
        raise AssertionError("unreachable")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every broker and remove their data; idempotent."""
        self._admin = None
        for node in self._nodes.values():
            node.release()
        self._nodes.clear()
        self._scratch.close()

    def _start_all(self) -> None:
        root = self._scratch.enter_context(proc.scratch_directory("tidegate-kafka-"))
        for number in range(1, self._count + 1):
            folder = root / f"node-{number}"
            folder.mkdir()
            self._nodes[number] = Node(number, folder, self._proxied)
        cluster_id = _random_uuid()
        for node in self._nodes.values():
            node.config_file.write_text(self._server_properties(node))
        with ThreadPoolExecutor(self._count) as pool:
            list(pool.map(lambda node: self._format(node, cluster_id), self._nodes.values()))
        for node in self._nodes.values():
            self._launch(node)
        for node in self._nodes.values():
            self._await_started(node)
        self._await_brokers()

    def _server_properties(self, node: Node) -> str:
        replicas = min(3, self._count)
        in_sync = max(1, replicas - 1)
        client_protocol = "SASL_PLAINTEXT" if self._sasl else "PLAINTEXT"
        properties: dict[str, object] = {
            **_BASE_PROPERTIES,
            "node.id": node.number,
            "log.dirs": node.folder / "data",
            "controller.quorum.voters": ",".join(f"{n.number}@127.0.0.1:{n.controller.number}" for n in self._nodes.values()),
            "listeners": f"INTERNAL://127.0.0.1:{node.internal.number},CLIENT://127.0.0.1:{node.client.number},"
            f"CONTROLLER://127.0.0.1:{node.controller.number}",
            "advertised.listeners": f"INTERNAL://127.0.0.1:{node.internal.number},CLIENT://127.0.0.1:{node.advertised_port}",
            "listener.security.protocol.map": f"INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENT:{client_protocol}",
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "min.insync.replicas": in_sync,
        }
        if self._sasl:
            scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{SASL_USER}="{SASL_PASSWORD}";'
            oauth = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
            oauth += 'unsecuredLoginStringClaim_sub="broker";'
            properties |= {
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
                "listener.name.client.oauthbearer.sasl.jaas.config": oauth,
                "listener.name.client.plain.sasl.jaas.config": plain,
                "listener.name.client.scram-sha-256.sasl.jaas.config": scram,
                "listener.name.client.scram-sha-512.sasl.jaas.config": scram,
            }
        properties |= self._properties
        return "".join(f"{name}={_property_text(value)}\n" for name, value in properties.items())

    def _java(self, main_class: str, *args: str) -> list[str]:
        command = jars.java()
        assert command is not None
        return [command, *self._java_options, "-cp", self._class_path, main_class, *args]

    def _format(self, node: Node, cluster_id: str) -> None:
        args = ["format", "-t", cluster_id, "-c", str(node.config_file)]
        if self._sasl:
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                args += ["--add-scram", f"{mechanism}=[name={SASL_USER},password={SASL_PASSWORD}]"]
        with proc.Child(self._java("kafka.tools.StorageTool", *args), name=f"format of node {node.number}") as child:
            if child.wait(_START_DEADLINE_S) != 0:
                child.wait_for_output_end()
                raise RuntimeError(f"Kafka's storage could not be formatted:\n{child.tail()}")

    def _launch(self, node: Node) -> None:
        node.process = proc.Child(self._java("kafka.Kafka", str(node.config_file)), name=f"kafka node {node.number}")

    def _await_started(self, node: Node) -> None:
        """The broker says so when it is registered, caught up and no longer fenced."""
        assert node.process is not None
        node.process.wait_for_line("Kafka Server started", _START_DEADLINE_S)

    def _await_brokers(self) -> None:
        """Until the reader, at any broker, is told of every running one: each learns of the others a moment later."""
        running = {n.number for n in self._nodes.values() if n.process and n.process.alive}
        self.await_state("all brokers in the metadata", lambda: running <= set(self.admin.list_topics(timeout=5).brokers))

    # ---- addresses --------------------------------------------------------------------------------------------------------

    @property
    def bootstrap_servers(self) -> str:
        """The CLIENT listeners, for the code under test."""
        return ",".join(f"127.0.0.1:{node.advertised_port}" for node in self._nodes.values())

    @property
    def client_config(self) -> dict[str, str]:
        """``bootstrap.servers``, and what SASL needs, under librdkafka's names."""
        config = {"bootstrap.servers": self.bootstrap_servers}
        if self._sasl:
            config |= {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": SASL_USER,
                "sasl.password": SASL_PASSWORD,
            }
        return config

    @property
    def reader_servers(self) -> str:
        """The INTERNAL listeners: no SASL, no proxy."""
        return ",".join(f"127.0.0.1:{node.internal.number}" for node in self._nodes.values())

    @property
    def proxies(self) -> dict[int, Proxy]:
        """By node id; empty unless ``proxied=True``."""
        return {number: node.proxy for number, node in self._nodes.items() if node.proxy}

    @property
    def java_class_path(self) -> str:
        """For Kafka's own tools, such as ``org.apache.kafka.tools.ConsumerPerformance``."""
        return self._class_path

    # ---- brokers ----------------------------------------------------------------------------------------------------------

    def pid(self, broker: int) -> int:
        process = self._nodes[broker].process
        if process is None:
            raise RuntimeError(f"broker {broker} is stopped")
        return process.pid

    def stop_broker(self, broker: int, hard: bool = False) -> None:
        """End a broker, in order (SIGTERM) or as a crash (SIGKILL); its data and ports are kept for ``start_broker``."""
        node = self._nodes[broker]
        if node.process is None:
            return
        if not hard:
            node.process.terminate()
            # Three stopped nodes, or the last one of a quorum, wait for each other for ever.
            with contextlib.suppress(TimeoutError):
                node.process.wait(_STOP_DEADLINE_S)
        node.process.end()
        node.process = None
        self._admin = None

    def start_broker(self, broker: int, wait: bool = True) -> None:
        """Start a stopped broker on the same ports and data; with ``wait`` it serves when this returns."""
        node = self._nodes[broker]
        if node.process is not None:
            raise RuntimeError(f"broker {broker} is running")
        self._launch(node)
        if wait:
            self._await_started(node)
            self._await_brokers()

    def freeze_broker(self, broker: int) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid(broker), signal.SIGSTOP)

    def thaw_broker(self, broker: int) -> None:
        os.kill(self.pid(broker), signal.SIGCONT)

    def broker_output(self, broker: int) -> list[str]:
        """What the running broker logged."""
        process = self._nodes[broker].process
        return process.lines if process else []

    # ---- the second reader ------------------------------------------------------------------------------------------------

    @property
    def admin(self) -> AdminClient:
        """confluent-kafka's admin client on the INTERNAL listeners."""
        if self._admin is None:
            from confluent_kafka.admin import AdminClient

            self._admin = AdminClient({"bootstrap.servers": self.reader_servers, "log_level": 2, "reconnect.backoff.max.ms": 500})
        return self._admin

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication: int = 1,
        config: Mapping[str, object] | None = None,
    ) -> None:
        """Create a topic and wait until every partition has a leader that all running brokers tell of."""
        from confluent_kafka.admin import NewTopic

        settings = {key: _property_text(value) for key, value in (config or {}).items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replication, config=settings)
        self.admin.create_topics([topic], operation_timeout=_REQUEST_DEADLINE_S)[name].result(_REQUEST_DEADLINE_S)

        def led() -> bool:
            told = self.admin.list_topics(name, timeout=5).topics[name]
            return len(told.partitions) == partitions and all(p.leader >= 0 for p in told.partitions.values())

        self.await_state(f"leaders of {name}", led)

    def delete_topic(self, name: str) -> None:
        self.admin.delete_topics([name], operation_timeout=_REQUEST_DEADLINE_S)[name].result(_REQUEST_DEADLINE_S)

    def describe_group(self, group: str) -> ConsumerGroupDescription:
        """State, type and members with their assignments, as the group's coordinator tells them."""
        return self._ask(lambda: self.admin.describe_consumer_groups([group], request_timeout=_TRY_DEADLINE_S)[group])

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Committed offsets by partition; partitions without one are left out."""
        from confluent_kafka import ConsumerGroupTopicPartitions

        request = [ConsumerGroupTopicPartitions(group)]
        told = self._ask(lambda: self.admin.list_consumer_group_offsets(request, request_timeout=_TRY_DEADLINE_S)[group])
        return {tp.partition: tp.offset for tp in told.topic_partitions if tp.topic == topic and tp.offset >= 0}

    def _ask(self, request: Callable[[], Future[T]]) -> T:
        """The answer to an admin request, asked again while the cluster says to try again (a coordinator that loads or moves)."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + _REQUEST_DEADLINE_S
        while True:
            try:
                return request().result(_REQUEST_DEADLINE_S)
            except KafkaException as error:
                code = error.args[0]
                if code.code() not in _transient() or time.monotonic() > deadline:
                    raise
            time.sleep(_ASK_AGAIN_S)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """High watermarks by partition."""
        return self._offsets(topic, latest=True)

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """Low watermarks by partition."""
        return self._offsets(topic, latest=False)

    def _offsets(self, topic: str, latest: bool) -> dict[int, int]:
        from confluent_kafka import TopicPartition
        from confluent_kafka.admin import OffsetSpec

        spec = OffsetSpec.latest() if latest else OffsetSpec.earliest()
        partitions = self.admin.list_topics(topic, timeout=_REQUEST_DEADLINE_S).topics[topic].partitions
        answers = self.admin.list_offsets({TopicPartition(topic, p): spec for p in partitions}, request_timeout=_REQUEST_DEADLINE_S)

        def offset(place: TopicPartition) -> int:
            # A new leader may not know of its partition yet: that one is asked again.
            known = [answers[place]]
            return int(self._ask(lambda: known.pop() if known else self.admin.list_offsets({place: spec})[place]).offset)

        return {place.partition: offset(place) for place in answers}

    def read_all(self, topic: str, timeout: float = 60.0, isolation: str = "read_uncommitted") -> list[Message]:
        """Every record from the low to the high watermark of now, each partition in order."""
        from confluent_kafka import Consumer, TopicPartition

        ends = {p: end for p, end in self.end_offsets(topic).items() if end > 0}
        if not ends:
            return []
        consumer = Consumer(
            {
                "bootstrap.servers": self.reader_servers,
                "group.id": "tidegate-test-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": isolation,
                "enable.partition.eof": True,
                "log_level": 2,
            }
        )
        records: list[Message] = []
        starts = self.beginning_offsets(topic)
        unread = {p for p, end in ends.items() if starts[p] < end}
        deadline = time.monotonic() + timeout
        try:
            consumer.assign([TopicPartition(topic, p, starts[p]) for p in unread])
            while unread:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"reading {topic}: partitions {sorted(unread)} unfinished, {len(records)} records read")
                for message in consumer.consume(10_000, timeout=0.2):
                    error = message.error()
                    if error is None:
                        if message.offset() < ends[message.partition()]:
                            records.append(message)
                        if message.offset() + 1 >= ends[message.partition()]:
                            unread.discard(message.partition())
                    elif error.code() == error._PARTITION_EOF:
                        # Control records and aborted ones are not handed over, so the end can come without the last offset.
                        unread.discard(message.partition())
                    else:
                        raise RuntimeError(f"reading {topic}: {error}")
        finally:
            consumer.close()
        return sorted(records, key=lambda message: (message.partition(), message.offset()))

    def produce(self, topic: str, values: Sequence[bytes], keys: Sequence[bytes] | None = None, **settings: object) -> None:
        """Write records through confluent-kafka, acknowledged by all replicas; raises when one fails."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.reader_servers, "linger.ms": 5, "log_level": 2, **settings})
        failures: list[str] = []

        def on_delivery(error: object, _: object) -> None:
            if error is not None:
                failures.append(str(error))

        for row, value in enumerate(values):
            while True:
                try:
                    producer.produce(topic, value, keys[row] if keys else None, on_delivery=on_delivery)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        left = producer.flush(_REQUEST_DEADLINE_S * 3)
        if failures or left:
            raise RuntimeError(f"producing to {topic}: {len(failures)} failed ({failures[:1]}), {left} unsent")

    def await_group(
        self,
        group: str,
        condition: Callable[[ConsumerGroupDescription], bool],
        timeout: float = 30.0,
    ) -> ConsumerGroupDescription:
        """Ask the coordinator until ``condition`` holds of the group; returns that description."""
        held: list[ConsumerGroupDescription] = []

        def holds() -> bool:
            held[:] = [self.describe_group(group)]
            return condition(held[0])

        self.await_state(f"group {group}", holds, timeout)
        return held[0]

    def await_state(self, what: str, holds: Callable[[], Any], timeout: float = 30.0) -> None:
        """Ask the cluster until ``holds()``; for state that Kafka tells only when asked. Errors meanwhile are not final."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + timeout
        while True:
            failed: object = "not yet"
            try:
                if holds():
                    return
            except KafkaException as error:
                failed = error
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: {failed} after {timeout} s")
            time.sleep(_ASK_AGAIN_S)


def _transient() -> tuple[int, ...]:
    from confluent_kafka import KafkaError as E

    coordinator = (E.COORDINATOR_LOAD_IN_PROGRESS, E.COORDINATOR_NOT_AVAILABLE, E.NOT_COORDINATOR)
    leader = (E.NOT_LEADER_FOR_PARTITION, E.LEADER_NOT_AVAILABLE)
    return (*coordinator, *leader, E._TRANSPORT, E._TIMED_OUT)


def unsecured_token(user: str, expires_at: float) -> str:
    """A token that the OAUTHBEARER listener takes: a JWT that nobody signed. ``expires_at`` is in seconds since 1970."""

    def part(fields: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'sub': user, 'iat': time.time() - 1, 'exp': expires_at})}."


def _random_uuid() -> str:
    """As StorageTool's random-uuid makes one, without starting a JVM: 16 bytes, not opening with a dash."""
    while True:
        text = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _property_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    from .cli import main

    sys.exit(main())
