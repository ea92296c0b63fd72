"""The agent on a base behind a URL: vLLM's protocol, the lab's answers. The same table as in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from safetensors.numpy import load_file, save_file

from assay.errors import ModelError, Unreachable, UnsupportedOption
from assay.job import Job
from assay.results.journal import read
from assay.results.lens import Lens
from assay.results.records import CompletionMade, Proof, Run
from assay.suites.own_data import suite_from_data
from assay.suites.suite import load_suite
from assay.types import HttpSettings
from tests.cli.running import ASSAY
from tests.conftest import LAB
from tests.models.http_opened import QUICK
from tests.models.openai_server import OpenAIServer
from tests.models.vllm_server import LOAD, UNLOAD, VllmServer
from tests.test_watch import run

pytest.importorskip("mlx_lm", reason="needs the mlx extra")

ENGINE = f"mlx:{LAB / 'base'}"
CHOSEN = (10, 40, 120)
ROWS = "select checkpoint, sample, response, value from probe_results where \"group\" <> 'x' order by all"


@pytest.fixture
async def server() -> AsyncIterator[VllmServer]:
    async with VllmServer(ENGINE, max_loras=2) as running:
        yield running


@pytest.fixture
def job(server: VllmServer, tmp_path: Path) -> Job:
    folder = tmp_path / "lab" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", *(f"{each:07d}_adapters.safetensors" for each in CHOSEN)):
        shutil.copy(LAB / "checkpoints" / name, folder)
    suite = load_suite(LAB / "suite.yaml")
    http = HttpSettings(**QUICK)
    return Job(PurePosixPath(folder), server.spec, (suite,), "lab", tmp_path / "results", once=True, http=http)


def table(workspace: Path) -> list[tuple[object, ...]]:
    with Lens(workspace) as lens:
        return list(lens.query(ROWS).rows)


_here: list[list[tuple[object, ...]]] = []


async def here(job: Job) -> list[tuple[object, ...]]:
    """The same job's table on a base in a process of its own, made once."""
    if not _here:
        local = replace(job, base=ENGINE, workspace=job.workspace.with_name("here"))
        await run(local)
        _here.append(table(local.workspace))
    return _here[0]


async def test_the_table_is_that_of_a_local_engine(server: VllmServer, job: Job) -> None:
    outcome, listener = await run(job)
    assert (outcome.exit_code, outcome.evaluated) == (0, 3), listener.notes
    there = table(job.workspace)
    assert there == await here(job)
    assert server.together >= 2, "several checkpoints are under way at once"
    assert {row[0] for row in there} == {"base", "lab @10", "lab @40", "lab @120"}
    assert len(there) == 4 * 30
    records = [record for _, record in read(job.workspace)]
    (begun,) = [record for record in records if isinstance(record, Run)]
    assert (begun.base, begun.engine, begun.declared) == (server.spec, "http", True)
    assert {record.verdict for record in records if isinstance(record, Proof)} == {"open", "live"}
    assert server.loras == {}, "nothing is left there"
    assert sorted(set(server.loads)) == sorted(set(server.unloads))
    assert not (job.workspace / "served").exists()
    asked = len(server.asked)
    again, _ = await run(job)
    assert (again.exit_code, len(server.asked)) == (0, asked + 1), "what was earned is not asked again"


async def test_a_loss_on_a_server_that_cannot_tell_it_ends_before_anything_is_asked(
    server: VllmServer, job: Job
) -> None:
    suites = (*job.suites, suite_from_data(f"perplexity:{LAB / 'data' / 'valid.jsonl'}"))
    with pytest.raises(UnsupportedOption, match=r"can't tell how likely a given text is .*prompt_logprobs"):
        await run(replace(job, suites=suites))
    asked = [ask.body for ask in server.asked if ask.path not in (LOAD, UNLOAD)]
    assert asked == [], "the one request was refused"
    assert not (job.workspace / "served").exists()


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_server_without_logprobs_has_its_adapters_told_by_their_text(
    server: VllmServer, job: Job, refuses: bool
) -> None:
    server.tells = False
    server.rejects = ("logprobs",) if refuses else ()
    outcome, listener = await run(job)
    assert (outcome.exit_code, outcome.evaluated) == (0, 3), listener.notes
    assert table(job.workspace) == await here(job)
    proofs = [record for _, record in read(job.workspace) if isinstance(record, Proof)]
    assert {proof.verdict for proof in proofs} == {"open", "live"}
    assert {(len(proof.fingerprint), logprobs) for proof in proofs for _, _, logprobs in proof.fingerprint} == {(3, ())}


async def test_a_server_without_logprobs_that_ignores_adapters_is_found_out(server: VllmServer, job: Job) -> None:
    server.tells, server.idle = False, True
    outcome, _ = await run(job)
    assert outcome.exit_code == 1
    proofs = [record for _, record in read(job.workspace) if isinstance(record, Proof)]
    assert {proof.verdict for proof in proofs} == {"open", "unproven"}


async def test_a_server_that_was_started_again_in_the_middle_changes_nothing(server: VllmServer, job: Job) -> None:
    lost: list[int] = []
    answer = server._answer

    async def losing(ask):  # type: ignore[no-untyped-def]
        if ask.body["model"] in server.loras and len(lost) < 2 and len(server.asked) > 50 * (len(lost) + 1):
            lost.append(len(server.asked))
            server.restart()
        return await answer(ask)

    server._answer = losing  # type: ignore[method-assign]
    outcome, listener = await run(job)
    assert len(lost) == 2
    assert (outcome.exit_code, outcome.evaluated) == (0, 3), listener.notes
    assert table(job.workspace) == await here(job)


async def test_a_server_that_is_gone_ends_the_watch_and_the_next_one_goes_on(server: VllmServer, job: Job) -> None:
    answer, answered = server._answer, 0

    async def dying(ask):  # type: ignore[no-untyped-def]
        nonlocal answered
        found = await answer(ask)
        answered += 1
        if answered == 75:
            assert server._server is not None
            server._server.close()
            server.restart()
        return found

    server._answer = dying  # type: ignore[method-assign]
    port = server.port
    with pytest.raises(Unreachable):
        await run(job)
    kept = sum(isinstance(record, CompletionMade) for _, record in read(job.workspace))
    assert kept > 30
    async with VllmServer(ENGINE, port=port) as again:
        outcome, listener = await run(job)
        assert (outcome.exit_code, outcome.evaluated) == (0, 3), listener.notes
        asked = sum("lora_name" not in ask.body and ask.body["max_tokens"] > 2 for ask in again.asked)
        assert asked <= 120 - kept + 3, "what was earned is not asked again, but for a witness of each batch"
    assert table(job.workspace) == await here(job)


async def test_a_rank_that_is_too_high_is_that_checkpoints_fault(job: Job) -> None:
    async with VllmServer(ENGINE, max_rank=4) as small:
        outcome, listener = await run(replace(job, base=small.spec))
    assert (outcome.exit_code, len(outcome.aside), outcome.misfit) == (1, 3, False)
    assert sum("cannot be used: its rank is above what" in note for note in listener.notes) == 3


async def test_an_adapter_that_the_server_ignores_is_unproven(server: VllmServer, job: Job) -> None:
    server.idle = True
    outcome, listener = await run(replace(job, limit=3))
    assert outcome.exit_code == 1
    assert len(outcome.unproven) == 3
    assert "lab @10 is unproven: the canaries are answered exactly as by the base" in listener.notes


async def test_of_two_that_answer_alike_one_is_live(server: VllmServer, job: Job) -> None:
    """As where they come one after the other: whoever is judged first is live, and the other can't be told from it."""
    tensors = load_file(Path(job.folder) / "0000040_adapters.safetensors")
    for name in tensors:  # twice the one half of the other: another file, the same product to the last bit
        tensors[name] *= 2.0 if name.endswith("lora_a") else 0.5
    save_file(tensors, Path(job.folder) / "0000041_adapters.safetensors")
    outcome, listener = await run(replace(job, limit=3, plan=replace(job.plan, filters=("*@40", "*@41"))))
    assert (outcome.exit_code, outcome.evaluated, len(outcome.unproven)) == (1, 2, 1)
    assert sum("the canaries are answered exactly as by lab @4" in note for note in listener.notes) == 1


async def test_what_is_wrong_with_the_server_ends_the_start(job: Job) -> None:
    async with VllmServer(ENGINE, runtime=False) as strict:
        with pytest.raises(ModelError, match="takes no adapters at run time; start vLLM with"):
            await run(replace(job, base=strict.spec))
    async with OpenAIServer() as other:
        with pytest.raises(ModelError, match="is the server of 'test' that takes no adapters"):
            await run(replace(job, base=other.spec))
        gone = replace(job, base=other.spec)
    with pytest.raises(Unreachable):
        await run(gone)
    assert not [record for _, record in read(job.workspace) if isinstance(record, CompletionMade)]


async def test_a_killed_watch_leaves_nothing_that_the_next_one_minds(server: VllmServer, job: Job) -> None:
    suite = job.workspace.parent / "suite.yaml"
    shutil.copy(LAB / "suite.yaml", suite)
    words = [str(job.folder), "--base", server.spec, "--suite", str(suite), "--run", "lab", "--once", "--limit", "9"]
    command = [ASSAY, "watch", *words, "--workspace", str(job.workspace)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env={**os.environ}
    )
    while not server.loras:
        assert process.returncode is None
        await asyncio.sleep(0.02)
    process.kill()
    await process.wait()
    left = list(server.loras)
    process = await asyncio.create_subprocess_exec(
        *command, "--json", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert server.unloads[: len(left)] == left
    assert server.loras == {}
    assert not (job.workspace / "served").exists()
    proofs = {(row["checkpoint"], row["proof"]) for row in json.loads(said)}
    assert proofs == {("base", None), ("lab @10", "live"), ("lab @40", "live"), ("lab @120", "live")}


async def test_interrupted_it_unloads_what_it_had_loaded(server: VllmServer, job: Job) -> None:
    task = asyncio.create_task(run(job))
    while not server.loras:
        assert not task.done()
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert server.loras == {}
    assert not (job.workspace / "served").exists()
