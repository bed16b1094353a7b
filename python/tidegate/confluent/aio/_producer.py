"""`AIOProducer`: produce and await what becomes of the record.

Records are gathered and queued with one call for each topic and partition, on the loop's thread, for that never waits.
A timer queues what a quiet producer has left there. The futures are settled on the loop as well: reports are looked for
while futures are open, by a timer of the loop and not by a thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

from tidegate import _core
from tidegate.confluent._errors import KafkaException
from tidegate.confluent.aio import _common

__all__ = ["AIOProducer"]

POLL_S = 0.005
"""How often reports are looked for while futures are open."""


class _Settles:
    """A delivery callback that settles a future, on the thread of its loop."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    def __call__(self, error: Any, message: Any) -> None:
        loop = self.future.get_loop()
        if asyncio._get_running_loop() is loop:
            self.settle(None if error is None else KafkaException(error), message)
        else:
            loop.call_soon_threadsafe(self.settle, None if error is None else KafkaException(error), message)

    def settle(self, error: Exception | None, message: Any) -> None:
        """On the loop's thread."""
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(message)


class AIOProducer:
    """A Producer for asyncio.

    Args:
        producer_conf: a Producer's configuration; its callbacks are coroutine functions.
        max_workers, executor: the threads on which calls wait.
        batch_size: so many records are gathered before they are queued.
        buffer_timeout: at most so many seconds a record waits for that; 0 waits for `flush()`.
    """

    def __init__(
        self,
        producer_conf: dict[str, Any],
        max_workers: int = 4,
        executor: concurrent.futures.Executor | None = None,
        batch_size: int = 1000,
        buffer_timeout: float = 1.0,
    ) -> None:
        self.executor = executor or concurrent.futures.ThreadPoolExecutor(max_workers=max_workers)
        self._loop = asyncio.get_running_loop()
        self._callbacks = any(name in producer_conf for name in ("error_cb", "throttle_cb", "stats_cb"))
        self._producer = _core._ConfluentProducer(_common.wrap_callbacks(self._loop, producer_conf))
        self._batch_size = batch_size
        self._buffer_timeout = buffer_timeout
        self._is_closed = False
        self._buffer: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self._buffered = 0
        self._open = 0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._poll_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> AIOProducer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __len__(self) -> int:
        return 0 if self._is_closed else len(self._producer) + self._buffered

    async def close(self) -> None:
        """Deliver everything, and end the producer and its threads."""
        if self._is_closed:
            return
        try:
            await self.flush()
            await self._call(self._producer.close)
        finally:
            self._is_closed = True
            for timer in (self._flush_timer, self._poll_timer):
                if timer is not None:
                    timer.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self.executor.shutdown, True)

    async def produce(
        self, topic: str, value: Any | None = None, key: Any | None = None, *args: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        """Gather a record, and return a future of its Message; a KafkaException when it was not delivered.

        Raises:
            NotImplementedError: for `headers`, which the original does not have here.
            BufferError: the queue stayed full; the record was not taken.
        """
        if "headers" in kwargs:
            raise NotImplementedError(
                "Headers are not supported in AIOProducer batch mode. "
                "Use the synchronous Producer.produce() method if headers are required."
            )
        future: asyncio.Future[Any] = self._loop.create_future()
        message: dict[str, Any] = {"value": value, "key": key, "callback": _Settles(future)}
        if "timestamp" in kwargs:
            message["timestamp"] = kwargs["timestamp"]
        partition = kwargs.get("partition", args[0] if args else -1)
        self._buffer.setdefault((topic, partition), []).append(message)
        self._buffered += 1
        future.add_done_callback(self._settled)
        self._open += 1
        if self._buffered >= self._batch_size:
            await self._flush_buffer()
        elif self._flush_timer is None and self._buffer_timeout > 0:
            self._flush_timer = self._loop.call_later(self._buffer_timeout, self._flush_soon)
        return future

    def _settled(self, _future: asyncio.Future[Any]) -> None:
        self._open -= 1

    def _flush_soon(self) -> None:
        self._flush_timer = None
        self._task = self._loop.create_task(self._flush_buffer())

    async def _flush_buffer(self) -> None:
        """Queues what is gathered; waits while the queue is full."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        buffer, self._buffer, self._buffered = self._buffer, {}, 0
        for (topic, partition), messages in buffer.items():
            left = messages
            while left:
                try:
                    accepted = self._producer.produce_batch(topic, left, partition=partition)
                except Exception as error:
                    for message in left:
                        message["callback"].settle(error, None)
                    raise
                if accepted == len(left):
                    break
                left = self._refused(left)
                if left:
                    await self._call(self._producer.poll, POLL_S)
        self._look_later()

    def _refused(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Settles those that will never be accepted, and returns those for which there was no room."""
        again = []
        for message in messages:
            error = message.pop("_error", None)
            if error is None:
                continue
            if error.name() == "_QUEUE_FULL":
                again.append(message)
            else:
                message["callback"](error, None)
        return again

    def _look_later(self) -> None:
        if self._poll_timer is None and self._open > 0 and not self._is_closed and not self._callbacks:
            self._poll_timer = self._loop.call_later(POLL_S, self._look)
        elif self._callbacks and self._open > 0 and not self._is_closed:
            # Callbacks of the configuration are coroutines of this loop, which a poll on it would wait for.
            self._task = self._loop.create_task(self._look_elsewhere())

    def _look(self) -> None:
        self._poll_timer = None
        self._producer.poll(0)
        self._look_later()

    async def _look_elsewhere(self) -> None:
        await self._call(self._producer.poll, POLL_S)
        self._look_later()

    async def poll(self, timeout: float = 0, *args: Any, **kwargs: Any) -> int:
        """As Producer.poll."""
        count: int = await self._call(self._producer.poll, timeout, *args, **kwargs)
        return count

    async def flush(self, *args: Any, **kwargs: Any) -> Any:
        """Queue what is gathered, and wait until it is delivered; how many records are left."""
        await self._flush_buffer()
        return await self._call(self._producer.flush, *args, **kwargs)

    async def purge(self, *args: Any, **kwargs: Any) -> Any:
        """Give up what is gathered, whose futures are cancelled, and what is queued or in flight, whose futures fail."""
        buffer, self._buffer, self._buffered = self._buffer, {}, 0
        for messages in buffer.values():
            for message in messages:
                message["callback"].future.cancel()
        return await self._call(self._producer.purge, *args, **kwargs)

    async def list_topics(self, *args: Any, **kwargs: Any) -> Any:
        """As Producer.list_topics."""
        return await self._call(self._producer.list_topics, *args, **kwargs)

    async def cluster_id(self, *args: Any, **kwargs: Any) -> str:
        """As Producer.cluster_id."""
        found: str = await self._call(self._producer.cluster_id, *args, **kwargs)
        return found

    async def init_transactions(self, *args: Any, **kwargs: Any) -> Any:
        """As Producer.init_transactions."""
        return await self._call(self._producer.init_transactions, *args, **kwargs)

    async def begin_transaction(self, *args: Any, **kwargs: Any) -> Any:
        """Deliver what came before, then begin."""
        await self.flush()
        return await self._call(self._producer.begin_transaction, *args, **kwargs)

    async def send_offsets_to_transaction(self, *args: Any, **kwargs: Any) -> Any:
        """As Producer.send_offsets_to_transaction."""
        return await self._call(self._producer.send_offsets_to_transaction, *args, **kwargs)

    async def commit_transaction(self, *args: Any, **kwargs: Any) -> Any:
        """Deliver what is gathered, then commit."""
        await self.flush()
        return await self._call(self._producer.commit_transaction, *args, **kwargs)

    async def abort_transaction(self, *args: Any, **kwargs: Any) -> Any:
        """Queue what is gathered, so that it is aborted as well, then abort."""
        await self.flush()
        return await self._call(self._producer.abort_transaction, *args, **kwargs)

    async def set_sasl_credentials(self, *args: Any, **kwargs: Any) -> Any:
        """As Producer.set_sasl_credentials."""
        return await self._call(self._producer.set_sasl_credentials, *args, **kwargs)

    async def _call(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await _common.in_thread(self.executor, call, *args, **kwargs)
