"""From what a file system says to a `HostFault` that says it of a path."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath

from assay.errors import NO_ROOM, HostFault
from assay.hosts.base import shown


def missing(host: str, path: PurePosixPath | Path) -> HostFault:
    return HostFault(f"there is no {shown(host, path)}; it may have been removed", "missing")


def forbidden(host: str, path: PurePosixPath | Path) -> HostFault:
    return HostFault(f"{shown(host, path)} may not be read or written; check the permissions there", "forbidden")


def changed(host: str, path: PurePosixPath | Path) -> HostFault:
    return HostFault(f"{shown(host, path)} changed while it was copied; it may still be being written", "changed")


def full(host: str, path: PurePosixPath | Path) -> HostFault:
    return HostFault(f"there is no room for {shown(host, path)}; free some and try again", "full")


def no_folder(host: str, path: PurePosixPath | Path) -> HostFault:
    return HostFault(f"{shown(host, path)} is not a folder; name the folder that it lies in")


def no_file(host: str, path: PurePosixPath | Path) -> HostFault:
    return HostFault(f"{shown(host, path)} is not a file; only plain files can be read and copied")


def late(host: str, program: str, seconds: float) -> HostFault:
    where = f" on {host}" if host else ""
    return HostFault(f"{shown('', Path(program))} did not end within {seconds:g} s{where}, and was killed")


def fault(error: OSError, host: str, path: PurePosixPath | Path) -> HostFault:
    """The fault that an error of this machine's file system means for a path."""
    if isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP:
        return missing(host, path)
    if isinstance(error, PermissionError):
        return forbidden(host, path)
    if isinstance(error, NotADirectoryError):
        return no_folder(host, path)
    if error.errno in NO_ROOM:
        return full(host, path)
    return HostFault(f"{shown(host, path)} can't be read or written: {error.strerror or error}")
