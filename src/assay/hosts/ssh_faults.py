"""What SFTP's errors mean for a path."""

from __future__ import annotations

from pathlib import PurePosixPath

import asyncssh

from assay.errors import HostFault
from assay.hosts.base import shown
from assay.hosts.faults import forbidden, full, missing, no_folder

_MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPInvalidFilename)
_FORBIDDEN = (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect)
_FULL = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)


def is_missing(error: asyncssh.SFTPError) -> bool:
    return isinstance(error, _MISSING)


def sftp_fault(error: asyncssh.SFTPError, host: str, path: PurePosixPath) -> HostFault:
    """The fault that an error means. SFTP as OpenSSH speaks it has few words, and most things are only a "failure"."""
    if isinstance(error, _MISSING):
        return missing(host, path)
    if isinstance(error, _FORBIDDEN):
        return forbidden(host, path)
    if isinstance(error, _FULL):
        return full(host, path)
    if isinstance(error, asyncssh.SFTPNotADirectory):
        return no_folder(host, path)
    return HostFault(f"{shown(host, path)} can't be read or written: {error.reason or 'the host says no more'}")
