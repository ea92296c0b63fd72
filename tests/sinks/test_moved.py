"""Weights that move from one file to another inside a run: results stand everywhere under the file that holds them now."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pytest
from msgspec import structs

from assay.adapters.files import read_adapter
from assay.cli.status import status
from assay.hosts.base import Entry
from assay.hosts.local import LocalHost
from assay.job import Job
from assay.results.index import Ledger
from assay.results.journal import read, segments
from assay.results.labels import Labels
from assay.results.lens import Lens
from assay.results.records import CheckpointSeen, LossSeen, Place, Run, ScoreMade, SuiteUse, place_of
from assay.sinks.duckdb import DuckDBSink
from assay.sinks.forwarding import forward
from assay.sinks.influx import InfluxSink
from assay.suites.suite import load_suite
from tests.making import SCRIPT, SUITE, written
from tests.sinks.servers import Influx1, influx1
from tests.test_watch import asked, job, polling, run, until
from tests.test_watch_week import adapter_digest

__all__ = ["job"]

Names = dict[str, tuple[int, ...]]  # how many each checkpoint got right, and of how many


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx1]:
    with influx1(tmp_path_factory.mktemp("influx")) as running:
        yield running


def two(job: Job, folder: Path) -> Job:
    """The job with a suite of go-ml's name and one of the user's own, of two checkpoints: @10 knows less than @20."""
    probes = load_suite(written(folder / "probes.yaml", SUITE.replace("name: small", "name: capability")))
    (Path(job.folder) / "0000030_adapters.safetensors").unlink()
    (Path(job.folder) / "adapters.safetensors").unlink()
    poor = f"answers:\n  - {{prompt: Question c, answer: wrong, adapter: {adapter_digest(job, 10)[:8]}}}\n"
    script = written(folder / "poor.yaml", SCRIPT.replace("answers:\n", poor))
    return replace(job, suites=(probes, *job.suites), base=f"scripted:{script}")


def file(job: Job, iteration: int) -> Path:
    return Path(job.folder) / f"{iteration:07d}_adapters.safetensors"


def swap(job: Job) -> None:
    aside = Path(job.folder) / "aside"
    file(job, 10).rename(aside)
    file(job, 20).rename(file(job, 10))
    aside.rename(file(job, 20))


def copy_and_overwrite(job: Job) -> None:
    """@20 has @10's weights, and @10 those that lay at @20."""
    aside = Path(job.folder) / "aside"
    shutil.copy(file(job, 20), aside)
    shutil.copy(file(job, 10), file(job, 20))
    aside.replace(file(job, 10))


def move(job: Job) -> None:
    file(job, 20).rename(file(job, 40))


def copy(job: Job) -> None:
    """The first of two with the same weights gives them their name."""
    shutil.copy2(file(job, 20), file(job, 5))


SWAPPED: Names = {"lab @10": (3, 4), "lab @20": (2, 4)}
MOVES: list[tuple[Callable[[Job], None], Names]] = [
    (swap, SWAPPED),
    (copy_and_overwrite, SWAPPED),
    (move, {"lab @10": (2, 4), "lab @40": (3, 4)}),
    (copy, {"lab @10": (2, 4), "lab @5": (3, 4)}),
]


async def shipped(job: Job, name: str, *more: InfluxSink) -> int:
    sinks: list[Any] = [DuckDBSink("duckdb", job.workspace / f"{name}.duckdb"), *more]
    return (await forward(job.workspace, sinks, lambda text: None))["duckdb"].sent


def in_journal(job: Job, suite: str) -> Names:
    with Lens(job.workspace) as lens:
        cells = [cell for cell in lens.cells("lab", suite) if cell.digest]
    names = dict.fromkeys(cell.checkpoint for cell in cells)
    return {n: (int(sum(c.value or 0 for c in cells if c.checkpoint == n)), len(cells) // len(names)) for n in names}


def in_duckdb(job: Job, name: str) -> dict[str, Names]:
    """From go-ml's tables, and from those that know weights."""
    own = "digest <> '' and suite = 'small'"
    asks = {
        "scores": "select label, correct, total from checkpoint_scores where label <> 'base'",
        "probes": "select label, sum(passed::int), count(*) from probe_results where label <> 'base' group by label",
        "samples": f"select checkpoint, sum(value), count(*) from samples where {own} group by checkpoint",
        "groups": f"select checkpoint, sum(correct), sum(scored) from groups where {own} group by checkpoint",
    }
    with duckdb.connect(job.workspace / f"{name}.duckdb", read_only=True) as db:
        found = {
            what: {row[0]: tuple(map(int, row[1:])) for row in db.execute(q).fetchall()} for what, q in asks.items()
        }
        for table, label in (("samples", "checkpoint"), ("checkpoint_scores", "label"), ("probe_results", "label")):
            query = f"select distinct {label}, iteration from {table} where {label} <> 'base'"
            assert all(label == f"lab @{iteration}" for label, iteration in db.execute(query).fetchall())
    return found


def in_influx(influx: Influx1, job: Job, measurement: str) -> Names:
    """The points of what lies there; those of the user's suite know weights, and former ones stay."""
    which = "category" if measurement == "capability_score" else '"group"'
    rows = influx.ask(f"select * from {measurement} where {which} = 'overall' and label != 'base'", "training")
    lies = {f"lab @{int(path.name[:7])}": path for path in Path(job.folder).glob("*_adapters.safetensors")}
    digests = {label: read_adapter(path, path.parent / "adapter_config.json").digest for label, path in lies.items()}
    there = [row for row in rows if row.get("digest", "") in digests.get(row["label"], "-")]
    return {row["label"]: (row["correct"], row.get("total", row.get("scored"))) for row in there}


@pytest.mark.parametrize(("moved", "now"), MOVES, ids=[move.__name__ for move, _ in MOVES])
async def test_results_follow_their_weights(
    job: Job,
    tmp_path: Path,
    influx: Influx1,
    capsys: pytest.CaptureFixture[str],
    moved: Callable[[Job], None],
    now: Names,
) -> None:
    influx.ask(
        "drop measurement probe_score; drop measurement capability_score; drop measurement suite_score", "training"
    )
    points = InfluxSink("influx", influx.url, "training")
    job = two(job, tmp_path)
    await run(job)
    await shipped(job, "results", points)
    before: Names = {"lab @10": (2, 4), "lab @20": (3, 4)}
    assert in_journal(job, "small") == in_influx(influx, job, "suite_score") == before
    answers = len(asked(job))
    moved(job)
    outcome, _ = await run(job)
    assert (outcome.exit_code, len(asked(job))) == (0, answers), "what was moved isn't asked again"
    assert in_journal(job, "small") == in_journal(job, "capability") == now
    await shipped(job, "results", points)
    await shipped(job, "again")
    for name in ("results", "again"):
        found = in_duckdb(job, name)
        assert found == dict.fromkeys(found, now)
    for measurement in ("capability_score", "suite_score"):
        assert {label: was for label, was in in_influx(influx, job, measurement).items() if label in now} == now
    capsys.readouterr()
    status(as_json=True, workspace=job.workspace)
    [told] = json.loads(capsys.readouterr().out)["runs"]
    states = {each["checkpoint"]: each["state"] for each in told["checkpoints"] if each["digest"]}
    assert states == {**dict.fromkeys(now, "done"), **({"lab @20": "same"} if moved is copy else {})}
    said = len([r for _, r in read(job.workspace) if not isinstance(r, Run)])
    await run(job)
    assert len([r for _, r in read(job.workspace) if not isinstance(r, Run)]) == said, "a start says nothing again"
    assert await shipped(job, "results") == 0


async def test_weights_that_go_away_and_come_back_while_it_watches_are_followed(job: Job, tmp_path: Path) -> None:
    job = two(job, tmp_path)
    away = tmp_path / "away"
    async with polling(job):
        await until(lambda: bool(segments(job.workspace)) and len(in_journal(job, "small")) == 2)
        file(job, 20).rename(file(job, 40))
        await until(lambda: in_journal(job, "small") == {"lab @10": (2, 4), "lab @40": (3, 4)})
        file(job, 40).rename(away)
        await until(lambda: gone(job) == {"lab @20", "lab @40"})
        assert in_journal(job, "small") == {"lab @10": (2, 4), "lab @40": (3, 4)}, "the last name that they had"
        away.rename(file(job, 40))
        await until(lambda: gone(job) == {"lab @20"})
    assert in_journal(job, "small") == {"lab @10": (2, 4), "lab @40": (3, 4)}


def gone(job: Job) -> set[str]:
    with Lens(job.workspace) as lens:
        return {label for (label,) in lens.query("select checkpoint from checkpoints where gone").rows}


def _seen(chance: random.Random) -> CheckpointSeen:
    iteration = chance.choice((10, 20, 30))
    return CheckpointSeen(
        run="lab", checkpoint=f"lab @{iteration}", iteration=iteration, path=f"p{iteration}", size=1, modified_ns=1,
        digest=chance.choice("efg") * 64, gone=chance.random() < 0.3, numbered=iteration < 30,
    )  # fmt: skip


def _scored(ledger: Ledger, digest: str, suite: str, value: float) -> None:
    label = ledger.labels.of("lab", digest)
    assert label is not None
    where = Place(
        run="lab", checkpoint=label.name, iteration=label.iteration, digest=digest, identity="1" * 64, suite=suite,
        suite_version=1, suite_digest=suite, sample="a", group="new", index=0,
    )  # fmt: skip
    by = {"scorer": "s", "scorer_version": 1, "metric": "clarity", "low": 0.0, "high": 10.0}
    ledger.append(ScoreMade(**place_of(where), key="k", completion="", value=value, **by))


@pytest.mark.parametrize("seed", range(6))
async def test_restarts_and_order_do_not_matter(tmp_path: Path, seed: int) -> None:
    """Weights that wander among three files, forwarded bit by bit by new processes, or all at once."""
    chance = random.Random(seed)
    ledger = Ledger(tmp_path)
    uses = tuple(SuiteUse(name=name, version=1, digest=name, groups=("new",)) for name in ("capability", "mine"))
    ledger.append(Run(run="lab", base="b", engine="e", engine_version="1", identity="1" * 64, suites=uses, tag="t"))
    known: list[str] = []
    for _ in range(40):
        what = chance.randrange(4)
        if what < 2:
            ledger.append(_seen(chance))
            known = sorted({digest for _, digest, label in ledger.labels.all() if label is not None})
        elif what == 2 and known:
            _scored(ledger, chance.choice(known), chance.choice(("capability", "mine")), chance.choice((1.0, 2.0)))
        else:
            await forward(tmp_path, [DuckDBSink("duckdb", tmp_path / "bits.duckdb")], lambda text: None)
    ledger.close()
    tables = ("scoring_results", "samples")
    for name in ("bits", "whole"):
        await forward(tmp_path, [DuckDBSink("duckdb", tmp_path / f"{name}.duckdb")], lambda text: None)
    found: dict[str, list[Any]] = {}
    for name in ("bits", "whole"):
        with duckdb.connect(tmp_path / f"{name}.duckdb", read_only=True) as db:
            found[name] = [db.execute(f"select * from {table} order by all").fetchall() for table in tables]
            held = db.execute("select model, score from scoring_results order by all").fetchall()
            rows = db.execute("select suite, digest, checkpoint, iteration, value from samples order by all").fetchall()
    assert found["bits"] == found["whole"]
    with Lens(tmp_path) as lens:
        cells = lens.query("select suite, digest, checkpoint, iteration, value from cells order by all").rows
        labelled = {d for d, label in lens.query("select digest, checkpoint from labels").rows if label is not None}
    assert [row for row in rows if row[1] in labelled] == list(cells)
    assert held == sorted((row[2], row[4]) for row in cells if row[0] == "capability")


@pytest.mark.parametrize("seed", range(10))
def test_labels_depend_on_what_was_said_and_not_on_the_order_of_reading(seed: int) -> None:
    chance = random.Random(seed)
    records = [structs.replace(_seen(chance), seq=seq) for seq in range(30)]
    told = []
    for _ in range(5):
        labels = Labels()
        changes: dict[str, Any] = {}
        for record in records:
            for renamed in labels.take(record):
                assert changes.get(renamed.digest) == renamed.before
                changes[renamed.digest] = renamed.now
        told.append(sorted(labels.all()))
        assert {digest: label for _, digest, label in labels.all() if label} == {d: n for d, n in changes.items() if n}
        chance.shuffle(records)
    assert all(each == told[0] for each in told)


async def test_a_new_workspace_takes_the_place_of_the_former_in_a_file_elsewhere(job: Job, tmp_path: Path) -> None:
    """Its journal counts anew; what it says is later all the same, also where all of it is sent once more."""
    job = two(job, tmp_path)
    sink = DuckDBSink("duckdb", tmp_path / "elsewhere.duckdb")

    def held() -> Names:
        query = "select checkpoint, sum(correct), sum(scored) from groups where suite = 'small' and digest <> '' group by all"
        with duckdb.connect(tmp_path / "elsewhere.duckdb", read_only=True) as db:
            return {row[0]: tuple(map(int, row[1:])) for row in db.execute(query).fetchall()}

    ledger = Ledger(job.workspace)
    ledger.append_all([LossSeen(run="lab", iteration=n, part="train", value=1.0) for n in range(1000)])
    ledger.close()
    await run(replace(job, limit=3))
    await forward(job.workspace, [sink], lambda text: None)
    assert held() == {"lab @10": (1, 3), "lab @20": (2, 3)}
    shutil.rmtree(job.workspace)
    await run(job)
    for again in (False, True):
        await forward(job.workspace, [sink], lambda text: None, again=again)
        assert held() == in_journal(job, "small") == {"lab @10": (2, 4), "lab @20": (3, 4)}


class Counting(LocalHost):
    """This machine; `asked` are the paths that it was asked for one by one."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.rounds = 0

    async def list(self, folder: PurePosixPath) -> list[Entry]:
        self.rounds += 1
        return await super().list(folder)

    async def stat(self, path: PurePosixPath) -> Entry | None:
        self.asked.append(str(path))
        return await super().stat(path)


async def test_files_that_are_there_by_another_way_are_not_gone_and_asked_for_once(job: Job, tmp_path: Path) -> None:
    job = two(job, tmp_path)
    await run(job)
    way = tmp_path / "way"
    way.symlink_to(job.folder)
    host = Counting()
    async with polling(replace(job, folder=way, host=host)):
        await until(lambda: host.rounds > 8)
    assert [path for path in host.asked if path == str(file(job, 20))] == [str(file(job, 20))]
    assert gone(job) == set()
    assert in_journal(job, "small") == {"lab @10": (2, 4), "lab @20": (3, 4)}
