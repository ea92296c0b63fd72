"""How a score stands in the journal: its key, so that it is not paid for twice, and its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from assay.results.keys import measure_of, score_key
from assay.results.records import Failure, Place, ScoreMade, place_of
from assay.scorers.base import Scorer, shown_to
from assay.types import FinishReason, Json, Prompt, Sample, Score, ScoreFailure, unwrapped


def judge_of(scorer: Scorer) -> str:
    """The identity of the judge that a scorer asks; "" for one that only reads the text."""
    return str(getattr(scorer, "identity", ""))


def measure_by(scorer: Scorer) -> str:
    """What a judge's scores share, see `measure_of`; "" for a scorer that only reads the text."""
    return judged_by(scorer)[1]


def key_of(scorer: Scorer, sample: Sample, text: str, finish_reason: FinishReason, vote: int | None = None) -> str:
    """The key of this scorer's scores of this answer, as it is shown to the scorer.

    Of a sample, what decides the score is part of it: all that a scorer may compare with, or what a judge is shown. vote: the
    number (from 0) of one of a judge's votes, whose key is the same however many there are; `text` is the final answer then.
    """
    judge = judge_of(scorer)
    reference = _seen(scorer, sample) if judge else sample.reference
    parameters = dict(scorer.parameters)
    answer: str | None = text
    if vote is None:
        answer, finish_reason = shown_to(scorer, text, finish_reason)
    if answer is None:  # a text that was once taken for an answer, and scored, must not lend its key to none at all
        parameters["answer"] = None
    shown = text if answer is None else answer
    number = 0
    if vote is not None:
        parameters["votes"] = None
        number = 1 + vote
    return score_key(shown, finish_reason, reference, scorer.name, scorer.version, parameters, judge, number)


def _seen(judge: Scorer, sample: Sample) -> Mapping[str, object]:
    """What a judge is shown beside the answer; all there is, if it doesn't say."""
    seen = getattr(judge, "seen", None)
    if seen is not None:
        with suppress(ValueError):  # without what it needs it gives no score, so that any key will do
            return {"shown": dict(seen(sample))}
    return {"reference": dict(sample.reference), "prompt": _plain(sample.prompt)}


def _plain(prompt: Prompt) -> Json:
    prompt = unwrapped(prompt)
    return [type(prompt).__name__, str(prompt)] if isinstance(prompt, str) else [[m.role, m.content] for m in prompt]


def records_of(
    scorer: Scorer, key: str, place: Place, completion: str, outcomes: Iterable[Score | ScoreFailure]
) -> Iterator[ScoreMade | Failure]:
    """The records of what a scorer made of an answer, one a metric.

    completion: the answer's key, or of one from a file its digest. Only a truncated answer's failure carries the key: asked
    again, it would be cut off again.
    """
    where, judged = place_of(place), judged_by(scorer)
    made: ScoreMade | None = None
    for outcome in outcomes:
        if isinstance(outcome, ScoreFailure):
            final = key if outcome.error_class == "truncated" else ""
            yield _failure(scorer, "score", place, outcome, completion=completion, key=final)
        elif made is None:
            made = _made(scorer, key, where, completion, outcome, judged)
            yield made
        else:  # a copy with another value takes a seventh of the time
            yield msgspec.structs.replace(
                made,
                metric=outcome.metric,
                value=outcome.value,
                low=outcome.low,
                high=outcome.high,
                detail=dict(outcome.detail),
                weight=outcome.weight,
                lower_is_better=outcome.lower_is_better,
                geometric=outcome.geometric,
            )


def _made(
    scorer: Scorer, key: str, where: Mapping[str, Any], completion: str, outcome: Score, judged: tuple[str, str]
) -> ScoreMade:
    judge, measure = judged
    return ScoreMade(
        **where,
        key=key,
        completion=completion,
        scorer=scorer.name,
        scorer_version=scorer.version,
        metric=outcome.metric,
        value=outcome.value,
        low=outcome.low,
        high=outcome.high,
        detail=dict(outcome.detail),
        judge=judge,
        measure=measure,
        weight=outcome.weight,
        lower_is_better=outcome.lower_is_better,
        geometric=outcome.geometric,
    )


def unanswered(scorer: Scorer, place: Place, failure: ScoreFailure, partial: str, completion: str = "") -> Failure:
    """The record of a metric that has no score because the model gave no answer.

    partial: what it said until then. completion: as in `records_of`.
    """
    return _failure(scorer, "generate", place, failure, completion=completion, partial=partial)


def _failure(
    scorer: Scorer,
    stage: str,
    place: Place,
    failure: ScoreFailure,
    *,
    completion: str = "",
    key: str = "",
    partial: str = "",
) -> Failure:
    judge, measure = judged_by(scorer)
    return Failure(
        **place_of(place),
        stage=stage,
        error_class=failure.error_class,
        reason=failure.reason,
        metric=failure.metric,
        completion=completion,
        key=key,
        partial=partial,
        scorer=scorer.name,
        judge=judge,
        measure=measure,
    )


# Of each judge the last measure: a digest that all answers share.
_measures: dict[tuple[str, str], tuple[Mapping[str, Json], str]] = {}


def judged_by(scorer: Scorer) -> tuple[str, str]:
    """Who judges, for people, and by what measure; both "" for a scorer that only reads the text."""
    identity = judge_of(scorer)
    if not identity:
        return "", ""
    parameters = scorer.parameters
    name = scorer.name, identity
    if name not in _measures or _measures[name][0] is not parameters:
        _measures[name] = parameters, measure_of(scorer.name, scorer.version, dict(parameters), identity)
    return str(getattr(scorer, "judge", "")) or identity[:6], _measures[name][1]
