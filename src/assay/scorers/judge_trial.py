"""A judge on trial: it scores labelled examples, padded ones, and pairs in both orders; `judge_check` does the sums."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TypeVar

from assay.models.base import TextModel
from assay.results.canonical import digest_of
from assay.results.stats import PairedDifference
from assay.scorers.alpha import Alpha, alpha
from assay.scorers.estimate import Estimate
from assay.scorers.judge import Judge
from assay.scorers.judge_check import Agreement, agreement, length_bias, padded, padding_effect
from assay.scorers.judge_labels import Labelled
from assay.scorers.judge_pairs import PairVerdict, PositionBias, judge_pairwise, position_bias
from assay.scorers.rubric import Rubric
from assay.types import Completion, Sample, Score, ScoreFailure, Usage

_EQUAL = 1e-9

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class JudgeTrial:
    """What the trial showed, by dimension where it says so; `padding` has none where nothing padded was judged.

    votes: how the judge's votes on one answer agree; none where each answer got one vote.

    asked: labelled examples. answers: distinct ones among them; several examples may label one answer to one question, which
    is judged once. failures: reasons of the answers, padded answers and pairs without a verdict; they are left out of all
    else. preferences: pairs whose labels differ, and in how many of them the judge preferred the better labelled, in both
    orders.
    """

    asked: int
    answers: int
    agreement: Mapping[str, Agreement]
    votes: Mapping[str, Alpha]
    length: Mapping[str, Estimate]
    padding: Mapping[str, PairedDifference]
    position: PositionBias
    preferences: tuple[int, int]
    failures: tuple[str, ...]

    @property
    def judged(self) -> bool:
        """Is there a verdict on anything?"""
        return self.position.n > 0 or any(found.n for found in self.agreement.values())


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer to a question, with all labels that it was given."""

    sample: Sample
    text: str
    labels: Sequence[Mapping[str, float]]


async def try_judge(
    model: TextModel, rubric: Rubric, examples: Sequence[Labelled], *, votes: int = 1, padding: bool = True
) -> JudgeTrial:
    """Judge every answer, the same padded, and every pair of answers to one prompt, in both orders.

    At most `model.info.concurrency` calls are in flight. Raises what says that the judge can't be used at all.
    """
    judge = Judge(model, rubric, votes=votes)
    limit = max(1, model.info.concurrency)

    async def scored(answer: tuple[_Answer, str]) -> Sequence[Score | ScoreFailure]:
        return await judge.score(answer[0].sample, Completion(answer[1], "stop", Usage(0, 0)))

    async def preferred(pair: tuple[_Answer, _Answer]) -> PairVerdict | ScoreFailure:
        one, other = pair
        reference = one.sample.reference
        return await judge_pairwise(model, rubric, one.sample.prompt, one.text, other.text, reference=reference)

    answers = _distinct(examples)
    plain = await _bounded(scored, [(a, a.text) for a in answers], limit)
    longer = await _bounded(scored, [(a, padded(a.text)) for a in answers] if padding else [], limit)
    couples = [(a, b) for a, b in combinations(answers, 2) if _same_question(a, b)]
    verdicts = await _bounded(preferred, couples, limit)
    return _summed(rubric, answers, plain, longer, couples, verdicts)


def _distinct(examples: Sequence[Labelled]) -> list[_Answer]:
    """The answers, each once, in the examples' order."""
    found: dict[tuple[str, str], _Answer] = {}
    for example in examples:
        question = digest_of(str(example.sample.prompt), dict(example.sample.reference))
        known = found.get((question, example.answer))
        labels = [*known.labels, example.labels] if known is not None else [example.labels]
        found[question, example.answer] = _Answer(known.sample if known else example.sample, example.answer, labels)
    return list(found.values())


def _same_question(a: _Answer, b: _Answer) -> bool:
    return a.sample.prompt == b.sample.prompt and a.sample.reference == b.sample.reference


def _summed(
    rubric: Rubric,
    answers: Sequence[_Answer],
    plain: Sequence[Sequence[Score | ScoreFailure]],
    longer: Sequence[Sequence[Score | ScoreFailure]],
    couples: Sequence[tuple[_Answer, _Answer]],
    verdicts: Sequence[PairVerdict | ScoreFailure],
) -> JudgeTrial:
    agreed, lengths, paddings = {}, {}, {}
    for position, name in enumerate(rubric.metrics):
        given = [_value(outcome[position]) for outcome in plain]
        rows = [
            (value, labels[name], len(answer.text), number)
            for number, (value, answer) in enumerate(zip(given, answers, strict=True))
            if value is not None
            for labels in answer.labels
        ]
        scores, points, sizes, of = ([row[column] for row in rows] for column in range(4))
        agreed[name] = agreement(scores, points, of)
        lengths[name] = length_bias(scores, points, sizes, of)
        after = [_value(outcome[position]) for outcome in longer]
        both = [(a, b) for a, b in zip(given, after, strict=False) if a is not None and b is not None]
        if both:
            paddings[name] = padding_effect([a for a, _ in both], [b for _, b in both])
    outcomes = [outcome[0] for outcome in (*plain, *longer)] + list(verdicts)
    return JudgeTrial(
        asked=sum(len(answer.labels) for answer in answers),
        answers=len(answers),
        agreement=agreed,
        votes=_votes(rubric, plain),
        length=lengths,
        padding=paddings,
        position=position_bias([v for v in verdicts if isinstance(v, PairVerdict)]),
        preferences=_preferences(rubric, couples, verdicts),
        failures=tuple(o.reason for o in outcomes if isinstance(o, ScoreFailure)),
    )


def _votes(rubric: Rubric, outcomes: Sequence[Sequence[Score | ScoreFailure]]) -> dict[str, Alpha]:
    """How the votes on each answer agree, by dimension; an answer without a score, for want of votes, is left out."""
    given: dict[str, list[list[float]]] = {name: [] for name in rubric.metrics}
    for outcome in outcomes:
        for score in outcome:
            votes = score.detail.get("votes") if isinstance(score, Score) else None
            if isinstance(votes, Sequence) and not isinstance(votes, str):
                given[score.metric].append([vote for vote in votes if isinstance(vote, int | float)])
    return {name: alpha(units) for name, units in given.items() if units}


def _value(outcome: Score | ScoreFailure) -> float | None:
    return float(outcome.value) if isinstance(outcome, Score) else None


def _preferences(
    rubric: Rubric, couples: Sequence[tuple[_Answer, _Answer]], verdicts: Sequence[PairVerdict | ScoreFailure]
) -> tuple[int, int]:
    """Of the pairs whose mean labels differ: how many, and how many the judge decided as the labels do."""
    decided = right = 0
    for (a, b), verdict in zip(couples, verdicts, strict=True):
        gap = _worth(rubric, a) - _worth(rubric, b)
        if abs(gap) > _EQUAL and isinstance(verdict, PairVerdict):
            decided += 1
            right += verdict.winner == ("a" if gap > 0 else "b")
    return decided, right


def _worth(rubric: Rubric, answer: _Answer) -> float:
    """How good the labels say that an answer is: the mean over dimensions, of the share of each one's range, 1 for the best."""
    shares = []
    for dimension in rubric.dimensions:
        share = (fmean(labels[dimension.name] for labels in answer.labels) - dimension.low) / (
            dimension.high - dimension.low
        )
        shares.append(1 - share if dimension.lower_is_better else share)
    return fmean(shares)


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
