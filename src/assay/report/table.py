"""The table on standard output: what each checkpoint scored, what it broke, and which one is best.

Nothing is told by colour alone, so the same text serves a terminal, a pipe and a log.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

from assay.report.blocks import Column, blocks, print_all
from assay.report.decision import Decision
from assay.report.figures import decimals
from assay.report.rows import Broke, Row, RowKey, called, in_order, shorten
from assay.results.stats import wilson

_Head: TypeAlias = tuple[str, str]  # group, metric
_Place: TypeAlias = tuple[str, str]  # checkpoint, digest
_Cells: TypeAlias = Mapping[_Place, Text]
_PADDING = 2
_PARTS = 2  # so many tables below one another can still be read as one
_NOT_ASKED = Text("not asked", "dim")
_ALL = "all"  # groups, together
_LONG = 1e9


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A rich renderable of one run and suite; it fits itself to the console's width.

    Where the groups do not fit side by side, they go below one another, each part with the checkpoints' names. The base alone
    has a line a group, and so have others a line a group and metric where these are too many for columns.
    """

    rows: tuple[Row, ...]
    decision: Decision | None
    broke: Mapping[RowKey, Broke]
    unusable: tuple[tuple[str, str], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = called(_place(row) for row in self.rows)
        groups = in_order(row.group for row in self.rows)
        heads = sorted(in_order((row.group, row.metric) for row in self.rows), key=lambda head: groups[head[0]])
        indent = max(len(name) for name in ("checkpoint", *names.values())) + len("★ ")
        parts = self._by_checkpoint(heads, names, options.max_width)
        if self.rows and not any(row.digest for row in self.rows):
            parts = self._by_metric(heads, names, options.max_width, alone=True)
        elif len(parts) > _PARTS and len({metric for _, metric in heads}) > 1:
            other = self._by_metric(heads, names, options.max_width)
            parts = other if len(other) < len(parts) else parts
        for number, part in enumerate(parts):
            if number:
                yield Text()
            yield part
        yield from self._foot(indent)

    def _by_checkpoint(self, heads: Sequence[_Head], names: Mapping[_Place, str], width: int) -> list[Table]:
        """A line a checkpoint, a column a group and metric."""
        columns = [_column(head, self.rows, self.broke) for head in heads]
        several = len({metric for _, metric in heads}) > 1 or len(heads) > len({group for group, _ in heads})
        titles = [f"{group} {metric}" if several else group for group, metric in heads]
        labels = [Column("  checkpoint", [self._label(place, name) for place, name in names.items()])]
        adapter = Column("adapter", [self._proof(place) for place in names])
        shown = [
            Column(title, [column.get(place, _NOT_ASKED) for place in names], _width(title, column), group)
            for (group, _), title, column in zip(heads, titles, columns, strict=True)
        ]
        return blocks(labels, shown, width, last=[adapter], ruled=True)

    def _by_metric(
        self, heads: Sequence[_Head], names: Mapping[_Place, str], width: int, *, alone: bool = False
    ) -> list[Table]:
        """A line a group and metric, a column a checkpoint. alone: there is only the base, which has no adapter."""
        cells: dict[_Place, dict[_Head, Text]] = {place: {} for place in names}
        heads = list(heads)
        for place in names:
            for metric in dict.fromkeys(metric for _, metric in heads):
                mine = [row for row in self.rows if _place(row) == place and row.metric == metric]
                if alone and (whole := _whole(mine)) is not None:
                    mine.append(whole)
                    heads.append((whole.group, metric))
                if mine:
                    cells[place].update(
                        zip(((row.group, metric) for row in mine), _aligned(mine, self.broke), strict=True)
                    )
        shown = []
        for place, name in names.items():
            title = name if alone else self._label(place, name).plain.strip()
            column = [cells[place].get(head, _NOT_ASKED) for head in heads] + ([] if alone else [self._proof(place)])
            shown.append(Column(title, column, None if alone else _width(title, cells[place])))
        groups = ["" if at and heads[at - 1][0] == group else group for at, (group, _) in enumerate(heads)]
        labels = [Column("group", groups if alone else [*groups, "adapter"])]
        if not alone or len({metric for _, metric in heads}) > 1:
            labels.append(Column("metric", [metric for _, metric in heads] + ([] if alone else [""])))
        return blocks(labels, shown, width, ruled=True)

    def _label(self, place: _Place, name: str) -> Text:
        best = self.decision is not None and place == (self.decision.checkpoint, self.decision.digest)
        return Text(f"★ {name}" if best else f"  {name}", style="bold" if best else "")

    def _proof(self, place: _Place) -> Text:
        proof = next(row.proof for row in self.rows if _place(row) == place)
        return Text(proof or "–", style="bold" if proof == "unproven" else "")

    def _foot(self, indent: int) -> Iterable[Text | Table]:
        if self.unusable:
            yield _hanging((f"  {label}".ljust(indent), f"unusable: {why}") for label, why in _once(self.unusable))
        if self.decision is not None and (lines := self.decision.lines()):
            yield Text()
            yield _hanging(_labelled(line) for line in lines)


def _once(unusable: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Each reason in full once; reasons can have a line a tensor."""
    first: dict[str, str] = {}
    for label, reason in unusable:
        yield label, f"as {first[reason]}" if reason in first else reason
        first.setdefault(reason, label)


def render_table(
    rows: Sequence[Row],
    decision: Decision | None,
    broke: Mapping[RowKey, Broke],
    unusable: Sequence[tuple[str, str]] = (),
) -> ReportTable:
    """The table of one run and suite: `console.print` it. `unusable` holds (label, reason) of what was not evaluated.

    A cell reads `6/10 [31–83%]`: right of scored, with the 95 % interval; samples without a score are not in the
    denominator and stand below as `1 truncated, 2 failed`. `▼ broke:` names samples that the base got right and this
    checkpoint got wrong; `▽ lacks:` those that the base got right and this one has no score for.
    Raises ValueError for rows of several runs or suites.
    """
    if len({(row.run, row.suite) for row in rows}) > 1:
        raise ValueError("a table is about the rows of one run and one suite")
    return ReportTable(tuple(rows), decision, broke, tuple(unusable))


def print_table(
    console: Console,
    rows: Sequence[Row],
    decision: Decision | None,
    broke: Mapping[RowKey, Broke],
    unusable: Sequence[tuple[str, str]] = (),
) -> None:
    """Print the table on `console`, without the trailing blanks that rich pads lines with."""
    print_all(console, [render_table(rows, decision, broke, unusable)])


def _place(row: Row) -> _Place:
    return row.checkpoint, row.digest


def _column(head: _Head, rows: Sequence[Row], broke: Mapping[RowKey, Broke]) -> dict[_Place, Text]:
    """The cells of one group and metric, their parts padded so that fractions and intervals line up."""
    mine = [row for row in rows if (row.group, row.metric) == head]
    return dict(zip((_place(row) for row in mine), _aligned(mine, broke), strict=True))


def _whole(mine: Sequence[Row]) -> Row | None:
    """All groups as one, where each answer is right or wrong and each question was asked once; else no sum tells it."""
    groups = {row.group for row in mine}
    counts = [row.correct for row in mine if row.correct is not None]
    questions = sum(row.questions for row in mine)
    if len(groups) < 2 or _ALL in groups or len(counts) < len(mine) or questions != sum(row.scored for row in mine):
        return None
    low, high = wilson(sum(counts), questions)
    sums = {name: sum(getattr(row, name) for row in mine) for name in ("asked", "scored", "failed", "truncated")}
    mean = sum(counts) / questions if questions else None
    return replace(mine[0], group=_ALL, mean=mean, low=low, high=high, correct=sum(counts), questions=questions, **sums)


def _aligned(mine: Sequence[Row], broke: Mapping[RowKey, Broke]) -> list[Text]:
    """The cells of rows that stand below one another."""
    digits = _digits(mine)
    figures = [_figure(row, digits) for row in mine]
    values = max(len(value) for value, _ in figures)
    intervals = max(len(interval) for _, interval in figures)
    cells = []
    for row, (value, interval) in zip(mine, figures, strict=True):
        cell = Text(f"{value:>{values}} {interval:<{intervals}}".rstrip())
        counts = ((row.truncated, "truncated"), (row.failed, "failed"))
        cell.append("".join(f"\n{count} {word}" for count, word in counts if count))
        lost = broke.get(row.key, Broke())
        if lost.wrong:
            cell.append(f"\n▼ broke: {shorten(lost.wrong)}", style="bold")
        if lost.unfinished:
            cell.append(f"\n▽ lacks: {shorten(lost.unfinished)}")
        cells.append(cell)
    return cells


def _figure(row: Row, digits: int) -> tuple[str, str]:
    """The value and its interval: `6/10` and `[31–83%]`, or `7.31` and `[6.9–7.7]`."""
    if row.mean is None:
        return "–", ""
    value = f"{row.correct}/{row.scored}" if row.correct is not None else _number(row.mean, digits + 1)
    if row.low is None or row.high is None:
        return value, ""
    if row.correct is not None:
        more = decimals(row.low, row.high, 0, scale=100)
        return value, f"[{row.low * 100:2.{more}f}–{row.high * 100:.{more}f}%]"
    to = "–" if row.low >= 0 else " to "
    return value, f"[{_number(row.low, digits)}{to}{_number(row.high, digits)}]"


def _number(value: float, digits: int) -> str:
    """With so many decimals; what is too long for a table, as the perplexity of what diverged, with a power of ten."""
    return f"{value:.{digits}f}" if abs(value) < _LONG else f"{value:.6g}"


def _digits(rows: Sequence[Row]) -> int:
    """Decimals that show the narrowest interval of a column with about two significant figures, at most 9."""
    widths = [row.high - row.low for row in rows if row.low is not None and row.high is not None and row.high > row.low]
    return min(9, max(0, -math.floor(math.log10(min(widths))))) if widths else 1


def _width(title: str, column: Mapping[tuple[str, str], Text]) -> int:
    """What a column needs at least: its title, figures and counts must not break, the lists below them may."""
    lines = [line for cell in column.values() for line in cell.plain.split("\n") if not line.startswith(("▼", "▽"))]
    return max(len(line) for line in (title, *lines))


def _labelled(line: str) -> tuple[str, str]:
    """Splits `label: words`, and the blanks in a label's place, off a line of the decision."""
    if line.startswith(" "):
        words = line.lstrip()
        return "", words
    label, _, words = line.partition(": ")
    return f"{label}:", words


def _hanging(pairs: Iterable[tuple[str, str]]) -> Table:
    """Labels at the left, words beside them that wrap under themselves."""
    grid = Table.grid(RichColumn(no_wrap=True), RichColumn(overflow="fold"), padding=(0, _PADDING, 0, 0))
    for label, words in pairs:
        grid.add_row(Text(label, style="bold" if label == "best:" else ""), Text(words))
    return grid
