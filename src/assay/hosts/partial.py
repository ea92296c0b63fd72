"""A file that is on its way: under a temporary name beside its target, until it is whole and verified."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from assay.hosts.base import Entry

# Room that a copy leaves on the disk: the journal lies there as well, and must never be what finds it full.
_SPARE_BYTES = 16 << 20


def partial_name(target: str, host: str, source: Entry) -> str:
    """The temporary name: it tells for which target, and of which state of which file.

    So a copy goes on, also after a restart, exactly if its source is still the same, and needs no record beside it.
    """
    state = json.dumps([host, str(source.path), source.size, source.modified_ns])
    return f"{partial_prefix(target)}{_short(state)}.part"


def partial_prefix(target: str) -> str:
    """How the temporary names of a target begin, whatever their source."""
    return f".assay-{_short(target)}-"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Partial:
    """A copy under way on this machine. Its methods block, and raise `OSError`."""

    path: Path
    target: Path

    @classmethod
    def of(cls, target: Path, host: str, source: Entry) -> Partial:
        return cls(target.with_name(partial_name(target.name, host, source)), target)

    def begin(self, size: int) -> int:
        """How many bytes of `size` are here already. What is left of copies of other states is removed.

        Raises `OSError` ENOSPC, before anything is written, if the rest would fill the disk.
        """
        for other in self.target.parent.iterdir():
            if other.name.startswith(partial_prefix(self.target.name)) and other != self.path:
                other.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size > size:
                self.discard()
        self.path.touch()
        here = self.path.stat().st_size
        if size > here and shutil.disk_usage(self.path).free < size - here + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return here

    def append(self, block: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(block)

    def digest(self) -> str:
        return file_digest(self.path)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def keep(self) -> None:
        """Give it its name, once its bytes are on the disk: no loss of power leaves a name without them."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
