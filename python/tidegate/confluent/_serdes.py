"""Serializers and deserializers in a client's configuration: taken out, built, told of the cluster, closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

CLUSTER_ID_TIMEOUT_S = 60.0
"""As long as the Java client waits for metadata."""


class ClusterId:
    """Asks for the cluster's id, one call at a time however many threads want it; asked again when it failed."""

    def __init__(self, cluster_id: Callable[..., Any]) -> None:
        self._ask = cluster_id
        self._lock = threading.Lock()
        self._asking: Future[Any] | None = None

    def __call__(self) -> Any:
        with self._lock:
            asking = self._asking
            first = asking is None
            if asking is None:
                asking = self._asking = Future()
        if not first:
            return asking.result()
        try:
            answer = self._ask(timeout=CLUSTER_ID_TIMEOUT_S)
        except BaseException as error:
            self._asking = None
            asking.set_exception(error)
            raise
        self._asking = None
        asking.set_result(answer)
        return answer


def taken_out(conf: dict[str, Any], names: tuple[str, str]) -> tuple[list[tuple[str, Any, Any]], dict[str, Any]]:
    """Name, serde and builder of key and value, and the configuration without them.

    Raises:
        ValueError: a property and its `.builder` are both there.
    """
    rest = conf.copy()
    given = [(name, rest.pop(name, None), rest.pop(f"{name}.builder", None)) for name in names]
    for name, serde, builder in given:
        if serde is not None and builder is not None:
            raise ValueError(f"Cannot configure both {name} and {name}.builder; use one or the other")
    return given, rest


def left_for_client(rest: dict[str, Any], left: list[dict[str, Any]]) -> dict[str, Any]:
    """What every builder left: what one took for itself does not reach the client."""
    if not left:
        return rest
    return {name: value for name, value in left[-1].items() if all(name in one for one in left)}


class Serdes:
    """The key's and the value's, and which of them the client has built and closes.

    Args:
        conf: the client's configuration; `rest` is what is left of it for the client.
        names: the two properties, as `key.serializer`.

    Raises:
        ValueError: a property and its `.builder` are both there, or a builder did not return a pair.
    """

    def __init__(self, conf: dict[str, Any], names: tuple[str, str]) -> None:
        given, rest = taken_out(conf, names)
        self._built: list[Any] = []
        left: list[dict[str, Any]] = []
        found: list[Any] = []
        try:
            for place, (name, serde, builder) in enumerate(given):
                if builder is None:
                    found.append(serde)
                    continue
                built, other = checked(name, builder.build(dict(rest), place == 0))
                self._built.append(built)
                found.append(built)
                left.append(other)
        except BaseException:
            self.close()
            raise
        self.rest = left_for_client(rest, left)
        self.key, self.value = found

    def tell_cluster(self, cluster_id: Callable[..., Any]) -> None:
        """Gives those that may want it a way to ask for the cluster's id; nothing is asked yet."""
        resolver = ClusterId(cluster_id)
        for serde in (self.key, self.value):
            setter = getattr(serde, "set_cluster_id_resolver", None)
            if callable(setter):
                setter(resolver)

    def close(self) -> None:
        """Closes what was built here, all of it, and then raises the first exception."""
        built, self._built = self._built, []
        close_all(built)


def checked(name: str, result: Any) -> tuple[Any, dict[str, Any]]:
    try:
        serde, rest = result
    except (TypeError, ValueError):
        kind = type(result).__name__
        raise ValueError(f"{name}.builder must return a (serde, configuration) tuple from build(), got {kind}") from None
    if not isinstance(rest, dict):
        kind = type(rest).__name__
        raise ValueError(f"{name}.builder returned {kind} as the leftover configuration from build(), expected a dict")
    return serde, rest


def close_all(serdes: Iterable[Any]) -> None:
    """Closes each; the first exception comes out when all were tried."""
    first: BaseException | None = None
    for serde in serdes:
        close = getattr(serde, "close", None)
        if not callable(close):
            continue
        try:
            close()
        except BaseException as error:
            first = first or error
    if first is not None:
        raise first
