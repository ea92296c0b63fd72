"""Which of the results that have one name in a store stand there.

go-ml's tables and points know a result by its run and label, and by neither its weights, its base, the edition of its suite
nor its judge. The label is that which the weights have now (`assay.results.labels`). Of several results that have one name,
one claims it: what the journal says last of the weights, the base, the suite and the judge decides, and not what arrives last.
Points of other suites know the weights and the judge's name.

Memory holds where the results of those suites stand that go-ml knew, and where suites were finished: some 200 bytes each, and
as much for each checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from assay.results.journal import Location
from assay.results.labels import Label, Labels, Order, Renamed
from assay.results.records import CheckpointSeen, Failure, Finished, Place, Run, ScoreMade

CAPABILITY, CONTENT = "capability", "content"  # the suites that go-ml has tables and measurements for
GO_ML = (CAPABILITY, CONTENT)

Result: TypeAlias = ScoreMade | Failure | Finished
_NEVER: Order = (-1, 0.0)


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
    """A name went from one to another: where the results of both stand, in the order in which they came. label: the name's."""

    label: str
    former: tuple[Location, ...]
    now: tuple[Location, ...]


class Moved(NamedTuple):
    """The results of weights, of all suites, have another label."""

    run: str
    digest: str
    label: Label


@dataclass(slots=True)
class _Results:
    last: Order = _NEVER
    places: list[Location] = field(default_factory=list)


class Standing:
    """Who has each name. It depends on what was learned, and not on the order."""

    def __init__(self) -> None:
        self._labels = Labels()
        self._homes: dict[tuple[str, str], Label] = {}  # by run and digest: under which its results are
        self._used: dict[tuple[str, str, str, str], Order] = {}  # run, suite, its digest and the base: last used when
        self._names: dict[str, dict[str, dict[_Name, None]]] = {}  # by run and label
        self._claims: dict[_Name, dict[_Claim, _Results]] = {}
        self._stands: dict[_Name, _Claim | None] = {}

    def learn(self, record: CheckpointSeen | Run) -> Iterator[Change | Moved]:
        """What a record that is no result says of the names."""
        if isinstance(record, CheckpointSeen):
            for renamed in self._labels.take(record):
                yield from self._rename(renamed)
            return
        for use in record.suites:
            pair = record.run, use.name, use.digest, record.identity
            self._used[pair] = max(_order(record), self._used.get(pair, _NEVER))
        names = [name for names in self._names.get(record.run, {}).values() for name in names]
        yield from self._settle_all(name for name in names if len(self._claims[name]) > 1)

    def _rename(self, renamed: Renamed) -> Iterator[Change | Moved]:
        run, digest, _, now = renamed
        home = self._homes.get((run, digest))
        if home is None:
            if now is not None:
                self._homes[run, digest] = now
            return
        touched = dict.fromkeys(self._names.get(run, {}).get(home.name, {}))
        if now is not None and now[:2] != home[:2]:
            self._homes[run, digest] = now
            yield Moved(run, digest, now)
            if now.name == home.name:  # the same name at another iteration
                standing = [name for name in touched if (claim := self._stands.get(name)) and claim.digest == digest]
                yield from (Change(name.label, (), self._places(name, self._stands[name])) for name in standing)
            else:
                touched.update(dict.fromkeys(self._move(name, digest, now.name) for name in list(touched)))
        yield from self._settle_all(touched)

    def _move(self, name: _Name, digest: str, label: str) -> _Name:
        """Put the claims that weights have on a name on that with another label, which is returned."""
        to = name._replace(label=label)
        for claim in [claim for claim in self._claims[name] if claim.digest == digest]:
            results = self._claims[name].pop(claim)
            self._claims_on(to)[claim] = results
        return to

    def place(self, at: Location, record: Result, engine: str = "") -> tuple[bool, Change | None]:
        """A result of a suite that go-ml knew, or the end of any suite: whether it has its name now, and what that changes."""
        name, claim = self._name(record, engine), _claim(record)
        claims = self._claims_on(name)
        results = claims.get(claim)
        if results is None:
            results = claims[claim] = _Results()
        results.places.append(at)
        results.last = max(results.last, _order(record))
        change = self._settle(name) if len(claims) > 1 or self._stands.get(name) is None else None
        return self._stands[name] == claim, change

    def stands(self, record: Result, engine: str = "") -> bool:
        """Whether a result that was placed has its name now."""
        return self._stands.get(self._name(record, engine)) == _claim(record)

    def label(self, record: Place | Finished) -> Label:
        """What the weights of a result are called; where nothing says so, as the result does."""
        which = record.run, record.digest
        home = self._homes.get(which)
        if home is None:
            known = self._labels.of(*which)
            home = Label(record.checkpoint, record.iteration, gone=False, since=_NEVER) if known is None else known
            self._homes[which] = home
        return home

    def _name(self, record: Result, engine: str) -> _Name:
        by, judge = _by(record)
        more = by if record.suite in GO_ML else (str(record.suite_version), record.digest, engine, *by, judge)
        return _Name(record.run, self.label(record).name, record.suite, more)

    def _claims_on(self, name: _Name) -> dict[_Claim, _Results]:
        claims = self._claims.get(name)
        if claims is None:
            claims = self._claims[name] = {}
            self._names.setdefault(name.run, {}).setdefault(name.label, {})[name] = None
        return claims

    def _settle_all(self, names: Iterable[_Name]) -> Iterator[Change]:
        yield from (change for name in names if name in self._claims and (change := self._settle(name)) is not None)

    def _settle(self, name: _Name) -> Change | None:
        former, now = self._stands.get(name), self._first(name)
        self._stands[name] = now
        return Change(name.label, self._places(name, former), self._places(name, now)) if former != now else None

    def _places(self, name: _Name, claim: _Claim | None) -> tuple[Location, ...]:
        """Where the results of a claim stand, which may have moved from this name to another."""
        if claim is None:
            return ()
        results = self._claims[name].get(claim)
        if results is None:
            home = self._homes[name.run, claim.digest]
            results = self._claims[name._replace(label=home.name)][claim]
        return tuple(dict.fromkeys(results.places))

    def _first(self, name: _Name) -> _Claim | None:
        ranks: list[tuple[bool, Order, Order, Order, _Claim]] = []
        for claim, results in self._claims[name].items():
            label = self._labels.of(name.run, claim.digest)
            if name.suite in GO_ML and label is None and self._labels.knows(name.run, claim.digest):
                continue
            there, since = (not label.gone, label.since) if label is not None else (False, _NEVER)
            used = self._used.get((name.run, name.suite, claim.suite_digest, claim.identity), _NEVER)
            ranks.append((there, since, used, results.last, claim))
        return max(ranks)[-1] if ranks else None


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


def _order(record: Result | CheckpointSeen | Run) -> Order:
    return record.seq, record.time
