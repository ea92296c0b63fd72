"""llama.cpp's server behind a URL: under which of its LoRA adapters it is asked.

It applies the adapters that it was started with to every request that names none, each at the scale that it has now, and
answers from caches that were computed under others. So every request names the scale of each, and uses no cache: `#NAME` is
one adapter, alone and at scale 1, or the model itself, without any. What would leave a doubt is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import msgspec

from assay.errors import ModelError
from assay.models.http_address import Address, proxy_for
from assay.models.http_connection import Connection
from assay.models.http_faults import Fault, fault_of, in_short
from assay.models.http_models import models_told
from assay.models.http_pool import Pool
from assay.secret import Secret
from assay.types import HttpSettings

_SECONDS = 30.0
_KNOWN_SECONDS = 1.0  # nobody ends a server and starts it with others sooner
_NOT_TOLD = (400, 404, 405, 501)  # by a proxy before it, most likely
_SHOWN = 4


class LoraAdapter(msgspec.Struct, frozen=True):
    """An adapter of the server's. path: of its file there. scale: what it has for whoever names none."""

    id: int
    path: str
    scale: float

    @property
    def name(self) -> str:
        return PurePath(self.path.replace("\\", "/")).name.removesuffix(".gguf")


class ServedAdapters:
    """What one server has, and what each request must say of it."""

    def __init__(self, address: Address, settings: HttpSettings, key: Secret | None) -> None:
        self._address = address
        self._settings = settings
        self._key = key
        self._told: Sequence[str] | None = None
        self._asked_at = float("-inf")  # by the event loop's clock
        self.fields: Mapping[str, Any] = {}

    def concern(self, connection: Connection) -> bool:
        """Did llama.cpp answer, of whose adapters nothing is known? Behind a new connection may be another server by now."""
        if not connection.headers.get("server", "").startswith("llama.cpp"):
            return False
        since = asyncio.get_running_loop().time() - self._asked_at
        return since > _KNOWN_SECONDS and (connection.is_new or self._told is None)

    async def learn(self) -> None:
        """Ask the server. Raises `Fault`, and `ModelError` where it isn't clear under what it would answer."""
        address = self._address
        if self._told is not None:  # whoever comes meanwhile goes by what is known
            self._asked_at = asyncio.get_running_loop().time()
        adapters = await self._got(address.root, f"/lora-adapters?model={quote(address.model, safe='')}", _adapters)
        told = [adapter.path for adapter in adapters or ()]
        if self._told not in (None, told):
            raise ModelError(
                f"{address.spec}: the server's LoRA adapters have changed while it was in use; begin again"
            )
        if adapters and not any(adapter.name == _plain(address.model) for adapter in adapters):
            names = await self._got(address, "/models", _names) or ()
            self.fields = _without(address, adapters, names)
        else:
            self.fields = _under_one(address, adapters) if adapters else {}
        self._told, self._asked_at = told, asyncio.get_running_loop().time()

    async def _got(self, address: Address, path: str, read: Any) -> Any:
        """What `read` makes of the answer; None where the server knows no such path."""
        seconds = min(_SECONDS, self._settings.call_seconds)
        pool = Pool(address, self._settings.connect_seconds, agent="assay", key=self._key, proxy=proxy_for(address))
        try:
            connection = await pool.ask(path, None, seconds)
            body = await connection.body()
            if connection.status == 200:
                return read(body)
            if connection.status in _NOT_TOLD:
                return None
            raise fault_of(connection.status, connection.headers, body, path)
        finally:
            await pool.aclose()


def _plain(name: str) -> str:
    return name.removesuffix(".gguf")


def _adapters(body: bytes) -> list[LoraAdapter]:
    try:
        return msgspec.json.decode(body, type=list[LoraAdapter])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault(
            "garbled", f"llama.cpp tells its LoRA adapters in no known way: {in_short(body.decode(errors='replace'))}"
        ) from None


def _names(body: bytes) -> list[str]:
    """The model's names, that by which the server calls it first."""
    names = models_told(body)
    found: Any = msgspec.json.decode(body)
    aliases = [alias for each in found["data"] if isinstance(each, dict) for alias in each.get("aliases") or ()]
    return [*names, *(str(alias) for alias in aliases)]


def _under_one(address: Address, adapters: Sequence[LoraAdapter]) -> Mapping[str, Any]:
    named = [adapter for adapter in adapters if adapter.name == _plain(address.model)]
    if len(named) > 1:
        paths = ", ".join(adapter.path for adapter in named)
        raise ModelError(
            f"{address.spec}: the server has several LoRA adapters of that name ({paths}); rename their files"
        )
    if named[0].scale not in (0.0, 1.0):
        raise ModelError(
            f"{address.spec}: the server has this LoRA adapter at a scale of {named[0].scale:g}, and assay asks under an "
            "adapter at 1; set it to 0 or 1 there"
        )
    return _request(adapters, named[0])


def _without(address: Address, adapters: Sequence[LoraAdapter], names: Sequence[str]) -> Mapping[str, Any]:
    """Of the model itself. Refuses where the server would apply an adapter, and a name that is nobody's there."""
    known = [adapter.name for adapter in adapters]
    if address.model not in names:
        raise ModelError(
            f"{address.spec}: the server has neither a model nor a LoRA adapter of that name; write "
            + _listed(address, [*names[:1], *known])
        )
    if on := [adapter for adapter in adapters if adapter.scale != 0.0]:
        raise ModelError(
            f"{address.spec}: the server applies the LoRA adapter {on[0].name} to whoever names none; write "
            f"{_listed(address, known)} to ask under one alone, or set their scales to 0 there to ask the model without any"
        )
    return _request(adapters, None)


def _listed(address: Address, names: Sequence[str]) -> str:
    specs = [f"{address.base}#{name}" for name in names[:_SHOWN]]
    return ", ".join(specs) + (", …" if len(names) > _SHOWN else "")


def _request(adapters: Sequence[LoraAdapter], on: LoraAdapter | None) -> Mapping[str, Any]:
    scales = [{"id": adapter.id, "scale": 1.0 if adapter is on else 0.0} for adapter in adapters]
    return {"lora": scales, "cache_prompt": False}
