"""The agent on a scripted engine: what is found, what waits, what is set aside, what a fault costs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from assay.account import Outcome
from assay.errors import BadInput
from assay.evaluated import SampleResult
from assay.job import Job
from assay.plan import PlanConfig
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.lens import Lens
from assay.results.records import CompletionMade, Proof
from assay.suites.suite import load_suite
from assay.watch import watch
from tests.making import SCRIPT, SUITE, adapter_file, checkpoints, written


class Listener:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.subjects: list[str] = []
        self.total = 0
        self.behind = 0
        self.done = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def expect(self, samples: int) -> None:
        self.total = self.behind + samples

    def settled(self, samples: int) -> None:
        self.behind += samples

    def subject(self, label: str, suite: str) -> None:
        self.subjects.append(label)

    def answered(self, result: SampleResult) -> None:
        self.done += 1


@pytest.fixture
def job(tmp_path: Path) -> Job:
    script = written(tmp_path / "script.yaml", SCRIPT)
    suite = load_suite(written(tmp_path / "suite.yaml", SUITE))
    folder = checkpoints(tmp_path / "lab" / "checkpoints")
    return Job(folder, f"scripted:{script}", (suite,), "lab", tmp_path / "results", once=True, poll_seconds=0.05)


async def run(job: Job) -> tuple[Outcome, Listener]:
    listener = Listener()
    ledger = Ledger(job.workspace)
    try:
        return await watch(job, ledger, listener), listener
    finally:
        ledger.close()


@asynccontextmanager
async def polling(job: Job) -> AsyncIterator[Listener]:
    listener = Listener()
    ledger = Ledger(job.workspace)
    task = asyncio.create_task(watch(replace(job, once=False), ledger, listener))
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ledger.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def correct(job: Job) -> dict[str, tuple[int, int]]:
    """checkpoint → (right on new, right on old)."""
    with Lens(job.workspace) as lens:
        cells = lens.cells(job.run, "small")
    table: dict[str, dict[str, int]] = {}
    for cell in cells:
        row = table.setdefault(cell.checkpoint, {"new": 0, "old": 0})
        row[cell.group] += int(cell.value or 0)
    return {name: (row["new"], row["old"]) for name, row in table.items()}


def proofs(job: Job) -> list[str]:
    with Lens(job.workspace) as lens:
        order = {cell.digest: None for cell in lens.cells(job.run, "small") if cell.digest}
        known = lens.proofs(job.run, "small")
    return [known[job.run, digest] for digest in order]


def asked(job: Job) -> list[str]:
    return [r.key for _, r in read(job.workspace) if isinstance(r, CompletionMade)]


async def test_a_folder_is_evaluated_once_and_proved(job: Job) -> None:
    outcome, listener = await run(job)
    assert outcome.exit_code == 0
    assert correct(job) == {"base": (0, 2), "lab @10": (1, 2), "lab @20": (1, 2), "lab @30": (1, 2)}
    assert proofs(job) == ["live"] * 3
    assert listener.done == 16
    assert listener.behind == listener.total == 20, "the file without a number turns out to be the last numbered one"
    assert len(asked(job)) == len(set(asked(job))) == 16
    again, listener = await run(job)
    assert again.exit_code == 0
    assert listener.done == 0
    assert listener.behind == listener.total == 12, "the base needs no asking, and the others are settled"
    assert len(asked(job)) == 16, "nothing finished is asked again"


async def test_a_larger_limit_asks_only_for_the_rest(job: Job) -> None:
    await run(replace(job, limit=2))
    assert correct(job)["base"] == (0, 1)
    assert len(asked(job)) == 8
    await run(job)
    assert len(asked(job)) == len(set(asked(job))) == 16
    _, listener = await run(replace(job, limit=2))
    assert listener.done == 0


async def test_every_takes_multiples_only(job: Job) -> None:
    await run(replace(job, every=20))
    assert set(correct(job)) == {"base", "lab @20"}


async def test_an_unnumbered_file_of_its_own_is_a_checkpoint(job: Job) -> None:
    adapter_file(job.folder / "adapters.safetensors", 99)
    config = job.folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"iters": 30', '"iters": 35'))
    await run(job)
    assert list(correct(job)) == ["base", "lab @10", "lab @20", "lab @30", "lab @35"]


async def test_equal_weights_are_one_checkpoint(job: Job) -> None:
    shutil.copy(job.folder / "0000010_adapters.safetensors", job.folder / "0000015_adapters.safetensors")
    _, listener = await run(job)
    assert "lab @15" not in correct(job)
    assert any("lab @15 has the weights of lab @10" in note for note in listener.notes)


@pytest.mark.parametrize("once", [True, False])
async def test_what_cannot_be_used_does_not_hold_up_the_others(job: Job, once: bool) -> None:
    os.truncate(job.folder / "0000010_adapters.safetensors", 300)
    (job.folder / "0000020_adapters.safetensors").write_bytes(b"PK\x03\x04 this is a zip of pickles" * 9)
    if once:
        outcome, _ = await run(job)
        assert outcome.exit_code == 1
        assert [label for label, _ in outcome.unusable] == ["lab @10", "lab @20"]
    else:
        async with polling(job) as listener:
            await until(lambda: sum("cannot be used" in n for n in listener.notes) == 2)
            await until(lambda: "lab @30" in listener.subjects and listener.done == 8)
    assert set(correct(job)) == {"base", "lab @30"}
    with Lens(job.workspace) as lens:
        unusable = lens.unusable("lab")
    assert [label for label, _ in unusable] == ["lab @10", "lab @20"]
    assert all("adapters.safetensors" in reason for _, reason in unusable)


async def test_while_polling_a_file_being_written_waits_and_is_picked_up(job: Job) -> None:
    whole = (job.folder / "0000030_adapters.safetensors").read_bytes()
    (job.folder / "adapters.safetensors").unlink()
    (job.folder / "0000030_adapters.safetensors").write_bytes(whole[:400])
    async with polling(job) as listener:
        await until(lambda: any("waiting for lab @30" in note for note in listener.notes))
        assert "lab @30" not in listener.subjects
        (job.folder / "0000030_adapters.safetensors").write_bytes(whole)
        await until(lambda: listener.done == 16)
        adapter_file(job.folder / "0000040_adapters.safetensors", 40)
        await until(lambda: listener.done == 20)
        # What is stopped before its proof is kept for the next start.
        await until(lambda: not list((job.workspace / "staged").glob("[0-9a-f]*")))
    assert set(correct(job)) == {"base", "lab @10", "lab @20", "lab @30", "lab @40"}
    assert not (job.workspace / "staged").exists(), "nothing of the copies is left behind"


async def test_an_empty_folder_is_waited_on(job: Job) -> None:
    shutil.rmtree(job.folder)
    job.folder.mkdir()
    with pytest.raises(BadInput, match="holds no checkpoint"):
        await run(job)
    async with polling(job) as listener:
        await until(lambda: any("waiting for the next checkpoint" in note for note in listener.notes))
        checkpoints(job.folder, (10,))
        await until(lambda: listener.done == 8)


async def test_bad_jobs_are_one_sentence(job: Job, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no folder"):
        await run(replace(job, folder=tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="is a file"):
        await run(replace(job, folder=tmp_path / "suite.yaml"))
    with pytest.raises(BadInput, match="multiple of --every 7"):
        await run(replace(job, every=7))
    with pytest.raises(BadInput, match="there is no model at"):
        await run(replace(job, base=str(tmp_path / "no-base")))
    with pytest.raises(BadInput, match=r"unknown engine 'scriptd'.*did you mean 'scripted'"):
        await run(replace(job, base="scriptd:x"))


def faulty(job: Job, how: str) -> Job:
    script = Path(job.base.removeprefix("scripted:"))
    return replace(job, base=f"scripted:{written(script, SCRIPT + how)}")


async def test_an_engine_that_ignores_adapters_is_caught(job: Job) -> None:
    _, listener = await run(faulty(job, "adapters: ignore\n"))
    assert proofs(job) == ["unproven"] * 3
    assert any("lab @10 is unproven: the canaries are answered exactly as by the base" in n for n in listener.notes)


async def test_an_engine_that_answers_with_the_previous_adapter_is_caught(job: Job) -> None:
    _, listener = await run(faulty(job, "adapters: previous\n"))
    assert proofs(job) == ["live", "unproven", "live"], "the first two answer alike, so the second is not its own"
    assert any("lab @20 is unproven: the canaries are answered exactly as by lab @10" in n for n in listener.notes)


async def test_an_adapter_lost_half_way_voids_the_batch_which_is_asked_again(job: Job) -> None:
    """The first checkpoint's adapter is lost after its two first answers, and never again: its batch is asked anew."""
    only = replace(faulty(job, "adapters: lose\nlose_after: 5\nlose_times: 1\n"), every=30)
    outcome, listener = await run(only)
    assert outcome.exit_code == 0
    assert any("the adapter was lost on the way: the canaries ended as from the base" in n for n in listener.notes)
    assert proofs(only) == ["live"]
    assert correct(only) == {"base": (0, 2), "lab @30": (1, 2)}
    verdicts = [r.verdict for _, r in read(only.workspace) if isinstance(r, Proof)]
    assert verdicts == ["open", "void", "open", "live"]
    assert len(asked(only)) == 12, "four of the base, four void, four asked again"


async def test_an_adapter_that_is_always_lost_is_unproven(job: Job) -> None:
    only = replace(faulty(job, "adapters: lose\nlose_after: 5\n"), every=30)
    await run(only)
    assert proofs(only) == ["unproven"]


async def test_an_interrupted_batch_that_does_not_repeat_is_void(job: Job) -> None:
    """What a killed watch got from an engine that had lost the adapter is not believed by the next one."""
    only = replace(faulty(job, "adapters: lose\nlose_after: 3\nlose_times: 1\n"), every=30, limit=1)
    await run(only)
    [segment] = (only.workspace / "journal").glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if b'"verdict":"void"' in line)
    segment.write_bytes(b"".join(lines[:cut]))
    assert correct(only)["lab @30"] == (0, 0), "the base's answer under the checkpoint's name"
    await run(only)
    assert correct(only) == {"base": (0, 0), "lab @30": (1, 0)}
    assert proofs(only) == ["live"]


async def test_an_interrupted_batch_that_repeats_is_kept(job: Job) -> None:
    only = replace(job, every=30)
    await run(only)
    [segment] = (only.workspace / "journal").glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    cut = [i for i, line in enumerate(lines) if b'"kind":"completion"' in line][-2]
    segment.write_bytes(b"".join(lines[:cut]))
    await run(only)
    assert len(asked(only)) == len(set(asked(only))) == 8
    assert proofs(only) == ["live"]
    assert correct(only) == {"base": (0, 2), "lab @30": (1, 2)}


def crashing(job: Job, times: str) -> Job:
    script = SCRIPT.replace(
        "  - {prompt: Question c", f"  - {{prompt: Question c, fail: die{times}}}\n  - {{prompt: Question c"
    )
    return replace(job, base=f"scripted:{written(Path(job.base.removeprefix('scripted:')), script)}")


async def test_an_engine_that_dies_once_costs_nothing_that_shows(job: Job) -> None:
    dying = crashing(job, ", times: 1")
    outcome, _ = await run(dying)
    assert outcome.exit_code == 0
    assert correct(dying) == {"base": (0, 2), "lab @10": (1, 2), "lab @20": (1, 2), "lab @30": (1, 2)}


async def test_a_checkpoint_that_kills_the_engine_twice_is_set_aside_with_the_reason(job: Job) -> None:
    dying = crashing(job, ", times: 4")
    outcome, _ = await run(dying)
    assert outcome.exit_code == 1
    [(label, reason)] = outcome.unusable
    assert label == "lab @10"
    assert "killed the engine twice at the sample c: the engine's process ended (killed by SIGKILL)" in reason
    with Lens(dying.workspace) as lens:
        failed = lens.query("select distinct checkpoint, sample, outcome, reason from failures").rows
        assert lens.unusable("lab") == [(label, reason)]
    assert [row[:3] for row in failed] == [("base", "c", "failed")], "the base can't be set aside"
    assert {"lab @20", "lab @30"} <= set(correct(dying))
    again, _ = await run(dying)
    assert [label for label, _ in again.unusable] == ["lab @10"], "it is not tried again by itself"
    assert correct(dying)["base"] == (0, 2), "a failure satisfies no key"
    await run(replace(dying, plan=PlanConfig(force=True), every=10))
    assert correct(dying) == {"base": (0, 2), "lab @10": (1, 2), "lab @20": (1, 2), "lab @30": (1, 2)}


async def test_killing_the_child_in_mid_sample_costs_nothing_that_shows(job: Job) -> None:
    slow = SCRIPT.replace(
        "{prompt: Question c, answer: right}", "{prompt: Question c, answer: right on and on, seconds: 0.2}"
    )
    dying = replace(job, base=f"scripted:{written(Path(job.base.removeprefix('scripted:')), slow)}")
    listener = Listener()
    ledger = Ledger(dying.workspace)
    task = asyncio.create_task(watch(dying, ledger, listener))
    killed: set[str] = set()
    while not task.done():
        await asyncio.sleep(0.1)
        subject = listener.subjects[-1] if listener.subjects else ""
        if subject.startswith("lab") and subject not in killed and listener.done % 4 == 2:
            killed.add(subject)
            for child in psutil.Process().children():
                os.kill(child.pid, signal.SIGKILL)
    outcome = await task
    ledger.close()
    assert len(killed) == 3
    assert outcome.exit_code == 0
    assert proofs(dying) == ["live"] * 3
    assert correct(dying) == {"base": (0, 2), "lab @10": (1, 2), "lab @20": (1, 2), "lab @30": (1, 2)}
    assert len(asked(dying)) == len(set(asked(dying))) == 16
