"""A judge's votes, kept one by one: what was paid for is not paid for again, also where it was not yet a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.results.index import Ledger
from assay.results.records import VoteCast
from assay.scorers.base import Scorer
from assay.scorers.judge import Judge, Vote
from assay.scorers.keys import key_of
from assay.types import Completion, Json, Sample, Score, ScoreFailure


def keeping_votes(scorer: Scorer, ledger: Ledger | None, run: str) -> Scorer:
    """The scorer; a judge that takes several votes journals each as it comes, and takes those that the journal has."""
    if ledger is None or not isinstance(scorer, Judge) or scorer.votes == 1:
        return scorer
    return _Keeping(scorer, ledger, run)


class _Keeping:
    """A judge with a memory."""

    def __init__(self, judge: Judge, ledger: Ledger, run: str) -> None:
        self._judge = judge
        self._ledger = ledger
        self._run = run
        self.name = judge.name
        self.version = judge.version
        self.needs_whole_answer = judge.needs_whole_answer
        self.literal = judge.literal
        self.parameters: Mapping[str, Json] = judge.parameters
        self.metrics = judge.metrics

    def check(self, sample: Sample) -> None:
        self._judge.check(sample)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        return await self._judge.score_by(sample, lambda number: self._vote(sample, completion, number))

    async def _vote(self, sample: Sample, completion: Completion, number: int) -> Vote:
        key = key_of(self._judge, sample, completion.text, completion.finish_reason, number)
        known = self._ledger.vote(key)
        if known is not None:
            return Vote(
                known.values,
                known.reason,
                known.calls,
                known.prompt_tokens,
                known.completion_tokens,
                known.structured,
                known.left_out,
                known.unsent,
            )
        vote = await self._judge.vote(sample, completion, number)
        self._ledger.append(
            VoteCast(
                key=key,
                run=self._run,
                scorer=self._judge.name,
                judge=self._judge.judge,
                values=dict(vote.values),
                reason=vote.reason,
                calls=vote.calls,
                prompt_tokens=vote.prompt_tokens,
                completion_tokens=vote.completion_tokens,
                structured=vote.structured,
                left_out=vote.left_out,
                unsent=vote.unsent,
            )
        )
        return vote
