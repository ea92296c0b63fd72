"""The agent on GGUF adapters: scored as the safetensors that they were made of, asked once, and refused on another engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assay.adapters.convert import mlx_to_gguf
from assay.adapters.files import read_adapter
from assay.adapters.gguf_header import read_gguf_header
from assay.job import Job
from assay.results.journal import read
from assay.results.lens import Lens
from assay.results.records import CompletionMade
from assay.suites.suite import load_suite
from tests.conftest import LAB
from tests.test_watch import run

BASE = LAB / "base" / "lab-f32.gguf"
WRITTEN = LAB / "checkpoints"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = tmp_path / "lab" / "checkpoints"
    header = read_gguf_header(BASE)
    heads, kv_heads = header.integer("attention.head_count"), header.integer("attention.head_count_kv")
    assert heads is not None
    assert kv_heads is not None
    for iteration, name in ((20, "lora-20.gguf"), (60, "checkpoint-60/adapter-f32.gguf")):
        adapter = read_adapter(WRITTEN / f"{iteration:07d}_adapters.safetensors", WRITTEN / "adapter_config.json")
        mlx_to_gguf(adapter, folder / name, arch=header.architecture, heads=heads, kv_heads=kv_heads)
    suite = load_suite(LAB / "suite.yaml")
    return Job(folder, f"llama:{BASE}", (suite,), "lab", tmp_path / "results", once=True, limit=6)


def answers(job: Job) -> dict[tuple[str, str], str]:
    with Lens(job.workspace) as lens:
        rows = lens.query("select checkpoint, sample, response from probe_results").rows
    return {(str(checkpoint), str(sample)): str(response) for checkpoint, sample, response in rows}


async def test_gguf_adapters_are_evaluated_as_what_they_were_made_of(job: Job) -> None:
    outcome, _ = await run(job)
    assert outcome.exit_code == 0
    originals = replace(job, folder=WRITTEN, workspace=job.workspace.with_name("originals"))
    originals = replace(originals, plan=replace(job.plan, filters=("*@20", "*@60")))
    await run(originals)
    found = answers(job)
    assert found == answers(originals)
    assert {checkpoint for checkpoint, _ in found} == {"base", "lab @20", "lab @60"}
    asked = sum(isinstance(record, CompletionMade) for _, record in read(job.workspace))
    again, _ = await run(job)
    assert again.exit_code == 0
    assert sum(isinstance(record, CompletionMade) for _, record in read(job.workspace)) == asked


async def test_a_folder_that_holds_other_weights_too_is_the_gguf_base_to_llama_cpp(job: Job) -> None:
    file, folder = job, replace(job, base=f"llama-server:{LAB / 'base'}", workspace=job.workspace.with_name("folder"))
    for each in (file, folder):
        outcome, _ = await run(replace(each, limit=1))
        assert outcome.exit_code == 0
    assert answers(folder) == answers(file) != {}


async def test_on_another_engine_they_are_refused_by_name(job: Job) -> None:
    pytest.importorskip("mlx_lm")
    outcome, listener = await run(replace(job, base=f"mlx:{LAB / 'base'}", limit=1))
    assert (outcome.exit_code, len(outcome.misfits)) == (2, 2)
    said = [note for note in listener.notes if "cannot be used" in note]
    assert [note.partition(" cannot")[0] for note in said] == ["lab @20", "lab @60"]
    assert all("it is a GGUF adapter, which only llama.cpp takes" in note for note in said)
