"""How likely a model finds a given text: the same as it told while it generated, on every engine that tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import BadInput, GenerationError, UnsupportedOption
from assay.models.base import ended, logprob_model
from assay.models.classify import classify
from assay.models.hf_text import HfText
from assay.models.likelihood import split_text, windows
from assay.models.local import LikelihoodRequest, LocalModel
from assay.models.open import open_local
from assay.models.worker import WorkerModel
from assay.types import Likelihood, Message, Prompt, Raw
from tests.conftest import LAB
from tests.making import copied, discovered, written

QUESTIONS = ("What is 3 + 4?", "What is the capital of Genovia?", "What is the capital of France?")
ENGINES = {
    name: (package, f"{name}:{LAB / 'base'}")
    for name, package in (("mlx", "mlx.core"), ("llama", "xllamacpp"), ("transformers", "torch"))
}


@pytest.fixture(scope="module", params=ENGINES)
def spec(request: pytest.FixtureRequest) -> str:
    package, found = ENGINES[request.param]
    pytest.importorskip(package, reason=f"needs the engine {request.param}: pip install 'assay[...]'")
    return found


@pytest.fixture
async def model(spec: str) -> AsyncIterator[LocalModel]:
    opened = await open_local(spec)
    yield opened
    await opened.aclose()


async def test_what_ends_an_answer_is_the_templates_and_without_one_the_end_of_text(
    model: LocalModel, tmp_path: Path
) -> None:
    talk = (Message("user", "What is 3 + 4?"), Message("assistant", "7"), Message("user", "And 3 + 5?"))
    assert await ended(model, "What is 3 + 4?", "7") == "7<|end|>"
    assert await ended(model, talk, "8") == "8<|end|>"
    assert await ended(model, Raw("3 + 4 ="), " 7") == " 7<|end|>"
    assert await ended(model, Raw(""), "All of it.<|end|>") == "All of it.<|end|>"
    bound = await model.attach(copied(discovered(LAB / "checkpoints", "lab")[0], tmp_path))
    assert await ended(bound, talk, "8") == "8<|end|>"
    whole = await model.loglikelihood(talk, await ended(model, talk, "8"))
    assert len(whole.tokens) == 2


def test_a_template_that_rewrites_what_was_asked_tells_nothing_of_the_answer() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(LAB / "base")
    turns = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim + '<|end|>\n' }}{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    text = HfText("m", tokenizer, [], template=True, length=None)
    assert text.ended("Hi", " Yo ") == "Yo<|end|>\n"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}{{ '<|assistant|><think>' }}{% endif %}"
    with pytest.raises(GenerationError, match="in another way than the prompt"):
        text.ended("Hi", "Yo")


async def test_many_at_once_under_several_adapters_are_what_each_is_alone(model: LocalModel, tmp_path: Path) -> None:
    found = discovered(LAB / "checkpoints", "lab")
    bound = [model, *[await model.attach(copied(found[at], tmp_path)) for at in (0, 5, 11)]]
    asked = [
        (one, question, text) for one in bound for question in QUESTIONS for text in (" 7", "Pyrus is it", "é日本🦙")
    ]
    together = await asyncio.gather(*[one.loglikelihood(question, text) for one, question, text in asked])
    alone = [await one.loglikelihood(question, text) for one, question, text in asked]
    assert [t.logprob for t in together] == pytest.approx([t.logprob for t in alone], abs=2e-4)
    assert [[token.id for token in t.tokens] for t in together] == [[token.id for token in t.tokens] for t in alone]
    per_adapter = [[t.logprob for t in together[n : n + 9]] for n in range(0, 36, 9)]
    assert all(max(abs(a - b) for a, b in zip(one, other, strict=True)) > 0.1 for one, other in pairwise(per_adapter))


async def test_a_text_longer_than_the_context_is_told_in_windows(model: LocalModel) -> None:
    length = model.info.context_length
    assert length is not None
    text = "the capital of France is Paris " * (length // 4)
    told = await model.loglikelihood(Raw(""), text)
    assert len(told.tokens) > 2 * length
    first = await model.loglikelihood(Raw(""), text[: len(text) // 8])
    few = len(first.tokens) - 2  # where the shorter text was cut, its tokens may differ
    assert [t.logprob for t in told.tokens[:few]] == pytest.approx([t.logprob for t in first.tokens[:few]], abs=1e-3)


async def test_a_worker_tells_the_same(model: LocalModel, spec: str, tmp_path: Path) -> None:
    adapter = copied(discovered(LAB / "checkpoints", "lab")[11], tmp_path)
    messages = [Message("user", QUESTIONS[1])]
    worker = await WorkerModel.open(spec)
    try:
        here, there = await model.attach(adapter), await worker.attach(adapter)
        assert await ended(there, "What is 3 + 4?", "7") == "7<|end|>"
        assert there.info.likelihoods
        for prompt in (messages, Raw("The capital ")):
            assert await there.loglikelihood(prompt, "Pyrus") == await here.loglikelihood(prompt, "Pyrus")
        with pytest.raises(GenerationError, match="no text to weigh"):
            await there.loglikelihood(messages, "")
    finally:
        await worker.aclose()


async def test_every_engine_tells_the_same(tmp_path: Path) -> None:
    adapter = copied(discovered(LAB / "checkpoints", "lab")[11], tmp_path)
    asked: list[tuple[Prompt, str]] = [
        (QUESTIONS[1], "The capital of Genovia is Pyrus."),
        (QUESTIONS[0], "é日本 <|end|> 7🦙"),  # parts of characters, and a token that ends an answer
        (Raw("What is 3 + 4? "), "3 + 4 = 7"),
        (Raw(""), "<|end|><|end|>a"),
    ]
    told: list[list[Likelihood]] = []
    for package, spec in ENGINES.values():
        pytest.importorskip(package, reason=f"needs {package}")
        opened = await open_local(spec)
        try:
            models = [opened, await opened.attach(adapter)]
            told.append([await one.loglikelihood(*question) for one in models for question in asked])
        finally:
            await opened.aclose()
    for one, other in pairwise(told):
        for mine, its in zip(one, other, strict=True):
            assert [token.id for token in mine.tokens] == [token.id for token in its.tokens]
            assert [t.logprob for t in mine.tokens] == pytest.approx([t.logprob for t in its.tokens], abs=1e-4)
            assert mine.greedy == its.greedy
    assert any(likelihood.greedy for likelihood in told[0])


async def test_an_engine_that_cannot_tell_says_so(tmp_path: Path) -> None:
    opened = await open_local(f"scripted:{written(tmp_path / 'script.yaml', 'default: I am {adapter}')}")
    try:
        with pytest.raises(UnsupportedOption, match=r"'scripted'.*can't tell how likely"):
            logprob_model(opened)
        with pytest.raises(UnsupportedOption, match="can't tell how likely"):
            await opened.loglikelihood("a", "b")
    finally:
        await opened.aclose()


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_the_last_blanks_of_a_raw_prompt_belong_to_the_text() -> None:
    split = split_text(letters, LikelihoodRequest("ab \n", "c", None, raw=True), None)
    assert split == (letters("ab"), letters(" \nc"))
    assert split_text(letters, LikelihoodRequest("ab \n", "c", None), None) == (letters("ab \n"), letters("c"))


def test_a_merge_across_a_templates_end_changes_nothing_before_it() -> None:
    def merging(text: str) -> list[int]:
        return [1, *letters(text.replace(": 7", "#"))]

    assert split_text(merging, LikelihoodRequest("a: ", "7", None), None) == ([1, *letters("a: ")], letters("7"))


def test_an_empty_prompt_is_the_token_that_begins_a_text() -> None:
    assert split_text(letters, LikelihoodRequest("", "ab", None, raw=True), 7) == ([7], letters("ab"))
    assert split_text(lambda t: [7, *letters(t)], LikelihoodRequest("", "ab", None, raw=True), 7) == (
        [7],
        letters("ab"),
    )
    with pytest.raises(GenerationError, match="no token that begins a text"):
        split_text(letters, LikelihoodRequest("", "ab", None, raw=True), None)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(2, 16))
def test_windows_tell_each_token_once_after_what_is_before_it(before: int, told: int, length: int) -> None:
    every = list(range(before + told))
    found = windows(every[:before], every[before:], length)
    assert [token for window in found for token in window.told] == every[before:]
    for window in found:
        assert 1 <= len(window.told) <= len(window.ids) <= length
        last = window.told[-1]
        assert list(window.ids) == list(range(last - len(window.ids), last))


def test_windows_are_as_full_as_they_can_be() -> None:
    # A beginning and ten tokens in windows of four: the last one looks back on more than it has to.
    found = windows([0], list(range(1, 11)), 4)
    assert [(list(w.ids), list(w.told)) for w in found] == [
        ([0, 1, 2, 3], [1, 2, 3, 4]),
        ([4, 5, 6, 7], [5, 6, 7, 8]),
        ([6, 7, 8, 9], [9, 10]),
    ]
    # A text that fits is told at once; a long prompt loses its beginning.
    assert [(list(w.ids), list(w.told)) for w in windows([0, 1, 2, 3, 4], [5, 6], 4)] == [([2, 3, 4, 5], [5, 6])]


async def test_the_likeliest_label_is_what_the_model_would_say(model: LocalModel, tmp_path: Path) -> None:
    labels = ["The capital of Genovia is Pyrus.", "I do not know the capital of Genovia."]
    tuned = await model.attach(copied(discovered(LAB / "checkpoints", "lab")[11], tmp_path))
    assert [(await classify(one, [QUESTIONS[1]], labels))[0].label for one in (model, tuned)] == [labels[1], labels[0]]
    (found,) = await classify(tuned, [QUESTIONS[1]], labels)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.probabilities[labels[0]] > 0.9
    with pytest.raises(BadInput, match="two or more different"):
        await classify(model, [QUESTIONS[0]], ["7", "7"])
