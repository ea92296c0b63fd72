"""GSM8K's exact match, version 1: the compatible one, whose verdicts never change.

It is what earlier results were made with, faults included: it takes the last number for the answer even where the text
says something else. `assay.scorers.final_answer` reads answers better, under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from assay.scorers.targets import MARKED, best, targets, unworked
from assay.types import Completion, Json, Sample, Score, ScoreFailure

# `\s` and `\d` are ASCII's here.
_STANDING = re.compile(r"(?:\A|[\s=])(-?[\d,]+(?:\.\d+)?)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TOLERANCE = 0.01
_SHOWN = 60  # characters of a reference in an error


def expected_answers(sample: Sample) -> list[str]:
    """The reference's `correct_answer`, else its `target`, as texts. Raises ValueError if there is neither."""
    return targets(sample, ("correct_answer", "target"))


def expected_numbers(sample: Sample) -> list[str]:
    """The same, as numbers: of a worked solution, as GSM8K has them, what stands behind its last `####`.

    Raises ValueError also if none of them is a number: no answer could equal it.
    """
    expected = expected_answers(sample)
    numbers = [number for text in expected if _number(number := unworked(text)) is not None]
    if not numbers:
        raise ValueError(
            f"it is to be compared with {expected[0][-_SHOWN:]!r}, which is no number and has none behind ####"
        )
    return numbers


def is_worked(reference: Mapping[str, Json]) -> bool:
    """Is the `target` a worked solution that ends as GSM8K's do, in `####` and a number?"""
    target = reference.get("target")
    return isinstance(target, str) and MARKED.search(target) is not None


def extract_gsm8k(text: str) -> str:
    """The answer as it stands in the text, "" if there is none: what follows the first `####`, else the last number."""
    if text.startswith("ERROR"):
        return ""
    marked = MARKED.search(text)
    if marked:
        return marked[1]
    standing: list[str] = _STANDING.findall(text)
    return standing[-1] if standing else ""


def gsm8k_equal(extracted: str, expected: str) -> bool:
    """Do both read as numbers, commas aside, that differ by less than 0.01?"""
    a, b = _number(extracted), _number(expected)
    return a is not None and b is not None and abs(a - b) < _TOLERANCE


def _number(text: str) -> float | None:
    text = text.replace(",", "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


class Gsm8kV1:
    """GSM8K exact match: is the extracted number the reference's `correct_answer` (or `target`)?

    An answer that was cut off counts where a number stands behind a `####` and something stands behind the number;
    else it is truncated, for its last number may be no answer yet.
    """

    name: str = "gsm8k_v1"
    version: int = 2  # 2: worked references are read, and those without a number refused
    needs_whole_answer: bool = False
    literal: bool = True
    metrics: tuple[str, ...] = ("correct",)

    def __init__(self) -> None:
        self.parameters: Mapping[str, Json] = {}

    def check(self, sample: Sample) -> None:
        expected_numbers(sample)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        text = completion.text
        try:
            numbers = expected_numbers(sample)
        except ValueError as error:
            return [ScoreFailure("correct", "permanent", f"the sample can't be scored: {error}")]
        if completion.finish_reason == "length" and not _settled(text):
            return [ScoreFailure("correct", "truncated", "the answer was cut off, perhaps before its number")]
        extracted = extract_gsm8k(text)
        return [
            best(
                Score(
                    "correct", gsm8k_equal(extracted, expected), detail={"extracted": extracted, "expected": expected}
                )
                for expected in numbers
            )
        ]


def _settled(text: str) -> bool:
    marked = MARKED.search(text)
    return marked is not None and marked.end() < len(text)
