"""Where risk assessment results are kept: in memory, or in Redis. Both take a result once, however often it comes."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from tidegate._json import dumps, loads

__all__ = ["MemoryStore", "RedisStore", "Store"]


class Store(Protocol):
    """Keeps results by their `messageId`. Any thread."""

    def add(self, result: dict[str, Any]) -> bool:
        """Keep `result`. False when one with its `messageId` is there already: it is counted and not kept twice.

        Any Exception means that the result is not kept; the aggregator tries it again.
        """

    def get(self, message_id: str) -> dict[str, Any] | None:
        """The result with that id, or None."""

    def counts(self) -> dict[str, int]:
        """`results` kept and `doubled` refused."""

    def close(self) -> None:
        """Give connections back."""


class MemoryStore:
    """A dict: gone with the process. For tests, demonstrations and the end-to-end run."""

    def __init__(self) -> None:
        self._results: dict[str, dict[str, Any]] = {}
        self._doubled = 0
        self._lock = threading.Lock()

    def add(self, result: dict[str, Any]) -> bool:
        """See `Store.add`."""
        with self._lock:
            if self._results.setdefault(result["messageId"], result) is result:
                return True
            self._doubled += 1
            return False

    def get(self, message_id: str) -> dict[str, Any] | None:
        """See `Store.get`."""
        with self._lock:
            return self._results.get(message_id)

    def counts(self) -> dict[str, int]:
        """See `Store.counts`."""
        with self._lock:
            return {"results": len(self._results), "doubled": self._doubled}

    def close(self) -> None:
        """Nothing to give back."""


class RedisStore:
    """Keeps each result under `PREFIX:result:ID` and the newest of each camera in the hash `PREFIX:cameras`.

    Args:
        url: as redis-py takes it, `redis://localhost:6379/0` for example.
        prefix: begins every key.
        expire_s: results vanish after so many seconds; None keeps them. Doubled results are recognised as long as they are
            there.

    Raises:
        ModuleNotFoundError: redis-py is not installed.
    """

    def __init__(self, url: str, prefix: str = "tidegate", expire_s: int | None = None) -> None:
        import redis

        self._client = redis.Redis.from_url(url)
        self._prefix = prefix
        self._expire_s = expire_s
        # One script, so that a result and its counters change together whenever the process or the connection dies.
        self._add = self._client.register_script(_ADD)

    def add(self, result: dict[str, Any]) -> bool:
        """See `Store.add`. Raises redis-py's errors while the server is away."""
        message_id = result["messageId"]
        keys = [f"{self._prefix}:result:{message_id}", f"{self._prefix}:cameras", f"{self._prefix}:counts"]
        return bool(self._add(keys=keys, args=[dumps(result), str(result.get("cameraId", "")), self._expire_s or 0]))

    def get(self, message_id: str) -> dict[str, Any] | None:
        """See `Store.get`."""
        value: Any = self._client.get(f"{self._prefix}:result:{message_id}")
        return None if value is None else loads(value)

    def counts(self) -> dict[str, int]:
        """See `Store.counts`; of all aggregators with this prefix together."""
        found: Any = self._client.hgetall(f"{self._prefix}:counts")
        return {name: int(found.get(name.encode(), 0)) for name in ("results", "doubled")}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


_ADD = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX') then
    if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
    redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
    redis.call('HINCRBY', KEYS[3], 'results', 1)
    return 1
end
redis.call('HINCRBY', KEYS[3], 'doubled', 1)
return 0
"""
