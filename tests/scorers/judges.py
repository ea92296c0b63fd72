"""Models in the role of a judge whose every reply a test decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.errors import UnsupportedOption
from assay.models.base import ModelInfo, complete
from assay.types import Chunk, Completion, GenerateOptions, Message, Prompt, Usage


@dataclass
class Seeded:
    """An engine whose answer depends on the seed, and that keeps what it was asked."""

    replies: Mapping[int | None, str | Exception]
    options: frozenset[str] = frozenset({"temperature", "seed"})
    name: str = "seeded"
    asked: list[tuple[tuple[Message, ...], GenerateOptions]] = field(default_factory=list)
    schemas: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(self.name, "seeded", "1", f"identity of {self.name}", options=self.options)

    async def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        assert not isinstance(prompt, str)
        self.asked.append((tuple(prompt), options))
        reply = self.replies[options.seed]
        if isinstance(reply, Exception):
            raise reply
        yield Chunk(reply, "stop", Usage(100, 10))

    async def aclose(self) -> None: ...


class Structured(Seeded):
    """The same, held to a schema; a server that knows none says so when asked."""

    refuses: bool = False

    async def complete_structured(
        self, prompt: Prompt, schema: Mapping[str, Any], options: GenerateOptions
    ) -> Completion:
        self.schemas.append(schema)
        if self.refuses:
            raise UnsupportedOption("this server knows no schemas")
        return await complete(self, prompt, options)


class Rendering(Seeded):
    """The same, with a chat template that opens the reasoning."""

    async def render(self, prompt: Prompt) -> str:
        assert not isinstance(prompt, str)
        return "".join(f"<|{m.role}|>{m.content}" for m in prompt) + "<|assistant|><think>\n"
