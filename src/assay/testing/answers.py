"""The contract of answers: how they come, where they end, what shapes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import pytest
from msgspec.structs import replace

from assay.errors import GenerationError, UnsupportedOption
from assay.models.base import RenderingModel, TextModel, asked_logprob_model, complete, logprob_model, rendered
from assay.models.http_protocol import UNKNOWN_ID
from assay.testing.under_test import UnderTest, in_loop
from assay.types import Chunk, Completion, GenerateOptions, Likelihood, Message, Prompt, Raw, Token

GREEDY = GenerateOptions(max_tokens=24)

# An option each, with a value that isn't neutral, and values that mean nothing.
_OTHERWISE: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "repeat_penalty": 1.1,
    "stop": ("never said",),
    "seed": 1,
    "logprobs": True,
}
_MEANINGLESS: Sequence[tuple[str, Any]] = (
    ("max_tokens", 0),
    ("temperature", -1.0),
    ("top_p", 0.0),
    ("top_p", 1.5),
    ("top_k", -1),
    ("repeat_penalty", 0.0),
    ("stop", ("",)),
    ("seed", -1),
)


async def chunks_of(model: TextModel, prompt: Prompt, options: GenerateOptions = GREEDY) -> list[Chunk]:
    """The chunks of an answer. Streams must be those of `TextModel`: what is asserted here, others rely on."""
    chunks = [chunk async for chunk in model.stream(prompt, options)]
    assert chunks, "a stream has at least the chunk that ends it"
    for chunk in chunks[:-1]:
        assert chunk.finish_reason is None, "only the last chunk has a finish reason"
        assert chunk.usage is None, "only the last chunk has a usage"
    assert chunks[-1].finish_reason in ("stop", "length"), "the last chunk says why the answer ended"
    assert chunks[-1].usage is not None, "the last chunk has a usage"
    return chunks


def text_of(chunks: Sequence[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def streamed(model: TextModel, prompt: Prompt, options: GenerateOptions = GREEDY) -> Completion:
    """The answer, from its stream."""
    chunks = await chunks_of(model, prompt, options)
    last = chunks[-1]
    assert last.finish_reason is not None
    assert last.usage is not None
    tokens = tuple(token for chunk in chunks for token in chunk.tokens)
    return Completion(text_of(chunks), last.finish_reason, last.usage, tokens)


class AnswerTests:
    """A part of `ModelContract`."""

    @in_loop
    async def test_the_pieces_are_the_whole_answer(self, model: TextModel, under_test: UnderTest) -> None:
        texts = set()
        for prompt in under_test.prompts:
            one, whole = await streamed(model, prompt), await complete(model, prompt, GREEDY)
            assert (one.text, one.finish_reason) == (whole.text, whole.finish_reason)
            assert one.usage.completion_tokens == whole.usage.completion_tokens > 0
            assert one.usage.prompt_tokens == whole.usage.prompt_tokens > 0
            assert one.tokens == whole.tokens == (), "tokens are told where they are asked for"
            texts.add(whole.text)
        assert len(texts) >= 3, "the contract needs three prompts with different answers: set UnderTest.prompts"

    @in_loop
    async def test_a_long_answer_comes_in_pieces(self, model: TextModel, under_test: UnderTest) -> None:
        chunks = await chunks_of(model, under_test.long, GenerateOptions(max_tokens=100))
        usage = chunks[-1].usage
        assert usage is not None
        assert usage.completion_tokens == 100, "the contract needs a prompt with a long answer: set UnderTest.long"
        assert len([chunk for chunk in chunks if chunk.text]) > 1, "all of the answer came at once"

    @in_loop
    async def test_a_text_is_one_user_message(self, model: TextModel, under_test: UnderTest) -> None:
        question = next(prompt for prompt in under_test.prompts if type(prompt) is str)
        message = [Message("user", question)]
        assert (await streamed(model, message)).text == (await streamed(model, question)).text
        assert await rendered(model, message) == await rendered(model, question)
        if isinstance(model, RenderingModel):
            assert await model.render(Raw(question)) == question, "raw text stays as it is"

    @in_loop
    async def test_max_tokens_is_the_most(self, model: TextModel, under_test: UnderTest) -> None:
        whole = await streamed(model, under_test.long)
        for count in (1, 2, 7, 24):
            cut = await streamed(model, under_test.long, GenerateOptions(max_tokens=count))
            assert (cut.usage.completion_tokens, cut.finish_reason) == (count, "length")
            assert whole.text.startswith(cut.text.rstrip("\ufffd"))

    @in_loop
    async def test_an_answer_ends_before_a_stop_string(self, model: TextModel, under_test: UnderTest) -> None:
        """Wherever the string is cut by tokens."""
        whole = (await streamed(model, under_test.long)).text
        assert len(whole) > 8
        for at in range(len(whole) - 4):
            stop = whole[at : at + 4]
            if "\ufffd" in stop:
                continue
            stopped = await streamed(model, under_test.long, replace(GREEDY, stop=("never said", stop)))
            assert (stopped.text, stopped.finish_reason) == (whole[: whole.find(stop)], "stop"), f"stop={stop!r}"

    @in_loop
    async def test_what_only_begins_like_a_stop_string_is_kept(self, model: TextModel, under_test: UnderTest) -> None:
        if model.info.declared:  # llama.cpp's server loses it, and nobody on this side can know
            return
        for count in range(1, 8):
            whole = await streamed(model, under_test.long, GenerateOptions(max_tokens=count))
            if whole.text and not whole.text.endswith("\ufffd"):
                options = GenerateOptions(max_tokens=count, stop=(whole.text[-1] + "never said",))
                again = await streamed(model, under_test.long, options)
                assert (again.text, again.finish_reason) == (whole.text, "length")

    @in_loop
    async def test_a_character_of_several_tokens_is_never_shown_in_part(
        self, model: TextModel, under_test: UnderTest
    ) -> None:
        if under_test.spelled is None:
            return
        options = GenerateOptions(max_tokens=40)
        chunks = await chunks_of(model, under_test.spelled, options)
        whole = text_of(chunks)
        assert any(ord(letter) > 127 for letter in whole), "UnderTest.spelled needs an answer with such a character"
        assert not any("\ufffd" in chunk.text for chunk in chunks)
        for count in range(1, 40):
            cut = (await streamed(model, under_test.spelled, GenerateOptions(max_tokens=count))).text
            cut.encode()  # raises for half of a surrogate pair
            assert whole.startswith(cut.rstrip("\ufffd")), f"cut off after {count} tokens"

    @in_loop
    async def test_a_seed_makes_sampling_repeatable(self, model: TextModel, under_test: UnderTest) -> None:
        if not {"temperature", "seed"} <= model.info.options or not under_test.samples:
            return
        hot = GenerateOptions(max_tokens=40, temperature=1.5)
        # Some servers' seeds have a sign, others' 32 bits, of which all set stand for none.
        large = 2**62 if model.info.declared else 2**63
        texts = [
            (await streamed(model, under_test.long, replace(hot, seed=seed))).text
            for seed in (7, 7, 8, 9, large, large)
        ]
        assert texts[0] == texts[1], "the same seed gave two answers"
        assert texts[4] == texts[5], "seeds have 64 bits"
        assert len(set(texts)) > 2, "other seeds gave the same answer"
        assert len({(await streamed(model, under_test.long, hot)).text for _ in range(4)}) > 1, (
            "no seed isn't a fixed one"
        )
        greedy = [await streamed(model, under_test.long, replace(GREEDY, seed=seed)) for seed in (1, 2)]
        assert greedy[0].text == greedy[1].text, "temperature 0 is greedy"

    @in_loop
    async def test_options_do_what_they_say(self, model: TextModel, under_test: UnderTest) -> None:
        greedy = (await streamed(model, under_test.long)).text
        hot = replace(GREEDY, temperature=1.5, seed=7 if "seed" in model.info.options else None)
        for name, value in (("top_k", 1), ("top_p", 1e-6)):
            if {name, "temperature"} <= model.info.options and under_test.samples:
                options = replace(hot, **{name: value})
                assert (await streamed(model, under_test.long, options)).text == greedy, (
                    f"{name}={value} leaves one token"
                )
        if "top_k" in model.info.options:  # more than there are tokens cuts nothing
            assert (await streamed(model, under_test.long, replace(GREEDY, top_k=1_000_000))).text == greedy
        if "repeat_penalty" in model.info.options and under_test.samples:
            longer = GenerateOptions(max_tokens=100)
            plain = await streamed(model, under_test.long, longer)
            assert (await streamed(model, under_test.long, replace(longer, repeat_penalty=5.0))).text != plain.text

    @in_loop
    async def test_an_option_is_taken_or_refused(self, model: TextModel, under_test: UnderTest) -> None:
        assert "max_tokens" in model.info.options
        for name, value in _OTHERWISE.items():
            options = replace(GREEDY, **{name: value})
            if name in model.info.options:
                await streamed(model, under_test.prompts[0], options)
            else:
                with pytest.raises(UnsupportedOption, match=name):
                    await streamed(model, under_test.prompts[0], options)

    @in_loop
    async def test_values_that_mean_nothing_are_refused(self, model: TextModel, under_test: UnderTest) -> None:
        for name, value in _MEANINGLESS:
            if name in model.info.options and (
                name == "max_tokens" or not model.info.declared
            ):  # else a server decides
                with pytest.raises(UnsupportedOption, match=name):
                    await streamed(model, under_test.prompts[0], replace(GREEDY, **{name: value}))

    @in_loop
    async def test_log_probabilities_are_of_the_model(self, model: TextModel, under_test: UnderTest) -> None:
        if "logprobs" not in model.info.options:
            return
        options = replace(GREEDY, logprobs=True)
        told = await streamed(model, under_test.prompts[0], options)
        assert told.text == (await streamed(model, under_test.prompts[0])).text
        assert all(token.logprob <= 0 for token in told.tokens)
        assert told.tokens
        if not model.info.declared:  # of a remote server's, some are not told
            assert len(told.tokens) == told.usage.completion_tokens
        if {"temperature", "top_k"} <= model.info.options and under_test.samples:
            shaped = await streamed(model, under_test.prompts[0], replace(options, temperature=0.5, top_k=1))
            assert shaped.tokens == told.tokens, "they are those before sampling is shaped"

    @in_loop
    async def test_a_text_is_as_likely_as_it_was_when_generated(self, model: TextModel, under_test: UnderTest) -> None:
        if await tells_likelihoods(model):
            await likely_as_generated(model, under_test.prompts)

    @in_loop
    async def test_what_has_no_room_is_an_error(self, model: TextModel, under_test: UnderTest) -> None:
        length = model.info.context_length
        if length is None:
            return
        with pytest.raises(GenerationError) as caught:
            await streamed(model, Raw("word " * (length + 1)))
        assert caught.value.error_class == "permanent", "asking again can't help"
        answer = await streamed(model, under_test.prompts[0])
        assert answer.text, "an error like this one leaves the model as it was"
        if length <= 4096:
            full = await streamed(model, under_test.long, GenerateOptions(max_tokens=length))
            assert full.finish_reason == "length", "what the context cuts off is cut off"
            assert length // 2 < full.usage.prompt_tokens + full.usage.completion_tokens <= length


async def tells_likelihoods(model: TextModel) -> bool:
    """Whether the model tells how likely a text is; what its `info` says is held against what it does."""
    try:
        await asked_logprob_model(model)
    except UnsupportedOption:
        assert not model.info.likelihoods
        return False
    return True


async def likely_as_generated(model: TextModel, prompts: Sequence[Prompt]) -> None:
    """Assert that answers have the log-probabilities that were told while they were generated."""
    weighing = logprob_model(model)
    whole = 0
    for prompt in prompts:
        answer = await streamed(model, prompt, replace(GREEDY, logprobs=True))
        told = await weighing.loglikelihood(prompt, answer.text)
        # A text need not be spelled as it was generated; from there on the two can't be compared.
        alike = list(takewhile(_same(told, answer), zip(told.tokens, answer.tokens, strict=False)))
        assert [one.logprob for one, _ in alike] == pytest.approx([other.logprob for _, other in alike], abs=1e-3)
        if len(alike) == len(told.tokens):
            whole += 1
            assert told.greedy
            assert not (await weighing.loglikelihood(prompt, answer.text + " not so")).greedy
    assert whole, "no answer has the tokens that it was generated with"
    with pytest.raises(GenerationError):
        await weighing.loglikelihood(prompts[0], "")


def _same(told: Likelihood, answer: Completion) -> Callable[[tuple[Token, Token]], bool]:
    """Whether two of these are the same token. Where a server doesn't tell what it generated, they are if there are as many,
    but for one that ends the answer.
    """
    as_many = len(answer.tokens) == len(told.tokens) + (answer.finish_reason == "stop")
    return lambda pair: pair[0].id == pair[1].id or (as_many and pair[1].id == UNKNOWN_ID)
