"""`tidegate offsets` and `tidegate dlq`: what a group has done, and what it could not do.

A replay keeps two cursors, each the committed offsets of a group: how far it has begun to send, and how far the broker has
confirmed. Where they differ, a replay was interrupted and nobody knows whether the records between them were sent: the next one
says so and sends nothing before it is told what to do with them.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterator
from typing import Any

from tidegate import _core
from tidegate._cli_places import (
    PATIENCE_S,
    REPLAY_GROUP,
    Places,
    add_connection,
    all_partitions,
    connect,
    offsets_of,
    properties,
    ranges,
)
from tidegate._cli_purge import add_purge

__all__ = ["add_dlq", "add_offsets"]

_PREFIX = "tidegate.dlq."
_CHUNK = 100
"""So many records are in doubt when a replay is interrupted."""
_SHOWN_BYTES = 2000


# -- tidegate offsets ----------------------------------------------------------------------------------------------------


def add_offsets(commands: Any) -> None:
    """The parser of `tidegate offsets`."""
    parser = commands.add_parser("offsets", help="what a group has committed, and what it has done beyond that")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="committed offset, lag, and the map of done offsets, by partition")
    add_connection(show)
    show.add_argument("--group", required=True, help="the consumer group")
    show.add_argument("--topic", action="append", help="only this one; may be repeated")
    show.set_defaults(run=_show_offsets)


def _show_offsets(options: argparse.Namespace) -> int:
    with connect(options, options.group) as consumer:
        topics = options.topic or sorted(consumer.topics(timeout=PATIENCE_S))
        partitions = [place for topic in topics for place in all_partitions(consumer, topic)]
        offsets = offsets_of(consumer, partitions)
        metadata = _core._committed_metadata(consumer, list(offsets), PATIENCE_S) if offsets else {}
        for place, offset in offsets.items():
            _, high = consumer.watermarks(place, timeout=PATIENCE_S)
            told = _told(metadata.get(place), offset)
            print(f"{place[0]} [{place[1]}] committed {offset}, end {high}, lag {max(high - offset, 0)}{told}")
    if not offsets:
        print(f"group {options.group} has committed nothing of {', '.join(topics) or 'any topic'}")
        return 1
    return 0


def _told(text: str | None, committed: int) -> str:
    """What the metadata of a commit says, for a person."""
    if not text:
        return ""
    try:
        base, epoch, ranges = _core._offset_map(text)
    except ValueError as error:
        return f"; metadata: {error}"
    if base != committed:
        return f"; a map of done offsets that belongs to offset {base}, ignored"
    count = sum(stop - start for start, stop in ranges)
    shown = ", ".join(f"{start}-{stop - 1}" if stop - start > 1 else str(start) for start, stop in ranges[:10])
    more = f" and {len(ranges) - 10} more ranges" if len(ranges) > 10 else ""
    leader = "" if epoch is None else f", leader epoch {epoch}"
    return f"; {count} done beyond it: {shown}{more} ({len(text)} bytes{leader})"


# -- tidegate dlq --------------------------------------------------------------------------------------------------------


def add_dlq(commands: Any) -> None:
    """The parser of `tidegate dlq`."""
    parser = commands.add_parser("dlq", help="list, show, send back and delete the records of a dead-letter topic")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="one line for each record: where it came from, and why it is here")
    listing.add_argument("--limit", type=int, default=None, help="show no more")
    listing.set_defaults(run=_list)

    show = actions.add_parser("show", help="everything about one record")
    show.add_argument("--partition", type=int, required=True, help="of the dead-letter topic")
    show.add_argument("--offset", type=int, required=True, help="in the dead-letter topic")
    show.set_defaults(run=_show)

    replay = actions.add_parser("replay", help="send records back to where they came from; each once, unless told otherwise")
    replay.add_argument("--to", default=None, metavar="TOPIC", help="send them there instead")
    replay.add_argument("--group", default=None, help=f"keeps the cursor (default: {REPLAY_GROUP}TOPIC)")
    replay.add_argument("--limit", type=int, default=None, help="send no more")
    replay.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    replay.add_argument("--again", action="store_true", help="from the topic's beginning, although some were sent before")
    replay.add_argument(
        "--in-doubt",
        choices=("repeat", "skip"),
        default=None,
        help="what to do with records that an interrupted replay may have sent",
    )
    replay.set_defaults(run=_replay)

    purge = add_purge(actions)
    for action in (listing, show, replay, purge):
        add_connection(action)
        action.add_argument("--topic", required=True, help="the dead-letter topic")


def _records(consumer: _core.Consumer, begin: Places, limit: int | None = None) -> Iterator[_core.Record]:
    """Partition after partition, from `begin` to what is the end now."""
    left = limit
    for place, offset in begin.items():
        low, high = consumer.watermarks(place, timeout=PATIENCE_S)
        following = max(offset, low)
        if following >= high or left == 0:
            continue
        consumer.assign({place: following})
        while following < high:
            record = consumer.poll(timeout=PATIENCE_S)
            if record is None:
                raise _core.TimedOutError(f"no record of {place[0]} [{place[1]}] at offset {following} within {PATIENCE_S} s")
            following = record.offset + 1
            if record.offset >= high:
                break
            yield record
            if left is not None:
                left -= 1
                if left == 0:
                    return


def _why(record: _core.Record) -> dict[str, str]:
    return {
        name.removeprefix(_PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith(_PREFIX)
    }


def _line(record: _core.Record) -> str:
    why = _why(record)
    when = "-"
    if why.get("last_ms", "").isdigit():
        when = datetime.datetime.fromtimestamp(int(why["last_ms"]) / 1000, datetime.timezone.utc).isoformat(timespec="seconds")
    origin = f"{why.get('topic', '?')} [{why.get('partition', '?')}] offset {why.get('offset', '?')}"
    reason = f"{why.get('exception') or why.get('reason', '?')}: {why.get('text', '')}"
    return f"{record.partition}/{record.offset}  {when}  {origin}  attempts {why.get('attempts', '?')}  {reason}"


def _list(options: argparse.Namespace) -> int:
    count = 0
    with connect(options, f"tidegate-dlq-list.{options.topic}") as consumer:
        begin = dict.fromkeys(all_partitions(consumer, options.topic), 0)
        for record in _records(consumer, begin, options.limit):
            print(_line(record))
            count += 1
    print(f"{options.topic}: {count} records")
    return 0


def _show(options: argparse.Namespace) -> int:
    with connect(options, f"tidegate-dlq-list.{options.topic}") as consumer:
        place = (options.topic, options.partition)
        if place not in all_partitions(consumer, options.topic):
            raise ValueError(f"--partition {options.partition}: {options.topic} has no such partition")
        record = next(_records(consumer, {place: options.offset}), None)
    if record is None or record.offset != options.offset:
        print(f"{options.topic} [{options.partition}] has no record at offset {options.offset}", file=sys.stderr)
        return 1
    print(_line(record))
    print(f"key: {_text(record.key)}")
    for name, value in record.headers:
        print(f"{name}: {_text(value)}")
    print(f"value: {_text(record.value)}")
    return 0


def _text(value: bytes | None) -> str:
    if value is None:
        return "(null)"
    more = f" ... ({len(value)} bytes)" if len(value) > _SHOWN_BYTES else ""
    return value[:_SHOWN_BYTES].decode("utf-8", "backslashreplace") + more


def _replay(options: argparse.Namespace) -> int:
    group = options.group or f"{REPLAY_GROUP}{options.topic}"
    with connect(options, group) as consumer, connect(options, f"{group}.begun") as begun:
        partitions = all_partitions(consumer, options.topic)
        done = offsets_of(consumer, partitions)
        begin = {place: 0 if options.again else done.get(place, 0) for place in partitions}
        if options.again and done:
            print(f"sent again, as told: {ranges(dict.fromkeys(done, 0), done)}")
        reached = offsets_of(begun, partitions)
        doubt = {place: offset for place, offset in reached.items() if offset > done.get(place, 0)}
        if doubt and not options.again:
            where = ranges(done, doubt)
            if options.in_doubt is None:
                print(
                    f"an interrupted replay may or may not have sent {where}; say --in-doubt repeat or --in-doubt skip",
                    file=sys.stderr,
                )
                return 1
            print(f"{'sent perhaps twice' if options.in_doubt == 'repeat' else 'skipped, perhaps never sent'}: {where}")
            if options.in_doubt == "skip":
                begin |= doubt
        return _send_back(options, consumer, begun, begin)


def _send_back(options: argparse.Namespace, consumer: _core.Consumer, begun: _core.Consumer, begin: Places) -> int:
    sent = homeless = 0
    with _core.Producer({**properties(options), "acks": "all", "enable.idempotence": True, "linger.ms": 5}) as producer:
        chunk: list[tuple[_core.Record, str]] = []
        for record in _records(consumer, begin, options.limit):
            target = options.to or _why(record).get("topic", "")
            if not target:
                homeless += 1
                print(f"not sent, nothing says where it came from (use --to): {_line(record)}")
            elif options.dry_run:
                print(f"would go to {target}: {_line(record)}")
                sent += 1
            chunk.append((record, target))
            if len(chunk) == _CHUNK and not options.dry_run:
                sent += _send_chunk(producer, consumer, begun, chunk)
                chunk = []
        if not options.dry_run:
            sent += _send_chunk(producer, consumer, begun, chunk)
    print(f"{options.topic}: {sent} records {'would be sent' if options.dry_run else 'sent'}, {homeless} not")
    return 1 if homeless else 0


def _send_chunk(
    producer: _core.Producer, consumer: _core.Consumer, begun: _core.Consumer, chunk: list[tuple[_core.Record, str]]
) -> int:
    """Send, wait until all are confirmed, and only then move the cursor. Before it, note how far the sending goes."""
    if not chunk:
        return 0
    reached: dict[_core.TopicPartition | tuple[str, int], int] = {
        (record.topic, record.partition): record.offset + 1 for record, _ in chunk
    }
    begun.commit(reached, timeout=PATIENCE_S)
    errors: list[BaseException] = []

    def on_delivery(error: BaseException | None, _delivery: object) -> None:
        if error is not None:
            errors.append(error)

    sent = 0
    for record, target in chunk:
        if target:
            headers: list[tuple[str, bytes | None]] = [pair for pair in record.headers if not pair[0].startswith(_PREFIX)]
            headers.append((f"{_PREFIX}replayed_from", f"{record.topic}/{record.partition}/{record.offset}".encode()))
            producer.send(target, record.value, key=record.key, headers=headers, on_delivery=on_delivery)
            sent += 1
    if producer.flush(timeout=PATIENCE_S) or errors:
        reason = errors[0] if errors else f"no confirmation within {PATIENCE_S} s"
        raise _core.TimedOutError(f"some records of this replay may not have been sent: {reason}")
    consumer.commit(reached, timeout=PATIENCE_S)
    return sent
