"""What to do next: a pure function from what was found and what the journal knows to work, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest
from typing import Literal, TypeAlias

from assay.types import Checkpoint

Order: TypeAlias = Literal["oldest", "newest"]


@dataclass(frozen=True, slots=True)
class Failed:
    """A try that came to nothing. time: seconds since the epoch. final: another one can't help. error: its class."""

    time: float
    reason: str
    final: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint and what is known of it.

    digest: "" while its weights haven't been read. unfinished: a suite is open there. dealt: this watch has had its turn at it.
    failed: the tries at this state of its files, in order.
    """

    checkpoint: Checkpoint
    digest: str = ""
    unfinished: bool = True
    dealt: bool = False
    failed: tuple[Failed, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanConfig:
    """What decides a plan.

    every: only iterations that it divides. filters: shell patterns for a checkpoint's label, run or path; all if empty. force:
    what is done or set aside is work again, once. attempts: tries at one state of a checkpoint's files, at most. The wait
    before try n is `backoff_seconds` · 2ⁿ⁻², at most `backoff_cap_seconds`. patient: False where there is no later round:
    nothing waits, and nothing has two turns.
    """

    order: Order = "oldest"
    every: int | None = None
    filters: tuple[str, ...] = ()
    force: bool = False
    attempts: int = 3
    backoff_seconds: float = 60.0
    backoff_cap_seconds: float = 3600.0
    patient: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with each candidate.

    work: now, in this order. later: with the seconds until it is due. aside: with the reason. twins: with the one whose
    weights they have.
    """

    work: tuple[Candidate, ...] = ()
    later: tuple[tuple[Candidate, float], ...] = ()
    aside: tuple[tuple[Candidate, str], ...] = ()
    done: tuple[Candidate, ...] = ()
    twins: tuple[tuple[Candidate, Candidate], ...] = ()


def plan(candidates: Iterable[Candidate], config: PlanConfig, now: float) -> Plan:
    """Sort the candidates that are chosen into work, what waits, what is set aside, what is done, and twins.

    Work goes round over the runs, one checkpoint of each in turn, so that a long run holds up no other. now: seconds since the
    epoch; a clock that was turned back makes nobody wait longer than the backoff.
    """
    work: list[Candidate] = []
    later: list[tuple[Candidate, float]] = []
    aside: list[tuple[Candidate, str]] = []
    done: list[Candidate] = []
    unique, twins = _without_twins([c for c in candidates if is_chosen(c.checkpoint, config)])
    for candidate in unique:
        forced = config.force and not candidate.dealt
        reason = "" if forced else given_up(candidate, config)
        if not candidate.unfinished and not forced:
            done.append(candidate)
        elif reason:
            aside.append((candidate, reason))
        elif candidate.dealt and not config.patient:
            done.append(candidate)
        elif not forced and (wait := _wait(candidate, config, now)) > 0:
            later.append((candidate, wait))
        else:
            work.append(candidate)
    later.sort(key=lambda pair: pair[1])
    return Plan(_spread(work, config.order), tuple(later), tuple(aside), tuple(done), tuple(twins))


def is_chosen(checkpoint: Checkpoint, config: PlanConfig) -> bool:
    """Whether `every` and `filters` let a checkpoint through."""
    if config.every is not None and checkpoint.iteration % config.every:
        return False
    texts = (checkpoint.label, checkpoint.run, str(checkpoint.weights))
    return not config.filters or any(fnmatchcase(text, pattern) for pattern in config.filters for text in texts)


def _without_twins(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[tuple[Candidate, Candidate]]]:
    """One candidate for each digest within a run: the numbered one, then the earliest, then by path."""
    first: dict[tuple[str, str], Candidate] = {}
    unique: list[Candidate] = []
    twins: list[tuple[Candidate, Candidate]] = []

    def rank(candidate: Candidate) -> tuple[bool, int, str]:
        checkpoint = candidate.checkpoint
        return not checkpoint.numbered, checkpoint.iteration, str(checkpoint.weights)

    for candidate in sorted(candidates, key=rank):
        known = first.get((candidate.checkpoint.run, candidate.digest)) if candidate.digest else None
        if known is not None:
            twins.append((candidate, known))
            continue
        if candidate.digest:
            first[candidate.checkpoint.run, candidate.digest] = candidate
        unique.append(candidate)
    return unique, twins


def given_up(candidate: Candidate, config: PlanConfig) -> str:
    """Why it is not tried again; "" if it is."""
    if not candidate.failed:
        return ""
    last = candidate.failed[-1]
    if last.final:
        return last.reason
    tries = len(candidate.failed)
    return f"{last.reason} (tried {tries} times)" if tries >= config.attempts else ""


def _wait(candidate: Candidate, config: PlanConfig, now: float) -> float:
    if not candidate.failed or not config.patient:
        return 0.0
    pause = min(config.backoff_cap_seconds, config.backoff_seconds * 2.0 ** (len(candidate.failed) - 1))
    return min(pause, max(0.0, candidate.failed[-1].time + pause - now))


def _spread(work: Sequence[Candidate], order: Order) -> tuple[Candidate, ...]:
    sign = -1 if order == "newest" else 1
    runs: dict[str, list[Candidate]] = {}
    for candidate in sorted(work, key=lambda c: (sign * c.checkpoint.iteration, not c.checkpoint.numbered)):
        runs.setdefault(candidate.checkpoint.run, []).append(candidate)
    rounds = zip_longest(*(runs[run] for run in sorted(runs)))
    return tuple(candidate for each in rounds for candidate in each if candidate is not None)
