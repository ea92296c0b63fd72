"""Answers in Parquet and CSV files, with columns named as in JSON lines.

Parquet is streamed by DuckDB, a row group at a time. CSV is read by Python's own reader, which knows the line that a row
began in and what an open quotation mark swallowed; DuckDB's would have to guess at both.

A null counts as left out, and so does an empty cell of CSV, where nothing else can stand for a null: a response that is
missing is no empty answer.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from assay.errors import SuiteError
from assay.suites.formats.base import PROMPT_NAMES, RESPONSE_NAMES, Answered, BadLine, Unfit, answered, table_record
from assay.suites.formats.packed import damages, opened
from assay.suites.formats.records import MAX_LINE, BrokenOff
from assay.suites.readers import Place

_BATCH = 256  # rows: enough to hide the cost of a call, few enough for long answers


def read_parquet(path: Path) -> Iterator[Answered | BadLine]:
    """The table's answers, by row."""
    import duckdb

    # A path is a glob pattern to the reader; these three are its special characters.
    pattern = "".join(f"[{c}]" if c in "[*?" else c for c in str(path))
    row = 0
    try:
        with duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False}) as connection:
            cursor = connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [pattern])
            names = [column[0] for column in cursor.description or ()]
            _check_columns(names, Place(path))
            while rows := cursor.fetchmany(_BATCH):
                for values in rows:
                    row += 1
                    record = table_record(dict(zip(names, values, strict=True)))
                    yield _one(record, row, Place(path, row=row), names)
    except duckdb.Error as error:
        raise SuiteError(f"{path}: cannot be read as Parquet: {str(error).strip().splitlines()[0]}") from None


def is_csv(head: bytes) -> bool:
    """Does the beginning of a file, whatever it is called, name the columns of a table of answers?"""
    line = head.decode("utf-8-sig", errors="replace").partition("\n")[0]
    try:
        names = {name.strip() for name in next(csv.reader([line], delimiter=_mark(line)), [])}
    except csv.Error:
        return False
    return bool(names & set(RESPONSE_NAMES) and names & set(PROMPT_NAMES))


def read_csv(path: Path) -> Iterator[Answered | BadLine]:
    """The table's answers, by the line in which a row begins. Separated by commas, semicolons or tabs, as the head shows."""
    # The reader's own limit, 128 KiB, is less than a long answer. There is one for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    # Bytes that aren't UTF-8 become lone surrogates, so that one bad row doesn't end the file.
    with TextIOWrapper(opened(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        head = file.readline()
        file.seek(0)
        rows = csv.reader(file, delimiter=_mark(head), strict=True)
        try:
            names = [name.strip() for name in next(rows, [])]
        except csv.Error as error:
            raise Place(path, 1).error(_csv_error(error, rows.line_num - 1)) from None
        response = _check_columns(names, Place(path, 1))
        while True:
            began = rows.line_num + 1
            try:
                values = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadLine(Place(path, began), _csv_error(error, rows.line_num - began))
                continue
            except damages() as error:
                yield BrokenOff(Place(path, began), error).bad
                return
            if values:
                yield _csv_row(names, values, response, Place(path, began))


def _mark(head: str) -> str:
    """What separates the columns: the mark by which the first line has most of the names that a table of answers has."""
    return max(",;\t", key=lambda mark: len(_known(next(csv.reader([head], delimiter=mark), []))))


def _csv_error(error: csv.Error, swallowed: int) -> str:
    if "unexpected end" in str(error):
        return f"a quotation mark in this row is never closed, and the {swallowed} lines after it are lost"
    return f"not valid CSV: {error}"


def _csv_row(names: Sequence[str], values: Sequence[str], response: str, place: Place) -> Answered | BadLine:
    if len(values) != len(names):
        return BadLine(place, f"{len(values)} values, but {len(names)} columns; is a quotation mark missing?")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        return BadLine(place, "not UTF-8 text")
    record = {n: v or None for n, v in zip(names, values, strict=True) if v or n == response}
    return _one(record, place.line or 0, place, names)


def _one(record: dict[str, Any], number: int, place: Place, names: Sequence[str]) -> Answered | BadLine:
    try:
        return answered(record, number, repeats="repeat" in names, ids="id" in names)
    except Unfit as unfit:
        return unfit.at(place)


def _known(names: Sequence[str]) -> set[str]:
    return {name.strip() for name in names} & {*PROMPT_NAMES, *RESPONSE_NAMES, "id", "model"}


def _check_columns(names: Sequence[str], place: Place) -> str:
    """Raise for columns that can't be a table of answers; the name of the one that holds the response."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise place.error(f"two columns are named {twice!r}")
    for wanted in (RESPONSE_NAMES, PROMPT_NAMES):
        if not set(names) & set(wanted):
            others = ", ".join(map(repr, wanted[1:]))
            raise place.error(f"no column {wanted[0]!r} (nor {others}); the columns are: {', '.join(names) or 'none'}")
    found = [name for name in RESPONSE_NAMES if name in names]
    if found[0] != "response" and len(found) > 1:
        raise place.error(f"{' and '.join(found)} could each be the response; name one of these columns 'response'")
    return found[0]
