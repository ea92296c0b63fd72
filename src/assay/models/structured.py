"""Completion held to a JSON schema, for the engines that can do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from assay.types import Completion, GenerateOptions, Prompt


@runtime_checkable
class StructuredModel(Protocol):
    """A model that can be held to a JSON schema while it generates.

    Raises `UnsupportedOption`, before anything is generated, if this server or this schema can't be; the caller then asks in
    plain words. A completion that ended at `max_tokens` may hold the front of a JSON text only. Whoever asks still checks
    what comes back: some servers take a schema and ignore it.
    """

    async def complete_structured(
        self, prompt: Prompt, schema: Mapping[str, Any], options: GenerateOptions
    ) -> Completion: ...
