"""Paths as text that can be written as UTF-8: names of files are bytes, and need not be."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath, PurePosixPath

_BYTE = re.compile(r"\\x([0-9a-f]{2})")


def encodable(text: str) -> str:
    """The text with bytes that are no UTF-8, which Python has as surrogates in names of files, as `\\xNN`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The text on one line, and safe on a terminal: whatever can't be printed is escaped, as Python writes it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in encodable(text))


def path_text(path: PurePath) -> str:
    """A path as records have it: what `encodable` makes of it, and the other way by `text_path`.

    A backslash that stands in the name before what looks like such a byte is `\\x5c`.
    """
    return encodable(_BYTE.sub(r"\\x5cx\1", str(path)))


def recorded(path: PurePath, host: str) -> str:
    """A file's path as records have it: on this machine, the host "", absolute, since commands run from anywhere."""
    if host:
        return path_text(path)
    absolute = Path(path).absolute()
    return path_text(absolute.parent.resolve() / absolute.name if ".." in absolute.parts else absolute)


def text_path(text: str) -> PurePosixPath:
    """The path that `path_text` has made the text of."""
    return PurePosixPath(_BYTE.sub(lambda byte: os.fsdecode(bytes.fromhex(byte[1])), text))
