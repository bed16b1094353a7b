"""The values that programs hand over and get back: `TopicPartition`, `Uuid`, `ThrottleEvent`, and names of their types.

Pure Python. The native Consumer and Producer take them apart through the attributes and make them with `TopicPartition._of`.
"""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from tidegate.confluent._errors import KafkaError, KafkaException, as_int32

__all__ = [
    "AcknowledgementCommitCallback",
    "DeliveryCallback",
    "Deserializer",
    "HeadersType",
    "KafkaError",
    "KafkaException",
    "RebalanceCallback",
    "Serializer",
    "ThrottleEvent",
    "TopicPartition",
    "Uuid",
]

HeadersType: TypeAlias = dict[str, str | bytes | None] | list[tuple[str, str | bytes | None]]
Serializer: TypeAlias = Callable[[Any, Any], bytes]
Deserializer: TypeAlias = Callable[[bytes | None, Any], Any]
DeliveryCallback: TypeAlias = Callable[[Any | None, Any], None]
RebalanceCallback: TypeAlias = Callable[[Any, list[Any]], None]
AcknowledgementCommitCallback: TypeAlias = Callable[[dict[Any, Any], Any | None], None]

_OFFSET_INVALID = -1001
_NO_PARTITION = -1
_INT64 = 1 << 63


def _int64(value: object) -> int:
    number = operator.index(value)  # type: ignore[arg-type]  # what is no integer raises TypeError, as in the original
    if not -_INT64 <= number < _INT64:
        raise OverflowError(f"int too big to convert: {number} does not fit into 64 bits")
    return number


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        kind = "None" if value is None else type(value).__name__
        raise TypeError(f"{name} must be str, not {kind}")
    if "\0" in value:
        raise ValueError(f"{name}: embedded null character; remove it")
    return value


class TopicPartition:
    """A partition of a topic, with an offset, and whatever else one call or another needs of it.

    Args:
        topic: the topic's name.
        partition: the partition's number; -1 for none.
        offset: an offset, or OFFSET_BEGINNING, OFFSET_END, OFFSET_STORED, OFFSET_INVALID.
        metadata: the application's own text that is committed beside the offset.
        leader_epoch: the leader epoch of the offset, where it is known; a negative one means none.

    Equality, order and hash look at topic and partition only. `partition` and `offset` can be set, the rest cannot. `error` is a
    KafkaError where a call failed for this partition alone.

    Raises:
        TypeError, OverflowError, ValueError: an argument of another type, a number that is too large, a NUL character.
    """

    __module__ = "tidegate.confluent"
    __slots__ = ("_error", "_leader_epoch", "_metadata", "_offset", "_partition", "_topic")

    def __init__(
        self,
        topic: str,
        partition: int = _NO_PARTITION,
        offset: int = _OFFSET_INVALID,
        metadata: str | None = None,
        leader_epoch: int | None = None,
    ) -> None:
        self._topic = _text("topic", topic)
        self._partition = as_int32(partition)
        self._offset = _int64(offset)
        self._metadata = None if metadata is None else _text("metadata", metadata)
        epoch = None if leader_epoch is None else as_int32(leader_epoch)
        self._leader_epoch = None if epoch is None or epoch < 0 else epoch
        self._error: KafkaError | None = None

    @classmethod
    def _of(
        cls,
        topic: str,
        partition: int,
        offset: int,
        metadata: str | None = None,
        leader_epoch: int | None = None,
        error: KafkaError | None = None,
    ) -> TopicPartition:
        """One that the engine made: nothing is checked, and it can carry an error."""
        made = cls.__new__(cls)
        made._topic = topic
        made._partition = partition
        made._offset = offset
        made._metadata = metadata
        made._leader_epoch = leader_epoch
        made._error = error
        return made

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._topic

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self._partition

    @partition.setter
    def partition(self, partition: int) -> None:
        self._partition = as_int32(partition)

    @property
    def offset(self) -> int:
        """An offset, 0 or more, or one of OFFSET_BEGINNING, OFFSET_END, OFFSET_STORED, OFFSET_INVALID."""
        return self._offset

    @offset.setter
    def offset(self, offset: int) -> None:
        self._offset = _int64(offset)

    @property
    def metadata(self) -> str | None:
        """The application's own text beside the committed offset."""
        return self._metadata

    @property
    def leader_epoch(self) -> int | None:
        """The leader epoch of the offset, or None."""
        return self._leader_epoch

    @property
    def error(self) -> KafkaError | None:
        """What went wrong for this partition, or None."""
        return self._error

    def __repr__(self) -> str:
        return (
            f"TopicPartition{{topic={self._topic},partition={self._partition},offset={self._offset},"
            f"leader_epoch={self._leader_epoch},error={self._error}}}"
        )

    def __hash__(self) -> int:
        return hash(self._topic) ^ self._partition

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TopicPartition):
            return NotImplemented
        return self._topic == other._topic and self._partition == other._partition

    def __lt__(self, other: TopicPartition) -> bool:
        if not isinstance(other, TopicPartition):
            return NotImplemented
        return (self._topic, self._partition) < (other._topic, other._partition)

    def __le__(self, other: TopicPartition) -> bool:
        if not isinstance(other, TopicPartition):
            return NotImplemented
        return (self._topic, self._partition) <= (other._topic, other._partition)

    def __gt__(self, other: TopicPartition) -> bool:
        if not isinstance(other, TopicPartition):
            return NotImplemented
        return (self._topic, self._partition) > (other._topic, other._partition)

    def __ge__(self, other: TopicPartition) -> bool:
        if not isinstance(other, TopicPartition):
            return NotImplemented
        return (self._topic, self._partition) >= (other._topic, other._partition)


class Uuid:
    """A 128-bit identifier, such as a topic's; `str()` gives it as Kafka's tools do, in unpadded base64.

    Args:
        most_significant_bits: the upper half, as a signed 64-bit number.
        least_significant_bits: the lower half.

    Raises:
        TypeError, OverflowError: not an integer, or one beyond 64 bits.
    """

    __module__ = "tidegate.confluent"
    __slots__ = ("_least", "_most")

    def __init__(self, most_significant_bits: int, least_significant_bits: int) -> None:
        self._most = _int64(most_significant_bits)
        self._least = _int64(least_significant_bits)

    def get_most_significant_bits(self) -> int:
        """The upper half, as a signed 64-bit number."""
        return self._most

    def get_least_significant_bits(self) -> int:
        """The lower half, as a signed 64-bit number."""
        return self._least

    def __repr__(self) -> str:
        whole = self._most.to_bytes(8, "big", signed=True) + self._least.to_bytes(8, "big", signed=True)
        return base64.b64encode(whole).decode("ascii").rstrip("=")

    def __hash__(self) -> int:
        return hash((self._most, self._least))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Uuid):
            return NotImplemented
        return self._most == other._most and self._least == other._least


class ThrottleEvent:
    """A broker held a request back. `throttle_cb` gets one.

    Args:
        broker_name: the broker's host name.
        broker_id: its number.
        throttle_time: for how long, in seconds.
    """

    __module__ = "tidegate.confluent"

    def __init__(self, broker_name: str, broker_id: int, throttle_time: float) -> None:
        self.broker_name = broker_name
        self.broker_id = broker_id
        self.throttle_time = throttle_time

    def __str__(self) -> str:
        return f"{self.broker_name}/{self.broker_id} throttled for {int(self.throttle_time * 1000)} ms"
