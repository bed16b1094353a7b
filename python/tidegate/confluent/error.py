"""Exceptions that tell which message could not be produced, consumed, serialized or deserialized."""

from __future__ import annotations

from typing import Any

from tidegate.confluent._errors import KafkaError, KafkaException
from tidegate.confluent.serialization import SerializationError

__all__ = [
    "ConsumeError",
    "KafkaError",
    "KafkaException",
    "KeyDeserializationError",
    "KeySerializationError",
    "ProduceError",
    "SerializationError",
    "ValueDeserializationError",
    "ValueSerializationError",
]


class _KafkaClientError(KafkaException):
    """A KafkaException with what led to it.

    Args:
        kafka_error: what Kafka calls it.
        exception: the exception behind it, if there was one.
        kafka_message: the message it is about, if there is one.
    """

    def __init__(self, kafka_error: KafkaError, exception: Exception | None = None, kafka_message: Any | None = None) -> None:
        super().__init__(kafka_error)
        self.exception = exception
        self.kafka_message = kafka_message

    @property
    def code(self) -> int:
        """The number of the error."""
        number: int = self.args[0].code()
        return number

    @property
    def name(self) -> str:
        """The name of the error."""
        name: str = self.args[0].name()
        return name


class ConsumeError(_KafkaClientError):
    """A message could not be consumed; `kafka_message` has what came."""


class KeyDeserializationError(ConsumeError, SerializationError):
    """The key of a message could not be deserialized; `kafka_message` still has its bytes."""

    def __init__(self, exception: Exception | None = None, kafka_message: Any | None = None) -> None:
        error = KafkaError(KafkaError._KEY_DESERIALIZATION, str(exception))
        super().__init__(error, exception=exception, kafka_message=kafka_message)


class ValueDeserializationError(ConsumeError, SerializationError):
    """The value of a message could not be deserialized; `kafka_message` still has its bytes."""

    def __init__(self, exception: Exception | None = None, kafka_message: Any | None = None) -> None:
        error = KafkaError(KafkaError._VALUE_DESERIALIZATION, str(exception))
        super().__init__(error, exception=exception, kafka_message=kafka_message)


class ProduceError(_KafkaClientError):
    """A message could not be produced."""

    def __init__(self, kafka_error: KafkaError, exception: Exception | None = None) -> None:
        super().__init__(kafka_error, exception, None)


class KeySerializationError(ProduceError, SerializationError):
    """A key could not be serialized."""

    def __init__(self, exception: Exception | None = None) -> None:
        super().__init__(KafkaError(KafkaError._KEY_SERIALIZATION, str(exception)), exception=exception)


class ValueSerializationError(ProduceError, SerializationError):
    """A value could not be serialized."""

    def __init__(self, exception: Exception | None = None) -> None:
        super().__init__(KafkaError(KafkaError._VALUE_SERIALIZATION, str(exception)), exception=exception)
