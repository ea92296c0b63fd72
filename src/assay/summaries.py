"""What a suite came to at one checkpoint, group by group and metric by metric: for those to whom results are forwarded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from assay.evaluated import Evaluation
from assay.results.records import Summary
from assay.results.tally import Tally
from assay.scorers.judge import Judge
from assay.scorers.keys import measure_by
from assay.types import Score, ScoreFailure

Outcome: TypeAlias = Score | ScoreFailure


def summaries_of(evaluation: Evaluation) -> tuple[Summary, ...]:
    """In the order in which groups and metrics come first."""
    return _summaries((r.sample.group, outcome) for r in evaluation.results for outcome in r.outcomes)


def judged_summaries(outcomes: Iterable[tuple[str, Outcome]], judge: Judge) -> tuple[Summary, ...]:
    """The same of what one judge made of answers; outcomes: each with its sample's group."""
    return _summaries(outcomes, judge)


def _summaries(outcomes: Iterable[tuple[str, Outcome]], judge: Judge | None = None) -> tuple[Summary, ...]:
    tallies: dict[tuple[str, str], Tally] = {}
    for group, outcome in outcomes:
        tallies.setdefault((group, outcome.metric), Tally()).add(outcome)
    return tuple(
        Summary(
            group=group,
            metric=metric,
            mean=tally.means().shown if tally.scored else None,
            correct=tally.correct if tally.scored and tally.boolean else None,
            asked=tally.asked,
            scored=tally.scored,
            failed=tally.failed,
            truncated=tally.truncated,
            scorer=judge.name if judge is not None else "",
            judge=judge.judge if judge is not None else "",
            measure=measure_by(judge) if judge is not None else "",
            weight=tally.weighted.weight if tally.weighted is not None else None,
            geometric=tally.weighted is not None and tally.weighted.geometric,
        )
        for (group, metric), tally in tallies.items()
    )
