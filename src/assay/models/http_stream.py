"""An answer that comes piece by piece: its events, from the connection that carries them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from assay.models.http_connection import Connection
from assay.models.http_protocol import events_of, is_end
from assay.models.sse import EventReader
from assay.types import Json

_END_SECONDS = 0.1  # from a stream's last event to the end of the response that carried it


async def events_on(connection: Connection) -> AsyncGenerator[Json, None]:
    """The events of a stream as JSON, up to the one that ends it. Raises `Fault`."""
    reader = EventReader()
    async with aclosing(connection.pieces()) as pieces:
        async for piece in pieces:
            told = reader.feed(piece)
            for event in events_of(told):
                yield event
            if any(map(is_end, told)):
                with suppress(TimeoutError):  # read to its end, the connection serves again
                    async with asyncio.timeout(_END_SECONDS):
                        await connection.body()
                return
    for event in events_of(reader.finish()):
        yield event
