"""A DuckDB file as a sink: rows once, the latest stands, a file that others hold is waited for."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from assay.config import SinkConfig
from assay.errors import BadInput, ConfigError, Unreachable
from assay.sinks.base import AnswerFact, Fact, Poison
from assay.sinks.duckdb import DuckDBSink, open_sink
from tests.sinks.facts import about, group, loss, sample

OVERALL = group(group="overall", overall=True, position=0, correct=3, scored=4, asked=5, mean=0.75)
NOBODY = 65534
NASTY = 'x\'; drop table samples; -- "q" \\ \n 中文 \x01'


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path, read_only=True) as db:
        return db.execute(query).fetchall()


async def test_rows_are_there_once_however_often_they_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.duckdb"
    facts = [sample(), sample(sample="algebra-1", value=False), group(), OVERALL, loss()]
    sink = DuckDBSink("duckdb", path)
    await sink.check()
    for _ in range(3):
        await sink.take(facts)
    counts = {t: ask(path, f"select count(*) from {t}")[0][0] for t in ("samples", "groups", "losses", "probe_results")}
    assert counts == {"samples": 2, "groups": 1, "losses": 1, "probe_results": 2}
    assert ask(path, "select * exclude (scored_at) from checkpoint_scores") == [
        ("gemma-3-12b", "12b-capability-auto", "G12 @0000100", 100, 3, 4, 75.0)
    ]
    assert ask(path, "select probe_id, passed, response from probe_results order by 1") == [
        ("algebra-1", False, "Five."),
        ("geometry-1", True, "Five."),
    ]
    assert ask(path, "select epoch(scored_at) from samples limit 1") == [(1_790_000_000.0,)]


async def test_what_was_journaled_later_stands_whichever_comes_last(tmp_path: Path) -> None:
    sink = DuckDBSink("duckdb", tmp_path / "r.duckdb")
    await sink.take([sample(seq=5, value=True)])
    await sink.take([sample(seq=3, value=False)])
    await sink.take([sample(seq=9, value=False), sample(seq=8, value=True)])
    assert ask(tmp_path / "r.duckdb", "select value, seq from samples") == [(0.0, 9)]
    failed = sample(seq=10, value=None, outcome="failed", error_class="transient", reason="timed out", response="")
    await sink.take([failed])
    assert ask(tmp_path / "r.duckdb", "select value, outcome, reason from samples") == [(None, "failed", "timed out")]


async def test_of_two_journals_the_one_that_scored_last_stands_whatever_their_numbers(tmp_path: Path) -> None:
    """A workspace that was removed has counted further than the one in its place."""
    path, sink = tmp_path / "r.duckdb", DuckDBSink("duckdb", tmp_path / "r.duckdb")

    def facts(journal: str, value: float, seq: int, time: float) -> list[Fact]:
        whose = about(journal=journal, suite="mine")
        given = AnswerFact(
            run="r", model="m", sample="q", suite="heuristic", metric="lek_score", value=value, seq=seq, time=time,
            journal=journal,
        )  # fmt: skip
        return [
            sample(about=whose, value=value, seq=seq, time=time),
            group(about=whose, mean=value, seq=seq, time=time),
            loss(value=value, seq=seq, time=time, journal=journal),
            given,
        ]

    def standing() -> list[float]:
        tables = (
            "value from samples",
            "mean from groups",
            "value from losses",
            "value from answers",
            "score from scoring_results",
        )
        return [value for table in tables for (value,) in ask(path, f"select {table}")]

    former, now = facts("former", 1.0, 900, 10.0), facts("now", 2.0, 5, 20.0)
    for batch, value in ((former, 1.0), (now, 2.0), (former, 1.0), (facts("now", 3.0, 6, 15.0), 3.0), (now, 3.0)):
        await sink.take(batch)
        expected = max(value, standing()[0])
        assert standing() == [expected] * 5, "within one journal its numbers tell, and not a clock that was turned back"
    assert standing() == [3.0] * 5


async def test_a_file_from_before_rows_knew_their_journal_goes_on(tmp_path: Path) -> None:
    path, sink = tmp_path / "r.duckdb", DuckDBSink("duckdb", tmp_path / "r.duckdb")
    await sink.take([sample(seq=900), loss(seq=900)])
    with duckdb.connect(path) as db:
        for table in ("samples", "groups", "losses", "answers"):
            db.execute(f"alter table {table} drop column journal")
        db.execute("alter table losses drop column seen_at")
    await sink.check()
    await sink.take(
        [sample(about=about(journal="now"), value=False, seq=5, time=1_790_000_001.0), loss(value=2.0, seq=5)]
    )
    assert ask(path, "select value, journal from samples") == [(0.0, "now")]
    assert ask(path, "select value from losses") == [(2.0,)]


async def test_suites_digests_and_engines_never_clobber_each_other(tmp_path: Path) -> None:
    changes = ({}, {"digest": "e" * 64}, {"suite": "mine"}, {"suite_version": 2}, {"engine": "llama"}, {"run": "other"})
    await DuckDBSink("duckdb", tmp_path / "r.duckdb").take([sample(about=about(**c)) for c in changes])
    assert ask(tmp_path / "r.duckdb", "select count(*) from samples") == [(6,)]


async def test_a_batch_that_needs_more_memory_gets_it(tmp_path: Path) -> None:
    sink = DuckDBSink("duckdb", tmp_path / "r.duckdb", memory=1)
    await sink.take([sample(sample=f"sample {n}", response=f"{n} " * 100) for n in range(5000)])
    assert ask(tmp_path / "r.duckdb", "select count(*), max(length(response)) from samples") == [(5000, 500)]


async def test_a_disk_that_is_full_when_the_file_is_made_is_waited_for(tmp_path: Path, small_disk: Path) -> None:
    path, ballast = small_disk / "r.duckdb", small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    sink = DuckDBSink("duckdb", path)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await sink.take([sample()])
    ballast.unlink()
    await sink.take([sample()])
    assert ask(path, "select count(*) from samples") == [(1,)]
    assert [p.name for p in small_disk.iterdir()] == ["r.duckdb"]


async def test_every_text_comes_back(tmp_path: Path) -> None:
    fact = sample(about=about(label=NASTY, run=NASTY), sample=NASTY, response=NASTY * 100, detail={"extracted": NASTY})
    await DuckDBSink("duckdb", tmp_path / "r.duckdb").take([fact])
    [row] = ask(tmp_path / "r.duckdb", "select run, checkpoint, sample, response, detail->>'extracted' from samples")
    assert row == (NASTY, NASTY, NASTY, NASTY * 100, NASTY)
    assert ask(tmp_path / "r.duckdb", "select response from probe_results") == [((NASTY * 100)[:300],)]


async def test_scored_answers_and_judged_dimensions_stand_in_go_mls_scoring_results(tmp_path: Path) -> None:
    answer = AnswerFact(
        run="r", model="m", sample="q", suite="heuristic", metric="lek_score", value=3.5, seq=1, time=1.0
    )
    judged = sample(about=about(suite="content"), sample="taiwan", metric="engagement", value=7.0, measure="x")
    base = sample(
        about=about(suite="content", digest="", label="base", iteration=0),
        sample="taiwan",
        metric="engagement",
        value=5.0,
    )
    await DuckDBSink("duckdb", tmp_path / "r.duckdb").take([answer, judged, base])
    rows = ask(tmp_path / "r.duckdb", "select * exclude (scored_at) from scoring_results order by 1")
    assert rows == [
        ("12b G12 @0000100", "taiwan", "content", "engagement", 7.0),
        ("12b base", "taiwan", "content", "engagement", 5.0),
        ("m", "q", "heuristic", "lek_score", 3.5),
    ]


async def test_a_file_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    sink = DuckDBSink("duckdb", path)
    await sink.take([sample()])
    hold = f"import duckdb, sys; d = duckdb.connect({str(path)!r}); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Unreachable, match="held by another process"):
            await sink.take([sample(sample="b")])
    finally:
        holder.communicate()
    await sink.take([sample(sample="b")])
    assert ask(path, "select count(*) from samples") == [(2,)]


async def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    sink = DuckDBSink("duckdb", path)
    await sink.check()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(Unreachable, match=r"r\.duckdb: .*commit"):
            await sink.take([sample()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await sink.take([sample()])
    assert ask(path, "select count(*) from samples") == [(1,)]


async def test_go_mls_own_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "go-ml.duckdb"
    with duckdb.connect(path) as db:
        db.execute(
            "create table checkpoint_scores (model text, run_id text, label text, iteration integer, correct integer, "
            "total integer, accuracy double, scored_at timestamp default current_timestamp, primary key (run_id, label))"
        )
        db.execute(
            "insert into checkpoint_scores (run_id, label, correct) values ('12b-capability-auto', 'G12 @0000050', 9)"
        )
    sink = DuckDBSink("duckdb", path)
    await sink.take([OVERALL])
    await sink.take([OVERALL])
    rows = ask(path, "select label, correct from checkpoint_scores order by 1")
    assert rows == [("G12 @0000050", 9), ("G12 @0000100", 3)]


@pytest.mark.parametrize("name", ["huge", "old"])
async def test_a_value_that_no_column_can_hold_is_told_alone(tmp_path: Path, name: str) -> None:
    wrong = sample(about=about(iteration=10**19)) if name == "huge" else loss(time=1.0, seq=10**19)
    facts: list[Fact] = [sample(sample=f"s{n}") for n in range(100)]
    facts[37:38] = [wrong]
    sink = DuckDBSink("duckdb", tmp_path / "r.duckdb")
    with pytest.raises(Poison, match="out of range") as caught:
        await sink.take(facts)
    assert list(caught.value.reasons) == [37]
    await sink.take([fact for fact in facts if fact is not wrong])
    assert ask(tmp_path / "r.duckdb", "select count(*) from samples") == [(99,)]


async def wrong(path: Path, match: str) -> None:
    with pytest.raises(BadInput, match=match) as caught:
        await DuckDBSink("duckdb", path).check()
    assert "\n" not in str(caught.value)


async def test_what_is_wrong_is_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "text.duckdb"
    text.write_text("no database " * 1000)
    await wrong(text, "is no DuckDB file")
    await wrong(text / "deeper" / "r.duckdb", f"cannot be made, for {text} is a file")
    await wrong(tmp_path / ("long" * 100), r"cannot be made \(File name too long\)")
    await wrong(tmp_path, "is a folder; name a file")
    await wrong(Path("/dev/null"), "is no regular file")
    with contextlib.closing(sqlite3.connect(tmp_path / "lite.duckdb")) as lite:
        lite.execute("create table samples (a)")
    await wrong(tmp_path / "lite.duckdb", "is no DuckDB file")
    with duckdb.connect(tmp_path / "other.duckdb") as db:
        db.execute("create table samples (a integer)")
    await wrong(tmp_path / "other.duckdb", "has a table that results do not fit")
    with pytest.raises(ConfigError, match="is a DuckDB file; give it a path"):
        open_sink("duckdb", SinkConfig("duckdb", url="http://h"), tmp_path)


async def test_a_file_that_may_not_be_written_is_said() -> None:
    with tempfile.TemporaryDirectory() as name, plain_user(Path(name)):
        path = Path(name) / "mine" / "r.duckdb"
        await DuckDBSink("duckdb", path).check()
        for place, forbidden, allowed in ((path, 0o444, 0o644), (path.parent, 0o555, 0o755)):
            place.chmod(forbidden)
            await wrong(path, f"{place} may not be written to")
            place.chmod(allowed)
        path.parent.chmod(0o555)
        await wrong(path.with_name("new.duckdb"), r"cannot be made \(Permission denied\)")
        path.parent.chmod(0o755)


@contextlib.contextmanager
def plain_user(folder: Path) -> Iterator[None]:
    """Be one, and own the folder: root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_file_of_another_version_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    await DuckDBSink("duckdb", path).take([sample()])
    whole = path.read_bytes()
    path.write_bytes(whole[:4116] + b"????" + whole[4120:8212] + b"????" + whole[8216:])
    await wrong(path, "is damaged .* move it away")
    path.write_bytes(of_version(99_999, whole, path))
    await wrong(path, "is of a DuckDB that the one here .* can't read")
    path.write_bytes(whole)
    await DuckDBSink("duckdb", path).check()


def of_version(version: int, whole: bytes, path: Path) -> bytes:
    """The file with another version in its header, and with the checksum that DuckDB finds it should have then."""
    header = bytearray(whole)
    header[12:20] = version.to_bytes(8, "little")
    path.write_bytes(header)
    with pytest.raises(duckdb.Error) as caught:
        duckdb.connect(path)
    if computed := re.search(r"computed checksum (\d+)", str(caught.value)):
        header[:8] = int(computed[1]).to_bytes(8, "little")
    return bytes(header)
