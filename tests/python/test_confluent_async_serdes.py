"""AsyncSerializingProducer and AsyncDeserializingConsumer beside the originals, and a wait that is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any

import confluent_kafka.aio
import confluent_kafka.error
import confluent_kafka.serialization
import pytest

import tidegate
import tidegate.confluent.aio
import tidegate.confluent.error

PAIRS = pytest.mark.parametrize(
    ("aio", "errors"),
    [(confluent_kafka.aio, confluent_kafka.error), (tidegate.confluent.aio, tidegate.confluent.error)],
    ids=["original", "tidegate"],
)
WAIT_S = 30.0


@pytest.fixture
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        yield broker


def run(program: Callable[[], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        return await asyncio.wait_for(program(), WAIT_S)

    return asyncio.run(within())


async def awaited(value: Any, context: Any) -> Any:
    """A serializer that is awaited."""
    await asyncio.sleep(0)
    if value == "cannot":
        raise ValueError("cannot be serialized")
    return f"{context.field}:{value}".encode()


def plain(value: Any, context: Any) -> Any:
    """One that is not."""
    if value == "cannot":
        raise ValueError("cannot be serialized")
    return f"{context.field}:{value}".encode()


class Builder:
    """Builds something that is closed by whoever had it built."""

    def __init__(self, call: Callable[..., Any], closed: list[str], name: str, result: Any = None) -> None:
        self.call, self.closed, self.name, self.result = call, closed, name, result

    async def build(self, conf: dict[str, Any], is_key: bool) -> Any:
        if self.result is not None:
            return self.result
        builder = self

        class Built:
            async def __call__(self, value: Any, context: Any) -> Any:
                return await builder.call(value, context)

            async def aclose(self) -> None:
                builder.closed.append(f"{builder.name} {is_key}")

            def set_async_cluster_id_resolver(self, resolver: Callable[[], Awaitable[str]]) -> None:
                builder.closed.append("resolver")

        return Built(), {name: value for name, value in conf.items() if not name.startswith("mine.")}


@PAIRS
def test_keys_and_values_are_serialized_whether_that_is_awaited_or_not(
    broker: tidegate.EmbeddedBroker, aio: ModuleType, errors: ModuleType
) -> None:
    async def program() -> Any:
        conf = {"bootstrap.servers": broker.bootstrap_servers, "key.serializer": awaited, "value.serializer": plain}
        producer = await aio.AsyncSerializingProducer(conf, batch_size=1)
        assert isinstance(producer, aio.AsyncSerializingProducer) and isinstance(producer, aio.AIOProducer)
        message = await (await producer.produce("t", "a key", "a value", partition=0))
        failed = []
        for key, value in (("cannot", "x"), ("x", "cannot")):
            with pytest.raises((errors.KeySerializationError, errors.ValueSerializationError)) as raised:
                await producer.produce("t", key, value)
            failed.append(type(raised.value).__name__)
        with pytest.raises(TypeError):
            await producer.produce(5, "k", "v")
        with pytest.raises(NotImplementedError):
            await producer.produce("t", "k", "v", headers=[("a", b"b")])
        await producer.close()
        await producer.close()
        with pytest.raises(RuntimeError, match="closed"):
            await producer.produce("t", "k", "v")
        return message.key(), message.value(), failed

    key, value, failed = run(program)
    assert (key, value) == (b"key:a key", b"value:a value")
    assert failed == ["KeySerializationError", "ValueSerializationError"]


@PAIRS
def test_what_a_builder_made_is_told_of_the_cluster_and_closed(
    broker: tidegate.EmbeddedBroker, aio: ModuleType, errors: ModuleType
) -> None:
    closed: list[str] = []

    async def program() -> None:
        conf = {"bootstrap.servers": broker.bootstrap_servers, "mine.of.the.registry": "x"}
        builders = {
            "key.serializer.builder": Builder(awaited, closed, "key"),
            "value.serializer.builder": Builder(awaited, closed, "v"),
        }
        producer = await aio.AsyncSerializingProducer({**conf, **builders})
        await producer.close()
        with pytest.raises(ValueError, match=r"Cannot configure both key\.serializer and key\.serializer\.builder"):
            await aio.AsyncSerializingProducer({**conf, **builders, "key.serializer": plain})
        first = Builder(awaited, closed, "first")
        with pytest.raises(ValueError, match=r"value\.serializer\.builder"):
            await aio.AsyncSerializingProducer(
                {**conf, "key.serializer.builder": first, "value.serializer.builder": Builder(plain, closed, "", result=5)}
            )

    run(program)
    assert closed == ["resolver", "resolver", "key True", "v False", "first True"]


async def read(value: bytes | None, context: Any) -> Any:
    """A deserializer that is awaited."""
    await asyncio.sleep(0)
    if value == b"bad":
        raise ValueError("cannot be read")
    return None if value is None else (context.field, value.decode())


def fill(broker: tidegate.EmbeddedBroker, values: list[bytes]) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers})
    for value in values:
        producer.produce("t", value, key=b"k")
    assert producer.flush(WAIT_S) == 0


@PAIRS
def test_messages_carry_what_the_deserializers_made(broker: tidegate.EmbeddedBroker, aio: ModuleType, errors: ModuleType) -> None:
    fill(broker, [b"one", b"bad", b"two", b"three"])

    async def program() -> Any:
        conf = {"bootstrap.servers": broker.bootstrap_servers, "group.id": aio.__name__, "auto.offset.reset": "earliest"}
        consumer = await aio.AsyncDeserializingConsumer({**conf, "key.deserializer": read, "value.deserializer": read})
        await consumer.subscribe(["t"])
        message = await consumer.poll(WAIT_S)
        found = [message.key(), message.value(), message.deserialized_value()]
        with pytest.raises(errors.ValueDeserializationError) as raised:
            await consumer.poll(WAIT_S)
        found.append(raised.value.kafka_message.value())
        found += [message.value() for message in await consumer.consume(2, 5)]
        assert await consumer.poll(0.1) is None
        await consumer.close()
        await consumer.close()
        return found

    assert run(program) == [("key", "k"), ("value", "one"), ("value", "one"), b"bad", ("value", "two"), ("value", "three")]


def test_a_wait_that_is_cancelled_while_it_deserializes_loses_nothing(broker: tidegate.EmbeddedBroker) -> None:
    fill(broker, [b"one", b"two", b"three"])

    async def program() -> list[Any]:
        reading = asyncio.Event()
        hang = asyncio.Event()

        async def slow(value: bytes | None, context: Any) -> Any:
            reading.set()
            await hang.wait()
            return value

        conf = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
        consumer = await tidegate.confluent.aio.AsyncDeserializingConsumer({**conf, "value.deserializer": slow})
        await consumer.subscribe(["t"])
        for call in (lambda: consumer.poll(WAIT_S), lambda: consumer.consume(3, WAIT_S)):
            reading.clear()
            waiting = asyncio.ensure_future(call())
            await reading.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        hang.set()
        found = [(await consumer.poll(WAIT_S)).value() for _ in range(3)]
        await consumer.close()
        return found

    assert run(program) == [b"one", b"two", b"three"]


def test_a_batch_with_one_that_cannot_be_read_keeps_the_others(broker: tidegate.EmbeddedBroker) -> None:
    """The original gives none of them, and goes on behind them."""
    fill(broker, [b"one", b"bad", b"two"])

    async def program() -> list[Any]:
        conf = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
        consumer = await tidegate.confluent.aio.AsyncDeserializingConsumer({**conf, "value.deserializer": read})
        await consumer.subscribe(["t"])
        found: list[Any] = []
        while len(found) < 3:
            try:
                found += [message.value()[1] for message in await consumer.consume(3, 2)]
            except tidegate.confluent.error.ValueDeserializationError as error:
                found.append(error.kafka_message.value())
        await consumer.close()
        return found

    assert run(program) == ["one", b"bad", "two"]
