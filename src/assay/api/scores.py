"""What scoring came to: the answers with their scores, and the table of their averages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from assay.report.reasons import Reasons
from assay.report.score_table import tally_columns, tally_rows
from assay.report.shown import Shown, outcome_row
from assay.results.tally import Questions, Tally
from assay.scorers.sets import unfit
from assay.scoring import ScoredAnswer, count
from assay.suites.answers import BadLine

if TYPE_CHECKING:
    from assay.report.blocks import Column

_SHOWN = 3


class Scores(Shown):
    """Scored answers, in the order of the answers, and their averages per model, with 95 % intervals and counts.

    `print` shows the table, as does a notebook. suites: what was asked for. bad: records that could not be read.
    """

    def __init__(self, suites: Sequence[str] = ()) -> None:
        self.suites: tuple[str, ...] = tuple(suites)
        self.answers: list[ScoredAnswer] = []
        self.bad: list[BadLine] = []
        self._tallies: dict[tuple[str, str, str], Tally] = {}
        self._questions = Questions()
        self._reasons = Reasons()

    def add(self, scored: ScoredAnswer) -> None:
        """Count an answer and keep it."""
        self.count(scored)
        self.answers.append(scored)

    def count(self, scored: ScoredAnswer) -> None:
        """Count an answer and let go of it: for a table of more answers than memory holds."""
        count(scored, self._tallies, self._questions)
        self._reasons.add_answer(scored.failures, scored.name)

    def __iter__(self) -> Iterator[ScoredAnswer]:
        return iter(self.answers)

    def __len__(self) -> int:
        return len(self.answers)

    @overload
    def __getitem__(self, index: int) -> ScoredAnswer: ...

    @overload
    def __getitem__(self, index: slice) -> list[ScoredAnswer]: ...

    def __getitem__(self, index: int | slice) -> ScoredAnswer | list[ScoredAnswer]:
        return self.answers[index]

    def __repr__(self) -> str:
        many = "1 answer" if len(self.answers) == 1 else f"{len(self.answers)} answers"
        return f"<Scores of {many}; print it for the table>"

    def averages(self) -> list[dict[str, Any]]:
        """The table's rows, as `assay score --json` has them: a model, suite and metric each."""
        return [{name: value for name, value in row.items() if name != "run"} for row in tally_rows(self._tallies, "")]

    def to_dicts(self) -> list[dict[str, Any]]:
        """A row an answer, suite and metric, as data frames like it.

        `id`, `model`, `repeat` (None where a question is asked once), `group`, `suite`, `metric`; `value` and what was
        `extracted`, or None; `error_class` and `reason` where there is no score, or None.
        """
        return [row for scored in self.answers for row in _rows(scored)]

    def _columns(self) -> tuple[Sequence[Column], Sequence[Column]]:
        return tally_columns(self._tallies)

    def _notes(self) -> list[str]:
        scored = {suite for _, suite, _ in self._tallies}
        bad = [str(line) for line in self.bad[:_SHOWN]]
        if self.bad:
            left = " (the others are in .bad)" if len(self.bad) > _SHOWN else ""
            bad = [f"{len(self.bad)} could not be read{left}:", *bad]
        return [*unfit(self.suites, scored), *self._reasons.lines(), *bad]


def _rows(scored: ScoredAnswer) -> Iterator[dict[str, Any]]:
    answered = scored.answered
    which = {"id": answered.id, "model": answered.model, "repeat": answered.repeat, "group": answered.sample.group}
    for suite, _, outcomes in scored.outcomes:
        for outcome in outcomes:
            yield {**which, "suite": suite, **outcome_row(outcome)}
