"""An adapter for another base: every verb that takes one by name says all that differs, one a line, and ends with 2."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mlx.core")
pytest.importorskip("xllamacpp")

from tests.cli.running import ASSAY
from tests.models.architectures import write_model

SENTENCE = "the adapter does not fit the base, 56 differences in 56 tensors"
ENGINES = {"llama": "/tiny.gguf", "mlx": "", "transformers": ""}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("other") / "llama", "llama")


def run(folder: Path, *words: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [ASSAY, *map(str, words)]
    return subprocess.run(command, input=said, capture_output=True, text=True, check=False, cwd=folder)


def check_all_are_listed(told: str) -> None:
    first, *lines = told.splitlines()
    assert first == f"assay: {SENTENCE}"
    modules = [line.partition(":")[0].strip() for line in lines]
    assert len(set(modules)) == len(modules) == 56
    assert all(line.startswith("  model.layers.") for line in lines)
    assert sum(line.endswith(": names no layer of the base") for line in lines) == 28
    assert sum("but the base wants (" in line for line in lines) == 28


@pytest.mark.parametrize("engine", ENGINES)
def test_generate(engine: str, other: Path, lab: Path, tmp_path: Path) -> None:
    base = f"{engine}:{other}{ENGINES[engine]}"
    done = run(tmp_path, "generate", base, "there", "--adapter", lab / "checkpoints")
    assert (done.returncode, done.stdout) == (2, "")
    check_all_are_listed(done.stderr)


def test_probe(other: Path, lab: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "probe", f"llama:{other}/tiny.gguf", "--adapter", lab / "checkpoints")
    assert (done.returncode, done.stdout) == (2, "")
    check_all_are_listed(done.stderr)
    assert list(tmp_path.iterdir()) == [], "a refused command leaves nothing behind"


def test_chat(other: Path, lab: Path, tmp_path: Path) -> None:
    base = f"llama:{other}/tiny.gguf"
    done = run(tmp_path, "chat", base, "--adapter", lab / "checkpoints", said="there\n")
    assert (done.returncode, done.stdout) == (2, "")
    check_all_are_listed(done.stderr)
    done = run(tmp_path, "chat", base, said=f"/adapter {lab / 'checkpoints'}\n/clear\n")
    assert (done.returncode, done.stdout) == (0, "begun anew\n"), "the talk goes on"
    check_all_are_listed(done.stderr)


def test_lm_eval(other: Path, lab: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    (tmp_path / "data.jsonl").write_text('{"text": "the thing"}\n')
    (tmp_path / "loss.yaml").write_text(
        "task: loss\ndataset_path: json\ndataset_kwargs: {data_files: {test: data.jsonl}}\ntest_split: test\n"
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list: [{metric: word_perplexity}]\n"
    )
    named = f"base=llama:{other}/tiny.gguf,adapter={lab / 'checkpoints'}"
    done = run(tmp_path, "lm-eval", "run", "--model", "assay", "--model_args", named, "--tasks", "loss.yaml")
    assert done.returncode == 2
    check_all_are_listed(done.stderr[done.stderr.index("assay: ") :])
