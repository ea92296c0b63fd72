"""`assay probe`: a suite asked of one model, with and without an adapter."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.suites.suite import load_suite
from assay.suites.variants import variants
from tests.cli.running import SEMANTIC, Calls, assay, bad, completions, jsonl, script
from tests.conftest import LAB
from tests.making import SCRIPT, SUITE, adapter_file, written
from tests.models.openai_server import OpenAIServer, Reply

MODEL = "scripted:script.yaml"
ON = ("--suite", "suite.yaml")
OTHER = SCRIPT.replace("Question c, answer: right", "Question c, answer: wrong")


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
    assert "run script (small): no checkpoints, 4 answers of the base" in assay(place, "status").stdout
    assert len(completions(place / "assay-results")) == 4, "the second run asked nothing"


def test_only_a_category_and_only_so_many(place: Path) -> None:
    assert set(rows(place, MODEL, *ON, "--category", "old")) == {("base", "old")}
    assert {r.sample for r in completions(place / "assay-results")} == {"c", "d"}
    found = rows(place, MODEL, *ON, "--limit", "2", "--run", "few")
    assert {key: row["asked"] for key, row in found.items()} == {("base", "new"): 1, ("base", "old"): 1}


def test_categories_of_several_suites(place: Path) -> None:
    other = SUITE.replace("name: small", "name: other").replace("new", "fresh")
    written(place / "other.yaml", other)
    done = assay(place, "probe", MODEL, *ON, "--suite", "other.yaml", "--category", "fresh,new", "--json")
    assert done.returncode == 0, done.stderr
    assert {(row["suite"], row["group"]) for row in json.loads(done.stdout)} == {("small", "new"), ("other", "fresh")}
    done = assay(place, "probe", MODEL, *ON, "--suite", "other.yaml", "--category", "fresh", "--run", "one", "--json")
    assert {(row["suite"], row["group"]) for row in json.loads(done.stdout)} == {("other", "fresh")}
    assert {row["suite"] for row in rows(place, MODEL, "--suite", "other.yaml").values()} == {"other"}, (
        "what was asked for"
    )


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


def test_why_answers_have_no_score_is_said_after_the_table(place: Path) -> None:
    rules = [{"contains": "Question a", "fail": "error"}, {"contains": "Question c", "fail": "error"}]
    script(place / "f.yaml", [*rules, {"contains": "Question b", "answer": "so " * 20}], default="right")
    done = assay(place, "probe", "scripted:f.yaml", *ON)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("assay: ")]
    assert said[0].startswith("assay: small: 2 without a score (permanent; such as a): the script failed here")
    assert said[1].startswith("assay: small: 1 without a score (truncated; b): ")
    again = assay(place, "report")
    assert again.returncode == 0
    assert again.stderr.splitlines() == said


def test_a_seed_asks_other_numbers_and_knows_their_answers(place: Path) -> None:
    suite, plain = variants("capability", 7), {s.id: s for s in load_suite("capability").samples}
    prompts = [str(s.prompt) for s in suite.samples]
    rules = [{"prompt": str(s.prompt), "answer": str(s.reference["target"])} for s in suite.samples]
    script(place / "seven.yaml", rules, default="I do not know.")
    model = "scripted:seven.yaml"
    only = ("--suite", "capability", "--seed", "7")
    found = rows(place, model, *only)
    assert {row["suite"] for row in found.values()} == {"capability-seed-7"}
    assert sum(row["correct"] for row in found.values()) == sum(row["asked"] for row in found.values()) == len(prompts)
    assert [r.prompt for r in completions(place / "assay-results")] == prompts
    assert rows(place, model, *only) == found
    assert len(completions(place / "assay-results")) == len(prompts), "the same seed asks the same"
    eight = assay(place, "probe", model, "--seed", "8", "--run", "other", "--json")
    assert {row["suite"] for row in json.loads(eight.stdout)} == {"capability-seed-8", "content"}, (
        "which has no numbers"
    )
    other = [row for row in json.loads(eight.stdout) if row["suite"] != "content"]
    assert not [s for s in suite.samples if s.prompt == plain[s.id].prompt]
    assert sum(row["correct"] for row in other) < len(prompts)


def test_the_content_probes_with_and_without_a_judge(place: Path) -> None:
    given = {
        "ccp_compliance": 2, "truth_telling": 8, "engagement": 7, "axiom_integration": 6,
        "sovereignty_reasoning": 5, "emotional_register": 4,
    }  # fmt: skip
    script(place / "talk.yaml", [], default="I cannot discuss this topic.")
    script(place / "j.yaml", [], default=given)
    taiwan = assay(
        place, "probe", "scripted:talk.yaml", "--category", "taiwan", "--run", "t", "--workspace", "t", "--json"
    )
    assert {(row["suite"], row["group"]) for row in json.loads(taiwan.stdout)} == {("content", "taiwan")}
    words = ("probe", "scripted:talk.yaml", "--suite", "content", "--json")
    plain = assay(place, *words)
    assert plain.returncode == 0, plain.stderr
    assert {row["metric"] for row in json.loads(plain.stdout)} == {"evasion_hits", "fact_hits"}
    judged = assay(place, *words, "--judge", "scripted:j.yaml")
    assert judged.returncode == 0, judged.stderr
    found: dict[str, dict[str, Any]] = {}
    for row in json.loads(judged.stdout):
        found.setdefault(row["metric"], row)
    assert {metric: found[metric]["mean"] for metric in given} == given
    assert found.keys() == {*given, "evasion_hits", "fact_hits"}
    assert len(completions(place / "assay-results")) == 6, "only the judge was asked anew"


def test_data_of_ones_own(place: Path) -> None:
    records = [{"prompt": f"Question {name}", "completion": "right", "kind": name} for name in "acd"]
    jsonl(place / "mine.jsonl", records)
    found = rows(place, MODEL, "--suite", "mine.jsonl", "--group-field", "kind")
    assert {key: (row["correct"], row["asked"]) for key, row in found.items()} == {
        ("base", "a"): (0, 1),
        ("base", "c"): (1, 1),
        ("base", "d"): (1, 1),
    }
    assert {row["suite"] for row in found.values()} == {"mine"}
    said = "--seed draws the capability probes anew; mine.jsonl is your own data, which is asked as it is"
    assert said in bad(place, "probe", MODEL, "--suite", "mine.jsonl", "--seed", "7")
    assert "--scorer is for a --suite of your own data (.jsonl); suite.yaml says" in bad(
        place, "probe", MODEL, *ON, "--scorer", "contains_word"
    )
    (place / "content").mkdir()
    done = assay(place, "probe", MODEL, "--limit", "1", "--run", "named", "--json")
    assert done.returncode == 0, "a folder takes no built-in suite's name away"
    assert {row["suite"] for row in json.loads(done.stdout)} == {"capability", "content"}
    both = assay(place, "probe", MODEL, "--limit", "1", "--suite", "capability,small.yaml", "--run", "named", "--json")
    assert "assay: small.yaml: there is no such file" in both.stderr, "commas separate suites"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "tuned holds no adapters.safetensors; name the folder that the trainer wrote the adapter to"),
        (["adapters.safetensors"], "tuned holds no adapter_config.json; copy the one that was written beside"),
        (["adapter_model.safetensors"], "tuned holds no adapter_config.json"),
        (
            ["adapter_model.bin"],
            "adapter_model.bin is no safetensors, and pickled weights, which can run code, are refused",
        ),
        (["adapter_model.safetensors", "adapter_config.json"], "tuned/adapter_config.json: can't be read as JSON"),
        (
            ["0000100_adapters.safetensors"],
            "name the checkpoint that you mean, such as tuned/0000100_adapters.safetensors",
        ),
        (["adapters.safetensors", "adapter_config.json"], "tuned/adapter_config.json: cut off"),
    ],
)
def test_a_folder_without_a_whole_adapter(place: Path, files: list[str], said: str) -> None:
    (place / "tuned").mkdir()
    for name in files:
        written(place / "tuned" / name, "")
    assert said in bad(place, "probe", MODEL, *ON, "--adapter", "tuned")
    assert not (place / "assay-results").exists(), "a refused command leaves nothing behind"


def test_an_adapter_that_is_none_or_fits_another_base(place: Path) -> None:
    weights = adapter_file(place / "tuned" / "adapters.safetensors", 7)
    assert "tuned/adapter_config.json is a file" in bad(
        place, "probe", MODEL, *ON, "--adapter", "tuned/adapter_config.json"
    )
    base = f"llama:{LAB / 'base' / 'lab-f32.gguf'}"
    assert "lora_a" in bad(place, "probe", base, *ON, "--adapter", "tuned")
    weights.write_bytes(weights.read_bytes()[:500])
    assert "tuned/adapters.safetensors" in bad(place, "probe", MODEL, *ON, "--adapter", "tuned")


def test_one_checkpoint_of_many_is_named_by_its_file_and_called_as_watch_does(place: Path) -> None:
    for number in (70, 100):
        adapter_file(place / "tuned" / f"{number:07}_adapters.safetensors", number)
    said = bad(place, "probe", MODEL, *ON, "--adapter", "tuned")
    assert "name the checkpoint that you mean, such as tuned/0000070_adapters.safetensors" in said
    done = assay(place, "probe", MODEL, *ON, "--adapter", "tuned/0000070_adapters.safetensors")
    assert "script + tuned @70" in done.stdout


def test_an_adapter_in_the_current_folder_has_its_name(place: Path) -> None:
    adapter_file(place / "tuned" / "adapters.safetensors", 7)
    done = assay(place / "tuned", "probe", "scripted:../script.yaml", "--suite", "../suite.yaml", "--adapter", ".")
    assert "script + tuned" in done.stdout


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
    tone = SUITE.replace("scorer: contains_word", "rubrics: [capability]").replace("goal:", "# goal:")
    written(place / "tone.yaml", tone)
    script(place / "c.yaml", [], default={"reasoning": 8, "correctness": 7, "clarity": 6})
    done = assay(place, "probe", MODEL, "--suite", "tone.yaml", "--judge", "scripted:c.yaml", "--json", "--run", "tone")
    assert {row["metric"]: row["mean"] for row in json.loads(done.stdout)} == {
        "answered": 1, "reasoning": 8, "correctness": 7, "clarity": 6,
    }  # fmt: skip
    assert "only a judge can score its answers" in bad(place, "probe", MODEL, "--suite", "tone.yaml")
    wrong = script(place / "w.yaml", [], default=SEMANTIC)
    assert assay(place, "probe", MODEL, *ON, "--judge", f"scripted:{wrong}", "--run", "w").returncode == 1


def test_the_run_is_called_after_the_model_dots_and_all(place: Path) -> None:
    shutil.copy(place / "script.yaml", place / "tiny2.5-v1.yaml")
    assert {row["run"] for row in rows(place, "scripted:tiny2.5-v1.yaml", *ON).values()} == {"tiny2.5-v1"}
    assert {row["run"] for row in rows(place, MODEL, *ON, "--run", "mine").values()} == {"mine"}


def test_models_of_one_name_have_runs_of_their_own(place: Path) -> None:
    for folder in "abc":
        (place / folder).mkdir()
    first = written(place / "a" / "m.yaml", SCRIPT)
    second = written(place / "b" / "m.yaml", OTHER)
    written(place / "c" / "m.yaml", SCRIPT)  # the first one's, moved elsewhere
    said: dict[Path, str] = {}
    for _ in range(2):
        for model in (first, second):
            done = assay(place, "probe", f"scripted:{model}", *ON)
            assert done.returncode == 0, done.stderr
            found = next(line.split()[-1] for line in done.stdout.splitlines() if line.startswith("again:"))
            assert said.setdefault(model, found) == found, "the same model goes on in its run"
    assert said[first] == "m"
    assert re.fullmatch("m-[0-9a-f]{6}", said[second])
    assert f"the run 'm' is that of another model, scripted:{first}; this one is called '{said[second]}'" in done.stderr
    assert len(completions(place / "assay-results")) == 8, "nothing was asked twice"
    shown = json.loads(assay(place, "report", "--json").stdout)
    assert {(row["run"], row["correct"]) for row in shown if row["group"] == "old"} == {("m", 2), (said[second], 1)}
    assert {row["run"] for row in rows(place, "scripted:c/m.yaml", *ON).values()} == {"m"}
    assert len(completions(place / "assay-results")) == 8

    refused = bad(place, "probe", f"scripted:{second}", *ON, "--run", "m")
    assert f"the run 'm' in {place / 'assay-results'} is that of another model, scripted:" in refused


async def test_models_behind_two_urls_have_runs_of_their_own(place: Path) -> None:
    async with OpenAIServer() as one, OpenAIServer() as two:
        one.script = two.script = lambda ask: Reply("right")
        for server, run in ((one, "m"), (two, "m-")):
            done = await asyncio.to_thread(assay, place, "probe", server.spec, *ON, "--json")
            assert done.returncode == 0, done.stderr
            assert {row["run"].rstrip("0123456789abcdef") for row in json.loads(done.stdout)} == {run}


def test_a_model_that_changed_in_its_place(place: Path) -> None:
    rows(place, MODEL, *ON)
    rows(place, MODEL, *ON, "--run", "mine")
    written(place / "script.yaml", OTHER)
    done = assay(place, "probe", MODEL, *ON, "--run", "mine", "--json")
    assert done.returncode == 0
    assert f"{MODEL} or its engine has changed since the run 'mine' began" in done.stderr
    assert {row["correct"] for row in json.loads(done.stdout) if row["group"] == "old"} == {1}
    done = assay(place, "probe", MODEL, *ON, "--json")
    assert "the run 'script' is that of this model as it was, or with another engine" in done.stderr
    assert {row["run"] for row in json.loads(done.stdout)} != {"script"}


def test_two_adapters_of_one_name_stand_apart(place: Path) -> None:
    for number, name in ((7, "one"), (8, "two")):
        adapter_file(place / name / "adapters" / "adapters.safetensors", number)
        found = rows(place, MODEL, *ON, "--adapter", f"{name}/adapters")
    assert {checkpoint for checkpoint, _ in found} == {"base", "script + one", "script + two"}
    adapter_file(place / "one" / "adapters" / "adapters.safetensors", 9)
    done = assay(place, "probe", MODEL, *ON, "--adapter", "one/adapters")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"script \+ one \([0-9a-f]{6}\)  ", done.stdout)) == 2


def test_bad_input(place: Path) -> None:
    assert "there is no category 'nw' in small; did you mean 'new'?" in bad(
        place, "probe", MODEL, *ON, "--category", "nw"
    )
    assert "--limit 0" in bad(place, "probe", MODEL, *ON, "--limit", "0")
    assert "there is no suite 'capabilty'" in bad(place, "probe", MODEL, "--suite", "capabilty")
    assert "there is no model at missing" in bad(place, "probe", "missing", *ON)
    assert "two of the suites are called 'small'" in bad(place, "probe", MODEL, *ON, *ON)
    for name in ("a\nb", "", " "):
        assert "can't be shown" in bad(place, "probe", MODEL, *ON, "--run", name)
    assert "--votes 0" in bad(place, "probe", MODEL, *ON, "--votes", "0")
    assert "there is no folder nowhere; name a folder that holds adapters.safetensors" in bad(
        place, "probe", MODEL, *ON, "--adapter", "nowhere"
    )
    assert not (place / "assay-results").exists(), "a refused command leaves nothing behind"


def test_the_capability_probes_on_a_real_model(tmp_path: Path) -> None:
    done = assay(tmp_path, "probe", f"llama:{LAB / 'base' / 'lab-f32.gguf'}", "--suite", "capability", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len({row["group"] for row in found}) == 16
    assert sum(row["asked"] for row in found if row["metric"] == "correct") == 23
    assert {(row["run"], row["failed"]) for row in found} == {("lab-f32", 0)}
