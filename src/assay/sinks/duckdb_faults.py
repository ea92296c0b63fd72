"""What is wrong with a DuckDB file, by what DuckDB or the system raised: to be waited for, or for the user to put right."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import duckdb

from assay.errors import AssayError, BadInput, Unreachable

# What stays as it is until somebody changes it; a disk that is full or went away may come back.
_LASTING = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EINVAL,
}  # fmt: skip
_DAMAGED = ("corrupt", "checksum", "enough bytes")
_EFFECTIVE = os.access in os.supports_effective_ids
_MAGIC = slice(8, 12), b"DUCK"


def system_fault(path: Path, error: OSError) -> AssayError:
    """The system did not let the file, or a folder above it, be made."""
    if error.errno not in _LASTING:
        return Unreachable(f"{path} cannot be made ({error.strerror})")
    above = next((folder for folder in path.parents if folder.exists()), path)
    if error.errno in (errno.EEXIST, errno.ENOTDIR) and not above.is_dir():
        return BadInput(f"{path} cannot be made, for {above} is a file; name another file")
    return BadInput(f"{path} cannot be made ({error.strerror}); name another file")


def duckdb_fault(path: Path, error: duckdb.Error) -> AssayError:
    """DuckDB did not open the file, or did not write what it was to."""
    text = str(error).partition("\n")[0]
    if "lock on file" in text:
        return Unreachable(f"{path} is held by another process")
    if path.is_dir():
        return BadInput(f"{path} is a folder; name a file, such as duckdb:{path / 'results.duckdb'}")
    if path.exists() and not path.is_file():
        return BadInput(f"{path} is no regular file; name another one")
    if (forbidden := forbidden_fault(path)) is not None:
        return forbidden
    if path.exists() and not _is_duckdb(path):
        return BadInput(f"{path} is no DuckDB file; name another one")
    if "version number" in text:
        return BadInput(
            f"{path} is of a DuckDB that the one here ({duckdb.__version__}) can't read; install that one (pip install -U "
            "duckdb), or name another file"
        )
    if any(word in text.lower() for word in _DAMAGED):
        return BadInput(f"{path} is damaged ({text}); move it away, and a new one is filled with all results")
    if "encrypted" in text:
        return BadInput(f"{path} is encrypted; name another file")
    if isinstance(error, duckdb.IOException | duckdb.TransactionException):
        return Unreachable(f"{path}: {text}")
    return BadInput(f"{path} has a table that results do not fit ({text}); name another file")


def forbidden_fault(path: Path) -> BadInput | None:
    """The file is there and may not be written to, or nothing beside it, where DuckDB puts what is not yet in it."""
    for place in (path, path.parent):
        if path.exists() and not os.access(place, os.R_OK | os.W_OK, effective_ids=_EFFECTIVE):
            return BadInput(f"{place} may not be written to; give the right to, or name another file")
    return None


def _is_duckdb(path: Path) -> bool:
    where, magic = _MAGIC
    try:
        with path.open("rb") as file:
            return file.read(where.stop)[where] == magic
    except OSError:
        return True  # it can't be known
