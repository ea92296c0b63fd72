"""`assay probe`: a suite asked of one model, with and without an adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import SEMANTIC, Calls, assay, bad, completions, script
from tests.conftest import LAB
from tests.making import SCRIPT, SUITE, adapter_file, written

MODEL = "scripted:script.yaml"
ON = ("--suite", "suite.yaml")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    return tmp_path


def rows(place: Path, *words: str, code: int = 0) -> dict[tuple[str, str], dict[str, Any]]:
    done = assay(place, "probe", *words, "--json")
    assert done.returncode == code, done.stderr
    return {(row["checkpoint"], row["group"]): row for row in json.loads(done.stdout)}


def test_a_bare_model(place: Path) -> None:
    found = rows(place, MODEL, *ON)
    assert {key: (row["correct"], row["asked"]) for key, row in found.items()} == {
        ("base", "new"): (0, 2),
        ("base", "old"): (2, 2),
    }
    assert {(row["run"], row["iteration"], row["proof"]) for row in found.values()} == {("script", 0, None)}
    shown = assay(place, "probe", MODEL, *ON)
    assert shown.returncode == 0
    assert "results: assay-results/journal" in shown.stdout
    assert len(completions(place / "assay-results")) == 4, "the second run asked nothing"


def test_only_a_category_and_only_so_many(place: Path) -> None:
    assert set(rows(place, MODEL, *ON, "--category", "old")) == {("base", "old")}
    assert {r.sample for r in completions(place / "assay-results")} == {"c", "d"}
    found = rows(place, MODEL, *ON, "--limit", "2", "--run", "few")
    assert {key: row["asked"] for key, row in found.items()} == {("base", "new"): 1, ("base", "old"): 1}


def test_categories_of_several_suites(place: Path) -> None:
    other = SUITE.replace("name: small", "name: other").replace("new", "fresh")
    written(place / "other.yaml", other)
    done = assay(
        place, "probe", MODEL, *ON, "--suite", "other.yaml", "--category", "fresh", "--category", "new", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert {(row["suite"], row["group"]) for row in json.loads(done.stdout)} == {("small", "new"), ("other", "fresh")}
    done = assay(place, "probe", MODEL, *ON, "--suite", "other.yaml", "--category", "fresh", "--run", "one", "--json")
    assert {(row["suite"], row["group"]) for row in json.loads(done.stdout)} == {("other", "fresh")}


def test_an_adapter_stands_beside_the_base_and_is_shown_to_be_live(place: Path) -> None:
    adapter_file(place / "tuned" / "adapters.safetensors", 7)
    found = rows(place, MODEL, *ON, "--adapter", "tuned")
    assert found["base", "new"]["correct"] == 0
    assert (found["script + tuned", "new"]["correct"], found["script + tuned", "old"]["correct"]) == (1, 2)
    assert (found["base", "new"]["proof"], found["script + tuned", "new"]["proof"]) == (None, "live")
    assert found["script + tuned", "new"]["digest"]
    before = completions(place / "assay-results")
    assert rows(place, MODEL, *ON, "--adapter", "tuned") == found
    assert completions(place / "assay-results") == before


def test_an_adapter_that_changes_nothing_is_unproven_and_exit_code_1(place: Path) -> None:
    written(place / "script.yaml", SCRIPT + "adapters: ignore\n")
    adapter_file(place / "tuned" / "adapters.safetensors", 7)
    done = assay(place, "probe", MODEL, *ON, "--adapter", "tuned", "--json")
    assert done.returncode == 1
    assert "script + tuned is unproven" in done.stderr
    assert {row["proof"] for row in json.loads(done.stdout) if row["digest"]} == {"unproven"}


def test_a_model_that_fails_is_exit_code_1_and_asked_again(place: Path) -> None:
    calls = Calls(place / "c.yaml", [f"Question {name}" for name in "abcd"], "right")
    calls.allow(calls.marks[1:])
    found = rows(place, "scripted:c.yaml", *ON, code=1)
    assert (found["base", "new"]["failed"], found["base", "new"]["mean"]) == (1, 1.0)
    calls.allow(calls.marks[:1])
    assert rows(place, "scripted:c.yaml", *ON)["base", "new"]["correct"] == 2


def test_a_judge_scores_what_has_a_ground_truth(place: Path) -> None:
    given = {
        "ccp_compliance": 1, "truth_telling": 9, "engagement": 8, "axiom_integration": 7,
        "sovereignty_reasoning": 6, "emotional_register": 5,
    }  # fmt: skip
    suite = SUITE.replace("prompt: Question a,", "prompt: Question a, reference: {ground_truth: A fact.},")
    written(place / "suite.yaml", suite)
    script(place / "j.yaml", [], default=given)
    done = assay(place, "probe", MODEL, *ON, "--judge", "scripted:j.yaml", "--json")
    assert done.returncode == 0, done.stderr
    found = {(row["group"], row["metric"]): row for row in json.loads(done.stdout)}
    assert {metric: found["new", metric]["mean"] for metric in given} == given
    assert {found["new", metric]["asked"] for metric in given} == {1}
    assert ("old", "truth_telling") not in found
    wrong = script(place / "w.yaml", [], default=SEMANTIC)
    assert assay(place, "probe", MODEL, *ON, "--judge", f"scripted:{wrong}", "--run", "w").returncode == 1


def test_the_run_is_called_after_the_model_dots_and_all(place: Path) -> None:
    shutil.copy(place / "script.yaml", place / "tiny2.5-v1.yaml")
    assert {row["run"] for row in rows(place, "scripted:tiny2.5-v1.yaml", *ON).values()} == {"tiny2.5-v1"}
    assert {row["run"] for row in rows(place, MODEL, *ON, "--run", "mine").values()} == {"mine"}


def test_bad_input(place: Path) -> None:
    assert "there is no category 'nw' in small; did you mean 'new'?" in bad(
        place, "probe", MODEL, *ON, "--category", "nw"
    )
    assert "--limit 0" in bad(place, "probe", MODEL, *ON, "--limit", "0")
    assert "there is no suite 'capabilty'" in bad(place, "probe", MODEL, "--suite", "capabilty")
    assert "there is no model at missing" in bad(place, "probe", "missing", *ON)
    assert "two of the suites are called 'small'" in bad(place, "probe", MODEL, *ON, *ON)
    assert "can't be shown" in bad(place, "probe", MODEL, *ON, "--run", "a\nb")
    assert "--votes 0" in bad(place, "probe", MODEL, *ON, "--votes", "0")
    assert "nowhere" in bad(place, "probe", MODEL, *ON, "--adapter", "nowhere")
    assert not (place / "assay-results").exists(), "a refused command leaves nothing behind"


def test_the_capability_probes_on_a_real_model(tmp_path: Path) -> None:
    done = assay(tmp_path, "probe", f"llama:{LAB / 'base' / 'lab-f32.gguf'}", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len({row["group"] for row in found}) == 16
    assert sum(row["asked"] for row in found if row["metric"] == "correct") == 23
    assert {(row["run"], row["failed"]) for row in found} == {("lab-f32", 0)}
