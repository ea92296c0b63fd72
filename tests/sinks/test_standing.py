"""go-ml's tables and points know a result by run and label: they show what the label means now, as assay's own tables do."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from assay.adapters.files import read_adapter
from assay.job import Job
from assay.plan import PlanConfig
from assay.results.index import Ledger
from assay.results.journal import read, segments
from assay.results.lens import Lens
from assay.results.records import CheckpointSeen, Place, Run, ScoreMade, SuiteUse, place_of
from assay.sinks.duckdb import DuckDBSink
from assay.sinks.forwarding import forward
from assay.sinks.influx import InfluxSink
from assay.suites.suite import load_suite
from tests.making import SCRIPT, SUITE, adapter_file, written
from tests.sinks.servers import Influx1, influx1
from tests.test_watch import job, polling, run, until

__all__ = ["job"]

PROBES = SUITE.replace("name: small", "name: capability")


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx1]:
    with influx1(tmp_path_factory.mktemp("influx")) as running:
        yield running


def asking(job: Job, folder: Path, script: str = SCRIPT) -> Job:
    """The job with a suite of the name of go-ml's, of one checkpoint."""
    suite = load_suite(written(folder / "probes.yaml", PROBES))
    for iteration in (10, 30):
        (Path(job.folder) / f"{iteration:07d}_adapters.safetensors").unlink()
    (Path(job.folder) / "adapters.safetensors").unlink()
    return replace(job, suites=(suite,), base=f"scripted:{written(folder / 'script.yaml', script)}")


def weights(job: Job) -> Path:
    return Path(job.folder) / "0000020_adapters.safetensors"


def digest(job: Job) -> str:
    return read_adapter(weights(job), weights(job).parent / "adapter_config.json").digest


def script_for(**wrong: str) -> str:
    """Answers right all over, but for one question each that an adapter gets wrong or fails at."""
    lines = "".join(f"  - {{prompt: Question {question}, {how}}}\n" for question, how in wrong.items())
    return SCRIPT.replace("answers:\n", f"answers:\n{lines}")


async def shipped(job: Job, influx: Influx1 | None = None, name: str = "results") -> None:
    sinks: list[Any] = [DuckDBSink("duckdb", job.workspace / f"{name}.duckdb")]
    if influx is not None:
        sinks.append(InfluxSink("influx", influx.url, "training"))
    await forward(job.workspace, sinks, lambda text: None)


def table(job: Job, query: str, name: str = "results") -> list[tuple[Any, ...]]:
    with duckdb.connect(job.workspace / f"{name}.duckdb", read_only=True) as db:
        return db.execute(query).fetchall()


def go_mls(job: Job, name: str = "results") -> dict[str, bool]:
    """Each probe of the checkpoint in go-ml's table."""
    return dict(table(job, "select probe_id, passed from probe_results where label = 'lab @20'", name))


def total(job: Job) -> list[tuple[int, int]]:
    return table(job, "select correct, total from checkpoint_scores where label = 'lab @20'")


def natives(job: Job) -> dict[str, bool]:
    """The same in the journal's own view."""
    with Lens(job.workspace) as lens:
        cells = [cell for cell in lens.cells("lab", "capability") if cell.checkpoint == "lab @20"]
    return {cell.sample: bool(cell.value) for cell in cells if cell.value is not None}


def points(influx: Influx1, run_id: str) -> dict[str, int]:
    rows = influx.ask(f"select * from probe_score where run_id = '{run_id}' and label = 'lab @20'", "training")
    return {row["probe_id"]: row["passed"] for row in rows}


def overall(influx: Influx1) -> list[int]:
    query = "select correct from capability_score where category = 'overall' and label = 'lab @20'"
    return [row["correct"] for row in influx.ask(query, "training")]


def run_id(job: Job) -> str:
    [(found,)] = table(job, "select distinct run_id from probe_results where label = 'lab @20'")
    return str(found)


@pytest.mark.parametrize("times", ["kept", "new"])
async def test_weights_that_are_put_back_stand_again(job: Job, tmp_path: Path, influx: Influx1, times: str) -> None:
    influx.ask("drop measurement probe_score; drop measurement capability_score", "training")
    first = digest(job)
    script = script_for(a=f"answer: wrong, adapter: {first[:8]}")
    job = asking(job, tmp_path, script)
    saved = tmp_path / "saved"
    shutil.copy2(weights(job), saved)
    await run(job)
    await shipped(job, influx)
    assert go_mls(job) == {"a": False, "b": False, "c": True, "d": True} == natives(job)
    adapter_file(weights(job), 99)
    await run(job)
    await shipped(job, influx)
    assert go_mls(job) == {"a": True, "b": False, "c": True, "d": True} == natives(job)
    assert (total(job), overall(influx)) == ([(3, 4)], [3])
    (shutil.copy2 if times == "kept" else shutil.copy)(saved, weights(job))
    await run(job)
    await shipped(job, influx)
    assert natives(job) == {"a": False, "b": False, "c": True, "d": True}
    assert go_mls(job) == natives(job)
    assert points(influx, run_id(job)) == natives(job)
    assert (total(job), overall(influx)) == ([(2, 4)], [2])
    before = len(list(read(job.workspace)))
    await run(job)
    await run(job)
    runs = [r for _, r in itertools.islice(read(job.workspace), before, None) if not isinstance(r, Run)]
    assert runs == [], "a start says nothing again"
    sent = await forward(job.workspace, [DuckDBSink("duckdb", job.workspace / "results.duckdb")], lambda text: None)
    assert [each.sent for each in sent.values()] == [0]
    await shipped(job, name="again")
    assert go_mls(job, "again") == natives(job)
    assert table(job, "select count(distinct digest) from samples where digest <> ''") == [(2,)], "both are kept"


async def test_weights_that_are_put_back_while_it_watches_stand_again(job: Job, tmp_path: Path) -> None:
    job = asking(job, tmp_path, script_for(a=f"answer: wrong, adapter: {digest(job)[:8]}"))
    saved = tmp_path / "saved"
    shutil.copy2(weights(job), saved)
    async with polling(job):
        await until(lambda: bool(segments(job.workspace)) and natives(job).get("a") is False)
        shutil.copy2(adapter_file(tmp_path / "other" / "adapters.safetensors", 99), weights(job))
        await until(lambda: natives(job).get("a") is True)
        shutil.copy2(saved, weights(job))
        await until(lambda: natives(job).get("a") is False)
    await shipped(job)
    assert go_mls(job) == natives(job)


async def test_what_other_weights_have_no_answer_to_is_not_answered_by_the_former(job: Job, tmp_path: Path) -> None:
    first = digest(job)
    adapter_file(tmp_path / "other" / "adapters.safetensors", 99)
    other = read_adapter(tmp_path / "other/adapters.safetensors", tmp_path / "other/adapter_config.json").digest
    job = asking(job, tmp_path, script_for(c=f"fail: error, adapter: {other[:8]}"))
    await run(job)
    await shipped(job)
    assert first in {row[0] for row in table(job, "select digest from samples")}
    assert go_mls(job) == {"a": True, "b": False, "c": True, "d": True}
    adapter_file(weights(job), 99)
    await run(job)
    await shipped(job)
    assert go_mls(job) == {"a": True, "b": False, "d": True} == natives(job)
    assert total(job) == [(2, 3)]


async def test_weights_that_kill_the_engine_take_the_former_ones_results_from_the_label(
    job: Job, tmp_path: Path
) -> None:
    adapter_file(tmp_path / "other" / "adapters.safetensors", 99)
    other = read_adapter(tmp_path / "other/adapters.safetensors", tmp_path / "other/adapter_config.json").digest
    job = asking(job, tmp_path, script_for(a=f"fail: die, adapter: {other[:8]}"))
    saved = tmp_path / "saved"
    shutil.copy2(weights(job), saved)
    await run(job)
    await shipped(job)
    adapter_file(weights(job), 99)
    outcome, _ = await run(job)
    assert [label for label, _ in outcome.unusable] == ["lab @20"]
    await shipped(job)
    assert go_mls(job) == natives(job) == {}
    assert total(job) == []
    shutil.copy2(saved, weights(job))
    await run(job)
    await shipped(job)
    assert go_mls(job) == natives(job) == {"a": True, "b": False, "c": True, "d": True}
    assert total(job) == [(3, 4)]
    with Lens(job.workspace) as lens:
        assert lens.unusable("lab") == []
    shutil.copy2(adapter_file(tmp_path / "other" / "adapters.safetensors", 99), weights(job))
    os.utime(weights(job))
    await run(job)
    with Lens(job.workspace) as lens:
        assert [label for label, _ in lens.unusable("lab")] == ["lab @20"]
    assert natives(job) == {}


async def test_of_two_bases_and_two_editions_of_a_suite_the_one_used_last_stands(job: Job, tmp_path: Path) -> None:
    job = asking(job, tmp_path)
    wrong = written(tmp_path / "wrong.yaml", script_for(d="answer: wrong"))
    other = replace(job, base=f"scripted:{wrong}")
    edited = load_suite(written(tmp_path / "edited.yaml", PROBES.replace("target: right", "target: wrong")))
    for each in (job, other, job, replace(job, suites=(edited,)), job):
        await run(each)
        await shipped(job)
        assert go_mls(job) == natives(job)
    assert go_mls(job) == {"a": True, "b": False, "c": True, "d": True}
    assert total(job) == [(3, 4)]
    [(name,)] = table(job, "select count(*) from checkpoint_scores where label = 'base'")
    assert name == 1


async def test_what_is_asked_anew_by_force_stands(job: Job, tmp_path: Path) -> None:
    job = asking(job, tmp_path)
    await run(job)
    await shipped(job)
    written(tmp_path / "script.yaml", script_for(d="answer: wrong"))
    await run(replace(job, plan=PlanConfig(force=True)))
    await shipped(job)
    assert go_mls(job) == natives(job)
    await shipped(job, name="again")
    assert go_mls(job, "again") == natives(job)


IDENTITY = "1" * 64
DIMENSIONS = ("reasoning", "correctness", "clarity")


def begun(ledger: Ledger) -> None:
    use = SuiteUse(name="capability", version=1, digest="s", groups=("new",))
    ledger.append(
        Run(run="lab", base="b", engine="e", engine_version="1", identity=IDENTITY, suites=(use,), tag="t", run_id="r")
    )


def judged(ledger: Ledger, measure: str, value: float, samples: str = "ab", weights: str = "") -> None:
    for sample, metric in itertools.product(samples, DIMENSIONS):
        where = Place(
            run="lab", checkpoint="lab @20" if weights else "base", iteration=20 if weights else 0, digest=weights,
            identity=IDENTITY, suite="capability", suite_version=1, suite_digest="s", sample=sample, group="new", index=0,
        )  # fmt: skip
        score = ScoreMade(
            **place_of(where), key=measure, completion="", scorer="judge:capability", scorer_version=1, metric=metric,
            value=value, low=0.0, high=10.0, judge=f"judge {measure}", measure=measure,
        )  # fmt: skip
        ledger.append(score)


def scoring(workspace: Path, name: str = "results") -> dict[float, int]:
    """How many rows of go-ml's table have each score."""
    with duckdb.connect(workspace / f"{name}.duckdb", read_only=True) as db:
        return dict(db.execute("select score, count(*) from scoring_results group by score").fetchall())


async def test_of_two_judges_the_one_who_judged_last_stands_however_the_journal_is_read(
    tmp_path: Path, influx: Influx1
) -> None:
    """Two processes write beside each other; a sink that is filled again reads one's segment after the other's."""
    influx.ask("drop measurement capability_judge", "training")
    first = Ledger(tmp_path)
    begun(first)
    judged(first, "x", 1.0)
    second = Ledger(tmp_path)
    judged(second, "y", 2.0)
    second.close()
    third = Ledger(tmp_path)
    third.close()
    for _ in range(5):
        begun(first)
    judged(first, "x", 3.0)
    first.close()
    sinks: list[Any] = [DuckDBSink("duckdb", tmp_path / "results.duckdb"), InfluxSink("influx", influx.url, "training")]
    await forward(tmp_path, sinks, lambda text: None)
    assert scoring(tmp_path) == {3.0: 6}
    rows = influx.ask("select * from capability_judge", "training")
    assert [(row["reasoning"], row["avg"]) for row in rows] == [(3.0, 3.0)] * 2
    with duckdb.connect(tmp_path / "results.duckdb", read_only=True) as db:
        kept = db.execute("select judge, count(*) from samples group by judge order by 1").fetchall()
    assert kept == [("judge x", 6), ("judge y", 6)]


async def test_a_second_judge_who_has_seen_only_some_is_not_mixed_with_the_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    begun(ledger)
    judged(ledger, "x", 1.0, "abcd")
    judged(ledger, "y", 2.0, "a")
    sink = DuckDBSink("duckdb", tmp_path / "results.duckdb")
    await forward(tmp_path, [sink], lambda text: None)
    assert scoring(tmp_path) == {2.0: 3}
    judged(ledger, "x", 1.0, "a")
    await forward(tmp_path, [sink], lambda text: None)
    assert scoring(tmp_path) == {1.0: 12}
    ledger.close()


@pytest.mark.parametrize("seed", range(4))
async def test_batches_restarts_and_order_do_not_matter(tmp_path: Path, seed: int) -> None:
    """Weights that change places and judges that take turns, forwarded bit by bit by new processes, or all at once."""
    chance = random.Random(seed)
    ledger = Ledger(tmp_path)
    begun(ledger)
    by_bits = DuckDBSink("duckdb", tmp_path / "bits.duckdb")
    lies = ""
    for _ in range(30):
        what = chance.randrange(4)
        if what == 0:
            lies = chance.choice("ef") * 64
            ledger.append(
                CheckpointSeen(
                    run="lab", checkpoint="lab @20", iteration=20, path="p", size=1, modified_ns=1, digest=lies
                )
            )
        elif what == 1:
            begun(ledger)
        elif what == 2 and lies:
            judged(ledger, chance.choice("xy"), chance.choice((1.0, 2.0, 3.0)), chance.choice(("a", "ab", "c")), lies)
        else:
            await forward(tmp_path, [by_bits], lambda text: None)
    ledger.close()
    await forward(tmp_path, [by_bits], lambda text: None)
    await forward(tmp_path, [DuckDBSink("duckdb", tmp_path / "whole.duckdb")], lambda text: None)
    rows = []
    for name in ("bits", "whole"):
        with duckdb.connect(tmp_path / f"{name}.duckdb", read_only=True) as db:
            rows.append(db.execute("select * from scoring_results order by all").fetchall())
    assert rows[0] == rows[1]
