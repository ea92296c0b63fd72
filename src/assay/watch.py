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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from assay.account import Account, Observer, Outcome
from assay.checkpoints.layouts import run_folder_of
from assay.checkpoints.naming import called
from assay.copies import STAGED, base_of_copy, checkpoint_of, copies_left, foreign_copies, own_copies
from assay.errors import BadInput, ModelError
from assay.hosts.base import shown
from assay.job import Job, check_job, settings_of
from assay.judge_queue import JudgeQueue
from assay.models.open import resolve
from assay.opened import OpenBase
from assay.paths import text_path
from assay.plan import Candidate, Failed, Plan, is_chosen, plan
from assay.results.index import Ledger
from assay.scorers.base import check_suite
from assay.scout import Scout, Sighting, poll
from assay.staging import Staging
from assay.turns import WINDOW, Turns, next_window
from assay.types import Adapter
from assay.weighing import check_weighing

# What the watch means to do next, in the workspace, for `assay status`; nothing else reads it.
PLAN_FILE = "plan.json"
# Why a checkpoint has no base: the end of its reason.
NO_BASE = "names no base model; name one with --base"
# Seconds that what is here waits for what is still being fetched: some engines load their base again to take adapters in.
_TOGETHER = 1.0


async def watch(job: Job, ledger: Ledger, observer: Observer) -> Outcome:
    """Evaluate the folder's checkpoints; with `job.once` those that are there, else for ever.

    Raises `BadInput` for what is wrong with the job itself, `Unreachable` if a host can't be reached; faults of one checkpoint
    are in the outcome.
    """
    await check_job(job, ledger.files(), len(copies_left(job, ledger)), observer.note)
    agent = _Agent(job, ledger, observer)
    try:
        return await agent.run()
    finally:
        await agent.aclose()


class _Agent:
    def __init__(self, job: Job, ledger: Ledger, observer: Observer) -> None:
        self._job = job
        self._ledger = ledger
        self._judges = (
            JudgeQueue(job, job.judge, ledger, observer.note, self._judged) if job.judge is not None else None
        )
        self._account = Account(job, ledger, observer, *([self._judges.add] if self._judges is not None else []))
        self._config = settings_of(job)
        self._staging = Staging(job.workspace / STAGED, job.fetch_bytes)
        self._scout = Scout(
            job.host,
            job.discovery(ledger.files()),
            self._staging,
            ledger,
            self._config,
            observer.note,
            self._account.refuse,
            self._account.fetched,
            self._account.known,
            self._account.gone,
        )
        self._account.runs = self._scout.runs
        self._turns = Turns(job, ledger, self._account)
        self._base: OpenBase | None = None
        self._identities: dict[str, str] = {}
        self._told = ""
        self._last_waiting = ""
        self._tried = False
        self._here_since: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._judging: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._base is not None:
            await self._base.model.aclose()
        if self._judges is not None:
            await self._judges.aclose()
        self._staging.tidy()
        self._ledger.journal.sync()

    async def run(self) -> Outcome:
        if self._judges is not None:
            self._judging = asyncio.create_task(self._judges.run())
            self._tasks.append(self._judging)
        elif unjudged := [s.name for s in self._job.suites if s.rubrics]:
            self._account.observer.note(
                f"nobody judges the answers to {', '.join(unjudged)}; name a judge with --judge"
            )
        await self._recover()
        if self._job.base is not None:
            await self._open(self._job.base)
        await self._scout.look()
        self._check_runs()
        self._tasks.append(asyncio.create_task(self._scout.fetch_on(self._job.poll_seconds)))
        if not self._job.once:
            self._tasks.append(
                asyncio.create_task(poll(self._scout, self._job.poll_seconds, self._account.observer.note))
            )
        first = True
        while True:
            self._check_tasks()
            self._scout.changed.clear()
            plan_now = self._plan()
            if first:
                await self._begin(plan_now)
                self._recall_unjudged()
                first = False
            if await self._step(plan_now):
                continue
            if self._is_of_another_base(plan_now) or not await self._wait(plan_now):
                break
        self._staging.clear_halves()
        await self._end_judging(plan_now)
        return self._account.outcome

    # -- what is there ------------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Know the copies that an earlier process left, also of checkpoints that are gone from the host by now."""
        mine = own_copies(self._job, self._ledger)
        await self._staging.recover(mine, foreign_copies(self._job, self._ledger))
        for digest, checkpoint in mine.items():
            if self._staging.get(digest) is not None:
                self._scout.remember(checkpoint, digest, base_of_copy(self._job, digest))

    def _check_runs(self) -> None:
        """One run is one folder of one host; one that is no longer there may have been moved here."""
        runs = set(self._scout.runs) or {self._job.default_run}
        for record in self._ledger.seen():
            if record.run not in runs or self._job.is_of(record):
                continue
            elsewhere = record.host != self._job.host.name
            folder = run_folder_of(text_path(record.path))
            if elsewhere or Path(folder).is_dir():
                raise BadInput(
                    f"the run {record.run!r} in {self._job.workspace} is that of another folder, {shown(record.host, folder)}; "
                    "give this one a name of its own with --run"
                )

    def _plan(self) -> Plan:
        candidates = [
            self._candidate(s) for s in self._scout.sightings if s.ready and not s.fault and self._has_base(s)
        ]
        made = plan(candidates, self._config, time.time())
        for candidate, reason in made.aside:
            self._account.leave_aside(candidate.checkpoint, reason, candidate.failed[-1])
        for twin, known in made.twins:
            self._account.twin(twin.checkpoint, known.checkpoint)
        if made.done:
            self._account.outcome.fitting = True
        # Held are only copies that somebody waits for: what is done, set aside or overwritten leaves room to others.
        self._staging.keep({c.digest for c in (*made.work, *(c for c, _ in made.later))})
        sightings = {s.checkpoint.file: s for s in self._scout.sightings}
        self._scout.want([sightings[c.checkpoint.file] for c in made.work])
        self._tell(made)
        return made

    def _tell(self, made: Plan) -> None:
        """Leave word of the plan where `assay status` looks. Whether that works matters to nothing else."""
        say = self._account.called
        later = [[say(c.checkpoint), round(time.time() + wait), c.failed[-1].reason] for c, wait in made.later]
        work = [say(c.checkpoint) for c in made.work]
        plan_now = {"work": work, "later": later, "waiting": self._scout.waiting}
        text = json.dumps(plan_now if self._judges is None else {**plan_now, "judge": asdict(self._judges.waiting)})
        if text != self._told:
            self._told = text
            with contextlib.suppress(OSError):
                temporary = self._job.workspace / f".{PLAN_FILE}"
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(self._job.workspace / PLAN_FILE)

    def _candidate(self, sighting: Sighting) -> Candidate:
        checkpoint, digest = sighting.checkpoint, sighting.digest
        identity = self._identities.get(self._spec(sighting), "")
        tries = self._ledger.attempts(checkpoint, digest, identity)
        return Candidate(
            checkpoint,
            digest,
            unfinished=not (digest and identity) or bool(self._account.open_suites(checkpoint.run, digest, identity)),
            dealt=(checkpoint.run, digest) in self._turns.dealt,
            failed=tuple(Failed(a.time, a.reason, a.final, a.error) for a in tries),
        )

    def _spec(self, sighting: Sighting) -> str:
        named = sighting.base
        return self._job.base if self._job.base is not None else self._job.bases.get(named, named)

    def _has_base(self, sighting: Sighting) -> bool:
        if self._spec(sighting):
            return True
        where = shown(sighting.checkpoint.host, sighting.checkpoint.config)
        self._account.refuse(sighting.checkpoint, f"{where} {NO_BASE}")
        sighting.fault = "no base"
        return False

    # -- what is done -------------------------------------------------------------------------------------------------

    async def _begin(self, made: Plan) -> None:
        """What a start says and journals: what lies ahead, and the named base's own answers."""
        runs = list(dict.fromkeys([*self._scout.runs, *(c.checkpoint.run for c in made.work)])) or [
            self._job.default_run
        ]
        base = self._base
        ahead = len(made.work) + len(made.done) + len(made.later)
        open_base = (
            [self._job.samples(self._account.open_suites(run, "", base.identity)) for run in runs]
            if base is not None
            else []
        )
        self._account.expect(self._job.samples() * ahead + sum(open_base))
        if base is not None:
            for run in runs:
                await self._answer_base(base, run)

    # -- what is judged -----------------------------------------------------------------------------------------------

    def _recall_unjudged(self) -> None:
        """Have judged what earlier watches asked of this folder's checkpoints and their bases."""
        if self._judges is None:
            return
        mine = [r for r in self._ledger.seen() if r.digest and self._job.is_of(r)]
        chosen = {(r.run, r.digest) for r in mine if is_chosen(checkpoint_of(r), self._config)}
        runs = {run for run, _ in chosen}
        self._judges.recall(lambda of: (of.run, of.digest) in chosen or (not of.digest and of.run in runs))

    def _judged(self) -> None:
        self._scout.changed.set()

    async def _end_judging(self, made: Plan) -> None:
        if self._judges is None or self._judging is None:
            return
        if left := self._judges.waiting.answers:
            self._account.observer.note(f"{left} answers are left to judge")
        self._judges.end()
        await self._judging
        self._account.outcome.failed_samples += self._judges.failed
        self._account.outcome.judge_gone = self._judges.gone
        self._account.outcome.unjudged = self._judges.waiting.answers
        self._tell(made)

    async def _step(self, made: Plan) -> bool:
        """Evaluate a window of what is here; False if nothing is."""
        for candidate in made.done:
            self._account.settle(candidate.checkpoint.run, candidate.digest)
        sightings = {s.checkpoint.file: s for s in self._scout.sightings}
        here: list[tuple[Sighting, Adapter]] = []
        for candidate in made.work:
            # What was fetched since the plan was made may turn out to be a twin: the next plan knows.
            adapter = self._staging.get(candidate.digest) if candidate.digest else None
            if adapter is not None and candidate.checkpoint.file in sightings:
                here.append((sightings[candidate.checkpoint.file], adapter))
        if not here or self._more_comes(len(here)):
            return False
        self._here_since = None
        spec = self._spec(here[0][0])
        if self._base is not None and any(self._spec(s) == self._base.name for s, _ in here):
            spec = self._base.name
        base = await self._opened(spec, [s for s, _ in here if self._spec(s) == spec])
        self._last_waiting = ""  # what is said while it waits is said again after work
        if base is not None:
            window = next_window([(s.checkpoint, a) for s, a in here if self._spec(s) == spec])
            for run in dict.fromkeys(checkpoint.run for checkpoint, _ in window):
                await self._answer_base(base, run)
            await self._turns.window(base, window)
        return True

    def _more_comes(self, here: int) -> bool:
        """Whether it pays to wait for what is being fetched."""
        if self._scout.idle or here >= WINDOW:
            return False
        if self._here_since is None:
            self._here_since = time.monotonic()
        return time.monotonic() - self._here_since < _TOGETHER

    def _is_of_another_base(self, made: Plan) -> bool:
        """Whether all that was there at the start has been tried, and none of it is an adapter of this base.

        What comes later may be of another training: then it is only said, and waited on.
        """
        open_yet = made.work or made.later or any(not s.ready and not s.fault for s in self._scout.sightings)
        if self._job.once or self._tried or open_yet or not self._scout.idle:
            return False
        self._tried = True
        return self._account.outcome.misfit

    async def _wait(self, made: Plan) -> bool:
        """Wait for something new; False if a single look has nothing left."""
        if self._job.once and not made.work and self._scout.idle:
            return False
        if not self._job.once and not made.work:
            self._say_waiting()
        seconds = made.later[0][1] if made.later else None
        if self._here_since is not None:
            seconds = min(_TOGETHER, _TOGETHER if seconds is None else seconds)
        self._check_tasks()
        changed = asyncio.create_task(self._scout.changed.wait())
        try:
            await asyncio.wait({changed, *self._tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        return True

    def _check_tasks(self) -> None:
        """Raise what ended a task that was to go on."""
        for task in self._tasks:
            if task.done():
                task.result()

    def _say_waiting(self) -> None:
        none = "; none of the checkpoints so far is an adapter of this base" if self._account.outcome.misfit else ""
        text = f"waiting for {self._scout.waiting}{none}"
        if text != self._last_waiting:
            self._last_waiting = text
            self._account.observer.note(text)

    async def _opened(self, spec: str, waiting: Sequence[Sighting]) -> OpenBase | None:
        """The base of these checkpoints, loaded in place of another one; None if it can't be, which is their fault then."""
        if self._base is not None and self._base.name == spec:
            return self._base
        try:
            return await self._open(spec)
        except ModelError as error:
            for sighting in waiting:
                sighting.fault = str(error)
                self._account.refuse(sighting.checkpoint, f"its base can't be opened: {error}")
            return None

    async def _open(self, spec: str) -> OpenBase:
        if self._base is not None:
            await self._base.model.aclose()
            self._base = None
        resolved = resolve(spec)
        if resolved.why:
            self._account.observer.note(f"engine: {resolved.engine} ({resolved.why})")
        self._base = await OpenBase.open(spec, resolved, self._job.settings, self._job.remote(spec), self._ledger)
        for suite in self._job.suites:
            await check_weighing(self._base.model, suite.samples, check_suite(suite))
        self._identities[spec] = self._base.identity
        return self._base

    async def _answer_base(self, base: OpenBase, run: str) -> None:
        """Journal that this run is asked on this base, and the base's own answers, once in a watch."""
        if run in base.runs:
            return
        base.runs.add(run)
        self._account.begin(base, run, *self._names(run), self._scout.runs.get(run))
        await self._turns.base(base, run)

    def _names(self, run: str) -> tuple[str, str]:
        """go-ml's names for the run's model and the run."""
        if run in self._scout.runs:
            return self._scout.runs[run].tag, self._scout.runs[run].run_id
        known = self._ledger.run(run)
        if known is not None and known.run_id:
            return known.tag, known.run_id
        names = self._job.names
        return names.tag, called(names, run).run_id
