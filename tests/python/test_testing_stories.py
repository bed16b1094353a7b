"""Stories that hypothesis writes, told to `tidegate.testing.Simulation`: engine, handlers and group together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tidegate
from tidegate.testing import Result, Simulation

STORIES = 200
LONG_STORIES = 3000

OPTIONS = st.fixed_dictionaries(
    {
        "order": st.sampled_from(["key", "partition", "none"]),
        "max_in_flight": st.sampled_from([3, 8, 50]),
        "max_queued": st.sampled_from([5, 40, 1000]),
        "offset_map_bytes": st.sampled_from([0, 24, 4096]),
        "cooperative": st.booleans(),
        "members": st.integers(1, 4),
        "revoke_drain": st.sampled_from([0.0, 1.0, 30.0]),
        "batch_size": st.sampled_from([1, 1, 3]),
        "attempt_timeout": st.sampled_from([None, None, 1.5]),
        "min_in_flight": st.sampled_from([None, None, 1]),
        "rate_limit": st.sampled_from([None, None, 40.0]),
        "seed": st.integers(0, 1000),
    }
)


@dataclass(frozen=True)
class Event:
    at: float
    what: str
    seconds: float = 0.0


TIMES = st.integers(0, 300).map(lambda tenths: tenths / 10)
EVENTS = st.lists(
    st.builds(
        Event,
        TIMES,
        st.sampled_from(["crash", "lose", "rebalance", "join", "leave", "commit_outage", "answer_outage", "dead_letter_outage"]),
        st.integers(1, 150).map(lambda tenths: tenths / 10),
    ),
    max_size=8,
)


def happen(sim: Simulation, event: Event) -> None:
    """What an event is; somebody always stays, or comes back."""
    actions: dict[str, Callable[[], None]] = {
        "crash": lambda: sim.crash(restart_after=event.seconds, at=event.at),
        "lose": lambda: sim.lose(at=event.at),
        "rebalance": lambda: sim.rebalance(times=2, every=event.seconds / 10, at=event.at),
        "join": lambda: sim.join(at=event.at),
        "commit_outage": lambda: sim.commit_outage(event.seconds, at=event.at),
        "answer_outage": lambda: sim.commit_outage(event.seconds, answers_only=True, at=event.at),
        "dead_letter_outage": lambda: sim.dead_letter_outage(event.seconds, at=event.at),
    }
    if event.what == "leave":
        sim.join(at=event.at)
        sim.leave(at=event.at + event.seconds)
    else:
        actions[event.what]()


def tell(options: dict[str, Any], events: list[Event], is_coroutine: bool) -> Result:
    options = {**options, "max_attempts": 3, "backoff": 0.2, "dead_letter_topic": "dead", "batch_timeout": 0.3, "on_failure": None}
    if any(event.what in ("crash", "leave") for event in events):
        # Several at once: nobody else may be left for a moment.
        options["members"] = max(options["members"], 1 + sum(event.what in ("crash", "leave") for event in events))
    with Simulation(partitions=3, commit_interval=1.0, session_timeout=3.0, **options) as sim:

        def work() -> float:
            kind = sim.random.random()
            if kind < 0.1:
                raise ConnectionError("away")
            if kind < 0.12:
                raise tidegate.Retry("busy", after=2.0)
            return sim.random.choice([0.0, 0.05, 0.3, 2.0])

        async def later(_given: Any) -> None:
            await asyncio.sleep(work())

        sim.handler(later if is_coroutine else lambda _given: work())
        sim.fill(100, keys=9, every=0.03)
        sim.fill(30, keys=0, every=0.2)
        for event in events:
            happen(sim, event)
        return sim.run()


COUNTED: Counter[str] = Counter()


def check(options: dict[str, Any], events: list[Event], is_coroutine: bool) -> None:
    result = tell(options, events, is_coroutine)
    result.assert_all_handled()
    if options["order"] != "none":
        result.assert_order_kept()
    kinds = {event.what for event in events}
    if (
        kinds <= {"commit_outage", "dead_letter_outage", "join"}
        and options["revoke_drain"] == 30.0
        and not (options["attempt_timeout"] or ("commit_outage" in kinds and "join" in kinds))
    ):
        assert result.duplicates == 0, result.trace
    COUNTED.update(
        stories=1,
        crashes=result.crashes,
        rebalances=result.rebalances,
        repeated=result.duplicates,
        letters=len(result.dead_letters),
        timed_out=result.ledger["timed_out"],
        skipped=result.ledger["skipped"],
        failed=result.failed_attempts,
    )


@settings(max_examples=STORIES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(OPTIONS, EVENTS, st.booleans())
# A dead letter that was never confirmed: those behind it were let pass, and it came again after a crash.
@example(
    {
        "order": "partition",
        "max_in_flight": 3,
        "max_queued": 5,
        "offset_map_bytes": 0,
        "cooperative": False,
        "members": 1,
        "revoke_drain": 0.0,
        "batch_size": 1,
        "attempt_timeout": None,
        "min_in_flight": None,
        "rate_limit": None,
        "seed": 604,
    },
    [Event(0.0, "crash", 0.1), Event(6.3, "dead_letter_outage", 15.0), Event(21.3, "crash", 0.1)],
    False,
)
def told(options: dict[str, Any], events: list[Event], is_coroutine: bool) -> None:
    check(options, events, is_coroutine)


@settings(max_examples=LONG_STORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OPTIONS, EVENTS, st.booleans())
def told_at_length(options: dict[str, Any], events: list[Event], is_coroutine: bool) -> None:
    check(options, events, is_coroutine)


def test_no_story_loses_a_record_breaks_an_order_or_repeats_too_much(say: Callable[[str], None]) -> None:
    COUNTED.clear()
    told()
    say(f"stories: {dict(COUNTED)}")
    assert all(COUNTED[name] > 50 for name in ("crashes", "rebalances", "repeated", "letters", "timed_out", "skipped", "failed"))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_thousands_of_stories(say: Callable[[str], None]) -> None:
    COUNTED.clear()
    told_at_length()
    say(f"stories: {dict(COUNTED)}")
