"""Registries of parts: names are known without importing anything, and a wrong one is answered with the nearest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assay.errors import UnknownName
from assay.plugins import SCORERS, Registry, nearest


def test_the_nearest_name_else_all_of_them() -> None:
    assert nearest("contain_word", ["final_number", "contains_word"]) == "did you mean 'contains_word'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "none are known"


def test_a_name_is_checked_without_importing_what_it_names() -> None:
    code = (
        "import sys; from assay.plugins import SCORERS; SCORERS.check('final_number'); SCORERS.names(); "
        "sys.exit('assay.scorers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_part_is_imported_by_its_name() -> None:
    from assay.scorers.match import ContainsWord

    assert SCORERS.get("contains_word") is ContainsWord
    assert {"contains_word", "final_number"} <= set(SCORERS.names())
    with pytest.raises(UnknownName, match=r"unknown scorer 'final_numbr'; did you mean 'final_number'\?"):
        SCORERS.get("final_numbr")
    assert "final_numbr" not in SCORERS


def test_parts_of_other_packages_join_and_cannot_take_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[test.parts]\nmine = outside_parts:THING\ngone = no_such_module:THING\nold = outside_parts:GONE\n"
    )
    (tmp_path / "outside_parts.py").write_text("THING = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    parts: Registry[int] = Registry("part", "test.parts", {"pi": "math:pi"})
    assert parts.names() == ("gone", "mine", "old", "pi")
    assert parts.get("mine") == 42
    for name, why in (("gone", "No module named 'no_such_module'"), ("old", "has no attribute 'GONE'")):
        with pytest.raises(UnknownName, match=f"the part '{name}' can't be imported from .*{why}"):
            parts.get(name)
    taken: Registry[int] = Registry("part", "test.parts", {"mine": "math:pi"})
    with pytest.raises(UnknownName, match="the part name 'mine' is claimed by both math:pi and outside_parts:THING"):
        taken.names()
