"""What must never become a number: answers of a lost adapter, of weights that are gone, of a file that was half a copy."""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from safetensors.numpy import load_file, save_file

from assay.adapters.files import check_against, read_adapter
from assay.cli import show
from assay.errors import AdapterBroken, AdapterMismatch, BadInput, Unreachable
from assay.job import Job
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.lens import Lens
from assay.results.records import CheckpointSeen, LossSeen, Run, ScoreMade
from assay.suites.suite import load_suite
from assay.watch import watch
from tests.conftest import LAB
from tests.making import SUITE, adapter_file, checkpoints, discovered, written
from tests.test_watch import Listener, asked, correct, faulty, job, polling, proofs, run, until

__all__ = ["job"]


def suite(job: Job, name: str) -> Job:
    text = SUITE.replace("name: small", f"name: {name}").replace("Question", f"{name} question")
    return replace(job, suites=(load_suite(written(job.workspace.parent / f"{name}.yaml", text)),))


async def test_what_a_lost_adapter_said_is_never_called_live_later(job: Job) -> None:
    """Unproven in one suite, live in the next: the first stays unproven, and a new run doesn't believe its answers."""
    losing = replace(faulty(job, "adapters: lose\nlose_after: 5\nlose_times: 3\n"), every=30)
    await run(losing)
    assert proofs(losing) == ["unproven"]
    await run(suite(losing, "other"))
    assert proofs(losing) == ["unproven"], "another suite's proof is none of this one's"
    with Lens(losing.workspace) as lens:
        assert list(lens.proofs("lab", "other").values()) == ["live"]
    before = len(asked(losing))
    second = replace(losing, run="second")
    await run(second)
    assert len(asked(losing)) == before + 4, "the four answers under the adapter are asked anew, the base's are not"
    assert proofs(second) == ["live"]
    assert correct(second)["second @30"] == (1, 2)


async def test_an_unproven_checkpoint_is_exit_code_1(job: Job) -> None:
    outcome, _ = await run(faulty(job, "adapters: ignore\n"))
    assert outcome.exit_code == 1
    assert list(outcome.unproven.values()) == ["lab @10", "lab @20", "lab @30"]


async def test_overwritten_weights_leave_the_table(job: Job) -> None:
    await run(job)
    adapter_file(job.folder / "0000020_adapters.safetensors", 99)
    await run(job)
    assert list(correct(job)) == ["base", "lab @10", "lab @20", "lab @30"]
    with Lens(job.workspace) as lens:
        digests = {cell.digest for cell in lens.cells("lab", "small") if cell.checkpoint == "lab @20"}
        kept = lens.query("select count(distinct digest) from all_cells where checkpoint = 'lab @20'").rows
    assert len(digests) == 1
    assert kept == ((2,),), "the journal forgets nothing"
    (job.folder / "0000020_adapters.safetensors").unlink()
    await run(job)
    assert "lab @20" in correct(job), "what the trainer deleted keeps its results"


async def test_two_folders_are_never_one_run(job: Job, tmp_path: Path) -> None:
    job = replace(job, run=None)
    await run(job)
    other = checkpoints(tmp_path / "elsewhere" / "lab" / "checkpoints", (40,))
    for _ in range(2):
        outcome, _ = await run(replace(job, folder=other))
        (name,) = outcome.runs
        assert re.fullmatch(r"lab-[0-9a-f]{6}", name)
        assert set(correct(replace(job, run=name))) == {"base", f"{name} @40"}
    assert set(correct(replace(job, run="lab"))) == {"base", "lab @10", "lab @20", "lab @30"}
    with pytest.raises(BadInput, match="is that of another folder"):  # a name that was given is not changed
        await run(replace(job, folder=other, run="lab"))
    await run(replace(job, folder=other, run="lab2"))
    assert "lab2 @40" in correct(replace(job, run="lab2"))


async def test_a_run_that_comes_while_one_watches_takes_no_other_folders_name(job: Job, tmp_path: Path) -> None:
    await run(replace(job, run=None))
    top = checkpoints(tmp_path / "second" / "first", (10,)).parent
    both = replace(job, folder=top, run=None)
    async with polling(both):
        await until(lambda: "first @10" in correct(replace(job, run="first")))
        checkpoints(top / "lab", (20,))
        await until(lambda: len(runs_of(job)) == 3)
        (fresh,) = runs_of(job) - {"lab", "first"}
        await until(lambda: f"{fresh} @20" in correct(replace(job, run=fresh)))
    assert set(correct(replace(job, run="lab"))) == {"base", "lab @10", "lab @20", "lab @30"}
    await run(both)  # what was under way when it was stopped
    again, listener = await run(both)
    assert set(again.runs) == {"first", fresh}, "it keeps its name"
    assert listener.done == 0


def runs_of(job: Job) -> set[str]:
    return {record.run for _, record in read(job.workspace) if isinstance(record, Run)}


async def test_a_run_that_was_moved_keeps_its_name(job: Job, tmp_path: Path) -> None:
    job = replace(job, run=None)
    await run(job)
    moved = tmp_path / "archive" / "lab" / "checkpoints"
    moved.parent.mkdir(parents=True)
    Path(job.folder).rename(moved)
    outcome, listener = await run(replace(job, folder=moved))
    assert outcome.runs == ["lab"]
    assert listener.done == 0


@pytest.mark.parametrize("named", ["lab", "adapters-vi"])
async def test_a_folder_keeps_its_name_whichever_folder_around_it_is_watched(
    job: Job, tmp_path: Path, named: str
) -> None:
    run_folder = tmp_path / "runs" / named
    inner = checkpoints(run_folder / "checkpoints", (10,))
    checkpoints(run_folder / "adapters", (20,))
    whole = replace(job, folder=tmp_path / "runs", run=None)
    outcome, _ = await run(whole)
    assert len(outcome.runs) == 2
    for folder in (inner, run_folder / "adapters", run_folder):
        again, listener = await run(replace(whole, folder=folder))
        assert set(again.runs) <= set(outcome.runs)
        assert listener.done == 0
    assert runs_of(job) == set(outcome.runs)
    labels = {record.checkpoint for _, record in read(job.workspace) if isinstance(record, CheckpointSeen)}
    assert not [label for label in labels if " . " in label]


async def test_a_folder_that_was_there_before_may_come_back(job: Job) -> None:
    with pytest.raises(BadInput, match="there is no folder") as caught:
        await run(replace(job, folder=Path(job.folder).parent / "elsewhere"))
    assert caught.value.exit_code == 2
    await run(job)
    Path(job.folder).rename(away := Path(job.folder).with_name("away"))
    with pytest.raises(Unreachable, match="it was there before, so try again later") as lost:
        await run(job)
    assert lost.value.exit_code == 3
    away.rename(job.folder)
    outcome, listener = await run(job)
    assert (outcome.exit_code, listener.done) == (0, 0)


async def test_links_that_lead_out_are_faults_of_their_checkpoints(job: Job, tmp_path: Path) -> None:
    outside = adapter_file(tmp_path / "secret" / "checkpoint-50" / "adapters.safetensors", 1)
    (job.folder / "0000040_adapters.safetensors").symlink_to(outside)
    (job.folder / "checkpoint-50").symlink_to(outside.parent)
    for _ in range(2):
        outcome, _ = await run(job)
        assert outcome.exit_code == 1
        assert [label for label, _ in outcome.unusable] == ["lab @40", "lab @50"]
        assert set(correct(job)) == {"base", "lab @10", "lab @20", "lab @30"}


async def test_runs_below_a_named_one_are_of_their_folder(job: Job) -> None:
    checkpoints(job.folder.parent / "other", (10,))
    both = replace(job, folder=job.folder.parent, run="mine")
    for _ in range(2):
        await run(both)
        assert set(correct(replace(job, run="mine/other"))) == {"base", "mine/other @10"}


async def test_a_name_that_was_given_is_that_watchs_own(job: Job) -> None:
    """What else is journaled of the folder doesn't rename it when another one of its name comes."""
    runs = job.folder.parent / "runs"
    both = replace(job, folder=runs, run=None)
    checkpoints(runs / "adapters-12b", (10,))
    await run(both)
    await run(replace(both, run="mine"))
    checkpoints(runs / "12b", (20,))
    checkpoints(runs / "begun", (30,))
    ledger = Ledger(job.workspace)
    log = runs / "begun" / "train.log"
    ledger.append(LossSeen(run="runs/begun", iteration=1, part="val", value=1.0, path=str(log)))
    for name, wanted in (
        (None, {"12b", "runs/12b", "runs/begun"}),
        ("mine", {"mine/adapters-12b", "mine/12b", "mine/begun"}),
    ):
        found = await replace(both, run=name).discovery(ledger.files()).look()
        assert {c.run for c in found.checkpoints} == wanted
    ledger.close()


async def test_a_run_that_has_only_begun_keeps_its_name(job: Job) -> None:
    """Else the base's answers would count for two runs."""
    runs = job.folder.parent / "runs"
    both = replace(job, folder=runs, run=None)
    half = adapter_file(runs / "adapters-12b" / "0000010_adapters.safetensors", 10)
    whole = half.read_bytes()
    half.write_bytes(whole[:500])
    async with polling(both) as listener:
        await until(lambda: listener.done == 4)
    checkpoints(runs / "12b", (20,))
    half.write_bytes(whole)
    await run(both)
    begun = [(r.run, r.tag) for _, r in read(job.workspace) if isinstance(r, Run)]
    assert begun[0] == ("12b", "gemma-3-12b")
    assert {name for name, _ in begun} == {"12b", "runs/12b"}


async def test_a_folder_whose_name_is_no_utf8_is_evaluated_and_known_again(job: Job) -> None:
    """Also a log in it, and a run and a damaged file of such a name."""
    folder = job.folder.parent / os.fsdecode(b"na\xefve\xff") / "\\xff"
    job.folder.rename(folder.parent.parent / "kept")
    folder.parent.mkdir()
    (folder.parent.parent / "kept").rename(folder)
    (folder / "train.log").write_text("Iter 10: Train loss 1.234, Learning Rate 1e-5")
    adapter_file(folder / "0000040_adapters.safetensors", 40).write_bytes(b"PK\x03\x04 no tensors at all")
    odd = replace(job, folder=folder.parent.parent, run=None)
    for times in range(2):
        outcome, listener = await run(odd)
        assert outcome.exit_code == 1
        assert listener.done == (0 if times else 16)
    with Lens(job.workspace) as lens:
        assert [path for (path,) in lens.query("select distinct path from losses").rows] == [
            f"{job.folder.parent}/na\\xefve\\xff/\\x5cxff/train.log"
        ]
    moved = replace(odd, folder=checkpoints(job.folder.parent.parent / "elsewhere" / "\\xff", (10,)))
    with pytest.raises(BadInput, match="is that of another folder"):
        await run(replace(moved, run=outcome.runs[0]))


@pytest.mark.parametrize("partner", [b"", b"half"])
def test_the_unnumbered_file_of_a_save_under_way_is_no_checkpoint(tmp_path: Path, partner: bytes) -> None:
    checkpoints(tmp_path, (10,))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "iters": 120, "save_every": 10}))
    fresh = adapter_file(tmp_path / ".new" / "adapters.safetensors", 20).read_bytes()
    (tmp_path / "adapters.safetensors").write_bytes(fresh)
    if partner:
        (tmp_path / "0000020_adapters.safetensors").write_bytes(fresh[:500])
    assert [c.iteration for c in discovered(tmp_path, "r")] == ([10, 20] if partner else [10])


def test_the_unnumbered_file_of_a_training_that_ended_between_two_saves_is_one(tmp_path: Path) -> None:
    checkpoints(tmp_path, (10, 20))
    adapter_file(tmp_path / "adapters.safetensors", 99)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    for iterations, found in ((25, [10, 20, 25]), (35, [10, 20]), (20, [10, 20])):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "iters": iterations, "save_every": 10}))
        assert [c.iteration for c in discovered(tmp_path, "r")] == found


def test_an_adapter_that_was_copied_alone_is_one(tmp_path: Path) -> None:
    adapter_file(tmp_path / "adapters.safetensors", 1)
    assert [c.iteration for c in discovered(tmp_path, "r")] == [30]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_adapter_that_holds_no_numbers_is_refused(tmp_path: Path, dtype: type, value: float) -> None:
    path = adapter_file(tmp_path / "adapters.safetensors", 1)
    tensors = {name: tensor.astype(dtype) for name, tensor in load_file(path).items()}
    tensors["model.layers.1.self_attn.q_proj.lora_b"][2, 3] = value
    save_file(tensors, path)
    with pytest.raises(AdapterBroken, match=r"layers\.1\.self_attn\.q_proj\.lora_b holds NaN or infinite"):
        read_adapter(path, tmp_path / "adapter_config.json")


def test_an_adapter_that_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    path = adapter_file(tmp_path / "adapters.safetensors", 1)
    tensors = {name: tensor for name, tensor in load_file(path).items() if "layers.1" in name}
    save_file(tensors, path)
    adapter = read_adapter(path, tmp_path / "adapter_config.json")
    base = {f"model.layers.{n}.self_attn.q_proj.weight": (16, 16) for n in range(2)}
    with pytest.raises(AdapterMismatch) as caught:
        check_against(adapter, base)
    assert [d.partition(":")[0] for d in caught.value.differences] == [
        "model.layers.0.self_attn.q_proj.lora_a",
        "model.layers.0.self_attn.q_proj.lora_b",
    ]


async def test_a_base_that_no_adapter_is_of_is_bad_input_and_said_once(job: Job) -> None:
    wrong = replace(job, base=f"llama:{LAB / 'base' / 'lab-f32.gguf'}", limit=1)
    for times in range(2):
        outcome, listener = await run(wrong)
        assert (outcome.exit_code, len(outcome.misfits)) == (2, 3)
        assert [note for note in listener.notes if "cannot be used" in note] == listener.notes[-3:], times
    listener = Listener()
    ledger = Ledger(job.workspace)
    try:  # one that polls ends as well: a week's waiting on the wrong base would look like work
        async with asyncio.timeout(60):
            outcome = await watch(replace(wrong, once=False), ledger, listener)
    finally:
        ledger.close()
    assert (outcome.exit_code, len(outcome.misfits)) == (2, 3)
    broken = adapter_file(job.folder / "0000040_adapters.safetensors", 40)
    broken.write_bytes(broken.read_bytes()[:-9])
    outcome, _ = await run(wrong)
    assert outcome.exit_code == 1, "the base is not all that is wrong"


async def test_what_comes_later_and_is_of_another_base_is_said_and_waited_on(job: Job, tmp_path: Path) -> None:
    empty = tmp_path / "later" / "lab"
    empty.mkdir(parents=True)
    wrong = replace(job, base=f"llama:{LAB / 'base' / 'lab-f32.gguf'}", limit=1, folder=empty)
    async with polling(wrong) as listener:
        await until(lambda: any(note.startswith("waiting for") for note in listener.notes))
        checkpoints(empty, (10,))
        await until(lambda: any("none of the checkpoints so far" in note for note in listener.notes))


async def test_two_runs_checkpoints_of_one_label_are_told_apart(job: Job) -> None:
    """In the first folder one of another base, in the second one that is broken, then one of another base too."""
    folder = Path(job.folder).parent / "runs"
    for number, run_name in enumerate(("p/adapters-12b", "q/adapters-12b")):
        adapter_file(folder / run_name / "0000010_adapters.safetensors", number)
    broken = folder / "q" / "adapters-12b" / "0000010_adapters.safetensors"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-10])
    wrong = replace(job, base=f"llama:{LAB / 'base' / 'lab-f32.gguf'}", limit=1, folder=folder, run=None)
    outcome, listener = await run(wrong)
    said = [note.partition(" cannot be used")[0] for note in listener.notes if "cannot be used" in note]
    assert (outcome.exit_code, len(outcome.misfits), len(outcome.unusable)) == (1, 1, 2)
    assert sorted(said) == ["G12 @0000010 of p/12b", "G12 @0000010 of q/12b"]
    broken.write_bytes(whole)
    outcome, listener = await run(wrong)
    assert (outcome.exit_code, len(outcome.misfits)) == (2, 2)
    assert sum("cannot be used" in note for note in listener.notes) == 2


async def test_a_folder_that_goes_away_while_polling_is_looked_for_again(job: Job) -> None:
    async with polling(job) as listener:
        await until(lambda: listener.done == 16)
        job.folder.rename(job.folder.with_name("away"))
        await until(lambda: any("looking again" in note for note in listener.notes))
        job.folder.with_name("away").rename(job.folder)
        adapter_file(job.folder / "0000040_adapters.safetensors", 40)
        await until(lambda: listener.done == 20)


async def test_questions_that_are_the_same_are_asked_once(job: Job) -> None:
    text = SUITE + "  - {id: e, group: new, prompt: Question a, target: wrong}\n"
    twice = replace(job, suites=(load_suite(written(job.workspace.parent / "twice.yaml", text)),))
    await run(twice)
    assert len(asked(twice)) == len(set(asked(twice))) == 16
    with Lens(twice.workspace) as lens:
        assert lens.query("select count(*) from cells").rows == ((20,),)


async def test_another_metric_beside_the_suites_own_decides_nothing(job: Job) -> None:
    """A judge's `a_metric` sorts before `correct`, and has no say in which checkpoint is best."""
    await run(job)
    decisions = []
    for _ in range(2):
        with Lens(job.workspace) as lens:
            [each] = lens.run_suites()
            assert each.metrics == ("correct",)
            decision = show._decision(lens.cells("lab", "small"), lens.proofs("lab", "small"), each)
        assert decision is not None
        decisions.append(decision.checkpoint)
        with Ledger(job.workspace).journal as journal:
            for _, record in list(read(job.workspace)):
                if isinstance(record, ScoreMade):
                    value = 9.0 if record.digest == "" else 1.0
                    changed = {"metric": "a_metric", "value": value, "high": 10.0, "key": "k" + record.key}
                    journal.append(structs.replace(record, **changed))
    assert decisions == ["lab @10", "lab @10"]


async def test_a_run_that_has_nothing_but_refused_checkpoints_is_shown_with_them(job: Job) -> None:
    folder = Path(job.folder).parent / "runs"
    weights = adapter_file(folder / "only" / "checkpoint-7" / "adapter_model.bin", 7)
    outcome, listener = await run(replace(job, folder=folder, run=None))
    assert outcome.exit_code == 1
    [said] = [note for note in listener.notes if "cannot be used" in note]
    assert said.startswith(f"only @7 cannot be used: {weights}: pickled weights can run code and are never read")
    with Lens(job.workspace) as lens:
        assert {cell.checkpoint for cell in lens.cells("only", "small")} == {"base"}
