"""Helpers that the admin classes share, and the name under which the original keeps its own."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

E = TypeVar("E", bound=Enum)


def to_enum(value: Any, kind: type[E]) -> E:
    """A member of an enum, from itself, its name in any case, or its number.

    Raises:
        ValueError: no member has this name or number.
        TypeError: neither a member, a name nor a number.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        try:
            return kind[value.upper()]
        except KeyError:
            names = ", ".join(kind.__members__)
            raise ValueError(f'Unknown value "{value}": should be a {kind.__name__}, one of {names}') from None
    if isinstance(value, int):
        return kind(value)
    raise TypeError(f'Unknown value "{value}": should be a {kind.__name__}')
