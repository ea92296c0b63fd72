"""Copies of checkpoints in the workspace, within a bound of bytes: no trainer deletes or overwrites what is fetched.

Copies outlive the process that made them; a later one goes on with them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Container
from pathlib import Path

from assay.adapters.files import stage, staged
from assay.hosts.base import Host
from assay.types import Adapter, Checkpoint


class Staging:
    """The folder of copies. bound: bytes; one copy may be larger than it, and then is alone but for foreign ones."""

    def __init__(self, folder: Path, bound: int) -> None:
        self._folder = folder
        self._bound = bound
        self._held: dict[str, tuple[Adapter, int]] = {}
        self._foreign: Container[str] = ()
        self._resting: set[str] = set()  # foreign ones that nobody here waits for
        self._fetching = 0

    async def recover(self, wanted: Container[str], foreign: Container[str] = ()) -> None:
        """Take over the copies that an earlier process left of these digests, and remove all others but half ones.

        foreign: digests of copies that other watches wait for, which stay whatever `keep` is told.
        """
        self._foreign = foreign
        for place in sorted(self._folder.glob("[0-9a-f]*")):
            stays = place.name in wanted or place.name in foreign
            adapter = await asyncio.to_thread(staged, self._folder, place.name) if stays else None
            if adapter is None:
                shutil.rmtree(place, ignore_errors=True)
                continue
            self._hold(adapter)
            if place.name not in wanted:
                self._resting.add(place.name)

    def has_room(self, size: int) -> bool:
        """Whether a copy of so many bytes may be made now. Foreign copies leave room for one at least."""
        return self._held.keys() <= self._resting or sum(held for _, held in self._held.values()) + size <= self._bound

    def get(self, digest: str) -> Adapter | None:
        """The copy with this digest, if it is here."""
        held = self._held.get(digest)
        return held[0] if held is not None else None

    async def fetch(self, host: Host, checkpoint: Checkpoint) -> Adapter:
        """Copy and read a checkpoint. Raises as `assay.adapters.files.stage`."""
        self._fetching += 1
        try:
            adapter = await stage(host, checkpoint, self._folder)
        finally:
            self._fetching -= 1
        self._hold(adapter)
        self._resting.discard(adapter.digest)
        return adapter

    def keep(self, wanted: Container[str]) -> None:
        """Remove the copies that are not wanted any more. wanted: digests, of all runs: one copy serves them all.

        Not while something is fetched, which may turn out to be one of them.
        """
        if self._fetching:
            return
        for digest in [digest for digest in self._held if digest not in wanted]:
            if digest in self._foreign:
                self._resting.add(digest)
            else:
                del self._held[digest]
                shutil.rmtree(self._folder / digest, ignore_errors=True)

    def clear_halves(self) -> None:
        """Remove what is left of copies that were cut off: nobody will go on with them."""
        for half in self._folder.glob(".fetch-*"):
            shutil.rmtree(half, ignore_errors=True)

    def tidy(self) -> None:
        """Remove the folder if it is empty."""
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _hold(self, adapter: Adapter) -> None:
        self._held[adapter.digest] = adapter, adapter.weights.stat().st_size
