"""A real vLLM tells how likely texts are: what the same weights say here, under adapters, and while it answers others."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from assay.job import Job
from assay.models.base import TextModel, asked_logprob_model, complete
from assay.models.http_open import open_http
from assay.models.open import open_local
from assay.results.lens import Lens
from assay.suites.own_data import suite_from_data
from assay.types import Adapter, EngineSettings, GenerateOptions, HttpSettings, Likelihood
from tests.conftest import LAB
from tests.making import copied, discovered
from tests.models.test_http_likelihood import TEXTS
from tests.test_watch import run
from tests.vllm.real import CONTEXT

pytest.importorskip("torch", reason="needs the torch extra: pip install 'assay[torch]'")
pytest.importorskip("peft", reason="needs the torch extra: pip install 'assay[torch]'")

HERE = f"transformers:{LAB / 'base'}"
LOSSES = "select checkpoint, sample, value from scores where metric = 'loss' order by all"


@pytest.fixture
def adapters(tmp_path: Path) -> list[Adapter]:
    found = discovered(LAB / "checkpoints", "lab")
    return [copied(found[at], tmp_path) for at in (1, 5)]


async def weighed(models: Sequence[TextModel]) -> list[list[Likelihood]]:
    """All texts under each of the models, all of them at once."""
    told = [await asked_logprob_model(model) for model in models]
    every = [asyncio.gather(*(each.loglikelihood(*text) for text in TEXTS)) for each in told]
    return await asyncio.gather(*every)


async def test_numbers_are_those_of_transformers_while_others_are_answered(spec: str, adapters: list[Adapter]) -> None:
    there = open_http(spec, HttpSettings())
    here = await open_local(HERE, EngineSettings(context_length=CONTEXT - 2))
    remote = [there, *[await there.attach(each) for each in adapters]]
    local = [here, *[await here.attach(each) for each in adapters]]
    long = GenerateOptions(max_tokens=60)
    others = [asyncio.create_task(complete(model, "What is the capital of Genovia?", long)) for model in remote * 4]
    found, same = await weighed(remote), await weighed(local)
    await asyncio.gather(*others)
    for of_one, of_other in zip(found, same, strict=True):
        for one, other in zip(of_one, of_other, strict=True):
            assert [token.id for token in one.tokens] == [token.id for token in other.tokens]
            assert [t.logprob for t in one.tokens] == pytest.approx([t.logprob for t in other.tokens], abs=1e-4)
            assert one.greedy == other.greedy
    assert len({each.logprob for each in (of[3] for of in found)}) == 3, "each adapter has its own"
    for model in (*remote[1:], there, *local[1:], here):
        await model.aclose()


async def test_a_watchs_losses_are_those_of_a_local_base(spec: str, tmp_path: Path) -> None:
    folder = tmp_path / "lab" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "0000010_adapters.safetensors", "0000120_adapters.safetensors"):
        shutil.copy(LAB / "checkpoints" / name, folder)
    suite = suite_from_data(f"perplexity:{LAB / 'data' / 'valid.jsonl'}")
    job = Job(PurePosixPath(folder), spec, (suite,), "lab", tmp_path / "there", once=True)
    tables = []
    for each in (job, replace(job, base=HERE, workspace=tmp_path / "here")):
        outcome, listener = await run(each)
        assert (outcome.exit_code, outcome.evaluated) == (0, 2), listener.notes
        with Lens(each.workspace) as lens:
            tables.append(lens.query(LOSSES).rows)
    assert [row[:2] for row in tables[0]] == [row[:2] for row in tables[1]]
    assert [row[2] for row in tables[0]] == pytest.approx([row[2] for row in tables[1]], abs=1e-4)
    assert len(tables[0]) == 3 * len(suite.samples)
