"""What the journal holds: one record a line, each of a named kind.

A record is flat, so that SQL over the journal stays plain. `v` is the schema's version: a reader refuses records newer
than it knows. `seq` is a logical clock (one more than anything the writer had seen when it began), so that order doesn't
depend on a wall clock that may be turned back.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from assay.results.canonical import digest_of
from assay.types import FailureClass, FinishReason, Goal, Score

SCHEMA_VERSION = 1


class Record(msgspec.Struct, kw_only=True, frozen=True, tag_field="kind", omit_defaults=True):
    """What all records carry. `seq` and `time` (seconds since the epoch) are set by the journal as it writes."""

    v: int = msgspec.field(default=0)
    seq: int = 0
    time: float = 0.0


class SuiteUse(msgspec.Struct, kw_only=True, frozen=True):
    """A suite as a run used it: what a report needs to know without the suite's file.

    metrics: what its own scorers yield; others, such as a judge's, are shown beside them and decide nothing.
    """

    name: str
    version: int
    digest: str
    groups: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    goal: Goal | None = None


class Run(Record, tag="run", kw_only=True, frozen=True):
    """One command's start: who answers, and which suites are asked. tag, run_id: go-ml's names for the model and the run.

    host, path: of a file in the run's folder, as in `CheckpointSeen`; "" where there is none. place: see `Resolved.place`.
    """

    run: str
    base: str
    engine: str
    engine_version: str
    identity: str
    declared: bool = False
    suites: tuple[SuiteUse, ...] = ()
    assay_version: str = ""
    tag: str = ""
    run_id: str = ""
    host: str = ""
    path: str = ""
    place: str = ""


class CheckpointSeen(Record, tag="checkpoint", kw_only=True, frozen=True):
    """A checkpoint as found. With a `reason` it could not be used; without one, `digest` is its adapter's.

    host: where `path` is, "" for the machine that wrote this. `size` to `config_modified_ns` tell the state of its files
    that the digest was taken of. numbered: as of `Checkpoint`. gone: the file was there in that state, and is no more.
    """

    run: str
    checkpoint: str
    iteration: int
    path: str
    size: int
    modified_ns: int
    digest: str = ""
    reason: str = ""
    host: str = ""
    config_size: int = 0
    config_modified_ns: int = 0
    numbered: bool = True
    gone: bool = False


class Attempt(Record, tag="attempt", kw_only=True, frozen=True):
    """A try at one state of a checkpoint's files that came to nothing, and may be repeated: see `assay.plan`.

    digest, identity: of the adapter and its base; "" if it failed before they were known. error: the class of what happened.
    final: another try can't help.
    """

    run: str
    checkpoint: str
    iteration: int
    host: str
    path: str
    size: int
    modified_ns: int
    config_size: int
    config_modified_ns: int
    error: str
    reason: str
    digest: str = ""
    identity: str = ""
    final: bool = False


class LossSeen(Record, tag="loss", kw_only=True, frozen=True):
    """A loss that the trainer's own log tells. part: "train" or "val". tag, run_id: as in `Run`, which may come later."""

    run: str
    iteration: int
    part: str
    value: float
    host: str = ""
    path: str = ""
    tag: str = ""
    run_id: str = ""


# What tells of a file which run it is of.
FileSeen: TypeAlias = Run | CheckpointSeen | LossSeen


class SampleAsked(Record, tag="sample", kw_only=True, frozen=True):
    """A suite's question and what its answers are compared with, so that they can be scored anew without the suite's file.

    form: "text" where `prompt` is one user message, "raw" where it is sent untouched, "messages" where it is a JSON list of
    them. scorer, parameters: the suite's own scorer of it.
    """

    suite: str
    suite_version: int
    suite_digest: str
    sample: str
    group: str
    index: int
    prompt: str
    form: str = "text"
    reference: dict[str, Any] = {}
    scorer: str = ""
    parameters: dict[str, Any] = {}


class Proof(Record, tag="proof", kw_only=True, frozen=True):
    """Whether an adapter was shown to be live. `batch` names the answers given between its two fingerprints.

    verdict: "open" before the first sample; after the last one "live", "unproven", or "void": the batch's answers
    do not count. fingerprint: canary by canary, the greedy text, token ids and log-probabilities.
    """

    run: str
    digest: str
    identity: str
    batch: str
    verdict: str
    reason: str = ""
    fingerprint: tuple[tuple[str, tuple[int, ...], tuple[float, ...]], ...] = ()


class Place(Record, kw_only=True, frozen=True):
    """Where a result belongs: a run's checkpoint (digest "" and iteration 0 for the base), a suite, a sample.

    `index` is the sample's position in its suite. `batch` names the attachment under which the answer was given. `repeat`
    says which of several answers to the sample it is, where there are several.
    """

    run: str
    checkpoint: str
    iteration: int
    digest: str
    identity: str
    suite: str
    suite_version: int
    suite_digest: str
    sample: str
    group: str
    index: int
    batch: str = ""
    repeat: int = 0


def place_of(place: Place) -> dict[str, Any]:
    """The fields of a place, for a record that belongs there."""
    return {name: getattr(place, name) for name in _PLACE}


_PLACE = tuple(name for name in Place.__struct_fields__ if name not in Record.__struct_fields__)


class CompletionMade(Place, tag="completion", kw_only=True, frozen=True):
    """An answer. `seconds` is the engine's own time; `options` are the resolved ones, the seed included.

    logprob: natural-log probability of the whole answer under the model, where the engine reports it.
    """

    key: str
    prompt: str
    options: dict[str, Any]
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    logprob: float | None = None


class TextWeighed(Place, tag="weighed", kw_only=True, frozen=True):
    """How likely the model found one of the sample's texts. `at`: which of them, from 0.

    tokens: their number. logprob: the text's natural-log probability, the sum over its tokens. greedy: each token is the
    likeliest in its place. The text itself is the sample's, and part of the key.
    """

    key: str
    tokens: int
    logprob: float
    greedy: bool
    at: int = 0


class ScoreMade(Place, tag="score", kw_only=True, frozen=True):
    """One metric's value for one answer at one place. The same key may stand at several places.

    judge: the name of the model that judged, for people; "" for a scorer that only reads text. measure: what makes judged
    scores comparable, see `measure_of`; "" with no judge. Records from before these fields stand as if no model had judged.
    low, high: the value's bounds; where it has none infinite, which JSON writes as null and a reader gets as None. weight,
    lower_is_better, geometric: as in `Score`.
    """

    key: str
    completion: str
    scorer: str
    scorer_version: int
    metric: str
    value: bool | float
    low: float | None
    high: float | None
    detail: dict[str, Any] = {}
    judge: str = ""
    measure: str = ""
    weight: float | None = None
    lower_is_better: bool = False
    geometric: bool = False

    @property
    def score(self) -> Score:
        """What the scorer gave."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return Score(self.metric, self.value, low, high, self.detail, self.weight, self.lower_is_better, self.geometric)


class VoteCast(Record, tag="vote", kw_only=True, frozen=True):
    """One of several votes that a judge's score is to be made of, journaled as it came.

    So a score that was interrupted, or is asked for again with more votes, pays only for those that are missing. It stands in
    no table. values: by dimension. calls and tokens: what it cost. left_out: characters of the answer that were not shown.
    unsent: options that the judge's server refused.
    """

    key: str
    run: str
    scorer: str
    judge: str
    values: dict[str, float]
    reason: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    structured: bool
    left_out: int = 0
    unsent: tuple[str, ...] = ()


class Failure(Place, tag="failure", kw_only=True, frozen=True):
    """Why a sample has no score under this metric here. `stage` is "generate" or "score". Satisfies no key.

    The class "truncated" with a `key` is final: the answer is whole as journaled, and was cut off by its options.
    scorer, judge, measure: by whom there is no score, as in `ScoreMade`.
    """

    stage: str
    error_class: FailureClass
    reason: str
    metric: str
    completion: str = ""
    key: str = ""
    partial: str = ""
    scorer: str = ""
    judge: str = ""
    measure: str = ""


class Summary(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One metric over one group of a suite at one checkpoint, for those to whom results are forwarded.

    mean: over `scored` answers, None where there are none. correct: None for a metric that is a number. scorer, judge, measure:
    as in `ScoreMade`. weight: of all scores together, None where each counts as one. geometric: as in `Score`.
    """

    group: str
    metric: str
    mean: float | None
    correct: int | None = None
    asked: int
    scored: int
    failed: int = 0
    truncated: int = 0
    scorer: str = ""
    judge: str = ""
    measure: str = ""
    weight: float | None = None
    geometric: bool = False


class Finished(Record, tag="finished", kw_only=True, frozen=True):
    """A checkpoint's suite was gone through to its end. `limit` is 0 where all samples were asked.

    summaries: what it came to, group by group and metric by metric. proof: "live", "unproven", or "" for the base.
    """

    run: str
    checkpoint: str
    iteration: int
    digest: str
    identity: str
    suite: str
    suite_version: int
    suite_digest: str
    limit: int
    asked: int
    scored: int
    failed: int
    truncated: int
    seconds: float
    summaries: tuple[Summary, ...] = ()
    proof: str = ""

    @property
    def judged(self) -> bool:
        """Is it a judge that has gone through the answers? Then the counts are of what it scored."""
        return bool(self.summaries) and all(part.measure for part in self.summaries)


# Of the digest of a file of answers, what each of its answers carries.
_CONTENT_DIGITS = 16


class AnswerScored(Record, tag="answer", kw_only=True, frozen=True):
    """An answer from a file, with what scorers that only read text made of it: scores by suite and metric.

    Recomputed for nothing, so it satisfies no key; judged scores have records of their own. sample: the question's id;
    repeat: which of its answers. In records from before that field, the second answer to a question is `ID#2`. question: a
    digest of what was asked; numbered: `sample` is only the line's number, and `beginning` that of the question. answer: a
    digest of the answer with all that it is scored by, which is the `completion` of its judged scores. content: the file's
    in which it stood.
    """

    run: str
    source: str
    line: int
    sample: str
    model: str
    scores: dict[str, dict[str, Any]]
    failures: tuple[tuple[str, str, str, str], ...] = ()
    repeat: int = 0
    question: str = ""
    numbered: bool = False
    beginning: str = ""
    answer: str = ""
    content: str = ""


class AnswersRead(Record, tag="file", kw_only=True, frozen=True):
    """A file whose answers a run holds. path: absolute, "" for a pipe. digest: of its content, sha256 hex.

    whole: it was read to its end, and all of it could be read: what the run had before and the file has not is gone.
    """

    run: str
    path: str
    digest: str
    whole: bool = False

    @property
    def content(self) -> str:
        """What its answers are marked with: the digest's beginning."""
        return self.digest[:_CONTENT_DIGITS]


class ScaleSeen(Record, tag="scale", kw_only=True, frozen=True):
    """The bounds of a metric, as far as the scores of a model's answers from a file have stated them; None: no bound yet.

    varied: scores have stated bounds that differ. Journaled when a metric comes first, which gives a table's order, when a
    score states wider bounds, and when one first states others.
    """

    run: str
    model: str
    suite: str
    metric: str
    low: float | None = None
    high: float | None = None
    varied: bool = False


class AnswerNoted(Record, tag="answer", kw_only=True, frozen=True):
    """An `AnswerScored` to a reader that asks only for its `seq`: a third of the time, and there may be millions."""


# What everybody reads alike.
_Others: TypeAlias = (
    SampleAsked
    | Run
    | CheckpointSeen
    | Attempt
    | LossSeen
    | Proof
    | CompletionMade
    | TextWeighed
    | ScoreMade
    | Failure
    | Finished
    | AnswersRead
    | ScaleSeen
    | VoteCast
)
AnyRecord: TypeAlias = AnswerScored | _Others
IndexedRecord: TypeAlias = AnswerNoted | _Others


# The identity under which answers from files are journaled: no model of ours gave them.
FROM_FILES = digest_of("answers")


@lru_cache(maxsize=1024)
def origin_of(model: str) -> str:
    """What stands for the adapter's digest at a place of an answer from a file."""
    return digest_of("answers of", model)
