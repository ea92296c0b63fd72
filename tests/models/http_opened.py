"""Models on the test server, with waits short enough for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from assay.models.http_adapters import AdaptedHttpModel
from assay.models.http_open import open_http
from assay.models.http_retry import HttpSettings
from tests.models.openai_server import OpenAIServer

QUICK: dict[str, Any] = {"call_seconds": 5.0, "total_seconds": 20.0, "backoff_seconds": 0.01}


@asynccontextmanager
async def opened(server: OpenAIServer | str, **settings: Any) -> AsyncIterator[AdaptedHttpModel]:
    """The server's model, or the one of a spec."""
    spec = server if isinstance(server, str) else server.spec
    model = open_http(spec, HttpSettings(**{**QUICK, **settings}))
    try:
        yield model
    finally:
        await model.aclose()
