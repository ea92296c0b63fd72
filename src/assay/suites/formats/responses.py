"""Answers as JSON lines: one object a line with `prompt` and `response`, as `assay.suites.formats.base.answered` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assay.suites.formats.base import Answered, BadLine, Unfit, answered, decoded
from assay.suites.formats.packed import damages, opened
from assay.suites.formats.records import read_lines

_NAME = b'"repeat"'


def read(path: Path) -> Iterator[Answered | BadLine]:
    """The file's answers, one a line."""
    repeats = _names_repeats(path)
    return read_lines(path, lambda line, number: _one(line, number, repeats))


def _names_repeats(path: Path) -> bool:
    """Does any line name a `repeat`? Told beforehand, since questions that may come again take memory as they are counted."""
    last = b""
    with opened(path) as file:
        try:
            while block := file.read(2**20):
                block = last + block
                if _NAME in block:
                    return True
                last = block[1 - len(_NAME) :]
        except Exception as error:
            if not isinstance(error, damages()):
                raise
            return True  # perhaps, before the damage; whoever reads the lines comes to it, and says so
    return False


def _one(line: bytes, number: int, repeats: bool) -> tuple[Answered]:
    record = decoded(line)
    if "response" not in record and {"method", "url", "body"} <= record.keys():
        raise Unfit("a batch request, which holds no answer; give the batch's output file instead")
    return (answered(record, number, repeats=repeats),)
