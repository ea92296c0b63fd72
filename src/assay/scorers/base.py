"""What a scorer is, and the two functions by which the rest of assay uses one.

`check_suite` runs before any model is loaded, `score_answer` once per answer. What holds for every scorer is decided
here: an answer that was cut off too early, or a scorer that failed, gives a failure record and never a score.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from msgspec.structs import replace

from assay.answer_edges import answer_alone
from assay.errors import BadInput, SuiteError, Unreachable
from assay.plugins import SCORERS, nearest
from assay.reasoning import final_answer as final_answer
from assay.results.records import TextWeighed
from assay.scorers.written import said, written_in
from assay.suites.readers import Place
from assay.suites.suite import ScorerSpec, Suite
from assay.types import Completion, FailureClass, FinishReason, Json, Prompt, Sample, Score, ScoreFailure


@runtime_checkable
class Scorer(Protocol):
    """Turns a sample and its answer into scores.

    name, version: stamped on every score; the version grows whenever the same answer could be scored differently.
    parameters: all of them, with the defaults filled in. metrics: what `score` yields, once each and no others.
    needs_whole_answer: an answer cut off at `max_tokens` is "truncated" and is not shown to the scorer. What is alike for all
    scorers of a class may stand in the class, as a plain attribute: a `ClassVar` is something else to pyright.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def needs_whole_answer(self) -> bool: ...
    @property
    def parameters(self) -> Mapping[str, Json]: ...
    @property
    def metrics(self) -> tuple[str, ...]: ...

    def check(self, sample: Sample) -> None:
        """Raise `ValueError`, one sentence without a place, if the sample lacks what is compared with."""

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        """The answer's scores. `completion.text` is the final answer: what stands around it was cut away, see `shown_to`."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """A text after a prompt of its own, tokenised as lm-evaluation-harness does. whole: it has no prompt."""

    prompt: Prompt
    text: str
    whole: bool = False


@runtime_checkable
class Weigher(Scorer, Protocol):
    """A scorer that needs no answer: its samples are weighed and not asked.

    It names texts, the model tells how likely each is after the sample's prompt, and it makes scores of that. ended: each text
    is a whole answer, or a whole document, and what ends it in training data is weighed with it.
    """

    @property
    def ended(self) -> bool: ...

    def texts(self, sample: Sample) -> Sequence[str | Continuation]:
        """What is to be weighed after the sample's prompt; at least one, and none of them empty."""

    def weigh(self, sample: Sample, weighed: Sequence[TextWeighed]) -> Sequence[Score | ScoreFailure]:
        """The scores, given what the model told of each text, in their order."""


def build_scorer(spec: ScorerSpec) -> Scorer:
    """The scorer that `spec` names, given its parameters by keyword. Raises `SuiteError` with the spec's place."""
    place = spec.place
    factory = SCORERS.get(spec.name)
    accepted = inspect.signature(factory).parameters.values()
    names = [p.name for p in accepted if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not any(p.kind is p.VAR_KEYWORD for p in accepted):
        for key in spec.parameters:
            if key not in names:
                raise _error(place, f"the scorer {spec.name!r} has no parameter {key!r}; {nearest(key, names)}")
    for p in accepted:
        if p.name in names and p.default is p.empty and p.name not in spec.parameters:
            raise _error(place, f"the scorer {spec.name!r} needs the parameter {p.name!r}")
    try:
        return cast(Scorer, factory(**spec.parameters))
    except ValueError as error:
        raise _error(place, f"the scorer {spec.name!r}: {error}") from None


def scorer_of_answers(name: str) -> Scorer:
    """A scorer by its name alone, for answers that are there. Raises `SuiteError`, `BadInput` for one that weighs texts."""
    scorer = build_scorer(ScorerSpec(name))
    if isinstance(scorer, Weigher):
        raise BadInput(
            f"the scorer {name!r} has texts weighed by a model, and can't score an answer; ask the model itself, as with "
            f"--suite {name}:DATA"
        )
    return scorer


def check_suite(suite: Suite) -> dict[str, Scorer]:
    """A scorer for each sample id, once every sample was found fit for its own. Samples alike share one.

    Raises `SuiteError` with file and line.
    """
    built: dict[str, Scorer] = {}
    found: dict[str, Scorer] = {}
    for sample in suite.samples:
        spec = suite.scorers[sample.id]
        key = json.dumps([spec.name, spec.parameters], sort_keys=True)
        scorer = built.get(key) or built.setdefault(key, build_scorer(spec))
        try:
            if not sample.prompt and not isinstance(scorer, Weigher):
                raise ValueError(f"it asks nothing: a text is weighed, which the scorer {spec.name!r} doesn't do")
            scorer.check(sample)
        except ValueError as error:
            raise _error(suite.places.get(sample.id), f"the sample {sample.id!r}: {error}") from None
        found[sample.id] = scorer
    return found


def is_literal(scorer: Scorer) -> bool:
    """Does the scorer read a template's tokens too? One says so by an attribute `literal`, which most do not have."""
    return bool(getattr(scorer, "literal", False))


def shown_to(scorer: Scorer, text: str, finish_reason: FinishReason) -> tuple[str | None, FinishReason]:
    """The answer in a text as the scorer is given it, None if the reasoning never ends, and how it ended.

    Reasoning is cut away, and a template's tokens and a wrapper with it, save for a `literal` scorer. What ends with such
    a token is whole, although the model went on.
    """
    answer = final_answer(text, cut=finish_reason == "length")
    if answer is None or is_literal(scorer):
        return answer, finish_reason
    alone = answer_alone(answer)
    return alone.text, "stop" if alone.ended and finish_reason == "length" else finish_reason


async def score_answer(scorer: Scorer, sample: Sample, completion: Completion) -> tuple[Score | ScoreFailure, ...]:
    """One score or failure for each of the scorer's metrics, in their order.

    Raises nothing but cancellation, `BadInput` (a scorer that can't work at all) and `Unreachable` (a judge that is gone).

    "truncated": the reasoning never ends, or the answer was cut off before it began, or where the scorer needs it whole.
    "permanent": the scorer raised, or gave no value, or one outside its own bounds.
    """
    answer, finish_reason = shown_to(scorer, completion.text, completion.finish_reason)
    cut = finish_reason == "length"
    if answer is None and not cut:
        return _failures(scorer, "truncated", "the reasoning never ends, so there is no answer")
    if answer is None or (cut and (scorer.needs_whole_answer or not answer.strip())):
        where = "within its reasoning" if answer is None else "before its end" if answer.strip() else "before it began"
        tokens = completion.usage.completion_tokens  # of an answer from a file nobody knows them
        reason = f"the answer was cut off {where}" + (f", at {tokens} tokens" if tokens else "")
        return _failures(scorer, "truncated", reason)
    try:
        same = answer is completion.text and finish_reason == completion.finish_reason
        whole = completion if same else replace(completion, text=answer, finish_reason=finish_reason)
        return checked(scorer, await scorer.score(sample, whole))
    except (BadInput, Unreachable):  # the job's fault and not this answer's: every other one would fail alike
        raise
    except Exception as error:  # one sample's mishap must not end the run; it is counted, and shown
        unfit = _unfit(scorer, sample)
        failed = f"the scorer {scorer.name!r} failed: {type(error).__name__}: {error}"
        return _failures(scorer, "permanent", f"the sample can't be scored: {unfit}" if unfit else failed)


def checked(scorer: Scorer, results: Sequence[Score | ScoreFailure]) -> tuple[Score | ScoreFailure, ...]:
    """What a scorer returned, one outcome for each of its metrics in their order; a failure for what can't be right."""
    if wrong := _wrong(results):
        who = f"the scorer {scorer.name!r}{written_in(scorer)}"
        return _failures(scorer, "permanent", f"{who} returned {wrong}")
    if [result.metric for result in results] != list(scorer.metrics):
        results = [_only(metric, results) for metric in scorer.metrics]
    return tuple(_sound(result) for result in results)


def _unfit(scorer: Scorer, sample: Sample) -> str:
    """What the sample lacks, as the scorer itself says; "" if nothing."""
    try:
        scorer.check(sample)
    except ValueError as error:
        return str(error)
    except Exception:  # a scorer that has no check, or one with a fault of its own
        return ""
    return ""


def _wrong(results: object) -> str:
    """What is wrong with the kind of what a scorer returned, and what it may return; "" if nothing is."""
    if not isinstance(results, Sequence) or isinstance(results, str):
        return f"{said(results)}; it may return a list of Score and ScoreFailure"
    for result in results:
        if not isinstance(result, (Score, ScoreFailure)):  # a union takes thrice the time
            return f"{said(result)} in a list; it may hold Score and ScoreFailure"
        value: object = result.value if isinstance(result, Score) else 0
        if not isinstance(value, (int, float)):
            return f"a Score of {said(value)}; its value may be True, False or a number"
    return ""


def _only(metric: str, results: Sequence[Score | ScoreFailure]) -> Score | ScoreFailure:
    """The metric's one result."""
    matching = [result for result in results if result.metric == metric]
    if len(matching) == 1:
        return matching[0]
    return ScoreFailure(metric, "permanent", f"the scorer gave {len(matching)} values for the metric {metric!r}")


def _sound(result: Score | ScoreFailure) -> Score | ScoreFailure:
    """The result, unless it is a score outside of its own bounds."""
    if isinstance(result, Score) and not (math.isfinite(result.value) and result.low <= result.value <= result.high):
        reason = f"the scorer gave {result.value}, which is not from {result.low} to {result.high}"
        return ScoreFailure(result.metric, "permanent", reason)
    return result


def _failures(scorer: Scorer, error_class: FailureClass, reason: str) -> tuple[ScoreFailure, ...]:
    return tuple(ScoreFailure(metric, error_class, reason) for metric in scorer.metrics)


def _error(place: Place | None, message: str) -> SuiteError:
    return place.error(message) if place is not None else SuiteError(message)
