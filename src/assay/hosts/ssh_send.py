"""Copying a file to an SSH host: in blocks, resumed, and verified on both sides before it has its name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
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
from assay.hosts.ssh_link import Pace, Work

T = TypeVar("T")

_BLOCK_BYTES = 4 << 20

_under_way: WeakValueDictionary[tuple[str, PurePosixPath], asyncio.Lock] = WeakValueDictionary()


class At(Protocol):
    """Has work done on a host whose errors are about a path."""

    def __call__(self, path: PurePosixPath, work: Work[T]) -> Awaitable[T]: ...


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
            if error.kind in ("changed", "missing", "full"):
                with contextlib.suppress(HostFault):
                    await at(partial, _removing(partial))
            raise
        return copied


async def _copy(host: Host, at: At, before: Entry, partial: PurePosixPath) -> Copied | None:
    """Write what is not there yet, and verify. None if that failed, and the partial file is gone."""
    here = LocalHost()
    there = await host.stat(partial)
    resumed = there is not None and 0 < there.size <= before.size
    if there is not None and not resumed:
        await at(partial, _removing(partial))
    try:
        await at(partial, _writing(before, partial))
    except HostFault as error:
        if error.kind == "other" and await _no_room(at, partial):
            raise full(host.name, partial) from None
        raise
    theirs, ours = await asyncio.gather(host.digest(partial), here.digest(before.path))
    after = await here.stat(before.path)
    if after is None or (after.size, after.modified_ns) != (before.size, before.modified_ns):
        raise changed("", before.path)
    if theirs == ours:
        return Copied(before.size, ours)
    await at(partial, _removing(partial))
    if not resumed:
        raise changed("", before.path)
    return None


def _writing(source: Entry, target: PurePosixPath) -> Work[None]:
    """Write what the target lacks of the source, and see that it is on the disk there."""

    async def work(session: Session, pace: Pace) -> None:
        async with await open_file(session.sftp, raw(target), asyncssh.FXF_WRITE | asyncssh.FXF_CREAT) as file:
            offset = (await file.stat()).size or 0
            while offset < source.size:
                block = await LocalHost().read(source.path, offset, min(_BLOCK_BYTES, source.size - offset))
                if not block:
                    raise changed("", source.path)
                await _write(session.sftp, file, offset, block)
                offset += len(block)
                pace.kept()
            with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                await file.fsync()

    return work


async def _write(sftp: asyncssh.SFTPClient, file: asyncssh.SFTPClientFile, start: int, block: bytes) -> None:
    """Write a block by several requests. They are done in their order, so if they are cut short there are no gaps."""
    most = sftp.limits.max_write_len
    offsets = range(0, len(block), most)
    await asyncio.gather(*(file.write(block[offset : offset + most], start + offset) for offset in offsets))


async def open_file(sftp: asyncssh.SFTPClient, path: bytes, flags: int) -> asyncssh.SFTPClientFile:
    """Open a file whose reads and writes are one request each. flags: of SFTP's `open`.

    The client's own division into several fills what is missing in the middle with zeros, and complains of each one that a
    dropped connection took with it.
    """
    return await sftp.open(path, flags, encoding=None, block_size=0)


async def _keep(host: Host, at: At, partial: PurePosixPath, target: PurePosixPath, copied: Copied) -> None:
    """Give the copy its name."""

    async def rename(session: Session, _: Pace) -> None:
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


def _removing(path: PurePosixPath) -> Work[None]:
    async def work(session: Session, _: Pace) -> None:
        try:
            await session.sftp.remove(raw(path))
        except asyncssh.SFTPError as error:
            if not is_missing(error):
                raise

    return work


async def _no_room(at: At, path: PurePosixPath) -> bool:
    """Whether it was for want of room that something could not be written; SFTP only says "failure"."""

    async def work(session: Session, _: Pace) -> bool:
        try:
            found = await session.sftp.statvfs(raw(path.parent))
        except asyncssh.SFTPOpUnsupported:
            return False
        return found.bavail * found.frsize < _BLOCK_BYTES

    return await at(path, work)


def raw(path: PurePosixPath) -> bytes:
    """A path as SFTP has it."""
    return str(path).encode("utf-8", "surrogateescape")
