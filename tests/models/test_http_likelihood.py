"""How likely a text is, told by a server: what the same weights say here, or a sentence; never another number."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from assay.adapters.named import adapter_at
from assay.errors import GenerationError, ModelError, UnsupportedOption
from assay.evaluation import evaluate
from assay.models.base import asked_logprob_model, ended, logprob_model
from assay.models.classify import classify
from assay.models.http_adapters import AdaptedHttpModel
from assay.models.http_likelihood import weighed
from assay.models.http_limit import AdaptiveLimit
from assay.models.http_tokens import DETOKENIZE, TOKENIZE, ServerTokens, Special
from assay.models.open import open_local
from assay.suites.own_data import suite_from_data
from assay.types import Adapter, EngineSettings, Message, Prompt, Raw
from tests.conftest import LAB
from tests.making import copied, discovered, written
from tests.models.http_opened import opened
from tests.models.openai_server import Ask, OpenAIServer, Reply, error_body
from tests.models.recorded_vllm import INFO, METRICS, RecordedVllm

TALK = (
    Message("system", "Be brief."),
    Message("user", "Ünï 漢字 🙂?"),
    Message("assistant", "é"),
    Message("user", "And?"),
)
TEXTS: Sequence[tuple[Prompt, str]] = (
    (Raw("What is"), "  3 + 4?"),
    (Raw("What is "), "3 + 4?"),
    (Raw("漢"), "字 🙂🙂"),
    (Raw(""), "The capital of Norway is Oslo."),
    (Raw("  "), "The capital"),
    ("What is 3 + 4?", "3 + 4 = 7"),
    ("What is 3 + 4?", "3 + 4 = 7<|end|>"),
    ("", "x"),
    (TALK, "\n 漢字 🙂 naïve"),
    (Raw(""), "The capital of Norway is Oslo. What is 3 + 4? " * 30),
    (Raw("What is 3 + 4? " * 60), "3 + 4 = 7"),
)
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture
async def server() -> AsyncIterator[RecordedVllm]:
    async with RecordedVllm() as running:
        yield running


@pytest.fixture
async def model(server: RecordedVllm) -> AsyncIterator[AdaptedHttpModel]:
    async with opened(server) as found:
        yield found


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    return copied(discovered(LAB / "checkpoints", "lab")[5], tmp_path_factory.mktemp("adapter"))


async def test_numbers_are_those_of_transformers_with_and_without_an_adapter(
    model: AdaptedHttpModel, tuned: Adapter
) -> None:
    pytest.importorskip("torch", reason="needs the torch extra: pip install 'assay[torch]'")
    pytest.importorskip("peft", reason="needs the torch extra: pip install 'assay[torch]'")
    # A token that is told, and one that is generated, are part of the server's context of 256.
    here = await open_local(f"transformers:{LAB / 'base'}", EngineSettings(context_length=254))
    remote = [model, await model.attach(tuned)]
    local = [here, await here.attach(tuned)]
    for there, other in zip(remote, local, strict=True):
        told = await asked_logprob_model(there)
        found = await asyncio.gather(*(told.loglikelihood(*each) for each in TEXTS))
        for one, each in zip(found, TEXTS, strict=True):
            same = await other.loglikelihood(*each)
            assert [token.id for token in one.tokens] == [token.id for token in same.tokens], each
            assert [t.logprob for t in one.tokens] == pytest.approx([t.logprob for t in same.tokens], abs=1e-4), each
            assert one.greedy == same.greedy, each
        for prompt, answer in (("What is 3 + 4?", "7"), (TALK, "8"), (Raw("3 ="), " 7"), (Raw(""), "a<|end|>")):
            assert await ended(there, prompt, answer) == await ended(other, prompt, answer)
    assert (model.info.begin, model.info.begins) == (here.info.begin, here.info.begins)
    assert remote[1].info.likelihoods
    assert remote[1].info.adapter == tuned.digest
    await here.aclose()


async def test_what_a_server_can_is_known_once_it_was_asked(model: AdaptedHttpModel, server: RecordedVllm) -> None:
    assert not model.info.likelihoods
    assert not server.asked, "opening it asks nothing"
    with pytest.raises(UnsupportedOption, match="can't tell how likely"):
        logprob_model(model)
    await asked_logprob_model(model)
    asked = len(server.asked)
    assert logprob_model(model) is await asked_logprob_model(model)
    assert len(server.asked) == asked
    found = await classify(model, ["What is the capital of France?"], ["The capital of France is Paris.", "3 + 4 = 7"])
    assert found[0].label == "The capital of France is Paris."


async def test_a_server_that_passes_over_the_field_is_caught_and_asked_once() -> None:
    async with OpenAIServer() as server:
        server._checked = lambda method, path, headers, raw: _noted(server, path, raw)  # type: ignore[method-assign]
        async with opened(server) as model:
            for _ in range(2):
                with pytest.raises(UnsupportedOption, match=r"passes over prompt_logprobs.*transformers can, and vLLM"):
                    await asked_logprob_model(model)
            assert [ask.path for ask in server.asked] == [METRICS, COMPLETIONS]
            with pytest.raises(UnsupportedOption):
                await model.loglikelihood("a", "b")
            assert not model.info.likelihoods


def _noted(server: OpenAIServer, path: str, raw: bytes) -> Ask:
    ask = Ask(len(server.asked), path, {}, json.loads(raw) if raw else {})
    server.asked.append(ask)
    return ask


async def test_a_server_that_refuses_the_field_says_so() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        with pytest.raises(UnsupportedOption, match="Unrecognized request argument supplied: prompt_logprobs"):
            await asked_logprob_model(model)


async def test_without_a_tokenizer_to_ask_nothing_is_guessed() -> None:
    async with RecordedVllm(absent=(TOKENIZE,)) as server, opened(server) as model:
        with pytest.raises(UnsupportedOption, match=r"answered 404 to /tokenize"):
            await asked_logprob_model(model)


async def test_a_wrong_key_is_no_lack_of_the_server() -> None:
    async with OpenAIServer(key="right") as server, opened(server) as model:
        with pytest.raises(ModelError, match="ASSAY_API_KEY"):
            await asked_logprob_model(model)


async def test_what_begins_a_text_is_told_or_the_text_is_refused() -> None:
    async with RecordedVllm(absent=(INFO,)) as server, opened(server) as model:
        told = await asked_logprob_model(model)
        assert (model.info.begin, model.info.begins) == ("", False)
        for text in (Raw(""), Raw(" \n")):
            with pytest.raises(UnsupportedOption, match="--enable-tokenizer-info-endpoint"):
                await told.loglikelihood(text, "The capital")
        with pytest.raises(UnsupportedOption, match=r"which token ends a text.*--enable-tokenizer-info-endpoint"):
            await ended(model, Raw("3 ="), "7")
        assert await ended(model, "What is 3 + 4?", "7") == "7<|end|>"
        assert (await told.loglikelihood("What is 3 + 4?", "3 + 4 = 7")).greedy


async def test_a_suite_of_plain_text_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    data = written(tmp_path / "texts.jsonl", '{"text": "The capital of France"}\n{"text": "3 + 4 = 7"}\n')
    async with RecordedVllm(absent=(INFO,)) as server, opened(server) as model:
        with pytest.raises(UnsupportedOption, match="--enable-tokenizer-info-endpoint"):
            await evaluate(model, suite_from_data(f"perplexity:{data}"))
        assert [ask.path for ask in server.asked].count(COMPLETIONS) == 1, "whether it can"


async def test_a_failure_of_the_moment_is_asked_again(server: RecordedVllm, model: AdaptedHttpModel) -> None:
    await asked_logprob_model(model)
    failing = [Reply(status=500, raw=error_body("EngineCore busy")), Reply(status=429, raw=error_body("later"))]
    server.script = lambda ask: failing.pop() if failing and ask.path == COMPLETIONS else Reply()
    found = await model.loglikelihood("What is 3 + 4?", "3 + 4 = 7")
    assert found.greedy
    assert not failing


async def test_an_answer_of_another_model_is_no_number(tuned: Adapter) -> None:
    def as_base(reply: Any) -> Any:
        return {**reply, "model": "lab"}

    async with RecordedVllm(changed={COMPLETIONS: as_base}) as server, opened(server) as model:
        bound = await model.attach(tuned)
        with pytest.raises(GenerationError, match="answered in its place"):
            await bound.loglikelihood("What is 3 + 4?", "3 + 4 = 7")


async def test_an_adapter_of_the_output_layer_is_not_weighed_under(
    model: AdaptedHttpModel, tuned: Adapter, tmp_path: Path
) -> None:
    shutil.copytree(tuned.weights.parent, tmp_path / "head")
    file = tmp_path / "head" / tuned.weights.name
    pair = {"lm_head.lora_a": np.ones((128, 8), np.float32), "lm_head.lora_b": np.ones((8, 512), np.float32)}
    save_file({**load_file(file), **pair}, file)
    bound = await model.attach(adapter_at(tmp_path / "head"))
    with pytest.raises(GenerationError, match="output layer"):
        await bound.loglikelihood("What is 3 + 4?", "3 + 4 = 7")


async def test_one_that_takes_adapters_is_asked_one_text_at_a_time(
    server: RecordedVllm, model: AdaptedHttpModel
) -> None:
    together: list[int] = []

    def noted(ask: Ask) -> Reply:
        if ask.path == COMPLETIONS:
            together.append(server.active)
        return Reply(latency=0.02)

    server.script = noted
    await asked_logprob_model(model)
    texts = ["3 + 4 = 7", "3 + 4 = 7<|end|>"]
    await asyncio.gather(*(model.loglikelihood("What is 3 + 4?", text) for text in texts))
    assert set(together) == {0}, "the others wait"


async def test_one_that_takes_none_is_asked_several(server: RecordedVllm, model: AdaptedHttpModel) -> None:
    peak = 0

    def noted(ask: Ask) -> Reply:
        nonlocal peak
        if ask.path == METRICS:
            return Reply(raw=b'# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size="16"} 1.0\n')
        if ask.path == COMPLETIONS:
            peak = max(peak, server.active + 1)
        return Reply(latency=0.05)

    server.script = noted
    await asked_logprob_model(model)
    texts = ["3 + 4 = 7", "3 + 4 = 7<|end|>"]
    await asyncio.gather(*(model.loglikelihood("What is 3 + 4?", text) for text in texts))
    assert peak == 2


async def test_who_must_be_alone_waits_for_the_others_and_they_for_it() -> None:
    limit = AdaptiveLimit(4)
    await limit.acquire()
    alone = asyncio.create_task(limit.acquire(alone=True))
    after = asyncio.create_task(limit.acquire())
    left = asyncio.create_task(limit.acquire(alone=True))
    await asyncio.sleep(0)
    assert not alone.done()
    assert not after.done()
    limit.release()
    await alone
    await asyncio.sleep(0)
    assert limit.used == 1
    limit.release()
    await after
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    await asyncio.wait_for(limit.acquire(), 1)
    assert limit.used == 2, "nobody waits for one who left"


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (None, "of 3 tokens the server weighed 0"),
        ([None, {5: -1.0}], "of 3 tokens the server weighed 2"),
        ([None, {6: -1.0, 1: -0.5}, {7: -1.0}], "other tokens than those that were sent"),
        ([None, {5: -0.5, 1: -1.0}, {7: -1.0}], "other tokens than those that were sent"),
        ([None, None, {7: -1.0}], "other tokens than those that were sent"),
        ([None, {5: -1.0}, {7: -9999.0, 1: -0.5}], "no probability at all"),
        ([None, {5: -1.0}, {7: None, 1: -0.5}], "not numbers"),
        ([None, {5: 3.5, 1: 8.0}, {7: -1.0}], "no log-probabilities"),
        ([None, {5: -0.1, 1: -0.05}, {7: -1.0}], "no log-probabilities"),
    ],
)
def test_what_is_no_number_of_the_text_is_an_error(places: Any, said: str) -> None:
    with pytest.raises(GenerationError, match=said):
        weighed([9, 5, 7], places, 2)


def test_a_number_that_rounding_makes_positive_is_that_of_a_certain_token() -> None:
    assert [each.logprob for each in weighed([9, 5], [None, {5: 1e-7}], 1)] == [0.0]


def test_the_likeliest_of_equals_is_the_first_as_with_argmax() -> None:
    half = math.log(0.5)
    found = weighed([9, 5, 7, 8], [None, {5: half, 3: half}, {7: half, 8: half}, {8: -0.1}], 3)
    assert [(each.id, each.likeliest) for each in found] == [(5, False), (7, True), (8, True)]


async def _begun(path: str, body: Any, reading: Any) -> Any:
    """A tokenizer of characters that puts 1 before every text."""
    if path == DETOKENIZE:
        return reading(json.dumps({"prompt": "".join("^" if n == 1 else chr(n) for n in body["tokens"])}).encode())
    ids = [1 if char == "^" else ord(char) for char in body["prompt"]]
    ids = [1, *ids] if body["add_special_tokens"] else ids
    return reading(json.dumps({"tokens": ids, "count": len(ids), "max_model_len": 99}).encode())


async def test_a_token_that_is_put_before_every_text_begins_an_empty_prompt() -> None:
    tokens = ServerTokens("it", _begun, Special())
    await tokens.learn()
    assert (tokens.begin, tokens.begin_id, tokens.begins, tokens.length) == ("^", 1, True, 99)
    assert await tokens.encode("ab", raw=True) == [1, 97, 98]
    assert await tokens.encode("^ab", raw=True) == [1, 97, 98]
    assert await tokens.encode("ab", raw=False) == [97, 98], "a chat template begins a text itself"


async def test_text_that_tokens_do_not_give_back_is_refused() -> None:
    def other(reply: Any) -> Any:
        return {"prompt": reply["prompt"].replace("3 + 4", "3+4")}

    async with RecordedVllm(changed={DETOKENIZE: other}) as server, opened(server) as model:
        with pytest.raises(GenerationError, match="doesn't give back the text"):
            await model.loglikelihood("What is 3 + 4?", "7")
