"""`assay convert`: what it prints, and the sentence and exit code of each mistake."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import ASSAY

CHECKPOINT = "checkpoints/0000100_adapters.safetensors"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ASSAY, "convert", *map(str, words)], capture_output=True, text=True, check=False)


def test_there_and_on_to_llama_cpp(lab: Path, tmp_path: Path) -> None:
    done = run(lab / CHECKPOINT, "--to", "peft", "--out", tmp_path / "peft")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{tmp_path / 'peft'}: PEFT, 28 modules, F32, ")
    assert second.startswith("the same adapter: its digest stays ")
    done = run(
        tmp_path / "peft", "--to", "gguf", "--out", tmp_path / "a.gguf", "--base", f"mlx:{lab / 'base'}", "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["form"], told["rank"], told["scale"], told["same"]) == ("gguf", 8, 10.0, False)
    assert told["source"]["digest"].startswith(second.split()[-1])
    assert told["size"] == (tmp_path / "a.gguf").stat().st_size


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "gguf", "--out", "{}/a.gguf", "--base", "{}/nothing"], "no such folder"),
        (["--to", "gguf", "--out", "{}/a", "--base", "{lab}/base"], "a name that ends in .gguf"),
        (["--to", "peft", "--out", "{}"], "holds more than an adapter"),
        (["--to", "peft", "--out", "/proc/out"], "/proc/out can't be written (No such file or directory); choose"),
        (["--to", "gguf", "--out", "/proc/a.gguf", "--base", "{lab}/base"], "/proc/a.gguf can't be written ("),
        (["--to", "peft", "--out", "{}/out", "--tolerance", "1"], "are for --verify"),
        (["--to", "peft", "--out", "{}/out", "--base", "{lab}/base", "--base", "{lab}/base"], "are for --verify"),
        (
            ["--to", "peft", "--out", "{}/out", "--base", "{}/small.gguf"],
            "does not fit the base, 56 differences in 56 tensors\n  model.layers.0.mlp",
        ),
    ],
)
def test_mistakes(words: list[str], sentence: str, lab: Path, tmp_path: Path) -> None:
    from tests.models.gguf_tiny import write_base

    write_base(tmp_path / "small.gguf")
    done = run(lab / CHECKPOINT, *(word.format(tmp_path, lab=lab) for word in words))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]


def test_all_differences_are_listed(lab: Path, tmp_path: Path) -> None:
    from tests.models.gguf_tiny import write_base

    base = write_base(tmp_path / "small.gguf")
    done = run(lab / CHECKPOINT, "--to", "gguf", "--out", tmp_path / "a.gguf", "--base", base)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) > 56


def test_a_base_by_its_hubs_id(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--acme--lab" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in (lab / "base").iterdir():
        (snapshot / file.name).symlink_to(file)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    done = run(lab / CHECKPOINT, "--to", "gguf", "--out", tmp_path / "a.gguf", "--base", "acme/lab")
    assert done.returncode == 0, done.stderr
    done = run(lab / CHECKPOINT, "--to", "gguf", "--out", tmp_path / "b.gguf", "--base", "acme/other")
    assert done.returncode == 2
    assert "assay fetch" in done.stderr
    (tmp_path / "peft").mkdir()
    done = run(lab / CHECKPOINT, "--to", "peft", "--out", tmp_path / "peft", "--base", "acme/lab")
    assert done.returncode == 0, done.stderr
    config = tmp_path / "peft" / "adapter_config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "base_model_name_or_path": "acme/lab"}))
    assert run(tmp_path / "peft", "--to", "gguf", "--out", tmp_path / "c.gguf").returncode == 0
    config.write_text(json.dumps({**told, "base_model_name_or_path": "acme/other"}))
    done = run(tmp_path / "peft", "--to", "gguf", "--out", tmp_path / "d.gguf")
    assert done.returncode == 2
    assert "name it with --base" in done.stderr
    assert run(tmp_path / "peft", "--to", "mlx", "--out", tmp_path / "mlx").returncode == 0
