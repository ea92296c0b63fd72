"""A DuckDB file as a sink: tables of assay's own, and those of go-ml for the suites that it knew.

The file is opened for each batch and closed again, so that others can read it between two. While another process holds it, the
batch waits. A row that is there already is replaced by one that was journaled later, never doubled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config import SinkConfig
from assay.errors import BadInput, ConfigError, Unreachable
from assay.sinks.base import About, AnswerFact, Fact, GroupFact, LossFact, SampleFact

if TYPE_CHECKING:
    import duckdb

_RESPONSE = 300  # characters that go-ml keeps of an answer
CAPABILITY, CONTENT = "capability", "content"  # the suites that go-ml has tables for


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its columns and their types; `key` are those that tell rows apart."""

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]


_TEXT = "VARCHAR"
_WHOSE = {
    **dict.fromkeys(("run", "checkpoint"), _TEXT), "iteration": "BIGINT",
    **dict.fromkeys(("digest", "suite"), _TEXT), "suite_version": "BIGINT",
    **dict.fromkeys(("suite_digest", "engine", "base", "identity", "proof"), _TEXT),
}  # fmt: skip
_WHOSE_KEY = ("run", "digest", "suite", "suite_version", "suite_digest", "engine", "identity")
_BY = ("metric", "scorer", "measure")

SAMPLES = Table(
    "samples",
    {
        **_WHOSE, "sample": _TEXT, "group": _TEXT, "index": "BIGINT", "metric": _TEXT, "scorer": _TEXT, "judge": _TEXT,
        "measure": _TEXT, "repeat": "BIGINT", "outcome": _TEXT, "value": "DOUBLE", "low": "DOUBLE", "high": "DOUBLE",
        "detail": "JSON", "prompt": _TEXT, "response": _TEXT, "error_class": _TEXT, "reason": _TEXT, "seq": "BIGINT",
        "scored_at": "TIMESTAMP",
    },
    (*_WHOSE_KEY, "sample", *_BY, "repeat"),
)  # fmt: skip
GROUPS = Table(
    "groups",
    {
        **_WHOSE, "group": _TEXT, "metric": _TEXT, "scorer": _TEXT, "judge": _TEXT, "measure": _TEXT, "mean": "DOUBLE",
        "correct": "BIGINT", "asked": "BIGINT", "scored": "BIGINT", "failed": "BIGINT", "truncated": "BIGINT",
        "seq": "BIGINT", "scored_at": "TIMESTAMP",
    },
    (*_WHOSE_KEY, "group", *_BY),
)  # fmt: skip
LOSSES = Table(
    "losses",
    {"run": _TEXT, "iteration": "BIGINT", "part": _TEXT, "value": "DOUBLE", "seq": "BIGINT"},
    ("run", "iteration", "part"),
)
ANSWERS = Table(
    "answers",
    {
        "run": _TEXT, "model": _TEXT, "sample": _TEXT, "suite": _TEXT, "metric": _TEXT, "judge": _TEXT, "measure": _TEXT,
        "value": "DOUBLE", "seq": "BIGINT", "scored_at": "TIMESTAMP",
    },
    ("run", "model", "sample", "suite", "metric", "measure"),
)  # fmt: skip
# go-ml's own, column by column; `seq` is not among them, so there the row that comes last stands.
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
TABLES = (SAMPLES, GROUPS, LOSSES, ANSWERS, CHECKPOINT_SCORES, PROBE_RESULTS, SCORING_RESULTS)

Row = dict[str, Any]


class DuckDBSink:
    """Facts as rows of a DuckDB file. Implements `assay.sinks.base.Sink`."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    async def check(self) -> None:
        await asyncio.to_thread(self._write, {})

    async def take(self, facts: Sequence[Fact]) -> None:
        await asyncio.to_thread(self._write, rows_of(facts))

    async def aclose(self) -> None: ...

    def _write(self, rows: Mapping[str, Sequence[Row]]) -> None:
        import duckdb

        db = self._open()
        try:
            db.begin()
            for table in TABLES:
                db.execute(_create(table))
                if found := rows.get(table.name):
                    _upsert(db, table, found)
            db.commit()
        except duckdb.IOException as error:  # no room, a disk that went away
            raise Unreachable(f"{self._path}: {error}") from error
        except duckdb.Error as error:
            raise BadInput(f"{self._path} has a table that results do not fit ({error}); name another file") from error
        finally:
            db.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return duckdb.connect(self._path)
        except OSError as error:
            raise BadInput(f"{self._path.parent} cannot be made ({error.strerror}); name another file") from error
        except duckdb.IOException as error:
            if "lock" in str(error).lower():
                raise Unreachable(f"{self._path} is held by another process") from error
            if "valid" in str(error).lower():
                raise BadInput(f"{self._path} is no DuckDB file; name another one") from error
            raise Unreachable(f"{self._path} cannot be opened: {error}") from error
        except duckdb.Error as error:
            raise BadInput(f"{self._path} cannot be opened: {error}") from error


def open_sink(name: str, settings: SinkConfig, workspace: Path) -> DuckDBSink:
    """The sink of a file, `results.duckdb` in the workspace unless `settings.path` names another."""
    if settings.url is not None:
        raise ConfigError(f"the sink {name!r} is a DuckDB file; give it a path, not the URL {settings.url}")
    return DuckDBSink(name, settings.path or workspace / "results.duckdb")


def rows_of(facts: Iterable[Fact]) -> dict[str, list[Row]]:
    """The facts as rows of each table; of two with one key, the one that was journaled later."""
    rows: dict[str, dict[tuple[Any, ...], tuple[int, Row]]] = {table.name: {} for table in TABLES}
    for fact in facts:
        for table, row in _rows(fact):
            key = tuple(row[name] for name in table.key)
            known = rows[table.name].get(key)
            if known is None or known[0] <= fact.seq:
                rows[table.name][key] = fact.seq, row
    return {name: [row for _, row in found.values()] for name, found in rows.items()}


def _rows(fact: Fact) -> Iterable[tuple[Table, Row]]:
    match fact:
        case SampleFact():
            yield SAMPLES, _sample(fact)
            yield from _probe(fact)
        case GroupFact(overall=True):
            if fact.about.suite == CAPABILITY and fact.correct is not None:
                yield CHECKPOINT_SCORES, _overall(fact)
        case GroupFact():
            yield GROUPS, _group(fact)
        case LossFact():
            yield LOSSES, _picked(fact, "run iteration part value seq")
        case AnswerFact():
            value = None if fact.value is None else float(fact.value)
            same = _picked(fact, "run model sample suite metric judge measure seq")
            yield ANSWERS, {**same, "value": value, "scored_at": fact.time}
            if value is not None:
                yield SCORING_RESULTS, _scoring(fact.model, fact.sample, fact.suite, fact.metric, value, fact.time)


def _picked(source: Fact | About, names: str) -> Row:
    return {name: getattr(source, name) for name in names.split()}


def _whose(about: About) -> Row:
    same = _picked(about, "run iteration digest suite suite_version suite_digest engine base identity")
    return {**same, "checkpoint": about.label, "proof": about.proof or None}


def _sample(fact: SampleFact) -> Row:
    same = _picked(
        fact,
        "sample group index metric scorer judge measure repeat outcome low high prompt response error_class reason seq",
    )
    value = None if fact.value is None else float(fact.value)
    detail = json.dumps(fact.detail, ensure_ascii=False) if fact.detail else None
    return {**_whose(fact.about), **same, "value": value, "detail": detail, "scored_at": fact.time}


def _group(fact: GroupFact) -> Row:
    same = _picked(fact, "group metric scorer judge measure mean correct asked scored failed truncated seq")
    return {**_whose(fact.about), **same, "scored_at": fact.time}


def _overall(fact: GroupFact) -> Row:
    """go-ml's line of a checkpoint, its accuracy in percent. What has no score is not in the total: it was not wrong."""
    correct = fact.correct or 0
    return {
        **_picked(fact.about, "run_id label iteration"),
        "model": fact.about.tag,
        "correct": correct,
        "total": fact.scored,
        "accuracy": 100 * correct / fact.scored,
        "scored_at": fact.time,
    }


def _probe(fact: SampleFact) -> Iterable[tuple[Table, Row]]:
    """What go-ml's tables keep of a sample: passed or not in its capability suite, and every judged dimension."""
    about = fact.about
    if fact.value is None:
        return
    if about.suite == CAPABILITY and not fact.measure and isinstance(fact.value, bool):
        yield (
            PROBE_RESULTS,
            {
                "model": about.tag, "run_id": about.run_id, "label": about.label, "probe_id": fact.sample,
                "passed": fact.value, "response": fact.response[:_RESPONSE], "iteration": about.iteration,
                "scored_at": fact.time,
            },
        )  # fmt: skip
    elif about.suite in (CAPABILITY, CONTENT):
        value = float(fact.value)
        yield SCORING_RESULTS, _scoring(about.tag, fact.sample, about.suite, fact.metric, value, fact.time)


def _scoring(model: str, sample: str, suite: str, metric: str, value: float, time: float) -> Row:
    return {
        "model": model, "prompt_id": sample, "suite": suite, "dimension": metric, "score": value, "scored_at": time,
    }  # fmt: skip


def _quoted(name: str) -> str:
    return f'"{name}"'


def _create(table: Table) -> str:
    columns = ", ".join(f"{_quoted(name)} {kind}" for name, kind in table.columns.items())
    return f"create table if not exists {table.name} ({columns})"


def _upsert(db: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Row]) -> None:
    """Put the rows in, in place of those with their key that were journaled no later."""
    # JSON has no timestamps, so they travel as seconds.
    kinds = {name: "DOUBLE" if kind == "TIMESTAMP" else kind for name, kind in table.columns.items()}
    shape = json.dumps([{name: "VARCHAR" if kind == "JSON" else kind for name, kind in kinds.items()}])
    values = ", ".join(
        f"make_timestamp((r.{_quoted(name)} * 1e6)::BIGINT)" if kind == "TIMESTAMP" else f"r.{_quoted(name)}::{kind}"
        for name, kind in table.columns.items()
    )
    names = ", ".join(map(_quoted, table.columns))
    db.execute(
        f"create or replace temp table incoming as select unnest(from_json($rows, '{shape}')) as r",
        {"rows": json.dumps(rows, ensure_ascii=False)},
    )
    same = " and ".join(f"t.{_quoted(k)} is not distinct from i.r.{_quoted(k)}" for k in table.key)
    older = " and t.seq <= i.r.seq" if "seq" in table.columns else ""
    db.execute(f"delete from {table.name} t using incoming i where {same}{older}")
    db.execute(
        f"insert into {table.name} ({names}) select {values} from incoming i "
        f"where not exists (from {table.name} t where {same})"
    )
    db.execute("drop table incoming")
