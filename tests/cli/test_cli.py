"""The command as a user runs it: what it prints where, its exit codes, and one clear sentence for each mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.results.journal import hold
from tests.conftest import LAB
from tests.making import SCRIPT, SUITE, adapter_file, checkpoints, written

ASSAY = str(Path(sys.executable).parent / "assay")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with checkpoints, a suite and a scripted base; commands run in it."""
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    checkpoints(tmp_path / "lab" / "checkpoints")
    return tmp_path


def assay(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ASSAY, *words], cwd=place, capture_output=True, text=True, timeout=120)


def watch(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    given = ["watch", "lab/checkpoints", "--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once"]
    return assay(place, *given, *words)


def test_the_main_job_prints_a_table_and_what_to_do_next(place: Path) -> None:
    done = watch(place)
    assert done.returncode == 0, done.stderr
    assert "lab @10" in done.stdout
    assert "best:" in done.stdout
    assert "results: assay-results/journal" in done.stdout
    assert "assay report --run lab" in done.stdout
    assert "left" in done.stderr, "it says how long is left"
    assert "there is no run ''" in bad(place, "report", "--run", "")
    report = assay(place, "report")
    table = done.stdout[: done.stdout.index("results:")].rstrip()
    assert report.stdout.rstrip() == table


def test_json_stands_alone_on_standard_output(place: Path) -> None:
    done = watch(place, "--json", "--run", "mine")
    rows = json.loads(done.stdout)
    fields = (
        "run checkpoint iteration digest suite group metric mean low high correct asked scored failed truncated "
        "questions proof"
    )
    assert all(list(row) == fields.split() for row in rows)
    assert [(r["checkpoint"], r["iteration"], r["proof"]) for r in rows[:2]] == [("base", 0, None)] * 2
    assert {r["checkpoint"] for r in rows} == {"base", "mine @10", "mine @20", "mine @30"}
    assert {r["proof"] for r in rows[2:]} == {"live"}
    assert json.loads(assay(place, "report", "--json").stdout) == rows
    assert json.loads(assay(place, "report", "--json", "--run", "mine", "--suite", "small").stdout) == rows


def test_query_answers_in_sql(place: Path) -> None:
    watch(place)
    rows = json.loads(assay(place, "query", "select count(*) as n from completions", "--json").stdout)
    assert rows == [{"n": 16}]
    shown = assay(place, "query", "select checkpoint, correct from checkpoint_scores order by all limit 1")
    assert shown.stdout.split() == ["checkpoint", "correct", "base", "0"]
    wrong = assay(place, "query", "selct 1")
    assert wrong.returncode == 2
    assert "the query failed" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    for sql, said in (("", "the query is empty"), ("select 1 as a, 2 as a", "two columns called 'a'")):
        assert said in bad(place, "query", sql)
    assert "disabled" in bad(place, "query", "copy (select 1) to 'stolen.csv'")
    assert not (place / "stolen.csv").exists(), "a query touches no file"


def test_a_terminal_that_knows_no_stars_gets_a_table_all_the_same(place: Path) -> None:
    watch(place)
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([ASSAY, "report"], cwd=place, capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr
    assert "lab @10" in done.stdout


def test_faults_of_one_checkpoint_are_exit_code_1(place: Path) -> None:
    os.truncate(place / "lab" / "checkpoints" / "0000020_adapters.safetensors", 500)
    done = watch(place)
    assert done.returncode == 1
    assert "lab @20" in done.stdout
    assert "unusable" in done.stdout
    assert "lab @30" in done.stdout
    assert "Traceback" not in done.stderr


def test_an_adapter_for_another_base_lists_every_difference(tmp_path: Path) -> None:
    adapter_file(tmp_path / "ck" / "0000010_adapters.safetensors", 1)
    done = assay(
        tmp_path, "watch", "ck", "--base", str(LAB / "base"), "--suite", str(LAB / "suite.yaml"), "--once", "--limit", "3"
    )  # fmt: skip
    assert done.returncode == 2
    for layer in (0, 1):
        for part in ("lora_a", "lora_b"):
            assert f"model.layers.{layer}.self_attn.q_proj.{part}" in done.stderr
    assert "(16, 4)" in done.stderr
    assert "(128, 4)" in done.stderr
    assert "ck @10" in done.stdout


def bad(place: Path, *words: str) -> str:
    """Standard error of a command that must end with exit code 2 and one sentence."""
    done = assay(place, *words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return " ".join(done.stderr.split())


ON = ["--base", "scripted:script.yaml", "--suite", "suite.yaml", "--once"]


def test_bad_input_gets_one_sentence_and_exit_code_2(place: Path) -> None:
    assert "there is no folder nowhere" in bad(place, "watch", "nowhere", *ON)
    (place / "empty").mkdir()
    assert "empty holds no checkpoint" in bad(place, "watch", "empty", *ON)
    assert "there is no model at missing" in bad(
        place, "watch", "lab/checkpoints", "--base", "missing", "--suite", "suite.yaml", "--once"
    )
    assert "no base model" in bad(place, "watch", "lab/checkpoints", "--suite", "suite.yaml")
    assert "no suite" in bad(place, "watch", "lab/checkpoints", "--base", "scripted:script.yaml")
    assert "--poll" in bad(place, "watch", "lab/checkpoints", *ON, "--poll", "nan")
    for name in ("a\nb", ""):
        assert "can't be shown" in bad(place, "watch", "lab/checkpoints", *ON, "--run", name)
    assert "no base model" in bad(place, "watch", "lab/checkpoints", "--base", "", "--suite", "suite.yaml")
    assert "names no model" in bad(place, "watch", "lab/checkpoints", "--base", "mlx:", "--suite", "suite.yaml")
    assert "--limit 0" in bad(place, "watch", "lab/checkpoints", *ON, "--limit", "0")
    assert "did you mean --limit" in bad(place, "watch", "lab/checkpoints", *ON, "--limt", "3").lower()
    assert "there are no results" in bad(place, "report")
    assert not (place / "assay-results").exists(), "a refused command leaves nothing behind"
    assert "the script gone.yaml cannot be read" in bad(
        place, "watch", "lab/checkpoints", "--base", "scripted:gone.yaml", "--suite", "suite.yaml", "--once"
    )


@pytest.mark.parametrize(
    ("find", "replace", "said"),
    [
        ("{id: b,", "{id: a,", ["suite.yaml:8", "'a'", "7"]),
        ("scorer: contains_word", "scorer: contains_wrd", ["suite.yaml:4", "did you mean 'contains_word'"]),
        ("target: right}\n  - {id: d", "targt: right}\n  - {id: d", ["suite.yaml:9", "did you mean 'target'"]),
        ("options: {temperature", "options: {temprature", ["suite.yaml:3", "did you mean 'temperature'"]),
        ("improve: [new]", "improve: [nw]", ["suite.yaml:5", "did you mean 'new'"]),
    ],
)
def test_a_wrong_suite_is_named_by_file_line_and_nearest_name(
    place: Path, find: str, replace: str, said: list[str]
) -> None:
    assert find in SUITE
    written(place / "suite.yaml", SUITE.replace(find, replace, 1))
    message = bad(place, "watch", "lab/checkpoints", *ON)
    for part in said:
        assert part in message


def test_a_wrong_assay_toml_is_named_by_file_and_line(place: Path) -> None:
    written(place / "assay.toml", '[watch]\nbase = "scripted:script.yaml"\nsuits = ["suite.yaml"]\n')
    message = bad(place, "watch", "lab/checkpoints")
    assert "assay.toml:3" in message
    assert "did you mean 'suites'" in message
    written(place / "assay.toml", '[watch]\nbase = "scripted:script.yaml"\nsuites = ["suite.yaml"]\n')
    assert assay(place, "watch", "lab/checkpoints", "--once").returncode == 0


def test_an_unwritable_workspace(place: Path) -> None:
    written(place / "file", "")
    assert "cannot be written to" in bad(place, "watch", "lab/checkpoints", *ON, "--workspace", "file")
    if os.geteuid() != 0:  # root may write anywhere
        locked = place / "locked"
        locked.mkdir()
        locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert "cannot be written to" in bad(place, "watch", "lab/checkpoints", *ON, "--workspace", "locked/ws")


def test_a_journal_of_a_newer_schema(place: Path) -> None:
    watch(place)
    written(place / "assay-results" / "journal" / "z.jsonl", '{"kind":"run","v":2}\n')
    for words in (["report"], ["watch", "lab/checkpoints", *ON], ["query", "select 1"]):
        message = bad(place, *words)
        assert "newer assay" in message
        assert "z.jsonl:1" in message


def test_a_second_watch_on_the_same_workspace_says_so_and_ends(place: Path) -> None:
    with hold(place / "assay-results"):
        assert "another assay watch is at work" in bad(place, "watch", "lab/checkpoints", *ON)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(place: Path, number: signal.Signals) -> None:
    slow = SCRIPT.replace("answer: right}", "answer: right, seconds: 0.4}")
    written(place / "script.yaml", slow)
    job = subprocess.Popen(
        [ASSAY, "watch", "lab/checkpoints", *ON],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert job.stderr is not None
    for line in job.stderr:
        if "lab @10" in line:
            break
    time.sleep(0.5)
    os.killpg(job.pid, number)
    out, err = job.communicate(timeout=30)
    assert job.returncode == 130
    assert "stopped; the same command goes on from here" in err
    assert "Traceback" not in err
    assert "base" in out, "what is there so far is shown"
    written(place / "script.yaml", slow)
    assert assay(place, "watch", "lab/checkpoints", *ON).returncode == 0


def test_help_is_quick_because_nothing_heavy_is_imported(tmp_path: Path) -> None:
    heavy = ["duckdb", "numpy", "mlx", "xllamacpp", "gguf", "transformers", "ruamel", "rich.progress", "asyncio"]
    probe = (
        "import sys\nfrom assay.cli.app import app\n"
        "try: app(['--help'], exit_on_error=False)\n"
        "except SystemExit: pass\n"
        f"loaded = [m for m in {heavy!r} if m in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for verb in ("watch", "report", "query"):
        assert verb in done.stdout
        assert assay(tmp_path, verb, "--help").returncode == 0


def test_a_reader_never_blocks_a_watch(place: Path) -> None:
    watch(place)
    with hold(place / "assay-results"):
        assert assay(place, "report").returncode == 0
    shutil.rmtree(place / "lab")
    assert assay(place, "report").returncode == 0, "the journal is all that a report needs"
