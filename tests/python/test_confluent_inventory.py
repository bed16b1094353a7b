"""Every public name of confluent_kafka is in `tidegate.confluent`, or what differs is explained here.

Walks the modules of the installed package: names, methods, attributes, signatures (those that Python can tell), values of
constants and enums. What differs must stand in `EXPLAINED`, and what stands there must differ.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

MODULES = (
    "",
    ".cimpl",
    ".admin",
    ".error",
    ".serialization",
    ".aio",
    ".serializing_producer",
    ".deserializing_consumer",
    ".deserializing_share_consumer",
)

EXPLAINED: dict[str, str] = {
    # Names that are about the original's own source.
    r"\.admin\.string_type": "a name that the original keeps for Python 2",
    r"\.deserializing_share_consumer\.(KafkaError|Message|MessageField|Messages|SerializationContext)": "its imports",
    r"\.(admin|error|serialization|aio|serializing_producer|deserializing_consumer|deserializing_share_consumer)"
    r"\.(Any|Callable|Dict|List|Optional|Set|Tuple|Union|Type|Generic|TypeVar|K|V|cast|overload|asyncio|logging|struct|"
    r"functools|Enum|_struct|_.*)": "imports of the original's own",
    r"\.(serializing_producer|deserializing_consumer)\.(SharedClusterIdResolver|TYPE_CHECKING|build_serdes|close_serdes|"
    r"pop_serde_props|propagate_cluster_id_resolver)|\.(error|deserializing_consumer)\.Message": "imports of the original's own",
    r".*\.HeadersType": "the same types, written as `str | bytes`",
    # Signatures.
    r"\.admin\.AdminClient\.\w+\(signature\)": "keyword arguments are written out, where the original has **kwargs",
    r".*\(signature\)": "written out or typed differently; the mistakes that the other tests compare give the same exceptions",
    # What comes with share groups.
    r".*\.(Deserializing)?ShareConsumer\..*": "share groups need a newer librdkafka: making one says so",
}


def public(thing: Any) -> Iterator[str]:
    for name in dir(thing):
        if not name.startswith("_"):
            yield name


def signature(thing: Any) -> str | None:
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return None
    shown = [f"{p.kind.name}:{p.name}:{'' if p.default is p.empty else repr(p.default)}" for p in parameters]
    # Slots of C types say (self, /, *args, **kwargs), which says nothing.
    return None if shown and all(":args:" in one or ":kwargs:" in one or ":self:" in one for one in shown) else ", ".join(shown)


def differences(path: str, theirs: Any, ours: Any) -> Iterator[tuple[str, str | None]]:
    """Every name below `path`, and what differs there, or None."""
    if isinstance(theirs, types.ModuleType):
        return
    if isinstance(theirs, type) != isinstance(ours, type) or callable(theirs) != callable(ours):
        yield path, f"{theirs!r} and {ours!r}"
        return
    if not callable(theirs):
        same = type(theirs) is type(ours) and (theirs == ours or repr(theirs) == repr(ours))
        comparable = isinstance(theirs, (int, str, float, tuple, list, dict, bool))
        yield path, None if same or not comparable else f"{theirs!r} and {ours!r}"
        return
    yield path, None
    if signature(theirs) is not None and signature(ours) != signature(theirs):
        yield f"{path}(signature)", f"{signature(theirs)} and {signature(ours)}"
    if not isinstance(theirs, type):
        return
    if issubclass(theirs, enum.Enum):
        mine, other = ours.__members__, theirs.__members__
        same = {k: m.value for k, m in mine.items()} == {k: m.value for k, m in other.items()}
        yield f"{path}(members)", None if same else f"{list(other)} and {list(mine)}"
        return
    for kind in (BaseException, RuntimeError, ValueError, int, str):
        if issubclass(theirs, kind) != issubclass(ours, kind):
            yield f"{path}(bases)", f"only one is a {kind.__name__}"
    if issubclass(theirs, BaseException):
        return
    for name in public(theirs):
        if not hasattr(ours, name):
            yield f"{path}.{name}", "missing"
        else:
            yield from differences(f"{path}.{name}", getattr(theirs, name), getattr(ours, name))


def walk() -> Iterator[tuple[str, str | None]]:
    for module in MODULES:
        theirs = importlib.import_module(f"confluent_kafka{module}")
        try:
            ours = importlib.import_module(f"tidegate.confluent{module}")
        except ModuleNotFoundError:
            yield f"{module} (module)", "missing"
            continue
        for name in public(theirs):
            path = f"{module}.{name}"
            if isinstance(getattr(theirs, name), types.ModuleType):
                continue
            if not hasattr(ours, name):
                yield path, "missing"
            else:
                yield from differences(path, getattr(theirs, name), getattr(ours, name))


@pytest.fixture(scope="module")
def found() -> list[tuple[str, str | None]]:
    return list(walk())


def explained(path: str) -> str | None:
    return next((why for pattern, why in EXPLAINED.items() if re.fullmatch(pattern, path)), None)


def test_what_differs_is_explained(found: list[tuple[str, str | None]], say: Callable[[str], None]) -> None:
    unexplained = {path: what for path, what in found if what is not None and explained(path) is None}
    differing = [path for path, what in found if what is not None]
    say(f"{len(found)} names, {len(found) - len(differing)} equal, {len(differing) - len(unexplained)} explained")
    assert not unexplained, "\n".join(f"{path}: {what}" for path, what in sorted(unexplained.items()))
    assert len(found) > 500


def test_what_is_explained_differs(found: list[tuple[str, str | None]]) -> None:
    differing = [path for path, what in found if what is not None]
    idle = [pattern for pattern in EXPLAINED if not any(re.fullmatch(pattern, path) for path in differing)]
    assert not idle, "nothing differs there any more: " + ", ".join(idle)
