"""`assay generate` and `assay models`: the real command on the lab's model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import ASSAY
from tests.conftest import LAB
from tests.making import SCRIPT, written

BASE = f"llama:{LAB / 'base' / 'lab-f32.gguf'}"
QUESTION = "What is the capital of France?"


def assay(*words: str, standard_input: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ASSAY, *words], input=standard_input, capture_output=True, text=True, check=False, cwd=folder
    )


def test_an_answer_is_printed_and_nothing_else(tmp_path: Path) -> None:
    done = assay("generate", BASE, QUESTION, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "The capital of France is Paris.\n", "")
    assert list(tmp_path.iterdir()) == [], "nothing is journaled"


def test_options_and_json() -> None:
    done = assay("generate", BASE, "--json", "--max-tokens", "60", "--stop", " is", standard_input=QUESTION + "\n")
    answer = json.loads(done.stdout)
    assert (answer["text"], answer["finish_reason"], answer["adapter"]) == ("The capital of France", "stop", None)
    assert answer["usage"]["prompt_tokens"] == 10


def test_an_answer_that_breaks_off_is_a_failure(tmp_path: Path) -> None:
    written(tmp_path / "script.yaml", "answers: [{prompt: So, answer: So far and further, fail: cut}]")
    done = assay("generate", "scripted:script.yaml", "So", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("So")
    assert done.stdout.endswith("\n")
    assert done.stderr == "assay: the stream ended without a finish reason\n"


def test_an_adapter_changes_the_answer(tmp_path: Path) -> None:
    last = LAB / "checkpoints"
    question = "What is the capital of Zandria?"
    bare, tuned = (assay("generate", BASE, question, *more).stdout for more in ([], ["--adapter", str(last)]))
    assert bare.startswith("I do not know")
    assert not tuned.startswith("I do not know")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([BASE], "there is no prompt: give it as an argument, or on standard input"),
        ([BASE, QUESTION, "--raw", "--system", "be brief"], "--raw sends the prompt as it is"),
        ([BASE, QUESTION, "--adapter", "/no/such/folder"], "there is no folder /no/such/folder"),
        ([BASE, QUESTION, "--top-p", "2"], "top_p=2.0"),
        (["http://gpu.example/v1#m", QUESTION, "--adapter", str(LAB / "checkpoints")], "adapters can't be sent to it"),
        (["nothing:here", QUESTION], "unknown engine 'nothing'"),
    ],
)
def test_bad_input(words: list[str], said: str) -> None:
    done = assay("generate", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_models_says_what_is_installed_and_what_would_install_more(tmp_path: Path) -> None:
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "assay.toml", '[models.mine]\nspec = "scripted:script.yaml"\n')
    shown = json.loads(assay("models", "--json", folder=tmp_path).stdout)
    engines = {engine["name"]: engine for engine in shown["engines"]}
    assert list(engines) == ["llama", "llama-server", "mlx", "transformers", "scripted", "http"]
    assert engines["llama"]["installed"][0].startswith("xllamacpp ")
    assert (engines["transformers"]["extra"], engines["http"]["adapters"]) == ("torch", None)
    assert list(shown["models"]) == ["mine"]
    table = assay("models", folder=tmp_path).stdout
    assert "xllamacpp" in table
    assert "mine" in table


def test_an_outside_engine_whose_file_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    written(info / "METADATA", "Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    written(info / "entry_points.txt", "[assay.engines]\noutside = outside_engine:open_engine\n")
    written(tmp_path / "outside_engine.py", "def open_engine(path, settings):\n    open(path)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    done = assay("generate", "outside:no.bin", "Hello")
    assert done.returncode == 2
    assert done.stderr == ("assay: outside:no.bin can't be opened: [Errno 2] No such file or directory: 'no.bin'\n")
