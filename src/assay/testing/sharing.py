"""The contract of a model that many use at once: nobody notices the others, who leaves, or who fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, cast

import pytest

from assay.errors import AssayError, GenerationError
from assay.models.base import BatchModel, TextModel, complete, complete_many
from assay.testing.answers import GREEDY, streamed
from assay.testing.under_test import UnderTest, in_loop
from assay.types import Chunk, Completion, GenerateOptions, Prompt, Raw

# As long as an answer that is left would go on.
_LONG = GenerateOptions(max_tokens=200)
_ONE = GenerateOptions(max_tokens=1)
_TURNS, _MOST_TURNS = 4, 15


async def leave(model: TextModel, prompt: Prompt, options: GenerateOptions = _LONG) -> None:
    """Ask, and leave with the first piece."""
    stream = cast(AsyncGenerator[Chunk, None], model.stream(prompt, options))
    async with aclosing(stream) as chunks:
        async for _ in chunks:
            break


class SharingTests:
    """A part of `ModelContract`."""

    @in_loop
    async def test_answers_at_once_are_those_of_each_alone(self, model: TextModel, under_test: UnderTest) -> None:
        jobs = [(prompt, GenerateOptions(max_tokens=count)) for prompt in under_test.prompts for count in (3, 8, 24)]
        alone = [await complete(model, *job) for job in jobs]
        found = await asyncio.gather(*[streamed(model, *job) for job in jobs * 4])
        assert [(one.text, one.finish_reason) for one in found] == [(one.text, one.finish_reason) for one in alone] * 4

    @in_loop
    async def test_several_prompts_together_are_each_alone(self, model: TextModel, under_test: UnderTest) -> None:
        alone = [(await complete(model, prompt, GREEDY)).text for prompt in under_test.prompts]
        found = await complete_many(model, under_test.prompts, GREEDY)
        assert [one.text for one in found if isinstance(one, Completion)] == alone
        length = model.info.context_length
        bad = under_test.failing if under_test.failing is not None else Raw("word " * (length or 0))
        if isinstance(model, BatchModel) and (under_test.failing is not None or length is not None):
            first, second, *_ = under_test.prompts
            mixed = await model.complete_batch([first, bad, second], GREEDY)
            assert [one.text for one in mixed if isinstance(one, Completion)] == alone[:2]
            assert isinstance(mixed[1], GenerationError), "an error takes its own place and no other's answer"

    @in_loop
    async def test_who_leaves_disturbs_nobody(self, model: TextModel, under_test: UnderTest) -> None:
        prompts = [*under_test.prompts, under_test.long, *under_test.prompts, under_test.long]
        alone = [(await complete(model, prompt, GREEDY)).text for prompt in prompts]
        leaving = [asyncio.create_task(leave(model, under_test.long)) for _ in range(2)]
        others = asyncio.gather(*[streamed(model, prompt) for prompt in prompts])
        await asyncio.gather(*leaving)
        gone = [asyncio.create_task(complete(model, under_test.long, _LONG)) for _ in range(4)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        left = await asyncio.gather(*gone, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in left)
        assert [one.text for one in await others] == alone
        assert [(await complete(model, prompt, GREEDY)).text for prompt in prompts[:3]] == alone[:3]

    @in_loop
    async def test_an_answer_that_nobody_waits_for_is_stopped(self, model: TextModel, under_test: UnderTest) -> None:
        """Whoever asks next waits far less than for the whole of it. Other programs take time, so the shortest waits count."""
        whole, left = [], []
        for turn in range(_MOST_TURNS):
            whole.append(await _seconds(complete(model, under_test.long, _LONG), model, under_test))
            left.append(await _seconds(leave(model, under_test.long), model, under_test))
            if turn >= _TURNS and min(left) < 0.6 * min(whole):
                return
        raise AssertionError(f"the engine goes on with answers that were left: {left} s, and {whole} s for all of them")

    @in_loop
    async def test_an_error_in_mid_answer_carries_what_was_said(self, model: TextModel, under_test: UnderTest) -> None:
        if under_test.failing is None:
            return
        said: list[str] = []

        async def listen(prompt: Prompt) -> None:
            async for chunk in model.stream(prompt, GREEDY):
                said.append(chunk.text)

        with pytest.raises(GenerationError) as caught:
            await listen(under_test.failing)
        assert "".join(said)
        assert caught.value.partial == "".join(said)
        assert (await complete(model, under_test.prompts[0], GREEDY)).text, "the next answer is none the worse"

    @in_loop
    async def test_closing_never_makes_a_part_look_whole(self, model: TextModel, under_test: UnderTest) -> None:
        whole = (await complete(model, under_test.long, _LONG)).text
        closing = await under_test.open()
        said = ["" for _ in range(3)]

        async def listen(place: int) -> bool:
            async for chunk in closing.stream(under_test.long, _LONG):
                said[place] += chunk.text
                begun.set()
                if chunk.finish_reason is not None:
                    return True
            return False

        begun = asyncio.Event()
        tasks = [asyncio.create_task(listen(place)) for place in range(3)]
        await asyncio.wait([*tasks, asyncio.create_task(begun.wait())], return_when=asyncio.FIRST_COMPLETED)
        await closing.aclose()
        for text, found in zip(said, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if isinstance(found, GenerationError):
                assert found.partial == text
                assert whole.startswith(text)
            else:
                assert found is True, f"a stream of a closed model ended with {found!r}"
                assert text == whole
        with pytest.raises(AssayError):
            await complete(closing, under_test.prompts[0], GREEDY)
        await closing.aclose()

    @in_loop
    async def test_the_identity_is_of_what_decides_answers(self, model: TextModel, under_test: UnderTest) -> None:
        again = await under_test.open()
        assert again.info.identity == model.info.identity != ""
        assert again.info.adapter is None
        assert again.info.engine
        assert again.info.engine_version
        await again.aclose()
        if model.info.declared:
            return
        assert under_test.other is not None, "UnderTest.other opens the same with other weights"
        other = await under_test.other()
        assert other.info.identity != model.info.identity, "other weights must have another identity"
        await other.aclose()


async def _seconds(first: Coroutine[Any, Any, object], model: TextModel, under_test: UnderTest) -> float:
    """What that and the next answer take."""
    began = time.perf_counter()
    await first
    await complete(model, under_test.prompts[0], _ONE)
    return time.perf_counter() - began
