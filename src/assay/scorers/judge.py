"""A model as a scorer: one score for each dimension of a rubric, or a failure, never a zero in its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import msgspec

from assay.models.base import TextModel
from assay.scorers.judge_ask import ATTEMPTS, Asked, Asker, NoVerdict
from assay.scorers.judge_prompt import PROMPT_VERSION, inputs_of, judge_prompt
from assay.scorers.rubric import Rubric
from assay.types import Completion, GenerateOptions, Json, Sample, Score, ScoreFailure

MAX_VOTES = 99

# Several votes at temperature 0 would be one vote, several times.
_VOTE_TEMPERATURE = 0.7


class Vote(msgspec.Struct, frozen=True):
    """One verdict on one answer: a number for each dimension, and what it took to get it.

    left_out: characters of the answer that the judge did not see. unsent: options that its server refused.
    """

    values: Mapping[str, float]
    reason: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    structured: bool
    left_out: int = 0
    unsent: tuple[str, ...] = ()


class Judge:
    """Scores answers by a rubric, with any `TextModel` as the judge. A `Scorer`.

    votes: verdicts per answer, 1 to 99. One is asked for at temperature 0; several at 0.7, each under a seed of its own
    (`seed`, `seed` + 1, …), one after the other; their median is the score. seed: of the first vote; not sent to a model
    that takes none. max_tokens: of a reply, reasoning included. max_chars: what is shown of an answer, see
    `judge_prompt`; None shows all of it.

    Raises `ValueError` for a number out of range, `UnsupportedOption` if the model lacks a temperature that is needed.
    """

    needs_whole_answer = True
    literal = True  # it judges all that the model wrote

    def __init__(
        self,
        model: TextModel,
        rubric: Rubric,
        *,
        votes: int = 1,
        seed: int = 0,
        max_tokens: int = 2048,
        max_chars: int | None = None,
    ) -> None:
        if isinstance(votes, bool) or not 1 <= votes <= MAX_VOTES:
            raise ValueError(f"votes must be a whole number from 1 to {MAX_VOTES}, not {votes!r}")
        if max_tokens < 1 or seed < 0 or (max_chars is not None and max_chars < 100):
            raise ValueError("max_tokens must be at least 1, seed at least 0 and max_chars at least 100")
        self.rubric = rubric
        self.votes = votes
        self.max_chars = max_chars
        temperature = 0.0 if votes == 1 else _VOTE_TEMPERATURE
        self._asker = Asker(model, GenerateOptions(temperature=temperature, max_tokens=max_tokens, seed=seed))
        self._fields = {dimension.name: dimension.value for dimension in rubric.dimensions}
        self._schema = rubric.schema()
        self._suffix = ""
        self.metrics: tuple[str, ...] = tuple(rubric.metrics)

    def suffixed(self, suffix: str) -> Judge:
        """The same judge, whose metrics end in a suffix in brackets, so that their scores take no other ones' place."""
        other = copy(self)
        other._suffix = f" ({suffix})"
        other.metrics = tuple(other._called(name) for name in self.rubric.metrics)
        return other

    @property
    def name(self) -> str:
        return f"judge:{self.rubric.name}"

    @property
    def version(self) -> int:
        return self.rubric.version

    @property
    def concurrency(self) -> int:
        """Answers that it can judge at once."""
        return self._asker.model.info.concurrency

    def _called(self, dimension: str) -> str:
        return dimension + self._suffix

    @property
    def identity(self) -> str:
        """Who judges, for the key of a score: `score_key(…, judge=judge.identity)`."""
        return self._asker.identity

    @property
    def judge(self) -> str:
        """Who judges, for people: the spec that the model was opened by, with the start of its adapter's digest."""
        info = self._asker.model.info
        return f"{info.name} + {info.adapter[:6]}" if info.adapter else info.name

    @cached_property
    def parameters(self) -> Mapping[str, Json]:
        options = self._asker.options
        return {
            "rubric": self.rubric.name,
            "rubric_version": self.rubric.version,
            "rubric_digest": self.rubric.digest,
            "prompt_version": PROMPT_VERSION,
            "votes": self.votes,
            "temperature": options.temperature,
            "seed": options.seed if self._asker.seeded else None,
            "max_tokens": options.max_tokens,
            "max_chars": self.max_chars,
            "attempts": ATTEMPTS,
        }

    def check(self, sample: Sample) -> None:
        inputs_of(self.rubric.inputs, sample, "")

    def seen(self, sample: Sample) -> Mapping[str, Json]:
        """What the judge is shown beside the answer. It decides the score, so it belongs into the score's key."""
        shown = inputs_of(self.rubric.inputs, sample, "")
        return {item.name: shown[item.name] for item in self.rubric.inputs if item.source != "answer"}

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        """A score for each dimension, or as many failures.

        With several votes, those without a usable verdict are left out of the median and counted in its detail, as long as more
        than half are left. A vote that failed for a passing reason (a lost connection) fails the score, so that the next
        run asks again. Raises what says that the judge can't be used at all (`Unreachable`, `BadInput`).
        """
        return await self.score_by(sample, lambda number: self.vote(sample, completion, number))

    async def score_by(self, sample: Sample, vote: Callable[[int], Awaitable[Vote]]) -> Sequence[Score | ScoreFailure]:
        """As `score`, of votes that `vote` gives by their number; it raises `NoVerdict`."""
        try:
            self.check(sample)
        except ValueError as error:
            return [ScoreFailure(metric, "permanent", f"it can't be judged: {error}") for metric in self.metrics]
        votes: list[Vote] = []
        failed: list[NoVerdict] = []
        for number in range(self.votes):
            try:
                votes.append(await vote(number))
            except NoVerdict as error:
                failed.append(error)
                if error.error_class == "transient" or len(failed) * 2 >= self.votes:
                    return [ScoreFailure(metric, error.error_class, error.reason) for metric in self.metrics]
        return self.combine(votes, len(failed))

    async def vote(self, sample: Sample, completion: Completion, number: int = 0) -> Vote:
        """The verdict of vote `number` (from 0) alone. Raises `NoVerdict`."""
        shown = inputs_of(self.rubric.inputs, sample, completion.text)
        prompt = judge_prompt(self.rubric, shown, self.max_chars)
        material = "\n".join(text for text in shown.values() if text is not None)
        asked = await self._asker.ask(prompt.messages, self._fields, self._schema, number, material)
        return _vote(asked, prompt.left_out)

    def combine(self, votes: Sequence[Vote], failed: int = 0) -> list[Score]:
        """The scores that the votes come to: for each dimension their median.

        detail: the judge's reason (of the vote nearest to the median), calls, tokens, whether the schema was enforced, and
        which options the judge's server refused (`unsent`); of several votes each value, the spread (highest less lowest),
        and how many failed.
        """
        if not votes:
            raise ValueError("no votes")
        if len(votes) == 1 and not failed:
            (vote,) = votes
            detail = {"reason": vote.reason, **_shared(votes)} | ({"left_out": vote.left_out} if vote.left_out else {})
            return [
                Score(self._called(d.name), float(vote.values[d.name]), d.low, d.high, detail)
                for d in self.rubric.dimensions
            ]
        shared = _shared(votes)
        return [
            Score(
                self._called(d.name),
                _median([v.values[d.name] for v in votes]),
                d.low,
                d.high,
                _detail(votes, d.name, failed, shared),
            )
            for d in self.rubric.dimensions
        ]


def dimension_of(metric: str) -> str:
    """The dimension that a judge's metric is called by: what a suffix tells apart has one key, so it is paid for once."""
    return metric.partition(" (")[0]


def _vote(asked: Asked, left_out: int) -> Vote:
    return Vote(
        values=asked.verdict.values,
        reason=asked.verdict.reason,
        calls=asked.calls,
        prompt_tokens=asked.prompt_tokens,
        completion_tokens=asked.completion_tokens,
        structured=asked.structured,
        left_out=left_out,
        unsent=asked.left_out,
    )


def _shared(votes: Sequence[Vote]) -> dict[str, Any]:
    """What the detail of each dimension says alike."""
    shared: dict[str, Any] = {
        "calls": sum(vote.calls for vote in votes),
        "prompt_tokens": sum(vote.prompt_tokens for vote in votes),
        "completion_tokens": sum(vote.completion_tokens for vote in votes),
        "structured": all(vote.structured for vote in votes),
    }
    if unsent := sorted({option for vote in votes for option in vote.unsent}):
        shared["unsent"] = unsent
    return shared


def _median(values: Sequence[float]) -> float:
    from statistics import median  # brings fractions and more, which a start with a single vote doesn't need

    return float(median(values))


def _detail(votes: Sequence[Vote], metric: str, failed: int, shared: Mapping[str, Any]) -> dict[str, Any]:
    values = [vote.values[metric] for vote in votes]
    middle = _median(values)
    nearest = min(votes, key=lambda vote: abs(vote.values[metric] - middle))
    detail: dict[str, Any] = {"reason": nearest.reason, **shared}
    if len(votes) + failed > 1:
        detail |= {"votes": values, "spread": max(values) - min(values), "failed_votes": failed}
    if votes[0].left_out:
        detail["left_out"] = votes[0].left_out
    return detail
