"""The agent: find checkpoints, load each onto a base that is loaded once, prove it live, ask it the suites, journal everything.

Everything that costs is journaled under a key before anybody else learns of it, so the agent can be killed at any moment and
started again: it goes on where it was. Two things run beside each other: the scout looks for checkpoints and fetches them, and
the agent evaluates what is here, in the plan's order. The base runs in a child process (`assay.models.worker`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from assay import __version__
from assay.adapters.files import check_against
from assay.checkpoints.discover import Discovery
from assay.checkpoints.naming import FAMILIES, Family, names_of
from assay.errors import AssayError, BadInput, CheckpointError, EngineDied, EngineKilled, GenerationError, ModelError
from assay.evaluation import Evaluation, SampleResult, Subject, evaluate, use_of
from assay.hosts.base import Host
from assay.hosts.local import LocalHost
from assay.models.base import TextModel
from assay.models.open import Resolved, resolve
from assay.opened import OpenBase
from assay.plan import Candidate, Failed, Plan, PlanConfig, is_chosen, plan
from assay.proof import Fingerprint
from assay.results.index import Ledger
from assay.results.records import Attempt, CheckpointSeen, Finished, Run
from assay.scorers.base import check_suite
from assay.scout import Scout, Sighting, poll
from assay.staging import Staging
from assay.suites.suite import Suite
from assay.summaries import summaries_of
from assay.trial import Trial, again_if_dead
from assay.types import Adapter, Checkpoint, EngineSettings

# Checkpoints loaded by the engine at once: so many, and so many bytes unless one is larger.
_WINDOW = 16
_WINDOW_BYTES = 1 << 30
# Samples that may kill the engine twice before it is the checkpoint that kills it.
_DEADLY = 1
# An error's sentence names so many differences itself.
_FEW = 3
# What the watch means to do next, in the workspace, for `assay status`; nothing else reads it.
PLAN_FILE = "plan.json"


@dataclass(frozen=True, slots=True)
class Job:
    """What to watch and what to ask.

    folder: on `host`, which is this machine unless given. base: a model's spec; None takes what each checkpoint's configuration
    names, looked up in `bases` first. run: the run's name; None takes the folders'. every, plan: see `assay.plan`. limit:
    samples asked of each suite. fetch_bytes: copies of checkpoints held at once.
    """

    folder: PurePosixPath
    base: str | None
    suites: tuple[Suite, ...]
    run: str | None
    workspace: Path
    once: bool = False
    every: int | None = None
    limit: int | None = None
    poll_seconds: float = 10.0
    settings: EngineSettings = field(default_factory=EngineSettings)
    host: Host = field(default_factory=LocalHost)
    plan: PlanConfig = field(default_factory=PlanConfig)
    bases: Mapping[str, str] = field(default_factory=dict)
    families: tuple[Family, ...] = FAMILIES
    fetch_bytes: int = 20 << 30


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

    unusable: label and reason of checkpoints that couldn't be evaluated; unproven: labels; runs: those that were seen.
    """

    evaluated: int = 0
    failed_samples: int = 0
    unproven: list[str] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 1 if self.unusable or self.unproven or self.failed_samples else 0


async def watch(job: Job, ledger: Ledger, observer: Observer) -> Outcome:
    """Evaluate the folder's checkpoints; with `job.once` those that are there, else for ever.

    Raises `BadInput` for what is wrong with the job itself, `Unreachable` if a host can't be reached; faults of one checkpoint
    are in the outcome.
    """
    await check_job(job)
    agent = _Agent(job, ledger, observer)
    try:
        return await agent.run()
    finally:
        await agent.aclose()


def settings_of(job: Job) -> PlanConfig:
    """The plan's settings, with what the job's own fields say."""
    config = job.plan
    return PlanConfig(
        config.order,
        job.every if job.every is not None else config.every,
        config.filters,
        config.force,
        config.attempts,
        config.backoff_seconds,
        config.backoff_cap_seconds,
        patient=not job.once,
    )


async def check_job(job: Job) -> list[Checkpoint]:
    """The checkpoints that are there and chosen. Raises `BadInput` for all that can be seen without loading anything."""
    for suite in job.suites:
        check_suite(suite)
    if job.base is not None:
        _resolved(job.base)
    discovery = Discovery(job.host, job.folder, job.run, job.families)
    found = await discovery.look()
    config = settings_of(job)
    chosen = [c for c in found.checkpoints if is_chosen(c, config)]
    refused = [r for r in found.refused if is_chosen(r.checkpoint, config)]
    if job.once and not chosen and not refused:
        _nothing(job, len(found.checkpoints))
    if job.base is None and chosen and not any([await discovery.base_of(c) for c in chosen]):
        raise BadInput(
            "no base model: the checkpoints' configurations name none; name one with --base, or in assay.toml under [watch]"
        )
    return chosen


def _nothing(job: Job, found: int) -> None:
    if not found:
        raise BadInput(
            f"{job.folder} holds no checkpoint (expected 0000100_adapters.safetensors, "
            "checkpoint-100/adapter_model.safetensors and the like); name another folder, or leave out --once to wait for one"
        )
    if job.plan.filters:
        raise BadInput(f"none of the {found} checkpoints in {job.folder} fits --filter {' '.join(job.plan.filters)}")
    raise BadInput(f"none of the {found} checkpoints in {job.folder} is at a multiple of --every {job.every}")


def _resolved(base: str) -> Resolved:
    resolved = resolve(base)
    if resolved.remote:
        raise BadInput(
            f"a base behind a URL ({base}) can't take the checkpoints found here; name a local model as base"
        )
    return resolved


class _Agent:
    def __init__(self, job: Job, ledger: Ledger, observer: Observer) -> None:
        self._job = job
        self._ledger = ledger
        self._observer = observer
        self._config = settings_of(job)
        self._staging = Staging(job.workspace / "staged", job.fetch_bytes)
        discovery = Discovery(job.host, job.folder, job.run, job.families)
        self._scout = Scout(
            job.host, discovery, self._staging, ledger, self._config, observer.note, self._refuse, self._fetched
        )
        self._base: OpenBase | None = None
        self._identities: dict[str, str] = {}
        self._labels: dict[tuple[str, str], str] = {}
        self._dealt: set[tuple[str, str]] = set()
        self._settled: set[tuple[str, str]] = set()
        self._said: set[str] = set()
        self._expecting = False
        self._told = ""
        self._last_waiting = ""
        self._outcome = Outcome()
        self._tasks: list[asyncio.Task[None]] = []

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._base is not None:
            await self._base.model.aclose()
        self._staging.tidy()
        self._ledger.journal.sync()

    async def run(self) -> Outcome:
        await self._recover()
        if self._job.base is not None:
            await self._open(self._job.base)
        await self._scout.look()
        self._check_runs()
        self._tasks = [asyncio.create_task(self._scout.fetch_on())]
        if not self._job.once:
            self._tasks.append(asyncio.create_task(poll(self._scout, self._job.poll_seconds, self._observer.note)))
        first = True
        while True:
            self._scout.changed.clear()
            plan_now = self._plan()
            if first:
                await self._begin(plan_now)
                first = False
            if not await self._step(plan_now) and not await self._wait(plan_now):
                break
        self._staging.clear_halves()
        return self._outcome

    # -- what is there ------------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Know the copies that an earlier process left, also of checkpoints that are gone from the host by now."""
        mine = {r.digest: r for r in self._ledger.seen() if r.digest and self._is_mine(r)}
        await self._staging.recover(set(mine))
        for digest, record in mine.items():
            if self._staging.get(digest) is not None:
                self._scout.remember(_checkpoint_of(record), digest, "")

    def _is_mine(self, record: CheckpointSeen) -> bool:
        """Whether a checkpoint was seen in the folder that is watched now."""
        if record.host != self._job.host.name or self._job.run not in (None, record.run):
            return False
        if record.host:
            return PurePosixPath(record.path).is_relative_to(self._job.folder)
        return Path(record.path).resolve().is_relative_to(Path(self._job.folder).resolve())

    def _absolute(self) -> PurePosixPath:
        """The watched folder, on this machine as it really is: commands may run from anywhere."""
        return PurePosixPath(Path(self._job.folder).resolve()) if not self._job.host.name else self._job.folder

    def _default_run(self) -> str:
        return self._job.run or names_of(self._absolute(), self._job.families).run

    def _check_runs(self) -> None:
        """One run is one folder of one host; one that is no longer there may have been moved here."""
        runs = set(self._scout.runs) or {self._default_run()}
        for record in self._ledger.seen():
            if record.run not in runs or self._is_mine(record):
                continue
            elsewhere = record.host != self._job.host.name
            folder = PurePosixPath(record.path).parent
            if elsewhere or Path(folder).is_dir():
                raise BadInput(
                    f"the run {record.run!r} in {self._job.workspace} is that of another folder, {record.host}{folder}; "
                    "give this one a name of its own with --run"
                )

    def _plan(self) -> Plan:
        candidates = [
            self._candidate(s) for s in self._scout.sightings if s.ready and not s.fault and self._has_base(s)
        ]
        made = plan(candidates, self._config, time.time())
        for candidate, reason in made.aside:
            self._set_aside(candidate.checkpoint, reason, journaled=True)
        for twin, known in made.twins:
            self._twin(twin.checkpoint, known.checkpoint)
            if twin.digest and twin.digest not in {c.digest for c in made.work}:
                self._staging.drop(twin.digest)
        for candidate in made.done:
            self._staging.drop(candidate.digest)
        sightings = {s.checkpoint.file: s for s in self._scout.sightings}
        self._scout.want([sightings[c.checkpoint.file] for c in made.work])
        self._tell(made)
        return made

    def _tell(self, made: Plan) -> None:
        """Leave word of the plan where `assay status` looks. Whether that works matters to nothing else."""
        later = [[c.checkpoint.label, round(time.time() + wait), c.failed[-1].reason] for c, wait in made.later]
        work = [c.checkpoint.label for c in made.work]
        text = json.dumps({"work": work, "later": later, "waiting": self._scout.waiting})
        if text != self._told:
            self._told = text
            with contextlib.suppress(OSError):
                temporary = self._job.workspace / f".{PLAN_FILE}"
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(self._job.workspace / PLAN_FILE)

    def _candidate(self, sighting: Sighting) -> Candidate:
        checkpoint, digest = sighting.checkpoint, sighting.digest
        identity = self._identities.get(self._spec(sighting), "")
        tries = [a for a in self._ledger.attempts(checkpoint) if a.identity in ("", identity)]
        return Candidate(
            checkpoint,
            digest,
            unfinished=not (digest and identity) or bool(self._open_suites(checkpoint.run, digest, identity)),
            dealt=(checkpoint.run, digest) in self._dealt,
            failed=tuple(Failed(a.time, a.reason, a.final) for a in tries),
        )

    def _spec(self, sighting: Sighting) -> str:
        named = sighting.base
        return self._job.base if self._job.base is not None else self._job.bases.get(named, named)

    def _has_base(self, sighting: Sighting) -> bool:
        if self._spec(sighting):
            return True
        where = sighting.checkpoint.config
        self._refuse(sighting.checkpoint, f"{where} names no base model; name one with --base")
        sighting.fault = "no base"
        return False

    def _twin(self, twin: Checkpoint, known: Checkpoint) -> None:
        self._settle(twin.run, twin.path)
        if twin.label != known.label and twin.numbered:
            self._say(f"{twin.label} has the weights of {known.label}: one checkpoint, evaluated once")

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._observer.note(text)

    def _fetched(self, checkpoint: Checkpoint, adapter: Adapter) -> None:
        label = self._labels.setdefault((checkpoint.run, adapter.digest), checkpoint.label)
        if label == checkpoint.label or checkpoint.numbered:
            self._journal_seen(checkpoint, adapter.digest)

    # -- what is done -------------------------------------------------------------------------------------------------

    async def _begin(self, made: Plan) -> None:
        """What a start says and journals: what lies ahead, and the named base's own answers."""
        runs = list(dict.fromkeys([*self._scout.runs, *(c.checkpoint.run for c in made.work)])) or [self._default_run()]
        base = self._base
        ahead = len(made.work) + len(made.done) + len(made.later)
        open_base = (
            [self._samples(self._open_suites(run, "", base.identity)) for run in runs] if base is not None else []
        )
        self._observer.expect(self._samples() * ahead + sum(open_base))
        self._expecting = True
        if base is not None:
            for run in runs:
                await self._answer_base(base, run)

    async def _step(self, made: Plan) -> bool:
        """Evaluate a window of what is here; False if nothing is."""
        for candidate in made.done:
            self._settle(candidate.checkpoint.run, candidate.digest)
        sightings = {s.checkpoint.file: s for s in self._scout.sightings}
        here: list[tuple[Sighting, Adapter]] = []
        for candidate in made.work:
            # What was fetched since the plan was made may turn out to be a twin: the next plan knows.
            adapter = self._staging.get(candidate.digest) if candidate.digest else None
            if adapter is not None:
                here.append((sightings[candidate.checkpoint.file], adapter))
        if not here or not (self._scout.idle or len(here) >= _WINDOW):
            return False
        spec = self._spec(here[0][0])
        if self._base is not None and any(self._spec(s) == self._base.name for s, _ in here):
            spec = self._base.name
        base = await self._opened(spec, [s for s, _ in here if self._spec(s) == spec])
        self._last_waiting = ""  # what is said while it waits is said again after work
        if base is not None:
            await self._window(base, _window([(s.checkpoint, a) for s, a in here if self._spec(s) == spec]))
        return True

    async def _wait(self, made: Plan) -> bool:
        """Wait for something new; False if a single look has nothing left."""
        if self._job.once and not made.work and self._scout.idle:
            return False
        if not self._job.once and not made.work:
            self._say_waiting()
        seconds = made.later[0][1] if made.later else None
        failed = [task for task in self._tasks if task.done()]
        for task in failed:
            task.result()
        changed = asyncio.create_task(self._scout.changed.wait())
        try:
            await asyncio.wait({changed, *self._tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        return True

    def _say_waiting(self) -> None:
        text = f"waiting for {self._scout.waiting}"
        if text != self._last_waiting:
            self._last_waiting = text
            self._observer.note(text)

    async def _opened(self, spec: str, waiting: Sequence[Sighting]) -> OpenBase | None:
        """The base of these checkpoints, loaded in place of another one; None if it can't be, which is their fault then."""
        if self._base is not None and self._base.name == spec:
            return self._base
        try:
            return await self._open(spec)
        except ModelError as error:
            for sighting in waiting:
                sighting.fault = str(error)
                self._refuse(sighting.checkpoint, f"its base can't be opened: {error}")
            return None

    async def _open(self, spec: str) -> OpenBase:
        if self._base is not None:
            await self._base.model.aclose()
            self._base = None
        resolved = _resolved(spec)
        if resolved.why:
            self._observer.note(f"engine: {resolved.engine} ({resolved.why})")
        self._base = await OpenBase.open(spec, resolved, self._job.settings, self._ledger)
        self._identities[spec] = self._base.identity
        return self._base

    async def _answer_base(self, base: OpenBase, run: str) -> None:
        """Journal that this run is asked on this base, and the base's own answers, once in a watch."""
        if run in base.runs:
            return
        base.runs.add(run)
        if run not in self._outcome.runs:
            self._outcome.runs.append(run)
        info = base.model.info
        tag, run_id = self._names(run)
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
            )
        )
        subject = Subject(run)
        suites = self._open_suites(run, "", base.identity)
        self._finish(base, subject, await self._suites(base.model, subject, str, suites), "")
        self._observer.settled(self._samples(suites))

    def _names(self, run: str) -> tuple[str, str]:
        """go-ml's names for the run's model and the run."""
        for sighting in self._scout.sightings:
            if sighting.checkpoint.run == run and sighting.checkpoint.run_id:
                return sighting.checkpoint.tag, sighting.checkpoint.run_id
        known = self._ledger.run(run)
        if known is not None and known.run_id:
            return known.tag, known.run_id
        names = names_of(self._absolute(), self._job.families)
        return names.tag, names.run_id

    def _samples(self, suites: Sequence[Suite] | None = None) -> int:
        """How many samples one pass through the suites asks."""
        limit = self._job.limit
        lengths = [len(s.samples) for s in (self._job.suites if suites is None else suites)]
        return sum(length if limit is None else min(limit, length) for length in lengths)

    def _open_suites(self, run: str, digest: str, identity: str) -> list[Suite]:
        limit = self._job.limit or 0
        return [s for s in self._job.suites if self._ledger.finished(run, digest, s.digest, identity, limit) is None]

    def _settle(self, run: str, which: str) -> None:
        """Count a checkpoint's samples as done with, once. which: its digest; a twin's path."""
        if (run, which) not in self._settled:
            self._settled.add((run, which))
            if self._expecting:
                self._observer.settled(self._samples())

    async def _window(self, base: OpenBase, window: Sequence[tuple[Checkpoint, Adapter]]) -> None:
        fitting: list[tuple[Checkpoint, Adapter]] = []
        for checkpoint, adapter in window:
            await self._answer_base(base, checkpoint.run)
            self._dealt.add((checkpoint.run, adapter.digest))
            try:
                if base.shapes:
                    check_against(adapter, base.shapes)
                fitting.append((checkpoint, adapter))
            except CheckpointError as error:
                self._fail(checkpoint, adapter, error, final=True, identity=base.identity)
        with contextlib.suppress(CheckpointError, GenerationError):
            # One may not fit or kill the engine: one by one finds out which.
            await base.model.expect([a for _, a in fitting])
        for checkpoint, adapter in fitting:
            self._journal_seen(checkpoint, adapter.digest)
            await self._checkpoint(base, checkpoint, adapter)
        for checkpoint, adapter in window:
            self._settle(checkpoint.run, adapter.digest)
            if not self._open_suites(checkpoint.run, adapter.digest, base.identity):
                self._staging.drop(adapter.digest)

    async def _checkpoint(self, base: OpenBase, checkpoint: Checkpoint, adapter: Adapter) -> None:
        try:
            attached = await again_if_dead(lambda: base.model.attach(adapter))
            try:
                failed = await self._prove_and_evaluate(base, checkpoint, adapter, attached)
            finally:
                await attached.aclose()
        except (CheckpointError, GenerationError) as error:
            killed = isinstance(error, EngineDied | EngineKilled)
            final = killed or isinstance(error, CheckpointError)
            self._fail(checkpoint, adapter, error, final=final, identity=base.identity)
            return
        self._outcome.evaluated += 1
        if failed:
            self._journal_attempt(checkpoint, adapter.digest, base.identity, "samples", f"{failed} samples failed")

    async def _prove_and_evaluate(
        self, base: OpenBase, checkpoint: Checkpoint, adapter: Adapter, attached: TextModel
    ) -> int:
        """How many samples failed."""
        subject = Subject(checkpoint.run, checkpoint.label, checkpoint.iteration, adapter.digest)
        forced = self._config.force
        suites = list(self._job.suites)
        if not forced:
            suites = self._open_suites(checkpoint.run, adapter.digest, base.identity)
        others = self._others(base, checkpoint.run, adapter)
        trial = Trial(self._ledger, subject, attached, await base.baseline(), others, base.model)
        verdict, evaluations = await trial.run(
            lambda batch: self._suites(attached, subject, batch, suites, fresh=forced, deadly=_DEADLY),
            self._observer.note,
        )
        if verdict.verdict == "live":
            base.prints[adapter.digest] = trial.before
        else:
            self._outcome.unproven.append(checkpoint.label)
            self._observer.note(f"{checkpoint.label} is unproven: {verdict.reason}")
        self._finish(base, subject, evaluations, "live" if verdict.verdict == "live" else "unproven")
        return sum(evaluation.failed for _, evaluation in evaluations)

    def _others(self, base: OpenBase, run: str, adapter: Adapter) -> dict[str, Fingerprint]:
        names = {digest: label for (each, digest), label in self._labels.items() if each == run}
        return {names.get(d, f"adapter {d[:12]}"): p for d, p in base.prints.items() if d != adapter.digest}

    async def _suites(
        self,
        model: TextModel,
        subject: Subject,
        batch: Callable[[], str],
        suites: Sequence[Suite],
        fresh: bool = False,
        deadly: int | None = None,
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
                fresh=fresh,
                deadly=deadly,
                on_result=self._observer.answered,
            )
            done.append((suite, evaluation))
        return done

    def _finish(
        self, base: OpenBase, subject: Subject, evaluations: Sequence[tuple[Suite, Evaluation]], proof: str
    ) -> None:
        for suite, evaluation in evaluations:
            self._outcome.failed_samples += evaluation.failed
            limit = self._job.limit
            self._ledger.append(
                Finished(
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
            )
        self._ledger.journal.sync_soon()

    # -- what can't be done -------------------------------------------------------------------------------------------

    def _refuse(self, checkpoint: Checkpoint, error: CheckpointError | str) -> None:
        """A fault of the checkpoint's files as they are."""
        self._set_aside(checkpoint, str(error), getattr(error, "differences", ()))

    def _fail(self, checkpoint: Checkpoint, adapter: Adapter, error: AssayError, *, final: bool, identity: str) -> None:
        """A try that came to nothing."""
        self._set_aside(checkpoint, str(error), getattr(error, "differences", ()))
        self._journal_attempt(checkpoint, adapter.digest, identity, type(error).__name__, str(error), final=final)

    def _journal_attempt(
        self, checkpoint: Checkpoint, digest: str, identity: str, error: str, reason: str, *, final: bool = False
    ) -> None:
        self._ledger.append(
            Attempt(
                run=checkpoint.run,
                checkpoint=checkpoint.label,
                iteration=checkpoint.iteration,
                host=checkpoint.host,
                path=checkpoint.path,
                size=checkpoint.size,
                modified_ns=checkpoint.modified_ns,
                config_size=checkpoint.config_size,
                config_modified_ns=checkpoint.config_modified_ns,
                error=error,
                reason=reason,
                digest=digest,
                identity=identity,
                final=final,
            )
        )

    def _set_aside(
        self, checkpoint: Checkpoint, reason: str, differences: Sequence[str] = (), *, journaled: bool = False
    ) -> None:
        headline = reason.partition(": ")[0] if len(differences) > _FEW else reason
        full = "\n  ".join([headline, *differences]) if len(differences) > _FEW else reason
        self._say(f"{checkpoint.label} cannot be used: {full}")
        if all(label != checkpoint.label for label, _ in self._outcome.unusable):
            self._outcome.unusable.append((checkpoint.label, reason))
        if not journaled:
            self._journal_seen(checkpoint, "", full)

    def _journal_seen(self, checkpoint: Checkpoint, digest: str, reason: str = "") -> None:
        record = CheckpointSeen(
            run=checkpoint.run,
            checkpoint=checkpoint.label,
            iteration=checkpoint.iteration,
            path=checkpoint.path,
            size=checkpoint.size,
            modified_ns=checkpoint.modified_ns,
            digest=digest,
            reason=reason,
            host=checkpoint.host,
            config_size=checkpoint.config_size,
            config_modified_ns=checkpoint.config_modified_ns,
        )
        if not self._ledger.has_seen(record):
            self._ledger.append(record)


def _window(here: Sequence[tuple[Checkpoint, Adapter]]) -> list[tuple[Checkpoint, Adapter]]:
    """As many, from the first, as the engine loads at once."""
    window: list[tuple[Checkpoint, Adapter]] = []
    size = 0
    for checkpoint, adapter in here:
        size += checkpoint.size
        if window and (len(window) == _WINDOW or size > _WINDOW_BYTES):
            break
        window.append((checkpoint, adapter))
    return window


def _checkpoint_of(record: CheckpointSeen) -> Checkpoint:
    """A checkpoint as the journal remembers it."""
    path = PurePosixPath(record.path)
    return Checkpoint(
        run=record.run,
        iteration=record.iteration,
        weights=path,
        config=path.parent / "adapter_config.json",
        size=record.size,
        modified_ns=record.modified_ns,
        config_size=record.config_size,
        config_modified_ns=record.config_modified_ns,
        host=record.host,
        name=record.checkpoint,
    )
