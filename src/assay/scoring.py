"""Score answers that already exist: a stream of answers in, the same stream with scores out, in the same order.

Scorers that only read text run as the answer comes by. Scorers that ask a judge run many at a time, as many as the judge takes;
what they earn is journaled under its key and not paid for again. Memory is bounded by the window of answers under way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from assay.report.questions import beginning
from assay.report.score_file import EXTRACTED
from assay.report.spread import SPREAD
from assay.results.canonical import digest_of
from assay.results.index import Ledger
from assay.results.records import FROM_FILES, AnswerScored, Place, ScaleSeen, origin_of
from assay.results.tally import Questions, Tally
from assay.scorers.base import Scorer, score_answer
from assay.scorers.judge import Judge, dimension_of
from assay.scorers.keys import judge_of, judged_by, key_of, records_of, unanswered
from assay.scorers.sets import Pick
from assay.scorers.votes import keeping_votes
from assay.scoring_window import Window
from assay.suites.answers import Answered, NoAnswer
from assay.suites.known_probes import informed
from assay.types import Completion, Json, Sample, Score, ScoreFailure, Usage

# Answers scored between two looks for a cancellation: scorers that only read text leave the event loop no turn.
_LISTEN_EVERY = 50

Outcomes: TypeAlias = tuple[Score | ScoreFailure, ...]


class ScoredAnswer(msgspec.Struct, frozen=True):
    """An answer with what each scorer of each suite made of it."""

    answered: Answered
    outcomes: tuple[tuple[str, Scorer, Outcomes], ...]

    @property
    def id(self) -> str:
        return self.answered.id

    @property
    def model(self) -> str:
        return self.answered.model

    @property
    def text(self) -> str:
        return self.answered.text

    @property
    def name(self) -> str:
        """Which answer it is, for people."""
        return f"{self.id} of {self.model}" if self.model else self.id

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """From a suite to its metrics' values, with what its scorer `extracted`. A metric without a score isn't there."""
        scores: dict[str, dict[str, Any]] = {}
        for suite, _, outcomes in self.outcomes:
            scores.setdefault(suite, {}).update(values_of(outcomes))
        return scores

    @property
    def failures(self) -> list[dict[str, str]]:
        """Why metrics have no score: `suite`, `metric`, `error_class` and `reason` of each.

        A question that was asked in vain and fits no suite has one entry, in which suite and metric are "".
        """
        found = [
            _failure(suite, failure.metric, failure)
            for suite, _, outcomes in self.outcomes
            for failure in outcomes
            if isinstance(failure, ScoreFailure)
        ]
        failure = self.answered.failure
        return [_failure("", "", failure)] if failure is not None and not self.outcomes else found


def _failure(suite: str, metric: str, failure: ScoreFailure | NoAnswer) -> dict[str, str]:
    return {"suite": suite, "metric": metric, "error_class": failure.error_class, "reason": failure.reason}


def values_of(outcomes: Outcomes) -> dict[str, bool | int | float | Json]:
    """The scores among the outcomes by metric, and under `extracted` what a scorer took for the answer."""
    values: dict[str, bool | int | float | Json] = {}
    for outcome in outcomes:
        if isinstance(outcome, Score):
            value = outcome.value
            values[outcome.metric] = value if isinstance(value, bool) or not float(value).is_integer() else int(value)
            if EXTRACTED in outcome.detail:
                values[EXTRACTED] = outcome.detail[EXTRACTED]
    return values


def score_line(scored: ScoredAnswer) -> dict[str, Any]:
    """An answer as `assay score -o` writes it."""
    answered = scored.answered
    line: dict[str, Any] = {"id": answered.id, "model": answered.model}
    if answered.repeat is not None:
        line["repeat"] = answered.repeat
    line |= {"scores": scored.scores, "failures": scored.failures}
    if answered.sample.group != "all":
        line["group"] = answered.sample.group
    if question := answered.question:
        line["question"] = question
    line |= {"numbered": True, "beginning": beginning(answered.sample.prompt)} if answered.numbered else {}
    if judged := [_judged(*each) for each in scored.outcomes if judge_of(each[1])]:
        line["judged"] = judged
    return line


def _judged(suite: str, scorer: Scorer, outcomes: Outcomes) -> dict[str, Any]:
    judge, measure = judged_by(scorer)
    found = {"suite": suite, "scorer": scorer.name, "judge": judge, "measure": measure, "metrics": list(scorer.metrics)}
    spread = {o.metric: o.detail[SPREAD] for o in outcomes if isinstance(o, Score) and SPREAD in o.detail}
    bounds = {o.metric: [o.low, o.high] for o in outcomes if isinstance(o, Score) and not isinstance(o.value, bool)}
    return found | ({"bounds": bounds} if bounds else {}) | ({"spread": spread} if spread else {})


def count(scored: ScoredAnswer, tallies: dict[tuple[str, str, str], Tally], questions: Questions) -> None:
    """Count an answer's outcomes under its model, each suite and each metric."""
    answered = scored.answered
    question = questions.number(answered.model, answered.id, answered.repeat)
    for suite, _, outcomes in scored.outcomes:
        for outcome in outcomes:
            tallies.setdefault((answered.model, suite, outcome.metric), Tally()).add(outcome, question)


def answer_record(scored: ScoredAnswer, run: str, source: str, content: str = "") -> AnswerScored:
    """An answer for the journal, with what scorers that only read text made of it. content: its file's, see `AnswersRead`.

    Judged scores are left out: they have records of their own.
    """
    scores: dict[str, dict[str, Any]] = {}
    failures: list[tuple[str, str, str, str]] = []
    for suite, scorer, outcomes in scored.outcomes:
        if not judge_of(scorer):
            scores.setdefault(suite, {}).update(values_of(outcomes))
            failed = (outcome for outcome in outcomes if isinstance(outcome, ScoreFailure))
            failures.extend((suite, f.metric, f.error_class, f.reason) for f in failed)
    answered = scored.answered
    return AnswerScored(
        run=run,
        source=source,
        line=answered.line,
        sample=answered.id,
        model=answered.model,
        scores=scores,
        failures=tuple(failures),
        repeat=answered.repeat or 0,
        question=answered.question,
        numbered=answered.numbered,
        beginning=beginning(answered.sample.prompt) if answered.numbered else "",
        answer=answered.digest,
        content=content,
    )


async def score_answers(
    answers: Iterable[Answered],
    pick: Callable[[Sample], Sequence[Pick]],
    *,
    ledger: Ledger | None = None,
    run: str = "",
    concurrency: int = 1,
) -> AsyncGenerator[ScoredAnswer, None]:
    """Yield each answer with its scores, in the order of `answers`.

    pick: which scorers an answer gets. concurrency: answers with a judge that are under way at once. With a `ledger`, judged
    scores it holds are reused and new ones are journaled under `run`. Raises `Unreachable` if a judge can't be reached;
    leaving early cancels what is under way.
    """
    judging = Judging(ledger) if ledger is not None else None
    scales = _Scales(ledger, run) if ledger is not None else None
    window: Window[ScoredAnswer] = Window(max(1, concurrency))
    try:
        for number, answered in enumerate(map(informed, answers), 1):
            if number % _LISTEN_EVERY == 0:
                await asyncio.sleep(0)
            chosen = pick(answered.sample)
            judged = answered.failure is None and any(judge_of(scorer) for _, scorer in chosen)
            while not window.has_room(judged):
                await window.change()
                for scored in window.finished():
                    yield _noted(scored, scales)
            work = _score(answered, chosen, judging, run)
            if judged:
                window.begin(work)
            else:
                window.put(await work)
            for scored in window.finished():
                yield _noted(scored, scales)
        while window.waiting:
            await window.change()
            for scored in window.finished():
                yield _noted(scored, scales)
    finally:
        await window.cancel()


def _noted(scored: ScoredAnswer, scales: _Scales | None) -> ScoredAnswer:
    if scales is not None:
        scales.note(scored)
    return scored


class _Scales:
    """Journals the bounds of each model's metrics as they are first seen, and as they widen."""

    def __init__(self, ledger: Ledger, run: str) -> None:
        self._ledger = ledger
        self._run = run
        self._seen: dict[tuple[str, str, str], tuple[float, float, bool]] = {}

    def note(self, scored: ScoredAnswer) -> None:
        model = scored.answered.model
        for suite, _, outcomes in scored.outcomes:
            for outcome in outcomes:
                name = (model, suite, outcome.metric)
                known = self._seen.get(name)
                low, high, varied = known or (math.inf, -math.inf, False)
                if isinstance(outcome, Score) and (outcome.low, outcome.high) != (low, high):
                    varied = low <= high  # else nothing has stated bounds before
                    low, high = min(low, outcome.low), max(high, outcome.high)
                if known != (low, high, varied):
                    self._seen[name] = low, high, varied
                    self._journal(name, self._seen[name])

    def _journal(self, name: tuple[str, str, str], scale: tuple[float, float, bool]) -> None:
        model, suite, metric = name
        # JSON has no infinity.
        low, high = (bound if math.isfinite(bound) else None for bound in scale[:2])
        record = ScaleSeen(run=self._run, model=model, suite=suite, metric=metric, low=low, high=high, varied=scale[2])
        if self._ledger.is_wider(record):
            self._ledger.append(record)


async def _score(answered: Answered, chosen: Sequence[Pick], judging: Judging | None, run: str) -> ScoredAnswer:
    completion = Completion(answered.text, answered.finish_reason or "stop", Usage(0, 0))
    done: list[tuple[str, Scorer, Outcomes]] = []
    for suite, scorer in chosen:
        outcomes: Outcomes
        if answered.failure is not None:
            failures = _failures(scorer, answered.failure)
            if judging is not None and judge_of(scorer):
                judging.note_unanswered(scorer, failures, _place(answered, suite, run), answered.digest)
            outcomes = failures
        elif judging is None or not judge_of(scorer):
            outcomes = await score_answer(scorer, answered.sample, completion)
        else:
            place = _place(answered, suite, run)
            outcomes = await judging.outcomes(scorer, answered.sample, completion, place, answered.digest)
        done.append((suite, scorer, outcomes))
    return ScoredAnswer(answered, tuple(done))


def _failures(scorer: Scorer, failure: NoAnswer) -> tuple[ScoreFailure, ...]:
    return tuple(ScoreFailure(metric, failure.error_class, failure.reason) for metric in scorer.metrics)


@lru_cache(maxsize=1024)
def _digest_of_suite(name: str) -> str:
    return digest_of("suite", name)


def _place(answered: Answered, suite: str, run: str) -> Place:
    sample = answered.sample
    return Place(
        run=run,
        checkpoint=answered.model or "answers",
        iteration=0,
        digest=origin_of(answered.model),
        identity=FROM_FILES,
        suite=suite,
        suite_version=1,
        suite_digest=_digest_of_suite(suite),
        sample=answered.id,
        group=sample.group,
        index=answered.line,
        repeat=answered.repeat or 0,
    )


class Judging:
    """Scores that are kept: taken from the journal where it has them, else made and journaled.

    Each key is asked for once, also where several tasks want it at the same time: equal answers to one question share it,
    and what can't be judged is not tried again for the next of them.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._failed: dict[tuple[str, Sequence[str]], Outcomes] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}

    async def outcomes(
        self, scorer: Scorer, sample: Sample, completion: Completion, place: Place, answer: str = ""
    ) -> Outcomes:
        """One score or failure for each of the scorer's metrics, which are in the journal now.

        answer: the key of the journaled answer; of one from a file its digest.
        """
        key = key_of(scorer, sample, completion.text, completion.finish_reason)
        while (asked := self._asking.get(key)) is not None:
            await asyncio.shield(asked)
        asked = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            found = self._known(scorer, key) or self._failed.get((key, scorer.metrics))
            if found is None:
                found = await score_answer(keeping_votes(scorer, self._ledger, place.run), sample, completion)
                if any(isinstance(o, ScoreFailure) and o.error_class in ("permanent", "refused") for o in found):
                    self._failed[key, scorer.metrics] = found
            records = records_of(scorer, key, place, answer, found)
            new = [record for record in records if not (record.key and self._ledger.is_placed(record))]
            if new:
                self._ledger.append_all(new)
        finally:
            del self._asking[key]
            asked.set_result(None)
        return found

    def note_unanswered(self, scorer: Scorer, failures: Iterable[ScoreFailure], place: Place, answer: str = "") -> None:
        """Journal that there is no score, for want of an answer. answer: the digest of what stands in a file."""
        self._ledger.append_all([unanswered(scorer, place, failure, "", answer) for failure in failures])

    def _known(self, scorer: Scorer, key: str) -> Outcomes | None:
        plain = dimension_of if isinstance(scorer, Judge) else str
        known = {plain(r.metric): r.score for r in self._ledger.scores(key)}
        if not known.keys() >= {plain(metric) for metric in scorer.metrics}:
            return None
        return tuple(msgspec.structs.replace(known[plain(metric)], metric=metric) for metric in scorer.metrics)
