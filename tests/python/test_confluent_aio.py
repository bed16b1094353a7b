"""`tidegate.confluent.aio`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import confluent_kafka.aio
import pytest

import tidegate
import tidegate.confluent.aio
from tidegate.confluent import KafkaException
from tidegate.confluent.aio import AIOConsumer, AIOProducer

WAIT_S = 30.0


def test_records_are_gathered_and_their_futures_settled() -> None:
    async def program(servers: str) -> None:
        async with AIOProducer({"bootstrap.servers": servers}, batch_size=10, buffer_timeout=0.05) as producer:
            futures = [await producer.produce("t", str(number), key="k") for number in range(25)]
            messages = await asyncio.wait_for(asyncio.gather(*futures), WAIT_S)
            assert [message.value() for message in messages] == [str(number).encode() for number in range(25)]
            assert [message.offset() for message in messages] == list(range(25))
            assert len(producer) == 0
            with pytest.raises(NotImplementedError):
                await producer.produce("t", "v", headers={"a": "b"})

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program(broker.bootstrap_servers))


def test_what_cannot_be_delivered_fails_its_future_only() -> None:
    async def program(servers: str) -> None:
        async with AIOProducer({"bootstrap.servers": servers}, buffer_timeout=0.01) as producer:
            good = await producer.produce("t", "v")
            large = await producer.produce("t", b"x" * 2_000_000)
            assert (await asyncio.wait_for(good, WAIT_S)).value() == b"v"
            with pytest.raises(KafkaException) as raised:
                await asyncio.wait_for(large, WAIT_S)
            assert raised.value.args[0].name() == "MSG_SIZE_TOO_LARGE"

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program(broker.bootstrap_servers))


def test_a_purge_cancels_what_was_gathered_and_fails_what_was_queued() -> None:
    async def program() -> None:
        producer = AIOProducer({"bootstrap.servers": "127.0.0.1:1"}, batch_size=2, buffer_timeout=0)
        queued = [await producer.produce("t", "v") for _ in range(2)]
        gathered = await producer.produce("t", "v")
        assert len(producer) >= 3
        await producer.purge()
        assert gathered.cancelled()
        outcome = await asyncio.wait_for(asyncio.gather(*queued, return_exceptions=True), WAIT_S)
        assert all(isinstance(error, KafkaException) for error in outcome)
        await producer.close()

    asyncio.run(program())


def test_a_full_queue_is_waited_for() -> None:
    async def program(servers: str) -> None:
        conf: dict[str, Any] = {"bootstrap.servers": servers, "queue.buffering.max.messages": 10}
        async with AIOProducer(conf, batch_size=50) as producer:
            futures = [await producer.produce("t", str(number)) for number in range(100)]
            await producer.flush()
            messages = await asyncio.wait_for(asyncio.gather(*futures), WAIT_S)
            assert [message.value() for message in messages] == [str(number).encode() for number in range(100)]

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program(broker.bootstrap_servers))


NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 2000}


@pytest.mark.parametrize("how", ["flush", "timer", "batch"])
def test_a_record_of_a_wrong_type_fails_alone(how: str) -> None:
    """Those beside it, of its topic and of others, are delivered, also by a flush that follows."""

    async def program(servers: str) -> None:
        buffer_timeout = 0.5 if how == "timer" else 0.0
        batch_size = 4 if how == "batch" else 1000
        producer = AIOProducer({"bootstrap.servers": servers}, batch_size=batch_size, buffer_timeout=buffer_timeout)
        wrong = await producer.produce("t", 12345)
        good = [await producer.produce("t", "same topic"), await producer.produce("u", "other topic")]
        if how == "batch":
            with pytest.raises(TypeError):
                await producer.produce("u", "the fourth")
        elif how == "flush":
            with pytest.raises(TypeError):
                await producer.flush()
        assert [one.value() for one in await asyncio.wait_for(asyncio.gather(*good), WAIT_S)] == [b"same topic", b"other topic"]
        with pytest.raises(TypeError, match="must be bytes or str"):
            await asyncio.wait_for(wrong, WAIT_S)
        assert await producer.flush() == 0 and len(producer) == 0
        wrong = await producer.produce("t", "v", partition="first")
        good = [await producer.produce("t", "at last")]
        with pytest.raises(TypeError):
            await producer.close()  # comes before the timer
        assert isinstance(wrong.exception(), TypeError) and good[0].result().value() == b"at last"

    with tidegate.EmbeddedBroker({"t": 1, "u": 1}) as broker:
        asyncio.run(program(broker.bootstrap_servers))


def test_a_cancelled_wait_for_room_loses_nothing() -> None:
    """Where nothing can be delivered each future says so, in time."""

    async def program() -> None:
        producer = AIOProducer({**NOWHERE, "queue.buffering.max.messages": 2}, buffer_timeout=0)
        futures = [await producer.produce("t", str(number)) for number in range(6)]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(producer.flush(), 0.3)
        assert len(producer) == 6
        assert await producer.flush(0.1) == 6
        assert await producer.flush() == 0
        outcome = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), WAIT_S)
        assert [error.args[0].name() for error in outcome] == ["_MSG_TIMED_OUT"] * 6
        await producer.close()

    asyncio.run(program())


def test_a_full_queue_keeps_the_order() -> None:
    """A timer that waits for room is not overtaken."""

    async def program(servers: str) -> None:
        conf: dict[str, Any] = {"bootstrap.servers": servers, "queue.buffering.max.messages": 10}
        async with AIOProducer(conf, batch_size=40, buffer_timeout=0.005) as producer:
            futures = []
            for number in range(400):
                futures.append(await producer.produce("t", str(number)))
                if number % 30 == 0:
                    await asyncio.sleep(0.01)
            await producer.flush()
            assert all(future.done() for future in futures)
            assert [future.result().offset() for future in futures] == list(range(400))

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program(broker.bootstrap_servers))


@pytest.mark.parametrize("is_transaction", [False, True])
def test_a_flush_and_a_commit_wait_for_what_a_timer_waits_with(is_transaction: bool) -> None:
    async def program(servers: str) -> None:
        conf: dict[str, Any] = {"bootstrap.servers": servers, "queue.buffering.max.messages": 2, "linger.ms": 50}
        if is_transaction:
            conf["transactional.id"] = "one"
        producer = AIOProducer(conf, buffer_timeout=0.005)
        if is_transaction:
            await producer.init_transactions()
            await producer.begin_transaction()
        futures = [await producer.produce("t", str(number)) for number in range(20)]
        while len(producer._producer) == 0:
            await asyncio.sleep(0.001)  # the timer's task waits for room now
        if is_transaction:
            await producer.commit_transaction()
        else:
            assert await producer.flush() == 0
        assert [future.result().value() for future in futures] == [str(number).encode() for number in range(20)]
        await producer.close()

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program(broker.bootstrap_servers))


def test_callbacks_are_coroutines_of_the_loop() -> None:
    async def program(servers: str) -> None:
        told = asyncio.Event()

        async def on_statistics(json: str) -> None:
            told.set()

        conf = {"bootstrap.servers": servers, "statistics.interval.ms": 10, "stats_cb": on_statistics}
        async with AIOProducer(conf) as producer:
            while not told.is_set():
                await producer.poll(0.1)
            future = await producer.produce("t", "v")
            await producer.flush(WAIT_S)
            assert (await asyncio.wait_for(future, WAIT_S)).value() == b"v"

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(asyncio.wait_for(program(broker.bootstrap_servers), WAIT_S))


def filled(broker: tidegate.EmbeddedBroker, count: int) -> dict[str, Any]:
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        producer.send_batch("t", [str(number) for number in range(count)])
    return {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}


def test_a_consumer_polls_consumes_commits_and_calls_coroutines() -> None:
    async def program(conf: dict[str, Any]) -> None:
        assigned: list[Any] = []

        async def on_assign(consumer: AIOConsumer, partitions: list[Any]) -> None:
            assigned.append((consumer, [partition.topic for partition in await consumer.assignment()], partitions))

        async with AIOConsumer(conf) as consumer:
            await consumer.subscribe(["t"], on_assign=on_assign)
            first = await consumer.poll(WAIT_S)
            assert first.value() == b"0"
            assert assigned[0][0] is consumer and assigned[0][2][0].topic == "t"
            rest: list[bytes] = []
            while len(rest) < 9:
                rest += [message.value() for message in await consumer.consume(9 - len(rest), timeout=WAIT_S)]
            assert rest == [str(number).encode() for number in range(1, 10)]
            assert await consumer.poll(0.01) is None
            committed = await consumer.commit(asynchronous=False)
            assert committed[0].offset == 10
        with pytest.raises(RuntimeError, match="closed"):
            await consumer.poll(0)
        await consumer.close()

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program(filled(broker, 10)))


@pytest.mark.parametrize("call", ["poll", "consume"])
def test_a_cancelled_wait_loses_nothing(call: str) -> None:
    async def program(conf: dict[str, Any]) -> None:
        async with AIOConsumer(conf) as consumer:
            await consumer.subscribe(["t"])
            seen = [(await consumer.poll(WAIT_S)).offset()]
            cancelled = 0
            while len(seen) < 40:
                waiting = asyncio.ensure_future(consumer.poll(WAIT_S) if call == "poll" else consumer.consume(3, WAIT_S))
                if len(seen) % 2 and cancelled < len(seen):
                    # The thread has begun, and often has its messages already.
                    await asyncio.sleep(0.001 * (len(seen) % 5))
                    waiting.cancel()
                    cancelled += 1
                try:
                    taken = await waiting
                except asyncio.CancelledError:
                    continue
                seen += [message.offset() for message in (taken if isinstance(taken, list) else [taken])]
            assert seen == list(range(len(seen)))
            assert cancelled > 3

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program(filled(broker, 60)))


def test_a_message_that_nobody_awaits_any_more_is_not_committed_by_closing() -> None:
    async def program(broker: tidegate.EmbeddedBroker, conf: dict[str, Any]) -> None:
        async with AIOConsumer(conf) as consumer:
            await consumer.subscribe(["t"])
            assert (await consumer.poll(WAIT_S)).offset() == 0
            # Nothing is at hand, so that a thread waits.
            waiting = asyncio.ensure_future(consumer.poll(WAIT_S))
            await asyncio.sleep(0)
            # The loop stands still: the thread has its message, and the task has not seen it when it is cancelled.
            filled(broker, 1)
            time.sleep(0.3)  # noqa: ASYNC251
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        with tidegate.Consumer(conf) as other:
            # The seek that gave it back has put away what was not committed yet: the first one may come again, too.
            assert set(other.committed([("t", 0)]).values()) <= {None, 1}

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program(broker, filled(broker, 1)))


@pytest.mark.parametrize("package", [confluent_kafka.aio, tidegate.confluent.aio], ids=["the original", "tidegate.confluent"])
def test_nothing_is_given_at_once_and_a_wrong_timeout_is_refused(package: Any) -> None:
    async def program(conf: dict[str, Any]) -> None:
        consumer = package.AIOConsumer(conf)
        await consumer.subscribe(["t"])
        assert await consumer.consume(0, WAIT_S) == []
        assert await consumer.consume(num_messages=0) == []
        for wrong in (None, "x"):
            with pytest.raises(TypeError):
                await consumer.poll(wrong)
            with pytest.raises(TypeError):
                await consumer.consume(1, wrong)
        await consumer.close()

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        conf = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "nothing"}
        asyncio.run(asyncio.wait_for(program(conf), WAIT_S))


@pytest.mark.parametrize(("call", "nothing"), [("poll", None), ("consume", [])])
def test_a_wait_that_close_ends_gives_nothing(call: str, nothing: Any) -> None:
    async def program(conf: dict[str, Any]) -> None:
        consumer = AIOConsumer(conf)
        await consumer.subscribe(["t"])
        waiting = asyncio.ensure_future(consumer.poll(WAIT_S) if call == "poll" else consumer.consume(5, WAIT_S))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        _, given = await asyncio.gather(consumer.close(), waiting)
        assert given == nothing and time.monotonic() - began < WAIT_S / 2

    with tidegate.EmbeddedBroker({"t": 1}) as broker:
        asyncio.run(program({"bootstrap.servers": broker.bootstrap_servers, "group.id": "closing"}))
