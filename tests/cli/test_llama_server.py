"""`llama-server:` models on the command line: what is said of bad input, and what is left when assay is killed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.cli.running import ASSAY, assay, bad
from tests.conftest import LAB
from tests.making import written
from tests.models.gguf_tiny import write_base
from tests.models.llama_programs import PROGRAMS, program, script

BASE = f"llama-server:{LAB / 'base' / 'lab-f32.gguf'}"


def naming(folder: Path, server: str) -> None:
    written(folder / "assay.toml", f"[engine]\nllama_server = {json.dumps(server)}\n")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("./missing", "which llama_server names; give the path of llama.cpp's llama-server"),
        ("./assay.toml", "which llama_server names, is not a program; name llama.cpp's llama-server"),
        ("./other", "other is not llama.cpp's llama-server: asked for its --version, it says 'other 1.0'"),
        ("no-such-command", "there is no program no-such-command on PATH, which llama_server names; give its path"),
    ],
)
def test_a_program_that_is_no_llama_server(tmp_path: Path, server: str, said: str) -> None:
    script(tmp_path / "other", "echo other 1.0")
    naming(tmp_path, server)
    assert said in bad(tmp_path, "generate", BASE, "hi")


@pytest.mark.parametrize("engine", ["llama", "llama-server"])
def test_a_model_that_is_larger_than_the_machine(tmp_path: Path, engine: str) -> None:
    os.truncate(write_base(tmp_path / "huge.gguf"), 5 * 10**12)  # a hole takes no room on the disk
    told = bad(tmp_path, "generate", f"{engine}:huge.gguf", "hi")
    assert "huge.gguf takes 5000.0 GB of memory, and this machine has " in told


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_broken_model_is_told_in_the_servers_words(tmp_path: Path, kind: str) -> None:
    naming(tmp_path, program(kind, tmp_path))
    (tmp_path / "cut.gguf").write_bytes(write_base(tmp_path / "whole.gguf").read_bytes()[:-5000])
    told = bad(tmp_path, "generate", "llama-server:cut.gguf", "hi")
    assert "can't load cut.gguf" in told
    assert "corrupted or incomplete" in told


def test_models_shows_which_program_it_is(tmp_path: Path) -> None:
    def shown() -> tuple[list[str], str]:
        told = json.loads(assay(tmp_path, "models", "--json").stdout)["engines"]
        (engine,) = [each for each in told if each["name"] == "llama-server"]
        return engine["installed"], engine["trouble"]

    mine = program("stand-in", tmp_path)
    naming(tmp_path, "./llama-server")
    assert shown()[0][0] == mine
    assert mine in assay(tmp_path, "models", columns="300").stdout
    naming(tmp_path, "./missing")
    assert "./missing" not in shown()[0]
    assert "there is no" in shown()[1]


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_watch_that_is_killed_leaves_no_process(tmp_path: Path, kind: str) -> None:
    naming(tmp_path, program(kind, tmp_path))
    called = [ASSAY, "watch", str(LAB / "checkpoints"), "--base", BASE, "--suite", str(LAB / "suite.yaml")]
    with subprocess.Popen(
        called, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stderr is not None
        for line in watching.stderr:
            if "samples done" in line:  # the server is at work
                break
        left = psutil.Process(watching.pid).children(recursive=True)
        assert len(left) == 3, "the worker's child, the supervisor and the server"
        watching.kill()
        watching.wait()
        assert not psutil.wait_procs(left, timeout=20)[1]
