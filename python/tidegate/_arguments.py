"""The arguments of `BaseKafkaConsumer`: what may be given, what it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate import _core
from tidegate._side_by_side import MoreOptions
from tidegate.processing import DEFAULTS, ProcessingOptions, check_values

ConfigValue = str | int | float | bool
"""What a configuration property may be given as."""

ORIGINAL_SETTINGS: Mapping[str, ConfigValue] = {
    "auto.commit.interval.ms": 5000,
    "queued.max.messages.kbytes": 65536,
    "session.timeout.ms": 30000,
    "heartbeat.interval.ms": 3000,
}
"""Settings of the class this one replaces; `config=` goes over them."""

_BROKER_DECIDES = ("session.timeout.ms", "heartbeat.interval.ms")
"""Not allowed on a client under `group.protocol=consumer` (KIP-848)."""

_TWO_NAMES = (
    ("workers", "max_in_flight", 1),
    ("ordering", "order", "key"),
    ("retries", "max_attempts", 0),
    ("retry_backoff_ms", "backoff", 100),
)


def properties_of(
    bootstrap_servers: str,
    group_id: str,
    auto_commit: bool,
    auto_offset_reset: str,
    config: Mapping[str, ConfigValue] | None,
) -> dict[str, ConfigValue]:
    properties: dict[str, ConfigValue] = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": group_id,
        "enable.auto.commit": auto_commit,
        "auto.offset.reset": auto_offset_reset,
        **ORIGINAL_SETTINGS,
    }
    given = dict(config or {})
    if str(given.get("group.protocol", "classic")).lower() == "consumer":
        for name in _BROKER_DECIDES:
            del properties[name]
    return {**properties, **given}


def options_of(own: dict[str, Any], more: MoreOptions, dead_letter_topic: str | None) -> ProcessingOptions:
    """The options of both spellings as `process()` takes them."""
    unknown = more.keys() - MoreOptions.__annotations__.keys()
    if unknown:
        raise _core.ArgumentTypeError(f"{min(unknown)}: BaseKafkaConsumer has no such argument")
    for name, other, default in _TWO_NAMES:
        if other in more and own[name] != default:
            raise _core.ArgumentError(f"{other}: {name} says the same, and is given as well; leave one of the two out")
    retries = own["retries"]
    options: ProcessingOptions = {
        **DEFAULTS,
        "max_in_flight": own["workers"],
        "order": own["ordering"],
        "max_attempts": None if retries is None else retries + 1,
        "backoff": own["retry_backoff_ms"] / 1000,
        "dead_letter_topic": dead_letter_topic,
        "on_failure": "skip" if dead_letter_topic is None else None,
        **more,
    }
    options["max_backoff"] = more.get("max_backoff", max(DEFAULTS["max_backoff"], options["backoff"]))
    check_values(options)
    return options


def check_text(argument: str, value: object, remedy: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise _core.ArgumentError(f"{argument}: {value!r} is not a text with something in it; give {remedy}")


def check_topics(topics: object) -> None:
    if isinstance(topics, str) or not isinstance(topics, Sequence) or not topics:
        raise _core.ArgumentError(f'topics: {topics!r} is not a list of names; write topics=["name"]')
    for topic in topics:
        check_text("topics", topic, "the name of a topic")


def check_callable(argument: str, value: object) -> None:
    if not callable(value):
        raise _core.ArgumentError(f"{argument}: {value!r} cannot be called; give a function")


def check_number(argument: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _core.ArgumentError(f"{argument}: {value!r} is not a whole number of {least} or more")


def check_choice(argument: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise _core.ArgumentError(f"{argument}: {value!r} is none of {', '.join(choices)}")
