"""Fixtures for all tests: real servers started when first asked for, fresh names, and a check that nothing is left behind."""

from __future__ import annotations

import functools
import os
import re
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest

from harness import jars, proc, redis
from harness.kafka import KafkaCluster
from harness.redis import RedisServer

_kafka_unavailable = functools.cache(jars.unavailable)

# Server -> (why it cannot be had, the variable that makes that a failure).
_SERVERS: dict[str, tuple[Callable[[], str | None], str]] = {
    "kafka": (_kafka_unavailable, "TIDEGATE_REQUIRE_KAFKA"),
    "kafka3": (_kafka_unavailable, "TIDEGATE_REQUIRE_KAFKA"),
    "redis": (redis.unavailable, "TIDEGATE_REQUIRE_REDIS"),
}
_SERVER_OF_FIXTURE = {"kafka": "kafka", "kafka3": "kafka3", "redis_server": "redis", "redis_url": "redis"}


def pytest_configure() -> None:
    """A shell that starts this in the background makes it ignore Ctrl-C, and every child would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", action="store_true", help="run the tests marked chaos, the long form of the failure tests")


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that asks for a server's fixture carries its marker, so that `-m "not kafka"` leaves it out."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if server := _SERVER_OF_FIXTURE.get(fixture):
                item.add_marker(server)
        if item.get_closest_marker("chaos") and not config.getoption("--chaos"):
            item.add_marker(pytest.mark.skip(reason="the long form: make chaos"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for server, (unavailable, require) in _SERVERS.items():
        if item.get_closest_marker(server) and (reason := unavailable()):
            if os.environ.get(require) == "1":
                pytest.fail(f"{server} is required ({require}=1): {reason}", pytrace=False)
            pytest.skip(f"real {server} not available: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Everything the session started has ended by now; what has not is ended and fails the session."""
    if left := proc.end_all():
        print("\nleft running by the tests, now ended: " + ", ".join(left))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """A function that shows a line of evidence at once, also when the test passes."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n    {line}", end="", flush=True)

    return show


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaCluster]:
    """A single-node Kafka shared by the session; leave it running and use ``fresh_topic`` and ``fresh_group``."""
    with KafkaCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kafka3() -> Iterator[KafkaCluster]:
    """Three nodes for one module; a test that stops one starts it again."""
    with KafkaCluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def fresh_name(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """A function that makes names no other test uses, telling of the test in the broker's logs."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", request.node.name)[:60].strip("-")
    return lambda prefix: f"{prefix}-{stem}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def fresh_group(fresh_name: Callable[[str], str]) -> str:
    """A group id no other test uses."""
    return fresh_name("group")


@pytest.fixture
def fresh_topic(kafka: KafkaCluster, fresh_name: Callable[[str], str]) -> Callable[..., str]:
    """A function that creates a topic on ``kafka`` under a new name: ``fresh_topic(partitions=3, config={...})``."""

    def create(partitions: int = 1, config: dict[str, object] | None = None) -> str:
        name = fresh_name("topic")
        kafka.create_topic(name, partitions, config=config)
        return name

    return create


@pytest.fixture
def fresh_topic3(kafka3: KafkaCluster, fresh_name: Callable[[str], str]) -> Callable[..., str]:
    """As ``fresh_topic`` on ``kafka3``, with three replicas."""

    def create(partitions: int = 1, config: dict[str, object] | None = None) -> str:
        name = fresh_name("topic")
        kafka3.create_topic(name, partitions, replication=3, config=config)
        return name

    return create


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real redis-server shared by the session."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The server's URL; its database is emptied first."""
    from redis import Redis

    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url
