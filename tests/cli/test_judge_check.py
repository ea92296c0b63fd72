"""`assay judge-check`: a judge against labels, its failures counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import assay, bad, jsonl, script
from tests.making import written

LABELS = ("reasoning", "correctness", "clarity")


def same(points: float) -> dict[str, float]:
    return dict.fromkeys(LABELS, points)


EXAMPLES: Sequence[dict[str, Any]] = (
    {"id": "a", "prompt": "Question?", "answer": "one", "labels": same(2)},
    {"id": "b", "prompt": "Question?", "answer": "two", "labels": same(5)},
    {"id": "c", "prompt": "Another?", "answer": "three", "labels": same(9)},
    {"id": "d", "prompt": "Another?", "answer": "four", "labels": same(6)},
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A judge that gives 2, 6, 9 and 8 where people gave 2, 5, 9 and 6, and favours the first of two."""
    jsonl(tmp_path / "labels.jsonl", EXAMPLES)
    given = {"one": 2, "two": 6, "three": 9, "four": 8}
    rules: list[dict[str, Any]] = [{"contains": "You compare two answers", "answer": {"better": "first"}}]
    rules += [{"contains": f"\n{answer}\n", "answer": same(points)} for answer, points in given.items()]
    script(tmp_path / "judge.yaml", rules)
    return tmp_path


def trial(place: Path, *words: str, code: int = 0) -> dict[str, Any]:
    done = assay(place, "judge-check", *words, "--json")
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return found


def test_agreement_by_hand(place: Path) -> None:
    found = trial(place, "scripted:judge.yaml", "labels.jsonl")
    assert (found["asked"], found["failures"]) == (4, [])
    clarity = found["agreement"]["clarity"]
    assert (clarity["n"], clarity["exact"]["value"], clarity["within_one"]["value"]) == (4, 0.5, 0.75)
    assert clarity["error"]["value"] == pytest.approx((0 + 1 + 0 + 2) / 4)
    assert clarity["spearman"]["value"] == pytest.approx(1.0)
    assert clarity["alpha"]["units"] == 4
    assert found["votes"] == {}, "a judge that votes once can't disagree with itself"
    # Quadratic weights: 1 less the mean squared difference over the variances and the squared difference of means.
    scores, labels = [2, 6, 9, 8], [2, 5, 9, 6]
    means = sum(scores) / 4, sum(labels) / 4
    spread = sum((s - means[0]) ** 2 for s in scores) / 4 + sum((x - means[1]) ** 2 for x in labels) / 4
    assert clarity["kappa"]["value"] == pytest.approx(1 - (5 / 4) / (spread + (means[0] - means[1]) ** 2))
    assert found["agreement"].keys() == set(LABELS)
    # Two pairs answer one question each; the judge takes the first whatever the order.
    assert (found["position"]["n"], found["position"]["first"], found["position"]["consistent"]) == (2, 2, 0)
    assert found["preferences"] == [2, 0]
    assert found["padding"]["clarity"]["mean"] == 0.0


def test_the_table(place: Path) -> None:
    shown = assay(place, "judge-check", "scripted:judge.yaml", "labels.jsonl")
    assert shown.returncode == 0, shown.stderr
    head, *body = shown.stdout.splitlines()
    assert head.split()[:3] == ["dimension", "n", "exact"]
    assert [line.split()[:3] for line in body[:3]] == [[name, "4", "50%"] for name in LABELS]
    assert "pairs: 0 of 2 judged alike in both orders" in shown.stdout
    assert "preferred in 0 of 2" in shown.stdout
    assert "votes' alpha" not in shown.stdout
    assert not (place / "assay-results").exists(), "nothing is kept"


def test_how_a_judges_votes_agree(place: Path) -> None:
    found = trial(place, "scripted:judge.yaml", "labels.jsonl", "--votes", "2")
    agreed = {name: (each["units"], each["interval"]["value"]) for name, each in found["votes"].items()}
    assert agreed == dict.fromkeys(LABELS, (4, 1.0))
    assert "votes' alpha" in assay(place, "judge-check", "scripted:judge.yaml", "labels.jsonl", "--votes", "2").stdout


def test_several_labels_of_one_answer(place: Path) -> None:
    jsonl(place / "more.jsonl", [*EXAMPLES, {**EXAMPLES[0], "id": "a2", "labels": same(4)}])
    found = trial(place, "scripted:judge.yaml", "more.jsonl")
    assert (found["asked"], found["answers"]) == (5, 4)
    assert (found["agreement"]["clarity"]["n"], found["agreement"]["clarity"]["answers"]) == (5, 4)
    assert found["agreement"]["clarity"]["alpha"]["units"] == 4
    assert found["agreement"]["clarity"]["kappa"]["low"] is None, "four answers make no interval"
    assert found["position"]["n"] == 2
    shown = assay(place, "judge-check", "scripted:judge.yaml", "more.jsonl").stdout
    assert "n: labels, of 4 answers" in shown
    assert "n: labels" not in assay(place, "judge-check", "scripted:judge.yaml", "labels.jsonl").stdout


def test_failures_are_counted_and_in_no_number(place: Path) -> None:
    rules = [{"contains": "\ntwo\n", "answer": "Nice!"}, {"contains": "You compare two answers", "fail": "error"}]
    script(place / "weak.yaml", rules, default=same(5))
    found = trial(place, "scripted:weak.yaml", "labels.jsonl", code=1)
    assert found["agreement"]["clarity"]["n"] == 3
    assert len(found["failures"]) == 2 + 2, "plain, padded, and both pairs"
    assert found["position"]["n"] == 0
    shown = assay(place, "judge-check", "scripted:weak.yaml", "labels.jsonl")
    assert shown.returncode == 1
    assert "4 without a verdict, in no number above" in shown.stderr
    assert "2 without a verdict: the judge gave no usable verdict in 3 replies" in shown.stderr


def test_a_judge_that_never_answers_gets_no_number(place: Path) -> None:
    script(place / "none.yaml", [], default="Nice!")
    found = trial(place, "scripted:none.yaml", "labels.jsonl", code=4)
    assert found["agreement"]["clarity"]["n"] == 0
    assert found["agreement"]["clarity"]["exact"]["value"] is None
    assert found["padding"] == {}
    assert found["position"]["p"] is None
    shown = assay(place, "judge-check", "scripted:none.yaml", "labels.jsonl")
    assert (shown.returncode, shown.stdout) == (4, "")
    assert "without a verdict: the judge gave no usable verdict in 3 replies" in shown.stderr
    assert "the judge gave no verdict at all on 4 examples, so nothing is known of it" in shown.stderr


def test_a_judge_that_only_compares_gets_no_number_for_what_it_did_not_judge(place: Path) -> None:
    script(place / "half.yaml", [{"contains": "You compare", "answer": {"better": "tie"}}], default="Nice!")
    shown = assay(place, "judge-check", "scripted:half.yaml", "labels.jsonl")
    assert shown.returncode == 1
    assert {word for line in shown.stdout.splitlines()[1:4] for word in line.split()[1:]} == {"0", "–"}
    assert "2 of 2 judged alike" in shown.stdout
    script(place / "other.yaml", [{"contains": "You compare", "answer": "Nice!"}], default=same(5))
    shown = assay(place, "judge-check", "scripted:other.yaml", "labels.jsonl")
    assert shown.returncode == 1
    assert "pairs: none was judged in both orders" in shown.stdout


def test_the_labels_that_come_with_a_rubric(place: Path) -> None:
    script(place / "five.yaml", [{"contains": "You compare", "answer": {"better": "tie"}}], default=same(5))
    found = trial(place, "scripted:five.yaml")
    assert found["asked"] >= 20
    assert found["position"]["consistent"] == found["position"]["n"] > 0


def test_an_unreachable_judge_is_exit_code_3(place: Path) -> None:
    done = assay(place, "judge-check", "http://127.0.0.1:1/v1#m", "labels.jsonl")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


def test_bad_input(place: Path) -> None:
    judge = "scripted:judge.yaml"
    assert "gone.jsonl: there is no such file" in bad(place, "judge-check", judge, "gone.jsonl")
    assert "no labelled examples come with the rubric 'semantic'" in bad(
        place, "judge-check", judge, "--rubric", "semantic"
    )
    assert "did you mean 'semantic'" in bad(place, "judge-check", judge, "--rubric", "semantik")
    assert "votes" in bad(place, "judge-check", judge, "labels.jsonl", "--votes", "0")
    assert "the script gone.yaml cannot be read" in bad(place, "judge-check", "scripted:gone.yaml", "labels.jsonl")
    jsonl(place / "short.jsonl", [EXAMPLES[0], {**EXAMPLES[1], "labels": {"clarity": 3}}])
    assert "short.jsonl:2: there is no label for 'reasoning'" in bad(place, "judge-check", judge, "short.jsonl")
    written(place / "empty.jsonl", "\n")
    assert "there are no labelled examples" in bad(place, "judge-check", judge, "empty.jsonl")
