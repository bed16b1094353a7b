"""`NewTopic` and `NewPartitions`: what create_topics and create_partitions are asked for."""

from __future__ import annotations

from tidegate.confluent._errors import as_int32

_UNSET = -1


def _name(topic: object) -> str:
    if not isinstance(topic, str):
        kind = "None" if topic is None else type(topic).__name__
        raise TypeError(f"topic must be str, not {kind}")
    return topic


class NewTopic:
    """A topic to create.

    Args:
        topic: its name.
        num_partitions: how many partitions; -1 takes the cluster's default, or what `replica_assignment` says.
        replication_factor: on how many brokers each is; -1 as above.
        replica_assignment: for each partition the brokers that keep it, instead of a replication factor.
        config: settings of the topic, texts to texts.

    Equality, order and hash look at the name and the number of partitions.

    Raises:
        TypeError, OverflowError: an argument of another type, or a number beyond 32 bits.
    """

    __slots__ = ("_topic", "config", "num_partitions", "replica_assignment", "replication_factor")

    def __init__(
        self,
        topic: str,
        num_partitions: int = _UNSET,
        replication_factor: int = _UNSET,
        replica_assignment: list[list[int]] | None = None,
        config: dict[str, str] | None = None,
    ) -> None:
        self._topic = _name(topic)
        self.num_partitions = as_int32(num_partitions)
        self.replication_factor = as_int32(replication_factor)
        self.replica_assignment = replica_assignment
        if config is not None and not isinstance(config, dict):
            raise TypeError(f"config must be a dict of strings, not {type(config).__name__}")
        self.config = config

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._topic

    def _order(self) -> tuple[str, int]:
        return self._topic, self.num_partitions

    def __repr__(self) -> str:
        count = "" if self.num_partitions == _UNSET else f",num_partitions={self.num_partitions}"
        return f"NewTopic(topic={self._topic}{count})"

    def __hash__(self) -> int:
        return hash(self._topic) ^ self.num_partitions

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NewTopic):
            return NotImplemented
        return self._order() == other._order()

    def __lt__(self, other: NewTopic) -> bool:
        if not isinstance(other, NewTopic):
            return NotImplemented
        return self._order() < other._order()

    def __le__(self, other: NewTopic) -> bool:
        if not isinstance(other, NewTopic):
            return NotImplemented
        return self._order() <= other._order()

    def __gt__(self, other: NewTopic) -> bool:
        if not isinstance(other, NewTopic):
            return NotImplemented
        return self._order() > other._order()

    def __ge__(self, other: NewTopic) -> bool:
        if not isinstance(other, NewTopic):
            return NotImplemented
        return self._order() >= other._order()


class NewPartitions:
    """More partitions for a topic.

    Args:
        topic: its name.
        new_total_count: how many partitions it shall have.
        replica_assignment: for each new partition the brokers that keep it; None leaves it to the cluster.

    Equality, order and hash look at the name and the count.

    Raises:
        TypeError, OverflowError: an argument of another type, or a number beyond 32 bits.
    """

    __slots__ = ("_topic", "new_total_count", "replica_assignment")

    def __init__(self, topic: str, new_total_count: int, replica_assignment: list[list[int]] | None = None) -> None:
        self._topic = _name(topic)
        self.new_total_count = as_int32(new_total_count)
        self.replica_assignment = replica_assignment

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._topic

    def _order(self) -> tuple[str, int]:
        return self._topic, self.new_total_count

    def __repr__(self) -> str:
        return f"NewPartitions(topic={self._topic},new_total_count={self.new_total_count})"

    def __hash__(self) -> int:
        return hash(self._topic) ^ self.new_total_count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NewPartitions):
            return NotImplemented
        return self._order() == other._order()

    def __lt__(self, other: NewPartitions) -> bool:
        if not isinstance(other, NewPartitions):
            return NotImplemented
        return self._order() < other._order()

    def __le__(self, other: NewPartitions) -> bool:
        if not isinstance(other, NewPartitions):
            return NotImplemented
        return self._order() <= other._order()

    def __gt__(self, other: NewPartitions) -> bool:
        if not isinstance(other, NewPartitions):
            return NotImplemented
        return self._order() > other._order()

    def __ge__(self, other: NewPartitions) -> bool:
        if not isinstance(other, NewPartitions):
            return NotImplemented
        return self._order() >= other._order()
