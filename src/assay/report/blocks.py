"""Tables that fit the terminal: columns that don't go side by side go below, in blocks that each have the rows' labels."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Literal, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

# Where nobody looks: the width of a log, and of what most programs expect.
_WIDTH = 80

_GAP = 2
_RULED_GAP = 3  # rich adds a divider
_LABEL = 10  # characters below which no label shrinks
_LINE = 22  # characters that hold a value and its interval
_TITLE = 24  # what a title may take beyond its cells before it is broken


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title, and a cell for each row. least: characters that it must have, if anything is so wide; the rest is
    broken. group: what it belongs to, of several.
    """

    title: str
    cells: Sequence[Text | str]
    least: int | None = None
    group: str = ""

    @property
    def full(self) -> int:
        """Characters of its widest line, the title among them."""
        return max([cell_len(self.title), self._cells])

    @property
    def wanted(self) -> int:
        """Characters that it takes when blocks are filled."""
        return min(self.full, max(self._cells, _TITLE) if self.least is None else self.least)

    @property
    def whole(self) -> int:
        """Characters that it should have before labels have theirs: its longest word, and a line that can be read."""
        words = (cell_len(word) for cell in self.cells for word in str(cell).split())
        return self.wanted if self.least is not None else max([min(self._cells, _LINE), *words])

    @property
    def _cells(self) -> int:
        return max((cell_len(line) for cell in self.cells for line in str(cell).split("\n")), default=0)


def blocks(
    labels: Sequence[Column], columns: Sequence[Column], width: int, *, last: Sequence[Column] = (), ruled: bool = False
) -> list[Table]:
    """As many tables as it takes to show all `columns` within `width` characters, each with the `labels` and, behind, `last`.

    A column that is too wide by itself has a block of its own, in which its cells are broken between words; where not even
    its words have room, the labels are broken. ruled: with a line under the titles.
    """
    gap = _RULED_GAP if ruled else _GAP
    fixed = [*labels, *last]
    needed = max((column.whole for column in columns), default=0)
    sizes = _shrunk([column.full for column in fixed], width - needed - gap * len(fixed))
    room = width - sum(sizes) - gap * len(fixed)
    parts = _split(columns, gap, room + gap)
    heads = [RichColumn(Text(one.title), overflow="fold", width=size) for one, size in zip(fixed, sizes, strict=True)]
    first, behind = heads[: len(labels)], heads[len(labels) :]
    tables = []
    for part in parts:
        shown = [columns[at] for at in part]
        middle = [
            RichColumn(Text(one.title), overflow="fold", min_width=min(one.wanted, max(room, one.whole)))
            for one in shown
        ]
        table = _table([*first, *middle, *behind], ruled)
        for row in zip(*(column.cells for column in (*labels, *shown, *last)), strict=True):
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
        tables.append(table)
    return tables


def _shrunk(sizes: list[int], room: int) -> list[int]:
    """The widest gives way, as long as there is too little room, to the next widest and to `_LABEL`."""
    sizes = list(sizes)
    while sizes and sum(sizes) > room and max(sizes) > _LABEL:
        sizes[sizes.index(max(sizes))] -= 1
    return sizes


def _split(columns: Sequence[Column], gap: int, room: int) -> list[list[int]]:
    """Fill parts of `room` characters with columns, in order; a part has at least one.

    Columns of one group stay together where a part has room for them.
    """
    parts: list[list[int]] = []
    used = 0
    widths = [column.wanted + gap for column in columns]
    for at, width in enumerate(widths):
        ahead = width
        if at and columns[at].group != columns[at - 1].group:
            ahead = sum(w for w, column in zip(widths, columns, strict=True) if column.group == columns[at].group)
        if not parts or used + width > room or (ahead <= room < used + ahead):
            parts.append([])
            used = 0
        parts[-1].append(at)
        used += width
    return parts


def _table(columns: Sequence[RichColumn], ruled: bool) -> Table:
    return Table(
        *(copy(column) for column in columns),
        box=box.SIMPLE_HEAD if ruled else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP, 0, 0),
        header_style="table.header" if ruled else "bold",
    )


class TextConsole(Console):
    """A console that writes to its stream what it is given, in a notebook as well, where rich would display it beside."""

    def __init__(self, file: TextIO, width: int, color_system: Literal["auto"] | None = "auto") -> None:
        super().__init__(
            file=file, width=width, color_system=color_system, highlight=False, markup=False, force_jupyter=False
        )

    def on_broken_pipe(self) -> None:
        """Leave it to the command what a pipe that nobody reads any more means; rich would end with 1."""
        raise


def console_on(stream: TextIO | None = None, *, piped: int | None = None) -> Console:
    """A console on `stream` (standard output), as wide as COLUMNS says, else as its terminal is, else 80 characters.

    piped: the width where it is no terminal, whatever COLUMNS says.
    """
    stream = stream or sys.stdout
    width = piped if piped and not stream.isatty() else _width(stream)
    return TextConsole(file=stream, width=width)


def _width(stream: TextIO) -> int:
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except (OSError, ValueError):  # no terminal, or no file
        return _WIDTH


def print_all(console: Console, parts: Sequence[RenderableType]) -> None:
    """Print one after the other, with a blank line in between, and without the blanks that rich pads lines with."""
    for number, part in enumerate(parts):
        if number:
            console.print()
        for line in _lines(console, part):
            console.print(line, soft_wrap=True)


def _lines(console: Console, part: RenderableType) -> Iterator[Text]:
    with console.capture() as capture:
        console.print(part)
    for line in Text.from_ansi(capture.get()).split("\n"):
        line.rstrip()
        yield line
