"""What a model is: anything that streams text from a prompt.

An engine implements `TextModel`; whole strings, callbacks and synchronous calls are derived from it here and in
`assay.models.sync`. What only some engines can do is a small protocol of its own, asked for with `isinstance`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, cast, runtime_checkable

import msgspec

from assay.errors import GenerationError, UnsupportedOption
from assay.types import Adapter, Chunk, Completion, GenerateOptions, Likelihood, Message, Prompt, Raw, Token


class ModelInfo(msgspec.Struct, frozen=True):
    """Who answers.

    name: the spec it was opened by. engine, engine_version: the library that runs it. identity: a digest of all that
    decides its answers (engine and version, dtype, weights, tokenizer, chat template). declared: the identity is only
    what a remote side says. adapter: the attached adapter's digest, None for the base. context_length: tokens of
    prompt and answer together, None if unknown. concurrency: how many streams are worth having open at once.
    resident_adapters: how many adapters can be attached at once without loading the base again. batch: how many requests
    it computes together. likelihoods: whether it is a `LogprobModel`, which the type of a model in another process can't
    tell, nor that of one behind a URL until it was asked (`asked_logprob_model`). options: the sampling options, of
    `GenerateOptions`, that it honours. begin: the text of the token that stands for an
    empty prompt, "" if unknown. begins: its tokenizer puts that token before every text.
    """

    name: str
    engine: str
    engine_version: str
    identity: str
    declared: bool = False
    adapter: str | None = None
    context_length: int | None = None
    concurrency: int = 1
    resident_adapters: int = 0
    batch: int = 1
    likelihoods: bool = False
    options: frozenset[str] = frozenset(GenerateOptions.__struct_fields__)
    begin: str = ""
    begins: bool = False


@runtime_checkable
class TextModel(Protocol):
    """Streams text from a prompt. Safe to use from many tasks of one event loop at once.

    `stream` ends with a chunk that carries `finish_reason` and `usage`; closing or cancelling it stops the engine within
    one token; an error raises `GenerationError`, which carries what had been generated.
    """

    @property
    def info(self) -> ModelInfo: ...

    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class WholeModel(Protocol):
    """Gives whole answers at a lower price than in pieces. Raises what `stream` raises."""

    async def complete_whole(self, prompt: Prompt, options: GenerateOptions) -> Completion: ...


@runtime_checkable
class BatchModel(Protocol):
    """Answers several prompts together, at a lower price than one after the other; see `complete_many`.

    Gives what came of each, in order: an error takes no other's answer away. `info.batch` says how many are computed at
    once; where it is 1, this is no cheaper than one after the other.
    """

    async def complete_batch(
        self, prompts: Sequence[Prompt], options: GenerateOptions
    ) -> Sequence[Completion | GenerationError]: ...


@runtime_checkable
class LogprobModel(Protocol):
    """Tells how likely it finds a given text. Ask for it with `asked_logprob_model`.

    The prompt is rendered as `stream` would. After `Raw` the text is tokenised as in lm-evaluation-harness: blanks at the
    prompt's end are taken for the text's beginning, where tokenizers put them. An empty `Raw` prompt is one beginning-of-text
    token (end-of-text where there is none). Each token is told once, given as much of what is before it as the context
    holds: a text that is longer is taken in windows, a prompt that is too long loses its beginning. Raises
    `GenerationError`.
    """

    async def loglikelihood(self, prompt: Prompt, continuation: str) -> Likelihood: ...


@runtime_checkable
class ServedModel(Protocol):
    """Has to ask a server whether it is a `LogprobModel`.

    Once this is done, `info` says it, and what begins a text. Raises `UnsupportedOption` if it is none, and what a question
    to the server raises.
    """

    async def learn_likelihoods(self) -> None: ...


@runtime_checkable
class EndingModel(Protocol):
    """Knows how training data writes an answer: `ended`, the function, says what it gives."""

    async def ended(self, prompt: Prompt, answer: str) -> str: ...


@runtime_checkable
class RenderingModel(Protocol):
    """Knows the exact text that its engine will see: the chat template is applied here, before generation."""

    async def render(self, prompt: Prompt) -> str: ...


@runtime_checkable
class AdapterModel(Protocol):
    """A base onto which adapters can be attached without loading it again.

    `attach` returns a model bound to that adapter's digest: it names the digest on every request, so concurrent use of
    several adapters can't race on a "current" one. Its `aclose` detaches it. Raises `AdapterMismatch` with every
    differing key. `expect` announces adapters that will be attached soon, for engines that can load several only
    together; it is a hint and may do nothing.
    """

    async def attach(self, adapter: Adapter) -> TextModel: ...

    async def expect(self, adapters: Sequence[Adapter]) -> None: ...


# Who tells how likely a text is, for whoever named a model that doesn't.
LIKELIHOODS = "mlx, llama and transformers can, and vLLM by its URL"


def logprob_model(model: TextModel) -> LogprobModel:
    """The model, if it is known to tell how likely a text is. Raises `UnsupportedOption`."""
    if isinstance(model, LogprobModel) and model.info.likelihoods:
        return model
    raise UnsupportedOption(
        f"the engine {model.info.engine!r} ({model.info.name}) can't tell how likely a given text is; {LIKELIHOODS}"
    )


async def asked_logprob_model(model: TextModel) -> LogprobModel:
    """The same; a server is asked first whether it can, if that isn't known yet. Raises what a question to it raises."""
    if isinstance(model, ServedModel) and not model.info.likelihoods:
        await model.learn_likelihoods()
    return logprob_model(model)


def messages_of(prompt: Prompt) -> tuple[Message, ...]:
    """The prompt as messages; not for `Raw`."""
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    return tuple(prompt)


def messages_shown(messages: Sequence[Message]) -> str:
    """For an error, enough to find them by: who speaks, and how each begins."""
    said = [f"{one.role}: {' '.join(one.content.split())[:40]!r}" for one in messages[:3]]
    return f"the messages ({', '.join(said)}{', …' if len(messages) > 3 else ''})"


async def rendered(model: TextModel, prompt: Prompt) -> str:
    """The prompt as the model sees it; for one that can't tell, a canonical text that is unique to the prompt."""
    if isinstance(model, RenderingModel):
        return await model.render(prompt)
    if isinstance(prompt, Raw):
        return str(prompt)
    pairs = [[m.role, m.content] for m in messages_of(prompt)]
    return json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))


async def ended(model: TextModel, prompt: Prompt, answer: str) -> str:
    """What stands behind the rendered prompt where the model is trained on this answer to it: the answer and its end.

    Under a chat template that is the whole turn as the template writes it, up to the last character; after `Raw`, and where
    there is no template, the answer and the end-of-text token. Raises `UnsupportedOption` if the engine can't tell,
    `GenerationError` if the template writes a finished conversation in another way than its prompt.
    """
    if isinstance(model, EndingModel):
        return await model.ended(prompt, answer)
    raise UnsupportedOption(
        f"the engine {model.info.engine!r} ({model.info.name}) can't tell how training data ends an answer; "
        f"{LIKELIHOODS}"
    )


def check_options(info: ModelInfo, options: GenerateOptions) -> None:
    """Raise `UnsupportedOption` for each option that differs from its neutral value and that the engine lacks."""
    neutral = GenerateOptions()
    for name in options.__struct_fields__:
        if name == "max_tokens" or name in info.options:
            continue
        if getattr(options, name) != getattr(neutral, name):
            raise UnsupportedOption(
                f"the engine {info.engine!r} ({info.name}) cannot honour {name}={getattr(options, name)!r}; "
                f"leave it out or choose another engine"
            )


async def complete(
    model: TextModel,
    prompt: Prompt,
    options: GenerateOptions | None = None,
    on_chunk: Callable[[Chunk], None] | None = None,
) -> Completion:
    """The whole answer as one string. An `on_chunk` that raises stops the generation and releases the engine.

    Raises `GenerationError` with the text so far if the stream breaks, also when it ends without a finish reason:
    a connection that closed early is not an answer.
    """
    if on_chunk is None and isinstance(model, WholeModel):
        return await model.complete_whole(prompt, options or GenerateOptions())
    parts: list[str] = []
    tokens: list[Token] = []
    # TextModel promises an async iterator; engines write generators, whose prompt closing releases the engine.
    stream = cast(AsyncGenerator[Chunk, None], model.stream(prompt, options or GenerateOptions()))
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            parts.append(chunk.text)
            tokens.extend(chunk.tokens)
            if on_chunk is not None:
                on_chunk(chunk)
            if chunk.finish_reason is not None:
                if chunk.usage is None:
                    raise GenerationError("the last chunk carried no usage", partial="".join(parts))
                return Completion("".join(parts), chunk.finish_reason, chunk.usage, tuple(tokens))
    raise GenerationError("the stream ended without a finish reason", partial="".join(parts), error_class="transient")


async def complete_many(
    model: TextModel, prompts: Sequence[Prompt], options: GenerateOptions | None = None
) -> Sequence[Completion | GenerationError]:
    """What came of each prompt, in order; together where the model can, else as many at once as are worth it.

    Raises what no prompt alone is the reason of, such as `Unreachable`.
    """
    options = options or GenerateOptions()
    if isinstance(model, BatchModel):
        return await model.complete_batch(prompts, options)
    return await each(model, prompts, options, model.info.concurrency)


async def each(
    model: TextModel, prompts: Sequence[Prompt], options: GenerateOptions, at_once: int
) -> Sequence[Completion | GenerationError]:
    """What came of each prompt, in order, `at_once` of them under way. The first other error ends all and is raised."""
    turn = asyncio.Semaphore(max(at_once, 1))

    async def one(prompt: Prompt) -> Completion | GenerationError:
        async with turn:
            try:
                return await complete(model, prompt, options)
            except GenerationError as error:
                return error

    tasks = [asyncio.ensure_future(one(prompt)) for prompt in prompts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
