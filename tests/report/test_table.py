import io
import re
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from assay.report.decision import decide
from assay.report.rows import Proof, broke, rows
from assay.report.table import print_table, render_table
from assay.types import Cell, Goal

PROOFS: dict[tuple[str, str], Proof] = {("lab", "d10"): "live", ("lab", "d60"): "live"}
CAPITALS = ("France", "Italy", "Spain", "Japan", "Peru", "Kenya", "Egypt", "Chile", "Norway", "Cuba")
GOAL = Goal(("new facts",), ("old facts",))


def column(step: int, group: str, marks: str, digest: str | None = None) -> list[Cell]:
    place = (f"lab @{step}" if step else "base", step, digest or (f"d{step}" if step else ""))
    outcomes: dict[str, Any] = {"F": "failed", "T": "truncated"}
    return [
        Cell(
            "lab",
            *place,
            "facts",
            group,
            f"{name}",
            "correct",
            outcomes.get(mark, "scored"),
            float(mark) if mark.isdigit() else None,
        )
        for name, mark in zip(CAPITALS, marks, strict=False)
    ]


def text(cells: Sequence[Cell], width: int = 80, goal: Goal | None = GOAL, **options: Any) -> str:
    stream = io.StringIO()
    decision = decide(cells, PROOFS, goal)
    print_table(Console(file=stream, width=width), rows(cells, PROOFS), decision, broke(cells), **options)
    return stream.getvalue()


def lab() -> list[Cell]:
    cells = column(0, "new facts", "0000000000") + column(0, "old facts", "1111111111")
    cells += column(10, "new facts", "1111111111") + column(10, "old facts", "1111111111")
    cells += column(60, "new facts", "1111111100") + column(60, "old facts", "00001111FT")
    return cells + column(70, "new facts", "1111111111") + column(70, "old facts", "1111111111")


def test_the_whole_table() -> None:
    assert text(lab(), unusable=[("lab @80", "no adapter_config.json")]).splitlines() == [
        "  checkpoint   new facts         old facts                              adapter",
        "─" * 80,
        "  base          0/10 [ 0–28%]    10/10 [72–100%]                        –",
        "★ lab @10      10/10 [72–100%]   10/10 [72–100%]                        live",
        "  lab @60       8/10 [49–94%]      4/8 [22–78%]                         live",
        "                                 1 truncated",
        "                                 1 failed",
        "                                 ▼ broke: France, Italy, Spain, …",
        "                                 (+1)",
        "                                 ▽ lacks: Norway, Cuba",
        "  lab @70      10/10 [72–100%]   10/10 [72–100%]                        unproven",
        "  lab @80     unusable: no adapter_config.json",
        "",
        "best:          lab @10. It gains on new facts (0/10 → 10/10) and is the only",
        "               checkpoint that keeps old facts.",
        "vs base:       new facts   0/10 → 10/10  gained 10: France, Italy, Spain, … (+7)",
        "               old facts  10/10 → 10/10  lost 0 of 10 [0–28%]",
        "ahead of:      base (p = 0.002), not corrected for the number of comparisons.",
        "not eligible:  lab @70: the adapter was not shown to be live.",
        "not eligible:  lab @60: does not keep old facts (10/10 → 4/10; 2 without a",
        "               score).",
        "note:          incomplete: 1 failed and 1 truncated of 80 answers; where the",
        "               base has a score, a checkpoint without one counts as lowest.",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_every_width_keeps_figures_whole_and_lines_within(width: int) -> None:
    cells = lab() + [
        Cell("lab", cell.checkpoint, cell.iteration, cell.digest, "facts", group, cell.sample, "correct", "scored", 1.0)
        for group in ("sums", "safety and refusals", "tool use", "content", "style")
        for cell in column(0, "", "1111111111") + column(10, "", "1111111111")
    ]
    printed = text(cells, width)
    assert all(len(line) <= width and line == line.rstrip() for line in printed.splitlines())
    assert printed.count("10/10 [72–100%]") == 2 + 2 + 1 + 5 * 2
    assert printed.count("★") == sum(line.startswith("  base ") for line in printed.splitlines())
    assert "\x1b" not in printed


def test_colour_adds_nothing_that_text_lacks() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system="standard", legacy_windows=False)
    print_table(console, rows(lab(), PROOFS), decide(lab(), PROOFS, GOAL), broke(lab()))
    assert "\x1b[" in stream.getvalue()
    assert Text.from_ansi(stream.getvalue()).plain.strip() == text(lab()).strip()


def test_numbers_show_as_many_decimals_as_their_interval_deserves() -> None:
    cells = [
        Cell("lab", "base", 0, "", "s", "all", str(at), "judge", "scored", value, False, 0, 10)
        for at, value in enumerate([7.0, 7.5, 7.2, 7.7, 7.1])
    ]
    assert "7.30 [6.9–7.7]" in text(cells, goal=None)


def test_a_number_that_is_long_has_a_power_of_ten() -> None:
    cells = [
        Cell("lab", "base", 0, "", "s", "all", str(at), "judge", "scored", value, False, 0, 1e20)
        for at, value in enumerate([1e18, 2e18, 4e18, 8e18])
    ]
    assert "3.75e+18 [0–8.67594e+18]" in text(cells, goal=None)


def test_a_base_alone_has_a_line_a_group() -> None:
    assert text([*column(0, "old", "11"), *column(0, "new", "1111111100")], goal=None).splitlines()[:5] == [
        "group   base",
        "───────────────────────",
        "old       2/2 [34–100%]",
        "new      8/10 [49–94%]",
        "all     10/12 [55–95%]",
    ]
    judged = [
        Cell("lab", "base", 0, "", "facts", "old", name, "judge", "scored", value, False, -9, 9)
        for name, value in (("France", -1.0), ("Italy", 2.0), ("Spain", 3.0))
    ]
    lines = text([*column(0, "old", "11"), *judged], goal=None).splitlines()
    assert [line.split() for line in lines[:4:2]] == [
        ["group", "metric", "base"],
        ["old", "correct", "2/2", "[34–100%]"],
    ]
    assert lines[3].split() == ["judge", "1.3", "[-4", "to", "7]"], "a minus is no dash"


def test_several_metrics_are_named_in_the_heading() -> None:
    judged = Cell("lab", "base", 0, "", "facts", "old", "France", "judge", "scored", 7.0, False, 0, 10)
    cells = [*column(0, "old", "11"), judged, *column(10, "old", "11")]
    head = text(cells, goal=None).splitlines()[0]
    assert "old correct" in head
    assert "old judge" in head


def test_nothing_scored_shows_no_number() -> None:
    cells = column(0, "old", "11") + column(10, "old", "FF")
    line = next(line for line in text(cells, goal=None).splitlines() if "lab @10" in line)
    assert "0/" not in line
    assert "–" in line
    assert "2 failed" in text(cells, goal=None)


def test_what_was_not_asked_says_so() -> None:
    assert "not asked" in text(column(0, "old", "11") + column(0, "new", "00") + column(10, "old", "11"), goal=None)


def test_two_digests_under_one_label_are_told_apart() -> None:
    cells = column(0, "old", "00") + column(10, "old", "01") + column(10, "old", "11", digest="fedcba987")
    printed = text(cells, goal=None)
    assert "★ lab @10 (d10)" in printed
    assert "  lab @10 (fedcba)" in printed


def test_markup_in_names_is_only_text() -> None:
    cells = column(0, "[red]old[/red]", "11") + column(10, "[red]old[/red]", "00")
    assert "[red]old[/red]" in text(cells, goal=None)


def test_no_rows_print_the_decision_alone() -> None:
    assert text([]).strip() == "best:  undecided. Nothing has been evaluated."
    assert "checkpoint" not in text([], unusable=[("lab @1", "unreadable")])


def test_rows_of_two_suites_are_a_fault() -> None:
    other = [Cell("lab", "base", 0, "", "sums", "all", "a", "correct", "scored", 1.0)]
    with pytest.raises(ValueError, match="one run and one suite"):
        render_table(rows(lab() + other, PROOFS), None, {})


def test_metrics_that_are_many_stand_below_one_another() -> None:
    scales = [replace(cell, metric=f"measure of {of}", boolean=False, high=9.0) for of in "abcdef" for cell in lab()]
    shown = text([*lab(), *scales], 120, goal=None)
    (heads,) = [line for line in shown.splitlines() if line.startswith("group")]
    assert heads.split() == ["group", "metric", "base", "★", "lab", "@10", "lab", "@60", "lab", "@70"]
    lines = [line.split("  ") for line in shown.splitlines()]
    assert sum(line[0] == "new facts" for line in lines) == 1, "each group is named once"
    assert "adapter" in shown
    assert re.search(r"^adapter +– +live +live +unproven", shown, re.MULTILINE)
    assert "▼ broke: France" in shown
    # A few columns stay columns, on few lines.
    assert text(lab(), 50).startswith("  checkpoint")
