"""A base bound to one adapter: what `AdapterModel.attach` gives back, whether the engine runs here or in a child process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec.structs import replace

from assay.errors import GenerationError
from assay.models.base import ModelInfo, each
from assay.types import Chunk, Completion, GenerateOptions, Likelihood, Prompt


class AdapterBase(Protocol):
    """What a bound model needs of its base: every request names the adapter's digest."""

    @property
    def info(self) -> ModelInfo: ...

    async def render(self, prompt: Prompt) -> str: ...

    async def ended(self, prompt: Prompt, answer: str) -> str: ...

    def stream_with(self, prompt: Prompt, options: GenerateOptions, digest: str | None) -> AsyncIterator[Chunk]: ...

    async def loglikelihood_with(self, prompt: Prompt, continuation: str, digest: str | None) -> Likelihood: ...

    async def detach(self, digest: str) -> None: ...


class BareCalls(AdapterBase, Protocol):
    """What a base is asked under no adapter, made of what it is asked under any."""

    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self.stream_with(prompt, options, None)

    async def complete_batch(
        self, prompts: Sequence[Prompt], options: GenerateOptions
    ) -> Sequence[Completion | GenerationError]:
        """All are handed over at once, so that the engine computes together what it can."""
        return await each(self, prompts, options, len(prompts))

    async def loglikelihood(self, prompt: Prompt, continuation: str) -> Likelihood:
        return await self.loglikelihood_with(prompt, continuation, None)

    async def aclose(self) -> None: ...


class AttachedModel:
    """A `TextModel` and `RenderingModel`, a `LogprobModel` where its base is one; carries its adapter's digest on every
    request.
    """

    def __init__(self, base: AdapterBase, digest: str) -> None:
        self._base = base
        self._digest: str | None = digest

    @property
    def info(self) -> ModelInfo:
        return replace(self._base.info, adapter=self._digest)

    async def render(self, prompt: Prompt) -> str:
        return await self._base.render(prompt)

    async def ended(self, prompt: Prompt, answer: str) -> str:
        return await self._base.ended(prompt, answer)

    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self._base.stream_with(prompt, options, self._bound())

    async def complete_batch(
        self, prompts: Sequence[Prompt], options: GenerateOptions
    ) -> Sequence[Completion | GenerationError]:
        """All are handed over at once, so that the engine computes together what it can."""
        return await each(self, prompts, options, len(prompts))

    async def loglikelihood(self, prompt: Prompt, continuation: str) -> Likelihood:
        return await self._base.loglikelihood_with(prompt, continuation, self._bound())

    def _bound(self) -> str:
        if self._digest is None:
            raise GenerationError("this adapter has been detached")
        return self._digest

    async def aclose(self) -> None:
        """Detach the adapter. The base stays loaded."""
        if self._digest is not None:
            digest, self._digest = self._digest, None
            await self._base.detach(digest)
