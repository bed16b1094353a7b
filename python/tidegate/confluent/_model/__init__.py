"""Small classes that several operations take or give: nodes, groups' partitions, and the enums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, IntEnum
from typing import Any, overload

from tidegate.confluent import _constants as c
from tidegate.confluent._types import TopicPartition


class OrderedEnum(Enum):
    """An enum whose members sort by their numbers, within one enum."""

    def __lt__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bool(self.value < other.value)


class Node:
    """A broker.

    Args:
        id: its number.
        host: its host name.
        port: its port.
        rack: its rack, where brokers have one.

    `id_string` is the number as text.
    """

    def __init__(self, id: int, host: str, port: int, rack: str | None = None) -> None:
        self.id = id
        self.id_string = str(id)
        self.host = host
        self.port = port
        self.rack = rack

    def __str__(self) -> str:
        rack = f"(Rack - {self.rack})" if self.rack else ""
        return f"({self.id}) {self.host}:{self.port} {rack}"


class ConsumerGroupTopicPartitions:
    """A consumer group and partitions of it, with offsets; for list_ and alter_consumer_group_offsets.

    Args:
        group_id: the group.
        topic_partitions: its partitions; None for all of them, where offsets are listed.
    """

    def __init__(self, group_id: str, topic_partitions: list[TopicPartition] | None = None) -> None:
        self.group_id = group_id
        self.topic_partitions = topic_partitions


class ConsumerGroupState(OrderedEnum):
    """What a consumer group is doing. `UNKOWN` is an old spelling of `UNKNOWN`."""

    UNKNOWN = c.CONSUMER_GROUP_STATE_UNKNOWN
    UNKOWN = UNKNOWN
    PREPARING_REBALANCING = c.CONSUMER_GROUP_STATE_PREPARING_REBALANCE
    COMPLETING_REBALANCING = c.CONSUMER_GROUP_STATE_COMPLETING_REBALANCE
    STABLE = c.CONSUMER_GROUP_STATE_STABLE
    DEAD = c.CONSUMER_GROUP_STATE_DEAD
    EMPTY = c.CONSUMER_GROUP_STATE_EMPTY


class ConsumerGroupType(OrderedEnum):
    """Which protocol a consumer group speaks: `CONSUMER` is the one of KIP-848."""

    UNKNOWN = c.CONSUMER_GROUP_TYPE_UNKNOWN
    CONSUMER = c.CONSUMER_GROUP_TYPE_CONSUMER
    CLASSIC = c.CONSUMER_GROUP_TYPE_CLASSIC


class TopicCollection:
    """Topics by their names; for describe_topics.

    Args:
        topic_names: the names.
    """

    def __init__(self, topic_names: list[str]) -> None:
        self.topic_names = topic_names


class TopicPartitionInfo:
    """A partition within a TopicDescription.

    Args:
        id: the partition's number.
        leader: the broker that leads it.
        replicas: the brokers that keep it.
        isr: those of them that are in sync.
    """

    def __init__(self, id: int, leader: Node, replicas: list[Node], isr: list[Node]) -> None:
        self.id = id
        self.leader = leader
        self.replicas = replicas
        self.isr = isr


class IsolationLevel(OrderedEnum):
    """Whether records of open and aborted transactions count."""

    READ_UNCOMMITTED = c.ISOLATION_LEVEL_READ_UNCOMMITTED
    READ_COMMITTED = c.ISOLATION_LEVEL_READ_COMMITTED


class ElectionType(OrderedEnum):
    """How a leader is elected: the preferred replica, or any, even one that is behind."""

    PREFERRED = c.ELECTION_TYPE_PREFERRED
    UNCLEAN = c.ELECTION_TYPE_UNCLEAN


class AcknowledgeType(IntEnum):
    """What a share consumer says of a record: done; deliver it again; never deliver it again."""

    ACCEPT = c.SHARE_ACKNOWLEDGE_TYPE_ACCEPT
    RELEASE = c.SHARE_ACKNOWLEDGE_TYPE_RELEASE
    REJECT = c.SHARE_ACKNOWLEDGE_TYPE_REJECT


class Messages:
    """The messages of one poll of a share consumer, a sequence that cannot be changed.

    Args:
        messages: the messages.
    """

    def __init__(self, messages: Iterable[Any] = ()) -> None:
        self._records = list(messages)

    def records(self) -> list[Any]:
        """The messages, as a new list."""
        return list(self._records)

    def count(self) -> int:
        """How many there are."""
        return len(self._records)

    def is_empty(self) -> bool:
        """True when there is none."""
        return not self._records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._records)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Messages: ...
    def __getitem__(self, index: int | slice) -> Any:
        picked = self._records[index]
        return Messages(picked) if isinstance(index, slice) else picked

    def __repr__(self) -> str:
        return f"Messages({self._records!r})"
