"""The agent: find checkpoints, load each onto a base that is loaded once, prove it live, ask it the suites, journal everything.

Everything that costs is journaled under a key before anybody else learns of it, so the agent can be killed at any moment and
started again: it goes on where it was. The base runs in a child process (`assay.models.worker`).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from assay import __version__
from assay.adapters.files import check_against, stage
from assay.adapters.fit import base_shapes
from assay.checkpoints.discover import discover
from assay.checkpoints.readiness import UNSETTLED, Look, Readiness
from assay.errors import BadInput, CheckpointError, GenerationError, WorkspaceError
from assay.evaluation import Evaluation, SampleResult, Subject, evaluate, use_of
from assay.models.base import TextModel
from assay.models.open import Resolved, resolve
from assay.models.worker import WorkerModel
from assay.proof import Baseline, Fingerprint, baseline
from assay.results.index import Ledger
from assay.results.records import CheckpointSeen, Finished, Run
from assay.scorers.base import check_suite
from assay.suites.suite import Suite
from assay.trial import Trial, again_if_dead
from assay.types import Adapter, Checkpoint, EngineSettings

# Checkpoints copied into the workspace, and loaded by the engine, at once: so many, and so many bytes unless one is larger.
_WINDOW = 16
_WINDOW_BYTES = 1 << 30
# An error's sentence names so many differences itself.
_FEW = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What to watch and what to ask. every: only iterations that it divides. limit: samples asked of each suite."""

    folder: Path
    base: str
    suites: tuple[Suite, ...]
    run: str
    workspace: Path
    once: bool = False
    every: int | None = None
    limit: int | None = None
    poll_seconds: float = 10.0
    settings: EngineSettings = field(default_factory=EngineSettings)


class Observer(Protocol):
    """Who is told what happens; nothing depends on it."""

    def note(self, text: str) -> None: ...

    def expect(self, samples: int) -> None: ...

    def settled(self, samples: int) -> None: ...

    def subject(self, label: str, suite: str) -> None: ...

    def answered(self, result: SampleResult) -> None: ...


@dataclass(slots=True)
class Outcome:
    """What a watch came to. unusable: label and reason of checkpoints that couldn't be evaluated; unproven: their labels."""

    evaluated: int = 0
    failed_samples: int = 0
    unproven: list[str] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 1 if self.unusable or self.unproven or self.failed_samples else 0


async def watch(job: Job, ledger: Ledger, observer: Observer) -> Outcome:
    """Evaluate the folder's checkpoints; with `job.once` those that are there, else for ever.

    Raises `BadInput` for what is wrong with the job itself; faults of one checkpoint are in the outcome.
    """
    resolved = check_job(job)
    # An engine from elsewhere checks its adapters itself: what its path names is its own business.
    shapes = base_shapes(Path(resolved.path)) if resolved.engine in ("llama", "mlx") else {}
    if resolved.why:
        observer.note(f"engine: {resolved.engine} ({resolved.why})")
    base = await WorkerModel.open(resolved.spec, job.settings)
    try:
        return await _Agent(job, ledger, observer, base, shapes).run()
    finally:
        await base.aclose()


def check_job(job: Job) -> Resolved:
    """Which engine will open the base. Raises `BadInput` for all that can be seen without loading anything."""
    for suite in job.suites:
        check_suite(suite)
    resolved = resolve(job.base)
    if resolved.remote:
        raise BadInput(
            f"a base behind a URL ({job.base}) can't take the checkpoints found here; name a local model as base"
        )
    found = discover(job.folder, job.run)
    if job.once:
        _check_found(job, found)
    return resolved


def _check_found(job: Job, found: Sequence[Checkpoint]) -> None:
    if not found:
        raise BadInput(
            f"{job.folder} holds no checkpoint (expected 0000100_adapters.safetensors and the like); "
            "name another folder, or leave out --once to wait for one"
        )
    if not _chosen(found, job.every):
        raise BadInput(f"none of the {len(found)} checkpoints in {job.folder} is at a multiple of --every {job.every}")


def _check_run(job: Job, folders: set[str]) -> None:
    """One run is one folder; one that is no longer there may have been moved here."""
    for folder in sorted(folders):
        if Path(folder).is_dir() and Path(folder).resolve() != job.folder.resolve():
            raise BadInput(
                f"the run {job.run!r} in {job.workspace} is that of another folder, {folder}; "
                "give this one a name of its own with --run"
            )


def _chosen(found: Sequence[Checkpoint], every: int | None) -> list[Checkpoint]:
    return [c for c in found if every is None or c.iteration % every == 0]


def _windows(checkpoints: Sequence[Checkpoint]) -> list[list[Checkpoint]]:
    windows: list[list[Checkpoint]] = []
    for checkpoint in checkpoints:
        last = windows[-1] if windows else []
        if not last or len(last) == _WINDOW or sum(c.size for c in last) + checkpoint.size > _WINDOW_BYTES:
            windows.append([])
        windows[-1].append(checkpoint)
    return windows


def _waiting(look: Look) -> str:
    """What is waited for: nothing is said of files that merely have to be seen unchanged once more."""
    written = [f"{checkpoint.label} ({reason})" for checkpoint, reason in look.waiting if reason != UNSETTLED]
    return "; ".join(written) or "the next checkpoint"


class _Agent:
    def __init__(
        self,
        job: Job,
        ledger: Ledger,
        observer: Observer,
        base: WorkerModel,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        self._job = job
        self._ledger = ledger
        self._observer = observer
        self._base = base
        self._shapes = shapes
        self._identity = base.info.identity
        self._stage = job.workspace / "staged"
        self._baseline: Baseline | None = None
        self._prints: dict[str, Fingerprint] = ledger.fingerprints(self._identity)
        self._labels: dict[str, str] = {}
        self._outcome = Outcome()

    async def run(self) -> Outcome:
        job = self._job
        _check_run(job, self._ledger.folders(job.run))
        self._ledger.append(
            Run(
                run=job.run,
                base=job.base,
                engine=self._base.info.engine,
                engine_version=self._base.info.engine_version,
                identity=self._identity,
                declared=self._base.info.declared,
                suites=tuple(use_of(s) for s in job.suites),
                assay_version=__version__,
            )
        )
        shutil.rmtree(self._stage, ignore_errors=True)  # copies that a killed watch left behind
        readiness = Readiness(once=job.once)
        try:
            await self._rounds(readiness)
        finally:
            shutil.rmtree(self._stage, ignore_errors=True)
            self._ledger.journal.sync()
        return self._outcome

    async def _rounds(self, readiness: Readiness) -> None:
        waited_for = ""
        base_done = False
        while True:
            look = readiness.look(_chosen(self._find(), self._job.every))
            self._observer.expect(
                self._samples() * len(look.ready) + (0 if base_done else self._samples(self._open_suites("")))
            )
            if not base_done:
                await self._evaluate_base()
                base_done = True
            for checkpoint, reason in look.broken:
                self._set_aside(checkpoint, reason)
                readiness.settle(checkpoint)
            for window in _windows(look.ready):
                await self._window(window)
                for checkpoint in window:
                    readiness.settle(checkpoint)
            if self._job.once:
                return
            waiting = _waiting(look)
            if waiting != waited_for:
                self._observer.note(f"waiting for {waiting}")
                waited_for = waiting
            await asyncio.sleep(self._job.poll_seconds)

    def _find(self) -> list[Checkpoint]:
        try:
            return discover(self._job.folder, self._job.run)
        except BadInput as error:  # it was there at the start: a file system may come back
            self._observer.note(f"{error}; looking again")
            return []

    def _samples(self, suites: Sequence[Suite] | None = None) -> int:
        """How many samples one pass through the suites asks."""
        limit = self._job.limit
        lengths = [len(s.samples) for s in (self._job.suites if suites is None else suites)]
        return sum(length if limit is None else min(limit, length) for length in lengths)

    async def _evaluate_base(self) -> None:
        subject = Subject(self._job.run)
        suites = self._open_suites("")
        self._finish(subject, await self._suites(self._base, subject, str, suites))
        self._observer.settled(self._samples(suites))

    def _open_suites(self, digest: str) -> list[Suite]:
        return [s for s in self._job.suites if self._finished(digest, s) is None]

    def _finished(self, digest: str, suite: Suite) -> Finished | None:
        return self._ledger.finished(self._job.run, digest, suite.digest, self._identity, self._job.limit or 0)

    async def _window(self, window: Sequence[Checkpoint]) -> None:
        adapters: dict[str, tuple[Checkpoint, Adapter]] = {}
        for checkpoint in window:
            adapter = self._staged(checkpoint)
            if adapter is None:
                continue
            twin = self._labels.get(adapter.digest)
            if twin is not None and twin != checkpoint.label:
                self._observer.note(f"{checkpoint.label} has the weights of {twin}: one checkpoint, evaluated once")
                continue
            self._labels[adapter.digest] = checkpoint.label
            adapters[adapter.digest] = checkpoint, adapter
        work = [(c, a) for c, a in adapters.values() if self._has_work(a)]
        if work:
            await self._announce([a for _, a in work])
        for checkpoint, adapter in adapters.values():
            self._journal_seen(checkpoint, adapter.digest)
            if (checkpoint, adapter) in work:
                await self._checkpoint(checkpoint, adapter)
                self._observer.settled(self._samples())
        self._observer.settled(self._samples() * (len(window) - len(work)))
        for _, adapter in adapters.values():
            shutil.rmtree(adapter.weights.parent, ignore_errors=True)

    def _has_work(self, adapter: Adapter) -> bool:
        return bool(self._open_suites(adapter.digest))

    async def _announce(self, adapters: Sequence[Adapter]) -> None:
        try:
            await self._base.expect(adapters)
        except (CheckpointError, GenerationError):  # one doesn't fit or kills the engine: one by one finds out which
            return

    def _staged(self, checkpoint: Checkpoint) -> Adapter | None:
        try:
            adapter = stage(checkpoint, self._stage)
            if self._shapes:
                check_against(adapter, self._shapes)
            return adapter
        except CheckpointError as error:
            self._set_aside(checkpoint, str(error), getattr(error, "differences", ()))
            return None
        except OSError as error:
            raise WorkspaceError(
                f"{checkpoint.weights} could not be copied to {self._stage} ({error.strerror}); what was earned is safe: "
                "make room and run the same command again"
            ) from error

    def _set_aside(self, checkpoint: Checkpoint, reason: str, differences: Sequence[str] = ()) -> None:
        headline = reason.partition(": ")[0] if len(differences) > _FEW else reason
        full = "\n  ".join([headline, *differences]) if len(differences) > _FEW else reason
        self._observer.note(f"{checkpoint.label} cannot be used: {full}")
        self._outcome.unusable.append((checkpoint.label, reason))
        self._journal_seen(checkpoint, "", full)

    def _journal_seen(self, checkpoint: Checkpoint, digest: str, reason: str = "") -> None:
        record = CheckpointSeen(
            run=self._job.run,
            checkpoint=checkpoint.label,
            iteration=checkpoint.iteration,
            path=str(checkpoint.weights.absolute()),
            size=checkpoint.size,
            modified_ns=checkpoint.modified_ns,
            digest=digest,
            reason=reason,
        )
        if not self._ledger.has_seen(record):
            self._ledger.append(record)

    async def _checkpoint(self, checkpoint: Checkpoint, adapter: Adapter) -> None:
        try:
            attached = await again_if_dead(lambda: self._base.attach(adapter))
            try:
                await self._prove_and_evaluate(checkpoint, adapter, attached)
            finally:
                await attached.aclose()
        except (CheckpointError, GenerationError) as error:
            self._set_aside(checkpoint, str(error), getattr(error, "differences", ()))
            return
        self._outcome.evaluated += 1

    async def _prove_and_evaluate(self, checkpoint: Checkpoint, adapter: Adapter, attached: TextModel) -> None:
        subject = Subject(self._job.run, checkpoint.label, checkpoint.iteration, adapter.digest)
        if self._baseline is None:
            self._baseline = await again_if_dead(lambda: baseline(self._base))
        suites = self._open_suites(adapter.digest)
        trial = Trial(self._ledger, subject, attached, self._baseline, self._others(adapter), self._base)
        verdict, evaluations = await trial.run(
            lambda batch: self._suites(attached, subject, batch, suites), self._observer.note
        )
        if verdict.verdict == "live":
            self._prints[adapter.digest] = trial.before
        else:
            self._outcome.unproven.append(checkpoint.label)
            self._observer.note(f"{checkpoint.label} is unproven: {verdict.reason}")
        self._finish(subject, evaluations)

    def _others(self, adapter: Adapter) -> dict[str, Fingerprint]:
        return {self._labels.get(d, f"adapter {d[:12]}"): p for d, p in self._prints.items() if d != adapter.digest}

    async def _suites(
        self, model: TextModel, subject: Subject, batch: Callable[[], str], suites: Sequence[Suite]
    ) -> list[tuple[Suite, Evaluation]]:
        done: list[tuple[Suite, Evaluation]] = []
        for suite in suites:
            self._observer.subject(subject.checkpoint, suite.name)
            evaluation = await evaluate(
                model,
                suite,
                ledger=self._ledger,
                subject=subject,
                batch=batch,
                limit=self._job.limit,
                on_result=self._observer.answered,
            )
            done.append((suite, evaluation))
        return done

    def _finish(self, subject: Subject, evaluations: Sequence[tuple[Suite, Evaluation]]) -> None:
        for suite, evaluation in evaluations:
            self._outcome.failed_samples += evaluation.failed
            limit = self._job.limit
            self._ledger.append(
                Finished(
                    run=subject.run,
                    checkpoint=subject.checkpoint,
                    iteration=subject.iteration,
                    digest=subject.digest,
                    identity=self._identity,
                    suite=suite.name,
                    suite_version=suite.version,
                    suite_digest=suite.digest,
                    limit=limit if limit is not None and limit < len(suite.samples) else 0,
                    asked=evaluation.asked,
                    scored=evaluation.scored,
                    failed=evaluation.failed,
                    truncated=evaluation.truncated,
                    seconds=round(evaluation.seconds, 6),
                )
            )
        self._ledger.journal.sync_soon()
