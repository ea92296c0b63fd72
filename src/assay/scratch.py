"""Temporary folders that don't outlive their process for long: what a killed one has left, the next one removes.

Each folder holds a file that its process has locked (flock) for as long as it lives. The kernel gives the lock back however
the process ends, and children don't inherit it. So a folder whose file anybody can lock belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

_NAME = re.compile(r"assay-[a-z-]+-[a-z0-9_]{8}")
_LOCK = ".assay-scratch"


class Scratch:
    """A new folder in the system's place for temporary files, removed with all in it by `cleanup`, or when this process ends.

    kind: what it is for, a part of its name. As a context manager it gives its path. Raises `OSError` where none can be made.
    """

    def __init__(self, kind: str) -> None:
        _sweep(tempfile.gettempdir())
        self.path = Path(tempfile.mkdtemp(prefix=f"assay-{kind}-"))
        # Under its name only once it is locked: nobody must find a folder that has an owner and looks as if it had none.
        fresh = self.path / f"{_LOCK}-new"
        self._lock = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(self.path / _LOCK)
        self._end = weakref.finalize(self, _remove, self.path, self._lock)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Remove the folder; what can't be removed stays. More than once is fine."""
        self._end()


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


@cache
def _sweep(home: str) -> None:
    """Remove this user's folders that belong to nobody, once in the life of a process."""
    for folder in _ours(home):
        with suppress(OSError):  # held by its process, or not to be opened
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _ours(home: str) -> Iterator[Path]:
    with suppress(OSError), os.scandir(home) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                        yield Path(entry.path)
