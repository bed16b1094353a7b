"""`tidegate.testing`: what the simulator does, that it does the same each time, and that its assertions can fail."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tidegate
from tidegate import _handlers
from tidegate.testing import Result, Simulation, SimulationError

# -- time ------------------------------------------------------------------------------------------------------------------


def test_coroutines_sleep_wait_and_lock_in_virtual_time() -> None:
    """An hour of work, and nothing of asyncio's own is different."""
    with Simulation(partitions=1, order="none", max_in_flight=10) as sim:
        begun: list[float] = []
        one_at_a_time = asyncio.Lock()

        @sim.handler
        async def handle(record: tidegate.Record) -> None:
            begun.append(sim.now)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.sleep(3600), timeout=60)
            async with one_at_a_time:
                await sim.sleep(2)
            assert await asyncio.to_thread(lambda: record.value) == record.value

        sim.fill(10, keys=0)
        result = sim.run()
    assert begun == [0.0] * 10
    assert [done.time for done in result.completions] == [62.0 + 2 * number for number in range(10)]
    result.assert_all_handled()


def test_functions_take_what_they_return_or_what_is_said() -> None:
    with Simulation(partitions=1, order="partition") as sim:
        sim.handler(lambda record: float(record.value))
        sim.fill(4)
        assert [done.time for done in sim.run().completions] == [0, 1, 3, 6]
    with Simulation(partitions=1, order="partition") as sim:
        called: list[float] = []

        @sim.handler(latency=lambda record: 2.0 if record.value == b"1" else 1.0)
        def handle(_record: tidegate.Record) -> str:
            called.append(sim.now)
            return "ignored, as in production"

        sim.fill(3)
        sim.run().assert_all_handled()
        assert called == [1, 3, 4]


def test_records_come_when_they_are_said_to_with_all_they_have() -> None:
    seen: list[Any] = []
    with Simulation(partitions=3, topic="tasks") as sim:
        sim.handler(lambda record: seen.append((sim.now, record)))
        sim.produce({"camera": 7}, key="k", partition=2, headers=[("trace", b"1"), ("none", None)], at=2.5)
        sim.produce("text", key=b"\xff", at=3)
        sim.produce(None, at=4)
        sim.run()
    (when, first), (_, second), (_, third) = seen
    assert (when, first.topic, first.partition, first.offset, first.key) == (2.5, "tasks", 2, 0, b"k")
    assert first.json() == {"camera": 7}
    assert list(first.headers) == [("trace", b"1"), ("none", None)]
    assert (first.timestamp_ms, first.timestamp_type) == (1_577_836_802_500, "create")
    assert (second.value, second.key, third.value, third.key) == (b"text", b"\xff", None, None)


def test_it_goes_on_where_it_was() -> None:
    with Simulation(partitions=1, max_in_flight=1) as sim:
        sim.handler(lambda _record: 1.0)
        sim.fill(10, keys=1)
        assert len(sim.run(3.5).completions) == 3
        sim.crash(restart_after=None)
        assert len(sim.run(10).completions) == 3
        sim.join()
        result = sim.run()
        assert sim.now == result.time
    result.assert_all_handled()
    # Commits are 5 s apart: nothing of the first member's was committed.
    assert (result.duplicates, result.crashes) == (3, 1)


PROGRAM = """
import asyncio
from tidegate.testing import Simulation

def story(seed):
    with Simulation(partitions=4, members=2, seed=seed, max_attempts=4, max_in_flight=20) as sim:
        @sim.handler
        async def handle(record):
            await asyncio.sleep(sim.random.uniform(0.1, 3))
            if sim.random.random() < 0.2:
                raise ConnectionError("away")
        sim.fill(200, every=0.01)
        sim.crash(at=2)
        sim.lose(at=4)
        sim.rebalance(times=3, at=5)
        return sim.run()
"""


def test_the_same_seed_does_the_same_whatever_python_hashes() -> None:
    program = textwrap.dedent(PROGRAM) + "print(story(7)); print(story(7) == story(7), story(7) == story(8))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for hashes in ("1", "2")
    }
    (output,) = outputs
    assert output.rstrip().endswith("True False")


# -- what the engine does ---------------------------------------------------------------------------------------------------


def test_failures_are_tried_again_and_go_to_the_dead_letter_topic_as_in_production() -> None:
    attempts: dict[bytes, list[float]] = defaultdict(list)
    with Simulation(
        partitions=1, max_attempts=3, backoff=1.0, give_up_on=(ValueError,), dead_letter_topic="dead", attempt_timeout=30
    ) as sim:

        @sim.handler
        async def handle(record: tidegate.Record) -> None:
            attempts[record.value or b""].append(sim.now)
            assert tidegate.current_attempt() == len(attempts[record.value or b""])
            if record.value == b"1":
                raise ValueError("no such camera")
            if record.value == b"2":
                raise ConnectionError("away")
            if record.value == b"3" and tidegate.current_attempt() == 1:
                raise tidegate.Retry("busy", after=60)
            if record.value == b"4" and tidegate.current_attempt() == 1:
                await asyncio.sleep(45)

        sim.fill(5, keys=5)
        sim.dead_letter_outage(500)
        assert sim.run(499).dead_letters == ()
        result = sim.run()
    result.assert_all_handled()
    assert [(letter.offset, letter.exception, letter.text, letter.attempts) for letter in result.dead_letters] == [
        (1, "ValueError", "no such camera", 1),
        (2, "ConnectionError", "away", 3),
    ]
    assert [len(times) for _, times in sorted(attempts.items())] == [1, 1, 3, 2, 2]
    assert 0.75 <= attempts[b"2"][1] <= 1.25
    assert attempts[b"3"][1] == 60
    assert attempts[b"4"][1] == 45  # over its time at 30, and its key waited for the handler
    assert result.failed_attempts == 6
    assert result.ledger["timed_out"] == 1


def test_a_restart_repeats_what_was_unfinished_and_what_was_done_since_the_commit() -> None:
    with Simulation(partitions=1, order="none", max_in_flight=1000, commit_interval=1.0) as sim:

        @sim.handler
        async def handle(record: tidegate.Record) -> None:
            await asyncio.sleep(1000 if record.value == b"0" and sim.now < 50 else 0.1)

        sim.fill(500, keys=0, every=0.02)
        sim.crash(at=20)
        result = sim.run(15)
        assert result.committed == {0: 0}
        assert len(result.mapped) == 499
        result = sim.run()
    assert (result.duplicates, result.ledger["skipped"]) == (0, 499)
    result.assert_all_handled()


def test_members_take_over_from_one_that_crashed_when_its_session_is_over() -> None:
    with Simulation(partitions=4, members=2, session_timeout=30) as sim:
        sim.handler(lambda _record: 0.1)
        sim.fill(400, keys=40, every=0.1)
        sim.crash(0, at=10.05, restart_after=None)
        result = sim.run()
    result.assert_all_handled()
    result.assert_order_kept()
    waited = [done.time for done in result.completions if done.member == 1 and done.time > 10]
    late = [done for done in result.completions if done.time > 40 and done.member == 1]
    assert waited and late and result.rebalances == 2


def test_one_that_lost_its_partitions_finishes_nothing_of_them() -> None:
    with Simulation(partitions=1, max_in_flight=10) as sim:
        sim.handler(lambda _record: 7.0)
        sim.fill(10, keys=10)
        sim.lose(at=4)
        result = sim.run()
    assert result.ledger["stale"] == 10
    assert result.duplicates == 10
    result.assert_all_handled()
    result.assert_order_kept()


@pytest.mark.parametrize("cooperative", [False, True])
def test_a_revoke_waits_for_handlers_as_long_as_it_may(cooperative: bool) -> None:
    for drain, repeated in ((30.0, 0), (1.0, 2 if not cooperative else 1)):
        with Simulation(partitions=2, cooperative=cooperative, revoke_drain=drain) as sim:
            sim.handler(lambda _record: 10.0)
            for partition in range(2):
                sim.produce("v", key="k", partition=partition)
            sim.join(at=5)
            result = sim.run()
        result.assert_all_handled()
        assert result.duplicates == repeated, result.trace


def test_one_that_leaves_in_good_order_repeats_nothing() -> None:
    with Simulation(partitions=4, members=3, max_in_flight=8, commit_interval=1000) as sim:
        sim.handler(lambda _record: 0.5)
        sim.fill(300, keys=30)
        for when in (3.2, 5.2):
            sim.leave(at=when)
        result = sim.run()
    result.assert_all_handled()
    assert result.duplicates == 0


def test_an_outage_of_commits_loses_nothing_and_bounds_what_is_taken_in() -> None:
    with Simulation(partitions=1, max_in_flight=4, max_queued=50) as sim:
        sim.handler(lambda _record: 0.1)
        sim.fill(3000, keys=100)
        sim.commit_outage(20, at=1)
        result = sim.run(20.9)
        assert result.committed == {0: 0} and len(result.completions) > 500
        assert result.ledger["queued"] <= 50
        result = sim.run()
    result.assert_all_handled()
    assert (result.duplicates, result.most_in_flight) == (0, 4)


def test_a_commit_whose_answer_is_lost_counts_for_whoever_comes_next() -> None:
    with Simulation(partitions=1, commit_interval=1.0) as sim:
        sim.handler(lambda _record: 0.5)
        sim.fill(20, keys=1)
        sim.commit_outage(1000, answers_only=True)
        sim.crash(at=5.25)
        result = sim.run(6)
        committed = result.committed[0]
        assert committed in (8, 9), "all that was done a second before"
        result = sim.run()
    result.assert_all_handled()
    assert result.duplicates == 10 - committed


def test_so_many_tokens_a_second_and_no_more() -> None:
    begun: list[tuple[float, int]] = []
    with Simulation(partitions=1, order="none", max_in_flight=1000, rate_limit=1000, cost=lambda record: int(record.value)) as sim:

        @sim.handler
        async def ask(record: tidegate.Record) -> None:
            begun.append((sim.now, int(record.value or b"")))
            await asyncio.sleep(20)

        for number in range(300):
            sim.produce(str(50 + number * 7 % 500))
        result = sim.run()
    result.assert_all_handled()
    total = sum(cost for _, cost in begun)
    # Any window: its length, the second that is saved up, and the last one begun.
    for index, (since, _) in enumerate(begun):
        spent = 0
        for until, cost in begun[index:]:
            assert spent <= 1000 * (until - since) + 1000 + 1e-6
            spent += cost
    assert begun[-1][0] == pytest.approx(total / 1000, rel=0.02)


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_batches_come_full_or_when_their_time_is_over(is_coroutine: bool) -> None:
    batches: list[tuple[float, list[bytes]]] = []

    def handle(records: list[tidegate.Record]) -> None:
        batches.append((sim.now, [record.value or b"" for record in records]))

    async def handle_later(records: list[tidegate.Record]) -> None:
        handle(records)

    with Simulation(partitions=1, order="none", batch_size=4, batch_timeout=2.0) as sim:
        sim.handler(handle_later if is_coroutine else handle)
        sim.fill(10, keys=0)
        sim.run().assert_all_handled()
    assert [(when, len(values)) for when, values in batches] == [(0, 4), (0, 4), (2, 2)]


def test_a_batch_fails_together_or_as_its_handler_says() -> None:
    seen: list[tuple[int, list[bytes]]] = []
    with Simulation(partitions=1, batch_size=4, batch_timeout=1.0, max_attempts=2, backoff=1.0, dead_letter_topic="dead") as sim:

        @sim.handler
        def handle(records: list[tidegate.Record]) -> None:
            values = [record.value or b"" for record in records]
            seen.append((tidegate.current_attempt(), values))
            if b"0" in values:
                raise ConnectionError("all of them")
            if b"5" in values:
                raise tidegate.BatchError(
                    {values.index(b"5"): ValueError("this one"), values.index(b"6"): tidegate.Retry("and this")}
                )
            if b"8" in values:
                raise tidegate.BatchError({99: ValueError("a place that is none")})

        sim.fill(8, keys=1)
        sim.produce("8", key="key-0", at=60)
        result = sim.run()
    result.assert_all_handled()
    assert seen == [
        (1, [b"0", b"1", b"2", b"3"]),
        (2, [b"0", b"1", b"2", b"3"]),
        (1, [b"4", b"5", b"6", b"7"]),
        (2, [b"5", b"6"]),
        (1, [b"8"]),
        (2, [b"8"]),
    ]
    assert [(letter.offset, letter.exception, letter.attempts) for letter in result.dead_letters] == [
        (0, "ConnectionError", 2),
        (1, "ConnectionError", 2),
        (2, "ConnectionError", 2),
        (3, "ConnectionError", 2),
        (5, "ValueError", 2),
        (6, "Retry", 2),
        (8, "BatchError", 2),
    ]


# -- how it ends ------------------------------------------------------------------------------------------------------------


def test_a_failure_for_good_comes_out_of_run_or_is_started_again() -> None:
    def story(**options: Any) -> Result:
        with Simulation(partitions=1, **options) as sim:
            fails = True

            @sim.handler
            def handle(record: tidegate.Record) -> None:
                if record.value == b"3" and fails:
                    raise ValueError("no such camera")

            def mend() -> None:
                nonlocal fails
                fails = False

            sim.fill(6, keys=1)
            sim.call(mend, at=21)
            return sim.run()

    with pytest.raises(tidegate.ListenerError, match=r"simulated.*offset 3, attempt 1.*no such camera"):
        story()
    result = story(restart_after=10.0)
    result.assert_all_handled()
    assert (result.failed_attempts, result.duplicates) == (3, 0)
    result = story(on_failure="skip")
    result.assert_all_handled()
    assert result.given_up == {(0, 3)}


class Enough(BaseException):
    """What no handler may raise."""


async def _returns_a_coroutine(_record: tidegate.Record) -> Any:
    return asyncio.sleep(1)


def _raises(error: BaseException) -> Callable[[Any], Any]:
    def handle(_record: tidegate.Record) -> None:
        raise error

    return handle


@pytest.mark.parametrize(
    ("handler", "error", "told"),
    [
        (_raises(Enough("of it")), Enough, "of it"),
        (_raises(KeyboardInterrupt()), KeyboardInterrupt, ""),
        (_returns_a_coroutine, tidegate.ListenerError, "_returns_a_coroutine returned a coroutine that nobody runs"),
        (lambda _record: asyncio.sleep(1), tidegate.ListenerError, "returned a coroutine that nobody runs"),
        (lambda _record: -1, tidegate.ArgumentError, "latency: -1 s cannot be"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
def test_what_no_handler_may_do_comes_out_of_run(handler: Callable[[Any], Any], error: type[BaseException], told: str) -> None:
    with Simulation(on_failure="skip", max_attempts=5) as sim:
        sim.handler(handler)
        sim.fill(3)
        with pytest.raises(error, match=told or None):
            sim.run()
        assert sim.result().committed == dict.fromkeys(range(4), 0)


def test_a_handler_that_never_returns_is_named_at_the_limit() -> None:
    with Simulation(partitions=1) as sim:

        @sim.handler
        async def handle(record: tidegate.Record) -> None:
            if record.offset == 2:
                await asyncio.get_running_loop().create_future()

        sim.fill(5, keys=5)
        with pytest.raises(
            SimulationError,
            match=r"not done after 100 s: committed by partition \{0: '2 of 5'\}, with handlers: partition 0 offset 2,",
        ):
            sim.run(limit=100)
        assert sim.now == 100


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"partitions": 0}, tidegate.ArgumentError, "partitions: 0 cannot be"),
        ({"members": True}, tidegate.ArgumentError, "members: True cannot be"),
        ({"commit_interval": 0}, tidegate.ArgumentError, "commit_interval: 0 s would never"),
        ({"session_timeout": "long"}, tidegate.ArgumentTypeError, "session_timeout: 'long'"),
        ({"topic": "no topic"}, tidegate.ArgumentError, "topic"),
        ({"speed": 3}, tidegate.ArgumentTypeError, "speed: there is no such option"),
        ({"max_in_flight": 0}, tidegate.ArgumentError, "max_in_flight: 0"),
        ({"backoff": 2.0, "max_backoff": 1.0}, tidegate.ArgumentError, "backoff"),
    ],
)
def test_arguments_that_cannot_be_are_told(options: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        with Simulation(**options) as sim:
            sim.handler(lambda _record: None)
            sim.run()


def test_what_cannot_be_asked_is_told() -> None:
    def generator(_record: tidegate.Record) -> Iterator[None]:
        yield None

    with Simulation() as sim:
        with pytest.raises(SimulationError, match="nobody handles the records"):
            sim.run()
        with pytest.raises(tidegate.ArgumentTypeError, match="handler: 7 cannot be called"):
            sim.handler(7)  # type: ignore[type-var]  # wrong on purpose
        with pytest.raises(tidegate.ArgumentTypeError, match="generator function"):
            sim.handler(generator)
        sim.handler(lambda _record: None)
        with pytest.raises(tidegate.ArgumentError, match="partition: 4 cannot be; use 0 to 3"):
            sim.produce("v", partition=4)
        sim.run(5)
        with pytest.raises(tidegate.ArgumentError, match=r"at: 3 s is over, it is 5.0 s"):
            sim.crash(at=3)
        sim.crash(7)
        with pytest.raises(tidegate.ArgumentError, match="there is no member 7; there are 0"):
            sim.run()
    with pytest.raises(SimulationError, match="is over"):
        sim.run()

    async def inside() -> None:
        with Simulation() as sim:
            sim.handler(lambda _record: None)
            with pytest.raises(RuntimeError, match="event loop"):
                sim.run()

    asyncio.run(inside())


# -- the assertions can fail -------------------------------------------------------------------------------------------------


def story_of_failures(**options: Any) -> Result:
    with Simulation(partitions=2, seed=3, max_attempts=4, backoff=1.0, commit_interval=1.0, **options) as sim:

        @sim.handler
        async def handle(_record: tidegate.Record) -> None:
            await asyncio.sleep(sim.random.uniform(0.1, 1.0))
            if sim.random.random() < 0.3:
                raise ConnectionError("away")

        sim.fill(100, keys=10)
        sim.crash(at=5)
        return sim.run()


def test_a_lost_record_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a failed attempt taken for done, as many a loop around `poll()` does, this would see it."""
    story_of_failures(on_failure="skip").assert_all_handled()
    monkeypatch.setattr(_handlers.Handlers, "failed", lambda self, work, _error: self._dispatcher._lose(work[0]))

    def lose(self: Any, ticket: int) -> None:
        self._held.pop(ticket)
        self.engine.settle([ticket])
        self._told()

    monkeypatch.setattr("tidegate.testing._member.Member._lose", lose, raising=False)
    result = story_of_failures()
    for check in (result.assert_nothing_lost, result.assert_all_handled):
        with pytest.raises(AssertionError, match=r"records are committed and were never handled: partition . offset .*\(seed 3\)"):
            check()


def test_a_broken_order_is_seen() -> None:
    story_of_failures().assert_order_kept()
    result = story_of_failures(order="none")
    with pytest.raises(ValueError, match="promise no order"):
        result.assert_order_kept()
    object.__setattr__(result, "order", "key")
    with pytest.raises(AssertionError, match=r"of key b'key-.': offset .* was handled only after"):
        result.assert_order_kept()
    object.__setattr__(result, "order", "partition")
    with pytest.raises(AssertionError, match=r"partition .: offset .* was handled only after"):
        result.assert_order_kept()


def test_what_is_not_done_yet_is_seen() -> None:
    with Simulation(partitions=1) as sim:
        sim.handler(lambda _record: 1.0)
        sim.fill(10, keys=1)
        result = sim.run(3.5)
        result.assert_nothing_lost()
        with pytest.raises(AssertionError, match="7 records were never handled: partition 0 offset 3, "):
            result.assert_all_handled()
        with pytest.raises(AssertionError, match="not all of it is committed"):
            sim.run(7).assert_all_handled()


def test_the_example_of_the_documents_is_a_test(tmp_path: Path) -> None:
    """As somebody would have it in a suite of their own."""
    page = (Path(__file__).resolve().parents[2] / "docs/testing.md").read_text(encoding="utf-8")
    example = page.split("```python\n", 1)[1].split("```", 1)[0]
    (tmp_path / "test_assess.py").write_text(example, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
