"""A real redis-server for tests: a free loopback port, nothing on disk."""

from __future__ import annotations

import shutil
from types import TracebackType

from . import proc
from .ports import ReservedPort

_START_DEADLINE_S = 20.0


def unavailable() -> str | None:
    """Why a real Redis cannot be started here, or None when it can."""
    return None if shutil.which("redis-server") else "no redis-server on the path"


class RedisServer:
    """A running redis-server, a context manager; ``stop`` and ``start`` keep the port and lose the data."""

    def __init__(self) -> None:
        self._port = ReservedPort()
        self._process: proc.Child | None = None

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("redis-server is stopped")
        return self._process.pid

    def start(self) -> None:
        settings = {"bind": "127.0.0.1", "port": str(self.port), "save": "", "appendonly": "no", "daemonize": "no", "dir": "/tmp"}
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        self._process = proc.Child(["redis-server", *arguments], name="redis-server")
        self._process.wait_for_line("Ready to accept connections", _START_DEADLINE_S)

    def stop(self) -> None:
        """SIGKILL: a test server has nothing to save. Idempotent."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def __enter__(self) -> RedisServer:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._port.release()
