"""The judge's part of a watch: answers are judged beside the evaluation, which never waits for it.

What can't be judged now, because the judge is slow or gone, waits here and in the journal: a suite at a checkpoint is judged
once the journal says so under the judge's measure, and what it has by key is not paid for again. Answers wait with their
texts up to a bound; those beyond it, and those of earlier watches, are read from the journal when their turn comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec

from assay.errors import AssayError, BadInput, Unreachable
from assay.evaluation import Evaluation, SampleResult
from assay.job import Job, JudgeSpec, rubrics_in, rubrics_of
from assay.models.base import TextModel
from assay.rescoring import Answer, journaled
from assay.results.index import Ledger
from assay.results.lens import Lens
from assay.results.records import Finished, Place
from assay.scorers.judge import Judge
from assay.scorers.keys import measure_by
from assay.scorers.reasoning import continued
from assay.scorers.rubric_file import load_rubric
from assay.scoring import Judging
from assay.suites.suite import Suite
from assay.summaries import Outcome, judged_summaries
from assay.types import Completion, Sample, Score, ScoreFailure, Usage

# Answers that wait with their texts.
_AT_HAND = 4096
# Seconds between two tries of a judge that is gone, at most. The first wait is that between two looks at the folder.
_PAUSE_CAP = 600.0


# A sample, its group, and what a judge made of the answer.
_Verdict: TypeAlias = tuple[str, str, Outcome]
# A run, an adapter's digest, a suite's digest, and the base's identity.
_Name: TypeAlias = tuple[str, str, str, str]


@dataclass(slots=True)
class _Docket:
    """A suite at a checkpoint that waits for the judge. of: its record in the journal, as it stands there.

    answers: None where they are only in the journal. unanswered: samples without an answer, and why. due: not before, by the
    monotonic clock. tries: how often it was gone through.
    """

    of: Finished
    suite: Suite
    size: int
    answers: list[Answer] | None = None
    unanswered: list[tuple[Place, ScoreFailure]] = field(default_factory=list)
    due: float = 0.0
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """How it stands. answers: that wait. reason: why the judge can't be asked, since when and until when; "" if it can."""

    judge: str
    answers: int
    reason: str = ""
    since: float = 0.0
    again: float = 0.0


class JudgeQueue:
    """Has the answers of finished suites judged, in the order in which they came.

    failed: answers that the judge could not score, though it was asked. gone: why it can't be asked now; None if it can.
    changed: is called when `waiting` may differ.
    """

    def __init__(
        self, job: Job, spec: JudgeSpec, ledger: Ledger, note: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self._job = job
        self._spec = spec
        self._ledger = ledger
        self._note = note
        self._changed = changed
        self._judging = Judging(ledger)
        self._samples = {suite.digest: _judged(job, suite) for suite in job.suites}
        self._model: TextModel | None = None
        self._judges: dict[str, Judge] = {}
        self._dockets: dict[_Name, _Docket] = {}
        self._held = 0
        self._arrived = asyncio.Event()
        self._ending = asyncio.Event()
        self._has_judged = False
        self.gone: AssayError | None = None
        self._since = self._again = 0.0
        self._pauses = 0
        self.failed = 0

    async def aclose(self) -> None:
        if self._model is not None:
            await self._spec.close(self._model)

    # -- what waits ---------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> Waiting:
        answers = sum(docket.size for docket in self._dockets.values())
        if self.gone is None:
            return Waiting(self._spec.name, answers)
        return Waiting(self._spec.name, answers, str(self.gone), self._since, self._again)

    def add(self, of: Finished, suite: Suite, evaluation: Evaluation) -> None:
        """A suite was gone through at a checkpoint, and journaled as `of`."""
        judged = self._samples[suite.digest]
        results = [result for result in evaluation.results if result.id in judged]
        if not results:
            return
        docket = _Docket(of, suite, len(results))
        if self._held + len(results) <= _AT_HAND:
            order = {sample.id: index for index, sample in enumerate(suite.samples)}
            docket.answers = [_answer(_place(of, r, order[r.id]), r) for r in results if r.answer is not None]
            docket.unanswered = [
                (_place(of, r, order[r.id]), r.failures[0]) for r in results if r.answer is None and r.failures
            ]
        self._put(docket)

    def recall(self, wanted: Callable[[Finished], bool]) -> None:
        """Put what earlier watches asked, and the journal doesn't say was judged. wanted: whether it is this watch's."""
        suites = {suite.digest: suite for suite in self._job.suites if self._samples[suite.digest]}
        limit = self._job.limit or 0
        for of in self._ledger.gone_through():
            suite = suites.get(of.suite_digest)
            if suite is None or _name(of) in self._dockets or not wanted(of) or self._is_judged(of, suite):
                continue
            if self._ledger.finished(of.run, of.digest, of.suite_digest, of.identity, limit) is not None:
                self._put(_Docket(of, suite, len(self._samples[suite.digest])))

    def _put(self, docket: _Docket) -> None:
        self._drop(docket)
        self._held += len(docket.answers or ())
        self._dockets[_name(docket.of)] = docket
        self._arrived.set()

    def _drop(self, docket: _Docket) -> None:
        former = self._dockets.pop(_name(docket.of), None)
        self._held -= len(former.answers or ()) if former is not None else 0

    def _is_judged(self, of: Finished, suite: Suite) -> bool:
        """Whether the journal says so; False as long as nobody knows by what measure."""
        limit = self._job.limit or 0
        judges = self._judges_of(suite)
        return bool(judges) and all(self._ledger.is_judged(of, measure_by(judge), limit) for judge in judges)

    def _judges_of(self, suite: Suite) -> list[Judge]:
        rubrics = dict.fromkeys(r for sample in self._samples[suite.digest].values() for r in rubrics_of(suite, sample))
        return [self._judges[rubric] for rubric in rubrics if rubric in self._judges]

    # -- judging ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Nothing more comes: `run` ends once all is judged, or the judge is gone, for which it is tried once more."""
        self._ending.set()
        self._arrived.set()

    async def run(self) -> None:
        """Judge what comes. Raises what says that the judge was named wrongly, and what the journal raises."""
        while True:
            docket = self._next()
            if docket is None and self._model is not None:
                if self._ending.is_set():
                    return
                await self._wait()
                continue
            last = self._ending.is_set()
            try:
                await self._opened()
                if docket is not None:
                    await self._judge(docket)
            except (Unreachable, BadInput) as error:
                if isinstance(error, BadInput) and not self._has_judged:
                    raise
                self._lost(error)
                if last:
                    return
                await self._pause()
            else:
                self._found()
            self._changed()

    def _next(self) -> _Docket | None:
        now = time.monotonic()
        return next((docket for docket in self._dockets.values() if docket.due <= now), None)

    async def _wait(self) -> None:
        self._arrived.clear()
        due = min((docket.due for docket in self._dockets.values()), default=None)
        await _within(self._arrived, None if due is None else max(0.0, due - time.monotonic()))

    async def _pause(self) -> None:
        seconds = min(_PAUSE_CAP, self._job.poll_seconds * 2.0**self._pauses)
        self._pauses = min(self._pauses + 1, 32)
        self._again = time.time() + seconds
        self._changed()
        await _within(self._ending, seconds)

    def _lost(self, error: AssayError) -> None:
        if self.gone is None:
            self._since = time.time()
            self._note(
                f"the judge {self._spec.name} can't be asked ({error}); answers are kept, and judged when it can"
            )
        self.gone = error

    def _found(self) -> None:
        if self.gone is not None:
            self._note(f"the judge {self._spec.name} answers again")
        self.gone = None
        self._pauses = 0

    async def _opened(self) -> None:
        if self._model is None:
            self._model = await self._spec.open()
            rubrics = {name: load_rubric(name) for name in rubrics_in(self._job.suites)}
            self._judges = {name: Judge(self._model, r, votes=self._spec.votes) for name, r in rubrics.items()}

    async def _judge(self, docket: _Docket) -> None:
        """Have all answers of a docket judged, and journal what they came to. Raises `Unreachable` or `BadInput`."""
        if docket.answers is None:
            if self._is_judged(docket.of, docket.suite):
                self._drop(docket)
                return
            await self._load()
        if not docket.answers and not docket.unanswered:  # another base answers by now
            self._drop(docket)
            return
        found = await self._verdicts(docket)
        docket.tries += 1
        for judge, outcomes in found.items():
            self._journal(docket, judge, outcomes)
        failures = [o for outcomes in found.values() for _, _, o in outcomes if isinstance(o, ScoreFailure)]
        if any(f.error_class == "transient" for f in failures) and self._tries_again(docket):
            docket.due = time.monotonic() + self._job.plan.backoff_seconds * 2.0 ** (docket.tries - 1)
            return
        self.failed += len(
            {s for outcomes in found.values() for s, _, o in outcomes if isinstance(o, ScoreFailure) and _counts(o)}
        )
        self._drop(docket)

    def _tries_again(self, docket: _Docket) -> bool:
        return not self._job.once and docket.tries < self._job.plan.attempts

    async def _verdicts(self, docket: _Docket) -> dict[Judge, list[_Verdict]]:
        """Of each judge, what it made of each answer."""
        samples, suite = self._samples[docket.suite.digest], docket.suite
        found: dict[Judge, list[_Verdict]] = {judge: [] for judge in self._judges_of(suite)}
        for place, failure in docket.unanswered:
            for rubric in rubrics_of(suite, samples[place.sample]):
                judge = self._judges[rubric]
                failures = [msgspec.structs.replace(failure, metric=metric) for metric in judge.metrics]
                if not docket.tries:
                    self._judging.note_unanswered(judge, failures, place)
                found[judge] += [(place.sample, place.group, each) for each in failures]
        assert self._model is not None
        gate = asyncio.Semaphore(max(1, self._model.info.concurrency))

        async def one(place: Place, key: str, completion: Completion) -> None:
            sample = samples[place.sample]
            async with gate:
                for rubric in rubrics_of(suite, sample):
                    judge = self._judges[rubric]
                    outcomes = await self._judging.outcomes(judge, sample, completion, place, key)
                    self._has_judged = self._has_judged or any(isinstance(o, Score) for o in outcomes)
                    found[judge] += [(place.sample, place.group, outcome) for outcome in outcomes]

        try:
            async with asyncio.TaskGroup() as group:
                for answer in docket.answers or ():
                    group.create_task(one(*answer))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return found

    def _journal(self, docket: _Docket, judge: Judge, verdicts: Sequence[_Verdict]) -> None:
        """That this judge has gone through the suite, and what it came to."""
        failed = {sample for sample, _, o in verdicts if isinstance(o, ScoreFailure) and _counts(o)}
        cut = {sample for sample, _, o in verdicts if isinstance(o, ScoreFailure)} - failed
        asked = {sample for sample, _, _ in verdicts}
        record = msgspec.structs.replace(
            docket.of,
            seq=0,
            time=0.0,
            asked=len(asked),
            scored=len(asked) - len(failed) - len(cut),
            failed=len(failed),
            truncated=len(cut),
            seconds=0.0,
            summaries=judged_summaries(((group, outcome) for _, group, outcome in verdicts), judge),
        )
        if record.summaries:
            self._ledger.append(record)
            self._ledger.journal.sync_soon()

    async def _load(self) -> None:
        """Take answers in from the journal, from the first that waits, as many as are held at once."""
        chosen: list[_Docket] = []
        room = _AT_HAND - self._held
        for docket in self._dockets.values():
            if docket.answers is None and (docket.size <= room or not chosen):
                chosen.append(docket)
                room -= docket.size
        names = [(docket.of, docket.suite.name) for docket in chosen]
        found = await asyncio.to_thread(_read, self._ledger.workspace, names)
        for docket, answers in zip(chosen, found, strict=True):
            samples = self._samples[docket.suite.digest]
            docket.answers = [answer for answer in answers if answer[0].sample in samples]
            self._held += len(docket.answers)


def _read(workspace: Path, wanted: Sequence[tuple[Finished, str]]) -> list[list[Answer]]:
    """The standing answers of each."""
    with Lens(workspace) as lens:
        found = [journaled(lens, suite, of.run, of.digest) for of, suite in wanted]
    return [[a for a in answers if _name(a[0]) == _name(of)] for (of, _), answers in zip(wanted, found, strict=True)]


def _judged(job: Job, suite: Suite) -> dict[str, Sample]:
    """The samples of the suite that are asked, and whose answers are judged, by their ids."""
    asked = suite if job.limit is None else suite.limited(job.limit)
    return {sample.id: sample for sample in asked.samples if rubrics_of(suite, sample)}


def _name(record: Finished | Place) -> _Name:
    return record.run, record.digest, record.suite_digest, record.identity


def _counts(failure: ScoreFailure) -> bool:
    """Whether it is more than an answer that was cut off, which no judge can mend."""
    return failure.error_class != "truncated"


def _place(of: Finished, result: SampleResult, index: int) -> Place:
    return Place(
        run=of.run,
        checkpoint=of.checkpoint,
        iteration=of.iteration,
        digest=of.digest,
        identity=of.identity,
        suite=of.suite,
        suite_version=of.suite_version,
        suite_digest=of.suite_digest,
        sample=result.id,
        group=result.sample.group,
        index=index,
        batch=result.answer.batch if result.answer is not None else "",
    )


def _answer(place: Place, result: SampleResult) -> Answer:
    made = result.answer
    assert made is not None
    usage = Usage(made.prompt_tokens, made.completion_tokens, made.seconds)
    return place, made.key, Completion(continued(made.prompt, made.text), made.finish_reason, usage)


async def _within(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for the event, but no longer than that."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
