"""`DeserializingConsumer`: a Consumer whose messages carry objects, made by deserializers of its configuration."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from tidegate import _core
from tidegate.confluent._serdes import Serdes
from tidegate.confluent.error import ConsumeError, KeyDeserializationError, ValueDeserializationError
from tidegate.confluent.serialization import MessageField, SerializationContext

__all__ = ["DeserializingConsumer"]

K = TypeVar("K")
V = TypeVar("V")


class DeserializingConsumer(_core._ConfluentConsumer, Generic[K, V]):
    """A Consumer with deserializers.

    Args:
        conf: a Consumer's configuration, and `key.deserializer`, `value.deserializer`: callables (bytes, SerializationContext) ->
            obj; or `key.deserializer.builder`, `value.deserializer.builder`, whose deserializers are closed with the consumer.

    Raises:
        ValueError: a deserializer and its builder are both there.
    """

    def __init__(self, conf: dict[str, Any]) -> None:
        self._serdes = Serdes(conf, ("key.deserializer", "value.deserializer"))
        try:
            super().__init__(self._serdes.rest)
            self._serdes.tell_cluster(self.cluster_id)
        except BaseException:
            self._serdes.close()
            raise

    def close(self) -> None:
        """Close the consumer, then the deserializers it built. More than once is fine."""
        super().close()
        self._serdes.close()

    def __exit__(self, exc_type: Any, exc_value: Any, exc_traceback: Any, /) -> None:
        self.close()

    def poll(self, timeout: float = -1) -> Any:
        """The next message, with key and value deserialized, the key first; None when the time is over.

        Raises:
            KeyDeserializationError, ValueDeserializationError: a deserializer failed; `kafka_message` has the message as it came.
            ConsumeError: instead of a message with an error.
        """
        message = super().poll(timeout)
        if message is None:
            return None
        error = message.error()
        if error is not None:
            raise ConsumeError(error, kafka_message=message)
        context = SerializationContext(message.topic() or "", MessageField.KEY, message.headers())
        key: Any = message.key()
        if self._serdes.key is not None:
            try:
                key = self._serdes.key(key, context)
            except Exception as failure:
                raise KeyDeserializationError(failure, message) from failure
        value: Any = message.value()
        if self._serdes.value is not None:
            context.field = MessageField.VALUE
            try:
                value = self._serdes.value(value, context)
            except Exception as failure:
                raise ValueDeserializationError(failure, message) from failure
        message.set_key(key)
        message.set_value(value)
        return message

    def consume(self, num_messages: int = 1, timeout: float = -1) -> Any:
        """There is `poll()` only, as in the original.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a DeserializingConsumer has poll() only; take a Consumer to consume many at once")
