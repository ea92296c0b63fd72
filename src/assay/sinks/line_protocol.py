"""InfluxDB's line protocol: facts as points, with go-ml's measurements for the suites that it knew.

A point's time is made of the iteration and of where the result stands in its suite, so that sending a result again overwrites
it.
Escaping: https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache

from assay.sinks.base import About, AnswerFact, Fact, GroupFact, LossFact, Relabelled, SampleFact, Withdrawn
from assay.sinks.standing import CAPABILITY, CONTENT
from assay.suites.suite import load_suite

JUDGED_CAPABILITY = ("reasoning", "correctness", "clarity")
JUDGED_CONTENT = (
    "ccp_compliance",
    "truth_telling",
    "engagement",
    "axiom_integration",
    "sovereignty_reasoning",
    "emotional_register",
)

_EPOCH_SECONDS = 1_739_577_600
_ITERATION_SECONDS = 1000
_PROBES_FROM = 100

# A backslash before a separator, or at the end, can't be told from one that escapes: servers read it in different ways.
_AMBIGUOUS = re.compile(r"\\(?=[,= \\]|$)")
_BACKSLASH = "\N{REVERSE SOLIDUS OPERATOR}"
_CONTROLS = {ord(c): c.encode("unicode_escape").decode() for c in map(chr, [*range(32), 127])}


def lines_of(fact: Fact) -> list[str]:
    """The points of one fact; none where InfluxDB has no measurement for it."""
    match fact:
        case SampleFact():
            return _sample(fact) if fact.stands else []
        case GroupFact():
            return _group(fact) if fact.stands else []
        case LossFact():
            tags = {"model": fact.tag, "run_id": fact.run_id, "loss_type": fact.part}
            return _point("training_loss", tags, {"loss": fact.value, "iteration": fact.iteration}, fact.iteration, 0)
        case AnswerFact() | Withdrawn() | Relabelled():  # a point can't be taken back by any write path
            return []


def averages_of(facts: Sequence[SampleFact]) -> list[str]:
    """The `avg` of go-ml's judged capability: of one sample's dimensions, once all are here."""
    values = [float(fact.value) for fact in facts if fact.value is not None]
    fact = facts[0]
    fields = {"avg": sum(values) / len(values), "iteration": fact.about.iteration}
    return _point("capability_judge", _judged_tags(fact), fields, fact.about.iteration, _probe(fact))


def store_line(store: str) -> str:
    """The point that tells a database from the one that was there before: no later than any result, so kept as long."""
    return _point("assay_store", {}, {"id": store}, 0, 0)[0]


def is_judged_capability(fact: Fact) -> bool:
    """Whether the fact is a dimension of a judged capability probe."""
    return isinstance(fact, SampleFact) and fact.about.suite == CAPABILITY and fact.metric in JUDGED_CAPABILITY


def _sample(fact: SampleFact) -> list[str]:
    about = fact.about
    if fact.value is None:
        return []
    iteration = about.iteration
    if is_judged_capability(fact):
        fields: dict[str, float | int | str] = {fact.metric: float(fact.value), "iteration": iteration}
        return _point("capability_judge", _judged_tags(fact), fields, iteration, _probe(fact))
    if about.suite == CONTENT and fact.metric in JUDGED_CONTENT:
        dimension = JUDGED_CONTENT.index(fact.metric)
        tags = {**_whose(about), "dimension": fact.metric, "has_kernel": "true"}
        tags["run_id"] = "-content-".join(about.run_id.rsplit("-capability-", 1))
        fields = {"score": float(fact.value), "iteration": iteration}
        return _point("content_score", tags, fields, iteration, fact.index * 10 + dimension)
    if about.suite == CAPABILITY and isinstance(fact.value, bool):
        tags = {**_whose(about), "probe_id": fact.sample}
        fields = {"passed": int(fact.value), "iteration": iteration}
        return _point("probe_score", tags, fields, iteration, _PROBES_FROM + _probe(fact))
    return []


def _group(fact: GroupFact) -> list[str]:
    about, iteration = fact.about, fact.about.iteration
    if about.suite == CAPABILITY and fact.correct is not None:
        tags = {**_whose(about), "category": fact.group}
        accuracy = 100 * fact.correct / fact.scored
        fields: dict[str, float | int | str] = {"accuracy": accuracy, "correct": fact.correct, "total": fact.scored}
        return _point("capability_score", tags, {**fields, "iteration": iteration}, iteration, max(fact.position, 0))
    if about.suite in (CAPABILITY, CONTENT):
        return []
    tags = {
        **_whose(about), "suite": about.suite, "group": fact.group, "metric": fact.metric, "judge": fact.judge,
        "digest": about.digest[:12], "engine": about.engine, "version": str(about.suite_version),
    }  # fmt: skip
    fields = {
        "scored": fact.scored, "failed": fact.failed, "truncated": fact.truncated, "iteration": iteration,
        "proof": about.proof or "base",
    }  # fmt: skip
    if fact.mean is not None:
        fields["mean"] = fact.mean
    if fact.correct is not None:
        fields["correct"] = fact.correct
    return _point("suite_score", tags, fields, iteration, max(fact.position, 0))


def _whose(about: About) -> dict[str, str]:
    return {"model": about.tag, "run_id": about.run_id, "label": about.label}


def _judged_tags(fact: SampleFact) -> dict[str, str]:
    return {**_whose(fact.about), "probe_id": fact.sample, "category": fact.group}


@cache
def _probes() -> dict[str, int]:
    ids = sorted(sample.id for sample in load_suite(CAPABILITY).samples)
    return {name: index for index, name in enumerate(ids)}


def _probe(fact: SampleFact) -> int:
    """A probe's place among all, in the order of their names; one that isn't built in stands where its suite has it."""
    return _probes().get(fact.sample, fact.index)


def _point(
    measurement: str, tags: Mapping[str, str], fields: Mapping[str, float | int | str], iteration: int, index: int
) -> list[str]:
    """One line. A tag that is empty can't be written, and is left out; so is a number that is none."""
    where = "".join(f",{key}={escaped_tag(value)}" for key, value in sorted(tags.items()) if value)
    what = ",".join(f"{key}={_field(value)}" for key, value in fields.items() if _is_writable(value))
    seconds = _EPOCH_SECONDS + iteration * _ITERATION_SECONDS + index
    return [f"{measurement}{where} {what} {seconds * 1_000_000_000}"]


def escaped_tag(value: str) -> str:
    """A tag's value as the protocol wants it.

    It has no way to write a newline or another control character, which become their escapes as text, nor a backslash before a
    separator or at the end, which becomes the mathematical one (U+29F5).
    """
    plain = _AMBIGUOUS.sub(_BACKSLASH, value.translate(_CONTROLS))
    return re.sub(r"([,= ])", r"\\\1", plain)


def _field(value: float | int | str) -> str:
    if isinstance(value, str):
        text = value.translate(_CONTROLS).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    return f"{value}i" if isinstance(value, int) else repr(value)


def _is_writable(value: float | int | str) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
