"""`assay compare`: checkpoints of a watch, bare models, runs and score files; flips and differences by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import assay, bad, jsonl
from tests.conftest import ROOT
from tests.making import SCRIPT, SUITE, checkpoints, written

WATCH = ["watch", "lab/checkpoints", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once"]


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """A watch of three checkpoints: the base is right about c and d, each checkpoint about a, c and d."""
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    checkpoints(tmp_path / "lab" / "checkpoints")
    done = assay(tmp_path, *WATCH)
    assert done.returncode == 0, done.stderr
    return tmp_path


def changes(place: Path, *words: str) -> dict[tuple[str, str], dict[str, Any]]:
    done = assay(place, "compare", *words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return {(change["group"], change["metric"]): change for change in found}


def line(name: str, model: str, **values: bool | float) -> dict[str, Any]:
    return {"id": name, "model": model, "scores": {"s": values}, "failures": []}


def test_the_base_and_a_checkpoint(watched: Path) -> None:
    found = changes(watched, "lab@base", "lab@10")
    [new, old, both] = found.values()
    assert (both["group"], both["n"], both["difference"], both["gained"]) == ("all", 4, 0.25, ["a"])
    assert (new["group"], new["n"], new["old"], new["new"], new["difference"]) == ("new", 2, 0.0, 0.5, 0.5)
    assert (new["gained"], new["lost"], new["unpaired"], new["p"]) == (["a"], [], 0, 1.0)
    assert (old["group"], old["old"], old["new"], old["gained"], old["lost"]) == ("old", 1.0, 1.0, [], [])
    # Bonett and Price: (2 - 1) / 4, the root of (3/4 - 1/16) / 4, and 1 at most.
    assert new["low"] == pytest.approx(0.25 - 1.959964 * math.sqrt((3 / 4 - 1 / 16) / 4), abs=1e-6)
    assert new["high"] == 1.0
    back = changes(watched, "lab@10", "lab@base")["new", "correct"]
    assert (back["difference"], back["gained"], back["lost"]) == (-0.5, [], ["a"])
    shown = assay(watched, "compare", "lab@base", "lab@10").stdout
    assert "▲ a" in shown
    assert "+50 points" in shown


def test_two_checkpoints_and_a_run_by_its_name(watched: Path) -> None:
    assert {change["difference"] for change in changes(watched, "lab@10", "lab@20").values()} == {0.0}
    assert changes(watched, "lab@base", "lab") == changes(watched, "lab@base", "lab@30")
    assert assay(watched, "compare", "lab@base", "lab", "--suite", "small").returncode == 0


def test_the_base_as_tables_show_it(watched: Path) -> None:
    found = changes(watched, "lab@base", "lab@10")
    assert changes(watched, "base", "lab @10") == changes(watched, "base", "lab@10") == found
    assert changes(watched, "lab @10", "base") == changes(watched, "lab@10", "lab@base")
    assert "base: neither a file nor a run" in bad(watched, "compare", "base", "base")
    assert "lb: neither a file nor a run" in bad(watched, "compare", "base", "lb")


def test_two_bare_models(tmp_path: Path) -> None:
    written(tmp_path / "suite.yaml", SUITE)
    written(tmp_path / "poor.yaml", "default: wrong\n")
    written(tmp_path / "good.yaml", "default: right\n")
    for name in ("poor", "good"):
        done = assay(tmp_path, "probe", f"scripted:{name}.yaml", "--suite", "suite.yaml", "--run", name)
        assert done.returncode == 0, done.stderr
    found = changes(tmp_path, "poor", "good")
    assert [(c["old"], c["new"], len(c["gained"])) for c in found.values()] == [
        (0.0, 1.0, 2),
        (0.0, 1.0, 2),
        (0.0, 1.0, 4),
    ]
    assert changes(tmp_path, "poor@base", "good@base") == found


def test_questions_of_one_id_that_differ_are_no_pair(tmp_path: Path) -> None:
    written(tmp_path / "model.yaml", "default: right\n")
    for name, text in (
        ("one", SUITE),
        ("two", SUITE.replace("Question b, target: right", "Question b, target: wrong")),
        ("three", SUITE.replace("contains_word", "{name: contains_word, case_sensitive: true}")),
    ):
        written(tmp_path / "suite.yaml", text)
        done = assay(tmp_path, "probe", "scripted:model.yaml", "--suite", "suite.yaml", "--run", name)
        assert done.returncode == 0, done.stderr
    assert {key: change["n"] for key, change in changes(tmp_path, "one", "two").items()} == {
        ("new", "correct"): 1,
        ("old", "correct"): 2,
        ("all", "correct"): 3,
    }
    said = bad(tmp_path, "compare", "one", "three")
    assert (
        "small: 4 questions are scored by another scorer on each side, or with other parameters, and left out" in said
    )
    said = "small: 1 question is not the same on both sides, and left out: b"
    assert said in assay(tmp_path, "compare", "one", "two").stderr


def test_questions_without_ids_are_called_by_their_beginning(tmp_path: Path) -> None:
    asked = [
        "Is it\nright?",
        "Is it not right to say so, whatever else anybody may say?",
        "Is it not right to say so, ever?",
    ]
    jsonl(tmp_path / "mine.jsonl", [{"prompt": prompt, "completion": "right"} for prompt in asked])
    for name, answer in (("poor", "wrong"), ("good", "right")):
        written(tmp_path / f"{name}.yaml", f"default: {answer}\n")
        done = assay(tmp_path, "probe", f"scripted:{name}.yaml", "--suite", "mine.jsonl")
        assert done.returncode == 0, done.stderr
    shown = " ".join(assay(tmp_path, "compare", "poor", "good", columns="200").stdout.split())
    assert "▲ “Is it right?”, “Is it not right to say so, whatever els…”, “Is it not right to say so, ever?”" in shown
    [found] = changes(tmp_path, "poor", "good").values()
    assert len(found["gained"]) == 3
    assert not any("right" in name for name in found["gained"]), "programs get ids"


def test_a_run_whose_name_holds_an_at_sign(tmp_path: Path) -> None:
    written(tmp_path / "suite.yaml", SUITE)
    written(tmp_path / "m.yaml", "default: right\n")
    assay(tmp_path, "probe", "scripted:m.yaml", "--suite", "suite.yaml", "--run", "m@home")
    written(tmp_path / "n.yaml", "default: wrong\n")
    assay(tmp_path, "probe", "scripted:n.yaml", "--suite", "suite.yaml", "--run", "n@home")
    assert len(changes(tmp_path, "m@home", "n@home@base")) == 3
    assert "the same answers" in bad(tmp_path, "compare", "m@home", "m@home@base")


def test_two_adapters_of_one_iteration_are_told_apart_by_their_labels(tmp_path: Path) -> None:
    written(tmp_path / "suite.yaml", SUITE)
    written(tmp_path / "m.yaml", "default: wrong\nadapters: obey\n")
    base = ROOT / "examples" / "lab" / "base" / "lab-f32.gguf"
    for number in (10, 60):
        folder = tmp_path / f"t{number}"
        folder.mkdir()
        lab = ROOT / "examples" / "lab" / "checkpoints"
        shutil.copy(lab / f"{number:07}_adapters.safetensors", folder / "adapters.safetensors")
        shutil.copy(lab / "adapter_config.json", folder)
        words = ("--adapter", folder.name, "--suite", "suite.yaml", "--run", "m", "--limit", "2")
        assert assay(tmp_path, "probe", f"llama:{base}", *words).returncode in (0, 1)
    said = bad(tmp_path, "compare", "m@base", "m@1")
    assert "m@1 fits 2 checkpoints" in said
    assert "'m + t10'" in said
    assert "'m + t60'" in said
    assert changes(tmp_path, "m@base", "m + t10") == changes(tmp_path, "m@base", "m@m + t10")


def test_runs_of_score_from_the_journal(tmp_path: Path) -> None:
    answers = [
        {
            "id": f"{n}",
            "model": model,
            "prompt": f"Q{n}",
            "response": f"#### {n if ok(n) else 99}",
            "correct_answer": f"{n}",
        }
        for model, ok in (("old", lambda n: n < 2), ("new", lambda n: n != 1))
        for n in range(6)
    ]
    jsonl(tmp_path / "mine.jsonl", answers)
    assert assay(tmp_path, "score", "mine.jsonl", "--suite", "exact", "-o", "s.jsonl").returncode == 0
    journaled = changes(tmp_path, "mine#old", "mine#new")
    [change] = journaled.values()
    assert (change["n"], change["gained"], change["lost"]) == (6, ["2", "3", "4", "5"], ["1"])
    assert changes(tmp_path, "s.jsonl#old", "s.jsonl#new") == journaled
    assert "holds 2 models; name one: mine#" in bad(tmp_path, "compare", "mine", "mine#new")
    assert "did you mean 'new'" in bad(tmp_path, "compare", "mine#old", "mine#nwe")


def test_two_score_files(tmp_path: Path) -> None:
    before = [
        line("a", "m", ok=True, points=-4),
        line("b", "m", ok=False, points=10),
        line("c", "m", ok=True, points=1),
    ]
    after = [line("b", "n", ok=True, points=30), line("a", "n", ok=False, points=8), line("z", "n", ok=True, points=1)]
    jsonl(tmp_path / "old.jsonl", before)
    jsonl(tmp_path / "new.jsonl", after)
    found = changes(tmp_path, "old.jsonl", "new.jsonl")
    ok, points = found["all", "ok"], found["all", "points"]
    assert (ok["n"], ok["old"], ok["new"], ok["gained"], ok["lost"], ok["unpaired"]) == (2, 0.5, 0.5, ["b"], ["a"], 2)
    assert (points["n"], points["old"], points["new"], points["difference"]) == (2, 3.0, 19.0, 16.0)
    assert (points["gained"], points["lost"], points["boolean"]) == (["a", "b"], [], False)
    # Student's t for the differences 12 and 20: one degree of freedom, a standard error of 4.
    assert (points["low"], points["high"]) == (
        pytest.approx(16 - 12.7062 * 4, abs=1e-3),
        pytest.approx(66.8248, abs=1e-3),
    )
    shown = assay(tmp_path, "compare", "old.jsonl", "new.jsonl").stdout
    assert "+16.00 [-34.82 to +66.82]" in shown
    assert "2 up, 0 down" in shown
    assert "4 scores stand on one side only" in shown


def test_answers_without_ids_are_paired_by_their_questions(tmp_path: Path) -> None:
    asked = [
        {"prompt": f"What is {n}+{n}?", "response": f"#### {2 * n}", "correct_answer": str(2 * n)} for n in range(1, 7)
    ]
    jsonl(tmp_path / "a.jsonl", asked)
    jsonl(tmp_path / "b.jsonl", [*reversed(asked[1:]), {**asked[0], "response": "#### 0"}, {**asked[0], "prompt": "?"}])
    for name in "ab":
        assert assay(tmp_path, "score", f"{name}.jsonl", "--suite", "exact", "-o", f"{name}.out").returncode == 0
    [found] = changes(tmp_path, "a.out", "b.out").values()
    assert (found["n"], found["gained"], found["lost"], found["unpaired"]) == (6, [], ["1"], 1)
    assert list(changes(tmp_path, "a", "b").values()) == [found], "and so are the runs"
    for names in (("a.out", "b.out"), ("a", "b")):
        assert "▼ “What is 1+1?”" in assay(tmp_path, "compare", *names).stdout, (
            "a line's number says nothing to a reader"
        )


def test_an_id_whose_questions_differ_is_no_pair(tmp_path: Path) -> None:
    old, new = (
        [{**line(name, "m", ok=True), "question": q} for name, q in zip("ab", qs, strict=True)] for qs in ("12", "13")
    )
    jsonl(tmp_path / "old.jsonl", old)
    jsonl(tmp_path / "new.jsonl", new)
    done = assay(tmp_path, "compare", "old.jsonl", "new.jsonl", "--json")
    assert [change["n"] for change in json.loads(done.stdout)] == [1]
    assert "assay: s: 1 question is not the same on both sides, and left out: b" in done.stderr
    jsonl(tmp_path / "new.jsonl", new[1:])
    assert "old.jsonl and new.jsonl have nothing to pair" in bad(tmp_path, "compare", "old.jsonl", "new.jsonl")


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("other", "s was judged by one in old.jsonl and by other in new.jsonl, so that its scores are no pairs"),
        ("one", "s was judged by one on both sides, but not alike (another rubric, or other --votes)"),
    ],
)
def test_scores_of_two_judges_are_no_pairs(tmp_path: Path, judge: str, said: str) -> None:
    def judged(name: str, by: str, measure: str) -> None:
        entry = {"suite": "s", "scorer": "judge:s", "judge": by, "measure": measure, "metrics": ["depth"]}
        jsonl(tmp_path / name, [{**line("a", "m", depth=3, words=4), "judged": [entry]}])

    judged("old.jsonl", "one", "11")
    judged("new.jsonl", judge, "22")
    done = assay(tmp_path, "compare", "old.jsonl", "new.jsonl", "--json")
    assert {change["metric"]: change["n"] for change in json.loads(done.stdout)}.pop("words") == 1
    assert sum(change["n"] for change in json.loads(done.stdout)) == 1
    assert f"assay: {said}" in done.stderr


def test_numbers_whose_bounds_nobody_knows_have_no_made_up_interval(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    jsonl(tmp_path / "runs" / "old.jsonl", [line("a", "m", points=1), line("b", "m", points=2)])
    jsonl(tmp_path / "runs" / "new.jsonl", [line("a", "m", points=6), line("b", "m", points=7)])
    [found] = changes(tmp_path, "runs/old.jsonl", "runs/new.jsonl").values()
    assert (found["difference"], found["low"], found["high"], found["p"]) == (5.0, None, None, 0.5)
    head, row, *_ = assay(tmp_path, "compare", "runs/old.jsonl", "runs/new.jsonl").stdout.splitlines()
    assert head.split()[3:5] == ["old.jsonl", "new.jsonl"], "the folder is the same"
    assert row.split() == ["all", "points", "2", "1.50", "6.50", "+5.00", "0.5", "2", "up,", "0", "down"]
    by = {"suite": "s", "scorer": "judge:s", "judge": "j", "measure": "1", "metrics": ["points"]}
    for name in ("old", "new"):
        told = [{**line(n, "m", points=6), "judged": [{**by, "bounds": {"points": [1, 10]}}]} for n in "ab"]
        jsonl(tmp_path / "runs" / f"{name}.jsonl", told if name == "old" else [*told, told[0] | {"id": "c"}])
    [found] = changes(tmp_path, "runs/old.jsonl", "runs/new.jsonl").values()
    assert found["difference"] == 0
    assert found["low"] < 0 < found["high"], "a judge's bounds are in the file"


def test_failures_are_in_no_number(tmp_path: Path) -> None:
    why = {"suite": "s", "metric": "ok", "error_class": "permanent", "reason": "the judge failed"}
    jsonl(tmp_path / "old.jsonl", [line("a", "m", ok=True), line("b", "m", ok=True)])
    jsonl(tmp_path / "new.jsonl", [line("a", "m", ok=True), {**line("b", "m"), "failures": [why]}])
    [found] = changes(tmp_path, "old.jsonl", "new.jsonl").values()
    assert (found["n"], found["new"], found["lost"], found["unpaired"]) == (1, 1.0, [], 1)


def test_models_of_one_file(tmp_path: Path) -> None:
    answers = [
        {"id": str(n), "model": model, "prompt": "1+1?", "response": f"#### {2 if right else 3}", "correct_answer": "2"}
        for model, wrong in (("base", 3), ("org/tuned", 0))
        for n in range(4)
        for right in [n >= wrong]
    ]
    jsonl(tmp_path / "a.jsonl", answers)
    done = assay(tmp_path, "score", "a.jsonl", "--suite", "exact", "-o", "s.jsonl")
    assert done.returncode == 0, done.stderr
    [found] = changes(tmp_path, "s.jsonl#base", "s.jsonl#org/tuned").values()
    assert (found["suite"], found["old"], found["new"], found["gained"]) == ("exact", 0.25, 1.0, ["0", "1", "2"])
    assert "s.jsonl holds 2 models; name one: s.jsonl#base" in bad(tmp_path, "compare", "s.jsonl", "s.jsonl")
    assert "no model 'bse'; did you mean 'base'?" in bad(tmp_path, "compare", "s.jsonl#bse", "s.jsonl#base")


def test_a_file_whose_name_holds_a_hash(tmp_path: Path) -> None:
    jsonl(tmp_path / "run#2.jsonl", [line("a", "m", ok=True), line("a", "", ok=False)])
    found = changes(tmp_path, "run#2.jsonl#m", "run#2.jsonl#")
    assert found["all", "ok"]["lost"] == ["a"], "an answer's model may be unknown"


def test_unknown_names_are_bad_input(watched: Path) -> None:
    assert "neither a file nor a run or checkpoint in" in bad(watched, "compare", "lab@10", "lb@20")
    assert "did you mean 'lab @20'?" in bad(watched, "compare", "lab@10", "lb@20")
    assert "lab@15: there is no such checkpoint; known: base, 10, 20, 30" in bad(watched, "compare", "lab@15", "lab@20")
    assert "no suite in common called 'smal'" in bad(watched, "compare", "lab@10", "lab@20", "--suite", "smal")
    assert "lab@last: there is no such checkpoint" in bad(watched, "compare", "lab@10", "lab@last")
    jsonl(watched / "a.jsonl", [{"id": "a", "prompt": "P", "response": "R"}])
    said = "a.jsonl is no file of scores; if it holds answers, score them first: assay score a.jsonl -o scored.jsonl"
    assert said in bad(watched, "compare", "a.jsonl", "lab@10")
    jsonl(watched / "b.jsonl", [{"id": "a", "model": "m", "prompt": "P", "response": "R"}])
    assert said.replace("a.jsonl", "b.jsonl") in bad(watched, "compare", "b.jsonl#m", "lab@10")
    jsonl(watched / "torn.jsonl", [line("a", "m", ok=True), {"id": "a"}])
    assert "torn.jsonl:2: not a line that assay score writes" in bad(watched, "compare", "torn.jsonl", "lab@10")
    written(watched / "empty.jsonl", "")
    assert "empty.jsonl holds no scores" in bad(watched, "compare", "empty.jsonl", "lab@10")
    jsonl(watched / "other.jsonl", [line("a", "m", ok=True)])
    assert "have no sample that both have a score for" in bad(watched, "compare", "other.jsonl", "lab@10")


def test_no_results_at_all(tmp_path: Path) -> None:
    assert "there are no results" in bad(tmp_path, "compare", "a", "b")
