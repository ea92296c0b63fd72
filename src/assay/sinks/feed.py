"""From the journal to facts, in the order in which they were journaled, from where a sink has got to.

An adapter's answers count only once their batch is closed by a proof: until then its records are remembered by their place, and
of a void batch nothing is forwarded. Of a checkpoint that was given up they are forwarded as unproven, for it may be that
nobody closes the batch. Memory holds the journal's runs, the verdicts of its batches, and where its answers stand (some 150
bytes each), not the records.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import structs

from assay.results.journal import NO_RECORD, Location, parsed, read_at, read_on, segments
from assay.results.records import (
    FROM_FILES,
    AnswerScored,
    AnyRecord,
    Attempt,
    CheckpointSeen,
    CompletionMade,
    Failure,
    Finished,
    LossSeen,
    Place,
    Proof,
    Run,
    ScoreMade,
)
from assay.sinks.base import About, Fact, GroupFact, LossFact, Relabelled, SampleFact, Withdrawn
from assay.sinks.facts import answer_facts, group_facts, judged_answer
from assay.sinks.standing import GO_ML, Change, Moved, Result, Standing

_TEXTS = 2048  # answers whose text is kept at hand
_AT_HAND = 4096  # held records that are kept as well, and not only their places


class SegmentCursor(msgspec.Struct, omit_defaults=True):
    """How far a segment was read, in bytes, and the records before that (offset, length) whose batch is still open."""

    read: int = 0
    held: list[tuple[int, int]] = []


Cursor: TypeAlias = dict[str, SegmentCursor]  # by the segment's file name


@dataclass(slots=True)
class Batch:
    """Facts to deliver, and where the feed stands after them. size: bytes of the journal that are left to read."""

    facts: list[Fact] = field(default_factory=list)
    cursor: Cursor = field(default_factory=dict)
    left: int = 0


class _Glance(msgspec.Struct):
    """Of a record, what is needed to know what it is."""

    kind: str = ""
    key: str = ""
    suite: str = ""


_glance = msgspec.json.Decoder(_Glance)


# What is read whole again of what was read before; and the results of go-ml's suites.
_RECALLED = ("run", "proof", "checkpoint", "finished", "attempt")


class Feed:
    """Reads a workspace's journal on from `cursor`. Each `next` gives what has come since."""

    def __init__(self, workspace: Path, cursor: Mapping[str, SegmentCursor]) -> None:
        self._workspace = workspace
        self._read = {name: each.read for name, each in cursor.items()}
        self._runs: dict[tuple[str, str], Run] = {}
        self._named: dict[str, Run] = {}
        self._verdicts: dict[str, str] = {}
        self._held: dict[str, list[tuple[Location, ScoreMade | Failure | None]]] = {}
        self._at_hand = 0
        self._abouts: dict[tuple[str | int, ...], About] = {}
        self._answers: dict[bytes, Location] = {}
        self._texts: OrderedDict[str, CompletionMade] = OrderedDict()
        self._standing = Standing()
        self._journal = ""
        self._recall(cursor)

    def _recall(self, cursor: Mapping[str, SegmentCursor]) -> None:
        """Learn from what was read before: runs, verdicts, where answers stand, who has which name, and what was held back."""
        waiting: dict[str, list[tuple[Location, ScoreMade | Failure]]] = {}
        given_up: set[tuple[str, str, str]] = set()
        for segment in segments(self._workspace):
            end = self._read.get(segment.name, 0)
            offset = 0
            with segment.open("rb") as file:
                while offset < end and (line := file.readline()):
                    at = Location(segment, offset, len(line))
                    match record := self._recall_line(at, line):
                        case ScoreMade() | Failure() if record.batch and record.digest:
                            waiting.setdefault(record.batch, []).append((at, record))
                        case ScoreMade() | Failure():
                            self._recall_result(at, record)
                        case Attempt():
                            given_up.add(_whose(record))
                        case _:
                            pass
                    if isinstance(record, ScoreMade | Failure | Proof) and record.batch in self._verdicts:
                        for known in waiting.pop(record.batch, ()):
                            self._recall_result(*known)
                    offset += len(line)
            for start, length in cursor.get(segment.name, SegmentCursor()).held:
                at = Location(segment, start, length)
                held = read_at(at)
                if isinstance(held, Place):
                    self._held.setdefault(held.batch, []).append((at, None))
        for places in waiting.values():
            for at, unproven in places:
                if _whose(unproven) in given_up:
                    self._recall_result(at, unproven)

    def _recall_line(self, at: Location, line: bytes) -> AnyRecord | None:
        """The record, if it is a result of go-ml's suites, or says what became of a batch or a checkpoint."""
        try:
            seen = _glance.decode(line)
        except NO_RECORD:
            return None
        if seen.kind == "completion":
            self._answers[bytes.fromhex(seen.key)] = at
        elif seen.kind in _RECALLED or (seen.kind in ("score", "failure") and seen.suite in GO_ML):
            match record := parsed(line):
                case ScoreMade() | Failure():
                    return record if record.identity != FROM_FILES else None
                case Attempt():
                    return record if record.final else None
                case Finished():
                    self._recall_result(at, record)
                case CheckpointSeen() | Run():
                    self._learn(at, record)
                    deque(self._standing.learn(record), maxlen=0)
                case _:
                    self._learn(at, record)
                    return record
        return None

    def _recall_result(self, at: Location, record: Result) -> None:
        if isinstance(record, Finished) or self._verdict(record) != "void":
            self._standing.place(at, record, self._engine(record))

    def next(self, limit: int) -> Batch:
        """At least `limit` facts, or all that there are now. Batches end where records do; one record may give many facts."""
        batch = Batch()
        for segment in segments(self._workspace):
            self._journal = self._journal or segment.stem  # no other journal begins with a segment of this name
            if len(batch.facts) < limit:
                self._read_segment(segment, batch, limit)
            batch.left += max(0, segment.stat().st_size - self._read.get(segment.name, 0))
        batch.cursor = self._cursor()
        return batch

    def _read_segment(self, segment: Path, batch: Batch, limit: int) -> None:
        for at, record in read_on(segment, self._read.get(segment.name, 0)):
            self._read[segment.name] = at.offset + at.length
            if record is not None:
                self._learn(at, record)
                batch.facts.extend(self._facts(at, record))
            if len(batch.facts) >= limit:
                return

    def _cursor(self) -> Cursor:
        cursor = {name: SegmentCursor(read, []) for name, read in self._read.items()}
        for places in self._held.values():
            for at, _ in places:
                cursor[at.segment.name].held.append((at.offset, at.length))
        return cursor

    def _learn(self, at: Location, record: AnyRecord) -> None:
        match record:
            case Run():
                self._runs[record.run, record.identity] = record
                self._abouts.clear()
                self._named[record.run] = record
            case Proof() if record.verdict != "open":
                self._verdicts[record.batch] = record.verdict
            case CompletionMade():
                self._answers[bytes.fromhex(record.key)] = at
                self._keep(record)
            case _:
                pass

    def _facts(self, at: Location, record: AnyRecord) -> Iterator[Fact]:
        match record:
            case ScoreMade() | Failure() if record.identity == FROM_FILES:
                yield judged_answer(record, self._journal)
            case ScoreMade() | Failure():
                yield from self._sample(at, record)
            case Proof() if record.verdict != "open":
                for held, kept in self._held.pop(record.batch, ()):
                    self._at_hand -= kept is not None
                    again = _kept(held, kept)
                    if again is not None:
                        yield from self._sample(held, again)
            case Attempt() if record.final:
                yield from self._given_up(record)
            case Finished():
                yield from self._result(at, record, record.proof)
            case CheckpointSeen() | Run():
                for change in self._standing.learn(record):
                    yield from self._changed(change)
            case AnswerScored():
                yield from answer_facts(record, self._journal)
            case LossSeen():
                run = self._named.get(record.run)
                yield LossFact(
                    run=record.run,
                    run_id=record.run_id or _run_id(run, record.run),
                    tag=record.tag or (run.tag if run is not None and run.tag else record.run),
                    iteration=record.iteration,
                    part=record.part,
                    value=record.value,
                    seq=record.seq,
                    time=record.time,
                    journal=self._journal,
                )
            case _:
                pass

    def _given_up(self, attempt: Attempt) -> Iterator[Fact]:
        """What the checkpoint has answered in batches that are still open; it stays held, for a proof may come yet."""
        for places in self._held.values():
            for held, kept in places:
                record = _kept(held, kept)
                if record is None or _whose(record) != _whose(attempt):
                    break  # a batch is of one checkpoint
                yield from self._result(held, record, "unproven")

    def _sample(self, at: Location, record: ScoreMade | Failure) -> Iterator[Fact]:
        verdict = self._verdicts.get(record.batch, "") if record.batch and record.digest else ""
        if record.batch and record.digest and not verdict:
            near = self._at_hand < _AT_HAND
            self._at_hand += near
            self._held.setdefault(record.batch, []).append((at, record if near else None))
            return
        if verdict != "void":
            yield from self._result(at, record, verdict)

    def _sample_fact(self, record: ScoreMade | Failure, verdict: str, *, stands: bool) -> SampleFact:
        answer = self._answer(record.completion)
        score = record if isinstance(record, ScoreMade) else None
        failure = record if isinstance(record, Failure) else None
        return SampleFact(
            about=self._about(record, verdict),
            sample=record.sample,
            group=record.group,
            index=record.index,
            metric=record.metric,
            outcome="scored" if failure is None else "truncated" if failure.error_class == "truncated" else "failed",
            seq=record.seq,
            time=record.time,
            value=score.value if score is not None else None,
            low=score.score.low if score is not None else 0.0,
            high=score.score.high if score is not None else 1.0,
            detail=score.detail if score is not None else {},
            repeat=record.repeat,
            scorer=record.scorer,
            judge=record.judge,
            measure=record.measure,
            prompt=answer.prompt if answer is not None else "",
            response=answer.text if answer is not None else failure.partial if failure is not None else "",
            error_class=failure.error_class if failure is not None else "",
            reason=failure.reason if failure is not None else "",
            stands=stands,
        )

    def _result(self, at: Location, record: Result, verdict: str) -> Iterator[Fact]:
        """A result's facts. Where it takes a name from another, that one's are withdrawn, and all that have it now are sent."""
        if not isinstance(record, Finished) and record.suite not in GO_ML:
            yield self._sample_fact(record, verdict, stands=True)
            return
        stands, change = self._standing.place(at, record, self._engine(record))
        if change is not None and change.former:
            yield from self._changed(change)
        else:
            yield from self._facts_of(record, verdict, stands)

    def _changed(self, change: Change | Moved) -> Iterator[Fact]:
        if isinstance(change, Moved):
            run, digest, label = change
            yield Relabelled(run=run, digest=digest, label=label.name, iteration=label.iteration, journal=self._journal)
            return
        yield from (_withdrawn(fact, change.label) for fact in self._again(change.former))
        yield from self._again(change.now)

    def _again(self, places: Iterable[Location]) -> Iterator[SampleFact | GroupFact]:
        """The facts of results that were sent before, in the order in which they were journaled."""
        records = [record for record in map(read_at, places) if isinstance(record, ScoreMade | Failure | Finished)]
        for record in sorted(records, key=lambda r: (r.seq, r.time)):
            verdict = record.proof if isinstance(record, Finished) else self._verdict(record)
            if verdict != "void":
                yield from self._facts_of(record, verdict, self._standing.stands(record, self._engine(record)))

    def _facts_of(self, record: Result, verdict: str, stands: bool) -> Iterator[SampleFact | GroupFact]:
        if isinstance(record, Finished):
            yield from group_facts(self._about(record, verdict), record, self._positions(record), stands)
        else:
            yield self._sample_fact(record, verdict, stands=stands)

    def _verdict(self, record: ScoreMade | Failure) -> str:
        """Of a result that was sent: "" for the base; one without a verdict was sent as that of a checkpoint given up."""
        return self._verdicts.get(record.batch, "unproven") if record.batch and record.digest else ""

    def _engine(self, record: Result) -> str:
        run = self._runs.get((record.run, record.identity))
        return run.engine if run is not None else ""

    def _positions(self, record: Finished) -> dict[str, int]:
        """Where groups stand among those of the suite, whichever of them were asked."""
        run = self._runs.get((record.run, record.identity))
        for use in run.suites if run is not None else ():
            if use.digest == record.suite_digest:
                return {group: number for number, group in enumerate(sorted(use.groups), 1)}
        return {}

    def _about(self, record: ScoreMade | Failure | Finished, proof: str) -> About:
        label = self._standing.label(record)[:2]
        key = record.run, record.digest, record.identity, record.suite_digest, *label, proof
        if key not in self._abouts:
            if len(self._abouts) > _AT_HAND:
                self._abouts.clear()
            self._abouts[key] = self._new_about(record, proof, *label)
        return self._abouts[key]

    def _new_about(self, record: Result, proof: str, label: str, iteration: int) -> About:
        run = self._runs.get((record.run, record.identity))
        return About(
            run=record.run,
            run_id=_run_id(run, record.run),
            label=label,
            tag=run.tag if run is not None and run.tag else record.run,
            iteration=iteration,
            digest=record.digest,
            identity=record.identity,
            base=run.base if run is not None else "",
            engine=run.engine if run is not None else "",
            suite=record.suite,
            suite_version=record.suite_version,
            suite_digest=record.suite_digest,
            proof=proof,
            journal=self._journal,
        )

    def _answer(self, key: str) -> CompletionMade | None:
        if not key:
            return None
        if key in self._texts:
            self._texts.move_to_end(key)
            return self._texts[key]
        at = self._answers.get(bytes.fromhex(key))
        record = read_at(at) if at is not None else None
        if not isinstance(record, CompletionMade):
            return None
        self._keep(record)
        return record

    def _keep(self, record: CompletionMade) -> None:
        self._texts[record.key] = record
        if len(self._texts) > _TEXTS:
            self._texts.popitem(last=False)


def _kept(at: Location, record: ScoreMade | Failure | None) -> ScoreMade | Failure | None:
    """A held record: as it is at hand, or else from its place."""
    again = read_at(at) if record is None else record
    return again if isinstance(again, ScoreMade | Failure) else None


def _whose(record: ScoreMade | Failure | Attempt) -> tuple[str, str, str]:
    return record.run, record.digest, record.identity


def _run_id(run: Run | None, name: str) -> str:
    return run.run_id if run is not None and run.run_id else f"{name}-capability-auto"


def _withdrawn(fact: SampleFact | GroupFact, label: str) -> Withdrawn:
    """label: that under which it stood."""
    return Withdrawn(of=structs.replace(fact, about=structs.replace(fact.about, label=label)))
