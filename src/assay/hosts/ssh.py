"""A host that is reached over SSH. Files are listed, read and copied over SFTP, which has no shell in it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar, cast

import asyncssh

from assay.errors import HostFault
from assay.hosts.address import Address
from assay.hosts.base import Copied, Entry, EntryKind, Ran
from assay.hosts.faults import changed, no_folder
from assay.hosts.fetch import fetch, plain_file
from assay.hosts.running import check_command
from assay.hosts.ssh_config import resolve
from assay.hosts.ssh_connect import Session
from assay.hosts.ssh_faults import is_missing, sftp_fault
from assay.hosts.ssh_link import Link, Pace, Patience, Work
from assay.hosts.ssh_run import NoPrograms, run_program
from assay.hosts.ssh_send import open_file, raw, send

T = TypeVar("T")

# Pieces of work at once: enough to hide the way there and back, and few enough for a server that may have 256 files open.
_SLOTS = 64
# Of programs, few: OpenSSH's server allows ten sessions a connection, and SFTP is one of them.
_PROGRAMS = 4
_BLOCK_BYTES = 1 << 20
# OpenSSH's server tells of so many files in one answer.
_ANSWER_ENTRIES = 100
# The slowest disk that a digest is waited for, in bytes a second.
_SLOWEST_DISK = 10_000_000
_DIGEST_PROGRAMS = (("sha256sum", "--"), ("shasum", "-a", "256", "--"))
_DIGEST_LINE = re.compile(r"^\\?([0-9a-f]{64}) [ *]", re.MULTILINE)
# What a listing alone doesn't tell: where a link leads, and what servers send without its kind.
_FOLLOWED = {asyncssh.FILEXFER_TYPE_SYMLINK, asyncssh.FILEXFER_TYPE_UNKNOWN}
_KINDS: dict[int, EntryKind] = {asyncssh.FILEXFER_TYPE_REGULAR: "file", asyncssh.FILEXFER_TYPE_DIRECTORY: "folder"}


class SSHHost:
    """A machine behind an SSH server; see `Host`. It is connected to when it is first asked for something.

    Raises `BadInput` if the user's SSH configuration can't be read.
    """

    def __init__(self, address: Address, patience: Patience | None = None) -> None:
        self._route = resolve(address)
        self._link = Link(self._route, patience or Patience())
        self._name = self._route.name
        self._slots = asyncio.Semaphore(_SLOTS)
        self._programs = asyncio.Semaphore(_PROGRAMS)
        self._digest_programs = list(_DIGEST_PROGRAMS)

    @property
    def name(self) -> str:
        return self._name

    async def list(self, folder: PurePosixPath) -> list[Entry]:
        async def work(session: Session, pace: Pace) -> list[Entry]:
            clear: list[Entry] = []
            unclear: list[tuple[PurePosixPath, asyncssh.SFTPAttrs]] = []
            async for item in session.sftp.scandir(raw(folder)):
                name = text(item.filename)
                if name in (".", ".."):
                    continue
                if item.attrs.type in _FOLLOWED:
                    unclear.append((folder / name, item.attrs))
                else:
                    clear.append(_entry(folder / name, item.attrs))
                if not (len(clear) + len(unclear)) % _ANSWER_ENTRIES:
                    pace.answered()
            followed = await asyncio.gather(*(_followed(session, path, attrs) for path, attrs in unclear))
            return sorted((*clear, *filter(None, followed)), key=lambda entry: entry.path.name)

        try:
            return await self._at(folder, work)
        except HostFault as fault:
            entry = await self.stat(folder) if fault.kind in ("missing", "other") else None
            raise no_folder(self._name, folder) if entry is not None and entry.kind != "folder" else fault from None

    async def stat(self, path: PurePosixPath) -> Entry | None:
        async def work(session: Session, _: Pace) -> Entry | None:
            try:
                attrs = await session.sftp.lstat(raw(path))
            except asyncssh.SFTPError as error:
                if is_missing(error):
                    return None
                raise
            return await _followed(session, path, attrs) if attrs.type in _FOLLOWED else _entry(path, attrs)

        return await self._at(path, work)

    async def real(self, path: PurePosixPath) -> PurePosixPath:
        async def work(session: Session, _: Pace) -> PurePosixPath:
            await session.sftp.stat(raw(path))  # a name at the end need not exist for `realpath`
            found = await session.sftp.realpath(raw(path))
            return PurePosixPath(text(found))

        return await self._at(path, work)

    async def read(self, path: PurePosixPath, start: int = 0, length: int | None = None) -> bytes:
        size = (await plain_file(self, path)).size  # to open a pipe would wait for its other end
        wanted = max(0, size - start) if length is None else min(length, max(0, size - start))
        content = bytearray()

        async def work(session: Session, pace: Pace) -> None:
            async with await open_file(session.sftp, raw(path), asyncssh.FXF_READ) as file:
                while len(content) < wanted:
                    asked = min(session.sftp.limits.max_read_len, wanted - len(content))
                    piece = cast(bytes, await file.read(asked, start + len(content)))
                    if not piece:
                        break
                    content.extend(piece)
                    pace.kept()

        await self._at(path, work)
        return bytes(content)

    async def digest(self, path: PurePosixPath) -> str:
        """By a program there; by reading the file again where there is none, as for an account with nothing but SFTP, and where
        it is so small that this takes less time than a program's start."""
        size = (await plain_file(self, path)).size
        if size <= _BLOCK_BYTES:
            return await self._digest_by_reading(path, size)
        absolute = path if path.is_absolute() else await self.real(path)
        for program in tuple(self._digest_programs):
            try:
                ran = await self.run([*program, str(absolute)], 60 + size / _SLOWEST_DISK)
            except NoPrograms:
                break
            found = _DIGEST_LINE.search(ran.output) if ran.status == 0 else None
            if found:
                return found[1]
        digest = await self._digest_by_reading(path, size)
        self._digest_programs.clear()  # the file was fine, so it is the programs that aren't there
        return digest

    async def _digest_by_reading(self, path: PurePosixPath, size: int) -> str:
        found = hashlib.sha256()
        for start in range(0, size, 8 * _BLOCK_BYTES):
            length = min(8 * _BLOCK_BYTES, size - start)
            block = await self.read(path, start, length)
            if len(block) != length:
                raise changed(self._name, path)
            await asyncio.to_thread(found.update, block)
        return found.hexdigest()

    async def run(self, command: Sequence[str], timeout_seconds: float = 60.0) -> Ran:
        """See `Host.run`. Raises `Unreachable` if the connection drops meanwhile: what the program did is then not known."""
        words = tuple(command)
        check_command(words)
        async with self._programs:
            return await run_program(self._link, self._name, words, timeout_seconds)

    async def copy_from(self, source: PurePosixPath, target: Path) -> Copied:
        return await fetch(self, source, target)

    async def copy_to(self, source: Path, target: PurePosixPath) -> Copied:
        return await send(self, self._at, source, target)

    async def aclose(self) -> None:
        await self._link.aclose()

    async def _at(self, path: PurePosixPath, work: Work[T]) -> T:
        """Have work done whose errors are about a path."""
        async with self._slots:
            try:
                return await self._link.call(work)
            except asyncssh.SFTPError as error:
                raise sftp_fault(error, self._name, path) from None


def text(name: bytes | str) -> str:
    """A name as this program has it."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


async def _followed(session: Session, path: PurePosixPath, attrs: asyncssh.SFTPAttrs) -> Entry | None:
    """The entry of what these attributes alone don't tell, such as a link. None if it has vanished."""
    link = attrs.type == asyncssh.FILEXFER_TYPE_SYMLINK
    try:
        return _entry(path, await session.sftp.stat(raw(path)), link)
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection):
        raise
    except asyncssh.SFTPError as error:
        if link:  # it leads nowhere, or in a circle
            return Entry(path, "other", 0, _modified_ns(attrs), True)
        if is_missing(error):
            return None
        raise


def _entry(path: PurePosixPath, attrs: asyncssh.SFTPAttrs, link: bool = False) -> Entry:
    return Entry(path, _KINDS.get(attrs.type, "other"), attrs.size or 0, _modified_ns(attrs), link)


def _modified_ns(attrs: asyncssh.SFTPAttrs) -> int:
    return int(attrs.mtime or 0) * 10**9 + (attrs.mtime_ns or 0)
