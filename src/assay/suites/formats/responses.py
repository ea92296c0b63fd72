"""Answers as JSON lines: one object a line with `prompt` and `response`, as `assay.suites.formats.base.answered` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assay.suites.formats.base import Answered, BadLine, Unfit, answered, decoded
from assay.suites.formats.packed import damages, opened
from assay.suites.formats.records import read_lines

_ID, _REPEAT = b'"id"', b'"repeat"'


def read(path: Path) -> Iterator[Answered | BadLine]:
    """The file's answers, one a line."""
    named = _named(path)
    return read_lines(path, lambda line, number: _one(line, number, _REPEAT in named, _ID in named))


def _named(path: Path) -> set[bytes]:
    """Does any line name an `id`, and a `repeat`?

    Told beforehand: questions that may come again take memory as they are counted, and a line without an id must not take
    one that a later line has.
    """
    named: set[bytes] = set()
    last = b""
    with opened(path) as file:
        try:
            while len(named) < len((_ID, _REPEAT)) and (block := file.read(2**20)):
                block = last + block
                named |= {name for name in (_ID, _REPEAT) if name in block}
                last = block[1 - len(_REPEAT) :]
        except Exception as error:
            if not isinstance(error, damages()):
                raise
            return named | {_REPEAT}  # perhaps, before the damage; whoever reads the lines comes to it, and says so
    return named


def _one(line: bytes, number: int, repeats: bool, ids: bool) -> tuple[Answered]:
    record = decoded(line)
    if "response" not in record and {"method", "url", "body"} <= record.keys():
        raise Unfit("a batch request, which holds no answer; give the batch's output file instead")
    return (answered(record, number, repeats=repeats, ids=ids),)
