"""A judge on trial: it scores labelled examples, padded ones, and pairs in both orders; `judge_check` does the sums."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TypeVar

from assay.models.base import TextModel
from assay.results.stats import PairedDifference
from assay.scorers.judge import Judge
from assay.scorers.judge_check import Agreement, Estimate, agreement, length_bias, padded, padding_effect
from assay.scorers.judge_labels import Labelled
from assay.scorers.judge_pairs import PairVerdict, PositionBias, judge_pairwise, position_bias
from assay.scorers.rubric import Rubric
from assay.types import Completion, Score, ScoreFailure, Usage

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class JudgeTrial:
    """What the trial showed, by dimension where it says so.

    failures: reasons of the examples, padded examples and pairs without a verdict; they are left out of all else.
    preferences: pairs whose labels differ, and in how many of them the judge preferred the better labelled, in both orders.
    """

    asked: int
    agreement: Mapping[str, Agreement]
    length: Mapping[str, Estimate]
    padding: Mapping[str, PairedDifference]
    position: PositionBias
    preferences: tuple[int, int]
    failures: tuple[str, ...]


async def try_judge(
    model: TextModel, rubric: Rubric, examples: Sequence[Labelled], *, votes: int = 1, padding: bool = True
) -> JudgeTrial:
    """Judge every example, the same padded, and every pair that answers one prompt, in both orders.

    At most `model.info.concurrency` calls are in flight. Raises what says that the judge can't be used at all.
    """
    judge = Judge(model, rubric, votes=votes)
    limit = max(1, model.info.concurrency)

    async def scored(example: tuple[Labelled, str]) -> Sequence[Score | ScoreFailure]:
        return await judge.score(example[0].sample, Completion(example[1], "stop", Usage(0, 0)))

    async def preferred(pair: tuple[Labelled, Labelled]) -> PairVerdict | ScoreFailure:
        one, other = pair
        reference = one.sample.reference
        return await judge_pairwise(model, rubric, one.sample.prompt, one.answer, other.answer, reference=reference)

    plain = await _bounded(scored, [(e, e.answer) for e in examples], limit)
    longer = await _bounded(scored, [(e, padded(e.answer)) for e in examples] if padding else [], limit)
    couples = [(a, b) for a, b in combinations(examples, 2) if _same_question(a, b) and a.answer != b.answer]
    verdicts = await _bounded(preferred, couples, limit)
    return _summed(rubric, examples, plain, longer, couples, verdicts)


def _same_question(a: Labelled, b: Labelled) -> bool:
    return a.sample.prompt == b.sample.prompt and a.sample.reference == b.sample.reference


def _summed(
    rubric: Rubric,
    examples: Sequence[Labelled],
    plain: Sequence[Sequence[Score | ScoreFailure]],
    longer: Sequence[Sequence[Score | ScoreFailure]],
    couples: Sequence[tuple[Labelled, Labelled]],
    verdicts: Sequence[PairVerdict | ScoreFailure],
) -> JudgeTrial:
    agreed, lengths, paddings = {}, {}, {}
    for position, name in enumerate(rubric.metrics):
        given = [_value(outcome[position]) for outcome in plain]
        whole = [(v, e.labels[name], len(e.answer)) for v, e in zip(given, examples, strict=True) if v is not None]
        scores, labels, sizes = ([row[column] for row in whole] for column in range(3))
        agreed[name] = agreement(scores, labels)
        lengths[name] = length_bias(scores, labels, sizes)
        after = [_value(outcome[position]) for outcome in longer]
        both = [(a, b) for a, b in zip(given, after, strict=False) if a is not None and b is not None]
        paddings[name] = padding_effect([a for a, _ in both], [b for _, b in both])
    outcomes = [outcome[0] for outcome in (*plain, *longer)] + list(verdicts)
    return JudgeTrial(
        asked=len(examples),
        agreement=agreed,
        length=lengths,
        padding=paddings,
        position=position_bias([v for v in verdicts if isinstance(v, PairVerdict)]),
        preferences=_preferences(couples, verdicts),
        failures=tuple(o.reason for o in outcomes if isinstance(o, ScoreFailure)),
    )


def _value(outcome: Score | ScoreFailure) -> float | None:
    return float(outcome.value) if isinstance(outcome, Score) else None


def _preferences(
    couples: Sequence[tuple[Labelled, Labelled]], verdicts: Sequence[PairVerdict | ScoreFailure]
) -> tuple[int, int]:
    """Of the pairs whose mean labels differ: how many, and how many the judge decided as the labels do."""
    decided = right = 0
    for (a, b), verdict in zip(couples, verdicts, strict=True):
        gap = fmean(a.labels.values()) - fmean(b.labels.values())
        if gap and isinstance(verdict, PairVerdict):
            decided += 1
            right += verdict.winner == ("a" if gap > 0 else "b")
    return decided, right


async def _bounded(work: Callable[[T], Awaitable[R]], items: Sequence[T], limit: int) -> list[R]:
    """The results in the items' order, at most `limit` at a time. The first error ends all and is raised."""
    results: dict[int, R] = {}
    waiting = iter(enumerate(items))

    async def worker() -> None:
        for index, item in waiting:
            results[index] = await work(item)

    tasks = [asyncio.ensure_future(worker()) for _ in range(min(limit, len(items)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [results[index] for index in range(len(items))]
