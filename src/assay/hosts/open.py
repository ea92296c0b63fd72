"""From what the user types to a host and a path there: a plain path, or `ssh://[user@]host[:port]/path`."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from assay.errors import BadInput
from assay.hosts.address import SCHEME, parse_address
from assay.hosts.base import Host
from assay.hosts.local import LocalHost

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_COPY_STYLE = re.compile(r"((?:[\w.-]+@)?[\w.-]+):(.*)", re.DOTALL)


def open_host(text: str) -> tuple[Host, PurePosixPath]:
    """The host that `text` names, not connected to yet, and the path on it.

    Raises `BadInput` for what is neither a path nor an SSH address, and where what SSH needs is not installed.
    """
    if text.lower().startswith(SCHEME):
        address, path = parse_address(text)
        if find_spec("asyncssh") is None:
            raise BadInput(f"{text} needs an SSH client, which is not installed; pip install 'assay[ssh]'")
        from assay.hosts.ssh import SSHHost  # a quarter of a second, for those who use it

        return SSHHost(address), path
    if match := _SCHEME.match(text):
        raise BadInput(f"{match[0]} is no scheme that a host is named by; give a path, or ssh://HOST/PATH")
    if not text:
        raise BadInput("an empty path names no folder; give a path, or ssh://HOST/PATH")
    path = PurePosixPath(Path(text).expanduser())
    if (match := _COPY_STYLE.fullmatch(text)) and not Path(path).exists():
        rest = match[2] if match[2].startswith("/") else f"/~/{match[2]}".rstrip("/")
        raise BadInput(f"there is no folder {text} here; for one on another machine write {SCHEME}{match[1]}{rest}")
    return LocalHost(), path
