"""A server on loopback that answers with bytes as they are, to show what a client makes of odd HTTP.

    async with RawServer(lambda request: [b"HTTP/1.1 200 OK\\r\\n…"]) as server:
        model = open_http(server.spec)

The script is called once a request, and gives the packets of the answer; None in their place ends the connection, a number
waits so many seconds. All requests that came in are in `asked`, head and body.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from types import TracebackType

Packets = Sequence[bytes | float | None]

ANSWER = {"choices": [{"message": {"content": "Fine."}, "finish_reason": "stop"}]}
BODY = json.dumps(ANSWER).encode()


def response(body: bytes = BODY, *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """An answer as HTTP/1.1 has it."""
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


class RawServer:
    """The server. hangs_up: at once, on everybody. connections: how many were accepted; open: how many still are."""

    def __init__(self, script: Callable[[bytes], Packets], *, host: str = "127.0.0.1", hangs_up: bool = False) -> None:
        self.script = script
        self.hangs_up = hangs_up
        self.host = host
        self.asked: list[bytes] = []
        self.connections = 0
        self.open = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def spec(self) -> str:
        assert self._server is not None
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._server.sockets[0].getsockname()[1]}/v1#m"

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not self.hangs_up and await self._one(reader, writer):
                    pass
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        request = head + await reader.readexactly(length)
        self.asked.append(request)
        for packet in self.script(request):
            if packet is None:
                return False
            if isinstance(packet, bytes):
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(0.005)
            else:
                await asyncio.sleep(packet)
        return True
