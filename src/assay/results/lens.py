"""SQL over the journal: an in-memory DuckDB whose tables are read from the segments. It never blocks or touches a writer.

`views.sql` beside this file says what the tables mean. Half a line at a segment's end, which a writer may be writing or a crash
may have left, is no row; `read_json` drops what doesn't parse, as the journal's own reader does.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec.structs import replace

from assay.errors import BadInput
from assay.plugins import nearest
from assay.results.columns import Column, titles
from assay.results.journal import check_schema, no_results, segments
from assay.results.labels import Labels
from assay.results.records import FROM_FILES, CheckpointSeen, origin_of
from assay.results.tally import Tally
from assay.types import Cell, Goal

if TYPE_CHECKING:
    import duckdb

_COLUMNS = {
    "kind": "VARCHAR", "v": "INTEGER", "seq": "BIGINT", "time": "DOUBLE",
    "run": "VARCHAR", "base": "VARCHAR", "engine": "VARCHAR", "engine_version": "VARCHAR", "identity": "VARCHAR",
    "suites": "JSON", "checkpoint": "VARCHAR", "iteration": "BIGINT", "path": "VARCHAR", "size": "BIGINT",
    "modified_ns": "BIGINT", "host": "VARCHAR", "part": "VARCHAR", "error": "VARCHAR", "final": "BOOLEAN",
    "digest": "VARCHAR", "reason": "VARCHAR", "batch": "VARCHAR", "verdict": "VARCHAR",
    "fingerprint": "JSON", "suite": "VARCHAR", "suite_version": "BIGINT", "suite_digest": "VARCHAR", "sample": "VARCHAR",
    "group": "VARCHAR", "index": "BIGINT", "key": "VARCHAR", "prompt": "VARCHAR", "options": "JSON", "text": "VARCHAR",
    "finish_reason": "VARCHAR", "prompt_tokens": "BIGINT", "completion_tokens": "BIGINT", "seconds": "DOUBLE",
    "logprob": "DOUBLE", "repeat": "INTEGER",
    "completion": "VARCHAR", "scorer": "VARCHAR", "scorer_version": "BIGINT", "metric": "VARCHAR",
    "judge": "VARCHAR", "measure": "VARCHAR",
    "value": "VARCHAR", "low": "DOUBLE", "high": "DOUBLE", "detail": "JSON", "stage": "VARCHAR",
    "error_class": "VARCHAR", "partial": "VARCHAR", "limit": "BIGINT", "asked": "BIGINT", "scored": "BIGINT",
    "failed": "BIGINT", "truncated": "BIGINT", "source": "VARCHAR", "line": "BIGINT", "model": "VARCHAR", "scores": "JSON",
    "failures": "JSON", "varied": "BOOLEAN", "form": "VARCHAR", "reference": "JSON", "parameters": "JSON",
    "question": "VARCHAR", "numbered": "BOOLEAN", "answer": "VARCHAR", "content": "VARCHAR", "whole": "BOOLEAN",
    "beginning": "VARCHAR", "weight": "DOUBLE", "lower_is_better": "BOOLEAN", "geometric": "BOOLEAN", "tokens": "BIGINT",
    "greedy": "BOOLEAN", "at": "INTEGER", "gone": "BOOLEAN",
}  # fmt: skip


# The fields of a `columns.Column`. Scorers that read text share a metric's column.
_COLUMN = "metric, case when measure = '' then '' else scorer end as scorer, judge, measure"
# Judged answers from files, by the measures that stand.
_FILED_CELLS = (
    "(select c.* from all_cells c anti join (from measures where not standing) m "
    "using (run, identity, suite, suite_digest, measure) where c.identity = from_files())"
)
# What each answer of a run was scored by, as text or by a judge, and whether that is what stands in its file now.
_ANSWERS_HAD = (
    "select model, name, unnest(json_keys(scores)) as suite, here and answer = coalesce(given, '') as present, here "
    "from (select model, answer_name(sample, repeat) as name, scores, answer as given from records "
    "where kind = 'answer' and run = $run) join (from present_answers() where run = $run) using (model, name) "
    "union all select model, name, suite, here and given in ('', answer), here "
    "from (select case when digest = origin_of_none() then '' else checkpoint end as model, suite, "
    "answer_name(sample, repeat) as name, coalesce(completion, '') as given from all_cells "
    "where identity = from_files() and measure <> '' and run = $run) "
    "join (from present_answers() where run = $run) using (model, name)"
)
# One answer as a question of its own, and the same of all answers to a question, which takes a group for each.
_ANSWER = (
    "(outcome = 'scored')::int as scored, (outcome = 'failed')::int as failed, (outcome = 'truncated')::int as truncated, "
    "case when boolean then value else 0 end as correct, case when outcome = 'scored' then boolean end as boolean, "
    "value as mean, low, high, line"
)
_QUESTION = (
    "count(*) filter (where outcome = 'scored') as scored, count(*) filter (where outcome = 'failed') as failed, "
    "count(*) filter (where outcome = 'truncated') as truncated, sum(value) filter (where boolean) as correct, "
    "bool_and(boolean) filter (where outcome = 'scored') as boolean, avg(value) as mean, "
    "min(low) as low, max(high) as high, min(line) as line"
)
# The fields of `Tally.summed`, but for the bounds.
_AGGREGATES = (
    "sum(scored)::bigint, sum(failed)::bigint, sum(truncated)::bigint, coalesce(sum(correct), 0)::bigint, "
    "coalesce(bool_and(boolean), true), count(mean), avg(mean), var_pop(mean), min(mean), max(mean), "
    "sum(1 / scored) filter (where scored > 0)"
)


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
class Missing:
    """So many answers without a score for one reason, of one class; checkpoint and sample are of the first of them."""

    error_class: str
    reason: str
    count: int
    checkpoint: str
    sample: str


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
            raise no_results(workspace)
        check_schema(workspace)
        self.workspace = workspace
        self._db: duckdb.DuckDBPyConnection = duckdb.connect()
        with contextlib.suppress(duckdb.InvalidInputException):  # a notebook that can show none: there it can't be set
            self._db.execute("set enable_progress_bar = false")
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in _COLUMNS.items())
        self._db.execute(
            "create table records as select * from read_json($files, format = 'newline_delimited', ignore_errors = true, "
            f"maximum_object_size = 268435456, columns = {{{columns}}}) where kind is not null",
            {"files": [str(f) for f in files]},
        )
        self._load_labels()
        for name, text in (("from_files", FROM_FILES), ("origin_of_none", origin_of(""))):
            self._db.execute(f"create macro {name}() as '{text}'")
        self._db.execute(Path(__file__).with_name("views.sql").read_text(encoding="utf-8"))
        self._names = {row[0] for row in self._db.execute("show tables").fetchall()}
        self._closed = False

    def _load_labels(self) -> None:
        """What weights are called now: rows of `labels`."""
        labels = Labels()
        for run, host, path, checkpoint, iteration, digest, numbered, gone, seq, time in self._db.execute(
            "select run, coalesce(host, ''), path, checkpoint, iteration, coalesce(digest, ''), coalesce(numbered, true), "
            "coalesce(gone, false), seq, time from records where kind = 'checkpoint'"
        ).fetchall():
            labels.take(
                CheckpointSeen(
                    run=run, host=host, path=path, checkpoint=checkpoint, iteration=iteration, digest=digest,
                    numbered=numbered, gone=gone, seq=seq, time=time, size=0, modified_ns=0,
                )
            )  # fmt: skip
        rows = [(run, digest, *(label[:3] if label else (None, None, None))) for run, digest, label in labels.all()]
        self._db.execute(
            "create table labels (run varchar, digest varchar, checkpoint varchar, iteration bigint, gone boolean)"
        )
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            self._db.execute("insert into labels select " + ", ".join(["unnest(?)"] * len(columns)), columns)

    def _close_in(self) -> None:
        """From now on a query reads the journal, and touches no other file."""
        if not self._closed:
            self._db.execute("set enable_external_access = false")
            self._closed = True

    def export(self, table: str, path: Path) -> int:
        """Write a table or view as a Parquet file, which appears whole or not at all; the number of its rows.

        Raises `BadInput` for a name that is none, or a file that can't be written.
        """
        import duckdb

        if table not in self._names:
            raise BadInput(f"there is no table {table!r}; {nearest(table, self._names)}")
        temporary = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db.execute(f'copy (from "{table}") to $path (format parquet)', {"path": str(temporary)})
            temporary.replace(path)
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from error
        except duckdb.Error as error:
            raise BadInput(f"{path} cannot be written: {error}") from error
        row = self._db.execute(f'select count(*) from "{table}"').fetchone()
        return int(row[0]) if row is not None else 0

    def query(self, sql: str) -> Table:
        """Run any SQL. Raises `BadInput` with DuckDB's own message if it is wrong."""
        import duckdb

        self._close_in()
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

    def suite_digests(self, run: str) -> dict[str, str]:
        """From each suite of a run to the digest of what it last was."""
        return dict(
            self._db.execute("select suite, suite_digest from run_suites where run = $run", {"run": run}).fetchall()
        )

    def cells(self, run: str, suite: str, beside: str | None = None) -> list[Cell]:
        """Every sample's result, base first, then by iteration, in the suite's order of samples and its scorers' of metrics.

        A judged metric is called as `columns.titles` says. beside: another run whose cells these are to be compared with; what
        is called alike in both is of one judge and measure.
        """
        own = next((list(each.metrics) for each in self.run_suites(run, suite)), [])
        rows = self._db.execute(
            f'select {_COLUMN}, run, checkpoint, iteration, digest, suite, "group", sample, metric, outcome, value, '
            "coalesce(boolean, true), coalesce(low, case when outcome = 'scored' then '-infinity'::double else 0 end), "
            "coalesce(high, case when outcome = 'scored' then 'infinity'::double else 1 end), "
            "'', false, '', weight, lower_is_better, geometric "
            "from cells where run = $run and suite = $suite "
            "order by digest <> '', iteration, checkpoint, digest, \"index\", "
            "coalesce(list_position($own, metric), 1e9), metric, judge, measure",
            {"run": run, "suite": suite, "own": own},
        ).fetchall()
        called = self._titles(suite, (run, run if beside is None else beside))
        cells = [(Column(*row[:4]), Cell(*row[4:])) for row in rows]
        return [replace(cell, metric=called[column]) if column.judge else cell for column, cell in cells]

    def _titles(self, suite: str, runs: tuple[str, str]) -> dict[Column, str]:
        judged = self._db.execute(
            f"select distinct {_COLUMN} from cells where suite = $suite and run in $runs",
            {"suite": suite, "runs": runs},
        ).fetchall()
        own = {metric for run in runs for each in self.run_suites(run, suite) for metric in each.metrics}
        return titles([Column(*row) for row in judged], own)

    def judges(self, run: str) -> set[tuple[str, str, str, str]]:
        """Suite, scorer, judge and measure of all judged scores of a run that stand; an edited suite's scorer is another."""
        return set(
            self._db.execute(
                "select distinct suite, trim(scorer || ' ' || edition), judge, measure from measures "
                "where run = $run and standing and measure <> ''",
                {"run": run},
            ).fetchall()
        )

    def answer_suites(self) -> list[tuple[str, str]]:
        """The (run, suite) pairs of answers from files, in the order in which they were first scored."""
        rows = self._db.execute(
            "select run, suite from (select run, suite, min(seq) as seq from answers group by run, suite union all "
            "select run, suite, min(seq) from all_cells where identity = from_files() group by run, suite) "
            "group by run, suite order by min(min(seq)) over (partition by run), min(seq), suite"
        ).fetchall()
        return [(run, suite) for run, suite in rows]

    def answer_cells(self, run: str) -> list[tuple[Column, Cell]]:
        """Every result of a run's answers from files, in their order; the model's name stands as the checkpoint and digest.

        Metrics have their own names. Which group an answer belongs to is not journaled: all are in "all".
        """
        rows = self._db.execute(
            f"select {_COLUMN}, run, model, 0, model, suite, 'all', sample, metric, outcome, value, coalesce(boolean, true), "
            "coalesce(low, case when boolean then 0 else '-infinity'::double end), "
            "coalesce(high, case when boolean then 1 else 'infinity'::double end), "
            "coalesce(question, ''), coalesce(numbered, false), coalesce(beginning, '') "
            "from (select *, answer_name(sample, repeat) as name from answer_cells where run = $run) "
            "left join present_answers() using (run, model, name) "
            "order by suite, line, metric, judge, measure",
            {"run": run},
        ).fetchall()
        return [(Column(*row[:4]), Cell(*row[4:])) for row in rows]

    def former_answers(self, run: str) -> int:
        """How many of a run's answers lack a suite's scores that others in their place had, since their file has changed.

        What the file holds no more is among them only where it wasn't read to its end.
        """
        row = self._db.execute(
            "select count(*) from (select distinct model, name from (select model, name, suite, bool_or(present) as present, "
            f"bool_or(here) as here from ({_ANSWERS_HAD}) group by model, name, suite) "
            "where not present and (here or exists (from files_read() where run = $run and not whole)))",
            {"run": run},
        ).fetchone()
        return int(row[0]) if row is not None else 0

    def tallies(self, run: str, suite: str | None = None) -> dict[tuple[str, str, str], Tally]:
        """A run's answers from files, as they were last scored: a tally for each model, suite and metric, as they came.

        A judged metric is called as `columns.titles` says.
        """
        head = "model, suite, metric, scorer, judge, measure"
        cells = "from answer_cells where run = $run and ($suite is null or suite = $suite)"
        again = self._db.execute(
            "select count(*) from records where run = $run and repeat > 0", {"run": run}
        ).fetchone()
        questions = f"{_QUESTION} {cells} group by {head}, sample" if again and again[0] else f"{_ANSWER} {cells}"
        rows = self._db.execute(
            f"select model, suite, {_COLUMN}, c.* exclude ({head}, low, high, line), "
            "coalesce(c.low, s.low), coalesce(c.high, s.high), c.low is null and s.varied "
            f"from (select {head}, {_AGGREGATES}, min(low) as low, max(high) as high, min(line) as line "
            f"from (select {head}, {questions}) group by {head}) c "
            "left join (from scales where run = $run) s using (model, suite, metric) "
            "order by s.seq, line, judge, measure, metric",
            {"run": run, "suite": suite},
        ).fetchall()
        of_suite: dict[str, list[Column]] = {}
        for row in rows:
            of_suite.setdefault(row[1], []).append(Column(*row[2:6]))
        called = {suite: titles(columns, ()) for suite, columns in of_suite.items()}
        return {(row[0], row[1], called[row[1]][Column(*row[2:6])]): Tally.summed(*row[6:]) for row in rows}

    def spreads(self, run: str, suite: str, *, from_files: bool = False) -> list[tuple[str, str, int, float, int]]:
        """Scorer, judge, votes, their spread, and how many scores have it: of what several votes were given on and stands."""
        values = {"run": run, "suite": suite}
        of_votes = "run = $run and suite = $suite and measure <> '' and detail->>'spread' is not null"
        # Few journals hold any, and to look at the cells costs as much as a table.
        if not self._db.execute(
            f"select 1 from records where kind = 'score' and {of_votes} limit 1", values
        ).fetchone():
            return []
        cells = _FILED_CELLS if from_files else "cells"
        return self._db.execute(
            "select scorer, judge, json_array_length(detail, '$.votes') + (detail->>'failed_votes')::bigint as votes, "
            f"(detail->>'spread')::double as spread, count(*) from {cells} where outcome = 'scored' and {of_votes} "
            "group by scorer, judge, votes, spread order by min(seq), scorer, judge, votes, spread",
            values,
        ).fetchall()

    def proofs(self, run: str, suite: str) -> dict[tuple[str, str], Literal["live", "unproven"]]:
        """(run, adapter digest) → whether all its answers to this suite were given while it was shown to be live."""
        rows = self._db.execute(
            "select digest, verdict from proofs where run = $run and suite = $suite",
            {"run": run, "suite": suite},
        ).fetchall()
        return {(run, digest): verdict for digest, verdict in rows}

    def missing(self, run: str, suite: str) -> list[Missing]:
        """Why answers to a suite have no score, the commonest reason first. Reasons that differ in numbers only are one."""
        return self._missing(
            "failures where run = $run and suite = $suite", "digest", "digest <> '', iteration, \"index\"", run, suite
        )

    def missing_from_files(self, run: str, suite: str) -> list[Missing]:
        """The same of a run's answers from files; the model stands as the checkpoint."""
        cells = "(select *, model as checkpoint from answer_cells where outcome <> 'scored' and run = $run and suite = $suite)"
        return self._missing(cells, "model", "line", run, suite)

    def _missing(self, cells: str, who: str, order: str, run: str, suite: str) -> list[Missing]:
        rows = self._db.execute(
            f"select error_class, arg_min(reason, ({order}, reason)), count(distinct ({who}, sample, repeat)), "
            f"arg_min(checkpoint, ({order}, reason)), arg_min(sample, ({order}, reason)) from {cells} "
            f"group by error_class, regexp_replace(reason, '[0-9]+', '0', 'g') order by 3 desc, min(({order})), 1, 2",
            {"run": run, "suite": suite},
        ).fetchall()
        return [Missing(*row) for row in rows]

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
