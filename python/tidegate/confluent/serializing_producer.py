"""`SerializingProducer`: a Producer that turns keys and values into bytes by serializers of its configuration."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from tidegate import _core
from tidegate.confluent._serdes import Serdes
from tidegate.confluent._types import DeliveryCallback, HeadersType
from tidegate.confluent.error import KeySerializationError, ValueSerializationError
from tidegate.confluent.serialization import MessageField, SerializationContext

__all__ = ["SerializingProducer"]

K = TypeVar("K")
V = TypeVar("V")


class SerializingProducer(_core._ConfluentProducer, Generic[K, V]):
    """A Producer with serializers.

    Args:
        conf: a Producer's configuration, and `key.serializer`, `value.serializer`: callables (obj, SerializationContext) ->
            bytes; or `key.serializer.builder`, `value.serializer.builder`, whose serializers are closed with the producer.

    Raises:
        ValueError: a serializer and its builder are both there.
    """

    def __init__(self, conf: dict[str, Any]) -> None:
        self._serdes = Serdes(conf, ("key.serializer", "value.serializer"))
        self._key_serializer = self._serdes.key
        self._value_serializer = self._serdes.value
        self._closed = False
        try:
            super().__init__(self._serdes.rest)
            self._serdes.tell_cluster(self.cluster_id)
        except BaseException:
            self._serdes.close()
            raise

    def close(self) -> bool:
        """Close the producer, then the serializers it built. More than once is fine."""
        closed = super().close()
        self._closed = True
        self._serdes.close()
        return closed

    def __exit__(self, exc_type: Any, exc_value: Any, exc_traceback: Any, /) -> None:
        self.close()

    def produce(  # type: ignore[override]  # key and value change places, as in the original
        self,
        topic: str,
        key: K | None = None,
        value: V | None = None,
        partition: int = -1,
        on_delivery: DeliveryCallback | None = None,
        timestamp: int = 0,
        headers: HeadersType | None = None,
    ) -> None:
        """Serialize key and value and queue the record; note that the key comes first.

        Raises:
            KeySerializationError, ValueSerializationError: a serializer failed; nothing was queued.
            RuntimeError, TypeError: the producer is closed, the topic is no str; no serializer was called.
            BufferError, KafkaException: as Producer.produce.
        """
        if self._closed:
            raise RuntimeError("Producer has been closed")
        if not isinstance(topic, str):
            raise TypeError(f"topic must be a str, not {type(topic).__name__}")
        context = SerializationContext(topic, MessageField.KEY, headers)
        key_bytes: Any = key
        value_bytes: Any = value
        if self._key_serializer is not None:
            try:
                key_bytes = self._key_serializer(key, context)
            except Exception as error:
                raise KeySerializationError(error) from error
        context.field = MessageField.VALUE
        if self._value_serializer is not None:
            try:
                value_bytes = self._value_serializer(value, context)
            except Exception as error:
                raise ValueSerializationError(error) from error
        super().produce(
            topic,
            value_bytes,
            key_bytes,
            headers=headers,
            partition=partition,
            timestamp=timestamp,
            on_delivery=on_delivery,
        )
