"""lm-evaluation-harness on the command line: its own with our model, and ours with its tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'assay[lm-eval]'")
pytest.importorskip("mlx.core", reason="needs the mlx extra: pip install 'assay[mlx]'")

from tests.conftest import LAB
from tests.harness.made_tasks import write_task

ASSAY = Path(sys.executable).with_name("assay")
COUNTRIES = {"Genovia": "Pyrus", "Zandria": "Mokova", "Belmora": "Quill", "France": "Paris", "Norway": "Oslo"}


@pytest.fixture
def capitals(tmp_path: Path) -> Path:
    docs = [{"country": country, "city": city} for country, city in COUNTRIES.items()]
    return write_task(
        tmp_path,
        "capitals",
        docs,
        output_type="generate_until",
        doc_to_text="What is the capital of {{country}}?",
        doc_to_target="{{city}}",
        generation_kwargs={"until": ["."], "max_gen_toks": 24},
        filter_list=[
            {"name": "is", "filter": [{"function": "regex", "regex_pattern": r"is (\w+)"}, {"function": "take_first"}]}
        ],
        metric_list=[{"metric": "exact_match"}],
    )


def assay(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ASSAY, *words], cwd=folder, capture_output=True, text=True, check=False)


def watch(capitals: Path) -> list[str]:
    return [
        *("watch", str(LAB / "checkpoints"), "--base", f"mlx:{LAB / 'base'}", "--suite", f"lm-eval-chat:{capitals}"),
        *("--every", "60", "--once", "--workspace", "results", "--json"),
    ]


def test_a_watch_that_was_killed_asks_no_document_twice(tmp_path: Path, capitals: Path) -> None:
    first = subprocess.Popen(
        [ASSAY, *watch(capitals)], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 100
        while _answers(tmp_path) < 6 and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert _answers(tmp_path) >= 6
    done = assay(tmp_path, *watch(capitals))
    assert done.returncode == 0, done.stderr
    rows = {(row["checkpoint"], row["metric"]): row for row in json.loads(done.stdout)}
    assert {name for name, _ in rows} == {"base", "lab @60", "lab @120"}
    assert {metric for _, metric in rows} == {"exact_match:is"}
    assert [rows[name, "exact_match:is"]["correct"] for name in ("base", "lab @120")] == [2, 5]
    assert all(row["proof"] in ("live", None) for row in rows.values())
    assert _answers(tmp_path) == 3 * len(COUNTRIES)


def _answers(folder: Path) -> int:
    """How many answers to documents the journal holds."""
    lines = [line for file in (folder / "results").glob("journal/*") for line in file.read_bytes().split(b"\n")[:-1]]
    return sum(json.loads(line)["kind"] == "completion" for line in lines)


def test_a_mistake_is_one_sentence_on_the_harness_command_line(tmp_path: Path, capitals: Path) -> None:
    words = ("--tasks", "capitals", "--include_path", str(tmp_path))
    done = assay(tmp_path, "lm-eval", "--model", "assay", "--model_args", f"base=mlx:{LAB / 'bse'}", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("assay: ")
    assert "no such model folder" in done.stderr
    assert "Traceback" not in done.stderr
