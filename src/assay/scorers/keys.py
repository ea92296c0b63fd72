"""How a score stands in the journal: its key, so that it is not paid for twice, and its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.results.records import Failure, ScoreMade, score_key
from assay.scorers.base import Scorer
from assay.types import FinishReason, Json, Prompt, Sample, Score, ScoreFailure


def judge_of(scorer: Scorer) -> str:
    """The identity of the judge that a scorer asks; "" for one that only reads the text."""
    return str(getattr(scorer, "identity", ""))


def key_of(scorer: Scorer, sample: Sample, text: str, finish_reason: FinishReason) -> str:
    """The key of this scorer's scores of this answer. A judge also sees the question, so that is part of its key."""
    judge = judge_of(scorer)
    reference: Mapping[str, object] = sample.reference
    if judge:
        reference = {"reference": dict(sample.reference), "prompt": _plain(sample.prompt)}
    parameters = dict(scorer.parameters)
    return score_key(text, finish_reason, reference, scorer.name, scorer.version, parameters, judge=judge)


def _plain(prompt: Prompt) -> Json:
    return [type(prompt).__name__, str(prompt)] if isinstance(prompt, str) else [[m.role, m.content] for m in prompt]


def record_of(
    scorer: Scorer, key: str, where: Mapping[str, Any], completion: str, outcome: Score | ScoreFailure
) -> ScoreMade | Failure:
    """The record of one metric's outcome. where: the fields of `Place`; completion: the answer's key, "" if it has none.

    Only a truncated answer's failure carries the key: asked again, it would be cut off again.
    """
    if isinstance(outcome, ScoreFailure):
        return Failure(
            **where,
            stage="score",
            error_class=outcome.error_class,
            reason=outcome.reason,
            metric=outcome.metric,
            completion=completion,
            key=key if outcome.error_class == "truncated" else "",
        )
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
    )
