"""What a score is known by in the journal, so that it is not paid for twice."""

from __future__ import annotations

from collections.abc import Mapping

from assay.results.records import score_key
from assay.scorers.base import Scorer
from assay.types import FinishReason, Json, Prompt, Sample


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
