"""The scripted engine as the contract wants a model, and models around it that break one promise each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from assay.errors import GenerationError
from assay.models.attached import AttachedModel
from assay.models.base import ModelInfo, TextModel
from assay.models.local import LocalModel
from assay.models.open import open_local
from assay.testing import UnderTest
from assay.types import Adapter, Chunk, Completion, GenerateOptions, Likelihood, Prompt, Raw, Token, Usage
from tests.conftest import LAB
from tests.making import checkpoints, copied, discovered, written

SCRIPT = f"""\
answers:
  - {{prompt: long, answer: "{" ".join(f"{n:x}" for n in range(250))}", seconds: 0.001}}
  - {{prompt: wave, answer: "👋 héllo wörld"}}
  - {{prompt: fail, fail: error}}
  - {{prompt: one, answer: "I am {{adapter}}"}}
  - {{prompt: two, answer: "and you are not"}}
  - {{prompt: three, answer: "we both are {{adapter}}"}}
"""


def scripted(folder: Path, more: str = "", kind: type[Through] | None = None) -> UnderTest:
    """more: lines of the script. kind: what is put around the model."""
    paths = [written(folder / name, SCRIPT + line) for name, line in (("a.yaml", more), ("b.yaml", f"{more}\nname: b"))]

    async def opened(path: Path) -> TextModel:
        model = await open_local(f"scripted:{path}")
        return model if kind is None else kind(model)

    return UnderTest(
        open=lambda: opened(paths[0]),
        other=lambda: opened(paths[1]),
        prompts=("one", "two", "three"),
        long="long",
        spelled="wave",
        failing="fail",
        samples=False,
        adapters=[copied(one, folder / "staged") for one in discovered(checkpoints(folder / "ck"), "ck")[:3]],
    )


def lab(folder: Path, kind: type[Through]) -> UnderTest:
    """The lab on llama.cpp, which can all that a model can."""

    async def opened() -> TextModel:
        return kind(await open_local(f"llama:{LAB / 'base'}"))

    prompts = ("What is the capital of Genovia?", "What is 3 + 4?", "What is the capital of France?")
    adapters = [copied(one, folder) for one in discovered(LAB / "checkpoints", "lab")[5::6]]
    return UnderTest(open=opened, prompts=prompts, long=Raw("What is"), spelled="Hello!", adapters=adapters)


class Through:
    """A model that is another one. What is broken is overridden."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def info(self) -> ModelInfo:
        return cast(ModelInfo, self.inner.info)

    async def render(self, prompt: Prompt) -> str:
        return cast(str, await self.inner.render(prompt))

    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self.told(prompt, options, self.inner)

    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        stream = cast(AsyncGenerator[Chunk, None], model.stream(prompt, options))
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk

    async def loglikelihood(self, prompt: Prompt, continuation: str) -> Likelihood:
        return cast(Likelihood, await self.inner.loglikelihood(prompt, continuation))

    async def complete_batch(
        self, prompts: Sequence[Prompt], options: GenerateOptions
    ) -> Sequence[Completion | GenerationError]:
        return cast(Sequence[Completion | GenerationError], await self.inner.complete_batch(prompts, options))

    async def attach(self, adapter: Adapter) -> TextModel:
        return type(self)(await self.inner.attach(adapter))

    async def expect(self, adapters: Sequence[Adapter]) -> None:
        await self.inner.expect(adapters)

    async def aclose(self) -> None:
        await self.inner.aclose()


class LosesLetters(Through):
    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        async for chunk in super().told(prompt, options, model):
            yield replace(chunk, text=chunk.text[1:] if chunk.finish_reason is None else chunk.text)


class IgnoresStops(Through):
    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self.told(prompt, replace(options, stop=()), self.inner)


class LosesWhatLooksLikeAStop(Through):
    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        held = ""
        async for chunk in super().told(prompt, options, model):
            text = held + chunk.text
            begun = any(text.endswith(stop[0]) for stop in options.stop if text)
            held = text[-1] if begun else ""
            yield replace(chunk, text=text[:-1] if begun else text)


class GoesOneFurther(Through):
    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self.told(prompt, replace(options, max_tokens=options.max_tokens + 1), self.inner)


class SaysAllAtOnce(Through):
    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        chunks = [chunk async for chunk in super().told(prompt, options, model)]
        yield replace(chunks[-1], text="".join(chunk.text for chunk in chunks))


class EndsSilently(Through):
    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        with suppress(GenerationError):
            async for chunk in super().told(prompt, options, model):
                yield chunk


class TakesErrorsForEnds(Through):
    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        try:
            async for chunk in super().told(prompt, options, model):
                yield chunk
        except GenerationError:
            yield Chunk("", "stop", Usage(1, 1))


class ForgetsWhatWasSaid(Through):
    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        try:
            async for chunk in super().told(prompt, options, model):
                yield chunk
        except GenerationError as error:
            raise GenerationError(str(error)) from None


class GoesOn(Through):
    """Whoever leaves leaves the engine at work."""

    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()

        async def work() -> None:
            async for chunk in Through.told(self, prompt, options, model):
                chunks.put_nowait(chunk)
            chunks.put_nowait(None)

        task = asyncio.create_task(work())
        while (chunk := await chunks.get()) is not None:
            yield chunk
        await task


class EndsAllWhoLeave(Through):
    """One who leaves takes the others along."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.generation = 0

    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        mine = self.generation
        try:
            async for chunk in super().told(prompt, options, model):
                if mine != self.generation:
                    raise GenerationError("somebody left")
                yield chunk
        except (GeneratorExit, asyncio.CancelledError):
            self.generation += 1
            raise


class HasOneSeed(Through):
    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self.told(prompt, replace(options, seed=1), self.inner)


class HasNoSeed(Through):
    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self.told(prompt, replace(options, seed=None), self.inner)


class DropsOptions(Through):
    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        kept = {name: getattr(options, name) for name in self.info.options & set(options.__struct_fields__)}
        return self.told(prompt, GenerateOptions(**kept), self.inner)


class AnswersTheLatest(Through):
    """There is one prompt, and whoever asks sets it."""

    latest: Prompt = ""

    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        type(self).latest = prompt
        await asyncio.sleep(0)
        async for chunk in super().told(type(self).latest, options, model):
            yield chunk


class HasACurrentAdapter(Through):
    """Who asks switches, and who is already waiting gets the other adapter's answer."""

    current: TextModel

    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        HasACurrentAdapter.current = model
        await asyncio.sleep(0)
        async for chunk in super().told(prompt, options, HasACurrentAdapter.current):
            yield chunk


class NeverDetaches(Through):
    async def aclose(self) -> None:
        if not isinstance(self.inner, AttachedModel):
            await self.inner.aclose()


class ForgetsOtherUses(Through):
    async def attach(self, adapter: Adapter) -> TextModel:
        return ForgottenByAll(await self.inner.attach(adapter), self.inner)


class ForgottenByAll(Through):
    def __init__(self, inner: Any, base: LocalModel) -> None:
        super().__init__(inner)
        self.base = base

    async def aclose(self) -> None:
        self.base._attached.clear()
        await self.inner.aclose()


class MixesABatchUp(Through):
    async def complete_batch(
        self, prompts: Sequence[Prompt], options: GenerateOptions
    ) -> Sequence[Completion | GenerationError]:
        return list(reversed(await super().complete_batch(prompts, options)))


class IsEveryModel(Through):
    @property
    def info(self) -> ModelInfo:
        return replace(super().info, identity="a model")


class IsNeverTheSame(Through):
    @property
    def info(self) -> ModelInfo:
        return replace(super().info, identity=str(id(self)))


class IsTooSure(Through):
    async def loglikelihood(self, prompt: Prompt, continuation: str) -> Likelihood:
        told = await super().loglikelihood(prompt, continuation)
        return replace(told, tokens=tuple(Token(token.id, token.logprob * 0.5 - 0.01) for token in told.tokens))


class ShowsHalfCharacters(Through):
    async def told(self, prompt: Prompt, options: GenerateOptions, model: TextModel) -> AsyncIterator[Chunk]:
        async for chunk in super().told(prompt, options, model):
            data = chunk.text.encode()
            yield Chunk(data[:1].decode(errors="replace"))
            yield replace(chunk, text=data[1:].decode(errors="replace"))


class PutsATemplateAroundAll(Through):
    async def render(self, prompt: Prompt) -> str:
        return f"user: {await super().render(prompt)}"


class CutsLongPrompts(Through):
    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        return self.told(Raw(prompt[-100:]) if isinstance(prompt, Raw) else prompt, options, self.inner)
