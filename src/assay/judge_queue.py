"""The judge's part of a watch: answers are judged beside the evaluation, which never waits for it.

What can't be judged now, because the judge is slow or gone, waits here and in the journal: a suite at a checkpoint is judged
once the journal says so under the judge's measure, and what it has by key is not paid for again. Answers wait with their
texts up to a bound; those beyond it, and those of earlier watches, are read from the journal when their turn comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from assay.dockets import Docket, DocketName, name_of, standing_answers
from assay.errors import AssayError, BadInput, Unreachable
from assay.evaluated import Evaluation
from assay.job import Job, JudgeSpec, rubrics_in, rubrics_of
from assay.models.base import TextModel
from assay.results.index import Ledger
from assay.results.records import Finished, Place
from assay.scorers.judge import Judge
from assay.scorers.keys import key_of, measure_by
from assay.scorers.rubric_file import load_rubric
from assay.scoring import Judging
from assay.suites.suite import Suite
from assay.summaries import Outcome, judged_summaries
from assay.types import Completion, Sample, Score, ScoreFailure

# Answers that wait with their texts.
_AT_HAND = 4096
# Seconds between two tries of a judge that is gone, at most. The first wait is that between two looks at the folder.
_PAUSE_CAP = 600.0
# Answers that are taken in hand together, for each that is judged at once: the last ones of some wait for few.
_ROUNDS = 4

# A sample, its group, and what a judge made of the answer.
_Verdict: TypeAlias = tuple[str, str, Outcome]


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
        self._dockets: dict[DocketName, Docket] = {}
        self._held = 0
        self._arrived = asyncio.Event()
        self._ending = asyncio.Event()
        self._has_judged = False
        self._scored = 0  # answers that the judge has scored in this round
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
        docket = Docket(of, suite, sum(result.id in judged for result in evaluation.results))
        if docket.size:
            if self._held + docket.size <= _AT_HAND:
                docket.hold(evaluation, judged)
            self._put(docket)

    def recall(self, wanted: Callable[[Finished], bool]) -> None:
        """Put what earlier watches asked, and the journal doesn't say was judged. wanted: whether it is this watch's."""
        suites = {suite.digest: suite for suite in self._job.suites if self._samples[suite.digest]}
        limit = self._job.limit or 0
        for of in self._ledger.gone_through():
            suite = suites.get(of.suite_digest)
            if suite is None or name_of(of) in self._dockets or not wanted(of) or self._is_judged(of, suite):
                continue
            if self._ledger.finished(of.run, of.digest, of.suite_digest, of.identity, limit) is not None:
                self._put(Docket(of, suite, len(self._samples[suite.digest])))

    def _put(self, docket: Docket) -> None:
        if (former := self._dockets.get(docket.name)) is not None:
            self._drop(former)
        self._held += docket.held
        self._dockets[docket.name] = docket
        self._arrived.set()
        self._changed()

    def _drop(self, docket: Docket) -> None:
        del self._dockets[docket.name]
        self._held -= docket.held

    def _waits(self, docket: Docket) -> bool:
        """Whether no later one has taken its place, with other answers."""
        return self._dockets.get(docket.name) is docket

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
            if not (ready := self._ready()) and self._model is not None:
                if self._ending.is_set():
                    return
                await self._wait()
                continue
            last = self._ending.is_set()
            try:
                await self._opened()
                await self._judge_all(ready)
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

    def _ready(self) -> list[Docket]:
        """The first that are due, as many as keep the judge at work."""
        now, room = time.monotonic(), _ROUNDS * self._concurrency
        ready: list[Docket] = []
        for docket in self._dockets.values():
            if room > 0 and docket.due <= now:
                ready.append(docket)
                room -= docket.size
        return ready

    @property
    def _concurrency(self) -> int:
        return max(1, self._model.info.concurrency) if self._model is not None else 1

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

    async def _judge_all(self, dockets: Sequence[Docket]) -> None:
        """Have them judged, so many answers at once as the judge takes. Raises `Unreachable` or `BadInput`."""
        for docket in dockets:
            if docket.answers is None and self._is_judged(docket.of, docket.suite):
                self._drop(docket)
        await self._load([docket for docket in dockets if docket.answers is None and self._waits(docket)])
        gate = asyncio.Semaphore(self._concurrency)
        self._scored = 0
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {d: group.create_task(self._verdicts(d, gate)) for d in dockets if self._waits(d)}
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        gone = ""
        for docket, task in tasks.items():
            passing = _passing(docket, task.result())
            if passing and not self._scored:  # where nothing else succeeds either, it is not about these answers
                gone = passing
            elif self._waits(docket):
                self._settle(docket, task.result(), again=bool(passing))
        if gone:
            raise Unreachable(gone)

    def _settle(self, docket: Docket, found: Mapping[Judge, Sequence[_Verdict]], *, again: bool) -> None:
        """Journal what a docket came to. again: another try may help."""
        docket.tries += 1
        for judge, verdicts in found.items():
            self._journal(docket, judge, verdicts)
        if again and self._tries_again(docket):
            docket.due = time.monotonic() + self._job.plan.backoff_seconds * 2.0 ** (docket.tries - 1)
            return
        self.failed += len({sample for sample, failure in _failures(docket, found) if _counts(failure)})
        self._drop(docket)

    def _tries_again(self, docket: Docket) -> bool:
        return not self._job.once and docket.tries < self._job.plan.attempts

    async def _verdicts(self, docket: Docket, gate: asyncio.Semaphore) -> dict[Judge, list[_Verdict]]:
        """Of each judge, what it made of each answer."""
        samples, suite = self._samples[docket.suite.digest], docket.suite
        found: dict[Judge, list[_Verdict]] = {judge: [] for judge in self._judges_of(suite)}
        for place, failure in docket.unanswered:
            for rubric in rubrics_of(suite, samples[place.sample]):
                judge = self._judges[rubric]
                failures = [msgspec.structs.replace(failure, metric=metric) for metric in judge.metrics]
                if not docket.told:
                    self._judging.note_unanswered(judge, failures, place)
                found[judge] += [(place.sample, place.group, each) for each in failures]
        docket.told = True

        async def one(place: Place, key: str, completion: Completion) -> None:
            sample = samples[place.sample]
            async with gate:
                for rubric in rubrics_of(suite, sample):
                    judge = self._judges[rubric]
                    paid = self._ledger.scores(key_of(judge, sample, completion.text, completion.finish_reason))
                    outcomes = await self._judging.outcomes(judge, sample, completion, place, key)
                    scored = any(isinstance(outcome, Score) for outcome in outcomes)
                    self._scored += scored and not paid
                    self._has_judged = self._has_judged or scored
                    found[judge] += [(place.sample, place.group, outcome) for outcome in outcomes]

        async with asyncio.TaskGroup() as group:
            for answer in docket.answers or ():
                group.create_task(one(*answer))
        return found

    def _journal(self, docket: Docket, judge: Judge, verdicts: Sequence[_Verdict]) -> None:
        """That this judge has gone through the suite, and what it came to."""
        failed = {sample for sample, _, o in verdicts if isinstance(o, ScoreFailure) and _counts(o)}
        cut = {sample for sample, _, o in verdicts if isinstance(o, ScoreFailure)} - failed
        asked = {sample for sample, _, _ in verdicts}
        limit = self._job.limit or 0
        record = msgspec.structs.replace(
            docket.of,
            seq=0,
            time=0.0,
            limit=limit if limit < len(docket.suite.samples) else 0,
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

    async def _load(self, wanted: list[Docket]) -> None:
        """Take the answers of these in from the journal, and of those that come next while there is room for them."""
        if not wanted:
            return
        room = _AT_HAND - self._held - sum(docket.size for docket in wanted)
        for docket in self._dockets.values():
            if docket.answers is not None or docket in wanted or self._is_judged(docket.of, docket.suite):
                continue
            if docket.size <= room:
                wanted.append(docket)
                room -= docket.size
        found = await asyncio.to_thread(standing_answers, self._ledger.workspace, wanted)
        for docket, answers in zip(wanted, found, strict=True):
            samples = self._samples[docket.suite.digest]
            if self._waits(docket):
                docket.answers = [answer for answer in answers if answer[0].sample in samples]
                self._held += docket.held


def _judged(job: Job, suite: Suite) -> dict[str, Sample]:
    """The samples of the suite that are asked, and whose answers are judged, by their ids."""
    asked = suite if job.limit is None else suite.limited(job.limit)
    return {sample.id: sample for sample in asked.samples if rubrics_of(suite, sample)}


def _failures(docket: Docket, found: Mapping[Judge, Sequence[_Verdict]]) -> Iterator[tuple[str, ScoreFailure]]:
    """What could not be judged, by the samples' ids; not those without an answer, whose failure is the model's."""
    silent = {place.sample for place, _ in docket.unanswered}
    for verdicts in found.values():
        for sample, _, outcome in verdicts:
            if isinstance(outcome, ScoreFailure) and sample not in silent:
                yield sample, outcome


def _passing(docket: Docket, found: Mapping[Judge, Sequence[_Verdict]]) -> str:
    """Why an answer could not be judged now, though it may be later; "" if there is none."""
    return next((failure.reason for _, failure in _failures(docket, found) if failure.error_class == "transient"), "")


def _counts(failure: ScoreFailure) -> bool:
    """Whether it is more than an answer that was cut off, which no judge can mend."""
    return failure.error_class != "truncated"


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _within(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for the event, but no longer than that."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
