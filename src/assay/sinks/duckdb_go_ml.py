"""go-ml's own tables in a DuckDB file. Their keys tell no weights and no judges apart: which row stands, the feed says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from assay.sinks.base import Fact, GroupFact, SampleFact, Withdrawn
from assay.sinks.duckdb_table import Row, Table, load, merge, remove
from assay.sinks.standing import CAPABILITY, CONTENT

if TYPE_CHECKING:
    import duckdb

_RESPONSE = 300  # characters that go-ml keeps of an answer
_TEXT = "VARCHAR"
CHECKPOINT_SCORES = Table(
    "checkpoint_scores",
    {
        "model": _TEXT, "run_id": _TEXT, "label": _TEXT, "iteration": "BIGINT", "correct": "BIGINT", "total": "BIGINT",
        "accuracy": "DOUBLE", "scored_at": "TIMESTAMP",
    },
    ("run_id", "label"),
)  # fmt: skip
PROBE_RESULTS = Table(
    "probe_results",
    {
        "model": _TEXT, "run_id": _TEXT, "label": _TEXT, "probe_id": _TEXT, "passed": "BOOLEAN", "response": _TEXT,
        "iteration": "BIGINT", "scored_at": "TIMESTAMP",
    },
    ("run_id", "label", "probe_id"),
)  # fmt: skip
SCORING_RESULTS = Table(
    "scoring_results",
    {
        "model": _TEXT, "prompt_id": _TEXT, "suite": _TEXT, "dimension": _TEXT, "score": "DOUBLE",
        "scored_at": "TIMESTAMP",
    },
    ("model", "prompt_id", "suite", "dimension"),
)  # fmt: skip
GO_ML_TABLES = (CHECKPOINT_SCORES, PROBE_RESULTS, SCORING_RESULTS)

# Of a table by key what is to stand there: a row, or None for nothing.
_Standing: TypeAlias = dict[Row, Row | None]


def go_ml_rows(facts: Iterable[Fact]) -> dict[str, _Standing]:
    """What a batch makes of each table, by its name: the last word on each key."""
    found: dict[str, _Standing] = {table.name: {} for table in GO_ML_TABLES}
    for fact in facts:
        stands = not isinstance(fact, Withdrawn)
        of = fact.of if isinstance(fact, Withdrawn) else fact
        if (
            isinstance(of, SampleFact | GroupFact)
            and of.about.suite in (CAPABILITY, CONTENT)
            and (of.stands or not stands)
        ):
            for table, key, row in _rows(of):
                found[table.name][key] = row if stands else None
    return found


def put_go_mls(db: duckdb.DuckDBPyConnection, table: Table, standing: Mapping[Row, Row | None]) -> None:
    """Have at each key the row that stands there, or none."""
    if gone := [key for key, row in standing.items() if row is None]:
        load(db, Table(table.name, {name: table.columns[name] for name in table.key}, table.key), gone)
        remove(db, table)
    if there := [row for row in standing.values() if row is not None]:
        load(db, table, there)
        merge(db, table)


def scored_answers(db: duckdb.DuckDBPyConnection, table: Table, answers: Sequence[Row]) -> _Standing:
    """What `scoring_results` has of answers from files: of several runs and judges the one that scored last.

    table: that of answers, which has these rows already.
    """
    key = {name: table.columns[name] for name in ("model", "sample", "suite", "metric")}
    wanted = [list(table.columns).index(name) for name in key]
    load(db, Table("incoming", key, tuple(key)), list(dict.fromkeys(tuple(row[i] for i in wanted) for row in answers)))
    names = ", ".join(key)
    rows = db.execute(
        f"select {names}, value, epoch(scored_at) from "
        f"(from {table.name} semi join incoming using ({names}) where value is not null qualify row_number() over "
        f"(partition by {names}, journal order by seq desc, scored_at desc, run desc, measure desc) = 1) "
        f"qualify row_number() over (partition by {names} order by scored_at desc, journal desc) = 1"
    ).fetchall()
    db.execute("drop table incoming")
    return {row[: len(key)]: row for row in rows}


def _rows(fact: SampleFact | GroupFact) -> Iterable[tuple[Table, Row, Row]]:
    """The fact's table, key and row, if it has one."""
    about = fact.about
    if isinstance(fact, GroupFact):
        if fact.overall and about.suite == CAPABILITY and fact.correct is not None:
            yield CHECKPOINT_SCORES, (about.run_id, about.label), _overall(fact)
    elif fact.value is None:
        return
    elif about.suite == CAPABILITY and not fact.measure and isinstance(fact.value, bool):
        yield PROBE_RESULTS, (about.run_id, about.label, fact.sample), _probe(fact)
    else:
        row = _judged(fact)
        yield SCORING_RESULTS, row[:4], row


def _overall(fact: GroupFact) -> Row:
    """The line of a checkpoint, its accuracy in percent. What has no score is not in the total: it was not wrong."""
    about, correct = fact.about, fact.correct or 0
    accuracy = 100 * correct / fact.scored
    return about.tag, about.run_id, about.label, about.iteration, correct, fact.scored, accuracy, fact.time


def _probe(fact: SampleFact) -> Row:
    about, answer = fact.about, fact.response[:_RESPONSE]
    return about.tag, about.run_id, about.label, fact.sample, fact.value, answer, about.iteration, fact.time


def _judged(fact: SampleFact) -> Row:
    """The table has no column for a checkpoint, so it stands as a model of its own, and so does the base of a run."""
    about = fact.about
    named = about.label if about.label.startswith(about.run) else f"{about.run} {about.label}"
    return named, fact.sample, about.suite, fact.metric, fact.value, fact.time
