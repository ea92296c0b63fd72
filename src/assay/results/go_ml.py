"""go-ml's `influx_buffer.jsonl`: capability results that it could not push, taken into the journal.

A line holds a checkpoint, its results by category and by probe, and a time. go-ml counted a probe without an answer as failed
and kept no proof that the adapter was live, so what is taken in is marked unproven.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from assay.errors import BadInput, at
from assay.results.canonical import digest_of
from assay.results.index import Ledger
from assay.results.records import (
    AnyRecord,
    CompletionMade,
    Finished,
    Place,
    Proof,
    Run,
    ScoreMade,
    SuiteUse,
    Summary,
    place_of,
)

_SUITE = "capability"
_RUN_ENDS = "-capability-auto"
_IDENTITY = digest_of("go-ml")


class _Checkpoint(msgspec.Struct, rename="pascal"):
    iteration: int
    model_tag: str
    label: str
    run_id: str = msgspec.field(name="RunID")


class _Category(msgspec.Struct):
    correct: int
    total: int


class _Probe(msgspec.Struct):
    passed: bool
    response: str = ""


class _Results(msgspec.Struct):
    by_category: dict[str, _Category]
    probes: dict[str, _Probe]


class _Entry(msgspec.Struct):
    checkpoint: _Checkpoint
    results: _Results


_decoder = msgspec.json.Decoder(_Entry)


def take_in(path: Path, ledger: Ledger) -> int:
    """Journal the results of each line that the journal doesn't hold; how many those are. Raises `BadInput` at a bad line.

    All lines are read before anything is journaled, so a bad one leaves no half of the file behind.
    """
    entries = list(_entries(path))
    taken = 0
    for entry in entries:
        run, digest, suite = _names(entry)
        if ledger.finished(run, digest, suite, _IDENTITY, 0) is None:
            ledger.append_all(list(_records(entry)))
            taken += 1
    return taken


def _entries(path: Path) -> Iterator[_Entry]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _entry(path, number, line)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def _entry(path: Path, number: int, line: bytes) -> _Entry:
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(at(path, number, f"no line of go-ml's influx_buffer.jsonl ({error}); remove it")) from None


def _names(entry: _Entry) -> tuple[str, str, str]:
    """The run, what stands for the adapter's digest, and what stands for the suite's."""
    checkpoint = entry.checkpoint
    run = checkpoint.run_id.removesuffix(_RUN_ENDS)
    probes = {name: probe.passed for name, probe in entry.results.probes.items()}
    digest = digest_of("go-ml", checkpoint.run_id, checkpoint.label, probes)
    return run, digest, digest_of("go-ml", _SUITE, sorted(entry.results.probes))


def _records(entry: _Entry) -> Iterator[AnyRecord]:
    """A line as a run of one checkpoint, whose batch nobody vouched for."""
    checkpoint, results = entry.checkpoint, entry.results
    run, digest, suite = _names(entry)
    batch = f"go-ml.{digest[:12]}"
    use = SuiteUse(
        name=_SUITE, version=0, digest=suite, groups=tuple(sorted(results.by_category)), metrics=("correct",)
    )
    yield Run(
        run=run,
        base="",
        engine="go-ml",
        engine_version="",
        identity=_IDENTITY,
        declared=True,
        suites=(use,),
        tag=checkpoint.model_tag,
        run_id=checkpoint.run_id,
    )
    for index, (name, probe) in enumerate(sorted(results.probes.items())):
        yield from _answer(_place(entry, name, index, batch), probe)
    yield Proof(
        run=run,
        digest=digest,
        identity=_IDENTITY,
        batch=batch,
        verdict="unproven",
        reason="go-ml did not prove adapters live",
    )
    yield _finished(entry, run, digest, suite)


def _place(entry: _Entry, sample: str, index: int, batch: str) -> Place:
    run, digest, suite = _names(entry)
    return Place(
        run=run,
        checkpoint=entry.checkpoint.label,
        iteration=entry.checkpoint.iteration,
        digest=digest,
        identity=_IDENTITY,
        suite=_SUITE,
        suite_version=0,
        suite_digest=suite,
        sample=sample,
        group="all",  # the buffer doesn't say which category a probe is of
        index=index,
        batch=batch,
    )


def _answer(place: Place, probe: _Probe) -> Iterator[AnyRecord]:
    key = digest_of("go-ml", place.digest, place.sample)
    yield CompletionMade(
        **place_of(place),
        key=key,
        prompt="",
        options={},
        text=probe.response,
        finish_reason="stop",
        prompt_tokens=0,
        completion_tokens=0,
        seconds=0.0,
    )
    yield ScoreMade(
        **place_of(place),
        key=key,
        completion=key,
        scorer="go-ml",
        scorer_version=0,
        metric="correct",
        value=probe.passed,
        low=0.0,
        high=1.0,
    )


def _finished(entry: _Entry, run: str, digest: str, suite: str) -> Finished:
    parts = tuple(
        Summary(
            group=name,
            metric="correct",
            mean=part.correct / part.total if part.total else None,
            correct=part.correct,
            asked=part.total,
            scored=part.total,
        )
        for name, part in sorted(entry.results.by_category.items())
    )
    total = sum(part.total for part in entry.results.by_category.values())
    return Finished(
        run=run,
        checkpoint=entry.checkpoint.label,
        iteration=entry.checkpoint.iteration,
        digest=digest,
        identity=_IDENTITY,
        suite=_SUITE,
        suite_version=0,
        suite_digest=suite,
        limit=0,
        asked=total,
        scored=total,
        failed=0,
        truncated=0,
        seconds=0.0,
        summaries=parts,
        proof="unproven",
    )
