"""The digest of a large file's content, computed once: who a model is, is asked at every start, and reading 14 GB takes long.

What is remembered is bound to the file as it lies there: its real path, device and inode, its size, and both of its times. No
program can set the second one, of the last change to the inode, so a file that was rewritten under its old date is read again.
A file that changed a moment ago is not remembered: another change within the clock's tick would leave no trace.

Not protected: a disk that is written to below the file system, and one that keeps no such times.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from pathlib import Path

_LEAST = 64 << 20  # bytes; a smaller one is read in a moment
_SETTLED = 60.0  # seconds since the last change; file servers tell it that late


def file_digest(path: Path, folder: Path | None = None, *, least: int = _LEAST, settled: float = _SETTLED) -> str:
    """sha256 hex of the file's bytes. folder: where digests are remembered, the user's cache unless given."""
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        if before.st_size < least:
            return hashlib.file_digest(file, "sha256").hexdigest()
        place = (folder or _folder()) / _key(path, before)
        if (known := _read(place)) is not None:
            return known
        began = time.time()
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if _key(path, after) == place.name and began - max(before.st_mtime, before.st_ctime) >= settled:
        _write(place, digest)
    return digest


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "assay" / "digests"


def _key(path: Path, seen: os.stat_result) -> str:
    told = [str(path.resolve()), seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _read(place: Path) -> str | None:
    try:
        text = place.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text if re.fullmatch("[0-9a-f]{64}", text) else None


def _write(place: Path, digest: str) -> None:
    """Whole or not at all; without a place to write, the file is read again next time."""
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=place.parent, delete=False) as file:
            file.write(digest)
        Path(file.name).replace(place)
