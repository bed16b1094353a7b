"""Writes and reads users with a schema registry's serializers, as a program of confluent_kafka does.

Arguments: avro, json or protobuf; sync, asyncio or builder; original or tidegate; the servers. With `tidegate` the two lines of
`install()` are all that differs.
"""

# ruff: noqa: E402 (what is imported depends on who serves it)

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

kind, face, package, servers = sys.argv[1:]
if package == "tidegate":
    import tidegate.confluent

    tidegate.confluent.install()

import confluent_kafka
from confluent_kafka import DeserializingConsumer, SerializingProducer
from confluent_kafka.aio import AsyncDeserializingConsumer, AsyncSerializingProducer
from confluent_kafka.schema_registry import AsyncSchemaRegistryClient, SchemaRegistryClient
from confluent_kafka.schema_registry import avro as of_avro
from confluent_kafka.schema_registry import json_schema as of_json
from confluent_kafka.schema_registry import protobuf as of_protobuf
from confluent_kafka.serialization import StringDeserializer, StringSerializer

TOPIC = f"{kind}-{package}"
USERS = [("Ada", 36), ("Grace", 85), ("Edsger", 72)]
AVRO = {
    "type": "record",
    "name": "User",
    "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": "int"}],
}
JSON = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "User",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def protobuf_user() -> Any:
    """The class of a message with a name and an age, as protoc would make it."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="user.proto", package="programs", syntax="proto3")
    user = file.message_type.add(name="User")
    field = descriptor_pb2.FieldDescriptorProto
    user.field.add(name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    user.field.add(name="age", number=2, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("programs.User"))


def serdes(registry: Any, prefix: str = "") -> tuple[Any, Any, Any]:
    """Serializer, deserializer, and what makes a value of a name and an age. Those of the asyncio classes are to be awaited."""
    if kind == "avro":
        text = json.dumps(AVRO)
        classes = getattr(of_avro, f"{prefix}AvroSerializer"), getattr(of_avro, f"{prefix}AvroDeserializer")
        return classes[0](registry, text), classes[1](registry, text), lambda name, age: {"name": name, "age": age}
    if kind == "json":
        text = json.dumps(JSON)
        classes = getattr(of_json, f"{prefix}JSONSerializer"), getattr(of_json, f"{prefix}JSONDeserializer")
        one, other = classes[0](text, registry), classes[1](text, schema_registry_client=registry)
        return one, other, lambda name, age: {"name": name, "age": age}
    user = protobuf_user()
    classes = getattr(of_protobuf, f"{prefix}ProtobufSerializer"), getattr(of_protobuf, f"{prefix}ProtobufDeserializer")
    conf = {"use.deprecated.format": False}
    return classes[0](user, registry, conf), classes[1](user, conf, registry), lambda name, age: user(name=name, age=age)


def show(message: Any) -> None:
    value = message.value()
    if isinstance(value, dict):
        print("key", message.key())
        print("User", value["name"], value["age"])
    else:
        print("key", message.key())
        print(type(value).__name__, value.name, value.age)


PRODUCER = {"bootstrap.servers": servers, "key.serializer": StringSerializer()}
CONSUMER = {
    "bootstrap.servers": servers,
    "group.id": f"group-{package}",
    "auto.offset.reset": "earliest",
    "key.deserializer": StringDeserializer(),
}


def sync() -> None:
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    serializer, deserializer, value = serdes(registry)
    delivered: list[Any] = []
    producer = SerializingProducer({**PRODUCER, "value.serializer": serializer})
    for number, user in enumerate(USERS):
        producer.produce(TOPIC, f"customer-{number}", value(*user), on_delivery=lambda error, message: delivered.append(error))
    assert producer.flush(30) == 0 and delivered == [None] * len(USERS)
    consumer = DeserializingConsumer({**CONSUMER, "value.deserializer": deserializer})
    read(consumer)


def read(consumer: Any) -> None:
    consumer.subscribe([TOPIC])
    for _ in USERS:
        message = None
        while message is None:
            message = consumer.poll(10)
        show(message)
    consumer.close()


def with_builders() -> None:
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    closed: list[str] = []

    def watched(serde: Any) -> None:
        close = type(serde).close

        def note(self: Any) -> None:
            closed.append(type(self).__name__)
            close(self)

        type(serde).close = note

    text = json.dumps(AVRO)
    to = of_avro.AvroSerializerBuilder().set_schema_registry_client(registry).set_schema(text).set_serializer_init(watched)
    back = of_avro.AvroDeserializerBuilder().set_schema_registry_client(registry).set_schema(text).set_deserializer_init(watched)
    with SerializingProducer({**PRODUCER, "value.serializer.builder": to}) as producer:
        for number, (name, age) in enumerate(USERS):
            producer.produce(TOPIC, f"customer-{number}", {"name": name, "age": age})
    assert closed == ["AvroSerializer"], closed
    read(DeserializingConsumer({**CONSUMER, "value.deserializer.builder": back}))
    assert closed == ["AvroSerializer", "AvroDeserializer"], closed


async def with_asyncio() -> None:
    registry = AsyncSchemaRegistryClient.new_client({"url": "mock://"})
    making_one, making_other, value = serdes(registry, "Async")
    serializer, deserializer = await making_one, await making_other
    producer = await AsyncSerializingProducer({**PRODUCER, "value.serializer": serializer})
    reports = [await producer.produce(TOPIC, f"customer-{number}", value(*user)) for number, user in enumerate(USERS)]
    await producer.flush()
    for report in reports:
        assert (await report).error() is None
    await producer.close()
    consumer = await AsyncDeserializingConsumer({**CONSUMER, "value.deserializer": deserializer})
    await consumer.subscribe([TOPIC])
    for _ in USERS:
        message = None
        while message is None:
            message = await consumer.poll(10)
        show(message)
    await consumer.close()


module = confluent_kafka.Producer.__module__.partition(".")[0]
assert (confluent_kafka.Producer is getattr(sys.modules.get("tidegate.confluent"), "Producer", None)) == (package == "tidegate")
print(f"clients of {module}, registry of {SchemaRegistryClient.__module__.partition('.')[0]}")
if face == "asyncio":
    asyncio.run(with_asyncio())
elif face == "builder":
    with_builders()
else:
    sync()
