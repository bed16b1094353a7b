"""`AsyncDeserializingConsumer`: an AIOConsumer whose messages carry objects, made by deserializers that may be awaited.

A wait that is cancelled while a deserializer is awaited gives its messages back, as AIOConsumer does with a wait for messages.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

from tidegate.confluent._util.asyncinit import initialized
from tidegate.confluent.aio._consumer import AIOConsumer
from tidegate.confluent.aio._serdes import AsyncSerdes
from tidegate.confluent.error import ConsumeError, KeyDeserializationError, ValueDeserializationError

__all__ = ["AsyncDeserializingConsumer"]

K = TypeVar("K")
V = TypeVar("V")


class AsyncDeserializingConsumer(AIOConsumer, Generic[K, V]):
    """An AIOConsumer with deserializers. Making it is awaited: `consumer = await AsyncDeserializingConsumer(conf)`.

    Args:
        conf: an AIOConsumer's configuration, and `key.deserializer`, `value.deserializer`: callables (bytes,
            SerializationContext) -> obj, or coroutine functions; or `key.deserializer.builder`, `value.deserializer.builder`, whose
            deserializers are closed with the consumer.
        kwargs: an AIOConsumer's.

    Raises:
        ValueError: a deserializer and its builder are both there.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return initialized(super().__new__(cls), args, kwargs)

    async def __init__(self, conf: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[misc]  # `initialized` awaits it
        self._serdes = await AsyncSerdes.build(conf, ("key.deserializer", "value.deserializer"))
        try:
            AIOConsumer.__init__(self, self._serdes.rest, **kwargs)
            self._serdes.tell_cluster(self.cluster_id)
        except BaseException:
            await self._serdes.close()
            raise

    async def close(self) -> None:
        """Close the consumer, then the deserializers it built. More than once is fine."""
        await super().close()
        await self._serdes.close()

    async def poll(self, timeout: float = -1) -> Any:
        """The next message, with key and value deserialized, the key first; None when the time is over.

        Raises:
            KeyDeserializationError, ValueDeserializationError: a deserializer failed; `kafka_message` has the message as it came.
            ConsumeError: instead of a message with an error.
        """
        message = await super().poll(timeout)
        if message is None:
            return None
        error = message.error()
        if error is not None:
            raise ConsumeError(error, kafka_message=message)
        try:
            return await self._serdes.deserialize(message)
        except asyncio.CancelledError:
            self._again([message])
            raise

    async def consume(self, num_messages: int = 1, timeout: float = -1) -> Any:
        """As AIOConsumer.consume, with keys and values deserialized. A message with an error is given as it is.

        Raises:
            KeyDeserializationError, ValueDeserializationError: a deserializer failed for the first message. If it fails for a later
                one, those before it are given, and this one comes first in the next call.
        """
        messages = await super().consume(num_messages, timeout)
        for place, message in enumerate(messages):
            if message.error() is not None:
                continue
            try:
                await self._serdes.deserialize(message)
            except asyncio.CancelledError:
                self._again(messages)
                raise
            except (KeyDeserializationError, ValueDeserializationError):
                if place == 0:
                    self._again(messages[1:])
                    raise
                self._again(messages[place:])
                return messages[:place]
        return messages

    def _again(self, messages: list[Any]) -> None:
        """These come again, before anything behind them."""
        if messages:
            taken: asyncio.Future[Any] = self._loop.create_future()
            taken.set_result(messages)
            self._giving_back = asyncio.ensure_future(self._give_back(taken))
