"""Answers as JSON lines: one object a line with `prompt` and `response`, as `assay.suites.formats.base.answered` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assay.suites.formats.base import Answered, BadLine, Unfit, answered, decoded
from assay.suites.formats.records import read_lines


def read(path: Path) -> Iterator[Answered | BadLine]:
    """The file's answers, one a line."""
    return read_lines(path, _one)


def _one(line: bytes, number: int) -> tuple[Answered]:
    record = decoded(line)
    if "response" not in record and {"method", "url", "body"} <= record.keys():
        raise Unfit("a batch request, which holds no answer; give the batch's output file instead")
    return (answered(record, number),)
