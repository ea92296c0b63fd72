"""Which models a server has: asked where a URL names none, and before adapters are handed over."""

from __future__ import annotations

from typing import Any

import msgspec

from assay.errors import AssayError, ModelError, Unreachable
from assay.models.http_address import Address
from assay.models.http_ask import ask
from assay.models.http_faults import API_ADDRESS, Fault, in_short, scrubbed
from assay.secret import Secret
from assay.types import HttpSettings

_PATH = "/models"
_SECONDS = 30.0  # a list takes no thinking
_SHOWN = 4


class Served(msgspec.Struct, frozen=True):
    """A model that a server lists. owner: whose server it says that it is; parent: the base that it adapts; "" if untold."""

    name: str
    owner: str = ""
    parent: str = ""


async def only_model(address: Address, settings: HttpSettings, key: Secret | None) -> str:
    """The name of the only model that the server has, adapters on it left out.

    Raises `ModelError` if it has none or several, or is no such server, and `Unreachable` if it gives no answer.
    """
    try:
        names = [each.name for each in await served(address, settings, key) if not each.parent]
    except Fault as fault:
        raise _given_up(address, fault, key) from None
    if len(names) == 1:
        return names[0]
    if not names:
        raise ModelError(f"{address.base} has no model")
    raise ModelError(f"{address.base} has {len(names)} models ({several(names)}); name one: {address.base}#MODEL")


async def served(address: Address, settings: HttpSettings, key: Secret | None) -> list[Served]:
    """All models that the server lists. Raises `Fault`."""
    return _told(await ask(address, settings.with_call(min(_SECONDS, settings.call_seconds)), key, _PATH))


def models_told(body: bytes) -> list[str]:
    """The names of the models in a server's list, one each. Raises `Fault`."""
    return [each.name for each in _told(body)]


def _told(body: bytes) -> list[Served]:
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault("webpage", "it lists no models as an OpenAI-compatible API does") from None
    told = found.get("data") if isinstance(found, dict) else None
    if not isinstance(told, list):
        raise Fault("webpage", f"it lists no models as an OpenAI-compatible API does: {in_short(found)}")
    named = [each for each in told if isinstance(each, dict) and _is_name(each.get("id"))]
    return [Served(each["id"], *(_text(each.get(key)) for key in ("owned_by", "parent"))) for each in named]


def several(names: list[str]) -> str:
    """Some of the names, as an error shows them."""
    more = ", …" if len(names) > _SHOWN else ""
    return ", ".join(in_short(name, 80) for name in names[:_SHOWN]) + more


def _is_name(told: Any) -> bool:
    return isinstance(told, str) and bool(told.strip()) and told.isprintable()


def _text(told: Any) -> str:
    return told if isinstance(told, str) else ""


def _given_up(address: Address, fault: Fault, key: Secret | None) -> AssayError:
    said = scrubbed(fault.reason, key)
    said += API_ADDRESS if fault.kind == "webpage" else ""
    said = f"{address.base}: {said} (it was asked which model it has; to name one, write {address.base}#MODEL)"
    return Unreachable(said) if fault.again and fault.kind != "foreign" else ModelError(said)
