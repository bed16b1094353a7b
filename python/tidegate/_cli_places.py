"""What the commands about groups and dead letters share: connecting, and places in a topic."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from tidegate import _core
from tidegate._logging import forward_native_lines

__all__ = [
    "PATIENCE_S",
    "REPLAY_GROUP",
    "Places",
    "add_connection",
    "all_partitions",
    "connect",
    "offsets_of",
    "properties",
    "ranges",
]

PATIENCE_S = 30.0
"""How long a cluster may take for an answer."""

REPLAY_GROUP = "tidegate-dlq-replay."
"""Before the dead-letter topic's name: the group that keeps the cursor of its replays."""

Places = dict[tuple[str, int], int]
"""An offset for each partition."""


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Arguments that say how to reach the cluster."""
    parser.add_argument("--bootstrap-servers", required=True, help="host:port, several separated by commas")
    parser.add_argument("--property", action="append", default=[], metavar="NAME=VALUE", help="a further property; may be repeated")


def properties(options: argparse.Namespace) -> dict[str, str]:
    """What they make for a client.

    Raises:
        ValueError: one is no NAME=VALUE.
    """
    config = {"bootstrap.servers": options.bootstrap_servers}
    for text in options.property:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise ValueError(f"--property {text}: write NAME=VALUE")
        config[name.strip()] = value.strip()
    return config


def connect(options: argparse.Namespace, group: str) -> _core.Consumer:
    """A consumer that commits nothing by itself."""
    forward_native_lines()
    own: dict[str, str | bool] = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    config: dict[str, str | int | float | bool] = {**properties(options), **own}
    return _core.Consumer(config)


def all_partitions(consumer: _core.Consumer, topic: str) -> list[tuple[str, int]]:
    """All partitions of a topic.

    Raises:
        ValueError: there is no such topic.
    """
    count = consumer.topics(timeout=PATIENCE_S).get(topic)
    if count is None:
        raise ValueError(f"there is no topic {topic}")
    return [(topic, partition) for partition in range(count)]


def offsets_of(consumer: _core.Consumer, partitions: list[tuple[str, int]]) -> Places:
    """What a consumer's group has committed, where it has."""
    found = consumer.committed(partitions, timeout=PATIENCE_S)
    return {(place.topic, place.partition): offset for place, offset in found.items() if offset is not None}


def ranges(first: Mapping[tuple[str, int], int], end: Places) -> str:
    """For people: from `first` to before `end`."""
    return ", ".join(f"{topic} [{n}] offsets {first.get((topic, n), 0)} to {stop - 1}" for (topic, n), stop in end.items() if stop)
