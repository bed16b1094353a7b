"""Serializers and deserializers: callables between objects and bytes, and what they are told about the message.

The client calls `serializer(obj, context)`. None stays None, Kafka's null. Numbers are signed and big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import Any

from tidegate.confluent._errors import KafkaException
from tidegate.confluent._types import HeadersType

__all__ = [
    "Deserializer",
    "DeserializerBuilder",
    "DoubleDeserializer",
    "DoubleSerializer",
    "IntegerDeserializer",
    "IntegerSerializer",
    "MessageField",
    "SerializationContext",
    "SerializationError",
    "Serializer",
    "SerializerBuilder",
    "StringDeserializer",
    "StringSerializer",
]


class MessageField(str, Enum):
    """Which part of a message is serialized. Equal to the text, so also to another package's member of the same name."""

    NONE = "none"
    KEY = "key"
    VALUE = "value"

    def __new__(cls, value: str) -> MessageField:
        member = str.__new__(cls, value)
        member._value_ = value
        return member

    def __str__(self) -> str:
        return str(self.value)


class SerializationContext:
    """What a serializer is told about the message.

    Args:
        topic: the message's topic.
        field: the part of it.
        headers: its headers; a serializer may add to a list of them.
    """

    def __init__(self, topic: str, field: MessageField, headers: HeadersType | None = None) -> None:
        self.topic = topic
        self.field = field
        self.headers = headers


class SerializationError(KafkaException):
    """A serializer or deserializer failed."""


class Serializer:
    """The base of serializers: override `__call__`."""

    __slots__: list[str] = []

    def __call__(self, obj: Any, ctx: SerializationContext | None = None) -> bytes | None:
        """The bytes of an object; None for None.

        Raises:
            SerializationError: it cannot be serialized.
        """
        raise NotImplementedError

    def set_cluster_id_resolver(self, resolver: Callable[[], Any]) -> None:
        """Given once by a client: a callable that waits for the id of its cluster. The default does not need it."""

    def close(self) -> None:
        """Called by the client that built this serializer when it closes. The default has nothing to release."""


class Deserializer:
    """The base of deserializers: override `__call__`."""

    __slots__: list[str] = []

    def __call__(self, value: bytes | None, ctx: SerializationContext | None = None) -> Any:
        """The object of some bytes; None for None.

        Raises:
            SerializationError: they are not what this deserializer reads.
        """
        raise NotImplementedError

    def set_cluster_id_resolver(self, resolver: Callable[[], Any]) -> None:
        """Given once by a client: a callable that waits for the id of its cluster. The default does not need it."""

    def close(self) -> None:
        """Called by the client that built this deserializer when it closes. The default has nothing to release."""


class SerializerBuilder:
    """Makes a serializer when the client is made, from the client's configuration: `key.serializer.builder`."""

    __slots__: list[str] = []

    def build(self, conf: dict[str, Any], is_key: bool) -> tuple[Serializer, dict[str, Any]]:
        """The serializer, and what of the configuration is left for the client."""
        raise NotImplementedError


class DeserializerBuilder:
    """Makes a deserializer when the client is made, from the client's configuration: `key.deserializer.builder`."""

    __slots__: list[str] = []

    def build(self, conf: dict[str, Any], is_key: bool) -> tuple[Deserializer, dict[str, Any]]:
        """The deserializer, and what of the configuration is left for the client."""
        raise NotImplementedError


def _packed(form: str, obj: Any) -> bytes | None:
    if obj is None:
        return None
    try:
        return struct.pack(form, obj)
    except struct.error as error:
        raise SerializationError(str(error)) from error


def _unpacked(form: str, value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return struct.unpack(form, value)[0]
    except struct.error as error:
        raise SerializationError(str(error)) from error


class DoubleSerializer(Serializer):
    """float to eight bytes (IEEE 754)."""

    def __call__(self, obj: float | None, ctx: SerializationContext | None = None) -> bytes | None:
        return _packed(">d", obj)


class DoubleDeserializer(Deserializer):
    """Eight bytes (IEEE 754) to float."""

    def __call__(self, value: bytes | None, ctx: SerializationContext | None = None) -> float | None:
        number: float | None = _unpacked(">d", value)
        return number


class IntegerSerializer(Serializer):
    """int to four bytes."""

    def __call__(self, obj: int | None, ctx: SerializationContext | None = None) -> bytes | None:
        return _packed(">i", obj)


class IntegerDeserializer(Deserializer):
    """Four bytes to int."""

    def __call__(self, value: bytes | None, ctx: SerializationContext | None = None) -> int | None:
        number: int | None = _unpacked(">i", value)
        return number


class StringSerializer(Serializer):
    """str to bytes.

    Args:
        codec: the name of the encoding.
    """

    def __init__(self, codec: str = "utf_8") -> None:
        self.codec = codec

    def __call__(self, obj: str | None, ctx: SerializationContext | None = None) -> bytes | None:
        if obj is None:
            return None
        try:
            return obj.encode(self.codec)
        except UnicodeEncodeError as error:
            raise SerializationError(str(error)) from error


class StringDeserializer(Deserializer):
    """bytes to str.

    Args:
        codec: the name of the encoding.
    """

    def __init__(self, codec: str = "utf_8") -> None:
        self.codec = codec

    def __call__(self, value: bytes | None, ctx: SerializationContext | None = None) -> str | None:
        if value is None:
            return None
        try:
            return value.decode(self.codec)
        except UnicodeDecodeError as error:
            raise SerializationError(str(error)) from error
