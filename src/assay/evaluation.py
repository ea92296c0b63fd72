"""Suite × model → journal: bounded, streaming, resumable by key.

A sample's answer and its scores are journaled as they come; what is journaled under a key is not paid for again. An engine
error or a cut-off answer is a failure with its class, never a wrong answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from assay.errors import EngineDied, EngineKilled, GenerationError
from assay.evaluated import Evaluation, SampleResult
from assay.models.base import TextModel, check_options, complete, rendered
from assay.reasoning import continued
from assay.results.index import Ledger
from assay.results.keys import completion_key, seed_from
from assay.results.records import (
    CompletionMade,
    Failure,
    Place,
    ScoreMade,
    SuiteUse,
    place_of,
)
from assay.scorers.base import Scorer, Weigher, check_suite, score_answer
from assay.scorers.keys import key_of, records_of, unanswered
from assay.scorers.votes import keeping_votes
from assay.scorers.weighed import score_weighed, weighed_key
from assay.suites.asked import sample_record
from assay.suites.suite import Suite
from assay.types import Completion, GenerateOptions, Sample, Score, ScoreFailure, Usage
from assay.weighing import Weighing, check_weighing, weigher_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose results these are: a run's checkpoint, or its base (digest "" and iteration 0)."""

    run: str = ""
    checkpoint: str = "base"
    iteration: int = 0
    digest: str = ""


def use_of(suite: Suite) -> SuiteUse:
    """The suite as a run's record tells of it."""
    metrics = dict.fromkeys(metric for scorer in check_suite(suite).values() for metric in scorer.metrics)
    return SuiteUse(
        name=suite.name,
        version=suite.version,
        digest=suite.digest,
        groups=suite.groups,
        metrics=tuple(metrics),
        goal=suite.goal,
    )


async def evaluate(
    model: TextModel,
    suite: Suite,
    *,
    ledger: Ledger | None = None,
    subject: Subject | None = None,
    batch: Callable[[], str] = str,
    limit: int | None = None,
    also: Callable[[Sample], Sequence[Scorer]] | None = None,
    fresh: bool = False,
    guarded: bool = False,
    on_result: Callable[[SampleResult], None] | None = None,
) -> Evaluation:
    """Ask the model every sample of the suite (or a `limit` of them) and score the answers; weigh those that are not asked.

    At most `model.info.concurrency` samples are in flight. With a `ledger`, answers and scores it holds are reused, and new
    ones and the questions are written to it. also: scorers besides the suite's own, such as judges. batch: called per answer,
    names the attachment it was given under. fresh: ask anew what the ledger has. A sample whose engine died is asked once
    more; every other error is that sample's failure, and so is a second death unless it is `guarded`. Raises
    `UnsupportedOption` and `SuiteError` before anything is asked, and where it is guarded `EngineKilled` at a second death.
    """
    own = check_suite(suite)
    scorers = {
        s.id: (own[s.id], *(also(s) if also is not None and not isinstance(own[s.id], Weigher) else ()))
        for s in suite.samples
    }
    check_options(model.info, suite.options)
    await check_weighing(model, suite.samples, own)
    chosen = suite if limit is None else suite.limited(limit)
    task = _Task(model, suite, scorers, ledger, subject or Subject(), batch, fresh, guarded)
    results: dict[int, SampleResult] = {}
    order = {sample.id: index for index, sample in enumerate(suite.samples)}
    waiting = iter(chosen.samples)
    if ledger is not None:
        new = [s for s in chosen.samples if not ledger.has_sample(suite.digest, s.id)]
        if new:
            ledger.append_all([sample_record(suite, sample, order[sample.id]) for sample in new])

    async def work() -> None:
        for sample in waiting:
            index = order[sample.id]
            results[index] = await task.sample(sample, index)
            if on_result is not None:
                on_result(results[index])

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(model.info.concurrency, len(chosen.samples)))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None
    return Evaluation(tuple(results[i] for i in sorted(results)), model.info.name)


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that tasks ended with."""
    error = errors.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


def _parted(outcomes: Sequence[Score | ScoreFailure]) -> tuple[tuple[Score, ...], tuple[ScoreFailure, ...]]:
    scores = tuple(o for o in outcomes if isinstance(o, Score))
    return scores, tuple(o for o in outcomes if isinstance(o, ScoreFailure))


class _Task:
    """One evaluation under way."""

    def __init__(
        self,
        model: TextModel,
        suite: Suite,
        scorers: Mapping[str, Sequence[Scorer]],
        ledger: Ledger | None,
        subject: Subject,
        batch: Callable[[], str],
        fresh: bool,
        guarded: bool,
    ) -> None:
        self._model = model
        self._suite = suite
        self._scorers = scorers
        self._ledger = ledger
        self._subject = subject
        self._batch = batch
        self._fresh = fresh
        self._guarded = guarded
        self._weighing = Weighing(model, ledger, fresh=fresh)
        self._asking: dict[str, asyncio.Lock] = {}
        self._known: dict[str, CompletionMade] = {}

    async def sample(self, sample: Sample, index: int) -> SampleResult:
        weigher = weigher_of(self._scorers[sample.id])
        return await (self._weighed(sample, index, weigher) if weigher is not None else self._asked(sample, index))

    async def _weighed(self, sample: Sample, index: int, weigher: Weigher) -> SampleResult:
        def place() -> Place:
            return self._place(sample, index, self._batch())

        try:
            weighed, reused = await self._weighing.sample(weigher, sample, place, partial(self._twice, sample))
        except GenerationError as error:
            return self._not_answered(sample, index, error)
        made = [each.made for each in weighed]
        key = weighed_key(weigher, sample, made)
        outcomes = self._known_scores(weigher, key) or score_weighed(weigher, sample, made)
        for record in records_of(weigher, key, self._place(sample, index, made[0].batch), made[0].key, outcomes):
            self._append(record)
        return SampleResult(sample, None, *_parted(outcomes), reused, weighed)

    async def _asked(self, sample: Sample, index: int) -> SampleResult:
        prompt = await rendered(self._model, sample.prompt)
        options = self._suite.options
        key = completion_key(self._model.info.identity, self._model.info.adapter, prompt, options, 0)
        if options.temperature > 0 and options.seed is None and "seed" in self._model.info.options:
            options = msgspec.structs.replace(options, seed=seed_from(key))
        async with self._asking.setdefault(key, asyncio.Lock()):  # two samples may ask the very same
            answer = self._known.get(key)
            if answer is None and self._ledger is not None and not self._fresh:
                answer = self._ledger.completion(key)
            reused = answer is not None
            if answer is None:
                try:
                    completion = await self._twice(sample, lambda: complete(self._model, sample.prompt, options))
                except GenerationError as error:
                    return self._not_answered(sample, index, error)
                answer = self._journal_answer(sample, index, key, prompt, options, completion)
        return await self._score(sample, index, answer, reused)

    async def _twice(self, sample: Sample, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await ask()
        except EngineDied:  # one death is the engine's, and the next child answers; a second one is this sample's doing
            pass
        try:
            return await ask()
        except EngineDied as error:
            if self._guarded:
                raise EngineKilled(f"it killed the engine twice at the sample {sample.id}: {error}") from error
            raise

    def _journal_answer(
        self, sample: Sample, index: int, key: str, prompt: str, options: GenerateOptions, completion: Completion
    ) -> CompletionMade:
        record = CompletionMade(
            **place_of(self._place(sample, index, self._batch())),
            key=key,
            prompt=prompt,
            options=options.as_told(),
            text=completion.text,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.usage.prompt_tokens,
            completion_tokens=completion.usage.completion_tokens,
            seconds=round(completion.usage.seconds, 6),
            logprob=completion.usage.logprob,
        )
        if self._ledger is not None:
            self._ledger.append(record)
        if self._ledger is None or self._fresh:
            self._known[key] = record
        return record

    def _not_answered(self, sample: Sample, index: int, error: GenerationError) -> SampleResult:
        failures: list[ScoreFailure] = []
        place = self._place(sample, index, self._batch())
        for scorer in self._scorers[sample.id]:
            for metric in scorer.metrics:
                failure = ScoreFailure(metric, error.error_class, str(error))
                failures.append(failure)
                self._append(unanswered(scorer, place, failure, error.partial))
        return SampleResult(sample, None, (), tuple(failures), reused=False)

    async def _score(self, sample: Sample, index: int, answer: CompletionMade, reused: bool) -> SampleResult:
        outcomes: list[Score | ScoreFailure] = []
        usage = Usage(answer.prompt_tokens, answer.completion_tokens, answer.seconds)
        completion = Completion(continued(answer.prompt, answer.text), answer.finish_reason, usage)
        for scorer in self._scorers[sample.id]:
            key = key_of(scorer, sample, completion.text, completion.finish_reason)
            # Equal answers to one question share a judge's verdict: whoever comes second finds it in the journal.
            async with self._asking.setdefault(key, asyncio.Lock()):
                found = await self._outcomes(scorer, key, sample, completion)
                outcomes += found
                for record in records_of(scorer, key, self._place(sample, index, answer.batch), answer.key, found):
                    self._append(record)
        return SampleResult(sample, answer, *_parted(outcomes), reused)

    async def _outcomes(
        self, scorer: Scorer, key: str, sample: Sample, completion: Completion
    ) -> Sequence[Score | ScoreFailure]:
        known = self._known_scores(scorer, key)
        return known or await score_answer(keeping_votes(scorer, self._ledger, self._subject.run), sample, completion)

    def _known_scores(self, scorer: Scorer, key: str) -> Sequence[Score]:
        """The scores that the journal has under this key, if it has them of all metrics."""
        known = self._ledger.scores(key) if self._ledger is not None else []
        return [record.score for record in known] if {r.metric for r in known} >= set(scorer.metrics) else []

    def _place(self, sample: Sample, index: int, batch: str) -> Place:
        subject = self._subject
        return Place(
            run=subject.run,
            checkpoint=subject.checkpoint,
            iteration=subject.iteration,
            digest=subject.digest,
            identity=self._model.info.identity,
            suite=self._suite.name,
            suite_version=self._suite.version,
            suite_digest=self._suite.digest,
            sample=sample.id,
            group=sample.group,
            index=index,
            batch=batch,
        )

    def _append(self, record: ScoreMade | Failure) -> None:
        if self._ledger is not None and not (record.key and self._ledger.is_placed(record)):
            self._ledger.append(record)
