"""Several sinks, each with a shipper of its own, beside other work: none waits for another, and the work waits for none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from assay.errors import BadInput, Unreachable
from assay.sinks.base import Sink
from assay.sinks.shipper import Shipper

# When the work is done, a sink that is up gets the rest, and one that is down isn't waited for.
_DRAIN_SECONDS = 120.0


class Forwarding:
    """Use it as an asynchronous context manager around the work. behind: after it, the sinks that lack something, with why."""

    def __init__(self, workspace: Path, sinks: Sequence[Sink], note: Callable[[str], None]) -> None:
        self._sinks = sinks
        self._note = note
        self._shippers = {sink.place: Shipper(workspace, sink, note) for sink in sinks}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.behind: dict[str, str] = {}

    async def __aenter__(self) -> Forwarding:
        for sink in self._sinks:
            try:
                await self._shippers[sink.place].check()
            except Unreachable as error:
                self._note(f"the sink {sink.name} can't be reached ({error}); results are kept and sent when it can")
        self._tasks = {sink.name: asyncio.create_task(self._shippers[sink.place].run()) for sink in self._sinks}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        ended = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for name, result in zip(self._tasks, ended, strict=True):
            if isinstance(result, Exception):
                self._note(f"forwarding to the sink {name} ended: {result}")
        if kind is None:
            await asyncio.gather(*(self._drain(sink) for sink in self._sinks))
        for sink in self._sinks:
            await sink.aclose()

    async def _drain(self, sink: Sink) -> None:
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._shippers[sink.place].drain()
        except TimeoutError:
            self.behind[sink.name] = f"it took more than {_DRAIN_SECONDS:.0f} s"
        except (BadInput, Unreachable) as error:
            self.behind[sink.name] = str(error)


class Forwarded(NamedTuple):
    """What became of one sink: how many facts it took, and what kept it from taking more, if anything did."""

    sent: int
    fault: BadInput | Unreachable | None = None


async def forward(
    workspace: Path, sinks: Sequence[Sink], note: Callable[[str], None], *, again: bool = False
) -> dict[str, Forwarded]:
    """Send each sink all that it lacks, by the sinks' names. again: also what it has taken."""
    return {sink.name: await _forward(Shipper(workspace, sink, note), sink, again) for sink in sinks}


async def _forward(shipper: Shipper, sink: Sink, again: bool) -> Forwarded:
    try:
        await shipper.check()
        if again:
            shipper.begin_anew()
        await shipper.drain()
    except (BadInput, Unreachable) as error:
        return Forwarded(shipper.taken, error)
    finally:
        await sink.aclose()
    return Forwarded(shipper.taken)
