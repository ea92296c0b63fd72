"""Looks at a host's folder in rounds, tells what is new there, and fetches early what the plan wants.

A trainer that deletes old checkpoints, or overwrites one, must not win against an evaluation that is busy with another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assay.checkpoints.curves import Curves
from assay.checkpoints.discover import Discovery, Found
from assay.checkpoints.readiness import UNSETTLED, Look, Readiness
from assay.errors import BadInput, CheckpointError, HostFault, NotReady, Unreachable
from assay.hosts.base import Host
from assay.paths import printable, recorded, text_path
from assay.plan import PlanConfig, is_chosen
from assay.results.index import Ledger
from assay.results.records import CheckpointSeen, LossSeen
from assay.staging import Staging
from assay.types import Adapter, Checkpoint


@dataclass(slots=True)
class Sighting:
    """A checkpoint file as last seen. digest: "" until its weights were read. base: the model that its configuration names.

    ready: it can be read, or has been. fault: why it can't be used as it is.
    """

    checkpoint: Checkpoint
    digest: str = ""
    base: str = ""
    ready: bool = False
    fault: str = ""


class Scout:
    """What lies on the host, as far as seen. `changed` is set whenever there is something new to plan with."""

    def __init__(
        self,
        host: Host,
        discovery: Discovery,
        staging: Staging,
        ledger: Ledger,
        config: PlanConfig,
        note: Callable[[str], None],
        on_fault: Callable[[Checkpoint, CheckpointError | str], None],
        on_fetched: Callable[[Checkpoint, Adapter], None],
        on_known: Callable[[Checkpoint], None],
        on_gone: Callable[[CheckpointSeen], None],
    ) -> None:
        self._host = host
        self._discovery = discovery
        self._curves = Curves(host)
        self._readiness = Readiness(host, once=not config.patient)
        self._staging = staging
        self._ledger = ledger
        self._config = config
        self._note = note
        self._on_fault = on_fault
        self._on_fetched = on_fetched
        self._on_known = on_known
        self._on_gone = on_gone
        self._sightings: dict[tuple[str, str], Sighting] = {}
        self._wanted: list[Sighting] = []
        self._waiting = ""
        self._told: set[str] = set()
        self.changed: asyncio.Event = asyncio.Event()
        self.wanted: asyncio.Event = asyncio.Event()
        self._fetched: Sighting | None = None  # just now
        self._unlisted: set[tuple[str, str]] = set()
        self.runs: dict[str, Checkpoint] = {}  # seen so far, each with a checkpoint of it

    @property
    def sightings(self) -> list[Sighting]:
        return list(self._sightings.values())

    @property
    def waiting(self) -> str:
        """What is waited for, in words."""
        return self._waiting

    def remember(self, checkpoint: Checkpoint, digest: str, base: str) -> None:
        """Know a checkpoint whose copy is here, though its file may be gone."""
        self._sightings[checkpoint.file] = Sighting(checkpoint, digest, base, ready=True)

    async def look(self) -> None:
        """One round. Raises `BadInput` if there is no folder, `Unreachable` as the host does."""
        found = await self._found()
        chosen = [c for c in found.checkpoints if is_chosen(c, self._config)]
        self.runs.update((c.run, c) for c in chosen)
        for refused in found.refused:
            if not is_chosen(refused.checkpoint, self._config):
                continue
            self.runs.setdefault(refused.checkpoint.run, refused.checkpoint)
            if refused.reason not in self._told:
                self._told.add(refused.reason)
                self._on_fault(refused.checkpoint, refused.reason)
        for text in found.unlisted:
            if text not in self._told:
                self._told.add(text)
                self._note(f"not looked into: {printable(text)}")
        look = await self._readiness.look([c for c in chosen if not self._is_known(c)])
        for checkpoint, reason in look.broken:
            self._readiness.settle(checkpoint)
            self._sightings[checkpoint.file] = Sighting(checkpoint, fault=reason)
            self._on_fault(checkpoint, reason)
        for checkpoint in look.ready:
            self._readiness.settle(checkpoint)
            self._sightings[checkpoint.file] = Sighting(
                checkpoint, base=await self._discovery.base_of(checkpoint), ready=True
            )
        for checkpoint in chosen:
            known = self._sightings.get(checkpoint.file)
            same = (
                known is not None
                and known.checkpoint.run == checkpoint.run
                and known.checkpoint.state == checkpoint.state
            )
            if not same or self._ledger.is_gone(checkpoint):
                digest = self._ledger.digest_of(checkpoint)
                if digest:  # no content is read of what was read before
                    self._readiness.settle(checkpoint)
                    base = await self._discovery.base_of(checkpoint)
                    self._sightings[checkpoint.file] = Sighting(checkpoint, digest, base, ready=True)
                    self._on_known(checkpoint)
        self._forget({c.file for c in chosen})
        await self._miss({c.file for c in found.checkpoints})
        await self._read_losses(found)
        self._waiting = _waiting(look)
        self.changed.set()

    async def _found(self) -> Found:
        found = await self._discovery.look()
        new = [c for c in found.checkpoints if is_chosen(c, self._config) and not self._is_known(c)]
        if pause := self._readiness.pause(new):
            await asyncio.sleep(pause)
            return await self._discovery.look()
        return found

    async def _read_losses(self, found: Found) -> None:
        runs = set(self.runs)
        for log, losses in await self._curves.read([log for log in found.logs if log.run in runs]):
            for loss in losses:
                record = LossSeen(
                    run=log.run,
                    iteration=loss.iteration,
                    part=loss.part,
                    value=loss.value,
                    host=self._host.name,
                    path=recorded(log.entry.path, self._host.name),
                    tag=log.tag,
                    run_id=log.run_id,
                )
                if not self._ledger.has_loss(record):
                    self._ledger.append(record)

    def _is_known(self, checkpoint: Checkpoint) -> bool:
        return bool(self._ledger.digest_of(checkpoint))

    def _forget(self, present: set[tuple[str, str]]) -> None:
        """Drop what is gone from the host, but for what was fetched of it, and lies in no other file of its run."""
        here = {(s.checkpoint.run, s.digest) for file, s in self._sightings.items() if file in present and s.digest}
        for file, sighting in list(self._sightings.items()):
            elsewhere = (sighting.checkpoint.run, sighting.digest) in here
            if file not in present and (elsewhere or not (sighting.digest and self._staging.get(sighting.digest))):
                del self._sightings[file]

    async def _miss(self, present: set[tuple[str, str]]) -> None:
        """Tell of files that the journal knows and that are no more.

        What is there and not listed (a link by now, or known by another way to it) is not asked for in each round.
        """
        known = present | self._unlisted
        missed = [
            last
            for last in self._ledger.seen()
            if last.run in self.runs and not last.gone and (last.host, last.path) not in known
        ]
        # Of several with the same weights that one goes last which gave them their label: they keep it.
        for last in sorted(missed, key=lambda each: (not each.numbered, each.iteration, each.path), reverse=True):
            with contextlib.suppress(HostFault):  # it can't be known
                if last.host == self._host.name and await self._host.stat(text_path(last.path)) is None:
                    self._on_gone(last)
                else:
                    self._unlisted.add((last.host, last.path))
        self._unlisted -= present

    def want(self, sightings: Sequence[Sighting]) -> None:
        """Fetch these, in this order, as far as there is room."""
        missing = [s for s in sightings if not (s.digest and self._staging.get(s.digest))]
        self._wanted = [s for s in missing if s is not self._fetched]
        if self._wanted:
            self.wanted.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is being fetched, and nothing that is wanted has room."""
        return self._fetched is None and not any(self._staging.has_room(s.checkpoint.size) for s in self._wanted[:1])

    async def fetch_on(self, pause: float) -> None:
        """Fetch what is wanted, for ever. Raises `DiskFault`, and `Unreachable` where there is no later round.

        pause: seconds until a host that could not be reached is asked again.
        """
        lost = ""
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            while self._wanted and self._staging.has_room(self._wanted[0].checkpoint.size):
                sighting = self._wanted.pop(0)
                self._fetched = sighting
                try:
                    await self._fetch(sighting)
                    lost = ""
                except Unreachable as error:
                    if not self._config.patient:
                        raise
                    if str(error) != lost:
                        self._note(f"{error}; fetching {sighting.checkpoint.label} again later")
                    lost = str(error)
                finally:
                    self._fetched = None
                    if not lost:
                        self.changed.set()
                await asyncio.sleep(pause if lost else 0)
                if lost:
                    self.changed.set()  # the next plan wants it again

    async def _fetch(self, sighting: Sighting) -> None:
        checkpoint = sighting.checkpoint
        try:
            adapter = await self._staging.fetch(self._host, checkpoint)
        except CheckpointError as error:
            if isinstance(error, NotReady) and self._config.patient:  # it has just changed or gone: the next round sees
                self._sightings.pop(checkpoint.file, None)
                self._note(f"{checkpoint.label}: {printable(str(error))}")
                return
            sighting.fault = str(error)
            self._on_fault(checkpoint, error)
            return
        sighting.digest = adapter.digest
        self._sightings.setdefault(checkpoint.file, sighting)  # its file may be gone by now: the copy is here
        self._on_fetched(checkpoint, adapter)


def _waiting(look: Look) -> str:
    """What is waited for: nothing is said of files that merely have to be seen unchanged once more."""
    written = [f"{checkpoint.label} ({reason})" for checkpoint, reason in look.waiting if reason != UNSETTLED]
    return printable("; ".join(written)) or "the next checkpoint"


async def poll(scout: Scout, seconds: float, note: Callable[[str], None]) -> None:
    """Look again and again, for ever. A folder or host that goes away was there at the start: it may come back."""
    lost = ""
    while True:
        await asyncio.sleep(seconds)
        try:
            await scout.look()
            if lost:
                note("the folder is there again")
            lost = ""
        except (BadInput, Unreachable) as error:
            if str(error) != lost:
                note(f"{error}; looking again")
            lost = str(error)
