"""Which models a server has: asked where a URL names none."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from assay.config import Secret
from assay.errors import AssayError, ModelError, Unreachable
from assay.models.http_address import Address, proxy_for
from assay.models.http_faults import API_ADDRESS, Fault, fault_of, in_short
from assay.models.http_pool import Pool
from assay.models.http_retry import Attempts
from assay.types import HttpSettings

_PATH = "/models"
_SECONDS = 30.0  # a list takes no thinking
_SHOWN = 4


async def only_model(address: Address, settings: HttpSettings, key: Secret | None) -> str:
    """The name of the only model that the server has.

    Raises `ModelError` if it has none or several, or is no such server, and `Unreachable` if it gives no answer.
    """
    pool = Pool(address, settings.connect_seconds, agent="assay", key=key, proxy=proxy_for(address))
    attempts = Attempts(settings.with_call(min(_SECONDS, settings.call_seconds)))
    try:
        while True:
            try:
                names = models_told(await _asked(pool, attempts.start()))
                break
            except Fault as fault:
                pause = attempts.pause(fault)
                if pause is None:
                    raise _given_up(address, fault, key) from None
                await asyncio.sleep(pause)
    finally:
        await pool.aclose()
    if len(names) == 1:
        return names[0]
    if not names:
        raise ModelError(f"{address.base} has no model")
    several = ", ".join(in_short(name, 80) for name in names[:_SHOWN])
    more = ", …" if len(names) > _SHOWN else ""
    raise ModelError(f"{address.base} has {len(names)} models ({several}{more}); name one: {address.base}#MODEL")


async def _asked(pool: Pool, seconds: float) -> bytes:
    connection = await pool.ask(_PATH, None, seconds)
    try:
        body = await connection.body()
    finally:
        pool.release(connection)
    if connection.status != 200:
        raise fault_of(connection.status, connection.headers, body, _PATH)
    return body


def models_told(body: bytes) -> list[str]:
    """The names of the models in a server's list. Raises `Fault`."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault("webpage", "it lists no models as an OpenAI-compatible API does") from None
    told = found.get("data") if isinstance(found, dict) else None
    if not isinstance(told, list):
        raise Fault("webpage", f"it lists no models as an OpenAI-compatible API does: {in_short(found)}")
    names = [each.get("id") for each in told if isinstance(each, dict)]
    return [name for name in names if isinstance(name, str) and name.strip() and name.isprintable()]


def _given_up(address: Address, fault: Fault, key: Secret | None) -> AssayError:
    said = fault.reason.replace(key.reveal(), "***") if key else fault.reason
    said += API_ADDRESS if fault.kind == "webpage" else ""
    said = f"{address.base}: {said} (it was asked which model it has; to name one, write {address.base}#MODEL)"
    return Unreachable(said) if fault.again else ModelError(said)
