"""Which of the files that lie there can be read now: a trainer may be in the middle of writing any of them.

A checkpoint is ready when its file is as long as its own header says and its configuration lies beside it; while polling, also
only once it is unchanged since the round before. Where times are whole seconds, as SFTP's are, a file that is overwritten
within one looks as it did: there nothing is ready before it was seen for longer than that. What is not ready waits. It is given
up as truncated for good when nobody will write to it any more: at once in a single look, else when the trainer has finished a
later one and this one has not grown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from assay.adapters.gguf_lora import HEAD, lora_of
from assay.adapters.header import PREFIX, header_length, layout_of
from assay.errors import AdapterBroken, HostFault, NotReady
from assay.hosts.base import Host
from assay.types import Checkpoint

_State: TypeAlias = tuple[int, int, int, int]
_File: TypeAlias = tuple[str, str]
_Fault: TypeAlias = NotReady | AdapterBroken | None

UNSETTLED = "it is new or has just changed"

# A time of whole seconds may stay the same for so long while its file changes: one second, and one for the fraction cut off.
_COARSE_SECONDS = 2.0
_CLOCKS_APART = 60.0  # seconds that the host's clock may be behind ours
_SECOND = 1_000_000_000


@dataclass(slots=True)
class Look:
    """One round's answer. broken: with the reason why each can't be used. waiting: with what each waits for."""

    ready: list[Checkpoint] = field(default_factory=list)
    broken: list[tuple[Checkpoint, str]] = field(default_factory=list)
    waiting: list[tuple[Checkpoint, str]] = field(default_factory=list)


class Readiness:
    """Remembers what each file looked like. `once`: there is no later round, so nothing waits.

    A file's header is read once for each state of the file, so a round over many that did not change reads none.
    """

    def __init__(self, host: Host, *, once: bool) -> None:
        self._host = host
        self._once = once
        self._seen: dict[_File, tuple[_State, float]] = {}  # and since when
        self._settled: dict[_File, _State] = {}
        self._faults: dict[_File, tuple[_State, _Fault]] = {}

    def settle(self, checkpoint: Checkpoint) -> None:
        """This state of the file is dealt with; it is offered again only if the file changes."""
        self._settled[checkpoint.file] = checkpoint.state

    def is_settled(self, checkpoint: Checkpoint) -> bool:
        return self._settled.get(checkpoint.file) == checkpoint.state

    def pause(self, found: Sequence[Checkpoint]) -> float:
        """Seconds to wait and look anew, where there is no later round: until the next change of each of these would show."""
        return _COARSE_SECONDS if self._once and any(map(_is_young, found)) else 0.0

    async def look(self, found: Sequence[Checkpoint]) -> Look:
        """Sort what was found into ready, broken and waiting; what is settled is in none of them."""
        look = Look()
        open_ones = [c for c in found if not self.is_settled(c)]
        faults = {c.file: await self._fault(c) for c in open_ones}
        complete: dict[str, int] = {}
        for checkpoint in found:
            if faults.get(checkpoint.file) is None:
                complete[checkpoint.run] = max(complete.get(checkpoint.run, 0), checkpoint.iteration)
        for checkpoint in open_ones:
            if not self._once and not self._is_steady(checkpoint):
                look.waiting.append((checkpoint, UNSETTLED))
                continue
            fault = faults[checkpoint.file]
            overtaken = complete.get(checkpoint.run, 0) > checkpoint.iteration
            if fault is None:
                look.ready.append(checkpoint)
            elif isinstance(fault, AdapterBroken) or self._once or overtaken:
                look.broken.append((checkpoint, str(fault)))
            else:
                look.waiting.append((checkpoint, str(fault)))
        return look

    def _is_steady(self, checkpoint: Checkpoint) -> bool:
        """Whether it was seen like this before, and for so long that a change since then would show."""
        state, since = self._seen.get(checkpoint.file, (None, 0.0))
        if state != checkpoint.state:
            self._seen[checkpoint.file] = checkpoint.state, time.monotonic()
            return False
        return time.monotonic() - since >= _COARSE_SECONDS or not _is_young(checkpoint)

    async def _fault(self, checkpoint: Checkpoint) -> _Fault:
        known = self._faults.get(checkpoint.file)
        if known is not None and known[0] == checkpoint.state:
            return known[1]
        fault = await self._examine(checkpoint)
        self._faults[checkpoint.file] = checkpoint.state, fault
        return fault

    async def _examine(self, checkpoint: Checkpoint) -> _Fault:
        path = checkpoint.weights
        try:
            if checkpoint.layout == "gguf":
                await self._examine_gguf(checkpoint)
                return None
            length = header_length(await self._host.read(path, 0, PREFIX), checkpoint.size, path)
            layout_of(await self._host.read(path, PREFIX, length), checkpoint.size, path)
            if not checkpoint.config_modified_ns:
                raise NotReady(f"{checkpoint.config} is missing; the trainer writes it beside its checkpoints")
        except (NotReady, AdapterBroken) as fault:
            return fault
        except HostFault as fault:
            return NotReady(f"{path} cannot be read: {fault}")
        return None

    async def _examine_gguf(self, checkpoint: Checkpoint) -> None:
        """Raises `NotReady` or `AdapterBroken`. Most headers are short; more of a longer one is read until it is whole."""
        path, length = checkpoint.weights, HEAD
        while True:
            head = await self._host.read(path, 0, length)
            if lora_of(head, checkpoint.size, path) is not None:
                return
            if len(head) < length:
                raise NotReady(f"{path}: became shorter while it was read; it may still be being written")
            length *= 4


def is_young(modified_ns: int) -> bool:
    """Whether a file was written just now, as far as a time of whole seconds tells."""
    oldest = time.time_ns() - int((_COARSE_SECONDS + _CLOCKS_APART) * _SECOND)
    return modified_ns % _SECOND == 0 and modified_ns > oldest


def _is_young(checkpoint: Checkpoint) -> bool:
    return is_young(checkpoint.modified_ns) or is_young(checkpoint.config_modified_ns)
