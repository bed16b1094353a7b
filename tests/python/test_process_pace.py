"""What paces handlers: deadlines of attempts, rates, a number of records at once that follows, and a limit of dead letters."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from test_process import broker, consume, fill, until  # noqa: F401

import tidegate


def test_an_attempt_that_takes_too_long_fails_and_its_late_result_is_nothing(broker: tidegate.EmbeddedBroker) -> None:  # noqa: F811
    fill(broker, 20, keys=1)
    release = threading.Event()
    seen: list[int] = []

    def handle(record: tidegate.Record) -> None:
        seen.append(int(record.value or b""))
        if seen[-1] == 0:
            release.wait(60)

    with consume(broker) as consumer:
        processing = consumer.process(handle, attempt_timeout=0.2, dead_letter_topic="dead", order="none")
        until(lambda: processing.ledger()["done"] == 19)
        until(lambda: processing.ledger()["dead_lettered"] == 1)
        release.set()
        ledger = processing.stop()
    assert sorted(seen) == list(range(20))
    assert (ledger["done"], ledger["dead_lettered"], ledger["missing"]) == (19, 1, 0)
    with consume(broker, "dead", "readers") as readers:
        letter = readers.poll(30)
    assert letter is not None and letter.value == b"0"


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_no_more_are_begun_in_a_second_than_the_rate_says(broker: tidegate.EmbeddedBroker, is_coroutine: bool) -> None:  # noqa: F811
    fill(broker, 300)
    begun: list[float] = []

    def handle(record: tidegate.Record) -> None:
        begun.append(time.monotonic())

    async def handle_too(record: tidegate.Record) -> None:
        begun.append(time.monotonic())

    handler: Any = handle_too if is_coroutine else handle
    with consume(broker) as consumer:
        processing = consumer.process(handler, rate_limit=100)
        until(lambda: processing.ledger()["done"] == 300)
        processing.stop()
    # A second's worth may come at once; 300 take two seconds more.
    assert begun[-1] - begun[0] > 1.5


def test_records_at_once_begin_low_where_they_may_adapt(broker: tidegate.EmbeddedBroker) -> None:  # noqa: F811
    fill(broker, 400)
    at_once: list[int] = []
    now = 0

    async def handle(record: tidegate.Record) -> None:
        nonlocal now
        now += 1
        at_once.append(now)
        await asyncio.sleep(0.005)
        now -= 1

    with consume(broker) as consumer:
        processing = consumer.process(handle, min_in_flight=2, max_in_flight=50, order="none")
        until(lambda: processing.ledger()["done"] == 400)
        processing.stop()
    assert max(at_once[:2]) <= 2 < max(at_once) <= 50


def test_a_limit_of_dead_letters_ends_it_and_nothing_is_dropped(broker: tidegate.EmbeddedBroker) -> None:  # noqa: F811
    fill(broker, 20, keys=1)

    def handle(record: tidegate.Record) -> None:
        raise ValueError("no")

    with consume(broker) as consumer:
        processing = consumer.process(handle, dead_letter_topic="dead", dead_letter_limit=3)
        with pytest.raises(tidegate.TidegateError, match="dead"):
            processing.wait(60)
        ledger = processing.stop()
    assert ledger["dead_lettered"] == 3 and ledger["missing"] == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"attempt_timeout": 0}, "attempt_timeout: 0 is no number of seconds above 0"),
        ({"rate_limit": -1}, "rate_limit: -1 is no number of records per second above 0"),
        ({"rate_limit": "many"}, "rate_limit: 'many'"),
        ({"min_in_flight": 20, "max_in_flight": 10}, "min_in_flight: 20 is more than max_in_flight, 10"),
        ({"min_in_flight": 0}, "min_in_flight"),
        ({"dead_letter_limit": 5}, "dead_letter_limit: there is no dead_letter_topic"),
    ],
)
def test_paces_that_cannot_be_are_named(broker: tidegate.EmbeddedBroker, options: dict[str, Any], text: str) -> None:  # noqa: F811
    with consume(broker) as consumer, pytest.raises(tidegate.ArgumentError) as raised:
        consumer.process(print, **options)
    assert text in str(raised.value)
