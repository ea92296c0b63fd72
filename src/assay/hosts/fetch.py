"""Copying a file here from any host: in blocks, resumed, and verified on both sides before it has its name."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path, PurePosixPath
from weakref import WeakValueDictionary

from assay.errors import HostFault
from assay.hosts.base import Copied, Entry, Host
from assay.hosts.faults import changed, fault, missing, no_file
from assay.hosts.partial import Partial

# Of each block a piece is on its way, of 256 KiB over SSH: with so many, a link of 100 ms carries some 40 MB/s.
_BLOCK_BYTES = 1 << 20
_BLOCKS_AHEAD = 16

_under_way: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()


async def fetch(host: Host, source: PurePosixPath, target: Path) -> Copied:
    """`Host.copy_from`, by the host's `stat`, `read` and `digest`.

    What is here of the copy stays for a later call if this one is interrupted or the host is lost. It is removed where it
    can't be gone on with (the source changed or is gone), and where there is no room: others need that more.
    """
    lock = _under_way.setdefault(target, asyncio.Lock())
    async with lock:
        before = await plain_file(host, source)
        partial = Partial.of(target, host.name, before)
        try:
            copied = await _copy(host, before, partial)
            if copied is None:  # what was here from an earlier call did not fit: all of it again
                copied = await _copy(host, before, partial)
            if copied is None:
                raise changed(host.name, source)
            await asyncio.to_thread(partial.keep)
        except HostFault as error:
            if error.kind in ("changed", "missing"):
                await _discard(partial)
            raise
        except OSError as error:
            if error.errno is not None:
                found = fault(error, "", target)
                if found.kind == "full":
                    await _discard(partial)
                raise found from None
            raise
        return copied


async def plain_file(host: Host, path: PurePosixPath) -> Entry:
    """The entry of a file. Raises `HostFault` if there is none, or if it is anything else."""
    entry = await host.stat(path)
    if entry is None:
        raise missing(host.name, path)
    if entry.kind != "file":
        raise no_file(host.name, path)
    return entry


async def _copy(host: Host, before: Entry, partial: Partial) -> Copied | None:
    """Copy what is not here yet, and verify. None if that failed, and the partial file is gone.

    Times are coarse (SFTP knows whole seconds), so what shows a change for sure is the digest, taken last. Raises
    `HostFault` "changed" if the source is not what it was.
    """
    here = await asyncio.to_thread(partial.begin, before.size)
    resumed = here > 0
    async with aclosing(_blocks(host, before, here)) as blocks:
        async for block in blocks:
            await asyncio.to_thread(partial.append, block)
    theirs, ours = await asyncio.gather(host.digest(before.path), asyncio.to_thread(partial.digest))
    after = await host.stat(before.path)
    if after is None or (after.size, after.modified_ns) != (before.size, before.modified_ns):
        raise changed(host.name, before.path)
    if theirs == ours:
        return Copied(before.size, ours)
    if not resumed:
        raise changed(host.name, before.path)
    await asyncio.to_thread(partial.discard)
    return None


async def _blocks(host: Host, source: Entry, start: int) -> AsyncGenerator[bytes, None]:
    """The file's bytes from `start` on, in order, a few blocks being asked for ahead."""
    waiting: deque[tuple[int, asyncio.Task[bytes]]] = deque()
    try:
        while start < source.size or waiting:
            while start < source.size and len(waiting) < _BLOCKS_AHEAD:
                length = min(_BLOCK_BYTES, source.size - start)
                waiting.append((length, asyncio.create_task(host.read(source.path, start, length))))
                start += length
            length, reading = waiting[0]
            block = await reading
            waiting.popleft()
            if len(block) != length:
                raise changed(host.name, source.path)
            yield block
    finally:
        for _, reading in waiting:
            reading.cancel()
        await asyncio.gather(*(reading for _, reading in waiting), return_exceptions=True)


async def _discard(partial: Partial) -> None:
    with contextlib.suppress(OSError):
        await asyncio.to_thread(partial.discard)
