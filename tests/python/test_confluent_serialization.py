"""Serializers, SerializingProducer and their exceptions beside the original's."""

from __future__ import annotations

from typing import Any

import confluent_kafka
import confluent_kafka.error
import confluent_kafka.serialization
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tidegate
from tidegate import confluent
from tidegate.confluent import error as ours_error
from tidegate.confluent import serialization as ours

peer = confluent_kafka.serialization
PAIRS = [
    ("StringSerializer", "StringDeserializer"),
    ("IntegerSerializer", "IntegerDeserializer"),
    ("DoubleSerializer", "DoubleDeserializer"),
]


def said(call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize(("serializer", "deserializer"), PAIRS)
@given(
    value=st.none() | st.text() | st.integers() | st.floats(allow_nan=False) | st.binary(),
    data=st.none() | st.binary(max_size=9),
)
def test_what_goes_in_and_out_is_the_same(serializer: str, deserializer: str, value: Any, data: bytes | None) -> None:
    assert said(getattr(ours, serializer)(), value) == said(getattr(peer, serializer)(), value)
    expected = said(getattr(peer, deserializer)(), data)
    found = said(getattr(ours, deserializer)(), data)
    assert found == expected or (found != found and expected != expected)


def test_names_and_members_are_the_same() -> None:
    assert sorted(ours.__all__) == sorted(peer.__all__)
    for field in ours.MessageField:
        theirs = peer.MessageField(field.value)
        assert field == theirs and str(field) == str(theirs) and hash(field) == hash(theirs)
    for name in (
        "ConsumeError",
        "KeyDeserializationError",
        "ValueDeserializationError",
        "ProduceError",
        "KeySerializationError",
        "ValueSerializationError",
    ):
        mine, theirs = getattr(ours_error, name), getattr(confluent_kafka.error, name)
        assert [base.__name__ for base in mine.__mro__] == [base.__name__ for base in theirs.__mro__]


def test_a_serializing_producer_serializes_key_and_value_and_names_what_failed() -> None:
    seen: list[tuple[Any, ...]] = []

    def serializer(obj: Any, context: ours.SerializationContext) -> bytes:
        seen.append((obj, context.topic, context.field, context.headers))
        return str(obj).encode()

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        conf = {"bootstrap.servers": broker.bootstrap_servers, "key.serializer": serializer, "value.serializer": serializer}
        messages: list[Any] = []
        with confluent.SerializingProducer(conf) as producer:
            producer.produce("t", 1, 2, headers=[("a", b"b")], on_delivery=lambda error, message: messages.append(message))
            assert producer.flush(30) == 0
        assert (messages[0].key(), messages[0].value()) == (b"1", b"2")
        assert seen == [(1, "t", "key", [("a", b"b")]), (2, "t", "value", [("a", b"b")])]
        with pytest.raises(RuntimeError, match="closed"):
            producer.produce("t", 1, 2)
        failing = confluent.SerializingProducer({**conf, "key.serializer": ours.IntegerSerializer()})
        with pytest.raises(ours_error.KeySerializationError) as raised:
            failing.produce("t", "no integer", 2)
        assert raised.value.name == "_KEY_SERIALIZATION" and isinstance(raised.value, ours.SerializationError)
        with pytest.raises(TypeError, match="topic must be a str"):
            failing.produce(None, 1, 2)  # type: ignore[arg-type]


def test_builders_get_the_configuration_and_are_closed_with_the_producer() -> None:
    closed: list[bool] = []

    class Made(ours.Serializer):
        def __call__(self, obj: Any, ctx: Any = None) -> bytes | None:
            return repr(obj).encode()

        def close(self) -> None:
            closed.append(True)

    class Builder(ours.SerializerBuilder):
        def build(self, conf: dict[str, Any], is_key: bool) -> tuple[ours.Serializer, dict[str, Any]]:
            assert conf.pop("my.property") == "mine" and not is_key
            return Made(), conf

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        conf = {"bootstrap.servers": broker.bootstrap_servers, "my.property": "mine", "value.serializer.builder": Builder()}
        with confluent.SerializingProducer(conf) as producer:
            producer.produce("t", None, 7)
        assert closed == [True]
        with pytest.raises(ValueError, match="one or the other"):
            confluent.SerializingProducer({**conf, "value.serializer": Made()})


def test_a_deserializing_consumer_gives_objects_and_names_what_failed() -> None:
    seen: list[tuple[Any, ...]] = []

    def deserializer(data: bytes, context: ours.SerializationContext) -> int:
        seen.append((data, context.topic, context.field, context.headers))
        return int(data)

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        servers = {"bootstrap.servers": broker.bootstrap_servers}
        with tidegate.Producer(servers) as producer:
            producer.send("t", "2", key="1", headers=[("a", b"b")])
            producer.send("t", "two", key="1")
            producer.send("t", "2", key="one")
        conf = {**servers, "group.id": "g", "auto.offset.reset": "earliest"}
        conf |= {"key.deserializer": deserializer, "value.deserializer": deserializer}
        with confluent.DeserializingConsumer(conf) as consumer:
            consumer.subscribe(["t"])
            message = consumer.poll(30)
            assert (message.key(), message.value(), message.deserialized_value()) == (1, 2, 2)
            assert seen == [(b"1", "t", "key", [("a", b"b")]), (b"2", "t", "value", [("a", b"b")])]
            with pytest.raises(ours_error.ValueDeserializationError) as raised:
                consumer.poll(30)
            assert raised.value.kafka_message.value() == b"two" and raised.value.name == "_VALUE_DESERIALIZATION"
            with pytest.raises(ours_error.KeyDeserializationError) as raised_by_key:
                consumer.poll(30)
            assert raised_by_key.value.kafka_message.offset() == 2
            assert consumer.poll(0) is None
            with pytest.raises(NotImplementedError):
                consumer.consume(2)
        with pytest.raises(ValueError, match="one or the other"):
            confluent.DeserializingConsumer({**conf, "value.deserializer.builder": object()})
