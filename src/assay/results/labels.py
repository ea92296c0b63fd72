"""What weights are called in a run: by the file that holds them now, as the journal's records of checkpoints tell.

A result is journaled under the label that its weights had then. They may have another one by now: files are renamed, swapped,
copied and overwritten while a training goes on. So whoever shows or forwards results asks here.

Of several files with the same weights the first one gives the label, as in `assay.plan`: what lies there before what is gone,
a numbered one before the last one written, then by iteration and path. Weights whose files are all gone keep the label of the
one that went last, and weights that others have taken the place of in every file have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from assay.results.records import CheckpointSeen

Order: TypeAlias = tuple[int, float]  # in the journal: a record's seq and time
_File: TypeAlias = tuple[str, str, str]  # run, host, path
_NEVER: Order = (-1, 0.0)


class Label(NamedTuple):
    """What weights are called. gone: the file that held them is. since: when it was last said that they lie there."""

    name: str
    iteration: int
    gone: bool
    since: Order


class Renamed(NamedTuple):
    """Weights whose label is another one than it was; None: they have none."""

    run: str
    digest: str
    before: Label | None
    now: Label | None


class _State:
    """What is known of a file. holds: the weights that were last read there. seen: when something was last said of it."""

    __slots__ = ("gone", "holds", "seen", "since")

    def __init__(self) -> None:
        self.holds: CheckpointSeen | None = None
        self.since = _NEVER
        self.seen = _NEVER
        self.gone = False


class Labels:
    """It depends on what was learned, and not on the order."""

    def __init__(self) -> None:
        self._files: dict[_File, _State] = {}
        self._holders: dict[tuple[str, str], set[_File]] = {}

    def take(self, record: CheckpointSeen) -> list[Renamed]:
        """What a file's record changes."""
        file = record.run, record.host, record.path
        state = self._files.setdefault(file, _State())
        order = record.seq, record.time
        former = state.holds.digest if state.holds is not None else ""
        digests = list(dict.fromkeys(digest for digest in (former, record.digest) if digest))
        before = [self.of(record.run, digest) for digest in digests]
        if order >= state.seen:
            state.seen, state.gone = order, record.gone
        if record.digest and not record.gone and (order, record.digest) >= (state.since, former):
            state.holds, state.since = record, order
        if record.digest:
            self._holders.setdefault((record.run, record.digest), set())
        if state.holds is not None and state.holds.digest != former:
            self._holders.get((record.run, former), set()).discard(file)
            self._holders[record.run, state.holds.digest].add(file)
        now = [self.of(record.run, digest) for digest in digests]
        return [Renamed(record.run, *each) for each in zip(digests, before, now, strict=True) if each[1] != each[2]]

    def of(self, run: str, digest: str) -> Label | None:
        """What the weights are called; None if nothing is known of them, or others lie in all their files."""
        first = min(self._holders.get((run, digest), ()), key=self._rank, default=None)
        return None if first is None else self._label(first)

    def knows(self, run: str, digest: str) -> bool:
        """Whether the weights were seen in a file."""
        return (run, digest) in self._holders

    def all(self) -> Iterator[tuple[str, str, Label | None]]:
        """Run, digest and label of all weights that were seen in a file."""
        for run, digest in self._holders:
            yield run, digest, self.of(run, digest)

    def _rank(self, file: _File) -> tuple[object, ...]:
        state = self._files[file]
        assert state.holds is not None
        went = tuple(-number for number in state.seen) if state.gone else ()
        return state.gone, went, not state.holds.numbered, state.holds.iteration, file[2], file[1]

    def _label(self, file: _File) -> Label:
        state = self._files[file]
        assert state.holds is not None
        return Label(state.holds.checkpoint, state.holds.iteration, state.gone, state.since)
