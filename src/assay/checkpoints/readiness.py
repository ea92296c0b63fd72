"""Which of the files that lie there can be read now: a trainer may be in the middle of writing any of them.

A checkpoint is ready when its file is as long as its own header says and its configuration lies beside it; while polling, also
only once it is unchanged since the round before. What is not ready waits. It is given up as truncated for good when nobody will
write to it any more: at once in a single look, else when the trainer has finished a later one and this one has not grown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from assay.adapters.header import read_header
from assay.errors import AdapterBroken, NotReady
from assay.types import Checkpoint

_State: TypeAlias = tuple[int, int, int, int]

UNSETTLED = "it is new or has just changed"


@dataclass(slots=True)
class Look:
    """One round's answer. broken: with the reason why each can't be used. waiting: with what each waits for."""

    ready: list[Checkpoint] = field(default_factory=list)
    broken: list[tuple[Checkpoint, str]] = field(default_factory=list)
    waiting: list[tuple[Checkpoint, str]] = field(default_factory=list)


class Readiness:
    """Remembers what each file looked like. `once`: there is no later round, so nothing waits."""

    def __init__(self, *, once: bool) -> None:
        self._once = once
        self._seen: dict[Path, _State] = {}
        self._settled: dict[Path, _State] = {}

    def settle(self, checkpoint: Checkpoint) -> None:
        """This state of the file is dealt with; it is offered again only if the file changes."""
        self._settled[checkpoint.weights] = _state(checkpoint)

    def look(self, found: Sequence[Checkpoint]) -> Look:
        """Sort what was found into ready, broken and waiting; what is settled is in none of them."""
        look = Look()
        complete = [c.iteration for c in found if _fault(c) is None]
        for checkpoint in found:
            state = _state(checkpoint)
            if self._settled.get(checkpoint.weights) == state:
                continue
            unchanged = self._seen.get(checkpoint.weights) == state
            self._seen[checkpoint.weights] = state
            if not self._once and not unchanged:
                look.waiting.append((checkpoint, UNSETTLED))
                continue
            fault = _fault(checkpoint)
            overtaken = any(iteration > checkpoint.iteration for iteration in complete)
            if fault is None:
                look.ready.append(checkpoint)
            elif isinstance(fault, AdapterBroken) or self._once or overtaken:
                look.broken.append((checkpoint, str(fault)))
            else:
                look.waiting.append((checkpoint, str(fault)))
        return look


def _state(checkpoint: Checkpoint) -> _State:
    """What changes when the checkpoint does: its weights' size and time, and the configuration's, which holds the scale."""
    try:
        config = checkpoint.config.stat()
    except OSError:
        return checkpoint.size, checkpoint.modified_ns, 0, 0
    return checkpoint.size, checkpoint.modified_ns, config.st_size, config.st_mtime_ns


def _fault(checkpoint: Checkpoint) -> NotReady | AdapterBroken | None:
    try:
        read_header(checkpoint.weights)
        if not checkpoint.config.is_file():
            raise NotReady(f"{checkpoint.config} is missing; the trainer writes it beside its checkpoints")
    except (NotReady, AdapterBroken) as fault:
        return fault
    except OSError as error:
        return NotReady(f"{checkpoint.weights} cannot be read: {error.strerror}")
    return None
