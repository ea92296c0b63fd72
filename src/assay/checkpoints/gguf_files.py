"""Which GGUF files are checkpoints: those of adapters, where the same one does not lie beside as safetensors."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

from assay.adapters.gguf_lora import HEAD, kind_of
from assay.checkpoints.layouts import Written
from assay.errors import HostFault
from assay.hosts.base import Entry, Host, shown

_AT_ONCE = 32  # files that are read at the same time

_State: TypeAlias = tuple[int, int]


class GgufFiles:
    """Tells adapters from models by a file's first bytes, which are read once for each state of the file.

    known: files that were journaled as checkpoints: they are not read again.
    """

    def __init__(self, host: Host, known: Collection[PurePosixPath]) -> None:
        self._host = host
        self._known = known
        self._kinds: dict[PurePosixPath, tuple[_State, str]] = {}

    async def pick(self, written: Sequence[Written], passed_over: list[str]) -> list[Written]:
        """Of all that was found, without the GGUF files that are no checkpoints. passed_over: gets what is said of those.

        Nothing need be said of pickled weights that were converted.
        """
        twins = {(w.run_folder, w.number): w for w in written if w.layout != "gguf" and not w.pickled}
        ggufs = [w for w in written if w.layout == "gguf"]
        limit = asyncio.Semaphore(_AT_ONCE)
        kinds = await asyncio.gather(*(self._kind(each.weights, limit) for each in ggufs))
        left_out = set()
        for each, kind in zip(ggufs, kinds, strict=True):
            twin, path = twins.get((each.run_folder, each.number)), each.weights.path
            name = shown(self._host.name, path)
            if kind != "adapter":
                left_out.add(path)
                passed_over.append(f"{name}, a GGUF {kind or 'model'}, not an adapter")
            elif twin is not None:
                left_out.add(path)
                passed_over.append(
                    f"{name}, for {twin.weights.path.name} is of the same checkpoint, and read in its place"
                )
        told = {(w.run_folder, w.number) for w in ggufs if w.weights.path not in left_out}
        left_out |= {w.weights.path for w in written if w.pickled and (w.run_folder, w.number) in told}
        return [w for w in written if w.weights.path not in left_out]

    async def _kind(self, file: Entry, limit: asyncio.Semaphore) -> str:
        """ "adapter" also for what can't be told yet: it is read again, and waited for, like any that is being written."""
        if file.path in self._known:
            return "adapter"
        state = file.size, file.modified_ns
        known = self._kinds.get(file.path)
        if known is not None and known[0] == state:
            return known[1]
        try:
            async with limit:
                kind = kind_of(await self._host.read(file.path, 0, HEAD))
        except HostFault:
            return "adapter"
        if kind is None:
            return "adapter"
        self._kinds[file.path] = state, kind
        return kind
