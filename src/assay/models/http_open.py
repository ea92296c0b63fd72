"""From a URL to a model: `http://HOST:PORT/v1#MODEL`, or the only model of `http://HOST:PORT/v1`."""

from __future__ import annotations

from msgspec.structs import replace

from assay.models.http_adapters import AdaptedHttpModel
from assay.models.http_address import api_key, parse_address, parse_url
from assay.models.http_models import only_model
from assay.types import AdapterPlace, HttpSettings


def open_http(
    spec: str,
    settings: HttpSettings | None = None,
    context_length: int | None = None,
    adapters: AdapterPlace | None = None,
) -> AdaptedHttpModel:
    """The model at `http://HOST:PORT/v1#MODEL`. Raises `ModelError` for a bad address; the server isn't asked yet.

    The key comes from the environment (`http_address.api_key`). context_length: in tokens, if it is known. adapters: where
    the server finds them.
    """
    address = parse_address(spec)
    return AdaptedHttpModel(address, settings or HttpSettings(), api_key(address), context_length, adapters)


async def open_url(
    spec: str,
    settings: HttpSettings | None = None,
    context_length: int | None = None,
    adapters: AdapterPlace | None = None,
) -> AdaptedHttpModel:
    """The same for `http://HOST:PORT/v1`, whose server is asked which model it has: that must be one.

    Raises `Unreachable` if the server can't be asked.
    """
    address = parse_url(spec)
    if not address.model:
        spec = replace(address, model=await only_model(address, settings or HttpSettings(), api_key(address))).spec
    return open_http(spec, settings, context_length, adapters)
