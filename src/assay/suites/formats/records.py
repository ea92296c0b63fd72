"""A file's JSON records, one after another: its lines, or the items of the one list that it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from assay.errors import SuiteError
from assay.suites.formats.base import Answered, BadLine, Unfit
from assay.suites.formats.packed import damages, head, opened, whole
from assay.suites.readers import Place

# Longer lines are taken for damage (a file without line ends), so that memory stays bounded.
MAX_LINE = 64 * 2**20

_BOM = b"\xef\xbb\xbf"


class BrokenOff(SuiteError):
    """A file can't be read any further. What stands before this place was read."""

    def __init__(self, place: Place, error: Exception) -> None:
        why = getattr(error, "strerror", None) or str(error)
        self.bad = BadLine(place, f"the file can't be read from here on: {why}")
        super().__init__(str(self.bad))


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Line numbers and lines, without a byte order mark and without blank lines; None for one beyond `MAX_LINE`.

    Raises `BrokenOff` where a compressed file is damaged or ends too early.
    """
    number = 0
    with opened(path) as file:
        try:
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE), b""), start=1):
                if number == 1 and line.startswith(_BOM):
                    line = line[3:] or b"\n"
                if len(line) >= MAX_LINE - 3 and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = file.readline(MAX_LINE)
                    yield number, None
                elif not line.isspace():
                    yield number, line
        except GeneratorExit:
            raise
        except Exception as error:
            if isinstance(error, damages()):
                raise BrokenOff(Place(path, number + 1), error) from None
            raise


def numbered_records(path: Path) -> Iterator[tuple[Place, int, bytes | None]]:
    """Places, numbers and texts of the records, as `numbered_lines` gives them. Raises `BrokenOff` as it does."""
    items = _items(path) if begins_as_list(path) else None
    if items is not None:
        for number, item in enumerate(items, start=1):
            yield Place(path, row=number), number, bytes(item)
        return
    for number, line in numbered_lines(path):
        yield Place(path, number), number, line


def begins_as_list(path: Path) -> bool:
    """May the file hold one JSON list, and not a record a line?"""
    return head(path).removeprefix(_BOM).lstrip().startswith(b"[")


def _items(path: Path) -> Sequence[bytes | msgspec.Raw] | None:
    """The items of the list that the file holds, as they are written; None if it holds something else.

    Raises `SuiteError` for what can only be such a list, and is damaged.
    """
    data = whole(path)
    text = memoryview(data)[len(_BOM) if data[: len(_BOM)] == _BOM else 0 :]
    try:
        return msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        if "trailing characters" in str(error):  # a list in the first of many lines
            return None
    try:  # `NaN` and infinities, as Python writes them
        found = json.loads(bytes(text), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        if bytes(text[:4096]).split(b"\n")[0].strip() != b"[":
            return None
        raise SuiteError(f"{path}: a JSON list that is not whole, or not valid: {error}") from None
    return [json.dumps(item).encode() for item in found]


def read_lines(path: Path, parse: Callable[[bytes, int], Iterable[Answered | Unfit]]) -> Iterator[Answered | BadLine]:
    """What `parse` makes of each record, given its number; an `Unfit`, given or raised, becomes a `BadLine`."""
    try:
        for place, number, line in numbered_records(path):
            try:
                if line is None:
                    raise Unfit(f"longer than {MAX_LINE // 2**20} MiB, which no record is")
                for item in parse(line, number):
                    yield item.at(place) if isinstance(item, Unfit) else item
            except Unfit as unfit:
                yield unfit.at(place)
    except BrokenOff as broken:
        yield broken.bad
