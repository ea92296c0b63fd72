"""What `assay watch --dry-run` prints: the plan, made of the listing and the journal alone."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from assay.errors import AssayError
from assay.job import Job, check_job, rubrics_in, settings_of
from assay.models.open import resolve
from assay.plan import Candidate, Failed, Plan, plan
from assay.results.index import Ledger
from assay.results.journal import segments


def show_plan(job: Job, workspace: Path, *, as_json: bool) -> int:
    """Print what a watch would do now. Nothing is loaded, copied or written; raises as `check_job`."""
    made, unjudged = asyncio.run(_planned(job, workspace))
    rows = [{"action": "evaluate", "checkpoint": c.checkpoint.label, "detail": c.checkpoint.path} for c in made.work]
    rows += [_row("retry", c, f"in {seconds:.0f} s: {c.failed[-1].reason}") for c, seconds in made.later]
    rows += [_row("set aside", c, reason) for c, reason in made.aside]
    by = f"by {job.judge.name}" if job.judge is not None else ""
    rows += [_row("judge", c, by) if c.digest in unjudged else _row("done", c, "") for c in made.done]
    rows += [_row("same", twin, f"has the weights of {known.checkpoint.label}") for twin, known in made.twins]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    wide = max((len(row["checkpoint"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['action']:<9}  {row['checkpoint']:<{wide}}  {row['detail']}".rstrip())
    return 0


def _row(action: str, candidate: Candidate, detail: str) -> dict[str, str]:
    return {"action": action, "checkpoint": candidate.checkpoint.label, "detail": detail}


def _real(base: str) -> str:
    """The same for whatever names one base: what it has last been is in the journal, and nothing is loaded."""
    try:
        found = resolve(base)
    except AssayError:  # it is gone by now
        return base
    return found.spec if found.remote else f"{found.engine}:{Path(found.path).resolve()}"


async def _planned(job: Job, workspace: Path) -> tuple[Plan, set[str]]:
    """The plan, and the digests of adapters whose answers are still to be judged."""
    ledger = Ledger(workspace) if segments(workspace) else None
    try:
        found = await check_job(job, ledger.files() if ledger is not None else ())
        if ledger is None:
            return plan([Candidate(c) for c in found], settings_of(job), time.time()), set()
        candidates = []
        unjudged = set()
        discovery, limit = job.discovery(ledger.files()), job.limit or 0
        known = {_real(base): identity for base, identity in ledger.bases().items()}
        for checkpoint in found:
            digest = ledger.digest_of(checkpoint)
            named = await discovery.base_of(checkpoint)
            identity = known.get(_real(named if job.base is not None else job.bases.get(named, named)), "")
            finished = [(s, ledger.finished(checkpoint.run, digest, s.digest, identity, limit)) for s in job.suites]
            done = digest and all(record is not None for _, record in finished)
            if job.judge is not None and any(
                record is not None and rubrics_in([s]) and not ledger.is_judged_by(record, job.judge.name, limit)
                for s, record in finished
            ):
                unjudged.add(digest)
            tries = [a for a in ledger.attempts(checkpoint) if a.identity in ("", identity)]
            failed = tuple(Failed(a.time, a.reason, a.final) for a in tries)
            candidates.append(Candidate(checkpoint, digest, unfinished=not done, failed=failed))
        return plan(candidates, settings_of(job), time.time()), unjudged
    finally:
        await job.host.aclose()
        if ledger is not None:
            ledger.close()
