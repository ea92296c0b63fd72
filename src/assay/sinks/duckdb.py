"""A DuckDB file as a sink: tables of assay's own, and those of go-ml for the suites that it knew.

The file is opened for each batch and closed again, so that others can read it between two. While another process holds it, the
batch waits. A row that is there already is replaced by one that was journaled later, in this journal or another, never doubled.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from assay.config import SinkConfig
from assay.errors import ConfigError, Unreachable
from assay.sinks.base import AnswerFact, Fact, GroupFact, LossFact, Poison, Relabelled, SampleFact, Withdrawn
from assay.sinks.duckdb_go_ml import GO_ML_TABLES, SCORING_RESULTS, go_ml_rows, put_go_mls, scored_answers
from assay.sinks.duckdb_table import Row, Table, Unfit, create, load, merge

if TYPE_CHECKING:
    import duckdb

# More threads take more memory and no less time for what fits in a batch. A file of another database must not make DuckDB
# fetch an extension for it.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_MEMORY = 64  # MB that DuckDB may take for a batch; past that it uses the disk
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
        "scored_at": "TIMESTAMP", "journal": _TEXT,
    },
    (*_WHOSE_KEY, "sample", *_BY, "repeat"),
    ("journal",),
    "scored_at",
)  # fmt: skip
GROUPS = Table(
    "groups",
    {
        **_WHOSE, "group": _TEXT, "metric": _TEXT, "scorer": _TEXT, "judge": _TEXT, "measure": _TEXT, "mean": "DOUBLE",
        "correct": "BIGINT", "asked": "BIGINT", "scored": "BIGINT", "failed": "BIGINT", "truncated": "BIGINT",
        "seq": "BIGINT", "scored_at": "TIMESTAMP", "journal": _TEXT,
    },
    (*_WHOSE_KEY, "group", *_BY),
    ("journal",),
    "scored_at",
)  # fmt: skip
LOSSES = Table(
    "losses",
    {
        "run": _TEXT, "iteration": "BIGINT", "part": _TEXT, "value": "DOUBLE", "seq": "BIGINT", "seen_at": "TIMESTAMP",
        "journal": _TEXT,
    },
    ("run", "iteration", "part"),
    ("seen_at", "journal"),
    "seen_at",
)  # fmt: skip
ANSWERS = Table(
    "answers",
    {
        "run": _TEXT, "model": _TEXT, "sample": _TEXT, "suite": _TEXT, "metric": _TEXT, "judge": _TEXT, "measure": _TEXT,
        "value": "DOUBLE", "seq": "BIGINT", "scored_at": "TIMESTAMP", "journal": _TEXT,
    },
    ("run", "model", "sample", "suite", "metric", "measure"),
    ("journal",),
    "scored_at",
)  # fmt: skip
# The file's own id: one that was removed and made again has another.
STORE = Table("assay_store", {"id": _TEXT}, ("id",))
TABLES = (SAMPLES, GROUPS, LOSSES, ANSWERS)  # assay's own, for results
_BY_NAME = {table.name: table for table in (*TABLES, *GO_ML_TABLES)}


class DuckDBSink:
    """Facts as rows of a DuckDB file. Implements `assay.sinks.base.Sink`. memory: MB that DuckDB may take if they do."""

    def __init__(self, name: str, path: Path, memory: int = _MEMORY) -> None:
        self.name = name
        self.place = f"duckdb:{path.resolve()}"
        self._path = path
        self._memory = memory
        # Who waits for a write may be cancelled; the write goes on in its thread, and the next one must not meet it.
        self._writing = threading.Lock()

    async def check(self) -> str:
        return await asyncio.to_thread(self._check)

    async def take(self, facts: Sequence[Fact]) -> str:
        return await asyncio.to_thread(self._take, facts)

    async def aclose(self) -> None: ...

    def _check(self) -> str:
        from assay.sinks.duckdb_faults import forbidden_fault

        store = self._write(())
        # Nothing need have been written to say so.
        if (forbidden := forbidden_fault(self._path)) is not None:
            raise forbidden
        return store

    def _take(self, facts: Sequence[Fact]) -> str:
        try:
            return self._write(facts)
        except Unfit:
            raise Poison(_unfit(facts)) from None

    def _write(self, facts: Sequence[Fact]) -> str:
        with self._writing:
            return self._write_alone(facts)

    def _write_alone(self, facts: Sequence[Fact]) -> str:
        import duckdb

        while True:
            try:
                return self._write_once(facts)
            except duckdb.OutOfMemoryException as error:  # it can't always make do with the disk
                if self._memory > 64 * _MEMORY:
                    raise Unreachable(f"{self._path}: {error}") from error
                self._memory *= 4

    def _write_once(self, facts: Sequence[Fact]) -> str:
        import duckdb

        from assay.sinks.duckdb_faults import duckdb_fault

        db = self._open()
        try:
            db.begin()
            for table in (*TABLES, *GO_ML_TABLES, STORE):
                create(db, table)
            _put(db, facts)
            store = _store(db)
            db.commit()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise duckdb_fault(self._path, error) from error
        finally:
            db.close()
        return store

    def _open(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        from assay.sinks.duckdb_faults import duckdb_fault, system_fault

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                self._create_file()
            return duckdb.connect(self._path, config={**_CONFIG, "memory_limit": f"{self._memory}MB"})
        except OSError as error:
            raise system_fault(self._path, error) from error
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise duckdb_fault(self._path, error) from error

    def _create_file(self) -> None:
        """Make the file elsewhere and move it here whole: half of one (a full disk, a kill) can never be opened."""
        import duckdb

        half = self._path.with_name(f".{self._path.name}.new")
        half.write_bytes(b"")  # the system's reason why it can't be made is clearer than DuckDB's
        half.unlink()
        duckdb.connect(half).close()
        half.replace(self._path)


def open_sink(name: str, settings: SinkConfig, workspace: Path) -> DuckDBSink:
    """The sink of a file, `results.duckdb` in the workspace unless `settings.path` names another."""
    if settings.url is not None:
        raise ConfigError(f"the sink {name!r} is a DuckDB file; give it a path, not the URL {settings.url}")
    return DuckDBSink(name, settings.path or workspace / "results.duckdb")


def _put(db: duckdb.DuckDBPyConnection, facts: Sequence[Fact]) -> None:
    native = rows_of(facts)
    for table in TABLES:
        if rows := native[table.name]:
            load(db, table, rows)
            merge(db, table)
    _relabel(db, facts)
    go_mls = go_ml_rows(facts)
    for table in GO_ML_TABLES:
        put_go_mls(db, table, go_mls[table.name])
    if answers := native[ANSWERS.name]:
        put_go_mls(db, SCORING_RESULTS, scored_answers(db, ANSWERS, answers))


def _relabel(db: duckdb.DuckDBPyConnection, facts: Sequence[Fact]) -> None:
    """Have the rows of each adapter, those that are put in now among them, under its last label."""
    labels = {(fact.run, fact.digest): fact for fact in facts if isinstance(fact, Relabelled)}
    for last in labels.values():
        for table in (SAMPLES, GROUPS):
            db.execute(
                f"update {table.name} set checkpoint = $label, iteration = $iteration "
                "where run = $run and digest = $digest and coalesce(journal, $journal) = $journal",
                structs.asdict(last),
            )


def rows_of(facts: Iterable[Fact]) -> dict[str, list[Row]]:
    """The facts as rows of each of assay's tables; of two with one key, the one that was journaled later."""
    kinds: dict[type[Fact], list[Any]] = {SampleFact: [], GroupFact: [], LossFact: [], AnswerFact: []}
    for fact in facts:
        if not isinstance(fact, Withdrawn | Relabelled):
            kinds[type(fact)].append(fact)
    groups = [fact for fact in kinds[GroupFact] if not fact.overall]
    return {
        SAMPLES.name: list(map(_SAMPLE, _latest(kinds[SampleFact], _SAMPLE_KEY))),
        GROUPS.name: list(map(_GROUP, _latest(groups, _GROUP_KEY))),
        LOSSES.name: list(map(_LOSS, _latest(kinds[LossFact], _LOSS_KEY))),
        ANSWERS.name: list(map(_ANSWER, _latest(kinds[AnswerFact], _ANSWER_KEY))),
    }


def _latest(facts: Sequence[Any], key: Callable[[Any], Any]) -> list[Any]:
    latest: dict[Any, Any] = {}
    for fact in facts:
        name = key(fact)
        known = latest.get(name)
        if known is None or known.seq <= fact.seq:
            latest[name] = fact
    return list(latest.values())


# A fact's fields in the order of its table's columns; `attrgetter` takes a fifth of the time of a loop over names.
_WHOSE_FIELDS = (
    "about.run", "about.label", "about.iteration", "about.digest", "about.suite", "about.suite_version",
    "about.suite_digest", "about.engine", "about.base", "about.identity", "about.proof",
)  # fmt: skip
_WHOSE_FIELDS_KEY = (
    "about.run", "about.digest", "about.suite", "about.suite_version", "about.suite_digest", "about.engine", "about.identity",
)  # fmt: skip
_BY_FIELDS = ("metric", "scorer", "measure")
_SAMPLE = attrgetter(
    *_WHOSE_FIELDS, "sample", "group", "index", "metric", "scorer", "judge", "measure", "repeat", "outcome", "value", "low",
    "high", "detail", "prompt", "response", "error_class", "reason", "seq", "time", "about.journal",
)  # fmt: skip
_SAMPLE_KEY = attrgetter(*_WHOSE_FIELDS_KEY, "sample", *_BY_FIELDS, "repeat")
_GROUP = attrgetter(
    *_WHOSE_FIELDS, "group", "metric", "scorer", "judge", "measure", "mean", "correct", "asked", "scored", "failed",
    "truncated", "seq", "time", "about.journal",
)  # fmt: skip
_GROUP_KEY = attrgetter(*_WHOSE_FIELDS_KEY, "group", *_BY_FIELDS)
_LOSS = attrgetter("run", "iteration", "part", "value", "seq", "time", "journal")
_LOSS_KEY = attrgetter("run", "iteration", "part")
_ANSWER = attrgetter("run", "model", "sample", "suite", "metric", "judge", "measure", "value", "seq", "time", "journal")
_ANSWER_KEY = attrgetter("run", "model", "sample", "suite", "metric", "measure")


def _store(db: duckdb.DuckDBPyConnection) -> str:
    """The id of this file, which it gets with its tables."""
    row = db.execute(f"select min(id) from {STORE.name}").fetchone()
    if row is not None and row[0]:
        return str(row[0])
    store = uuid.uuid4().hex
    db.execute(f"insert into {STORE.name} values ($id)", {"id": store})
    return store


def _unfit(facts: Sequence[Fact]) -> dict[int, str]:
    """Which of the facts can be no rows, by their place, with the reason: halves of halves are tried elsewhere."""
    import duckdb

    found: dict[int, str] = {}
    spans = [(0, len(facts))]
    with duckdb.connect(config=_CONFIG) as db:
        while spans:
            first, end = spans.pop()
            try:
                for name, rows in rows_of(facts[first:end]).items():
                    if rows:
                        load(db, _BY_NAME[name], rows)
                for name, standing in go_ml_rows(facts[first:end]).items():
                    if there := [row for row in standing.values() if row is not None]:
                        load(db, _BY_NAME[name], there)
            except Unfit as error:
                middle = (first + end) // 2
                if middle == first:
                    found[first] = str(error)
                else:
                    spans += [(first, middle), (middle, end)]
    return found
