"""What a watch makes known: journaled for ever, said to whoever watches, counted in what it came to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import structs

from assay import __version__
from assay.adapters.fit import in_full
from assay.errors import AdapterMismatch, AssayError, CheckpointError
from assay.evaluated import Evaluation, SampleResult
from assay.evaluation import Subject, use_of
from assay.job import Job
from assay.opened import OpenBase
from assay.paths import printable
from assay.plan import Failed
from assay.proof import Verdict
from assay.results.index import Ledger
from assay.results.records import Attempt, CheckpointSeen, Finished, Run
from assay.suites.suite import Suite
from assay.summaries import summaries_of
from assay.types import Adapter, Checkpoint

_SEVERAL = 2


class Observer(Protocol):
    """Who is told what happens; nothing depends on it."""

    def note(self, text: str) -> None: ...

    def expect(self, samples: int) -> None: ...

    def settled(self, samples: int) -> None: ...

    def subject(self, label: str, suite: str) -> None: ...

    def answered(self, result: SampleResult) -> None: ...


@dataclass(slots=True)
class Outcome:
    """What a watch came to.

    aside: from run and file (host and path) of checkpoints that couldn't be evaluated to label and reason; misfits: those that
    are adapters of another base, and fitting: whether one fits. unproven: from run and digest to label. runs: that were seen.
    unjudged: answers that are still to be judged, because of `judge_gone`.
    """

    evaluated: int = 0
    failed_samples: int = 0
    unproven: dict[tuple[str, str], str] = field(default_factory=dict)
    aside: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    misfits: set[tuple[str, str, str]] = field(default_factory=set)
    fitting: bool = False
    runs: list[str] = field(default_factory=list)
    unjudged: int = 0
    judge_gone: AssayError | None = None

    @property
    def exit_code(self) -> int:
        if self.judge_gone is not None:
            return self.judge_gone.exit_code
        if self.misfit:
            return 2
        return 1 if self.aside or self.unproven or self.failed_samples else 0

    @property
    def misfit(self) -> bool:
        """Whether the base is the wrong one: no checkpoint is an adapter of it."""
        return bool(self.misfits) and not self.fitting and self.aside.keys() == self.misfits

    @property
    def unusable(self) -> list[tuple[str, str]]:
        """Label and reason of what couldn't be evaluated."""
        return list(self.aside.values())


class Account:
    """A watch's books. outcome: what it came to so far. runs: those that were seen.

    to_judge: is given what was gone through.
    """

    def __init__(
        self,
        job: Job,
        ledger: Ledger,
        observer: Observer,
        to_judge: Callable[[Finished, Suite, Evaluation], None] = lambda *_: None,
    ) -> None:
        self._job = job
        self._ledger = ledger
        self._to_judge = to_judge
        self.observer = observer
        self.outcome: Outcome = Outcome()
        self._settled: set[tuple[str, str]] = set()
        self._said: set[str] = set()
        self._expecting = False
        self.runs: Collection[str] = ()

    def expect(self, samples: int) -> None:
        """Tell how many samples lie ahead; from now on, those that are done with are told too."""
        self.observer.expect(samples)
        self._expecting = True

    def say(self, text: str) -> None:
        """Say it, once in a watch."""
        if text not in self._said:
            self._said.add(text)
            self.observer.note(text)

    def called(self, checkpoint: Checkpoint) -> str:
        """What to call it: by its run as well where several are watched, and its label does not say which."""
        label, run = checkpoint.label, checkpoint.run
        return label if len(self.runs) < _SEVERAL or label.startswith(f"{run} @") else f"{label} of {run}"

    def settle(self, run: str, which: str) -> None:
        """Count a checkpoint's samples as done with, once. which: its digest; a twin's path."""
        if (run, which) not in self._settled:
            self._settled.add((run, which))
            if self._expecting:
                self.observer.settled(self._job.samples())

    def open_suites(self, run: str, digest: str, identity: str) -> list[Suite]:
        """What is still to be asked of an adapter on a base; digest: "" for the base's own answers."""
        limit = self._job.limit or 0
        return [s for s in self._job.suites if self._ledger.finished(run, digest, s.digest, identity, limit) is None]

    # -- what is there ------------------------------------------------------------------------------------------------

    def fetched(self, checkpoint: Checkpoint, adapter: Adapter) -> None:
        """Its weights were read. No file is read twice to know its digest."""
        self.seen(checkpoint, adapter.digest)

    def known(self, checkpoint: Checkpoint) -> None:
        """Its files are in a state that was read before. If the journal's last word is another, they were put back."""
        for said in self._ledger.said_before(checkpoint):
            self._ledger.append(structs.replace(said, seq=0, time=0.0))

    def gone(self, last: CheckpointSeen) -> None:
        """A file is no more where it was."""
        self._ledger.append(structs.replace(last, seq=0, time=0.0, gone=True))

    def twin(self, twin: Checkpoint, known: Checkpoint) -> None:
        """Another file with the same weights: there is nothing to ask it."""
        self.settle(twin.run, twin.path)
        if twin.label != known.label and twin.numbered:
            self.say(f"{self.called(twin)} has the weights of {known.label}: one checkpoint, evaluated once")

    def seen(self, checkpoint: Checkpoint, digest: str, reason: str = "") -> None:
        """Journal the file's state, if that is news. reason: why it can't be used as it is."""
        record = CheckpointSeen(
            **_file_of(checkpoint),
            digest=digest,
            reason=reason,
            numbered=checkpoint.numbered,
            gone=self._ledger.is_gone(checkpoint),  # its copy is what is used
        )
        if not self._ledger.has_seen(record):
            self._ledger.append(record)

    # -- what is done -------------------------------------------------------------------------------------------------

    def begin(self, base: OpenBase, run: str, tag: str, run_id: str, checkpoint: Checkpoint | None) -> None:
        """Journal that this run is asked on this base.

        tag, run_id: go-ml's names for the run's model and the run. checkpoint: one of it, if any is there.
        """
        if run not in self.outcome.runs:
            self.outcome.runs.append(run)
        info = base.model.info
        self._ledger.append(
            Run(
                run=run,
                base=base.name,
                engine=info.engine,
                engine_version=info.engine_version,
                identity=info.identity,
                declared=info.declared,
                suites=tuple(use_of(s) for s in self._job.suites),
                assay_version=__version__,
                tag=tag,
                run_id=run_id,
                host=checkpoint.host if checkpoint is not None else "",
                path=checkpoint.path if checkpoint is not None else "",
                place=base.place,
            )
        )

    def proved(self, checkpoint: Checkpoint, digest: str, verdict: Verdict) -> None:
        """What was last found of an adapter counts; said if it is not live."""
        which = checkpoint.run, digest
        if verdict.verdict == "live":
            self.outcome.unproven.pop(which, None)
        else:
            self.outcome.unproven[which] = checkpoint.label
            self.observer.note(f"{self.called(checkpoint)} is unproven: {verdict.reason}")

    def evaluated(self, checkpoint: Checkpoint) -> None:
        """It had its turn, and its file can be used, whatever was said of it before."""
        self.outcome.evaluated += 1
        self.outcome.fitting = True
        self.outcome.aside.pop((checkpoint.run, *checkpoint.file), None)

    def finish(
        self, base: OpenBase, subject: Subject, evaluations: Sequence[tuple[Suite, Evaluation]], proof: str
    ) -> None:
        """Journal what the suites came to, and have it judged. proof: "live" or "unproven"; "" for the base."""
        for suite, evaluation in evaluations:
            self.outcome.failed_samples += evaluation.failed
            limit = self._job.limit
            record = Finished(
                run=subject.run,
                checkpoint=subject.checkpoint,
                iteration=subject.iteration,
                digest=subject.digest,
                identity=base.identity,
                suite=suite.name,
                suite_version=suite.version,
                suite_digest=suite.digest,
                limit=limit if limit is not None and limit < len(suite.samples) else 0,
                asked=evaluation.asked,
                scored=evaluation.scored,
                failed=evaluation.failed,
                truncated=evaluation.truncated,
                seconds=round(evaluation.seconds, 6),
                summaries=summaries_of(evaluation),
                proof=proof,
            )
            self._ledger.append(record)
            self._to_judge(record, suite, evaluation)
        self._ledger.journal.sync_soon()

    # -- what can't be done -------------------------------------------------------------------------------------------

    def refuse(self, checkpoint: Checkpoint, error: CheckpointError | str) -> None:
        """A fault of the checkpoint's files as they are."""
        self._refuse(checkpoint, error)

    def fail(self, checkpoint: Checkpoint, adapter: Adapter, error: AssayError, *, final: bool, identity: str) -> None:
        """A try that came to nothing."""
        kind = type(error).__name__
        reason = self._refuse(checkpoint, error, kind)
        self.attempt(checkpoint, adapter.digest, identity, kind, reason, final=final)

    def _refuse(self, checkpoint: Checkpoint, error: AssayError | str, kind: str = "") -> str:
        """Say, count and journal it; the reason as records have it. kind: the class of what happened."""
        reason = printable(str(error))
        full = reason if isinstance(error, str) else in_full(error)
        self.set_aside(checkpoint, reason, kind, full=full)
        self.seen(checkpoint, "", full)
        return reason

    def attempt(
        self, checkpoint: Checkpoint, digest: str, identity: str, error: str, reason: str, *, final: bool = False
    ) -> None:
        """Journal a try that came to less than it should. final: another one would end the same."""
        self._ledger.append(
            Attempt(
                **_file_of(checkpoint),
                error=error,
                reason=reason,
                digest=digest,
                identity=identity,
                final=final,
            )
        )

    def leave_aside(self, checkpoint: Checkpoint, reason: str, last: Failed) -> None:
        """It is not tried again, as the plan has it. A last try that was final may have been another file's, of its weights."""
        self.set_aside(checkpoint, reason, last.error)
        known = self._ledger.last_seen(checkpoint)
        if last.final and (known is None or not known.reason):
            self.seen(checkpoint, "", reason)

    def set_aside(self, checkpoint: Checkpoint, reason: str, kind: str = "", *, full: str = "") -> None:
        """Count that it can't be used, and say so once. kind: the class of what happened. full: the reason with all details."""
        which, aside = (checkpoint.run, *checkpoint.file), self.outcome.aside
        if kind == AdapterMismatch.__name__:
            self.outcome.misfits.add(which)
        if aside.get(which, ("", ""))[1] != reason:
            self.say(f"{self.called(checkpoint)} cannot be used: {full or reason}")
        aside.setdefault(which, (checkpoint.label, reason))


def _file_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What records say of a checkpoint's file: whose it is, where it is, and its state."""
    return {
        "run": checkpoint.run,
        "checkpoint": checkpoint.label,
        "iteration": checkpoint.iteration,
        "host": checkpoint.host,
        "path": checkpoint.path,
        "size": checkpoint.size,
        "modified_ns": checkpoint.modified_ns,
        "config_size": checkpoint.config_size,
        "config_modified_ns": checkpoint.config_modified_ns,
    }
