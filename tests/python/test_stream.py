"""`Consumer.stream`: records in an `async for`, answered one by one; nothing is lost or left behind however the block ends."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator

import pytest
from dropin import SHORT_SESSION, committed

import tidegate

COUNT = 60


@pytest.fixture
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker(topics={"t": 2, "dead": 1}) as broker:
        with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
            for number in range(COUNT):
                producer.send("t", str(number).encode(), key=f"key-{number % 5}")
        yield broker


def consume(broker: tidegate.EmbeddedBroker) -> tidegate.Consumer:
    config = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
    return tidegate.Consumer(config | SHORT_SESSION, ["t"])


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), 90)

    asyncio.run(bounded())


def no_thread_is_left() -> bool:
    return not any(thread.name == "tidegate-stream" for thread in threading.enumerate())


def done_in_all(broker: tidegate.EmbeddedBroker) -> int:
    return sum(committed(broker.bootstrap_servers, "g", "t", 2).values())


def test_tasks_run_side_by_side_each_key_in_order_and_all_is_committed(broker: tidegate.EmbeddedBroker) -> None:
    seen: dict[bytes, list[int]] = defaultdict(list)
    now = most = 0

    async def handle(task: tidegate.StreamTask) -> None:
        nonlocal now, most
        with task:
            now, most = now + 1, max(most, now + 1)
            await asyncio.sleep(0.01)
            now -= 1
            seen[task.record.key or b""].append(int(task.record.value or b""))

    async def main() -> None:
        started = []
        with consume(broker) as consumer:
            async with consumer.stream(max_in_flight=10) as stream:
                async for task in stream:
                    started.append(asyncio.create_task(handle(task)))
                    if len(started) == COUNT:
                        break
            assert stream.ledger()["done"] == COUNT
            assert stream.ledger()["missing"] == 0

    run(main)
    assert 1 < most <= 5
    assert all(numbers == sorted(numbers) and len(numbers) == COUNT // 5 for numbers in seen.values())
    assert done_in_all(broker) == COUNT
    assert no_thread_is_left()


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "cancel while waiting"])
def test_however_the_block_ends_what_is_done_is_committed_and_the_rest_comes_again(
    broker: tidegate.EmbeddedBroker, how: str
) -> None:
    first: list[int] = []
    kept: list[tidegate.StreamTask] = []
    begun = asyncio.Event()

    async def loop(consumer: tidegate.Consumer) -> None:
        most = COUNT if how == "cancel while waiting" else 20
        async with consumer.stream(order="none", max_in_flight=1000, drain=0) as stream:
            async for task in stream:
                if len(first) == most - 1 and how != "cancel while waiting":
                    kept.append(task)  # never answered
                    if how == "raise":
                        raise LookupError("of the body")
                    if how == "break":
                        break
                    begun.set()
                    await asyncio.sleep(60)
                first.append(int(task.record.value or b""))
                task.done()
                if len(first) == most:
                    begun.set()

    async def main() -> None:
        with consume(broker) as consumer:
            looping = asyncio.create_task(loop(consumer))
            if how.startswith("cancel"):
                await begun.wait()
                looping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await looping
            elif how == "raise":
                with pytest.raises(LookupError):
                    await looping
            else:
                await looping
            for task in kept:
                task.done()  # too late: nobody's

    run(main)
    assert no_thread_is_left()
    assert done_in_all(broker) <= len(first)
    second: list[int] = []

    async def rest() -> None:
        with consume(broker) as consumer:
            async with consumer.stream() as stream:
                while set(first + second) != set(range(COUNT)):
                    task = await stream.__anext__()
                    second.append(int(task.record.value or b""))
                    task.done()

    run(rest)
    assert done_in_all(broker) == COUNT


def test_answers_retry_fail_and_drop(broker: tidegate.EmbeddedBroker) -> None:
    attempts: dict[int, int] = defaultdict(int)

    async def answer(stream: tidegate.Stream) -> None:
        async for task in stream:
            number = int(task.record.value or b"")
            attempts[number] += 1
            assert task.attempt == attempts[number]
            if number == 1 and task.attempt < 3:
                task.retry(after=0.01)
            elif number == 2:
                task.fail(ValueError("no such camera"), retriable=False)
            elif number == 3:
                with task:
                    raise ConnectionError("the model is away")
            elif number == 4 and task.attempt == 1:
                del task  # dropped without an answer
                gc.collect()
            else:
                task.done()
                task.fail("a second answer is ignored")

    async def main() -> None:
        with consume(broker) as consumer:
            options = {"order": "none", "max_attempts": 3, "backoff": 0.001, "dead_letter_topic": "dead"}
            async with consumer.stream(**options) as stream:  # type: ignore[arg-type]  # keywords
                answering = asyncio.create_task(answer(stream))
                while (ledger := stream.ledger())["done"] + ledger["dead_lettered"] < COUNT and not answering.done():
                    await asyncio.sleep(0.01)
                assert (await stream.aclose())["dead_lettered"] == 2
                await answering

    run(main)
    assert (attempts[1], attempts[2], attempts[3], attempts[4]) == (3, 1, 3, 2)
    assert done_in_all(broker) == COUNT


def test_a_failure_for_good_comes_out_of_the_loop(broker: tidegate.EmbeddedBroker) -> None:
    async def main() -> None:
        with consume(broker) as consumer:
            with pytest.raises(tidegate.ListenerError, match="it cannot be"):
                async with consumer.stream() as stream:
                    async for task in stream:
                        task.fail("it cannot be")

    run(main)
    assert done_in_all(broker) == 0


def test_closing_the_consumer_ends_the_loop(broker: tidegate.EmbeddedBroker) -> None:
    async def main() -> None:
        consumer = consume(broker)
        count = 0
        async with consumer.stream() as stream:
            async for task in stream:
                task.done()
                count += 1
                if count == COUNT:
                    await asyncio.get_running_loop().run_in_executor(None, consumer.close)
        assert count == COUNT

    run(main)


def test_misuse_is_told(broker: tidegate.EmbeddedBroker) -> None:
    async def main() -> None:
        with consume(broker) as consumer:
            with pytest.raises(RuntimeError, match="async with"):
                async for _ in consumer.stream():
                    pass
            with pytest.raises(tidegate.ArgumentTypeError, match="in_flight: there is no such option"):
                consumer.stream(in_flight=3)  # type: ignore[call-arg]  # wrong on purpose
            with pytest.raises(tidegate.ArgumentError, match="drain"):
                consumer.stream(drain=-1)
            async with consumer.stream() as stream:
                with pytest.raises(tidegate.ConcurrentUseError, match="handled already"):
                    consumer.process(print)
                with pytest.raises(RuntimeError, match="entered before"):
                    await stream.__aenter__()

    run(main)
