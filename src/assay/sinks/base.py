"""A sink: a place that results are forwarded to, for those who look at them there. The journal stays the truth.

A sink is handed facts, made of the journal's records by `assay.sinks.feed`, each at least once and in batches. It must take the
same fact twice without a second row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from assay.errors import AssayError


class About(msgspec.Struct, kw_only=True, frozen=True):
    """Whose result it is. digest: of the adapter, "" for the base. proof: "live", "unproven", or "" for the base.

    tag, run_id: what stands for the model and the run in go-ml's tables; label: the checkpoint's. base, engine: the base
    model's spec and what ran it. journal: the id of the one that a fact is from; `seq` tells earlier from later only there.
    """

    run: str
    run_id: str
    label: str
    tag: str
    iteration: int
    digest: str
    identity: str
    base: str
    engine: str
    suite: str
    suite_version: int
    suite_digest: str
    proof: str = ""
    journal: str = ""


class SampleFact(msgspec.Struct, kw_only=True, frozen=True):
    """One sample's result under one metric. outcome: "scored", "failed" or "truncated"; `value` is None but for the first.

    index: the sample's position in its suite, from 0. scorer, judge, measure: as in `ScoreMade`. time: seconds since the epoch.
    stands: whether it has its name where results are known by run and label, see `assay.sinks.standing`.
    """

    about: About
    sample: str
    group: str
    index: int
    metric: str
    outcome: str
    seq: int
    time: float
    value: bool | float | None = None
    low: float = 0.0
    high: float = 1.0
    detail: dict[str, Any] = {}
    repeat: int = 0
    scorer: str = ""
    judge: str = ""
    measure: str = ""
    prompt: str = ""
    response: str = ""
    error_class: str = ""
    reason: str = ""
    stands: bool = True


class GroupFact(msgspec.Struct, kw_only=True, frozen=True):
    """One metric over one group of a suite at one checkpoint. correct: None for a metric that is a number.

    position: the group's among the suite's, in the order of their names and from 1; 0 for the overall one, and -1 where the
    suite isn't known. overall: over all of the suite's groups; `group` is "overall" then, and the mean that over all samples.
    stands: as of a sample.
    """

    about: About
    group: str
    metric: str
    seq: int
    time: float
    mean: float | None
    asked: int
    scored: int
    failed: int
    truncated: int
    correct: int | None = None
    scorer: str = ""
    judge: str = ""
    measure: str = ""
    position: int = -1
    overall: bool = False
    stands: bool = True


class Withdrawn(msgspec.Struct, kw_only=True, frozen=True):
    """A result that stood and stands no more: where it is known by run and label, it goes."""

    of: SampleFact | GroupFact


class Relabelled(msgspec.Struct, kw_only=True, frozen=True):
    """An adapter's results, of all suites, have another label: its weights are by now in a file of that name."""

    run: str
    digest: str
    label: str
    iteration: int
    journal: str = ""


class LossFact(msgspec.Struct, kw_only=True, frozen=True):
    """A loss that the trainer's log tells. part: "train" or "val"."""

    run: str
    run_id: str
    tag: str
    iteration: int
    part: str
    value: float
    seq: int
    time: float
    journal: str = ""


class AnswerFact(msgspec.Struct, kw_only=True, frozen=True):
    """One metric of an answer from a file, which `assay score` scored. value: None where a judge gave none."""

    run: str
    model: str
    sample: str
    suite: str
    metric: str
    value: bool | float | None
    seq: int
    time: float
    judge: str = ""
    measure: str = ""
    journal: str = ""


Fact: TypeAlias = SampleFact | GroupFact | LossFact | AnswerFact | Withdrawn | Relabelled


class Poison(AssayError):
    """Facts that a sink will never take, however often they are sent: by their place in the batch, with the reason."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__("; ".join(f"fact {index}: {reason}" for index, reason in sorted(reasons.items())))
        self.reasons = reasons


class Sink(Protocol):
    """Where facts go.

    Methods raise `Unreachable` for what may pass (down, locked, overloaded, no room), and `BadInput` for what the user must put
    right (a wrong token, no such database, a file that is no database).

    name: what the user called it. place: where it writes, in words that are the same for the same place only; its cursor is
    kept under it.
    """

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> str: ...

    async def check(self) -> str:
        """Find out at the start whether it can be written to. The store's own id, "" where it can't be told.

        Another id than the last one means that the store is new, and lacks all that was sent.
        """
        ...

    async def take(self, facts: Sequence[Fact]) -> str:
        """Write all of the batch, or raise; the store's id. Raises also `Poison`: the others of the batch are sent again."""
        ...

    async def aclose(self) -> None: ...
