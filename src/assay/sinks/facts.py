"""Facts of single records: a suite's groups and its whole, answers from files, losses. What needs the journal is in `feed`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from assay.results.records import AnswerScored, Failure, Finished, ScoreMade, Summary
from assay.sinks.base import About, AnswerFact, GroupFact


def group_facts(about: About, record: Finished, positions: Mapping[str, int], stands: bool) -> Iterator[GroupFact]:
    """Group by group, and over all groups of each metric. positions: of the groups in their suite."""
    overall: dict[tuple[str, str, str], list[Summary]] = {}
    for each in record.summaries:
        yield _group(about, record, each, stands, position=positions.get(each.group, -1))
        overall.setdefault((each.metric, each.scorer, each.measure), []).append(each)
    for parts in overall.values():
        yield _group(about, record, _summed(parts), stands, position=0, overall=True)


def _group(
    about: About, record: Finished, part: Summary, stands: bool, *, position: int, overall: bool = False
) -> GroupFact:
    return GroupFact(
        about=about,
        group=part.group,
        metric=part.metric,
        seq=record.seq,
        time=record.time,
        mean=_mean(part),
        asked=part.asked,
        scored=part.scored,
        failed=part.failed,
        truncated=part.truncated,
        correct=part.correct,
        scorer=part.scorer,
        judge=part.judge,
        measure=part.measure,
        position=position,
        overall=overall,
        stands=stands,
    )


def _summed(parts: Sequence[Summary]) -> Summary:
    """All groups of one metric as one. A group with nothing scored has no `correct`, and adds none."""
    scored = sum(part.scored for part in parts)
    known = [part.correct for part in parts if part.scored]
    geometric = any(part.geometric for part in parts)
    means = [
        (math.log(part.mean) if geometric else part.mean, part.scored if part.weight is None else part.weight)
        for part in parts
        if part.mean is not None
    ]
    weights = math.fsum(weight for _, weight in means)
    mean = math.fsum(mean * weight for mean, weight in means) / weights if means else None
    return structs.replace(
        parts[0],
        group="overall",
        mean=math.exp(mean) if geometric and mean is not None else mean,
        correct=sum(c for c in known if c is not None) if known and None not in known else None,
        asked=sum(part.asked for part in parts),
        scored=scored,
        failed=sum(part.failed for part in parts),
        truncated=sum(part.truncated for part in parts),
    )


def _mean(part: Summary) -> float | None:
    """Of what was right or wrong by its counts: older journals round the mean, and means of means round more than once."""
    if part.correct is not None and part.scored and part.weight is None:
        return part.correct / part.scored
    return part.mean


def answer_facts(record: AnswerScored, journal: str) -> Iterator[AnswerFact]:
    """Each score of an answer from a file."""
    for suite, scores in record.scores.items():
        for metric, value in scores.items():
            if isinstance(value, bool | int | float):
                yield AnswerFact(
                    run=record.run,
                    model=record.model,
                    sample=_answer_name(record),
                    suite=suite,
                    metric=metric,
                    value=value,
                    seq=record.seq,
                    time=record.time,
                    journal=journal,
                )


def judged_answer(record: ScoreMade | Failure, journal: str) -> AnswerFact:
    """What a judge made of an answer from a file."""
    return AnswerFact(
        run=record.run,
        model=record.checkpoint,
        sample=_answer_name(record),
        suite=record.suite,
        metric=record.metric,
        value=record.value if isinstance(record, ScoreMade) else None,
        judge=record.judge,
        measure=record.measure,
        seq=record.seq,
        time=record.time,
        journal=journal,
    )


def _answer_name(record: AnswerScored | ScoreMade | Failure) -> str:
    """Of several answers to one question the second is `ID#2`, as in the lens."""
    return f"{record.sample}#{record.repeat + 1}" if record.repeat else record.sample
