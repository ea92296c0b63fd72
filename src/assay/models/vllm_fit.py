"""Does an adapter fit a base that only its server sees? vLLM itself refuses only what is too large (`made_adapters`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from assay.errors import AdapterMismatch, CheckpointError
from assay.models.made_adapters import Pair, outermost

# More than any layer has beyond an adapter's own size.
_FAR = 1 << 20
_AT_ONCE = 4
_NOWHERE = ["taken", "taken"]
_FEW = 3  # differences, that an error's sentence names itself

_Kind = tuple[str, int, int]


class Fit:
    """What is known of one server's base. Each kind of layer is asked for once.

    take: has the server load a pair of zeros, and forget it; raises as `VllmApi.load`.
    """

    def __init__(self, take: Callable[[Pair], Awaitable[None]]) -> None:
        self._take = take
        self._fitting: dict[_Kind, set[tuple[int, ...]]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def check(self, pairs: Iterable[Pair], where: str) -> None:
        """Raise `AdapterMismatch` for an adapter, taken by the server, whose layers are smaller than the base's or not there.

        A server that cuts tensors up among several GPUs refuses none for being too large in the direction that is cut; where
        all are taken, nothing is learnt, nor anything said. Raises also what `take` does, but for `CheckpointError`.
        """
        last, first = outermost(pairs)
        found = await self._found([pair for pair in last if pair.layer not in self._fitting.get(pair.kind, ())])
        if any(sides == _NOWHERE for sides in found.values()):
            found |= await self._found([pair for pair in first if pair not in found])
        if differences := _differences(found):
            named = "; ".join(differences[:_FEW]) + ("; and more" if len(differences) > _FEW else "")
            raise AdapterMismatch(f"it is for another base than {where} has: {named}", differences)
        for pair in found:
            self._fitting.setdefault(pair.kind, set()).add(pair.layer)

    async def _found(self, pairs: Sequence[Pair]) -> dict[Pair, list[str]]:
        """What is known of each layer inwards and outwards."""
        ways = [self._side(pair, *way) for pair in pairs for way in ((1, 0), (0, 1))]
        found = await asyncio.gather(*ways)
        return {pair: found[2 * place : 2 * place + 2] for place, pair in enumerate(pairs)}

    async def _side(self, pair: Pair, inputs: int, outputs: int) -> str:
        """What is known of a layer in one direction: "exact", "larger" than the adapter's, or anything is "taken"."""
        for more, told in ((1, "exact"), (_FAR, "larger")):
            try:
                async with self._at_once:
                    await self._take(Pair(pair.module, pair.inputs + more * inputs, pair.outputs + more * outputs))
            except CheckpointError:
                return told
        return "taken"


def _differences(found: Mapping[Pair, Sequence[str]]) -> list[str]:
    """Between the adapter and the base. Of layers that take anything, nothing is said where the server refuses nothing."""
    differences = [
        f"{pair.module}: the base's layer has more than the adapter's {size} numbers {way}"
        for pair, sides in found.items()
        for side, size, way in zip(sides, (pair.inputs, pair.outputs), ("in", "out"), strict=True)
        if side == "larger"
    ]
    there = {pair.block for pair, sides in found.items() if sides != _NOWHERE}
    if there:
        differences += [f"{pair.module}: the base has no such layer" for pair in found if pair.block not in there]
    return differences
