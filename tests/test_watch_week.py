"""What a week brings: engines that crash under one checkpoint, faults that pass, a trainer that cleans up behind itself."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from assay.adapters.files import read_adapter
from assay.cli.planned import show_plan
from assay.errors import Unreachable
from assay.hosts.base import Copied
from assay.hosts.local import LocalHost
from assay.job import Job
from assay.plan import PlanConfig
from assay.results.journal import read, segments
from assay.results.lens import Lens
from assay.results.records import Attempt
from assay.staging import Staging
from assay.watch import PLAN_FILE
from tests.making import SCRIPT, adapter_file, checkpoints, copied, discovered, written
from tests.test_watch import asked, correct, job, polling, proofs, run, until

__all__ = ["job"]


async def test_a_checkpoint_that_kills_the_engine_again_and_again_is_set_aside_and_the_others_go_on(job: Job) -> None:
    deadly = adapter_digest(job, 20)
    script = SCRIPT.replace("answers:\n", f"answers:\n  - {{contains: Question, fail: die, adapter: {deadly[:8]}}}\n")
    dying = replace(job, base=f"scripted:{written(Path(str(job.base).removeprefix('scripted:')), script)}")
    outcome, _ = await run(dying)
    assert [label for label, _ in outcome.unusable] == ["lab @20"]
    assert "killed the engine" in outcome.unusable[0][1]
    assert {"lab @10", "lab @30"} <= set(correct(dying))
    before = len([r for _, r in read(job.workspace) if isinstance(r, Attempt)])
    again, listener = await run(dying)
    assert before == 1
    assert listener.done == 0, "it is not tried again"
    assert [label for label, _ in again.unusable] == ["lab @20"]
    _, listener = await run(replace(dying, plan=PlanConfig(force=True), every=20))
    assert listener.subjects == ["lab @20"], "unless it is asked for"


def adapter_digest(job: Job, iteration: int) -> str:
    path = Path(job.folder) / f"{iteration:07d}_adapters.safetensors"
    return read_adapter(path, path.parent / "adapter_config.json").digest


async def test_what_failed_for_a_while_is_tried_again_a_bounded_number_of_times(job: Job) -> None:
    script = SCRIPT.replace("answers:\n", "answers:\n  - {prompt: Question c, fail: error, times: 9}\n")
    failing = replace(
        job,
        base=f"scripted:{written(Path(str(job.base).removeprefix('scripted:')), script)}",
        every=30,
        plan=PlanConfig(attempts=3, backoff_seconds=0.05),
    )
    async with polling(failing):
        await until(lambda: tries(failing) == 3)
        await asyncio.sleep(0.5)
    assert tries(failing) == 3
    with Lens(failing.workspace) as lens:
        assert [label for label, _ in lens.unusable("lab")] == [], "its other samples have their scores"
    script = SCRIPT.replace("answers:\n", "answers:\n  - {prompt: Question c, fail: error, times: 3}\n")
    other = replace(failing, run="other", base=f"scripted:{written(job.workspace.parent / 'other.yaml', script)}")
    async with polling(other):
        await until(lambda: tries(other) == 5)  # the base's failed sample is none of a checkpoint's tries
        await until(lambda: correct(other)["other @30"] == (1, 2))


async def test_a_failed_try_is_waited_out(job: Job) -> None:
    script = SCRIPT.replace("answers:\n", "answers:\n  - {prompt: Question c, fail: error}\n")
    failing = replace(job, base=f"scripted:{written(Path(str(job.base).removeprefix('scripted:')), script)}", every=30)
    async with polling(failing):
        await until(lambda: tries(failing) > 0)
        plan_file = job.workspace / PLAN_FILE
        await until(lambda: len(json.loads(plan_file.read_bytes())["later"]) == 1)
        assert tries(failing) == 1


def tries(job: Job) -> int:
    return len([r for _, r in read(job.workspace) if isinstance(r, Attempt)])


@pytest.mark.parametrize("named", [True, False])
async def test_what_the_trainer_deletes_is_evaluated_all_the_same(job: Job, named: bool) -> None:
    slow = SCRIPT.replace("{prompt: Question d, answer: right}", "{prompt: Question d, answer: right on, seconds: 0.4}")
    slow_job = replace(job, base=f"scripted:{written(Path(str(job.base).removeprefix('scripted:')), slow)}")
    if not named:
        config = Path(job.folder) / "adapter_config.json"
        written(config, json.dumps({**json.loads(config.read_text()), "model": slow_job.base}))
        slow_job = replace(slow_job, base=None)
    async with polling(slow_job) as listener:
        await until(lambda: "lab @10" in listener.subjects)
        await until(lambda: len(list((job.workspace / "staged").glob("[0-9a-f]*"))) == 3)
        shutil.rmtree(job.folder)
        Path(job.folder).mkdir()
    if named:
        assert (await run(slow_job))[0].exit_code == 0
    async with polling(slow_job):
        await until(lambda: "lab @30" in correct(job) and correct(job)["lab @30"] == (1, 2))
    assert correct(job) == {"base": (0, 2), "lab @10": (1, 2), "lab @20": (1, 2), "lab @30": (1, 2)}


@pytest.mark.parametrize("once", [True, False])
async def test_weights_in_two_runs_are_asked_once_and_stand_in_both(job: Job, once: bool) -> None:
    both = replace(job, folder=Path(job.folder).parent, run=None)
    await run(replace(both, every=20))
    shutil.copytree(
        job.folder, Path(both.folder) / "best", ignore=shutil.ignore_patterns("*10_*", "*30_*", "adapters.*")
    )
    if once:
        outcome, _ = await run(both)
        assert outcome.exit_code == 0
    else:
        async with polling(both):
            await until(lambda: correct(replace(job, run="best")).get("best @20") == (1, 2))
            await until(lambda: correct(job).get("lab @30") == (1, 2))
            await until(lambda: not list((job.workspace / "staged").glob("[0-9a-f]*")))
    assert correct(replace(job, run="best")) == {"base": (0, 2), "best @20": (1, 2)}
    assert proofs(replace(job, run="best")) == ["live"]
    assert len(asked(job)) == len(set(asked(job))) == 16


@pytest.mark.parametrize("killed", [False, True])
async def test_what_is_set_aside_leaves_its_room_to_others(job: Job, killed: bool) -> None:
    """Within a bound that has room for one copy; also where the journal knows and a killed watch left the copy."""
    deadly = adapter_digest(job, 10)
    script = SCRIPT.replace("answers:\n", f"answers:\n  - {{contains: Question, fail: die, adapter: {deadly[:8]}}}\n")
    script_file = written(Path(str(job.base).removeprefix("scripted:")), script)
    narrow = replace(job, base=f"scripted:{script_file}", fetch_bytes=1)
    if killed:
        await run(narrow)
        copied(discovered(Path(job.folder), "lab")[0], job.workspace / "staged")
        adapter_file(Path(job.folder) / "0000040_adapters.safetensors", 40)
    async with polling(narrow):
        last = "lab @40" if killed else "lab @30"
        await until(lambda: bool(segments(job.workspace)) and correct(job).get(last) == (1, 2))
        await until(lambda: not list((job.workspace / "staged").glob("[0-9a-f]*")))


class SlowLink(LocalHost):
    """This machine, of which one file takes until `open` is set."""

    def __init__(self, slow: str) -> None:
        self.slow = slow
        self.open = asyncio.Event()

    async def copy_from(self, source: PurePosixPath, target: Path) -> Copied:
        if source.name == self.slow:
            await self.open.wait()
        return await super().copy_from(source, target)


class AwayHost(LocalHost):
    """This machine, from which nothing can be copied until `there` is set; the folder can be listed all the while."""

    def __init__(self) -> None:
        self.there = False
        self.asked = 0

    async def copy_from(self, source: PurePosixPath, target: Path) -> Copied:
        self.asked += 1
        if not self.there:
            raise Unreachable("the host is away")
        return await super().copy_from(source, target)


async def test_a_host_that_is_away_while_something_is_fetched_is_waited_for(job: Job) -> None:
    host = AwayHost()
    async with polling(replace(job, host=host)) as listener:
        await until(lambda: host.asked > 3)
        assert len([note for note in listener.notes if "the host is away; fetching lab @10 again" in note]) == 1
        host.there = True
        await until(lambda: listener.done == 16)
        await until(lambda: not list((job.workspace / "staged").glob("[0-9a-f]*")))
    with pytest.raises(Unreachable):
        await run(replace(job, host=AwayHost(), plan=PlanConfig(force=True)))


async def test_a_copy_stays_while_what_may_be_the_same_is_fetched(job: Job) -> None:
    staging = Staging(job.workspace / "staged", 1 << 30)
    *_, last, copy = discovered(Path(job.folder), "lab")
    adapter = await staging.fetch(LocalHost(), last)
    host = SlowLink(copy.weights.name)
    fetching = asyncio.create_task(staging.fetch(host, copy))
    await asyncio.sleep(0)
    staging.keep(())
    host.open.set()
    assert (await fetching).digest == adapter.digest
    assert adapter.weights.exists()
    staging.keep(())
    assert not adapter.weights.exists()


async def test_what_is_here_does_not_wait_for_what_takes_long_to_fetch(job: Job) -> None:
    host = SlowLink("0000020_adapters.safetensors")
    async with polling(replace(job, host=host)) as listener:
        await until(lambda: "lab @10" in listener.subjects)
        await until(lambda: correct(job).get("lab @10") == (1, 2))
        assert "lab @20" not in listener.subjects
        host.open.set()
        await until(lambda: correct(job).get("lab @30") == (1, 2))


@pytest.mark.parametrize("other", ["folder", "filter"])
async def test_copies_that_another_watch_waits_for_outlast_this_one(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    slow = SCRIPT.replace("{prompt: Question d, answer: right}", "{prompt: Question d, answer: right on, seconds: 0.4}")
    slow_job = replace(job, base=f"scripted:{written(Path(str(job.base).removeprefix('scripted:')), slow)}")
    async with polling(slow_job) as listener:
        await until(lambda: "lab @10" in listener.subjects)
        await until(lambda: len(list((job.workspace / "staged").glob("[0-9a-f]*"))) == 3)
    for gone in (20, 30):
        (Path(job.folder) / f"{gone:07d}_adapters.safetensors").unlink()
    if other == "folder":
        outcome, _ = await run(replace(slow_job, folder=checkpoints(tmp_path / "else"), run="else", fetch_bytes=1))
    else:
        outcome, _ = await run(replace(slow_job, plan=PlanConfig(filters=("*@10",))))
    assert outcome.exit_code == 0
    actions = {label: action for action, label, _ in await planned(slow_job, capsys) if action != "same"}
    assert actions == {
        "lab @10": "done" if other == "filter" else "evaluate",
        "lab @20": "evaluate",
        "lab @30": "evaluate",
    }
    await run(slow_job)
    assert correct(job) == {"base": (0, 2), "lab @10": (1, 2), "lab @20": (1, 2), "lab @30": (1, 2)}
    assert not list(job.workspace.glob("staged/*"))


class CountingHost(LocalHost):
    """This machine; `copies` are the weights that were copied from it."""

    def __init__(self) -> None:
        self.copies: list[str] = []

    async def copy_from(self, source: PurePosixPath, target: Path) -> Copied:
        if source.suffix == ".safetensors":
            self.copies.append(source.name)
        return await super().copy_from(source, target)


async def planned(job: Job, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str]]:
    await asyncio.to_thread(show_plan, job, job.workspace, as_json=True)
    return [(row["action"], row["checkpoint"], row["detail"]) for row in json.loads(capsys.readouterr().out)]


async def test_the_last_file_of_a_training_is_read_once(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """It holds the weights of the last numbered one, which the journal knows from then on."""
    first, second = CountingHost(), CountingHost()
    await run(replace(job, host=first))
    assert len(first.copies) == 4
    rows = await planned(job, capsys)
    assert rows[-1][2].endswith("/adapters.safetensors has the weights of lab @30")
    assert [action for action, _, _ in rows] == ["done", "done", "done", "same"]
    await run(replace(job, host=second))
    assert second.copies == []


async def test_weights_that_killed_the_engine_are_asked_in_no_other_run(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    deadly = adapter_digest(job, 20)
    script = SCRIPT.replace("answers:\n", f"answers:\n  - {{contains: Question, fail: die, adapter: {deadly[:8]}}}\n")
    script_file = written(Path(str(job.base).removeprefix("scripted:")), script)
    both = replace(job, base=f"scripted:{script_file}", folder=Path(job.folder).parent, run=None)
    await run(both)
    best = Path(both.folder) / "best"
    shutil.copytree(job.folder, best, ignore=shutil.ignore_patterns("*10_*", "*30_*", "adapters.*"))
    outcome, listener = await run(both)
    assert listener.subjects == ["base"], "only the new run's base is asked"
    assert sorted(label for label, _ in outcome.unusable) == ["best @20", "lab @20"]
    with Lens(job.workspace) as lens:
        [(label, reason)] = lens.unusable("best")
    assert (label, "killed the engine" in reason) == ("best @20", True)
    assert [row[:2] for row in await planned(both, capsys) if row[0] == "set aside"] == [
        ("set aside", "best @20"),
        ("set aside", "lab @20"),
    ]
    _, listener = await run(replace(both, plan=PlanConfig(force=True, filters=("best*",))))
    assert listener.subjects == ["best @20"], "unless it is asked for"
