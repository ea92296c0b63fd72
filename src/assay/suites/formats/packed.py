"""Files as they are written, plain or compressed with gzip, zstd, bzip2 or xz: told by their first bytes, read as a stream."""

from __future__ import annotations

import zlib
from importlib import import_module
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any

from assay.errors import SuiteError

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
_ENDINGS = (".gz", ".zst", ".bz2", ".xz")


def opened(path: Path) -> IO[bytes]:
    """The file, open for reading its bytes as they were before they were compressed. Raises `SuiteError`."""
    packed = packing(path)
    if packed is None:
        return path.open("rb", buffering=2**20)
    try:
        module: Any = _zstd() if packed == "zstd" else import_module(packed)
    except ImportError:
        message = f"compressed with {packed}, which needs the package backports.zstd (or Python 3.14)"
        raise SuiteError(f"{path}: {message}") from None
    # No larger buffer around it: what that would hold when it comes to damage would be lost.
    file: IO[bytes] = module.open(path, "rb")
    return file


def head(path: Path) -> bytes:
    """The first 4 KiB of those bytes, or fewer; all of an empty file. Raises `SuiteError`."""
    try:
        with opened(path) as file:
            peeking: Any = file
            found: bytes = peeking.peek(4096)[:4096]
    except damages() as error:
        raise SuiteError(f"{path}: damaged, though it begins as {packing(path)} does: {error}") from None
    return found


def whole(path: Path) -> bytes | mmap:
    """All of those bytes; of a file that is not compressed, mapped from disk. Raises `SuiteError`."""
    try:
        with opened(path) as file:
            # Not closed by hand: what is decoded points into it, also where a reader stops half way.
            return file.read() if packing(path) else mmap(file.fileno(), 0, access=ACCESS_READ)
    except damages() as error:
        raise SuiteError(f"{path}: can't be read to its end: {error}") from None


def seekable(path: Path) -> IO[bytes]:
    """The same for who seeks in it: a compressed file as a copy on disk that is not."""
    if packing(path) is None:
        return opened(path)
    import shutil  # both pull in what nothing else here needs
    from tempfile import TemporaryFile

    copy = TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with opened(path) as file:
            shutil.copyfileobj(file, copy)
    except damages() as error:
        copy.close()
        raise SuiteError(f"{path}: damaged: {error}") from None
    copy.seek(0)
    return copy


def packing(path: Path) -> str | None:
    """What the file is compressed with; None if it is not. Raises `SuiteError` if it can't be read."""
    try:
        with path.open("rb") as file:
            first = file.read(6)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}") from error
    return next((name for magic, name in _MAGIC.items() if first.startswith(magic)), None)


def unpacked_name(path: Path) -> str:
    """The file's name without the ending that tells of its compression."""
    return path.name.removesuffix(path.suffix) if path.suffix.lower() in _ENDINGS else path.name


def damages() -> tuple[type[Exception], ...]:
    """What reading a compressed file raises where it is damaged or breaks off; asked for only where something was raised."""
    from lzma import LZMAError

    try:
        zstd: type[Exception] = _zstd().ZstdError
    except ImportError:
        zstd = EOFError
    return (OSError, EOFError, zlib.error, LZMAError, zstd)


def _zstd() -> Any:
    try:
        return import_module("compression.zstd")
    except ImportError:
        return import_module("backports.zstd")
