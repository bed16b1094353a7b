"""Serializers and deserializers of the asyncio clients: those that are awaited, and those that are not."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from tidegate.confluent._serdes import CLUSTER_ID_TIMEOUT_S, checked, left_for_client, taken_out
from tidegate.confluent.error import KeyDeserializationError, ValueDeserializationError
from tidegate.confluent.serialization import MessageField, SerializationContext


async def maybe_await(result: Any) -> Any:
    """The result, awaited where it is to be."""
    return await result if inspect.isawaitable(result) else result


class AsyncClusterId:
    """Asks for the cluster's id, one call at a time however many tasks want it; one that is cancelled leaves it to the others."""

    def __init__(self, cluster_id: Callable[..., Awaitable[Any]]) -> None:
        self._ask = cluster_id
        self._asking: asyncio.Task[Any] | None = None

    async def __call__(self) -> Any:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._answer())
        return await asyncio.shield(self._asking)

    async def _answer(self) -> Any:
        try:
            return await self._ask(timeout=CLUSTER_ID_TIMEOUT_S)
        finally:
            self._asking = None


class AsyncSerdes:
    """The key's and the value's, and which of them the client has built and closes. Made by `build`."""

    def __init__(self) -> None:
        self.rest: dict[str, Any] = {}
        self.key: Any = None
        self.value: Any = None
        self._built: list[Any] = []

    @classmethod
    async def build(cls, conf: dict[str, Any], names: tuple[str, str]) -> AsyncSerdes:
        """Takes them out of the configuration; `rest` is what is left of it for the client.

        Raises:
            ValueError: a property and its `.builder` are both there, or a builder did not return a pair.
        """
        serdes = cls()
        given, rest = taken_out(conf, names)
        left: list[dict[str, Any]] = []
        found: list[Any] = []
        try:
            for place, (name, serde, builder) in enumerate(given):
                if builder is None:
                    found.append(serde)
                    continue
                built, other = checked(name, await maybe_await(builder.build(dict(rest), place == 0)))
                serdes._built.append(built)
                found.append(built)
                left.append(other)
        except BaseException:
            await serdes.close()
            raise
        serdes.rest = left_for_client(rest, left)
        serdes.key, serdes.value = found
        return serdes

    def tell_cluster(self, cluster_id: Callable[..., Awaitable[Any]]) -> None:
        """Gives those that are awaited a way to ask for the cluster's id; the others would hold the loop up with it."""
        resolver = AsyncClusterId(cluster_id)
        for serde in (self.key, self.value):
            setter = getattr(serde, "set_async_cluster_id_resolver", None)
            if callable(setter):
                setter(resolver)

    async def close(self) -> None:
        """Closes what was built here, all of it, and then raises the first exception."""
        built, self._built = self._built, []
        first: BaseException | None = None
        for serde in built:
            close = getattr(serde, "aclose", None) or getattr(serde, "close", None)
            if not callable(close):
                continue
            try:
                await maybe_await(close())
            except BaseException as error:
                first = first or error
        if first is not None:
            raise first

    async def deserialize(self, message: Any) -> Any:
        """The message with its key and value deserialized, the key first.

        Raises:
            KeyDeserializationError, ValueDeserializationError: a deserializer failed; the message is as it came.
        """
        context = SerializationContext(message.topic() or "", MessageField.KEY, message.headers())
        key: Any = message.key()
        if self.key is not None:
            try:
                key = await maybe_await(self.key(key, context))
            except Exception as failure:
                raise KeyDeserializationError(failure, message) from failure
        value: Any = message.value()
        if self.value is not None:
            context.field = MessageField.VALUE
            try:
                value = await maybe_await(self.value(value, context))
            except Exception as failure:
                raise ValueDeserializationError(failure, message) from failure
        message.set_key(key)
        message.set_value(value)
        return message
