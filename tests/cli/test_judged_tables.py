"""Judged scores and scores of files in the tables: no average mixes two judges, and `report` shows what `score` showed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.results.journal import read
from assay.results.records import AnswerScored, AnyRecord, ScoreMade
from tests.cli.running import ASSAY, SEMANTIC, STANDARD, Calls, assay, bad, jsonl, script, standard_judge
from tests.making import SCRIPT, SUITE, checkpoints, written

WORKSPACE = "assay-results"
WATCH = ("watch", "lab/checkpoints", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once")
RESCORE = ("rescore", "suite.yaml", "--judge")
HIGH = dict.fromkeys(SEMANTIC, 9)
LOW = dict.fromkeys(SEMANTIC, 2)

Rows = dict[tuple[str, str, str], dict[str, Any]]


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """A watch of two checkpoints, and two judges that differ."""
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    checkpoints(tmp_path / "lab" / "checkpoints", (10, 20))
    done = assay(tmp_path, *WATCH)
    assert done.returncode == 0, done.stderr
    script(tmp_path / "high.yaml", [], default=HIGH)
    script(tmp_path / "low.yaml", [], default=LOW)
    return tmp_path


def rows(place: Path, *words: str, code: int = 0) -> Rows:
    done = assay(place, *words, "--json")
    assert done.returncode == code, done.stderr
    return {(row["checkpoint"], row["group"], row["metric"]): row for row in json.loads(done.stdout)}


def column(found: Rows, metric: str) -> list[tuple[float | None, int, int]]:
    """Mean, scored and failed of each row under a metric."""
    return [(row["mean"], row["scored"], row["failed"]) for key, row in found.items() if key[2] == metric]


def ask(place: Path, sql: str) -> list[dict[str, Any]]:
    done = assay(place, "query", sql, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_two_judges_stand_beside_each_other(watched: Path) -> None:
    plain = rows(watched, "report")
    one = rows(watched, *RESCORE, "scripted:high.yaml")
    assert column(one, "sovereignty") == [(9, 2, 0)] * 6, "one judge: the metric's own name"
    both = rows(watched, *RESCORE, "scripted:low.yaml")
    assert column(both, "sovereignty @ high.yaml") == [(9, 2, 0)] * 6
    assert column(both, "sovereignty @ low.yaml") == [(2, 2, 0)] * 6
    assert column(both, "sovereignty") == []
    assert {key: row for key, row in both.items() if key[2] == "correct"} == plain
    assert rows(watched, "report") == both
    table = assay(watched, "report").stdout
    assert "sovereignty @ high.yaml" in table
    assert "sovereignty @ low.yaml" in table
    before = assay(watched, "report").stdout.partition("best:")[2]
    assert before.startswith("     lab @")
    found = ask(
        watched,
        "select judge, mean, scored from checkpoint_scores where metric = 'sovereignty' and checkpoint = 'base' "
        "and \"group\" = 'old' order by judge",
    )
    assert found == [
        {"judge": "scripted:high.yaml", "mean": 9.0, "scored": 2},
        {"judge": "scripted:low.yaml", "mean": 2.0, "scored": 2},
    ]


def test_a_judge_killed_half_way_changes_nothing_of_the_first_ones(watched: Path) -> None:
    rows(watched, *RESCORE, "scripted:high.yaml")
    rules = [{"contains": f"Question {name}", "answer": LOW, "seconds": 0.02 * (name > "a")} for name in "abcd"]
    script(watched / "slow.yaml", rules)
    process = subprocess.Popen([ASSAY, *RESCORE, "scripted:slow.yaml"], cwd=watched, stderr=subprocess.DEVNULL)
    try:
        _until(watched, lambda r: isinstance(r, ScoreMade) and r.judge == "scripted:slow.yaml", 3 * len(SEMANTIC))
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    found = rows(watched, "report")
    assert column(found, "sovereignty @ high.yaml") == [(9, 2, 0)] * 6
    half = column(found, "sovereignty @ slow.yaml")
    assert {mean for mean, _, _ in half} == {2}
    assert 0 < sum(scored for _, scored, _ in half) < 12
    found = rows(watched, *RESCORE, "scripted:slow.yaml")
    assert column(found, "sovereignty @ slow.yaml") == [(2, 2, 0)] * 6
    assert column(found, "sovereignty @ high.yaml") == [(9, 2, 0)] * 6


def _until(place: Path, fits: Callable[[AnyRecord], bool], count: int) -> None:
    deadline = time.monotonic() + 60
    while sum(fits(r) for _, r in read(place / WORKSPACE)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_judges_failures_are_its_own(watched: Path) -> None:
    rows(watched, *RESCORE, "scripted:high.yaml")
    calls = Calls(watched / "moody.yaml", [f"Question {name}" for name in "abcd"], LOW)
    calls.allow(mark for mark in calls.marks if "b" not in mark)
    found = rows(watched, *RESCORE, "scripted:moody.yaml", code=1)
    assert column(found, "sovereignty @ high.yaml") == [(9, 2, 0)] * 6
    failed = {key[:2]: row["failed"] for key, row in found.items() if key[2] == "sovereignty @ moody.yaml"}
    assert {key for key, count in failed.items() if count} == {("base", "new")}
    assert ask(watched, "select distinct judge, scorer from failures") == [
        {"judge": "scripted:moody.yaml", "scorer": "judge:semantic"}
    ]


def test_two_measures_of_one_judge_are_never_averaged(watched: Path) -> None:
    first = rows(watched, *RESCORE, "scripted:high.yaml")
    script(watched / "high.yaml", [], default={**HIGH, "sovereignty": 7})  # another judge under the same name
    second = rows(watched, *RESCORE, "scripted:high.yaml")
    assert column(second, "sovereignty") == [(7, 2, 0)] * 6
    third = rows(watched, *RESCORE, "scripted:high.yaml", "--votes", "3")
    assert column(third, "sovereignty") == [(7, 2, 0)] * 6
    told = "votes: 3 for each score of semantic, median spread 0, largest 0"
    assert told in assay(watched, "report").stdout.splitlines()
    kept = ask(watched, "select standing, count(*) as n from measures join all_cells using (measure) group by standing")
    assert sorted((row["standing"], row["n"]) for row in kept) == [(False, 2 * 48), (True, 48)]
    first_again = ask(
        watched,
        "select distinct value from all_cells where metric = 'sovereignty' and measure = "
        "(select measure from measures order by seq limit 1)",
    )
    assert first_again == [{"value": 9.0}], "what no table shows is there for queries"
    script(watched / "high.yaml", [], default=HIGH)
    assert rows(watched, *RESCORE, "scripted:high.yaml") == first, "used again, it stands again, and costs nothing"
    assert ask(watched, "select count(*) as n from measures where standing") == [{"n": 1}]


def test_a_judge_that_became_another_half_way_leaves_no_mixture(watched: Path) -> None:
    marks = [f"Question {name}" for name in "abcd"]
    calls = Calls(watched / "c.yaml", marks, HIGH)
    calls.allow(marks)
    rows(watched, *RESCORE, "scripted:c.yaml")
    # The same file is another judge now, and fails where it was not allowed to answer: that is the column's all.
    calls = Calls(watched / "c.yaml", marks, LOW)
    calls.allow(marks[:2])
    found = rows(watched, *RESCORE, "scripted:c.yaml", code=1)
    assert {mean for mean, _, _ in column(found, "sovereignty")} <= {2, None}


def test_compare_pairs_no_two_judges(watched: Path) -> None:
    done = assay(watched, *WATCH, "--run", "other")
    assert done.returncode == 0, done.stderr
    rows(watched, *RESCORE, "scripted:high.yaml", "--run", "lab")
    rows(watched, *RESCORE, "scripted:low.yaml", "--run", "other")

    def changes() -> dict[tuple[str, str], int]:
        done = assay(watched, "compare", "lab", "other", "--json")
        assert done.returncode == 0, done.stderr
        return {(change["group"], change["metric"]): change["n"] for change in json.loads(done.stdout)}

    found = changes()
    assert found["old", "correct"] == 2
    assert found["old", "sovereignty @ high.yaml"] == found["old", "sovereignty @ low.yaml"] == 0
    rows(watched, *RESCORE, "scripted:high.yaml", "--run", "other")
    assert changes()["old", "sovereignty @ high.yaml"] == 2
    rows(watched, *RESCORE, "scripted:high.yaml", "--run", "other", "--votes", "3")
    apart = {name: n for (group, name), n in changes().items() if group == "old" and "high" in name and "sov" in name}
    assert len(apart) == 2, "one vote and three are not compared"
    assert set(apart.values()) == {0}


def test_two_rubrics_of_one_name_are_refused(watched: Path) -> None:
    text = (
        "name: brevity\nversion: 1\ninputs: {question: prompt, answer: answer}\ndimensions:\n  brevity:\n"
        '    range: [1, 10]\n    asks: Is it short?\n    anchors: {"1": long, "10": short}\n'
    )
    for name, given in (("one", text), ("same", text), ("two", text.replace("Is it", "Is it very"))):
        written(watched / f"{name}.yaml", given)
    script(watched / "j.yaml", [], default={"brevity": 4})
    judge = ("--judge", "scripted:j.yaml")
    jsonl(watched / "a.jsonl", [{"id": "x", "prompt": "Q", "response": "A"}])
    told = bad(watched, "score", "a.jsonl", "--suite", "one.yaml,two.yaml", *judge)
    assert "one.yaml and two.yaml are two suites of one name, 'brevity'" in told
    told = bad(watched, "rescore", "suite.yaml", "--rubric", "one.yaml", "--rubric", "two.yaml", *judge)
    assert "two of the rubrics are called 'brevity'" in told
    done = assay(watched, "score", "a.jsonl", "--suite", "./one.yaml,one.yaml,same.yaml", *judge, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [(row["suite"], row["metric"], row["asked"]) for row in json.loads(done.stdout)] == [
        ("brevity", "brevity", 1)
    ]


# --- Answers from files ---


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Answers of two models, one of them cut off and one without a verdict, and a judge."""
    answers = [{**record, "model": model} for model in ("old", "new") for record in STANDARD]
    answers[0] = {**answers[0], "finish_reason": "length"}
    jsonl(tmp_path / "a.jsonl", answers)
    standard_judge(tmp_path / "judge.yaml")
    return tmp_path


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """Whether two lists of rows are the same but for the last digits of means."""
    return [list(row) for row in one] == [list(row) for row in other] and all(
        value == pytest.approx(b[name]) if isinstance(value, float) else value == b[name]
        for a, b in zip(one, other, strict=True)
        for name, value in a.items()
    )


@pytest.mark.parametrize("suites", ["heuristic", "exact", "standard", "standard,heuristic,exact"])
def test_report_shows_the_table_that_score_showed(place: Path, suites: str) -> None:
    words = ("score", "a.jsonl", "--suite", suites, "--judge", "scripted:judge.yaml", "--run", "mine")
    shown = assay(place, *words)
    assert shown.returncode == 0, shown.stderr
    again = assay(place, "report", "--run", "mine")
    assert again.returncode == 0, again.stderr
    assert again.stdout == shown.stdout
    made = json.loads(assay(place, *words, "--json").stdout)
    assert same(json.loads(assay(place, "report", "--run", "mine", "--json").stdout), made)


def test_report_counts_what_has_no_score(place: Path) -> None:
    words = ("score", "a.jsonl", "--suite", "standard,exact", "--judge", "scripted:none.yaml", "--run", "mine")
    script(place / "none.yaml", [{"contains": "kindness", "answer": {"kindness": 3, "awareness": 4}}], default="no")
    shown = assay(place, *words)
    assert shown.returncode == 1
    again = assay(place, "report", "--run", "mine")
    assert again.stdout == shown.stdout
    assert "1 truncated" in again.stdout
    assert "1 failed" in again.stdout
    assert set(again.stderr.splitlines()) == set(shown.stderr.splitlines())
    assert re.search(r"standard: \d+ without a score \(permanent; .*\): the judge gave no usable verdict", again.stderr)


def test_two_judges_of_a_file(place: Path) -> None:
    script(place / "high.yaml", [], default=HIGH)
    script(place / "low.yaml", [], default=LOW)
    for judge in ("high", "low"):
        words = ("score", "a.jsonl", "--suite", "semantic", "--judge", f"scripted:{judge}.yaml")
        assert assay(place, *words).returncode == 0
    found = json.loads(assay(place, "report", "--run", "a", "--json").stdout)
    means = {(row["model"], row["metric"]): (row["mean"], row["scored"]) for row in found}
    assert means["old", "self_concept @ high.yaml"] == (9, 5), "one of the six was cut off"
    assert means["new", "self_concept @ high.yaml"] == (9, 6)
    assert means["new", "self_concept @ low.yaml"] == (2, 6)


def test_suites_scored_one_after_the_other_are_both_there(place: Path) -> None:
    for suite in ("heuristic", "exact"):
        assert assay(place, "score", "a.jsonl", "--suite", suite).returncode == 0
    found = json.loads(assay(place, "report", "--json").stdout)
    assert {row["suite"] for row in found} == {"heuristic", "exact"}
    one = ask(place, "select suite, scores from answers where sample = 'g2' and model = 'old' order by seq")
    assert [row["suite"] for row in one] == ["heuristic", "exact"]
    assert json.loads(one[1]["scores"]) == {"correct": False, "extracted": "7"}
    only = json.loads(assay(place, "report", "--suite", "exact", "--json").stdout)
    assert {row["suite"] for row in only} == {"exact"}


def test_report_without_a_run_shows_both_kinds(watched: Path) -> None:
    jsonl(watched / "a.jsonl", STANDARD)
    assert assay(watched, "score", "a.jsonl", "--suite", "exact", "--run", "lab").returncode == 0
    table = assay(watched, "report").stdout
    assert "run lab, suite small\n" in table
    assert "run lab, answers from files\n" in table
    assert "best:" in table
    assert "50% [9%–91%] (n=2)" in table
    kinds = {("model" in row, "checkpoint" in row) for row in json.loads(assay(watched, "report", "--json").stdout)}
    assert kinds == {(True, False), (False, True)}
    assert "did you mean 'lab'" in bad(watched, "report", "--run", "lba")


def test_a_killed_scoring_shows_what_it_earned(place: Path) -> None:
    slow = {"contains": "kindness", "answer": {"kindness": 3, "awareness": 4}, "seconds": 20}
    script(place / "slow.yaml", [slow], default="none")
    words = (
        "score",
        "a.jsonl",
        "--suite",
        "exact,heuristic,standard",
        "--judge",
        "scripted:slow.yaml",
        "--run",
        "mine",
    )
    process = subprocess.Popen([ASSAY, *words], cwd=place, stderr=subprocess.DEVNULL)
    try:
        _until(place, lambda r: isinstance(r, AnswerScored), 2)
    finally:
        process.kill()
        process.wait()
    found = json.loads(assay(place, "report", "--run", "mine", "--json").stdout)
    assert any(row["suite"] == "exact" and row["asked"] for row in found)
