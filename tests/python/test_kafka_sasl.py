"""SASL on a real Kafka: tokens from the application, by Python, and credentials that change while a client runs."""

from __future__ import annotations

import gc
import importlib
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest

import tidegate
import tidegate.confluent
from harness.kafka import SASL_PASSWORD, SASL_USER, KafkaCluster, unsecured_token

SECRET = "only-in-the-token"
"""The subject of every token here: what must not be found in a text is looked for by its encoding."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    # With re-authentication the broker ends a connection when its token expires, unless a new one is sent on it.
    reauthentication = {"listener.name.client.oauthbearer.connections.max.reauth.ms": 3_600_000}
    with KafkaCluster(sasl=True, properties=reauthentication) as running:
        running.create_topic("sasl", partitions=1)
        yield running


pytestmark = pytest.mark.kafka


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    """What is logged at warning or above, as loguru's messages."""
    loguru = pytest.importorskip("loguru").logger
    lines: list[Any] = []
    handler = loguru.add(lines.append, level="WARNING", format="{message}")
    yield lines
    loguru.remove(handler)


def oauth(cluster: KafkaCluster, **more: str | int | bool) -> dict[str, str | int | float | bool]:
    return {
        "bootstrap.servers": cluster.bootstrap_servers,
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "OAUTHBEARER",
        **more,
    }


def reading(cluster: KafkaCluster, group: str) -> dict[str, str | int | float | bool]:
    return oauth(cluster, **{"group.id": group, "auto.offset.reset": "earliest"})


class Tokens:
    """Gives tokens that live for `life_s`, and counts."""

    def __init__(self, life_s: float = 3600.0) -> None:
        self.life_s = life_s
        self.asked = 0
        self.heard: list[str] = []
        self.threads: set[str] = set()
        self.enough = threading.Event()

    def __call__(self, config: str) -> tuple[str, float]:
        self.asked += 1
        self.heard.append(config)
        self.threads.add(threading.current_thread().name)
        if self.asked >= 4:
            self.enough.set()
        expires_at = time.time() + self.life_s
        return unsecured_token(SECRET, expires_at), expires_at


def test_all_clients_connect_with_tokens_of_a_function(cluster: KafkaCluster, fresh_group: str) -> None:
    tokens = Tokens()
    config = oauth(cluster, **{"sasl.oauthbearer.config": "scope=all"})
    with tidegate.Admin(config, oauth_token=tokens) as admin:
        assert "sasl" in admin.topics(timeout=30)
        assert admin.create_topics({"sasl-made": 1}, timeout=30)["sasl-made"] is None
    with tidegate.Producer(config, oauth_token=tokens) as producer:
        producer.send("sasl", b"with a token")
        producer.flush(timeout=30)
    settings = reading(cluster, fresh_group)
    with tidegate.Consumer(settings, topics=["sasl"], oauth_token=lambda _: (*tokens(""), "me", {"traceId": "a b"})) as consumer:
        record = consumer.poll(timeout=60)
    assert record is not None and record.value == b"with a token"
    assert "scope=all" in tokens.heard
    assert threading.main_thread().name not in tokens.threads


def test_a_connection_outlives_its_tokens(cluster: KafkaCluster) -> None:
    """The broker would close it after 3 s; without a new token nothing could connect after that."""
    tokens = Tokens(life_s=3.0)
    with tidegate.Producer(oauth(cluster), oauth_token=tokens) as producer:
        sent = 0
        deadline = time.monotonic() + 120
        while not tokens.enough.is_set():
            assert time.monotonic() < deadline, f"{tokens.asked} tokens were asked for"
            producer.send("sasl", b"again")
            producer.flush(timeout=30)
            sent += 1
        producer.send("sasl", b"with the fourth token")
        producer.flush(timeout=30)
        assert producer.stats()["records_delivered"] == sent + 1


def test_a_function_that_fails_is_asked_again(cluster: KafkaCluster, log_lines: list[Any]) -> None:
    answers: list[object] = [
        ValueError("the server is away"),
        ("not enough",),
        (f"{SECRET}\x7f", time.time() + 60),
        ("late", time.time()),
    ]
    good = Tokens()

    def token(config: str) -> tuple[str, float]:
        if answers:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]
        return good(config)

    with tidegate.Producer(oauth(cluster), oauth_token=token) as producer:
        producer.send("sasl", b"patience")
        producer.flush(timeout=60)
    lines = "".join(map(str, log_lines))
    assert "oauth_token raised ValueError: the server is away" in lines
    assert "oauth_token must return (token, expires_at)" in lines
    assert "RFC 7628" in lines and "expired" in lines
    assert SECRET not in lines


def test_no_token_no_connection_and_no_delay_of_close(cluster: KafkaCluster) -> None:
    asked, finish = threading.Event(), threading.Event()

    def token(config: str) -> tuple[str, float]:
        asked.set()
        finish.wait(60)
        return Tokens()(config)

    producer = tidegate.Producer(oauth(cluster), oauth_token=token)
    assert asked.wait(60)
    started = time.monotonic()
    producer.close(timeout=1)
    took_s = time.monotonic() - started
    finish.set()
    assert took_s < 30


def test_a_client_in_its_own_function_is_collected(cluster: KafkaCluster) -> None:
    class Service:
        def __init__(self) -> None:
            self.consumer = tidegate.Consumer(reading(cluster, "never-subscribed"), oauth_token=self.token)

        def token(self, config: str) -> tuple[str, float]:
            return Tokens()(config)

    service = Service()
    gone = weakref.ref(service)
    del service
    deadline = time.monotonic() + 60
    # The function may just be running on the token thread.
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None


def test_wrong_arguments_name_themselves(cluster: KafkaCluster) -> None:
    with pytest.raises(tidegate.ArgumentTypeError, match=r"oauth_token: .* cannot be called"):
        tidegate.Producer(oauth(cluster), oauth_token="a token")  # type: ignore[arg-type]
    with pytest.raises(tidegate.ConfigError, match=r"no token provider is given.*oauth_token="):
        tidegate.Producer(oauth(cluster))


def test_credentials_change_while_a_client_runs(cluster: KafkaCluster, fresh_group: str) -> None:
    config: dict[str, str | int | float | bool] = {
        "bootstrap.servers": cluster.bootstrap_servers,
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": SASL_USER,
        "sasl.password": "an old one",
    }
    with tidegate.Admin(config) as admin:
        with pytest.raises(tidegate.KafkaError):
            admin.topics(timeout=2)
        admin.set_sasl_credentials(SASL_USER, SASL_PASSWORD)
        assert "sasl" in admin.topics(timeout=30)
        with pytest.raises(tidegate.ArgumentError, match="password: it holds a NUL"):
            admin.set_sasl_credentials(SASL_USER, "a\0b")
    with tidegate.Producer(config) as producer:
        producer.set_sasl_credentials(SASL_USER, SASL_PASSWORD)
        producer.send("sasl", b"with the new password")
        producer.flush(timeout=60)
    reader = {**config, "group.id": fresh_group, "auto.offset.reset": "earliest"}
    with tidegate.Consumer(reader) as consumer:
        consumer.set_sasl_credentials(SASL_USER, SASL_PASSWORD)
        consumer.subscribe(["sasl"])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if consumer.poll(timeout=5) is not None:
                    break
            except tidegate.KafkaError as error:
                # An attempt with the old password may have been under way.
                assert "AUTHENTICATION" in (error.kafka_name or "")
        else:
            pytest.fail("nothing came")


PACKAGES = [confluent_kafka, tidegate.confluent]
both_packages = pytest.mark.parametrize("package", PACKAGES, ids=["the original", "tidegate.confluent"])


def scram(cluster: KafkaCluster, password: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": cluster.bootstrap_servers,
        "security.protocol": "sasl_plaintext",
        "sasl.mechanisms": "SCRAM-SHA-512",
        "sasl.username": SASL_USER,
        "sasl.password": password,
        "reconnect.backoff.max.ms": 200,
    }


@both_packages
def test_programs_for_the_original_change_their_credentials(cluster: KafkaCluster, fresh_group: str, package: Any) -> None:
    """Each kind of client is refused with the old password, hears so in error_cb, and works with the new one."""
    refused = threading.Event()
    refusal = package.KafkaError._AUTHENTICATION

    def error_cb(error: Any) -> None:
        if error.code() == refusal:
            refused.set()

    wrong = {**scram(cluster, "an old one"), "error_cb": error_cb}
    admin_module = importlib.import_module(package.__name__ + ".admin")
    clients: list[Any] = [
        package.Producer(wrong),
        package.Consumer({**wrong, "group.id": fresh_group, "auto.offset.reset": "earliest"}),
        admin_module.AdminClient(wrong),
    ]
    for client in clients:
        refused.clear()
        deadline = time.monotonic() + 60
        while not refused.is_set():
            assert time.monotonic() < deadline, f"{client} was not refused"
            client.poll(0.1)
        with pytest.raises(package.KafkaException):
            client.list_topics(timeout=0.5)
        client.set_sasl_credentials(SASL_USER, SASL_PASSWORD)
        assert "sasl" in client.list_topics(timeout=60).topics
    producer, consumer, _ = clients
    delivered: list[Any] = []
    producer.produce("sasl", fresh_group, callback=lambda error, message: delivered.append((error, message.value())))
    assert producer.flush(60) == 0
    assert delivered == [(None, fresh_group.encode())]
    consumer.subscribe(["sasl"])
    deadline = time.monotonic() + 60
    values: list[bytes] = []
    while fresh_group.encode() not in values:
        assert time.monotonic() < deadline, "the record does not come"
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            values.append(message.value())
    consumer.close()


@both_packages
def test_programs_for_the_original_bring_their_own_tokens(cluster: KafkaCluster, fresh_group: str, package: Any) -> None:
    """With tokens that live so shortly that a connection does not outlive its first one."""
    tokens = Tokens(life_s=3.0)
    config: dict[str, Any] = {**oauth(cluster), "oauth_cb": tokens, "sasl.oauthbearer.config": "scope=all"}
    producer = package.Producer(config)
    delivered: list[Any] = []
    deadline = time.monotonic() + 120
    while not tokens.enough.is_set():
        assert time.monotonic() < deadline, f"{tokens.asked} tokens were asked for"
        producer.produce("sasl", b"a token", callback=lambda error, message: delivered.append(error))
        assert producer.flush(30) == 0
    assert delivered and set(delivered) == {None}
    assert set(tokens.heard) == {"scope=all"}
    consumer = package.Consumer({**config, "group.id": fresh_group, "auto.offset.reset": "earliest"})
    consumer.subscribe(["sasl"])
    message = None
    while message is None or message.error() is not None:
        assert time.monotonic() < deadline, "no record comes"
        message = consumer.poll(1)
    consumer.close()


@pytest.mark.parametrize("when", ["before processing", "while it runs"])
def test_dead_letters_go_out_with_the_credentials_of_their_consumer(cluster: KafkaCluster, fresh_group: str, when: str) -> None:
    """The producer of dead letters is made with the configuration, whose password is old."""
    letters = f"{fresh_group}-letters"
    with tidegate.Admin({"bootstrap.servers": cluster.reader_servers}) as admin:
        assert admin.create_topics({letters: 1, fresh_group: 1}, timeout=30)[letters] is None
    with tidegate.Producer({"bootstrap.servers": cluster.reader_servers}) as producer:
        producer.send(fresh_group, b"bad")
    reader = {**scram(cluster, "an old one"), "group.id": fresh_group, "auto.offset.reset": "earliest"}
    consumer = tidegate.Consumer(reader, topics=[fresh_group])

    def fail(record: tidegate.Record) -> None:
        raise ValueError("not this one")

    def change() -> None:
        consumer.set_sasl_credentials(SASL_USER, SASL_PASSWORD)

    if when == "before processing":
        change()
    processing = consumer.process(fail, dead_letter_topic=letters)
    if when != "before processing":
        change()
    deadline = time.monotonic() + 60
    while processing.ledger()["dead_lettered"] == 0:
        assert time.monotonic() < deadline, "no letter was confirmed"
        time.sleep(0.01)
    processing.stop(drain=10)
    consumer.close()
