"""A host: where checkpoints lie. The machine that assay runs on, or one that is reached over SSH.

All paths are the host's own; a relative one counts from where the host begins (this process's folder, or the user's home
over SSH). A name that is no UTF-8 has its bytes as surrogates, as Python does it everywhere. Nothing is ever done by a shell
command built from names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from assay.paths import printable

EntryKind = Literal["file", "folder", "other"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies under a path; of a symbolic link, what it leads to, with `link` set.

    size: bytes. modified_ns: nanoseconds since the epoch, as fine as the host tells: SFTP knows whole seconds, so there a
    change within the second may not show. A link that leads nowhere is "other".
    """

    path: PurePosixPath
    kind: EntryKind
    size: int
    modified_ns: int
    link: bool = False


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that is whole: its bytes and their sha256 hex, the same on both sides."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to on a host: its exit status and what it printed, the first mebibyte of each.

    status: 127 where there is no such program, 126 where it can't be run; negative for the signal that ended it. cut: more
    was printed than is here.
    """

    status: int
    output: str
    errors: str
    cut: bool = False


class Host(Protocol):
    """What the agent needs of a machine.

    Errors: `HostFault` for a path (missing, forbidden, changed meanwhile, no room), `BadInput` for what the user must put
    right before anything can work (unknown host key, refused key, unknown host), and `Unreachable` when the host could
    not be reached within its own bounded retries; a later call tries again.

    name: "" for this machine, else what tells it apart in the journal, without secrets: `ssh://user@host:port`.
    """

    @property
    def name(self) -> str: ...

    async def list(self, folder: PurePosixPath) -> list[Entry]:
        """What lies in a folder, not below it, in the order of names. No file's content is read.

        What vanishes meanwhile is left out.
        """
        ...

    async def stat(self, path: PurePosixPath) -> Entry | None:
        """The entry at a path; None if there is none."""
        ...

    async def real(self, path: PurePosixPath) -> PurePosixPath:
        """The absolute path with all links resolved."""
        ...

    async def read(self, path: PurePosixPath, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file from `start`, at most `length` of them (None: to its end)."""
        ...

    async def digest(self, path: PurePosixPath) -> str:
        """The sha256 of a file's bytes in hex, taken where the file lies if the host can."""
        ...

    async def run(self, command: Sequence[str], timeout_seconds: float = 60.0) -> Ran:
        """Run a program with its arguments, each handed over as it is, and with nothing to read.

        Raises `HostFault` if it has not ended in time; it is then killed.
        """
        ...

    async def copy_from(self, source: PurePosixPath, target: Path) -> Copied:
        """Copy a file here.

        It lands under a temporary name beside `target`, goes on where an earlier try ended if the source is still the
        same, and takes its name when its size and digest have been verified. Raises `HostFault` "changed" if the source
        changed meanwhile.
        """
        ...

    async def copy_to(self, source: Path, target: PurePosixPath) -> Copied:
        """Copy a file there, in the same way."""
        ...

    async def aclose(self) -> None: ...


def shown(host: str, path: PurePosixPath | Path) -> str:
    """A path on the host of that name as a message shows it: on one line, and printable whatever bytes it holds."""
    text = printable(str(path))
    if not host:
        return text
    address = host.partition("?")[0]  # what comes after it tells machines apart, and is no part of an address
    return address + text if text.startswith("/") else f"{address}/~/{text}"
