"""Labelled examples: answers that people scored by a rubric, one JSON object a line.

    {"id": "sum-1", "prompt": "What is 2 + 2?", "answer": "4", "reference": {"target": "4"},
     "labels": {"reasoning": 8, "correctness": 10, "clarity": 10}, "note": "right at a glance"}

`reference` (what the rubric's inputs name) and `note` may be left out; `labels` has every dimension of the rubric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.errors import SuiteError
from assay.plugins import nearest
from assay.reasoning import final_answer
from assay.scorers.judge_prompt import inputs_of
from assay.scorers.rubric import Rubric
from assay.suites.readers import Node, plain, read_jsonl
from assay.types import Json, Sample

BUILTIN = Path(__file__).parent / "data"

_KEYS = ("id", "prompt", "answer", "reference", "labels", "note")


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer, without reasoning before it, and what people gave it, by dimension."""

    sample: Sample
    answer: str
    labels: Mapping[str, float]


def builtin_labels(rubric: Rubric) -> Path | None:
    """The labelled examples that come with assay for a built-in rubric, if there are any."""
    path = BUILTIN / f"labelled_{rubric.name}.jsonl"
    return path if path.is_file() else None


def load_labels(path: Path, rubric: Rubric) -> tuple[Labelled, ...]:
    """Read labelled examples. Raises `SuiteError` with file and line where one does not fit the rubric."""
    found: dict[str, Labelled] = {}
    for node in read_jsonl(path):
        example = _labelled(node, rubric)
        if example.sample.id in found:
            raise node.place.error(f"the id {example.sample.id!r} stands twice")
        found[example.sample.id] = example
    if not found:
        raise SuiteError(f"{path}: there are no labelled examples")
    return tuple(found.values())


def _labelled(node: Node, rubric: Rubric) -> Labelled:
    keys = _mapping(node, "an example")
    for key in keys:
        if key not in _KEYS:
            raise node.place.error(f"unknown key {key!r} in an example; {nearest(key, _KEYS)}")
    texts = {}
    for key in ("id", "prompt", "answer"):
        value = keys[key].value if key in keys else None
        # An empty answer is a thing to judge; an empty question or id is a mistake.
        if not isinstance(value, str) or (key != "answer" and not value.strip()):
            raise node.place.error(f"an example needs {key!r}, as text")
        texts[key] = value
    reference: Mapping[str, Json] = {}
    if "reference" in keys:
        reference = {key: plain(value) for key, value in _mapping(keys["reference"], "reference").items()}
    sample = Sample(texts["id"], texts["prompt"], reference=reference)
    try:
        inputs_of(rubric.inputs, sample, texts["answer"])
    except ValueError as error:
        raise node.place.error(f"the example {sample.id!r}: {error}") from None
    if "labels" not in keys:
        raise node.place.error("an example needs 'labels', such as {\"clarity\": 7}")
    answer = final_answer(texts["answer"])
    if answer is None:
        raise node.place.error(
            f"the answer of the example {sample.id!r} never ends its reasoning, so there is none to judge"
        )
    return Labelled(sample, answer, _labels(keys["labels"], rubric))


def _labels(node: Node, rubric: Rubric) -> dict[str, float]:
    given = _mapping(node, "labels")
    for name in given:
        if name not in rubric.metrics:
            raise node.place.error(f"a label for {name!r}, which is no dimension; {nearest(name, rubric.metrics)}")
    labels = {}
    for dimension in rubric.dimensions:
        if dimension.name not in given:
            raise node.place.error(f"there is no label for {dimension.name!r}")
        try:
            labels[dimension.name] = dimension.value(plain(given[dimension.name]))
        except ValueError as error:
            raise node.place.error(f"the label for {dimension.name!r} {error}") from None
    return labels


def _mapping(node: Node, what: str) -> Mapping[str, Node]:
    if not isinstance(node.value, Mapping):
        raise node.place.error(f"{what} must be a JSON object")
    return node.value
