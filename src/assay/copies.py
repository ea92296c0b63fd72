"""Copies that earlier watches left in a workspace, by what the journal says: whose they are, and which somebody waits for.

One workspace serves many folders, and a folder many filters. A copy may be all that is left of a checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from assay.adapters.files import CONFIG_NAME
from assay.checkpoints.layouts import CONFIG, is_gguf, is_numbered
from assay.job import Job, settings_of
from assay.paths import text_path
from assay.plan import Candidate, Failed, given_up, is_chosen
from assay.results.index import Ledger
from assay.results.records import CheckpointSeen
from assay.types import Checkpoint

# The folder of copies, in the workspace.
STAGED = "staged"


def own_copies(job: Job, ledger: Ledger) -> dict[str, Checkpoint]:
    """Of the checkpoints that this watch evaluates, by the digest that their copies have."""
    config = settings_of(job)
    mine = [(d, c) for d, c, r in _read(ledger) if job.is_of(r) and is_chosen(c, config)]
    return dict(sorted(mine, key=lambda pair: pair[1].numbered))  # its number says more than that it was the last one


def copies_left(job: Job, ledger: Ledger) -> dict[str, Checkpoint]:
    """Those of them whose copies are there."""
    return {d: c for d, c in own_copies(job, ledger).items() if (job.workspace / STAGED / d).is_dir()}


def foreign_copies(job: Job, ledger: Ledger) -> set[str]:
    """Digests of those that this watch leaves alone, and that another folder or filter has still to evaluate."""
    config = settings_of(job)
    others = [(d, c) for d, c, r in _read(ledger) if not (job.is_of(r) and is_chosen(c, config))]
    return {digest for digest, checkpoint in others if _is_open(job, ledger, digest, checkpoint)}


def base_of_copy(job: Job, digest: str) -> str:
    """The base that the copied configuration names; "" if it names none."""
    try:
        named = json.loads((job.workspace / STAGED / digest / CONFIG_NAME).read_bytes()).get("model")
    except (OSError, ValueError, AttributeError):
        return ""
    return named if isinstance(named, str) else ""


def checkpoint_of(record: CheckpointSeen) -> Checkpoint:
    """A checkpoint as the journal remembers it."""
    path = text_path(record.path)
    return Checkpoint(
        run=record.run,
        iteration=record.iteration,
        weights=path,
        config=path if is_gguf(path) else path.parent / CONFIG,
        size=record.size,
        modified_ns=record.modified_ns,
        config_size=record.config_size,
        config_modified_ns=record.config_modified_ns,
        host=record.host,
        layout="gguf" if is_gguf(path) else "mlx",
        name=record.checkpoint,
        numbered=is_numbered(path),
    )


def _read(ledger: Ledger) -> Iterator[tuple[str, Checkpoint, CheckpointSeen]]:
    """The checkpoints whose weights were read, as they were seen last; a try that failed afterwards changes nothing."""
    for record in ledger.seen():
        checkpoint = checkpoint_of(record)
        if digest := ledger.digest_of(checkpoint):
            yield digest, checkpoint, record


def _is_open(job: Job, ledger: Ledger, digest: str, checkpoint: Checkpoint) -> bool:
    """Whether something is left to ask it, by what its run was last asked. Limits are not known, so only all is enough."""
    begun = ledger.run(checkpoint.run)
    if begun is None:
        return True
    tries = ledger.attempts(checkpoint, digest, begun.identity)
    failed = tuple(Failed(a.time, a.reason, a.final, a.error) for a in tries)
    if given_up(Candidate(checkpoint, digest, failed=failed), settings_of(job)):
        return False
    return any(ledger.finished(checkpoint.run, digest, s.digest, begun.identity, 0) is None for s in begun.suites)
