"""What a suite came to at one checkpoint, group by group and metric by metric: for those to whom results are forwarded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
    scores: dict[tuple[str, str], list[Score]] = {}
    for group, outcome in outcomes:
        tallies.setdefault((group, outcome.metric), Tally()).add(outcome)
        if isinstance(outcome, Score):
            scores.setdefault((group, outcome.metric), []).append(outcome)
    return tuple(
        Summary(
            group=group,
            metric=metric,
            mean=_mean(scores.get((group, metric), ())),
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


def _mean(scores: Sequence[Score]) -> float | None:
    """To the last digit, whatever the order: sums are rounded once, which a running mean's are not."""
    if not scores:
        return None
    geometric = scores[0].geometric
    values = [math.log(score.value) if geometric else float(score.value) for score in scores]
    weights = [1.0 if score.weight is None else score.weight for score in scores]
    mean = math.fsum(map(math.prod, zip(values, weights, strict=True))) / math.fsum(weights)
    return math.exp(mean) if geometric else mean
