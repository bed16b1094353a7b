"""`AIOConsumer`: a Consumer whose calls are awaited.

A call that waits runs on a thread of the executor, and callbacks, which are coroutine functions, on the loop. When the task that
awaits `poll()` or `consume()` is cancelled, the thread may already have, or be about to get, messages: they are given back with a
seek before the next call that looks at messages or positions, so that they come again and are not committed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from tidegate import _core
from tidegate.confluent._errors import KafkaException
from tidegate.confluent._types import TopicPartition
from tidegate.confluent.aio import _common

__all__ = ["AIOConsumer"]

SLICE_S = 0.2
"""A cancelled wait gives its thread back after so long at most."""

AT_ONCE = 64
"""So many messages in a row are handed over without giving the loop to others."""


def _seconds(timeout: Any) -> float:
    """A timeout as a number; a TypeError for what is none."""
    if isinstance(timeout, (int, float)):
        return timeout
    if not hasattr(type(timeout), "__float__") and not hasattr(type(timeout), "__index__"):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    return float(timeout)


class AIOConsumer:
    """A Consumer for asyncio. Made and used on one event loop.

    Args:
        consumer_conf: a Consumer's configuration; its callbacks are coroutine functions.
        max_workers, executor: the threads on which calls wait; callbacks that call the consumer need a second one.
    """

    def __init__(
        self,
        consumer_conf: dict[str, Any],
        max_workers: int = 100,
        executor: concurrent.futures.Executor | None = None,
    ) -> None:
        if executor is None and max_workers < 1:
            raise ValueError("max_workers must be at least 1")
        self._loop = asyncio.get_running_loop()
        conf = _common.wrap_callbacks(self._loop, consumer_conf)
        if "on_commit" in conf:
            conf["on_commit"] = self._callback(conf["on_commit"])
        self._consumer = _core._ConfluentConsumer(conf)
        self._owns_executor = executor is None
        self.executor = executor or concurrent.futures.ThreadPoolExecutor(max_workers=max_workers)
        self._is_closing = False
        self._is_closed = False
        self._callbacks = 0
        self._giving_back: asyncio.Future[None] | None = None
        self._at_once = 0

    async def __aenter__(self) -> AIOConsumer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _callback(self, callback: Callable[..., Any], *, names_consumer: bool = False) -> Callable[..., Any]:
        """A function for the waiting thread that runs a coroutine function on the loop."""

        async def counted(*args: Any) -> Any:
            self._callbacks += 1
            try:
                return await callback(*args)
            finally:
                self._callbacks -= 1

        edit = (lambda args: (self, *args[1:])) if names_consumer else None
        return _common.on_loop(self._loop, counted, edit)

    async def _call(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._is_closed:
            raise RuntimeError("Consumer closed")
        # A callback belongs to a call that is under way and must not wait for that.
        if self._giving_back is not None and not self._callbacks:
            await asyncio.shield(self._giving_back)
        return await _common.in_thread(self.executor, call, *args, **kwargs)

    async def _take(self, call: Callable[[float], Any], timeout: float, nothing: Any, longest: float = SLICE_S) -> Any:
        """`call(seconds)` on a thread until it gives something; what comes after a cancellation is given back.

        `nothing` when the time is over, or `close()` is called meanwhile.
        """
        if self._is_closed:
            raise RuntimeError("Consumer closed")
        if self._giving_back is not None and not self._callbacks:
            await asyncio.shield(self._giving_back)
        cancelled = threading.Event()

        def take() -> Any:
            deadline = None if timeout < 0 else time.monotonic() + timeout
            while True:
                left = longest if deadline is None else min(max(deadline - time.monotonic(), 0.0), longest)
                try:
                    taken = call(left)
                except RuntimeError as error:
                    if self._is_closing and str(error) == "Consumer closed":
                        return nothing
                    raise
                if taken or self._is_closing or cancelled.is_set() or (deadline is not None and time.monotonic() >= deadline):
                    return taken

        taking = self._loop.run_in_executor(self.executor, take)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            cancelled.set()
            self._giving_back = asyncio.ensure_future(self._give_back(taking))
            raise

    async def _give_back(self, taking: asyncio.Future[Any]) -> None:
        try:
            taken = await taking
        except Exception:
            return  # nothing was taken, and nobody waits for the exception any more
        messages = taken if isinstance(taken, list) else [taken] if taken is not None else []
        if messages:
            await _common.in_thread(self.executor, self._seek_back, messages)

    def _seek_back(self, messages: Iterable[Any]) -> None:
        first: dict[tuple[str, int], int] = {}
        for message in messages:
            if message.error() is None:
                first.setdefault((message.topic(), message.partition()), message.offset())
        for (topic, partition), offset in first.items():
            try:
                self._consumer.seek(TopicPartition(topic, partition, offset))
            except (KafkaException, RuntimeError):
                pass  # it was revoked or closed meanwhile: the partition's next owner gets the message, for it is not committed

    async def poll(self, timeout: float = -1) -> Any:
        """The next Message, or None when the time is over. Cancelling it loses nothing.

        A message that is at hand is given at once, without a thread; other tasks have their turn now and then.
        """
        timeout = _seconds(timeout)
        if not self._is_closed and (self._giving_back is None or self._giving_back.done()):
            self._at_once += 1
            if self._at_once >= AT_ONCE:
                self._at_once = 0
                await asyncio.sleep(0)  # before anything is taken: here it may be cancelled
            message = self._consumer._poll_at_hand()
            if message is not None:
                return message
        return await self._take(self._consumer.poll, timeout, None)

    async def consume(self, num_messages: int = 1, timeout: float = -1) -> Any:
        """Up to `num_messages` Messages, as many as have come when the time is over. Cancelling it loses nothing.

        Without a timeout it gives what is there as soon as there is something; the original waits until there are so many.
        """
        timeout = _seconds(timeout)
        if num_messages == 0:
            return await self._call(self._consumer.consume, 0, 0)
        # One call: asking again would say that what came before is finished.
        longest = SLICE_S if timeout < 0 else timeout
        return await self._take(lambda seconds: self._consumer.consume(num_messages, seconds), timeout, [], longest)

    async def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        """As Consumer.subscribe; `on_assign`, `on_revoke`, `on_lost` are coroutine functions (consumer, partitions)."""
        wrapped = {
            name: self._callback(callback, names_consumer=True) for name, callback in callbacks.items() if callback is not None
        }
        await self._call(self._consumer.subscribe, topics, **wrapped)

    async def close(self) -> None:
        """Leave the group with what is finished committed, and end the threads. More than once is fine.

        A `poll()` that waits meanwhile gives None, and a `consume()` an empty list.
        """
        if self._is_closed:
            return
        self._is_closing = True
        try:
            await self._call(self._consumer.close)
        finally:
            self._is_closed = True
            if self._owns_executor:
                await asyncio.get_running_loop().run_in_executor(None, self.executor.shutdown, True)

    async def assign(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.assign."""
        return await self._call(self._consumer.assign, *args, **kwargs)

    async def assignment(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.assignment."""
        return await self._call(self._consumer.assignment, *args, **kwargs)

    async def cluster_id(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.cluster_id."""
        return await self._call(self._consumer.cluster_id, *args, **kwargs)

    async def commit(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.commit."""
        return await self._call(self._consumer.commit, *args, **kwargs)

    async def committed(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.committed."""
        return await self._call(self._consumer.committed, *args, **kwargs)

    async def consumer_group_metadata(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.consumer_group_metadata."""
        return await self._call(self._consumer.consumer_group_metadata, *args, **kwargs)

    async def get_watermark_offsets(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.get_watermark_offsets."""
        return await self._call(self._consumer.get_watermark_offsets, *args, **kwargs)

    async def incremental_assign(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.incremental_assign."""
        return await self._call(self._consumer.incremental_assign, *args, **kwargs)

    async def incremental_unassign(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.incremental_unassign."""
        return await self._call(self._consumer.incremental_unassign, *args, **kwargs)

    async def list_topics(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.list_topics."""
        return await self._call(self._consumer.list_topics, *args, **kwargs)

    async def offsets_for_times(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.offsets_for_times."""
        return await self._call(self._consumer.offsets_for_times, *args, **kwargs)

    async def pause(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.pause."""
        return await self._call(self._consumer.pause, *args, **kwargs)

    async def position(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.position."""
        return await self._call(self._consumer.position, *args, **kwargs)

    async def resume(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.resume."""
        return await self._call(self._consumer.resume, *args, **kwargs)

    async def seek(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.seek."""
        return await self._call(self._consumer.seek, *args, **kwargs)

    async def set_sasl_credentials(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.set_sasl_credentials."""
        return await self._call(self._consumer.set_sasl_credentials, *args, **kwargs)

    async def store_offsets(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.store_offsets."""
        return await self._call(self._consumer.store_offsets, *args, **kwargs)

    async def unassign(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.unassign."""
        return await self._call(self._consumer.unassign, *args, **kwargs)

    async def unsubscribe(self, *args: Any, **kwargs: Any) -> Any:
        """As Consumer.unsubscribe."""
        return await self._call(self._consumer.unsubscribe, *args, **kwargs)
