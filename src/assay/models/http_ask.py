"""What is asked of a server besides answers: its list of models, and to take adapters or let them go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from assay.models.http_address import Address, proxy_for
from assay.models.http_faults import Fault, fault_of
from assay.models.http_pool import Pool
from assay.models.http_retry import Attempts
from assay.secret import Secret
from assay.types import HttpSettings


async def ask(
    address: Address,
    settings: HttpSettings,
    key: Secret | None,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    again: Callable[[Fault], bool] = lambda fault: fault.again,
) -> bytes:
    """What the server says to a POST of `body` to the API's `path`, or to a GET of it. Raises `Fault`.

    again: whether such a failure is worth another attempt; they are bounded as those at a question are.
    """
    pool = Pool(address, settings.connect_seconds, agent="assay", key=key, proxy=proxy_for(address))
    attempts = Attempts(settings)
    try:
        while True:
            try:
                return await _once(pool, path, body, attempts.start())
            except Fault as fault:
                pause = attempts.pause(fault) if again(fault) else None
                if pause is None:
                    raise
                await asyncio.sleep(pause)
    finally:
        await pool.aclose()


async def _once(pool: Pool, path: str, body: dict[str, Any] | None, seconds: float) -> bytes:
    connection = await pool.ask(path, None if body is None else msgspec.json.encode(body), seconds)
    try:
        told = await connection.body()
    finally:
        pool.release(connection)
    if connection.status != 200:
        raise fault_of(connection.status, connection.headers, told, path)
    return told
