"""A table of a DuckDB file: made if it isn't there, and rows put in once, the latest of those with one key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import duckdb

_NULLABLE = ("proof",)
Row: TypeAlias = tuple[Any, ...]  # a value for each of a table's columns


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its columns and their types; `key` are those that tell rows apart.

    later: columns that a file from before them lacks, and gets. time: the column that says when a row was journaled, where
    `journal` and `seq` tell which of two rows with one key stands.
    """

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    later: tuple[str, ...] = ()
    time: str = ""


class Unfit(Exception):
    """Among the rows is a value that its column can't hold."""


def create(db: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Make the table. Raises what DuckDB does if it is there, made by others, and lacks a column."""
    columns = ", ".join(f"{_quoted(name)} {kind}" for name, kind in table.columns.items())
    db.execute(f"create table if not exists {table.name} ({columns})")
    for name in table.later:
        db.execute(f"alter table {table.name} add column if not exists {_quoted(name)} {table.columns[name]}")
    db.execute(f"select {', '.join(map(_quoted, table.columns))} from {table.name} limit 0")


def load(db: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Row]) -> None:
    """Put the rows in the temporary table `incoming`. Raises `Unfit` for values that a column can't hold."""
    import duckdb

    incoming = {
        name: _array(kind, values)
        for (name, kind), values in zip(table.columns.items(), zip(*rows, strict=True), strict=True)
    }
    db.register("arrays", incoming)
    picked = ", ".join(f"{_read(name, kind)} as {_quoted(name)}" for name, kind in table.columns.items())
    try:
        db.execute(f"create or replace temp table incoming as select {picked} from arrays")
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
        raise Unfit(str(error).partition("\n")[0]) from error
    db.unregister("arrays")


def merge(db: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Put `incoming` in, in place of the rows with the same key that were journaled no later.

    One journal counts its records; between two of them, such as that of a workspace which was removed and that of the one in
    its place, only the time tells.
    """
    same = _same(table)
    older = (
        " and case when t.journal is not distinct from i.journal then t.seq <= i.seq "
        f"else coalesce(t.{table.time} <= i.{table.time}, true) end"
        if table.time
        else ""
    )
    db.execute(f"delete from {table.name} t using incoming i where {same}{older}")
    names = ", ".join(map(_quoted, table.columns))
    db.execute(
        f"insert into {table.name} ({names}) select {names} from incoming i "
        f"where not exists (from {table.name} t where {same})"
    )
    db.execute("drop table incoming")


def remove(db: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Take out the rows that have a key of `incoming`."""
    db.execute(f"delete from {table.name} t using incoming i where {_same(table)}")
    db.execute("drop table incoming")


def _same(table: Table) -> str:
    return " and ".join(f"t.{_quoted(k)} is not distinct from i.{_quoted(k)}" for k in table.key)


def _quoted(name: str) -> str:
    return f'"{name}"'


def _array(kind: str, values: Sequence[Any]) -> Any:
    """A column's values as DuckDB reads them fastest. It has no null: numbers have NaN in its place, texts ""."""
    import numpy as np

    if kind == "JSON":
        values = [json.dumps(v, ensure_ascii=False) if v else "" for v in values]
    if kind in ("VARCHAR", "JSON"):
        return np.array(values, dtype=object)
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _read(name: str, kind: str) -> str:
    column = _quoted(name)
    if kind == "VARCHAR":
        return f"nullif({column}, '')" if name in _NULLABLE else column
    if kind == "JSON":
        return f"nullif({column}, '')::JSON"
    number = f"case when isnan({column}) then null else {column} end"
    return f"make_timestamp(({number} * 1e6)::BIGINT)" if kind == "TIMESTAMP" else f"({number})::{kind}"
