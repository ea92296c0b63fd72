"""The contract of a model that takes adapters: each request gets its own adapter's answer, whatever else goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from assay.errors import AdapterMismatch, GenerationError
from assay.models.base import AdapterModel, TextModel, complete
from assay.testing.answers import likely_as_generated, streamed, tells_likelihoods
from assay.testing.contract import ModelContract, Opened
from assay.testing.sharing import leave
from assay.testing.under_test import UnderTest, in_loop
from assay.types import Adapter, Completion, GenerateOptions

# Answers under adapters are told apart by their text, and where an engine tells it by how likely they are.
_SAME = 0.01
_SHORT = GenerateOptions(max_tokens=8)


class Base(TextModel, AdapterModel, Protocol):
    """A model that takes adapters."""


def same(found: Completion, expected: Completion) -> bool:
    """Whether two answers may be of the same weights; what else was computed beside them changes the last bits."""
    one, other = found.usage.logprob, expected.usage.logprob
    likely = one is None or other is None or abs(one - other) < _SAME
    return found.text == expected.text and likely


class AdapterTests(Opened):
    """What sets an `AdapterModel` apart; the rest of `AdapterContract` is `ModelContract`."""

    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, under_test: UnderTest, runner: asyncio.Runner) -> Sequence[Sequence[Completion]]:
        """The answers of the base, then of each adapter, given by a model that has never seen another one."""

        async def answers(adapter: Adapter | None) -> list[Completion]:
            model = await under_test.open()
            try:
                asked = model if adapter is None else await _as_base(model).attach(adapter)
                return [await complete(asked, prompt, _SHORT) for prompt in under_test.prompts]
            finally:
                await model.aclose()

        assert len(under_test.adapters) >= 2, "the contract needs two adapters: set UnderTest.adapters"
        found = [runner.run(answers(adapter)) for adapter in (None, *under_test.adapters)]
        for place, one in enumerate(found):
            for other in found[:place]:
                assert not all(map(same, one, other)), "UnderTest.adapters must change the answers, each in its own way"
        return found

    @in_loop
    async def test_no_answer_is_another_adapters(
        self, model: Base, under_test: UnderTest, alone: Sequence[Sequence[Completion]]
    ) -> None:
        """Many at once, in no order, some of whose askers leave: each is as its adapter gives it alone."""
        wanted = [(who, what) for who, answers in enumerate(alone) for what in range(len(answers))]
        jobs = [wanted[place % len(wanted)] for place in range(under_test.switches)]
        random.Random(5).shuffle(jobs)
        async with AsyncExitStack() as attached:
            await model.expect(under_test.adapters)
            bound: list[TextModel] = [model]
            for adapter in under_test.adapters:
                bound.append(await model.attach(adapter))
                attached.push_async_callback(bound[-1].aclose)
            asked = [complete(bound[who], under_test.prompts[what], _SHORT) for who, what in jobs]
            leaving = [leave(bound[place % len(bound)], under_test.long) for place in range(10)]
            found, _ = await asyncio.gather(asyncio.gather(*asked), asyncio.gather(*leaving))
            one_by_one = [
                await complete(bound[who], under_test.prompts[what], _SHORT) for who, what in [*wanted, *wanted[::-1]]
            ]
        wrong = [job for job, one in zip(jobs, found, strict=True) if not same(one, alone[job[0]][job[1]])]
        assert not wrong, f"{len(wrong)} of {len(jobs)} answers at once are not those that the adapter gives alone"
        for (who, what), one in zip([*wanted, *wanted[::-1]], one_by_one, strict=True):
            assert same(one, alone[who][what]), "one after the other, an answer is not what the adapter gives alone"

    @in_loop
    async def test_attaching_disturbs_no_answer(
        self, model: Base, under_test: UnderTest, alone: Sequence[Sequence[Completion]]
    ) -> None:
        first, second, *_ = under_test.adapters
        bound = await model.attach(first)
        asked = [(one, who, what) for what in range(3) for one, who in ((model, 0), (bound, 1))]
        under_way = [asyncio.create_task(complete(one, under_test.prompts[what], _SHORT)) for one, _, what in asked]
        await asyncio.sleep(0)
        later = await model.attach(second)
        found = await asyncio.gather(*under_way)
        assert all(same(one, alone[who][what]) for one, (_, who, what) in zip(found, asked, strict=True))
        assert same(await complete(later, under_test.prompts[0], _SHORT), alone[2][0])
        await bound.aclose()
        await later.aclose()
        assert same(await complete(model, under_test.prompts[0], _SHORT), alone[0][0]), "the base comes back"

    @in_loop
    async def test_all_are_attached_at_the_same_time(
        self, model: Base, under_test: UnderTest, alone: Sequence[Sequence[Completion]]
    ) -> None:
        bound = await asyncio.gather(*[model.attach(adapter) for adapter in under_test.adapters])
        found = await asyncio.gather(*[streamed(one, under_test.prompts[0], _SHORT) for one in bound])
        for one in bound:
            await one.aclose()
        assert all(same(one, expected[0]) for one, expected in zip(found, alone[1:], strict=True))

    @in_loop
    async def test_a_bound_model_says_its_adapter(self, model: Base, under_test: UnderTest) -> None:
        for adapter in under_test.adapters:
            bound = await model.attach(adapter)
            assert bound.info.adapter == adapter.digest
            assert bound.info.identity == model.info.identity, "the identity is the base's"
            await bound.aclose()
        assert model.info.adapter is None

    @in_loop
    async def test_a_detached_adapter_answers_no_more(
        self, model: Base, under_test: UnderTest, alone: Sequence[Sequence[Completion]]
    ) -> None:
        adapter = under_test.adapters[0]
        one, two = await model.attach(adapter), await model.attach(adapter)
        await one.aclose()
        await one.aclose()
        with pytest.raises(GenerationError):
            await complete(one, under_test.prompts[0], _SHORT)
        assert same(await complete(two, under_test.prompts[0], _SHORT), alone[1][0]), "another use of it goes on"
        await two.aclose()
        again = await model.attach(adapter)
        assert same(await complete(again, under_test.prompts[0], _SHORT), alone[1][0])
        await again.aclose()

    @in_loop
    async def test_an_adapter_for_another_base_is_refused(
        self, model: Base, under_test: UnderTest, alone: Sequence[Sequence[Completion]]
    ) -> None:
        if under_test.misfit is None:
            return
        bound = await model.attach(under_test.adapters[0])
        with pytest.raises(AdapterMismatch) as caught:
            await model.attach(under_test.misfit)
        assert caught.value.differences or model.info.declared, "every differing key and shape is said"
        assert same(await complete(bound, under_test.prompts[0], _SHORT), alone[1][0]), "the others go on"
        await bound.aclose()
        assert same(await complete(model, under_test.prompts[0], _SHORT), alone[0][0])

    @in_loop
    async def test_likelihoods_are_the_adapters(self, model: Base, under_test: UnderTest) -> None:
        if not await tells_likelihoods(model):
            return
        for adapter in under_test.adapters[:2]:
            bound = await model.attach(adapter)
            await likely_as_generated(bound, under_test.prompts)
            await bound.aclose()

    @in_loop
    async def test_adapters_take_turns(
        self, model: Base, under_test: UnderTest, alone: Sequence[Sequence[Completion]]
    ) -> None:
        """Also more of them than are held at once."""
        turns = list(enumerate(under_test.adapters, 1))
        for who, adapter in [*turns, *turns[::-1]]:
            bound = await model.attach(adapter)
            assert same(await complete(bound, under_test.prompts[0], _SHORT), alone[who][0])
            await bound.aclose()


class AdapterContract(AdapterTests, ModelContract):
    """What a `TextModel` that is an `AdapterModel` must do. Wants the fixture that `ModelContract` does."""

    takes_adapters = True


def _as_base(model: TextModel) -> AdapterModel:
    assert isinstance(model, AdapterModel)
    return model
