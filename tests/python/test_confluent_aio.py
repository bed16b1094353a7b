"""`tidegate.confluent.aio`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import tidegate
from tidegate.confluent import KafkaException
from tidegate.confluent.aio import AIOProducer

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
