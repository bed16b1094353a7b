"""What a program of confluent_kafka may do without a cluster, beside the original: clients without servers or without `__init__`,
closed ones, callbacks, log lines, tokens. The cases are those that the original's own unit tests are about.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType
from typing import Any

import confluent_kafka
import confluent_kafka.admin
import pytest

import tidegate.confluent
import tidegate.confluent.admin

PAIR = ((confluent_kafka, confluent_kafka.admin), (tidegate.confluent, tidegate.confluent.admin))
NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "socket.timeout.ms": 100}
WAIT_S = 20.0


def said(call: Callable[[], Any]) -> Any:
    """The kind of what a call raises, with the code or the text of a RuntimeError; or the kind of what it gives."""
    try:
        given = call()
    except Exception as error:
        argument = error.args[0] if error.args else None
        if hasattr(argument, "code"):
            return type(error).__name__, argument.code()
        return type(error).__name__, str(error).split(", or ")[0] if isinstance(error, RuntimeError) else None
    return type(given).__name__


def until(wanted: Callable[[], Any], poll: Callable[[], Any]) -> Any:
    """Polls until something is wanted no more."""
    end = time.monotonic() + WAIT_S
    while not wanted() and time.monotonic() < end:
        poll()
    return wanted()


def consumer_calls(package: ModuleType) -> dict[str, Callable[[Any], Any]]:
    place = package.TopicPartition("t", 0, 0)
    return {
        "subscribe": lambda c: c.subscribe(["t"]),
        "unsubscribe": lambda c: c.unsubscribe(),
        "poll": lambda c: c.poll(0),
        "consume": lambda c: c.consume(1, 0),
        "assign": lambda c: c.assign([place]),
        "unassign": lambda c: c.unassign(),
        "incremental_assign": lambda c: c.incremental_assign([place]),
        "incremental_unassign": lambda c: c.incremental_unassign([place]),
        "assignment": lambda c: c.assignment(),
        "commit": lambda c: c.commit(),
        "committed": lambda c: c.committed([place], 0.1),
        "position": lambda c: c.position([place]),
        "seek": lambda c: c.seek(place),
        "pause": lambda c: c.pause([place]),
        "resume": lambda c: c.resume([place]),
        "store_offsets": lambda c: c.store_offsets(offsets=[place]),
        "watermarks": lambda c: c.get_watermark_offsets(place, 0.1),
        "times": lambda c: c.offsets_for_times([place], 0.1),
        "memberid": lambda c: c.memberid(),
        "group": lambda c: c.consumer_group_metadata(),
        "list_topics": lambda c: c.list_topics(timeout=0.1),
        "set_sasl_credentials": lambda c: c.set_sasl_credentials("a", "b"),
        "close": lambda c: c.close(),
    }


def producer_calls(_package: ModuleType) -> dict[str, Callable[[Any], Any]]:
    return {
        "produce": lambda p: p.produce("t", b"x"),
        "produce_batch": lambda p: p.produce_batch("t", [{"value": b"x"}]),
        "poll": lambda p: p.poll(0),
        "flush": lambda p: p.flush(0),
        "purge": lambda p: p.purge(),
        "len": len,
        "bool": bool,
        "init_transactions": lambda p: p.init_transactions(0.1),
        "begin_transaction": lambda p: p.begin_transaction(),
        "commit_transaction": lambda p: p.commit_transaction(0.1),
        "abort_transaction": lambda p: p.abort_transaction(0.1),
        "list_topics": lambda p: p.list_topics(timeout=0.1),
        "set_sasl_credentials": lambda p: p.set_sasl_credentials("a", "b"),
        "close": lambda p: p.close(),
    }


def admin_calls(package: ModuleType) -> dict[str, Callable[[Any], Any]]:
    admin = PAIR[0][1] if package is confluent_kafka else PAIR[1][1]
    place = package.TopicPartition("t", 0, 1)
    kinds = admin.ResourceType, admin.ResourcePatternType, admin.AclOperation, admin.AclPermissionType
    rule = admin.AclBinding(kinds[0].TOPIC, "t", kinds[1].LITERAL, "User:u", "*", kinds[2].READ, kinds[3].ALLOW)
    rules = admin.AclBindingFilter(kinds[0].ANY, None, kinds[1].ANY, None, None, kinds[2].ANY, kinds[3].ANY)
    resource = [admin.ConfigResource(kinds[0].TOPIC, "t")]
    info = admin.ScramCredentialInfo(admin.ScramMechanism.SCRAM_SHA_256, 10000)
    group = package.ConsumerGroupTopicPartitions("g", [package.TopicPartition("t", 0, 5)])
    return {
        "create_topics": lambda a: a.create_topics([admin.NewTopic("t", 1, 1)]),
        "delete_topics": lambda a: a.delete_topics(["t"]),
        "create_partitions": lambda a: a.create_partitions([admin.NewPartitions("t", 2)]),
        "describe_configs": lambda a: a.describe_configs(resource),
        "incremental_alter_configs": lambda a: a.incremental_alter_configs(resource),
        "create_acls": lambda a: a.create_acls([rule]),
        "delete_acls": lambda a: a.delete_acls([rules]),
        "describe_acls": lambda a: a.describe_acls(rules),
        "list_consumer_groups": lambda a: a.list_consumer_groups(),
        "describe_consumer_groups": lambda a: a.describe_consumer_groups(["g"]),
        "delete_consumer_groups": lambda a: a.delete_consumer_groups(["g"]),
        "alter_consumer_group_offsets": lambda a: a.alter_consumer_group_offsets([group]),
        "describe_user_scram_credentials": lambda a: a.describe_user_scram_credentials(["u"]),
        "alter_user_scram_credentials": lambda a: a.alter_user_scram_credentials(
            [admin.UserScramCredentialUpsertion("u", info, b"secret")]
        ),
        "describe_topics": lambda a: a.describe_topics(package.TopicCollection(["t"])),
        "describe_cluster": lambda a: a.describe_cluster(),
        "list_offsets": lambda a: a.list_offsets({place: admin.OffsetSpec.earliest()}),
        "delete_records": lambda a: a.delete_records([place]),
        "elect_leaders": lambda a: a.elect_leaders(admin._ElectionType.PREFERRED, [place]),
        "a name that is none": lambda a: a.delete_topics([None]),
        "a timeout before now": lambda a: a.list_offsets({place: admin.OffsetSpec.earliest()}, request_timeout=-1),
        "poll": lambda a: a.poll(0),
        "len": len,
        "list_topics": lambda a: a.list_topics(timeout=0.1),
        "list_groups": lambda a: a.list_groups(timeout=0.1),
        "set_sasl_credentials": lambda a: a.set_sasl_credentials("a", "b"),
        "exit": lambda a: a.__exit__(None, None, None),
    }


CALLS = {"Consumer": consumer_calls, "Producer": producer_calls, "AdminClient": admin_calls}


def of(pair: tuple[ModuleType, ModuleType], name: str) -> Any:
    return getattr(pair[1] if name == "AdminClient" else pair[0], name)


def made(pair: tuple[ModuleType, ModuleType], name: str, state: str) -> Any:
    client = of(pair, name)
    if state == "without __init__":
        return type("Unmade", (client,), {"__init__": lambda self, conf: None})({})
    conf = {"socket.timeout.ms": 50, "message.timeout.ms": 50} | ({"group.id": "g"} if name == "Consumer" else {})
    if name == "Consumer":
        del conf["message.timeout.ms"]
    one = client(conf)
    if state == "closed":
        with one:
            pass
    return one


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("state", ["closed", "without __init__"])
@pytest.mark.parametrize("name", CALLS)
def test_calls_of_a_client_that_is_no_more_or_never_was(name: str, state: str, say: Callable[[str], None]) -> None:
    found = []
    for pair in PAIR:
        client = made(pair, name, state)
        found.append({what: said(functools.partial(call, client)) for what, call in CALLS[name](pair[0]).items()})
    different = {what: (found[0][what], found[1][what]) for what in found[0] if found[0][what] != found[1][what]}
    say(f"{len(found[0])} calls of a {name} ({state}), {len(different)} with different outcomes")
    assert not different


def test_a_client_without_servers_is_made_and_reaches_nobody() -> None:
    for pair in PAIR:
        for name in CALLS:
            client = made(pair, name, "open")
            assert said(functools.partial(client.list_topics, timeout=0.1))[0] == "KafkaException"
            client.__exit__(None, None, None)
    statistics: list[Any] = []
    producer = tidegate.confluent.Producer(
        {"bootstrap.servers": None, "statistics.interval.ms": 10, "stats_cb": lambda text: statistics.append(json.loads(text))}
    )
    assert until(lambda: statistics, lambda: producer.poll(0.1))
    assert statistics[0]["brokers"] == {}, "nobody is looked for"
    producer.close()


def test_what_is_deprecated_warns_its_caller() -> None:
    for pair in PAIR:
        resource = pair[1].ConfigResource("topic", "t", set_config={"a": "b"})
        with pair[1].AdminClient(NOWHERE) as client:
            with pytest.warns(DeprecationWarning, match="list_consumer_groups") as warned:
                assert said(functools.partial(client.list_groups, timeout=0.1))[0] == "KafkaException"
            with pytest.warns(DeprecationWarning, match="incremental_alter_configs") as others:
                client.alter_configs([resource])
            assert {one.filename for one in (*warned, *others)} == {__file__}


def told(raised: list[str], heard: list[Any]) -> bool:
    return bool(raised) and True in heard


@pytest.mark.parametrize("name", CALLS)
def test_errors_and_statistics_are_told_inside_of_poll_and_what_a_callback_raises_comes_out(name: str) -> None:
    for pair in PAIR:
        heard: list[Any] = []

        raised: list[str] = []

        def fails(error: Any, heard: list[Any] = heard, raised: list[str] = raised) -> None:
            heard.append(error.code())
            # One for poll(); errors are told while a client closes as well, and that call would raise the next.
            if not raised:
                raise ValueError("raised by the callback")

        def counts(text: str, heard: list[Any] = heard) -> None:
            heard.append(len(json.loads(text)["name"]) > 0)

        group = {"group.id": "g"} if name == "Consumer" else {}
        conf = {**NOWHERE, **group, "statistics.interval.ms": 50, "error_cb": fails, "stats_cb": counts}
        client = of(pair, name)(conf)

        def poll(client: Any = client, raised: list[str] = raised) -> None:
            try:
                client.poll(0.1)
            except ValueError as error:
                raised.append(str(error))

        assert until(functools.partial(told, raised, heard), poll), (name, heard)
        assert pair[0].KafkaError._TRANSPORT in heard and raised[0] == "raised by the callback"
        client.__exit__(None, None, None)


@pytest.mark.parametrize("name", CALLS)
def test_the_first_log_line_is_there_at_the_first_poll(name: str) -> None:
    for pair in PAIR:
        written = io.StringIO()
        logger = logging.getLogger(f"{pair[0].__name__}.{name}")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        handler = logging.StreamHandler(written)
        handler.setFormatter(logging.Formatter("%(levelname)s | %(message)s"))
        logger.addHandler(handler)
        group = {"group.id": "g"} if name == "Consumer" else {}
        client = of(pair, name)({**NOWHERE, **group, "debug": "msg"}, logger=logger)
        client.poll(0)
        # An error comes before it when the connection has failed already.
        assert "DEBUG | INIT [" in written.getvalue(), (pair[0].__name__, written.getvalue())
        client.__exit__(None, None, None)
        logger.removeHandler(handler)


TOKENS: dict[str, Callable[[], Any]] = {
    "a token": lambda: ("token", time.time() + 300),
    "with extensions": lambda: ("token", time.time() + 300, "me", {"one": "1"}),
    "an exception": lambda: 1 / 0,
    "no token": lambda: 5,
    "an expired one": lambda: ("token", time.time() - 300),
}


def fails() -> Any:
    raise OSError("the token server is away")


OAUTH = {**NOWHERE, "security.protocol": "sasl_plaintext", "sasl.mechanisms": "OAUTHBEARER"}
Outcome = Future[tuple[Any, str]]


@pytest.fixture(scope="module")
def constructed() -> Iterator[tuple[dict[tuple[str, str], list[Outcome]], Future[Any]]]:
    """What comes of constructors with a token function, for the kinds of tokens and both packages; and of one whose function fails.

    A constructor looks for ten seconds for its first token, the original once a second: they all wait side by side.
    """

    def outcome(pair: tuple[ModuleType, ModuleType], name: str, what: str) -> tuple[Any, str]:
        asked: list[str] = []

        def give(config: str) -> Any:
            asked.append(config)
            return TOKENS[what]()

        group = {"group.id": "g"} if name == "Consumer" else {}
        conf = {**OAUTH, **group, "sasl.oauthbearer.config": "x", "oauth_cb": give}
        return said(lambda: of(pair, name)(conf)), asked[0]

    cases = [(name, what) for name in CALLS for what in TOKENS]
    with ThreadPoolExecutor(2 * len(cases) + 1) as threads:
        failing = threads.submit(tidegate.confluent.Producer, {**OAUTH, "oauth_cb": lambda _: fails()})
        yield {case: [threads.submit(outcome, pair, *case) for pair in PAIR] for case in cases}, failing


def test_a_constructor_waits_for_the_first_token(constructed: tuple[dict[tuple[str, str], list[Outcome]], Future[Any]]) -> None:
    told = {case: [one.result() for one in both] for case, both in constructed[0].items()}
    assert {case: both for case, both in told.items() if both[0] != both[1]} == {}
    assert told["Consumer", "a token"][1] == ("Consumer", "x")
    code = confluent_kafka.KafkaError.SASL_AUTHENTICATION_FAILED
    assert told["Producer", "an exception"][1] == (("KafkaException", code), "x")


def test_the_exception_for_a_missing_token_says_why(
    constructed: tuple[dict[tuple[str, str], list[Outcome]], Future[Any]],
) -> None:
    with pytest.raises(tidegate.confluent.KafkaException, match=r"not set within 10 seconds.*the token server is away"):
        constructed[1].result()


WRONG = {
    "unknown": ("should.fail", False),
    "no value of it": ("partitioner", "murmur"),
    "out of range": ("socket.timeout.ms", -5),
    "no number": ("linger.ms", "abc"),
    "of the topic": ("default.topic.config", {"acks": "zzz"}),
    "a name that is no str": (5, 5),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_property_is_told_in_librdkafkas_words_first(wrong: str) -> None:
    name, value = WRONG[wrong]
    texts = []
    for pair in PAIR:
        with pytest.raises(Exception) as raised:
            pair[0].Producer({name: value})
        error = raised.value.args[0]
        assert (type(raised.value).__name__, error.code()) == ("KafkaException", pair[0].KafkaError._INVALID_ARG)
        texts.append(error.str().strip())
    same = texts[0].replace("request.required.acks", "acks").replace("queue.buffering.max.ms", "linger.ms")
    assert texts[1].startswith(same), texts


def test_properties_of_other_clients_are_passed_over_by_any_of_their_names() -> None:
    shared = {"group.id": "g", "linger.ms": 5, "queue.buffering.max.ms": 5, "session.timeout.ms": 6000, "retries": 3}
    for pair in PAIR:
        for name in CALLS:
            of(pair, name)(shared).__exit__(None, None, None)
