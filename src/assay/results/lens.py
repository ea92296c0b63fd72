"""SQL over the journal: an in-memory DuckDB whose tables are read from the segments. It never blocks or touches a writer.

`views.sql` beside this file says what the tables mean. Half a line at a segment's end, which a writer may be writing or a crash
may have left, is no row; `read_json` drops what doesn't parse, as the journal's own reader does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from assay.errors import BadInput, WorkspaceError
from assay.results.journal import check_schema, segments
from assay.types import Cell, Goal

if TYPE_CHECKING:
    import duckdb

_COLUMNS = {
    "kind": "VARCHAR", "v": "INTEGER", "seq": "BIGINT", "time": "DOUBLE",
    "run": "VARCHAR", "base": "VARCHAR", "engine": "VARCHAR", "engine_version": "VARCHAR", "identity": "VARCHAR",
    "suites": "JSON", "checkpoint": "VARCHAR", "iteration": "BIGINT", "path": "VARCHAR", "size": "BIGINT",
    "modified_ns": "BIGINT", "digest": "VARCHAR", "reason": "VARCHAR", "batch": "VARCHAR", "verdict": "VARCHAR",
    "fingerprint": "JSON", "suite": "VARCHAR", "suite_version": "BIGINT", "suite_digest": "VARCHAR", "sample": "VARCHAR",
    "group": "VARCHAR", "index": "BIGINT", "key": "VARCHAR", "prompt": "VARCHAR", "options": "JSON", "text": "VARCHAR",
    "finish_reason": "VARCHAR", "prompt_tokens": "BIGINT", "completion_tokens": "BIGINT", "seconds": "DOUBLE",
    "logprob": "DOUBLE", "repeat": "INTEGER",
    "completion": "VARCHAR", "scorer": "VARCHAR", "scorer_version": "BIGINT", "metric": "VARCHAR",
    "value": "VARCHAR", "low": "DOUBLE", "high": "DOUBLE", "detail": "JSON", "stage": "VARCHAR",
    "error_class": "VARCHAR", "partial": "VARCHAR", "limit": "BIGINT", "asked": "BIGINT", "scored": "BIGINT",
    "failed": "BIGINT", "truncated": "BIGINT", "source": "VARCHAR", "line": "BIGINT", "model": "VARCHAR", "scores": "JSON",
    "failures": "JSON",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunSuite:
    """A suite as a run last used it. groups: in the suite's order, as tables show them. metrics: its own scorers'."""

    run: str
    suite: str
    base: str
    engine: str
    identity: str
    groups: tuple[str, ...]
    metrics: tuple[str, ...]
    goal: Goal | None


@dataclass(frozen=True, slots=True)
class Table:
    """A query's answer: column names and rows of plain Python values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


class Lens:
    """Reads one workspace as it was when opened. Raises `WorkspaceError` where there is no journal or a newer one."""

    def __init__(self, workspace: Path) -> None:
        import duckdb

        files = segments(workspace)
        if not files:
            raise WorkspaceError(
                f"there are no results in {workspace}; run assay watch first, or name the folder with --workspace"
            )
        check_schema(workspace)
        self.workspace = workspace
        self._db: duckdb.DuckDBPyConnection = duckdb.connect()
        self._db.execute("set enable_progress_bar = false")
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in _COLUMNS.items())
        self._db.execute(
            "create table records as select * from read_json($files, format = 'newline_delimited', ignore_errors = true, "
            f"maximum_object_size = 268435456, columns = {{{columns}}}) where kind is not null",
            {"files": [str(f) for f in files]},
        )
        self._db.execute(Path(__file__).with_name("views.sql").read_text(encoding="utf-8"))
        self._db.execute("set enable_external_access = false")  # a query reads the journal, and touches no other file

    def query(self, sql: str) -> Table:
        """Run any SQL. Raises `BadInput` with DuckDB's own message if it is wrong."""
        import duckdb

        try:
            answer = self._db.execute(sql) if sql.strip() else None
            if answer is None:
                raise BadInput('the query is empty; try: assay query "show tables"')
            columns = tuple(d[0] for d in answer.description or ())
            rows = tuple(answer.fetchall()) if columns else ()
        except duckdb.Error as error:
            raise BadInput(f"the query failed: {error}") from error
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise BadInput(f"the query has two columns called {twice[0]!r}; tell them apart with AS")
        return Table(columns, rows)

    def run_suites(self, run: str | None = None, suite: str | None = None) -> list[RunSuite]:
        """The (run, suite) pairs with results, latest run last."""
        rows = self._db.execute(
            "select run, suite, base, engine, identity, groups, metrics, goal from run_suites "
            "where ($run is null or run = $run) and ($suite is null or suite = $suite) order by seq, suite",
            {"run": run, "suite": suite},
        ).fetchall()
        return [
            RunSuite(r, s, base, engine, identity, tuple(groups or ()), tuple(metrics or ()), _goal(goal))
            for r, s, base, engine, identity, groups, metrics, goal in rows
        ]

    def cells(self, run: str, suite: str) -> list[Cell]:
        """Every sample's result, base first, then by iteration, in the suite's order of samples."""
        rows = self._db.execute(
            'select run, checkpoint, iteration, digest, suite, "group", sample, metric, outcome, value, '
            "coalesce(boolean, true), coalesce(low, 0), coalesce(high, 1) from cells where run = $run and suite = $suite "
            "order by digest <> '', iteration, checkpoint, digest, \"index\", metric",
            {"run": run, "suite": suite},
        ).fetchall()
        return [Cell(*row) for row in rows]

    def proofs(self, run: str, suite: str) -> dict[tuple[str, str], Literal["live", "unproven"]]:
        """(run, adapter digest) → whether all its answers to this suite were given while it was shown to be live."""
        rows = self._db.execute(
            "select digest, verdict from proofs where run = $run and suite = $suite",
            {"run": run, "suite": suite},
        ).fetchall()
        return {(run, digest): verdict for digest, verdict in rows}

    def unusable(self, run: str) -> list[tuple[str, str]]:
        """(label, reason) of the run's checkpoints that could not be used when last seen."""
        rows = self._db.execute(
            "select checkpoint, reason from checkpoints where run = $run and reason <> '' order by iteration, path",
            {"run": run},
        ).fetchall()
        return [(checkpoint, reason) for checkpoint, reason in rows]

    def close(self) -> None:
        """Let go of the memory."""
        self._db.close()

    def __enter__(self) -> Lens:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _goal(text: str | None) -> Goal | None:
    return None if not text or text == "null" else msgspec.convert(json.loads(text), Goal)
