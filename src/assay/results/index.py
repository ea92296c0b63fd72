"""What the journal already holds, by key: the difference between resuming and paying again.

Built by one pass over the segments and kept up to date by the writer. It remembers where a record stands, not the record,
so its memory grows by some 200 bytes an answer and not by the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from assay.results.journal import Damage, Journal, Location, indexed, read_at
from assay.results.labels import Labels
from assay.results.records import (
    FROM_FILES,
    AnswerNoted,
    AnswerScored,
    AnswersRead,
    AnyRecord,
    Attempt,
    CheckpointSeen,
    CompletionMade,
    Failure,
    FileSeen,
    Finished,
    IndexedRecord,
    LossSeen,
    Proof,
    Run,
    SampleAsked,
    ScaleSeen,
    ScoreMade,
    TextWeighed,
    VoteCast,
)
from assay.types import Checkpoint


class _Judged(NamedTuple):
    """That a judge has gone through a suite. order: among all records. limit: 0 for none. failed: whether at some answers."""

    order: int
    limit: int
    failed: bool
    scorer: str
    judge: str


class Ledger:
    """A journal and its index: look up, append, know what is done. One writer's view; not for use from several threads."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.damage: Damage = Damage()
        self._earned: dict[str, tuple[Location, str]] = {}
        self._scores: dict[str, list[Location]] = {}
        self._votes: dict[str, Location] = {}
        # At each place, for each metric and judge: what was journaled last (see `_result`), and its batch.
        self._places: dict[tuple[str, ...], tuple[str, str]] = {}
        self._scales: dict[tuple[str, ...], tuple[float | None, float | None, bool]] = {}
        self._runs: dict[str, Run] = {}
        self._bases: dict[str, str] = {}
        self._answers: dict[str, list[AnswersRead]] = {}
        self._samples: dict[str, set[str]] = {}
        self._finished: dict[tuple[str, ...], Finished] = {}
        self._judged: dict[tuple[str, ...], dict[str, _Judged]] = {}  # by measure
        self._fingerprints: dict[tuple[str, str], Proof] = {}
        self._closed: set[str] = set()
        self._distrusted: set[str] = set()
        self.labels: Labels = Labels()
        self._seen: dict[tuple[str, str, str], CheckpointSeen] = {}
        self._digests: dict[
            tuple[object, ...], CheckpointSeen
        ] = {}  # by the state of the files that they were taken of
        self._faults: dict[tuple[object, ...], CheckpointSeen] = {}
        self._losses: dict[tuple[str, int, str], float] = {}
        self._logs: dict[tuple[str, str, str], LossSeen] = {}
        self._attempts: dict[
            tuple[object, ...], list[Attempt]
        ] = {}  # by the digest, or the file's state where it has none
        self._asked: dict[tuple[str, ...], int] = {}  # when a suite was last gone through at a checkpoint
        seq = 1
        for location, record in indexed(workspace, self.damage):
            self._take(location, record)
            seq = max(seq, record.seq + 1)
        self.journal: Journal = Journal(workspace, seq)

    def append(self, record: AnyRecord) -> None:
        """Write a record and know it from now on."""
        self._take(*self.journal.append(record))

    def append_all(self, records: Sequence[AnyRecord]) -> None:
        """Write records at once, and know them from now on."""
        for location, record in self.journal.append_all(records):
            self._take(location, record)

    def _take(self, location: Location, record: AnyRecord | IndexedRecord) -> None:
        match record:
            case AnswerNoted() | AnswerScored():  # there may be millions, so they are sent home first
                pass
            case CompletionMade() | TextWeighed():
                self._earned[record.key] = (location, record.batch)
            case ScoreMade():
                self._scores.setdefault(record.key, []).append(location)
                self._places[_place(record)] = _result(record), record.batch
            case Failure():
                self._places[_place(record)] = _result(record), record.batch
            case VoteCast():
                self._votes[record.key] = location
            case Proof():
                self._take_proof(record)
            case Finished():
                self._take_finished(record)
            case CheckpointSeen():
                self._seen[record.run, record.host, record.path] = record
                self.labels.take(record)
                if not record.gone:
                    self._take_state(record)
            case Attempt():
                weights = (record.digest,) if record.digest else _file_state(record)
                self._attempts.setdefault(weights, []).append(record)
            case ScaleSeen():
                name = _scale(record)
                low, high, varied = self._scales.get(name, (None, None, False))
                self._scales[name] = _least(low, record.low), _most(high, record.high), varied or record.varied
            case AnswersRead():
                self._answers.setdefault(record.run, []).append(record)
            case SampleAsked():
                self._samples.setdefault(record.suite_digest, set()).add(record.sample)
            case Run():
                self._bases[record.place or record.base] = record.identity
                known_run = self._runs.get(record.run)
                if known_run is None or record.seq >= known_run.seq:
                    self._runs[record.run] = record
            case LossSeen():
                self._losses[record.run, record.iteration, record.part] = record.value
                self._logs[record.run, record.host, record.path] = record

    def _take_state(self, record: CheckpointSeen) -> None:
        state = _file_state(record)
        if record.digest:
            self._digests[state] = record
            self._faults.pop(state, None)  # it can be used after all
        else:
            self._faults[state] = record

    def _take_proof(self, record: Proof) -> None:
        if record.verdict in ("void", "unproven"):
            self._distrusted.add(record.batch)
        if record.verdict != "open":
            self._closed.add(record.batch)
        if record.verdict == "live":
            self._fingerprints[(record.identity, record.digest)] = record

    def _take_finished(self, record: Finished) -> None:
        key = (record.run, record.digest, record.suite_digest, record.identity)
        order = record.seq
        if record.judged:
            known_by = self._judged.setdefault(key, {})
            for part in record.summaries:
                by = known_by.get(part.measure)
                if by is None or by.order <= order:
                    failed = part.failed > 0 or (by is not None and by.order == order and by.failed)
                    known_by[part.measure] = _Judged(order, record.limit, failed, part.scorer, part.judge)
            return
        self._asked[key] = max(order, self._asked.get(key, 0))
        known = self._finished.get(key)
        # A run over all samples (limit 0) is not made unfinished by a later, smaller look.
        if known is None or known.failed or (known.limit and (not record.limit or record.limit > known.limit)):
            self._finished[key] = record

    def completion(self, key: str) -> CompletionMade | None:
        """The answer journaled under `key`, unless it was given under an adapter that could not be shown to be live."""
        record = self._trusted(key)
        return record if isinstance(record, CompletionMade) else None

    def weighed(self, key: str) -> TextWeighed | None:
        """The same of a text that was weighed."""
        record = self._trusted(key)
        return record if isinstance(record, TextWeighed) else None

    def _trusted(self, key: str) -> AnyRecord | None:
        found = self._earned.get(key)
        return None if found is None or found[1] in self._distrusted else read_at(found[0])

    def scores(self, key: str) -> list[ScoreMade]:
        """The scores journaled under `key`, one a metric."""
        records = (read_at(location) for location in self._scores.get(key, ()))
        return list({r.metric: r for r in records if isinstance(r, ScoreMade)}.values())

    def vote(self, key: str) -> VoteCast | None:
        """The vote journaled under `key`."""
        found = self._votes.get(key)
        record = read_at(found) if found is not None else None
        return record if isinstance(record, VoteCast) else None

    def is_placed(self, record: ScoreMade | Failure) -> bool:
        """Whether this result is what stands at its place: journaled there last of all under its metric, by its judge.

        A result that another one has followed there is to be journaled again, so that it is the latest.
        """
        last, batch = self._places.get(_place(record), ("", ""))
        return last == _result(record) != "" and batch not in self._distrusted

    def is_wider(self, record: ScaleSeen) -> bool:
        """Whether the metric is not known yet, or its bounds go beyond those known, or are the first that differ."""
        name = _scale(record)
        if name not in self._scales:
            return True
        low, high, varied = self._scales[name]
        wider = _least(low, record.low) != low or _most(high, record.high) != high
        return wider or (record.varied and not varied)

    def is_unvouched(self, batch: str) -> bool:
        """Whether a batch was begun and never closed by a second fingerprint: its writer was killed."""
        return bool(batch) and batch not in self._closed

    def bases(self) -> dict[str, str]:
        """From each base's place, or its spec where that is not known, to the identity that it had when it was last opened."""
        return self._bases

    def finished(self, run: str, digest: str, suite_digest: str, identity: str, limit: int) -> Finished | None:
        """The record that says this suite is done here, failures aside; None if there is work left."""
        record = self._finished.get((run, digest, suite_digest, identity))
        if record is None or record.failed:
            return None
        return record if _covers(record.limit, limit) else None

    def gone_through(self) -> list[Finished]:
        """Of each suite at each checkpoint the record that says that it was gone through, failures or not."""
        return list(self._finished.values())

    def is_judged(self, of: Finished, measure: str, limit: int) -> bool:
        """Whether a judge has scored, by this measure, all answers that were gone through."""
        return measure in self._judgements(of, limit)

    def _judgements(self, of: Finished, limit: int) -> dict[str, _Judged]:
        """The measures that stand, by which all answers were judged.

        Of a judge's measures under one rubric the last one stands in the tables: another is to be journaled again. Where
        answers came later they may be new ones; a judge takes those that it knows by their keys.
        """
        key = (of.run, of.digest, of.suite_digest, of.identity)
        known = self._judged.get(key, {})
        last: dict[tuple[str, str], int] = {}
        for by in known.values():
            last[by.scorer, by.judge] = max(by.order, last.get((by.scorer, by.judge), 0))
        return {
            measure: by
            for measure, by in known.items()
            if by.order == last[by.scorer, by.judge] > self._asked.get(key, 0)
            and not by.failed
            and _covers(by.limit, limit)
        }

    def fingerprints(self, identity: str) -> dict[str, tuple[tuple[str, tuple[int, ...], tuple[float, ...]], ...]]:
        """The fingerprint of each adapter's digest that was last shown to be live on this base."""
        return {digest: p.fingerprint for (base, digest), p in self._fingerprints.items() if base == identity}

    def has_sample(self, suite_digest: str, sample: str) -> bool:
        """Whether the journal has this question of the suite."""
        return sample in self._samples.get(suite_digest, ())

    def run(self, name: str) -> Run | None:
        """The run's last beginning; None if nothing of that name was begun."""
        return self._runs.get(name)

    def answer_files(self) -> dict[str, list[AnswersRead]]:
        """From runs to the files whose answers they hold."""
        return self._answers

    def seen(self) -> list[CheckpointSeen]:
        """The journal's last word on each run's checkpoint files."""
        return list(self._seen.values())

    def files(self) -> list[FileSeen]:
        """A record of each file that the journal knows a run by: of a checkpoint, or of a trainer's log."""
        return [*self._seen.values(), *self._logs.values(), *(run for run in self._runs.values() if run.path)]

    def digest_of(self, checkpoint: Checkpoint) -> str:
        """The digest that was taken of the checkpoint's files in their present state; "" if none was."""
        known = self._digests.get(_present(checkpoint))
        return known.digest if known is not None else ""

    def said_before(self, checkpoint: Checkpoint) -> list[CheckpointSeen]:
        """What the journal said of the checkpoint's files in their present state, if its last word is another.

        The weights that lay there come first, then why they could not be used, if so.
        """
        last = self._seen.get((checkpoint.run, *checkpoint.file))
        present = _present(checkpoint)
        if last is None or (_file_state(last) == present and not last.gone):
            return []
        return [
            said for known in (self._digests, self._faults) if (said := known.get(present)) and said.run == last.run
        ]

    def attempts(self, checkpoint: Checkpoint, digest: str, identity: str) -> list[Attempt]:
        """The tries on this base that came to nothing: at the checkpoint's files in their present state, and at its weights.

        Of tries at the same weights in another run those count that no other try can better.
        """
        known = self._attempts.get(_present(checkpoint), [])
        if digest:
            same = self._attempts.get((digest,), [])
            known = [*known, *(a for a in same if a.run == checkpoint.run or a.final)]
        return [a for a in known if a.identity in ("", identity)]

    def last_seen(self, checkpoint: Checkpoint) -> CheckpointSeen | None:
        """The journal's last word on the checkpoint's file, if the file is still in that state."""
        known = self._seen.get((checkpoint.run, *checkpoint.file))
        return known if known is not None and _file_state(known) == _present(checkpoint) else None

    def is_gone(self, checkpoint: Checkpoint) -> bool:
        """Whether the journal's last word on the checkpoint's file is that it was there as it is, and is no more."""
        known = self.last_seen(checkpoint)
        return known is not None and known.gone

    def has_loss(self, record: LossSeen) -> bool:
        """Whether the journal's last word on this point of the run's curve says the same."""
        return self._losses.get((record.run, record.iteration, record.part)) == record.value

    def has_seen(self, record: CheckpointSeen) -> bool:
        """Whether the journal's last word on this checkpoint's file says the same."""
        known = self._seen.get((record.run, record.host, record.path))
        return known is not None and _state(known) == _state(record)

    def close(self) -> None:
        """Sync and close the journal."""
        self.journal.close()


def _state(record: CheckpointSeen) -> tuple[object, ...]:
    return record.checkpoint, *_file_state(record), record.digest, record.reason


def _file_state(record: CheckpointSeen | Attempt) -> tuple[object, ...]:
    state = record.size, record.modified_ns, record.config_size, record.config_modified_ns
    return record.host, record.path, *state


def _present(checkpoint: Checkpoint) -> tuple[object, ...]:
    return checkpoint.host, checkpoint.path, *checkpoint.state


def _place(record: ScoreMade | Failure) -> tuple[str, ...]:
    by = (record.scorer, record.judge) if record.measure else ("", "")
    which = str(record.repeat or "")
    return (record.metric, *by, record.run, record.digest, record.identity, record.suite_digest, record.sample, which)


def _result(record: ScoreMade | Failure) -> str:
    """What tells results at one place apart: the key; "" for a failure that another try may mend.

    An answer from a file may change there in what this score doesn't hang on.
    """
    if not record.key:
        return ""
    of = record.completion if record.identity == FROM_FILES else ""
    return f"{'failed ' if isinstance(record, Failure) else ''}{record.key}{of}"


def _covers(done: int, wanted: int) -> bool:
    """Whether what was done within one limit is enough for another; 0: no limit."""
    return done == 0 or 0 < wanted <= done


def _scale(record: ScaleSeen) -> tuple[str, ...]:
    return record.run, record.model, record.suite, record.metric


def _least(one: float | None, other: float | None) -> float | None:
    return min((bound for bound in (one, other) if bound is not None), default=None)


def _most(one: float | None, other: float | None) -> float | None:
    return max((bound for bound in (one, other) if bound is not None), default=None)
