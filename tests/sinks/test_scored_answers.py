"""Answers from files in a DuckDB file: go-ml's `scoring_results` has one row where several runs and judges gave a score."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from assay.results.index import Ledger
from assay.results.records import AnswerScored
from assay.sinks.base import AnswerFact, Fact
from assay.sinks.duckdb import DuckDBSink
from assay.sinks.forwarding import forward
from tests.cli.running import ASSAY


def fact(seq: int, value: float | None, **changes: Any) -> AnswerFact:
    told = {"run": "r", "model": "m", "sample": "q", "suite": "semantic", "metric": "clarity", **changes}
    return AnswerFact(seq=seq, time=float(seq), value=value, **told)


@pytest.mark.parametrize("backwards", [False, True])
async def test_of_two_judges_or_runs_the_last_one_stands_in_whatever_order_they_come(
    tmp_path: Path, backwards: bool
) -> None:
    facts: list[Fact] = [
        fact(1, 1.0, judge="x", measure="x"),
        fact(2, 2.0, judge="y", measure="y"),
        fact(3, None, judge="x", measure="x"),
        fact(4, 4.0, judge="x", measure="x", sample="other"),
        fact(5, 5.0, judge="y", measure="y", sample="other", run="later"),
    ]
    sink = DuckDBSink("duckdb", tmp_path / "r.duckdb")
    for each in reversed(facts) if backwards else facts:
        await sink.take([each])
    with duckdb.connect(tmp_path / "r.duckdb", read_only=True) as db:
        assert db.execute("select prompt_id, score from scoring_results order by 1").fetchall() == [
            ("other", 5.0),
            ("q", 2.0),
        ]
        assert db.execute("select count(*) from answers").fetchall() == [(4,)]


def test_answers_that_are_put_back_stand_as_the_file_has_them(tmp_path: Path) -> None:
    file, workspace = tmp_path / "answers.jsonl", tmp_path / "w"

    def shipped(answer: str) -> list[tuple[str, float]]:
        file.write_text(json.dumps({"id": "q", "prompt": "2 + 2?", "response": answer, "correct_answer": "4"}) + "\n")
        for command in (["score", str(file), "--suite", "exact", "--run", "mine"], ["ship", "--sink", "duckdb"]):
            subprocess.run([ASSAY, *command, "--workspace", workspace], check=True, capture_output=True)
        query = "select prompt_id, score from scoring_results where dimension = 'correct'"
        with duckdb.connect(workspace / "results.duckdb", read_only=True) as db:
            return db.execute(query).fetchall()

    assert [shipped(f"It is {n}") for n in (4, 5, 4)] == [[("q", 1.0)], [("q", 0.0)], [("q", 1.0)]]


async def test_several_answers_to_one_question_stand_beside_each_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for repeat, correct in enumerate((True, False)):
        scores = {"exact": {"correct": correct}}
        ledger.append(
            AnswerScored(run="r", source="f", line=repeat + 1, sample="q", model="m", scores=scores, repeat=repeat)
        )
    ledger.close()
    await forward(tmp_path, [DuckDBSink("duckdb", tmp_path / "r.duckdb")], lambda text: None)
    with duckdb.connect(tmp_path / "r.duckdb", read_only=True) as db:
        for query in ("select sample, value from answers", "select prompt_id, score from scoring_results"):
            assert db.execute(f"{query} order by 1").fetchall() == [("q", 1.0), ("q#2", 0.0)]
