"""What `assay watch --dry-run` prints: the plan, made of the listing and the journal alone."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TypeAlias

from assay.checkpoints.discover import Refused
from assay.copies import base_of_copy, copies_left
from assay.errors import AssayError
from assay.job import Job, JudgeSpec, check_job, rubrics_in, settings_of
from assay.models.open import resolve
from assay.paths import printable
from assay.plan import Candidate, Failed, Plan, plan
from assay.results.index import Ledger
from assay.results.journal import read, segments
from assay.results.records import ScoreMade
from assay.types import Checkpoint
from assay.watch import NO_BASE

Row: TypeAlias = dict[str, str]


def show_plan(job: Job, workspace: Path, *, as_json: bool) -> int:
    """Print what a watch would do now. Nothing is loaded, copied or written; raises as `check_job`."""
    rows = asyncio.run(_rows(job, workspace))
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    rows = [{name: _on_one_line(text) for name, text in row.items()} for row in rows]
    several = len({row["run"] for row in rows}) > 1
    columns = ["run", "checkpoint"] if several else ["checkpoint"]
    wide = {name: max((len(row[name]) for row in rows), default=0) for name in columns}
    for row in rows:
        named = "  ".join(f"{row[name]:<{wide[name]}}" for name in columns)
        print(f"{row['action']:<9}  {named}  {row['detail']}".rstrip())
    return 0


def _on_one_line(text: str) -> str:
    """A reason may have a line for each of several differences; a path may have anything in it."""
    first, *more = text.split("\n  ")
    return printable(f"{first}: {'; '.join(more)}" if more else text)


def _row(action: str, checkpoint: Checkpoint, detail: str) -> Row:
    return {"action": action, "run": checkpoint.run, "checkpoint": checkpoint.label, "detail": detail}


async def _rows(job: Job, workspace: Path) -> list[Row]:
    made, reading, refused = await _planned(job, workspace)
    rows = [_row("evaluate", c.checkpoint, c.checkpoint.path) for c in made.work]
    rows += [_row("retry", c.checkpoint, f"in {seconds:.0f} s: {c.failed[-1].reason}") for c, seconds in made.later]
    rows += [_row("set aside", c.checkpoint, reason) for c, reason in made.aside]
    rows += [_row("set aside", each.checkpoint, each.reason) for each in refused]
    rows += [_done(c, job, reading) for c in made.done]
    rows += [_same(twin.checkpoint, known.checkpoint.label) for twin, known in made.twins]
    return rows


def _done(c: Candidate, job: Job, reading: _Reading | None) -> Row:
    if job.judge is not None and reading is not None and c.digest in reading.unjudged:
        return _row("judge", c.checkpoint, f"by {job.judge.name}")
    return _row("done", c.checkpoint, "")


def _same(twin: Checkpoint, name: str) -> Row:
    """name: what the weights are called."""
    which = f"{twin.path} " if twin.label == name else ""
    return _row("same", twin, f"{which}has the weights of {name}")


def _real(base: str) -> str:
    """The same for whatever names one base: what it has last been is in the journal, and nothing is loaded."""
    try:
        found = resolve(base)
    except AssayError:  # it is gone by now
        return base
    return found.place


async def _planned(job: Job, workspace: Path) -> tuple[Plan, _Reading | None, list[Refused]]:
    """The plan, what the journal says if there is one, and what lies there and is not touched."""
    ledger = Ledger(workspace) if segments(workspace) else None
    try:
        if ledger is None:
            found = await check_job(job, note=_note)
            return plan([Candidate(c) for c in found.checkpoints], settings_of(job), time.time()), None, found.refused
        left = copies_left(job, ledger)
        found = await check_job(job, ledger.files(), len(left), _note)
        there = {c.file for c in found.checkpoints}
        reading = _Reading(job, ledger)
        candidates = [await reading.candidate(c) for c in found.checkpoints]
        candidates += [await reading.candidate(c, base_of_copy(job, d)) for d, c in left.items() if c.file not in there]
        return plan(candidates, settings_of(job), time.time()), reading, found.refused
    finally:
        await job.host.aclose()
        if ledger is not None:
            ledger.close()


def _note(text: str) -> None:
    print(f"assay: {text}", file=sys.stderr)


class _Reading:
    """What the journal says of checkpoints. unjudged: digests of adapters whose answers are still to be judged."""

    def __init__(self, job: Job, ledger: Ledger) -> None:
        self._job = job
        self._ledger = ledger
        self._discovery = job.discovery(ledger.files())
        self._known = {_real(base): identity for base, identity in ledger.bases().items()}
        self._measures = _measures(job.workspace, job.judge) if job.judge is not None else set()
        self.unjudged: set[str] = set()

    async def candidate(self, checkpoint: Checkpoint, copied: str = "") -> Candidate:
        """copied: the base that the configuration of its copy names, if its file is gone."""
        job, ledger, limit = self._job, self._ledger, self._job.limit or 0
        digest = ledger.digest_of(checkpoint)
        named = copied or await self._discovery.base_of(checkpoint)
        spec = job.base if job.base is not None else job.bases.get(named, named)
        identity = self._known.get(_real(spec), "")
        finished = [(s, ledger.finished(checkpoint.run, digest, s.digest, identity, limit)) for s in job.suites]
        done = digest and all(record is not None for _, record in finished)
        if job.judge is not None and any(
            record is not None
            and rubrics_in([s])
            and not any(ledger.is_judged(record, m, limit) for m in self._measures)
            for s, record in finished
        ):
            self.unjudged.add(digest)
        tries = ledger.attempts(checkpoint, digest, identity)
        failed = tuple(Failed(a.time, a.reason, a.final) for a in tries)
        return Candidate(checkpoint, digest, unfinished=not done, failed=failed or self._broken(checkpoint, digest))

    def _broken(self, checkpoint: Checkpoint, digest: str) -> tuple[Failed, ...]:
        """That its files could not be read as they are now."""
        record = self._ledger.last_seen(checkpoint)
        if digest or record is None or not record.reason:
            return ()
        if record.reason.endswith(NO_BASE):  # which may be given now
            return ()
        return (Failed(record.time, record.reason, final=True),)


def _measures(workspace: Path, judge: JudgeSpec) -> set[str]:
    """By which the judge of this name has scored with so many votes: what it is, only opening it would tell."""
    found = set()
    for _, record in read(workspace):
        if isinstance(record, ScoreMade) and record.measure not in found and record.judge.startswith(judge.name):
            votes = len(record.detail.get("votes", [0])) + record.detail.get("failed_votes", 0)
            if votes == judge.votes:
                found.add(record.measure)
    return found
