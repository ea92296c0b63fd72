"""What a suite came to for one model: each sample's result, and all of them as a table that shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.report.reasons import Reasons
from assay.report.score_table import tally_columns, tally_rows
from assay.report.shown import Shown, outcome_row
from assay.results.records import CompletionMade
from assay.results.tally import Tally
from assay.types import Sample, Score, ScoreFailure
from assay.weighing import WeighedText

if TYPE_CHECKING:
    from assay.report.blocks import Column


@dataclass(frozen=True, slots=True)
class SampleResult:
    """One sample's outcome. `answer` is None if generation failed; `reused` if the journal had it.

    weighed: the texts of a sample that is weighed and not asked; it has no answer.
    """

    sample: Sample
    answer: CompletionMade | None
    scores: tuple[Score, ...]
    failures: tuple[ScoreFailure, ...]
    reused: bool
    weighed: tuple[WeighedText, ...] = ()

    @property
    def id(self) -> str:
        return self.sample.id

    @property
    def text(self) -> str:
        """The answer as the model gave it; "" if it gave none."""
        return self.answer.text if self.answer is not None else ""

    @property
    def batch(self) -> str | None:
        """The attachment under which the model gave what the scores are made of; None if it gave nothing."""
        made = [self.answer] if self.answer is not None else [each.made for each in self.weighed]
        return made[0].batch if made else None

    @property
    def outcomes(self) -> list[Score | ScoreFailure]:
        return [*self.scores, *self.failures]

    @property
    def values(self) -> dict[str, bool | float]:
        """From a metric to its score. A metric without one isn't there."""
        return {score.metric: score.value for score in self.scores}


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Shown):
    """All results, in the suite's order. `print` shows their averages as a table, as does a notebook.

    model: whose answers these are. proof: "live" or "unproven" where an adapter was attached for them, else "". reason:
    why it is unproven. `seconds` is the engine's own time for what was not reused.
    """

    results: tuple[SampleResult, ...]
    model: str = ""
    proof: str = ""
    reason: str = ""

    def __iter__(self) -> Iterator[SampleResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> SampleResult:
        return self.results[index]

    def __repr__(self) -> str:
        return f"<Evaluation of {self.asked} samples; print it for the table>"

    @property
    def asked(self) -> int:
        return len(self.results)

    @property
    def scored(self) -> int:
        return sum(not r.failures for r in self.results)

    @property
    def failed(self) -> int:
        return sum(any(f.error_class != "truncated" for f in r.failures) for r in self.results)

    @property
    def truncated(self) -> int:
        return self.asked - self.scored - self.failed

    @property
    def seconds(self) -> float:
        return sum(r.answer.seconds for r in self.results if r.answer is not None and not r.reused)

    def averages(self) -> list[dict[str, Any]]:
        """The table's rows: of each group and metric `mean`, `low` and `high`, `correct`, and the counts."""
        names, own = {"suite": "group"}, ("run", "model", "questions")
        return [
            {"model": self.model, **{names.get(name, name): value for name, value in row.items() if name not in own}}
            for row in tally_rows(self._tallies(), "")
        ]

    def to_dicts(self) -> list[dict[str, Any]]:
        """A row a sample and metric, as data frames like it.

        `id`, `group`, `response`, `metric`; `value` and what was `extracted`, or None; `error_class` and `reason` where
        there is no score, or None.
        """
        return [
            {"id": one.id, "group": one.sample.group, "response": one.text, **outcome_row(outcome)}
            for one in self.results
            for outcome in one.outcomes
        ]

    def _tallies(self) -> dict[tuple[str, str, str], Tally]:
        tallies: dict[tuple[str, str, str], Tally] = {}
        for result in self.results:
            for outcome in result.outcomes:
                tallies.setdefault(("", result.sample.group, outcome.metric), Tally()).add(outcome)
        return tallies

    def _columns(self) -> tuple[Sequence[Column], Sequence[Column]]:
        return tally_columns(self._tallies(), "group", "average")

    def _notes(self) -> list[str]:
        reasons = Reasons()
        for result in self.results:
            group = result.sample.group
            failures = [{"suite": group, "error_class": f.error_class, "reason": f.reason} for f in result.failures]
            reasons.add_answer(failures, result.id)
        proof = f"adapter: {self.proof}{f' ({self.reason})' if self.reason else ''}"
        return [*reasons.lines(), *([proof] if self.proof else [])]
