"""What waits for a judge: a suite at a checkpoint, with its answers at hand or in the journal alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from assay.evaluated import Evaluation, SampleResult
from assay.reasoning import continued
from assay.rescoring import Answer, journaled
from assay.results.lens import Lens
from assay.results.records import Finished, Place
from assay.suites.suite import Suite
from assay.types import Completion, ScoreFailure, Usage

# A run, an adapter's digest, a suite's digest, and the base's identity.
DocketName: TypeAlias = tuple[str, str, str, str]


@dataclass(slots=True, eq=False)
class Docket:
    """A suite at a checkpoint that waits for the judge. of: the record that says that it was gone through. size: answers.

    answers: None where they are only in the journal. unanswered: places of samples without an answer, and why. due: not before,
    by the monotonic clock. tries: how often it was gone through. told: `unanswered` is in the journal.
    """

    of: Finished
    suite: Suite
    size: int
    answers: list[Answer] | None = None
    unanswered: list[tuple[Place, ScoreFailure]] = field(default_factory=list)
    due: float = 0.0
    tries: int = 0
    told: bool = False

    @property
    def name(self) -> DocketName:
        return name_of(self.of)

    @property
    def held(self) -> int:
        """Answers that it has at hand."""
        return len(self.answers or ())

    def hold(self, evaluation: Evaluation, judged: Collection[str]) -> None:
        """Have the evaluation's answers to the samples of these ids at hand."""
        order = {sample.id: index for index, sample in enumerate(self.suite.samples)}
        placed = [(_place(self.of, r, order[r.id]), r) for r in evaluation.results if r.id in judged and not r.weighed]
        self.answers = [_answer(place, r) for place, r in placed if r.answer is not None]
        self.unanswered = [(place, r.failures[0]) for place, r in placed if r.answer is None and r.failures]


def name_of(record: Finished | Place) -> DocketName:
    """What a docket is known by."""
    return record.run, record.digest, record.suite_digest, record.identity


def standing_answers(workspace: Path, dockets: Sequence[Docket]) -> list[list[Answer]]:
    """The answers of each that stand in the journal."""
    with Lens(workspace) as lens:
        found = [journaled(lens, d.suite.name, d.of.run, d.of.digest) for d in dockets]
    return [[a for a in answers if name_of(a[0]) == d.name] for d, answers in zip(dockets, found, strict=True)]


def _place(of: Finished, result: SampleResult, index: int) -> Place:
    return Place(
        run=of.run,
        checkpoint=of.checkpoint,
        iteration=of.iteration,
        digest=of.digest,
        identity=of.identity,
        suite=of.suite,
        suite_version=of.suite_version,
        suite_digest=of.suite_digest,
        sample=result.id,
        group=result.sample.group,
        index=index,
        batch=result.batch or "",
    )


def _answer(place: Place, result: SampleResult) -> Answer:
    made = result.answer
    assert made is not None
    usage = Usage(made.prompt_tokens, made.completion_tokens, made.seconds)
    return place, made.key, Completion(continued(made.prompt, made.text), made.finish_reason, usage)
