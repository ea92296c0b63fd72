"""Copying a file to an SSH host: in blocks, resumed, and verified on both sides before it has its name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

import asyncssh

from assay.errors import HostFault
from assay.hosts.base import Copied, Entry, Host
from assay.hosts.faults import changed, full
from assay.hosts.fetch import plain_file
from assay.hosts.local import LocalHost
from assay.hosts.partial import partial_name, partial_prefix
from assay.hosts.ssh_connect import Session
from assay.hosts.ssh_faults import is_missing

T = TypeVar("T")

_BLOCK_BYTES = 4 << 20
_BLOCK_SECONDS = 460.0  # on a link of 10 kB/s

_under_way: WeakValueDictionary[tuple[str, PurePosixPath], asyncio.Lock] = WeakValueDictionary()


class At(Protocol):
    """Has work done on a host whose errors are about a path."""

    def __call__(
        self,
        path: PurePosixPath,
        work: Callable[[Session, Callable[[], None]], Awaitable[T]],
        seconds: float | None = None,
    ) -> Awaitable[T]: ...


async def send(host: Host, at: At, source: Path, target: PurePosixPath) -> Copied:
    """`Host.copy_to` over SFTP. What is there of the copy stays for a later call, as `fetch` does it."""
    lock = _under_way.setdefault((host.name, target), asyncio.Lock())
    async with lock:
        here = LocalHost()
        before = await plain_file(here, PurePosixPath(source))
        partial = target.with_name(partial_name(target.name, "", before))
        await _remove_others(host, at, partial, target)
        try:
            copied = await _copy(host, at, before, partial)
            if copied is None:  # what was there from an earlier call did not fit: all of it again
                copied = await _copy(host, at, before, partial)
            if copied is None:
                raise changed("", source)
            await _keep(host, at, partial, target, copied)
        except HostFault as error:
            if error.kind in ("changed", "full"):
                with contextlib.suppress(HostFault):
                    await at(partial, _removing(partial))
            raise
        return copied


async def _copy(host: Host, at: At, before: Entry, partial: PurePosixPath) -> Copied | None:
    """Write what is not there yet, and verify. None if that failed, and the partial file is gone."""
    here = LocalHost()
    there = await host.stat(partial)
    start = there.size if there is not None and there.size <= before.size else 0
    if there is not None and start == 0:
        await at(partial, _removing(partial))
    offset = start
    while True:
        block = await here.read(before.path, offset, min(_BLOCK_BYTES, before.size - offset))
        last = offset + len(block) >= before.size
        try:
            await at(partial, _writing(partial, block, offset, last), _BLOCK_SECONDS)
        except HostFault as error:
            if error.kind == "other" and await _no_room(at, partial, len(block)):
                raise full(host.name, partial) from None
            raise
        offset += len(block)
        if last or not block:
            break
    theirs, ours = await asyncio.gather(host.digest(partial), here.digest(before.path))
    after = await here.stat(before.path)
    if after is None or (after.size, after.modified_ns) != (before.size, before.modified_ns):
        raise changed("", before.path)
    if theirs == ours:
        return Copied(before.size, ours)
    await at(partial, _removing(partial))
    if not start:
        raise changed("", before.path)
    return None


async def _keep(host: Host, at: At, partial: PurePosixPath, target: PurePosixPath, copied: Copied) -> None:
    """Give the copy its name."""

    async def rename(session: Session, _: Callable[[], None]) -> None:
        try:
            await session.sftp.posix_rename(raw(partial), raw(target))
        except asyncssh.SFTPOpUnsupported:  # a server that can't replace a file in one step
            with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                await session.sftp.remove(raw(target))
            await session.sftp.rename(raw(partial), raw(target))

    try:
        await at(target, rename)
    except HostFault as error:
        # A connection that dropped after the renaming and before its answer had it done twice.
        if error.kind != "missing" or await host.digest(target) != copied.sha256:
            raise


async def _remove_others(host: Host, at: At, partial: PurePosixPath, target: PurePosixPath) -> None:
    """Remove what is left of copies of other states."""
    for entry in await host.list(target.parent):
        if entry.path.name.startswith(partial_prefix(target.name)) and entry.path.name != partial.name:
            await at(entry.path, _removing(entry.path))


def _writing(
    path: PurePosixPath, block: bytes, offset: int, last: bool
) -> Callable[[Session, Callable[[], None]], Awaitable[None]]:
    async def work(session: Session, _: Callable[[], None]) -> None:
        async with await session.sftp.open(raw(path), asyncssh.FXF_WRITE | asyncssh.FXF_CREAT, encoding=None) as file:
            await file.write(block, offset)
            if last:
                with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                    await file.fsync()

    return work


def _removing(path: PurePosixPath) -> Callable[[Session, Callable[[], None]], Awaitable[None]]:
    async def work(session: Session, _: Callable[[], None]) -> None:
        try:
            await session.sftp.remove(raw(path))
        except asyncssh.SFTPError as error:
            if not is_missing(error):
                raise

    return work


async def _no_room(at: At, path: PurePosixPath, wanted: int) -> bool:
    """Whether it was for want of room that so many bytes could not be written; SFTP only says "failure"."""

    async def work(session: Session, _: Callable[[], None]) -> bool:
        try:
            found = await session.sftp.statvfs(raw(path.parent))
        except asyncssh.SFTPOpUnsupported:
            return False
        return found.bavail * found.frsize < wanted

    return await at(path, work)


def raw(path: PurePosixPath) -> bytes:
    """A path as SFTP has it."""
    return str(path).encode("utf-8", "surrogateescape")
