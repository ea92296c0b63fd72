"""Which run the answers of a file belong to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.cli.score_files import DASH
from assay.cli.score_run import noting, run_of
from assay.results.index import Ledger
from assay.suites.answers import read_answers
from tests.cli.running import assay, bad, jsonl, lines
from tests.making import written

Run = Callable[..., str]


def answers(path: Path, response: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    return jsonl(path, [{"id": "1", "prompt": "Q?", "response": response, "correct_answer": "5"}])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The run of a file, or of a copy of what came through a pipe, as a command finds it that knows the journal alone."""

    def found(file: Path, copy: Path | None = None, wanted: str | None = None) -> str:
        ledger = Ledger(tmp_path / "results")
        told: list[str] = []
        try:
            read = run_of(wanted, file, copy or file, ledger, told.append)
            assert list(noting(read_answers(copy or file), read, ledger))
        finally:
            ledger.close()
        assert ("--run gives another name" in "".join(told)) == (read.run not in ("answers", "stdin", wanted))
        return read.run

    return found


def test_two_files_of_one_name_have_runs_of_their_own(tmp_path: Path, run: Run) -> None:
    one, other = answers(tmp_path / "a" / "answers.jsonl", "5"), answers(tmp_path / "b" / "answers.jsonl", "6")
    assert run(one) == "answers"
    second = run(other)
    assert second.startswith("answers-")
    for _ in range(2):
        assert (run(one), run(other)) == ("answers", second)
    answers(other, "7")
    assert run(other) == second, "it has grown or changed where it was"
    other.parent.rename(tmp_path / "c")
    assert run(tmp_path / "c" / "answers.jsonl") == second, "it was moved"
    copied = answers(tmp_path / "b" / "answers.jsonl", "7")
    third = run(copied)
    assert third not in ("answers", second), "the one that it was copied from is still there"
    assert run(one, wanted="mine") == "mine"
    assert run(one) == "answers"


def test_a_run_of_two_files_is_noted(tmp_path: Path) -> None:
    one, other = answers(tmp_path / "one.jsonl", "5"), answers(tmp_path / "other.jsonl", "6")
    ledger = Ledger(tmp_path / "results")
    told: list[str] = []
    try:
        for file in (one, one, other):
            assert not told, "one file may come again"
            assert list(noting(read_answers(file), run_of("mine", file, file, ledger, told.append), ledger))
    finally:
        ledger.close()
    assert told == [
        f"the run 'mine' also holds the answers of {one}; of an id that both have, what was read last counts"
    ]


def test_what_comes_through_a_pipe_is_known_by_its_content(tmp_path: Path, run: Run) -> None:
    one, other = answers(tmp_path / "1", "5"), answers(tmp_path / "2", "6")
    assert run(DASH, one) == "stdin"
    assert run(DASH, other).startswith("stdin-")
    assert run(DASH, one) == "stdin"


def test_an_overwritten_file_counts_as_it_is_now(tmp_path: Path) -> None:
    def report() -> tuple[dict[str, tuple[float, int]], str]:
        done = assay(tmp_path, "report", "--json")
        return {row["suite"]: (row["mean"], row["scored"]) for row in json.loads(done.stdout)}, done.stderr

    file, lines = tmp_path / "answers.jsonl", [{"id": n, "prompt": f"{n}?", "correct_answer": "5"} for n in "abc"]
    jsonl(file, [{**line, "response": "6"} for line in lines])
    assert assay(tmp_path, "score", "answers.jsonl", "--suite", "exact,answer").returncode == 0
    assert report() == ({"exact": (0.0, 3), "answer": (0.0, 3)}, "")
    jsonl(file, [{**lines[0], "response": "6"}, {**lines[1], "response": "5"}])
    assert assay(tmp_path, "score", "answers.jsonl", "--suite", "exact").returncode == 0
    found, said = report()
    assert found == {"exact": (0.5, 2), "answer": (0.0, 1)}, "of the other suite only what is still the same answer"
    assert "assay: answers: 1 answer is left out, in part or whole: the file has changed since" in said
    assert assay(tmp_path, "score", "answers.jsonl", "--suite", "answer").returncode == 0
    assert report() == ({"exact": (0.5, 2), "answer": (0.5, 2)}, ""), "what the file holds no more is not missed"
    jsonl(file, [{**lines[0], "response": "5"}, {**lines[1], "response": "5"}])
    assert assay(tmp_path, "score", "answers.jsonl", "--suite", "exact,answer", "--limit", "1").returncode == 0
    assert "2 answers are left out" in report()[1], "nobody knows whether they are still there"
    jsonl(file, [{**line, "response": "6"} for line in lines])
    assert assay(tmp_path, "score", "answers.jsonl", "--suite", "exact").returncode == 0
    assert report() == ({"exact": (0.0, 3), "answer": (0.0, 3)}, ""), "it is as it was"


def test_several_files_have_a_table_each_and_one_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    answers(tmp_path / "a.jsonl", "5")
    answers(tmp_path / "b.jsonl", "6")
    done = assay(tmp_path, "score", "a.jsonl", "none.jsonl", "b.jsonl", "--suite", "exact")
    assert done.returncode == 2
    assert done.stderr == "assay: none.jsonl: there is no such file\n"
    jsonl(tmp_path / "c.jsonl", [{"prompt": "Q?", "response": "A."}])
    unfit = assay(tmp_path, "score", "c.jsonl", "a.jsonl", "--suite", "exact")
    assert unfit.returncode == 2
    assert unfit.stdout == done.stdout.split("\n\n")[0] + "\n", "no heading of nothing"
    assert unfit.stderr.startswith("assay: c: exact scored nothing: no answer has correct_answer")
    assert "such as GSM8K's answer" in unfit.stderr
    first, second = done.stdout.split("\n\n")
    assert first.startswith("run a\n")
    assert "100%" in first
    assert second.startswith("run b\n")
    assert "0%" in second
    each = assay(tmp_path, "score", "a.jsonl", "b.jsonl", "--suite", "exact", "-o", "out")
    assert each.stdout == done.stdout
    assert [lines(tmp_path / "out" / f"{name}.jsonl")[0]["scores"]["exact"]["extracted"] for name in "ab"] == ["5", "6"]
    assert "c.jsonl takes the lines of one file" in bad(tmp_path, "score", "a.jsonl", "b.jsonl", "-o", "c.jsonl")
    assert "a.jsonl holds the answers" in assay(tmp_path, "score", "b.jsonl", "a.jsonl", "-o", ".").stderr
    assert len(lines(tmp_path / "a.jsonl")) == 1
    assert "--run mine names one run, and 2 files have one each" in bad(
        tmp_path, "score", "a.jsonl", "b.jsonl", "--run", "mine"
    ), "the ids are alike, so that the second would take the first one's place"
    written(tmp_path / "assay.toml", "[http]\nattempts = 1\n")
    gone = assay(
        tmp_path, "score", "a.jsonl", "b.jsonl", "--suite", "exact,semantic", "--judge", "http://127.0.0.1:1/v1#m"
    )
    assert gone.returncode == 3
    assert gone.stdout == done.stdout, "a judge that is gone takes nothing from what needs none, in any file"
    assert gone.stderr.count("no connection could be made") == 1


def test_neither_overwrites_the_numbers_of_the_other(tmp_path: Path) -> None:
    words = [str(answers(tmp_path / name / "answers.jsonl", text)) for name, text in (("a", "5"), ("b", "6"))]
    done = [assay(tmp_path, "score", word, "--suite", "exact", "--json") for word in words]
    rows = [json.loads(each.stdout)[0] for each in done]
    assert [row["mean"] for row in rows] == [1.0, 0.0]
    assert f"assay: the run 'answers' is that of {words[0]}; this one is called {rows[1]['run']!r}" in done[1].stderr
    assert json.loads(assay(tmp_path, "report", "--json").stdout) == rows
