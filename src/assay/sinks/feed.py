"""From the journal to facts, in the order in which they were journaled, from where a sink has got to.

An adapter's answers count only once their batch is closed by a proof: until then its records are remembered by their place, and
of a void batch nothing is forwarded. Of a checkpoint that was given up they are forwarded as unproven, for it may be that
nobody closes the batch. Memory holds the journal's runs, the verdicts of its batches, and where its answers stand (some 150
bytes each), not the records.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import structs

from assay.results.journal import NO_RECORD, Location, read_at, read_on, segments
from assay.results.records import (
    FROM_FILES,
    AnswerScored,
    AnyRecord,
    Attempt,
    CompletionMade,
    Failure,
    Finished,
    LossSeen,
    Place,
    Proof,
    Run,
    ScoreMade,
    Summary,
)
from assay.sinks.base import About, AnswerFact, Fact, GroupFact, LossFact, SampleFact

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


_glance = msgspec.json.Decoder(_Glance)


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
        self._abouts: dict[tuple[str, ...], About] = {}
        self._answers: dict[bytes, Location] = {}
        self._texts: OrderedDict[str, CompletionMade] = OrderedDict()
        self._recall(cursor)

    def _recall(self, cursor: Mapping[str, SegmentCursor]) -> None:
        """Learn from what was read before: runs, verdicts, where answers stand, and what was held back."""
        for segment in segments(self._workspace):
            end = self._read.get(segment.name, 0)
            offset = 0
            with segment.open("rb") as file:
                while offset < end and (line := file.readline()):
                    self._recall_line(Location(segment, offset, len(line)), line)
                    offset += len(line)
            for start, length in cursor.get(segment.name, SegmentCursor()).held:
                at = Location(segment, start, length)
                record = read_at(at)
                if isinstance(record, Place):
                    self._held.setdefault(record.batch, []).append((at, None))

    def _recall_line(self, at: Location, line: bytes) -> None:
        try:
            seen = _glance.decode(line)
        except NO_RECORD:
            return
        if seen.kind == "completion":
            self._answers[bytes.fromhex(seen.key)] = at
        elif seen.kind in ("run", "proof"):
            self._learn(at, read_at(at))

    def next(self, limit: int) -> Batch:
        """At least `limit` facts, or all that there are now. Batches end where records do; one record may give many facts."""
        batch = Batch()
        for segment in segments(self._workspace):
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
                yield _judged_answer(record)
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
                yield from self._groups(record)
            case AnswerScored():
                yield from _answers(record)
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
                )
            case _:
                pass

    def _given_up(self, attempt: Attempt) -> Iterator[SampleFact]:
        """What the checkpoint has answered in batches that are still open; it stays held, for a proof may come yet."""
        for places in self._held.values():
            for held, kept in places:
                record = _kept(held, kept)
                if record is None or _whose(record) != _whose(attempt):
                    break  # a batch is of one checkpoint
                yield self._sample_fact(record, "unproven")

    def _sample(self, at: Location, record: ScoreMade | Failure) -> Iterator[SampleFact]:
        verdict = self._verdicts.get(record.batch, "") if record.batch and record.digest else ""
        if record.batch and record.digest and not verdict:
            near = self._at_hand < _AT_HAND
            self._at_hand += near
            self._held.setdefault(record.batch, []).append((at, record if near else None))
            return
        if verdict != "void":
            yield self._sample_fact(record, verdict)

    def _sample_fact(self, record: ScoreMade | Failure, verdict: str) -> SampleFact:
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
        )

    def _groups(self, record: Finished) -> Iterator[GroupFact]:
        about = self._about(record, record.proof)
        overall: dict[tuple[str, str, str], list[Summary]] = {}
        for each in record.summaries:
            yield structs.replace(_group(about, record, each), position=self._position(record, each.group))
            overall.setdefault((each.metric, each.scorer, each.measure), []).append(each)
        for parts in overall.values():
            yield structs.replace(_group(about, record, _summed(parts)), overall=True, position=0)

    def _position(self, record: Finished, group: str) -> int:
        """Where the group stands among those of the suite, whichever of them were asked."""
        run = self._runs.get((record.run, record.identity))
        for use in run.suites if run is not None else ():
            if use.digest == record.suite_digest and group in use.groups:
                return sorted(use.groups).index(group) + 1
        return -1

    def _about(self, record: ScoreMade | Failure | Finished, proof: str) -> About:
        key = record.run, record.digest, record.identity, record.suite_digest, record.checkpoint, proof
        if key not in self._abouts:
            if len(self._abouts) > _AT_HAND:
                self._abouts.clear()
            self._abouts[key] = self._new_about(record, proof)
        return self._abouts[key]

    def _new_about(self, record: ScoreMade | Failure | Finished, proof: str) -> About:
        run = self._runs.get((record.run, record.identity))
        return About(
            run=record.run,
            run_id=_run_id(run, record.run),
            label=record.checkpoint,
            tag=run.tag if run is not None and run.tag else record.run,
            iteration=record.iteration,
            digest=record.digest,
            identity=record.identity,
            base=run.base if run is not None else "",
            engine=run.engine if run is not None else "",
            suite=record.suite,
            suite_version=record.suite_version,
            suite_digest=record.suite_digest,
            proof=proof,
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


def _group(about: About, record: Finished, part: Summary) -> GroupFact:
    return GroupFact(
        about=about,
        group=part.group,
        metric=part.metric,
        seq=record.seq,
        time=record.time,
        mean=part.mean,
        asked=part.asked,
        scored=part.scored,
        failed=part.failed,
        truncated=part.truncated,
        correct=part.correct,
        scorer=part.scorer,
        judge=part.judge,
        measure=part.measure,
    )


def _summed(parts: Sequence[Summary]) -> Summary:
    """All groups of one metric as one. A group with nothing scored has no `correct`, and adds none."""
    scored = sum(part.scored for part in parts)
    known = [part.correct for part in parts if part.scored]
    total = sum(part.mean * part.scored for part in parts if part.mean is not None)
    return structs.replace(
        parts[0],
        group="overall",
        mean=total / scored if scored else None,
        correct=sum(c for c in known if c is not None) if known and None not in known else None,
        asked=sum(part.asked for part in parts),
        scored=scored,
        failed=sum(part.failed for part in parts),
        truncated=sum(part.truncated for part in parts),
    )


def _run_id(run: Run | None, name: str) -> str:
    return run.run_id if run is not None and run.run_id else f"{name}-capability-auto"


def _answers(record: AnswerScored) -> Iterator[AnswerFact]:
    for suite, scores in record.scores.items():
        for metric, value in scores.items():
            if isinstance(value, bool | int | float):
                yield AnswerFact(
                    run=record.run,
                    model=record.model,
                    sample=record.sample,
                    suite=suite,
                    metric=metric,
                    value=value,
                    seq=record.seq,
                    time=record.time,
                )


def _judged_answer(record: ScoreMade | Failure) -> AnswerFact:
    return AnswerFact(
        run=record.run,
        model=record.checkpoint,
        sample=record.sample,
        suite=record.suite,
        metric=record.metric,
        value=record.value if isinstance(record, ScoreMade) else None,
        judge=record.judge,
        measure=record.measure,
        seq=record.seq,
        time=record.time,
    )
