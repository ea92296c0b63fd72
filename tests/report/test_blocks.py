"""Tables in blocks that fit the terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from assay.report.blocks import Column, blocks, console_on, print_all

ROWS = [f"row {n}" for n in range(4)]


def printed(columns: list[Column], width: int, labels: list[Column] | None = None) -> list[list[str]]:
    """The blocks' lines."""
    stream = io.StringIO()
    given = [Column("label", ROWS)] if labels is None else labels
    print_all(Console(file=stream, width=width), blocks(given, columns, width))
    found = [part.splitlines() for part in stream.getvalue().removesuffix("\n").split("\n\n")]
    assert all(len(line) <= width and line == line.rstrip() for part in found for line in part)
    return found


@pytest.mark.parametrize("width", [20, 31, 80, 120, 200])
def test_whole_columns_go_below_one_another_each_block_with_the_labels(width: int) -> None:
    columns = [Column(f"title {n}", [f"{n}:{row}".ljust(9, ".") for row in range(4)]) for n in range(12)]
    parts = printed(columns, width)
    assert len(parts) == {20: 12, 31: 6, 80: 2, 120: 2, 200: 1}[width]
    assert re.findall(r"title \d+", " ".join(part[0] for part in parts)) == [f"title {n}" for n in range(12)]
    for part in parts:
        assert [line[:5] for line in part[1:]] == ROWS, "no cell is broken"
    cells = [cell for part in parts for line in part[1:] for cell in re.findall(r"\d+:\d\.+", line)]
    assert sorted(cells) == sorted(cell for column in columns for cell in column.cells)


def test_a_column_too_wide_by_itself_is_broken_between_words() -> None:
    wide = "67% [21%–94%] (n=3, 12 failed, 4 truncated)"
    parts = printed([Column("a", ["1"] * 4), Column("b", [wide, "2", "3", "4"]), Column("c", ["5"] * 4)], 32)
    assert [len(part) for part in parts] == [5, 6, 5]
    assert [line[7:] for line in parts[1][:3]] == ["b", "67% [21%–94%] (n=3, 12", "failed, 4 truncated)"]


def test_where_words_have_no_room_the_labels_are_broken() -> None:
    labels = [
        Column("suite", ["standard"]),
        Column("metric", ["informativeness/truthfulqa @ http://127.0.0.1:80/v1#m"]),
    ]
    [part] = printed([Column("model", ["10.00 [9.00 to 10.00] (n=1)"])], 60, labels)
    assert part[1].startswith("standard  informativeness/truthfulqa  ")
    assert part[1].endswith("  10.00 [9.00 to 10.00]")
    assert "http://127.0.0.1:80/v1#m" in " ".join(part)


def test_a_group_stays_together_where_there_is_room() -> None:
    columns = [Column(f"{group}{n}", ["...."] * 4, group=group) for group in "abc" for n in range(3)]
    assert [part[0].split()[1:] for part in printed(columns, 7 + 4 * 6)] == [
        ["a0", "a1", "a2"],
        ["b0", "b1", "b2"],
        ["c0", "c1", "c2"],
    ]
    assert [len(part[0].split()[1:]) for part in printed(columns, 7 + 2 * 6)] == [2] * 4 + [1], "there is none"


def test_wide_characters_take_two_places() -> None:
    parts = printed([Column("漢字漢字", ["漢字漢字漢字"] * 4), Column("b", ["漢字漢字漢字"] * 4)], 30)
    assert len(parts) == 2


@pytest.mark.parametrize(("said", "width"), [("132", 132), ("", 80), ("0", 80), ("wide", 80), (None, 80)])
def test_the_width_of_what_is_no_terminal(said: str | None, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if said is not None:
        monkeypatch.setenv("COLUMNS", said)
    assert console_on(io.StringIO()).width == width
