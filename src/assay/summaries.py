"""What a suite came to at one checkpoint, group by group and metric by metric: for those to whom results are forwarded."""

from __future__ import annotations

from assay.evaluation import Evaluation
from assay.results.records import Summary
from assay.results.tally import Tally
from assay.types import Score, ScoreFailure


def summaries_of(evaluation: Evaluation) -> tuple[Summary, ...]:
    """In the order in which groups and metrics come first."""
    tallies: dict[tuple[str, str], Tally] = {}
    for result in evaluation.results:
        outcomes: tuple[Score | ScoreFailure, ...] = (*result.scores, *result.failures)
        for outcome in outcomes:
            tallies.setdefault((result.sample.group, outcome.metric), Tally()).add(outcome)
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
        )
        for (group, metric), tally in tallies.items()
    )
