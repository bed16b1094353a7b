"""`tidegate dlq purge`: deletes dead letters, and none that was never sent back unless it is told to.

Kafka deletes the records of a partition up to an offset, so that is what is found out here for each partition: how far the
arguments reach, and no further than what `dlq replay` is through with. Without `--yes` it only says what it would do.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import re
import time
from typing import Any

from tidegate import _core
from tidegate._cli_places import PATIENCE_S, REPLAY_GROUP, Places, all_partitions, connect, offsets_of, properties

__all__ = ["add_purge"]

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def add_purge(actions: Any) -> argparse.ArgumentParser:
    """The parser of `tidegate dlq purge`."""
    purge: argparse.ArgumentParser = actions.add_parser(
        "purge",
        help="delete records that were sent back; with --unreplayed others, too",
        description="Deletes the records that `dlq replay` has sent back, or those of them that the other arguments name. Without "
        "--yes nothing is deleted, and it says what would be.",
    )
    purge.add_argument("--partition", type=int, action="append", metavar="N", help="only this one; may be repeated")
    purge.add_argument("--before", type=int, metavar="OFFSET", help="only below this offset, of the one --partition")
    purge.add_argument("--older-than", type=_age, metavar="AGE", help="only what came longer ago than that: 90s, 15m, 12h, 30d, 2w")
    purge.add_argument("--group", default=None, help=f"keeps the cursor of the replay (default: {REPLAY_GROUP}TOPIC)")
    purge.add_argument("--unreplayed", action="store_true", help="also what was never sent back, which is lost for good then")
    purge.add_argument("--yes", action="store_true", help="delete, do not only say what would be deleted")
    purge.set_defaults(run=_purge)
    return purge


def _age(text: str) -> float:
    found = re.fullmatch(r"(\d+)([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write a number and s, m, h, d or w, such as 30d")
    return float(int(found[1]) * _UNITS_S[found[2]])


def _purge(options: argparse.Namespace) -> int:
    group = options.group or f"{REPLAY_GROUP}{options.topic}"
    with connect(options, group) as consumer:
        chosen = _chosen(options, all_partitions(consumer, options.topic))
        replayed = offsets_of(consumer, chosen)
        edges = {place: consumer.watermarks(place, timeout=PATIENCE_S) for place in chosen}
        asked = _reach(options, consumer, {place: high for place, (_, high) in edges.items()})
    until: Places = {}
    for place in chosen:
        low, _ = edges[place]
        end = asked[place]
        sent = min(max(replayed.get(place, 0), low), end)
        last = end if options.unreplayed else sent
        if last > low:
            until[place] = last
        never = max(end - sent, 0) if end > low else 0
        _say(options, place, low, last, never, end)
    return _delete(options, until)


def _chosen(options: argparse.Namespace, every: list[tuple[str, int]]) -> list[tuple[str, int]]:
    wanted = options.partition
    if options.before is not None and (wanted is None or len(set(wanted)) != 1):
        raise ValueError("--before: an offset is one of a single partition; name it with --partition")
    if options.before is not None and options.before < 0:
        raise ValueError(f"--before {options.before}: use an offset of 0 or more")
    for number in wanted or ():
        if (options.topic, number) not in every:
            raise ValueError(f"--partition {number}: {options.topic} has no such partition")
    return every if wanted is None else [place for place in every if place[1] in wanted]


def _reach(options: argparse.Namespace, consumer: _core.Consumer, ends: Places) -> Places:
    """How far the arguments reach, replayed or not: the offset behind the last record."""
    reach = dict(ends)
    if options.before is not None:
        reach = {place: min(end, options.before) for place, end in reach.items()}
    if options.older_than is not None:
        since_ms = int((time.time() - options.older_than) * 1000)
        times: dict[_core.TopicPartition | tuple[str, int], int] = dict.fromkeys(reach, since_ms)
        younger = consumer.offsets_for_times(times, timeout=PATIENCE_S)
        found = {(place.topic, place.partition): offset for place, offset in younger.items()}
        for place, end in reach.items():
            first = found.get(place)
            reach[place] = end if first is None else min(end, first)
    return reach


def _say(options: argparse.Namespace, place: tuple[str, int], low: int, last: int, never: int, end: int) -> None:
    name = f"{place[0]} [{place[1]}]"
    if last > low:
        verb = "deleting" if options.yes else "would delete"
        lost = f", {never} of which were never sent back" if options.unreplayed and never else ""
        print(f"{verb} {name} offsets {low} to {last - 1}: {last - low} records{lost}")
    if never and not options.unreplayed:
        print(f"kept: {name} offsets {end - never} to {end - 1} were never sent back (--unreplayed deletes them, too)")


def _delete(options: argparse.Namespace, until: Places) -> int:
    if not until:
        print(f"{options.topic}: nothing to delete")
        return 0
    if not options.yes:
        print("nothing was deleted; say --yes to do it")
        return 0
    from tidegate.confluent import KafkaException, TopicPartition
    from tidegate.confluent.admin import AdminClient

    admin = AdminClient(properties(options))
    asked = [TopicPartition(topic, number, offset) for (topic, number), offset in until.items()]
    failed = 0
    for place, answer in admin.delete_records(asked, request_timeout=PATIENCE_S).items():
        try:
            print(f"{place.topic} [{place.partition}] now begins at offset {answer.result(PATIENCE_S + 5).low_watermark}")
        except (KafkaException, concurrent.futures.TimeoutError) as error:
            failed += 1
            print(f"{place.topic} [{place.partition}] was not purged: {error}")
    return 1 if failed else 0
