"""`AIOProducer`: produce and await what becomes of the record.

Records are gathered and queued with one call for each topic and partition, on the loop's thread, for that never waits.
A timer queues what a quiet producer has left there. What the queue has no room for stays gathered, in its place, and one task
at a time waits for room: so records keep their order, a cancelled wait loses none, and whoever flushes waits for all of them. The
futures are settled on the loop as well: reports are looked for while futures are open, by a timer of the loop and not by a thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Coroutine
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
        self._queueing: asyncio.Future[None] | None = None
        self._open = 0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._poll_timer: asyncio.TimerHandle | None = None
        self._is_looking = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> AIOProducer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __len__(self) -> int:
        return 0 if self._is_closed else len(self._producer) + self._buffered

    async def close(self) -> None:
        """Deliver everything, and end the producer and its threads; what goes wrong on the way comes after that."""
        if self._is_closed:
            return
        refused: Exception | None = None
        for end, *of in ((self.flush,), (self._call, self._producer.close)):
            try:
                await end(*of)
            except Exception as error:
                refused = refused or error
        self._is_closed = True
        for timer in (self._flush_timer, self._poll_timer):
            if timer is not None:
                timer.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self.executor.shutdown, True)
        if refused is not None:
            raise refused

    async def produce(
        self, topic: str, value: Any | None = None, key: Any | None = None, *args: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        """Gather a record, and return a future of its Message; a KafkaException when it was not delivered.

        Raises:
            NotImplementedError: for `headers`, which the original does not have here.
            TypeError: with `batch_size` records gathered they are queued, and one of them has a value, key or partition of a wrong
                type: its future has the exception, and the others are queued. `flush()` and `close()` raise it the same way.
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
        else:
            self._set_timer()
        return future

    def _settled(self, _future: asyncio.Future[Any]) -> None:
        self._open -= 1

    def _flush_soon(self) -> None:
        self._flush_timer = None
        self._begin(self._flush_quietly())

    async def _flush_quietly(self) -> None:
        with contextlib.suppress(Exception):  # the futures have it
            await self._flush_buffer()

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush_buffer(self, deadline: float | None = None) -> None:
        """Queues what is gathered, in order; waits while the queue is full, until `deadline` (of `time.monotonic`) at most.

        Raises:
            what was wrong with a record, once all others are queued; its future has it as well.
        """
        while self._queueing is not None:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not (await asyncio.wait({self._queueing}, timeout=left_s))[0]:
                return
        self._queueing = self._loop.create_future()
        refused: list[Exception] = []
        try:
            while self._buffer:
                target = next(iter(self._buffer))
                messages = self._buffer.pop(target)
                left = self._queue(*target, messages, refused)
                self._buffered -= len(messages) - len(left)
                if left:
                    # In front of what is gathered from here on.
                    self._buffer = {target: left, **self._buffer}
                    if deadline is not None and time.monotonic() >= deadline:
                        break
                    await self._call(self._producer.poll, POLL_S)
        finally:
            self._queueing.set_result(None)
            self._queueing = None
            self._set_timer()
            self._look_later()
        if refused:
            raise refused[0]

    def _set_timer(self) -> None:
        """So that what is gathered is queued, at the latest when it is over."""
        if self._buffer and self._buffer_timeout > 0:
            if self._flush_timer is None:
                self._flush_timer = self._loop.call_later(self._buffer_timeout, self._flush_soon)
        elif self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None

    def _queue(self, topic: str, partition: int, messages: list[dict[str, Any]], refused: list[Exception]) -> list[dict[str, Any]]:
        """Queues records of one topic and partition; returns those for which there was no room."""
        try:
            accepted = self._producer.produce_batch(topic, messages, partition=partition)
        except Exception as error:
            # None of them was taken. One may be wrong, and the others are not to suffer from it.
            if len(messages) > 1:
                for place, message in enumerate(messages):
                    if self._queue(topic, partition, [message], refused):
                        return messages[place:]
                return []
            refused.append(error)
            messages[0]["callback"].settle(error, None)
            return []
        return [] if accepted == len(messages) else self._without_room(messages)

    def _without_room(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
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
        elif self._callbacks and not self._is_looking and self._open > 0 and not self._is_closed:
            # Callbacks of the configuration are coroutines of this loop, which a poll on it would wait for.
            self._is_looking = True
            self._begin(self._look_elsewhere())

    def _look(self) -> None:
        self._poll_timer = None
        self._producer.poll(0)
        self._look_later()

    async def _look_elsewhere(self) -> None:
        try:
            await self._call(self._producer.poll, POLL_S)
        finally:
            self._is_looking = False
        self._look_later()

    async def poll(self, timeout: float = 0, *args: Any, **kwargs: Any) -> int:
        """As Producer.poll."""
        count: int = await self._call(self._producer.poll, timeout, *args, **kwargs)
        return count

    async def flush(self, *args: Any, **kwargs: Any) -> Any:
        """Queue what is gathered, and wait until it is delivered, `timeout` seconds at most; how many records are left."""
        timeout = args[0] if args else kwargs.get("timeout", -1)
        if not isinstance(timeout, (int, float)) or timeout < 0:
            await self._flush_buffer()
            return await self._call(self._producer.flush, *args, **kwargs)
        deadline = time.monotonic() + timeout
        await self._flush_buffer(deadline)
        return self._buffered + await self._call(self._producer.flush, max(deadline - time.monotonic(), 0.0))

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
