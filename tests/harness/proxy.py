"""A loopback TCP proxy that can cut, stall and restore what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_CHUNK_BYTES = 256 * 1024
_DEADLINE_S = 10.0

T = TypeVar("T")


class Proxy:
    """Forwards ``port`` on loopback to ``upstream``, in a thread of its own.

    ``cut``: open connections are reset and new ones are closed at once, as when the peer is gone.
    ``stall``: connections stay open and nothing passes, as when packets are dropped on the way.
    ``restore``: forwards again; stalled connections go on where they were.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._passing = asyncio.Event()
        self._passing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy to {upstream}", daemon=True)
        self._thread.start()
        self._server = self._call_async(self._listen)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def _call_async(self, function: Callable[[], object]) -> asyncio.Server:
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(_DEADLINE_S)  # type: ignore[arg-type]

    def _call(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the proxy's thread and wait for it."""
        done = threading.Event()

        def run() -> None:
            function()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(_DEADLINE_S):
            raise TimeoutError("the proxy's thread does not answer")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            await self._passing.wait()
            if self._is_cut:
                return
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
            self._writers.add(upstream)
            ways = [asyncio.ensure_future(self._pump(reader, upstream)), asyncio.ensure_future(self._pump(upstream_reader, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the broker is down: the client's connection is closed, as it would be without us
        finally:
            for end in (writer, upstream):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()

    def cut(self) -> None:
        def do() -> None:
            self._is_cut = True
            self._passing.set()
            for writer in list(self._writers):
                writer.transport.abort()

        self._call(do)

    def stall(self) -> None:
        self._call(self._passing.clear)

    def restore(self) -> None:
        def do() -> None:
            self._is_cut = False
            self._passing.set()

        self._call(do)

    def close(self) -> None:
        """Idempotent; the port is refused afterwards."""
        if not self._thread.is_alive():
            return

        def do() -> None:
            self._server.close()
            self._is_cut = True
            self._passing.set()
            for writer in list(self._writers):
                writer.transport.abort()

        self._call(do)

        async def drain() -> None:
            tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(drain(), self._loop).result(_DEADLINE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE_S)
        self._loop.close()
