"""`AsyncSerializingProducer`: an AIOProducer with serializers of its configuration, which may be awaited."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

from tidegate.confluent._types import HeadersType
from tidegate.confluent._util.asyncinit import initialized
from tidegate.confluent.aio._producer import AIOProducer
from tidegate.confluent.aio._serdes import AsyncSerdes, maybe_await
from tidegate.confluent.error import KeySerializationError, ValueSerializationError
from tidegate.confluent.serialization import MessageField, SerializationContext

__all__ = ["AsyncSerializingProducer"]

K = TypeVar("K")
V = TypeVar("V")


class AsyncSerializingProducer(AIOProducer, Generic[K, V]):
    """An AIOProducer with serializers. Making it is awaited: `producer = await AsyncSerializingProducer(conf)`.

    Args:
        conf: an AIOProducer's configuration, and `key.serializer`, `value.serializer`: callables (obj, SerializationContext) ->
            bytes, or coroutine functions; or `key.serializer.builder`, `value.serializer.builder`, whose serializers are closed
            with the producer.
        kwargs: an AIOProducer's.

    Raises:
        ValueError: a serializer and its builder are both there.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return initialized(super().__new__(cls), args, kwargs)

    async def __init__(self, conf: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[misc]  # `initialized` awaits it
        self._serdes = await AsyncSerdes.build(conf, ("key.serializer", "value.serializer"))
        try:
            AIOProducer.__init__(self, self._serdes.rest, **kwargs)
            self._serdes.tell_cluster(self.cluster_id)
        except BaseException:
            await self._serdes.close()
            raise

    async def close(self) -> None:
        """Close the producer, then the serializers it built. More than once is fine."""
        await super().close()
        await self._serdes.close()

    async def produce(  # type: ignore[override]  # key and value change places, as in the original
        self,
        topic: str,
        key: K | None = None,
        value: V | None = None,
        partition: int = -1,
        timestamp: int = 0,
        headers: HeadersType | None = None,
    ) -> asyncio.Future[Any]:
        """Serialize key and value, gather the record, and return a future of its Message; note that the key comes first.

        Raises:
            KeySerializationError, ValueSerializationError: a serializer failed; nothing was gathered.
            RuntimeError, TypeError: the producer is closed, the topic is no str; no serializer was called.
            NotImplementedError: for `headers`, as AIOProducer.produce.
        """
        if self._is_closed:
            raise RuntimeError("Producer has been closed")
        if not isinstance(topic, str):
            raise TypeError(f"topic must be a str, not {type(topic).__name__}")
        context = SerializationContext(topic, MessageField.KEY, headers)
        key_bytes: Any = key
        value_bytes: Any = value
        if self._serdes.key is not None:
            try:
                key_bytes = await maybe_await(self._serdes.key(key, context))
            except Exception as error:
                raise KeySerializationError(error) from error
        context.field = MessageField.VALUE
        if self._serdes.value is not None:
            try:
                value_bytes = await maybe_await(self._serdes.value(value, context))
            except Exception as error:
                raise ValueSerializationError(error) from error
        more: dict[str, Any] = {"partition": partition}
        if timestamp != 0:
            more["timestamp"] = timestamp
        if headers is not None:
            more["headers"] = headers
        return await super().produce(topic, value_bytes, key_bytes, **more)
