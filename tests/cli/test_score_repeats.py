"""Questions that were asked more than once, from every format that has them: `score`, `report` and `compare` agree."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from assay.results.means import Means
from assay.results.stats import wilson
from tests.cli.running import assay, jsonl, lines, script

# Right answers of four, to each of six questions.
RIGHT = (4, 4, 2, 1, 0, 3)
ANSWERS = [
    {"id": f"q{n}", "repeat": repeat, "prompt": f"What is 2 + {n}?", "response": "7" if repeat < right else "no", "target": "7"}
    for repeat in range(4)
    for n, right in enumerate(RIGHT)
]  # fmt: skip


def as_jsonl(folder: Path) -> Path:
    return jsonl(folder / "answers.jsonl", ANSWERS)


def as_csv(folder: Path) -> Path:
    with (folder / "answers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ANSWERS[0]))
        writer.writeheader()
        writer.writerows(ANSWERS)
    return folder / "answers.csv"


def as_inspect_log(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "answers.eval", "w") as archive:
        archive.writestr("header.json", json.dumps({"eval": {"model": "", "task": "", "config": {"epochs": 4}}}))
        for a in ANSWERS:
            choice = {"message": {"role": "assistant", "content": a["response"]}, "stop_reason": "stop"}
            sample = {"id": a["id"], "epoch": int(str(a["repeat"])) + 1, "input": a["prompt"], "target": "7"}
            name = f"samples/{a['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps({**sample, "output": {"choices": [choice]}}))
    return folder / "answers.eval"


def of_question(name: str) -> list[str]:
    return [str(a["response"]) for a in ANSWERS if a["id"] == name]


def as_lm_eval(folder: Path) -> Path:
    arguments = {"gen_args_0": {"arg_0": "Q", "arg_1": {}}}
    found = [
        {"doc_id": f"q{n}", "target": "7", "arguments": arguments, "resps": [of_question(f"q{n}")], "filter": "none"}
        for n in range(len(RIGHT))
    ]
    return jsonl(folder / "answers.jsonl", found)


def as_batch(folder: Path) -> Path:
    def body(name: str) -> dict[str, Any]:
        choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in of_question(name)]
        return {"choices": choices}

    names = [f"q{n}" for n in range(len(RIGHT))]
    asked = {"messages": [{"role": "user", "content": "Q"}], "metadata": {"target": "7"}}
    jsonl(folder / "answers_input.jsonl", [{"custom_id": name, "body": asked} for name in names])
    found = [{"custom_id": name, "response": {"status_code": 200, "body": body(name)}} for name in names]
    return jsonl(folder / "answers_output.jsonl", found)


def rows(text: str) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in json.loads(text, parse_constant=lambda name: pytest.fail(f"{name}: no JSON"))}


@pytest.mark.parametrize("made", [as_jsonl, as_csv, as_inspect_log, as_lm_eval, as_batch])
def test_every_format_says_which_question_an_answer_belongs_to(tmp_path: Path, made: Any) -> None:
    file = made(tmp_path)
    done = assay(tmp_path, "score", file.name, "--suite", "answer", "--run", "r", "--json", "-o", "s.jsonl")
    assert done.returncode == 0, done.stderr
    row = rows(done.stdout)["correct"]
    means = Means()
    for right in RIGHT:
        means.add(right / 4, 4)
    assert (row["questions"], row["scored"], row["correct"]) == (6, 24, sum(RIGHT))
    assert (row["low"], row["high"]) == pytest.approx(means.share_interval())
    low, high = wilson(sum(RIGHT), 24)
    assert row["high"] - row["low"] > 1.3 * (high - low), "as independent answers they would say too much"
    assert rows(assay(tmp_path, "report", "--run", "r", "--json").stdout)["correct"] == pytest.approx(row)
    shown = assay(tmp_path, "report", "--run", "r").stdout.split("\n")[1]
    assert shown.split()[1] == "correct"
    assert shown.endswith("(n=6×4)")
    written = lines(tmp_path / "s.jsonl")
    assert sorted((line["id"], line["repeat"]) for line in written) == [
        (f"q{n}", r) for n in range(6) for r in range(4)
    ]


def test_a_judge_scores_each_answer_and_its_interval_is_of_questions(tmp_path: Path) -> None:
    as_jsonl(tmp_path)
    given = {"sovereignty": 5, "ethical_depth": 6, "creative_expression": 7, "self_concept": 8}
    high = {**given, "sovereignty": 9}
    script(tmp_path / "judge.yaml", [{"contains": "\n7\n===", "answer": high}], given)
    words = ("score", "answers.jsonl", "--suite", "semantic", "--judge", "scripted:judge.yaml", "--json")
    done = assay(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    row = rows(done.stdout)["sovereignty"]
    means = Means()
    for right in RIGHT:
        means.add((9 * right + 5 * (4 - right)) / 4, 4)
    assert (row["questions"], row["scored"], row["mean"]) == (6, 24, pytest.approx(means.mean))
    assert (row["low"], row["high"]) == pytest.approx(means.number_interval(1, 10))
    reported = rows(assay(tmp_path, "report", "--json").stdout)
    assert reported["sovereignty"] == pytest.approx(row)
    again = rows(assay(tmp_path, *words).stdout)
    assert again == rows(done.stdout)
    assert rows(assay(tmp_path, "report", "--json").stdout) == reported, "nothing counts twice"


def test_answers_without_a_score_leave_their_question_the_others(tmp_path: Path) -> None:
    cut = [
        {**a, "finish_reason": "length"} if a["id"] == "q4" or (a["id"], a["repeat"]) == ("q0", 1) else a for a in ANSWERS
    ]  # fmt: skip
    jsonl(tmp_path / "a.jsonl", cut)
    row = rows(assay(tmp_path, "score", "a.jsonl", "--suite", "exact,answer", "--json").stdout)["correct"]
    assert (row["questions"], row["scored"], row["truncated"]) == (5, 19, 5)
    assert row["mean"] == pytest.approx((1 + 1 + 0.5 + 0.25 + 0.75) / 5), "each question counts the same"
    assert rows(assay(tmp_path, "report", "--json").stdout)["correct"] == pytest.approx(row)
    shown = assay(tmp_path, "report").stdout
    assert "(n=5, 19 answers, 5 truncated)" in shown


def test_compare_pairs_questions(tmp_path: Path) -> None:
    as_jsonl(tmp_path)
    better = [{**a, "response": "7" if a["id"] in ("q3", "q4", "q5") else a["response"]} for a in ANSWERS]
    jsonl(tmp_path / "better.jsonl", better)
    once = [{key: value for key, value in a.items() if key != "repeat"} for a in better if a["repeat"] == 0]
    jsonl(tmp_path / "once.jsonl", once)
    for name in ("answers", "better", "once"):
        assay(tmp_path, "score", f"{name}.jsonl", "--suite", "answer", "-o", f"{name}-scores.jsonl")
    for old, new in (("answers", "better"), ("answers-scores.jsonl", "better-scores.jsonl")):
        done = assay(tmp_path, "compare", old, new, "--json")
        [change] = json.loads(done.stdout)
        assert (change["n"], change["repeats"], change["unpaired"]) == (6, 4, 0)
        assert change["difference"] == pytest.approx((0.75 + 1 + 0.25) / 6)
        assert change["p"] == 2 / 2**3
        assert change["gained"] == ["q3", "q4", "q5"]
        text = assay(tmp_path, "compare", old, new).stdout
        assert "6×4" in text
        assert "n counts questions" in text
    [change] = json.loads(assay(tmp_path, "compare", "answers", "once", "--json").stdout)
    assert (change["n"], change["repeats"]) == (6, None)
    text = assay(tmp_path, "compare", "once", "once-scores.jsonl").stdout
    assert "n counts questions" not in text
