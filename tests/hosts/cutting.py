"""A TCP proxy that cuts connections on cue, on the way to a server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """port: where it listens. carried: bytes that came from the server. budgets: of the connections to come, how many such
    bytes each carries before it is cut; the rest carry all."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.carried = 0
        self.connections = 0
        self.budgets: list[int] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        budget = self.budgets.pop(0) if self.budgets else None
        there, here = await asyncio.open_connection("127.0.0.1", self._target)
        up = asyncio.create_task(_copy(reader, here))
        try:
            with contextlib.suppress(ConnectionError):
                while block := await there.read(1 << 15 if budget is None else min(1 << 15, budget)):
                    writer.write(block)
                    await writer.drain()
                    self.carried += len(block)
                    if budget is not None:
                        budget -= len(block)
                        if budget <= 0:
                            break
        finally:
            up.cancel()
            for end in (writer, here):
                end.transport.abort()
            await asyncio.gather(up, writer.wait_closed(), here.wait_closed(), return_exceptions=True)
            self._tasks.discard(task)

    async def cut(self) -> None:
        """Cut all connections now."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(1 << 15):
            writer.write(block)
            await writer.drain()


@asynccontextmanager
async def cutting(target: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
