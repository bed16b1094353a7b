"""`install()`: libraries that import confluent_kafka themselves get this package.

A finder in front of `sys.meta_path` answers for the name `confluent_kafka` and everything below it. The schema registry
(`confluent_kafka.schema_registry`) and the older clients over it (`confluent_kafka.avro`) stay the real distribution's: they are
Python that talks HTTP to a registry, and under the finder what they import from confluent_kafka is Tidegate's. Nothing else of the
real distribution is imported, its C library least of all.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

SERVED = "confluent_kafka"
SERVING = "tidegate.confluent"
REAL = ("confluent_kafka.schema_registry", "confluent_kafka.avro")

_lock = threading.Lock()


class _Alias(Loader):
    """Loads a module by putting Tidegate's in its place."""

    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The ordinary empty module; it is replaced a moment later."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """The import takes what stands in `sys.modules` after this: the module itself, whose own spec stays as it is."""
        sys.modules[module.__name__] = importlib.import_module(self.target)


class _Finder(MetaPathFinder):
    """Knows where `confluent_kafka` and its modules come from while it is installed."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Tidegate's module for the name; the real distribution's for the schema registry; None for anybody else's."""
        if fullname != SERVED and not fullname.startswith(SERVED + "."):
            return None
        if fullname in REAL:
            return _real(fullname)
        if fullname.startswith(tuple(name + "." for name in REAL)):
            return None  # its package has the real path, which the ordinary finder follows
        ours = SERVING + fullname[len(SERVED) :]
        try:
            importlib.import_module(ours)
        except ModuleNotFoundError as error:
            if error.name != ours:
                raise
            return None
        return ModuleSpec(fullname, _Alias(ours), is_package=hasattr(sys.modules[ours], "__path__"))


def _real(name: str) -> ModuleSpec:
    """The distribution's own, found without importing its package.

    Raises:
        ModuleNotFoundError: confluent-kafka is not installed.
    """
    package = PathFinder.find_spec(SERVED)
    folders = None if package is None else package.submodule_search_locations
    spec = None if folders is None else PathFinder.find_spec(name, folders)
    if spec is None:
        raise ModuleNotFoundError(
            f"{name} is the real package's own, and it is not installed: install `confluent-kafka[schemaregistry]` beside tidegate",
            name=name,
        )
    return spec


_FINDER = _Finder()


def install() -> None:
    """From here on `import confluent_kafka` gives `tidegate.confluent`, in this process and for every library in it.

    Call it before anything imports confluent_kafka: whoever did holds the other classes already. Calling it again does nothing.
    Any thread may call it.

    Raises:
        RuntimeError: confluent_kafka has been imported already; nothing is changed.
    """
    with _lock:
        if _FINDER in sys.meta_path:
            return
        if SERVED in sys.modules:
            raise RuntimeError(
                "confluent_kafka is imported already, so some module holds its classes: call tidegate.confluent.install() before "
                "the first import of it, at the head of the program"
            )
        sys.meta_path.insert(0, _FINDER)


def uninstall() -> None:
    """Takes `install()` back: the next `import confluent_kafka` is the real one. Who imported meanwhile keeps what it has."""
    with _lock:
        if _FINDER not in sys.meta_path:
            return
        sys.meta_path.remove(_FINDER)
        for name in list(sys.modules):
            if name == SERVED or name.startswith(SERVED + "."):
                del sys.modules[name]
