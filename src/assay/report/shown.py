"""Results that show themselves: as text where they are printed, as a table in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from assay.report.score_file import EXTRACTED
from assay.types import Score, ScoreFailure

if TYPE_CHECKING:
    from assay.report.blocks import Column

_LEFT = "text-align: left"


class Shown(ABC):
    """What a table is made of gives all its forms."""

    __slots__ = ()

    @abstractmethod
    def _columns(self) -> tuple[Sequence[Column], Sequence[Column]]:
        """Labels of the rows, and what stands beside them."""

    def _notes(self) -> Sequence[str]:
        """Sentences below the table."""
        return ()

    def table(self, width: int | None = None) -> str:
        """The table as text, as the command line shows it. width: in characters; the terminal's by default."""
        from assay.report.blocks import TextConsole, blocks, console_on, print_all

        stream = StringIO()
        room = console_on().width if width is None else width
        console = TextConsole(stream, room, color_system=None)
        print_all(console, blocks(*self._columns(), room))
        return "\n".join([stream.getvalue().rstrip("\n"), *self._notes()])

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        labels, columns = self._columns()
        shown = [*labels, *columns]
        heads = "".join(f'<th style="{_LEFT}">{_escaped(column.title)}</th>' for column in shown)
        rows = "".join(
            "<tr>" + "".join(f'<td style="{_LEFT}">{_escaped(str(cell))}</td>' for cell in row) + "</tr>"
            for row in zip(*(column.cells for column in shown), strict=True)
        )
        notes = "".join(f"<p>{_escaped(note)}</p>" for note in self._notes())
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{notes}"


def outcome_row(outcome: Score | ScoreFailure) -> dict[str, Any]:
    """An outcome for a data frame: `metric`, `value`, `extracted`, `error_class` and `reason`; what it lacks is None."""
    if isinstance(outcome, Score):
        value, found = outcome.value, outcome.detail.get(EXTRACTED)
        return {"metric": outcome.metric, "value": value, EXTRACTED: found, "error_class": None, "reason": None}
    failed = {"error_class": outcome.error_class, "reason": outcome.reason}
    return {"metric": outcome.metric, "value": None, EXTRACTED: None, **failed}


def _escaped(text: str) -> str:
    from html import escape  # a millisecond of every command's start

    return escape(text).replace("\n", "<br>")
