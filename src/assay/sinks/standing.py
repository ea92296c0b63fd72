"""Which of the results that have one name in a store stand there.

go-ml's tables and points know a result by its run and label, and by neither its weights, its base, the edition of its suite
nor its judge. So of several that have one name, one claims it: what the journal says last of the label, the base, the suite
and the judge decides, and not what arrives last. Points of other suites know the weights and the judge's name.

Memory holds where the results of those suites stand that go-ml knew, and where suites were finished: some 200 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from assay.results.journal import Location
from assay.results.records import CheckpointSeen, Failure, Finished, Run, ScoreMade

CAPABILITY, CONTENT = "capability", "content"  # the suites that go-ml has tables and measurements for
GO_ML = (CAPABILITY, CONTENT)

Result: TypeAlias = ScoreMade | Failure | Finished
_Order: TypeAlias = tuple[int, float]  # in the journal: a record's seq and time
_NEVER: _Order = (-1, 0.0)


class _Name(NamedTuple):
    """What a store knows results by. more: what tells them apart beyond run, label and suite."""

    run: str
    label: str
    suite: str
    more: tuple[str, ...]


class _Claim(NamedTuple):
    """Whose results have a name."""

    digest: str
    identity: str
    suite_digest: str
    measure: str


class Change(NamedTuple):
    """A name went from one to another: where the results of both stand, in the order in which they came."""

    former: tuple[Location, ...]
    now: tuple[Location, ...]


@dataclass(slots=True)
class _Results:
    last: _Order = _NEVER
    places: list[Location] = field(default_factory=list)


@dataclass(slots=True)
class _Label:
    """What lies, and has lain, in the files of one label. lies: by file, with when that was last said."""

    lies: dict[tuple[str, str], tuple[_Order, str]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def take(self, record: CheckpointSeen) -> None:
        file, order = (record.host, record.path), _order(record)
        self.known.add(record.digest)
        self.lies[file] = max((order, record.digest), self.lies.get(file, (_NEVER, "")))

    def since(self, digest: str) -> _Order | None:
        """When it was last said that these weights lie there; None if others have taken their place."""
        found = [order for order, lies in self.lies.values() if lies == digest]
        return max(found) if found else None if digest in self.known else _NEVER


class Standing:
    """Who has each name. It depends on what was learned, and not on the order."""

    def __init__(self) -> None:
        self._labels: dict[tuple[str, str], _Label] = {}
        self._used: dict[tuple[str, str, str, str], _Order] = {}  # run, suite, its digest and the base: last used when
        self._names: dict[str, dict[str, list[_Name]]] = {}  # by run and label
        self._claims: dict[_Name, dict[_Claim, _Results]] = {}
        self._stands: dict[_Name, _Claim | None] = {}

    def learn(self, record: CheckpointSeen | Run) -> Iterator[Change]:
        """What a record that is no result says of the names."""
        labels = self._names.get(record.run, {})
        if isinstance(record, CheckpointSeen):
            if not record.digest:
                return
            self._labels.setdefault((record.run, record.checkpoint), _Label()).take(record)
            touched = labels.get(record.checkpoint, [])
        else:
            for use in record.suites:
                pair = record.run, use.name, use.digest, record.identity
                self._used[pair] = max(_order(record), self._used.get(pair, _NEVER))
            touched = [name for names in labels.values() for name in names if len(self._claims[name]) > 1]
        for name in touched:
            if (change := self._settle(name)) is not None:
                yield change

    def place(self, at: Location, record: Result, engine: str = "") -> tuple[bool, Change | None]:
        """A result of a suite that go-ml knew, or the end of any suite: whether it has its name now, and what that changes."""
        name, claim = _name(record, engine), _claim(record)
        claims = self._claims.get(name)
        if claims is None:
            claims = self._claims[name] = {}
            self._names.setdefault(name.run, {}).setdefault(name.label, []).append(name)
        results = claims.get(claim)
        if results is None:
            results = claims[claim] = _Results()
        results.places.append(at)
        results.last = max(results.last, _order(record))
        change = self._settle(name) if len(claims) > 1 or name not in self._stands else None
        return self._stands[name] == claim, change

    def stands(self, record: Result, engine: str = "") -> bool:
        """Whether a result that was placed has its name now."""
        return self._stands.get(_name(record, engine)) == _claim(record)

    def _settle(self, name: _Name) -> Change | None:
        former, now = self._stands.get(name), self._first(name)
        self._stands[name] = now
        if former == now:
            return None
        claims = self._claims[name]
        return Change(*(tuple(dict.fromkeys(claims[each].places)) if each else () for each in (former, now)))

    def _first(self, name: _Name) -> _Claim | None:
        label = self._labels.get((name.run, name.label)) if name.suite in GO_ML else None
        ranks: list[tuple[_Order, _Order, _Order, _Claim]] = []
        for claim, results in self._claims[name].items():
            since = label.since(claim.digest) if label is not None else _NEVER
            if since is not None:
                used = self._used.get((name.run, name.suite, claim.suite_digest, claim.identity), _NEVER)
                ranks.append((since, used, results.last, claim))
        return max(ranks)[-1] if ranks else None


def is_go_mls(record: ScoreMade | Failure) -> bool:
    """Whether go-ml has a name for it."""
    return record.suite in GO_ML


def _name(record: Result, engine: str) -> _Name:
    by, judge = _by(record)
    more = by if record.suite in GO_ML else (str(record.suite_version), record.digest, engine, *by, judge)
    return _Name(record.run, record.checkpoint, record.suite, more)


def _by(record: Result) -> tuple[tuple[str, ...], str]:
    """The rubric with the edition of the suite that it was of, and the judge; of no judge nothing."""
    if isinstance(record, Finished):
        if not record.judged:
            return (), ""
        part = record.summaries[0]
        return (part.scorer, part.metric.partition(" (")[2]), part.judge
    return ((record.scorer, record.metric.partition(" (")[2]), record.judge) if record.measure else ((), "")


def _claim(record: Result) -> _Claim:
    measure = record.measure if not isinstance(record, Finished) else ""
    if isinstance(record, Finished) and record.judged:
        measure = record.summaries[0].measure
    return _Claim(record.digest, record.identity, record.suite_digest, measure)


def _order(record: Result | CheckpointSeen | Run) -> _Order:
    return record.seq, record.time
