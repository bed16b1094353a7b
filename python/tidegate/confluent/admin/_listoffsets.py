"""Which offset of a partition list_offsets looks for."""

from __future__ import annotations

from typing import Any

from tidegate.confluent import _constants as c


class OffsetSpec:
    """The earliest or latest offset, the one with the largest timestamp, or the first at or after a timestamp.

    `OffsetSpec(number)` gives the one of librdkafka's number, or of a timestamp in milliseconds.

    Raises:
        KeyError: a negative number that stands for nothing.
    """

    timestamp: int

    def __new__(cls, index: int) -> OffsetSpec:
        return _FIXED[index] if index < 0 else TimestampSpec(index)

    @property
    def _value(self) -> int:
        raise NotImplementedError

    @classmethod
    def earliest(cls) -> OffsetSpec:
        """The first offset."""
        return _FIXED[c.OFFSET_SPEC_EARLIEST]

    @classmethod
    def latest(cls) -> OffsetSpec:
        """The offset after the last."""
        return _FIXED[c.OFFSET_SPEC_LATEST]

    @classmethod
    def max_timestamp(cls) -> OffsetSpec:
        """The offset with the largest timestamp."""
        return _FIXED[c.OFFSET_SPEC_MAX_TIMESTAMP]

    @classmethod
    def for_timestamp(cls, timestamp: int) -> OffsetSpec:
        """The first offset at or after a time, in milliseconds since 1970."""
        return TimestampSpec(timestamp)

    def __lt__(self, other: Any) -> bool:
        if not isinstance(other, OffsetSpec):
            return NotImplemented
        return self._value < other._value


class TimestampSpec(OffsetSpec):
    """See `OffsetSpec.for_timestamp`."""

    def __new__(cls, timestamp: int) -> TimestampSpec:
        made: TimestampSpec = object.__new__(cls)
        made.timestamp = timestamp
        return made

    @property
    def _value(self) -> int:
        return self.timestamp


class _Fixed(OffsetSpec):
    _number: int = 0

    def __new__(cls) -> _Fixed:
        made: _Fixed = object.__new__(cls)
        return made

    @property
    def _value(self) -> int:
        return self._number


class MaxTimestampSpec(_Fixed):
    """See `OffsetSpec.max_timestamp`."""

    _number = c.OFFSET_SPEC_MAX_TIMESTAMP


class LatestSpec(_Fixed):
    """See `OffsetSpec.latest`."""

    _number = c.OFFSET_SPEC_LATEST


class EarliestSpec(_Fixed):
    """See `OffsetSpec.earliest`."""

    _number = c.OFFSET_SPEC_EARLIEST


_FIXED: dict[int, OffsetSpec] = {spec._value: spec for spec in (MaxTimestampSpec(), LatestSpec(), EarliestSpec())}
