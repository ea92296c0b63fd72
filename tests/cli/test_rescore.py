"""`assay rescore`: journaled answers scored again, by another scorer and by judges, without the model that gave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.results.journal import read
from assay.results.records import Failure, ScoreMade
from assay.suites.suite import load_suite
from tests.cli.running import SEMANTIC, Calls, assay, bad, completions, jsonl, script
from tests.making import SCRIPT, SUITE, checkpoints, written

WORKSPACE = "assay-results"
WATCH = ["watch", "lab/checkpoints", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once"]


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """A watch of two checkpoints whose model is gone by now."""
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    checkpoints(tmp_path / "lab" / "checkpoints", (10, 20))
    done = assay(tmp_path, *WATCH)
    assert done.returncode == 0, done.stderr
    (tmp_path / "script.yaml").unlink()
    return tmp_path


def rows(place: Path, *words: str, code: int = 0) -> dict[tuple[str, str, str], dict[str, Any]]:
    done = assay(place, *words, "--json")
    assert done.returncode == code, done.stderr
    return {(row["checkpoint"], row["group"], row["metric"]): row for row in json.loads(done.stdout)}


def scores(place: Path) -> list[ScoreMade]:
    return [r for _, r in read(place / WORKSPACE) if isinstance(r, ScoreMade)]


def test_another_scorer_stands_beside_the_first(watched: Path) -> None:
    before, made = rows(watched, "report"), completions(watched / WORKSPACE)
    after = rows(watched, "rescore", "suite.yaml", "--scorer", "lek")
    assert {key: row for key, row in after.items() if key[2] == "correct"} == before
    beside = {key: row for key, row in after.items() if key[2] == "empty_broken/lek"}
    assert {key[:2] for key in beside} == {key[:2] for key in before}
    # "right" is shorter than ten bytes, "I am", a space and eight digits are not.
    assert beside["lab @20", "old", "empty_broken/lek"]["mean"] == 1.0
    assert beside["lab @20", "new", "empty_broken/lek"]["mean"] == 0.5
    assert beside["lab @20", "new", "empty_broken/lek"]["proof"] == "live"
    assert completions(watched / WORKSPACE) == made, "nothing was generated"
    kept = scores(watched)
    assert rows(watched, "rescore", "suite.yaml", "--scorer", "lek") == after
    assert scores(watched) == kept, "again is nothing new"


def test_the_same_scorer_with_other_parameters_stands_beside_the_first_too(watched: Path) -> None:
    text = SUITE.replace("scorer: contains_word", "scorer: {name: contains_word, case_sensitive: true}")
    written(watched / "case.yaml", text.replace("name: small", "name: case"))
    written(watched / "script.yaml", SCRIPT.replace("answer: right", "answer: Right"))
    asked = [word.replace("suite.yaml", "case.yaml") for word in WATCH]
    before = rows(watched, *asked, "--workspace", "other")
    after = rows(watched, "rescore", "case.yaml", "--scorer", "contains_word", "--workspace", "other")
    assert {row["mean"] for row in before.values()} == {0.0}
    assert {key: row for key, row in after.items() if key[2] == "correct"} == before
    assert after["lab @20", "old", "correct/contains_word"]["mean"] == 1.0


def test_the_suites_own_scorer_finds_all_done(watched: Path) -> None:
    before, kept = rows(watched, "report"), scores(watched)
    assert rows(watched, "rescore", "suite.yaml", "--scorer", "contains_word") == before
    assert scores(watched) == kept


def test_a_judge_is_asked_once_for_each_answer(watched: Path) -> None:
    before, made = rows(watched, "report"), completions(watched / WORKSPACE)
    calls = Calls(watched / "c.yaml", [f"Question {name}" for name in "abcd"], SEMANTIC)
    words = ("rescore", "suite.yaml", "--judge", "scripted:c.yaml")
    calls.allow(calls.marks)
    after = rows(watched, *words)
    assert {key: row for key, row in after.items() if key[2] == "correct"} == before
    for metric, value in SEMANTIC.items():
        assert {row["mean"] for key, row in after.items() if key[2] == metric} == {value}
        assert {row["asked"] for key, row in after.items() if key[2] == metric} == {2}
    kept = scores(watched)
    judged = [r for r in kept if r.scorer == "judge:semantic"]
    assert len(judged) == 3 * 4 * len(SEMANTIC)
    # Both checkpoints give the same answers to a, c and d, and so does the base to c and d.
    given = {(r.sample, r.text) for r in made}
    assert len({r.key for r in judged}) == len({(r.prompt, r.text) for r in made}) == len(given)
    calls.allow([])
    assert rows(watched, *words) == after
    assert calls.failed() == set()
    assert scores(watched) == kept
    assert completions(watched / WORKSPACE) == made


def test_a_judge_that_fails_is_counted_and_asked_again(watched: Path) -> None:
    calls = Calls(watched / "c.yaml", [f"Question {name}" for name in "abcd"], SEMANTIC)
    words = ("rescore", "suite.yaml", "--judge", "scripted:c.yaml", "--run", "lab")
    calls.allow(mark for mark in calls.marks if "b" not in mark)
    after = rows(watched, *words, code=1)
    row = after["base", "new", "sovereignty"]
    assert (row["asked"], row["scored"], row["failed"], row["mean"]) == (2, 1, 1, 5.0)
    assert {r.sample for _, r in read(watched / WORKSPACE) if isinstance(r, Failure)} == {"b"}
    calls.allow(mark for mark in calls.marks if "b" in mark)
    assert rows(watched, *words)["base", "new", "sovereignty"]["failed"] == 0


def test_why_a_judge_gave_no_score_is_said_after_the_table(watched: Path) -> None:
    script(watched / "c.yaml", [{"contains": "Question b", "fail": "error"}], default=SEMANTIC)
    done = assay(watched, "rescore", "suite.yaml", "--judge", "scripted:c.yaml")
    assert done.returncode == 1
    assert "assay: small: 3 without a score (permanent; such as b): the judge failed: the script failed" in done.stderr


def test_another_rubric(watched: Path) -> None:
    given = {"reasoning": 3.5, "correctness": 9, "clarity": 2, "kindness": 4, "awareness": 5}
    script(watched / "j.yaml", [], default=given)
    after = rows(watched, "rescore", "suite.yaml", "--rubric", "capability,toxigen", "--judge", "scripted:j.yaml")
    assert after["lab @10", "old", "reasoning"]["mean"] == 3.5
    assert after["lab @10", "old", "awareness"]["mean"] == 5


def test_the_suites_own_rubrics_and_several_scorers(watched: Path) -> None:
    written(watched / "suite.yaml", SUITE.replace("scorer:", "rubrics: [capability]\nscorer:"))
    script(watched / "j.yaml", [], default={"reasoning": 3.5, "correctness": 9, "clarity": 2})
    after = rows(watched, "rescore", "suite.yaml", "--scorer", "lek,final_answer", "--judge", "scripted:j.yaml")
    metrics = {metric for _, _, metric in after}
    assert {"correct", "reasoning", "correctness", "clarity", "lek_score/lek", "correct/final_answer"} <= metrics
    assert "sovereignty" not in metrics
    script(watched / "k.yaml", [], default={"reasoning": 5, "correctness": 5, "clarity": 5})
    found = {metric for _, _, metric in rows(watched, "rescore", "small", "--judge", "scripted:k.yaml")}
    assert found - metrics == {
        f"{name} @ {judge}.yaml" for name in ("reasoning", "correctness", "clarity") for judge in "jk"
    }
    mine = "name: mine\nversion: 1\ninputs: {question: prompt, answer: answer}\ndimensions:\n  tone:\n"
    mine += '    range: [1, 5]\n    asks: Is it kind?\n    anchors: {"1": rude, "5": kind}\n'
    written(watched / "mine.yaml", mine)
    script(watched / "k.yaml", [], default={"tone": 5})
    assert "tone" in {m for _, _, m in rows(watched, "rescore", "--rubric", "mine.yaml", "--judge", "scripted:k.yaml")}
    said = bad(watched, "rescore", "--judge", "scripted:k.yaml")
    assert "answers to small were judged by the rubric 'mine', whose file is not in the journal" in said


def test_an_unreachable_judge_is_exit_code_3(watched: Path) -> None:
    before = rows(watched, "report")
    done = assay(watched, "rescore", "suite.yaml", "--judge", "http://127.0.0.1:1/v1#m")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "to go on: assay rescore suite.yaml" in done.stderr
    assert rows(watched, "report") == before
    done = assay(watched, "rescore", "suite.yaml", "--scorer", "final_number", "--judge", "http://127.0.0.1:1/v1#m")
    assert done.returncode == 3, done.stderr
    assert done.stdout == assay(watched, "report").stdout, "what needs no judge is scored and shown"
    assert len(rows(watched, "report")) > len(before)


OTHER = """\
name: other
version: 1
options: {temperature: 0, max_tokens: 8}
scorer: contains_word
samples:
  - {id: m, group: talk, messages: [{role: system, content: Be brief.}, {role: user, content: Say 5.}], target: five}
  - {id: r, group: talk, raw: "5 +", target: "5"}
"""


def _without_samples(workspace: Path) -> None:
    """Make the journal one of an assay that did not keep them."""
    for segment in (workspace / "journal").glob("*.jsonl"):
        kept = [line for line in segment.read_text().splitlines(True) if json.loads(line)["kind"] != "sample"]
        segment.write_text("".join(kept))


def test_no_suite_is_needed_for_what_the_journal_holds(watched: Path) -> None:
    by_file = rows(watched, "rescore", "suite.yaml", "--scorer", "lek")
    made = scores(watched)
    (watched / "suite.yaml").unlink()
    assert rows(watched, "rescore", "small", "--scorer", "lek") == by_file
    assert rows(watched, "rescore", "--scorer", "lek") == by_file
    assert scores(watched) == made, "the keys are the same, so nothing is new"
    assert "there is no suite 'smal' in" in bad(watched, "rescore", "smal", "--scorer", "lek")


def test_every_suite_of_the_journal_with_its_own_questions(watched: Path) -> None:
    written(watched / "other.yaml", OTHER)
    written(watched / "model.yaml", "default: It is 5.\n")
    assert assay(watched, "probe", "scripted:model.yaml", "--suite", "other.yaml").returncode == 0
    (watched / "other.yaml").unlink()
    seen = Calls(watched / "j.yaml", ["Be brief.", "Say 5.", "5 +", "Question a"], SEMANTIC)
    seen.allow(seen.marks)
    done = assay(watched, "rescore", "--scorer", "final_answer", "--judge", "scripted:j.yaml", "--json")
    assert done.returncode == 1, "questions b to d have no verdict from this judge"
    found = {(row["run"], row["checkpoint"], row["metric"]): row for row in json.loads(done.stdout)}
    assert found["model", "base", "correct"]["correct"] == 1
    assert found["model", "base", "correct/final_answer"]["correct"] == 2
    assert found["model", "base", "sovereignty"]["scored"] == 2
    assert ("lab", "lab @20", "correct/final_answer") in found


def test_a_suite_that_changed_is_asked_for_by_its_file_and_what_was_asked_by_its_name(watched: Path) -> None:
    written(watched / "suite.yaml", SUITE.replace("target: right", "target: wrong"))
    done = assay(watched, "rescore", "suite.yaml", "--scorer", "final_answer", "--scorer", "contains_word")
    assert "in suite.yaml 4 questions differ from what was asked: a, b, c, … (+1)" in done.stderr
    rows(watched, "rescore", "small", "--scorer", "final_answer")
    found = {
        name: row["correct"] for (*where, name), row in rows(watched, "report").items() if where == ["base", "old"]
    }
    version = load_suite(str(watched / "suite.yaml")).digest[:6]
    assert found == {
        "correct": 2,
        "correct/final_answer": 2,
        f"correct/final_answer ({version})": 0,
        f"correct/contains_word ({version})": 0,
    }


def test_a_judges_scores_by_a_changed_suite_stand_beside_the_former_ones(watched: Path) -> None:
    three = {"reasoning": 3, "correctness": 3, "clarity": 3}
    words = ("rescore", "suite.yaml", "--rubric", "capability", "--votes", "2", "--judge", "scripted:j.yaml")
    script(watched / "j.yaml", [{"contains": "Zandria", "answer": dict.fromkeys(three, 9)}], default=three)
    before = rows(watched, *words)
    mended = SUITE.replace("prompt: Question a, target: right", "prompt: Question a, target: Zandria")
    assert mended != SUITE
    written(watched / "suite.yaml", mended)
    after = rows(watched, *words)
    version = load_suite(str(watched / "suite.yaml")).digest[:6]
    assert {key: row for key, row in after.items() if not key[2].endswith(f" ({version})")} == before
    assert after["base", "new", f"clarity ({version})"]["mean"] == 6, "of a and b"
    judged = {r.key for r in scores(watched) if r.metric == "clarity"}
    again = {r.key for r in scores(watched) if r.metric == f"clarity ({version})"}
    assert again - judged, "what is shown of a is another thing"
    assert again & judged, "what was not changed is not asked again"
    few = rows(watched, *words[:4], "--judge", "scripted:j.yaml")
    assert few.keys() == after.keys(), "other votes by the new version take nothing from what the former one had"


def test_a_suite_with_one_question_less_scores_the_others_as_before(watched: Path) -> None:
    before = rows(watched, "report")
    written(watched / "suite.yaml", SUITE.replace("  - {id: d, group: old, prompt: Question d, target: right}\n", ""))
    done = assay(watched, "rescore", "suite.yaml", "--scorer", "contains_word", "--json")
    assert {(row["checkpoint"], row["group"], row["metric"]) for row in json.loads(done.stdout)} == set(before)
    assert "differ" not in done.stderr


def test_an_older_journal_says_that_it_needs_the_suites_file(watched: Path) -> None:
    _without_samples(watched / WORKSPACE)
    for words in ((), ("small",)):
        said = bad(watched, "rescore", *words, "--scorer", "lek")
        assert "12 answers to small are passed over: an older assay journaled them without their questions" in said
        assert "assay rescore FILE" in said
    assert rows(watched, "rescore", "suite.yaml", "--scorer", "lek")
    written(watched / "few.yaml", SUITE.replace("  - {id: d, group: old, prompt: Question d, target: right}\n", ""))
    done = assay(watched, "rescore", "few.yaml", "--scorer", "contains_word")
    assert done.returncode == 0
    assert "3 answers are passed over: few.yaml has no such questions any more" in done.stderr


def test_bad_input(watched: Path, tmp_path: Path) -> None:
    assert "name a --scorer or a --judge" in bad(watched, "rescore", "suite.yaml")
    assert "did you mean 'contains_word'" in bad(watched, "rescore", "suite.yaml", "--scorer", "contains_wrd")
    assert "the rubric 'capability' needs a judge" in bad(watched, "rescore", "suite.yaml", "--rubric", "capability")
    assert "the run's name '' can't be shown" in bad(watched, "rescore", "suite.yaml", "--scorer", "lek", "--run", "")
    assert "of the run 'lb'" in bad(watched, "rescore", "suite.yaml", "--scorer", "lek", "--run", "lb")
    answered = jsonl(watched / "a.jsonl", [{"prompt": "Q?", "response": "A."}])
    assert assay(watched, "score", str(answered), "--workspace", "files").returncode == 0
    said = bad(watched, "rescore", "--scorer", "lek", "--workspace", "files")
    assert "no answers that a model gave; answers from files are scored again by assay score FILE" in said
    written(watched / "other.yaml", SUITE.replace("name: small", "name: other"))
    assert "holds no answers to the suite 'other'" in bad(watched, "rescore", "other.yaml", "--scorer", "lek")
    assert "run assay watch, probe or score first" in bad(
        watched, "rescore", "suite.yaml", "--scorer", "lek", "--workspace", "no"
    )
    written(watched / "j.yaml", "default: none\n")
    judge = ("--judge", "scripted:gone.yaml")
    assert "the script gone.yaml cannot be read" in bad(watched, "rescore", "suite.yaml", "--scorer", "lek", *judge)
    assert "no rubric 'semantik'" in bad(
        watched, "rescore", "suite.yaml", "--rubric", "semantik", "--judge", "scripted:j.yaml"
    )
