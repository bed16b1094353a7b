"""Classes that are awaited when they are made: `client = await Client(...)`. The real schema registry imports it from here."""

from __future__ import annotations

from typing import Any, TypeVar

C = TypeVar("C", bound=type)


async def initialized(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The object, once its `async def __init__` has run. A coroutine is no object of the class, so Python runs none by itself."""
    await made.__init__(*args, **kwargs)
    return made


def asyncinit(cls: C) -> C:
    """Has `cls(...)` give a coroutine that runs the class's `async def __init__` and returns the object."""
    make: Any = cls.__new__

    def new(kind: type, *args: Any, **kwargs: Any) -> Any:
        return initialized(make(kind), args, kwargs)

    setattr(cls, "__new__", new)  # noqa: B010 (an assignment is what type checkers refuse)
    return cls
