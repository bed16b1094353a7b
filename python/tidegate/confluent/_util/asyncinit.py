"""Classes that are awaited when they are made: `client = await Client(...)`. The real schema registry imports it from here."""

from __future__ import annotations

from typing import Any, TypeVar

C = TypeVar("C", bound=type)


def asyncinit(cls: C) -> C:
    """Has `cls(...)` give a coroutine that runs the class's `async def __init__` and returns the object."""
    make: Any = cls.__new__

    async def init(made: Any, *args: Any, **kwargs: Any) -> Any:
        await made.__init__(*args, **kwargs)
        return made

    def new(kind: type, *args: Any, **kwargs: Any) -> Any:
        # A coroutine is no object of the class, so Python calls no __init__ by itself.
        return init(make(kind), *args, **kwargs)

    setattr(cls, "__new__", new)  # noqa: B010 (an assignment is what type checkers refuse)
    return cls
