"""This machine as a host. What may block runs in a thread, so that a slow disk stops nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import stat
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from assay.hosts.base import Copied, Entry, EntryKind, Ran
from assay.hosts.faults import fault, late
from assay.hosts.fetch import fetch, plain_file
from assay.hosts.partial import file_digest
from assay.hosts.running import check_command, read_bounded

T = TypeVar("T")


class LocalHost:
    """The machine that assay runs on; see `Host`."""

    @property
    def name(self) -> str:
        return ""

    async def list(self, folder: PurePosixPath) -> list[Entry]:
        return await _off_loop(folder, lambda: _list(folder))

    async def stat(self, path: PurePosixPath) -> Entry | None:
        return await _off_loop(path, lambda: _stat(path))

    async def real(self, path: PurePosixPath) -> PurePosixPath:
        return await _off_loop(path, lambda: PurePosixPath(Path(path).resolve(strict=True)))

    async def read(self, path: PurePosixPath, start: int = 0, length: int | None = None) -> bytes:
        await plain_file(self, path)
        return await _off_loop(path, lambda: _read(path, start, length))

    async def digest(self, path: PurePosixPath) -> str:
        await plain_file(self, path)
        return await _off_loop(path, lambda: file_digest(Path(path)))

    async def run(self, command: Sequence[str], timeout_seconds: float = 60.0) -> Ran:
        words = tuple(command)
        check_command(words)
        try:
            process = await asyncio.create_subprocess_exec(
                *(os.fsencode(word) for word in words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:  # in a shell's words; it may come from any folder of PATH
            there = not isinstance(error, FileNotFoundError) if "/" in words[0] else shutil.which(words[0]) is not None
            return Ran(126 if there else 127, "", f"{words[0]}: {error.strerror if there else 'not found'}")
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(timeout_seconds):
                printed = await asyncio.gather(read_bounded(process.stdout), read_bounded(process.stderr))
                status = await process.wait()
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
            await process.wait()
            if isinstance(error, TimeoutError):
                raise late("", words[0], timeout_seconds) from None
            raise
        (output, output_cut), (errors, errors_cut) = printed
        return Ran(status, output, errors, output_cut or errors_cut)

    async def copy_from(self, source: PurePosixPath, target: Path) -> Copied:
        return await fetch(self, source, target)

    async def copy_to(self, source: Path, target: PurePosixPath) -> Copied:
        return await fetch(self, PurePosixPath(source), Path(target))

    async def aclose(self) -> None:
        """Nothing is held."""


async def _off_loop(path: PurePosixPath, work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except RuntimeError as error:  # Python's word for links in a circle, before 3.13
        raise fault(OSError(errno.ELOOP, str(error)), "", path) from None
    except OSError as error:
        raise fault(error, "", path) from None


def _list(folder: PurePosixPath) -> list[Entry]:
    with os.scandir(folder) as found:
        entries = [_entry(folder / item.name, item.is_symlink()) for item in found]
    return sorted((e for e in entries if e is not None), key=lambda e: e.path.name)


def _stat(path: PurePosixPath) -> Entry | None:
    return _entry(path, os.path.islink(path))  # noqa: PTH114 (a pure path has no `is_symlink`)


def _entry(path: PurePosixPath, link: bool) -> Entry | None:
    """What lies there, or what the link that lies there leads to; None if it has vanished."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return _dangling(path) if link else None
    except OSError:
        if link:  # a circle of links
            return _dangling(path)
        raise
    return Entry(path, kind_of(found.st_mode), found.st_size, found.st_mtime_ns, link)


def _dangling(path: PurePosixPath) -> Entry | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return Entry(path, "other", 0, found.st_mtime_ns, True)


def kind_of(mode: int) -> EntryKind:
    """The kind of what has these permission bits."""
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def _read(path: PurePosixPath, start: int, length: int | None) -> bytes:
    with Path(path).open("rb") as file:
        file.seek(start)
        return file.read(-1 if length is None else length)
