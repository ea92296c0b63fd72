"""Which program runs `llama-server:` models, and what is said where there is none, or another one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assay.errors import ModelError
from assay.models import llama_binary
from assay.models.llama_binary import Binary, ask, find, stand_in
from tests.models.llama_programs import script

SAYS = """case "$1" in
--version) echo "version: 11549 (0c1e570)"; echo "built with GNU 12.2.0 for Linux x86_64";;
--list-devices) printf 'Available devices:\\n  CUDA0: NVIDIA H100 80GB HBM3 (81079 MiB, 80547 MiB free)\\n';;
esac"""


def test_the_named_one_goes_before_that_of_path_and_that_before_what_stands_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    assert find(None) == stand_in()
    on_path = script(tmp_path / "bin" / "llama-server", SAYS)
    other = script(tmp_path / "bin" / "llama-server-cuda", SAYS)
    mine = script(tmp_path / "mine" / "llama-server", SAYS)
    assert find(None) == (on_path,)
    assert find("llama-server-cuda") == (other,)
    assert find(mine) == (mine,)


def test_without_any_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    with pytest.raises(ModelError, match=r"no llama-server on PATH: install llama.cpp, .*pip install 'assay\[llama\]'"):
        find(None)


def test_it_is_asked_for_build_and_gpus(tmp_path: Path) -> None:
    name = script(tmp_path / "llama-server", SAYS)
    wanted = Binary(
        (name,), "11549 (0c1e570)", "GNU 12.2.0 for Linux x86_64", ("NVIDIA H100 80GB HBM3",), 81079 * 2**20
    )
    assert ask([name]) == wanted


def test_what_is_no_llama_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("version: 1 (2)")
    (tmp_path / "broken").write_text("no program")
    (tmp_path / "broken").chmod(0o755)
    for name, said in {
        str(tmp_path / "missing"): "which llama_server names; give the path",
        "no-such-command-here": "no program no-such-command-here on PATH",
        str(tmp_path): "is not a program",
        str(tmp_path / "text"): "is not a program",
        str(tmp_path / "broken"): "it says .*broken: Exec format error",
        script(tmp_path / "other", "echo other 1.0"): "is not llama.cpp's llama-server: .* it says 'other 1.0'",
        script(tmp_path / "mute", "exit 0"): "it says nothing",
        script(tmp_path / "flood", "yes"): "it says 'y y y",
    }.items():
        with pytest.raises(ModelError, match=said):
            ask(find(name))
    monkeypatch.setattr(llama_binary, "_SECONDS", 0.3)
    with pytest.raises(ModelError, match="it says nothing"):
        ask(find(script(tmp_path / "hangs", "sleep 60")))
