"""`watch` as a command over several runs, and what it says before it does anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb

from tests.cli.running import assay, bad, completions, script
from tests.making import SCRIPT, SUITE, adapter_file, checkpoints, written


def test_several_runs_are_one_table_list_and_one_json_list(tmp_path: Path) -> None:
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    for name in ("adapters-12b", "adapters-vi"):
        checkpoints(tmp_path / "runs" / name, (10,))
    watch = ("watch", "runs", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once")
    planned = assay(tmp_path, *watch, "--dry-run", "--json")
    assert {row["checkpoint"] for row in json.loads(planned.stdout)} >= {"G12 @0000010", "Vi1 @0000010"}
    assert not (tmp_path / "assay-results").exists()
    done = assay(tmp_path, *watch, "--json", "--sink", "duckdb")
    rows = json.loads(done.stdout)
    assert {(row["run"], row["checkpoint"]) for row in rows} == {
        ("12b", "base"),
        ("12b", "G12 @0000010"),
        ("vi", "base"),
        ("vi", "Vi1 @0000010"),
    }
    status = json.loads(assay(tmp_path, "status", "--json").stdout)
    assert {run["run"]: [c["state"] for c in run["checkpoints"]] for run in status["runs"]} == {
        "12b": ["done", "done"],
        "vi": ["done", "done"],
    }
    assert [(sink["sink"], sink["bytes_left"]) for sink in status["sinks"]] == [("duckdb", 0)]


def test_what_was_overwritten_or_is_asked_of_another_base_is_not_done(tmp_path: Path) -> None:
    for base in ("script.yaml", "other.yaml"):
        written(tmp_path / base, SCRIPT + f"# {base}\n")
    written(tmp_path / "suite.yaml", SUITE)
    lab = checkpoints(tmp_path / "lab", (10, 20))
    (lab / "adapters.safetensors").unlink()
    shutil.copy(lab / "0000010_adapters.safetensors", lab / "0000015_adapters.safetensors")

    def watch(base: str, *flags: str) -> str:
        suites = ("--suite", "suite.yaml", "--once", *flags)
        return assay(tmp_path, "watch", "lab", "--base", f"scripted:{base}", *suites).stdout

    def states() -> dict[str, str]:
        [run] = json.loads(assay(tmp_path, "status", "--json").stdout)["runs"]
        return {each["checkpoint"]: each["state"] for each in run["checkpoints"]}

    watch("script.yaml")
    done = {"base": "done", "lab @10": "done", "lab @15": "same", "lab @20": "done"}
    assert states() == done
    assert "lab @15: same: has the weights of lab @10" in assay(tmp_path, "status").stdout
    assert [line.split()[0] for line in watch("./script.yaml", "--dry-run").splitlines()] == ["done", "done", "same"]
    planned = watch("other.yaml", "--dry-run").splitlines()
    assert [line.split()[0] for line in planned] == ["evaluate", "evaluate", "same"]
    adapter_file(lab / "0000020_adapters.safetensors", 99)
    watch("script.yaml", "--limit", "1")
    watch("other.yaml", "--filter", "*@10")
    assert states() == {**done, "lab @20": "waiting"}


def test_filters_that_fit_nothing_and_unknown_sinks_are_one_sentence(tmp_path: Path) -> None:
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    checkpoints(tmp_path / "runs", (10,))
    watch = ("watch", "runs", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once")
    for flags, said in (
        (("--filter", "*@99"), "fits --filter *@99"),
        (("--sink", "duckbd"), "unknown sink 'duckbd'; did you mean 'duckdb'?"),
        (("--sink", "influx:http://127.0.0.1:1#x", "--sink", "influx:nowhere"), "is a server; give it a URL"),
    ):
        done = assay(tmp_path, *watch, *flags)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_filter_may_say_the_name_that_the_journal_keeps(tmp_path: Path) -> None:
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    for number, folder in enumerate(("x", "x/checkpoints")):
        adapter_file(tmp_path / "runs" / folder / "0000010_adapters.safetensors", number)
    watch = ("watch", "runs", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once", "--json")
    names = {row["run"] for row in json.loads(assay(tmp_path, *watch).stdout)}
    shutil.rmtree(tmp_path / "runs" / "x" / "checkpoints")
    codes = {name: assay(tmp_path, *watch, "--filter", name).returncode for name in names}
    assert sorted(codes.values()) == [0, 2]
    assert codes["runs/x"] == 0


def test_a_plan_names_runs_and_what_is_known_to_be_of_no_use(tmp_path: Path) -> None:
    written(tmp_path / "script.yaml", SCRIPT.replace("c, answer: right}", "c, fail: error}"))
    written(tmp_path / "suite.yaml", SUITE)
    runs = tmp_path / "runs"
    for number, folder in enumerate(("p/adapters-12b", "q/adapters-12b")):
        adapter_file(runs / folder / "0000010_adapters.safetensors", number)
    written(runs / "q" / "adapters-12b" / "0000020_adapters.safetensors", "\x7f" * 100)
    (runs / "q" / "adapters-12b" / "0000030_adapters.safetensors").symlink_to(tmp_path / "script.yaml")
    words = ("watch", "runs", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once")
    written(tmp_path / "assay.toml", "[watch]\nattempts = 1\n")

    def planned() -> list[list[str]]:
        return [line.split()[:4] for line in assay(tmp_path, *words, "--dry-run").stdout.splitlines()]

    before = planned()
    assert (["set", "aside", "q/12b", "G12"] in before, sum(row[0] == "evaluate" for row in before)) == (True, 3)
    assert assay(tmp_path, *words).returncode == 1
    told = assay(tmp_path, "status").stdout
    assert told.count("  G12 @0000010: set aside: 1 sample failed") == 2
    assert told.count("  base: failed samples: 1 sample failed") == 2
    assert [row[:2] for row in planned()] == [["set", "aside"]] * 4


def test_a_sink_that_can_not_be_reached_costs_nothing_and_is_told_of(tmp_path: Path) -> None:
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    checkpoints(tmp_path / "runs", (10,))
    watch = ("watch", "runs", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once")
    done = assay(tmp_path, *watch, "--sink", "influx:http://127.0.0.1:1#x")
    assert done.returncode == 3
    assert "assay ship --sink 'influx:http://127.0.0.1:1#x'\n" in done.stderr
    assert "runs @10" in done.stdout


def test_several_suites_are_judged_and_forwarded_and_a_dead_judge_is_told_of(tmp_path: Path) -> None:
    """By flags and by assay.toml; the judged values stand in go-ml's table of a real DuckDB file."""
    given = {
        "reasoning": 8, "correctness": 7, "clarity": 6, "ccp_compliance": 1, "truth_telling": 7, "engagement": 6,
        "axiom_integration": 5, "sovereignty_reasoning": 4, "emotional_register": 3,
    }  # fmt: skip
    rules = [
        {"contains": "truth_telling", "answer": {k: given[k] for k in list(given)[3:]}},
        {"contains": "correctness", "answer": {k: given[k] for k in list(given)[:3]}},
    ]
    script(tmp_path / "judge.yaml", rules)
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    checkpoints(tmp_path / "runs", (10,))
    words = ("--base", "scripted:script.yaml", "--suite", "capability, content,suite.yaml", "--limit", "1", "--once")
    written(tmp_path / "assay.toml", "[http]\nattempts = 1\n")
    dead = assay(tmp_path, "watch", "runs", *words, "--judge", "http://127.0.0.1:1/v1#m")
    assert dead.returncode == 3
    assert "4 answers are not judged yet" in dead.stderr
    assert dead.stderr.count("can't be asked") == 1
    answers = completions(tmp_path / "assay-results")
    said = assay(tmp_path, "status").stdout
    assert "judge http://127.0.0.1:1/v1#m: 4 answers to judge; down since" in said
    written(tmp_path / "assay.toml", '[watch]\njudge = "scripted:judge.yaml"\nvotes = 2\n')
    assert "judge      runs @10  by scripted:" in assay(tmp_path, "watch", "runs", *words, "--dry-run").stdout
    done = assay(tmp_path, "watch", "runs", *words, "--sink", "duckdb", "--json")
    assert done.returncode == 0, done.stderr
    assert completions(tmp_path / "assay-results") == answers, "no model is asked anything again"
    with duckdb.connect(str(tmp_path / "assay-results" / "results.duckdb"), read_only=True) as db:
        judged = db.execute("select dimension, score, count(*) from scoring_results group by all").fetchall()
        groups = db.execute("select metric, mean from groups where judge <> '' and checkpoint = 'runs @10'").fetchall()
    assert {name: score for name, score, _ in judged if name in given} == given
    assert dict(groups) == given
    for votes, action in (("2", "done"), ("3", "judge")):
        planned = assay(tmp_path, "watch", "runs", *words, "--votes", votes, "--dry-run").stdout
        assert planned.startswith(f"{action:<9}  runs @10")
    assert "nowhere" in bad(tmp_path, "watch", "runs", *words, "--judge", "nowhere")
