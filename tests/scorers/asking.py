"""Asking one scorer about one answer, the way an evaluation does."""

from __future__ import annotations

from collections.abc import Mapping

from assay.scorers.base import Scorer, score_answer
from assay.types import Completion, FinishReason, Json, Prompt, Sample, Score, ScoreFailure, Usage


async def outcome(
    scorer: Scorer, reference: Mapping[str, Json], answer: str, prompt: Prompt = "?", finish: FinishReason = "stop"
) -> Score | ScoreFailure:
    sample = Sample("a", prompt, reference=reference)
    scorer.check(sample)
    (only,) = await score_answer(scorer, sample, Completion(answer, finish, Usage(1, 24)))
    return only


async def right(scorer: Scorer, reference: Mapping[str, Json], answer: str, prompt: Prompt = "?") -> bool:
    found = await outcome(scorer, reference, answer, prompt)
    assert isinstance(found, Score)
    assert isinstance(found.value, bool)
    assert (found.metric, set(found.detail)) == ("correct", {"extracted", "expected"})
    return found.value
