"""The tables that README.md and the lab's README show are what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import ROOT, Demo, blocks, demo_of, lines_of, shell

GROUPS = ("new facts", "old facts", "sums")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return demo_of(tmp_path_factory)


@pytest.fixture(scope="module")
def rows(demo: Demo) -> list[dict[str, Any]]:
    """What `assay report --json` says of the lab."""
    done = shell("assay report --json --workspace build/demo", demo.folder)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def counts(rows: list[dict[str, Any]]) -> dict[int, list[int]]:
    """iteration → correct answers, group by group."""
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(row["iteration"], []).append(row["correct"])
    return found


def shown(page: Path) -> str:
    """The first output that the page shows."""
    return next(block.text for block in blocks(page) if block.language == "text")


def test_the_table_is_what_report_prints(demo: Demo) -> None:
    printed = shell("assay report --run lab --workspace build/demo", demo.folder)
    assert printed.returncode == 0, printed.stderr
    report = lines_of(printed.stdout)
    assert lines_of(shown(ROOT / "README.md"))[: len(report)] == report


def test_each_row_of_the_table_is_right(rows: list[dict[str, Any]]) -> None:
    table = shown(ROOT / "README.md").partition("\nbest:")[0]
    found: dict[int, list[int]] = {}
    for name, cells in re.findall(r"^[★ ] (base|lab @\d+) +(\d+/\d+ .*)$", table, re.MULTILINE):
        iteration = 0 if name == "base" else int(name.partition("@")[2])
        found[iteration] = [int(count) for count in re.findall(r"(\d+)/\d+", cells)]
        assert cells.split()[-1] == ("–" if name == "base" else "live")
    assert found == counts(rows)


def test_every_answer_was_scored_or_cut_off_and_every_adapter_is_live(rows: list[dict[str, Any]]) -> None:
    assert [row["group"] for row in rows] == list(GROUPS) * 13
    assert {(row["asked"], row["failed"], row["scored"] + row["truncated"]) for row in rows} == {(10, 0, 10)}
    cut_off = sum(row["truncated"] for row in rows)
    assert f"0 failed and {cut_off} truncated of 390 answers" in shown(ROOT / "README.md")
    assert {row["proof"] for row in rows if row["iteration"]} == {"live"}


def test_the_lab_s_own_table_is_what_was_measured(lab: Path, rows: list[dict[str, Any]]) -> None:
    text = (lab / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (base|\d+) \| (\d+) \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    found = {0 if name == "base" else int(name): [int(n) for n in numbers] for name, *numbers in table}
    assert found == counts(rows)
