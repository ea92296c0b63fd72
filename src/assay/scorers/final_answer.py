"""The scorer that reads an answer's final answer, in any of the styles that models write, and compares it exactly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar

from assay.scorers.exact import expected_answer
from assay.scorers.extraction import passage, without_question
from assay.scorers.match import single_number
from assay.scorers.quantities import Quantity, plain, quantities
from assay.types import Completion, Json, Prompt, Sample, Score, ScoreFailure

# What ends the part of a statement that says the value: "14, because …", "14 (7 × 2)".
_ASIDE = re.compile(
    r",(?!\d)\s|;|\s\(|\s(?:because|since|as|when|which|where|after|given|from|with|using|not|instead|rather)\b|\s[—–]\s"
)
_CONCLUSION = re.compile(r"\b(?:so|then|therefore|thus|hence|giving|leaving)\b", re.IGNORECASE)
_COPULA = re.compile(r"\b(?:is|are|was|were|equals?|makes?|gives?|leaves?|be)\b|[=≈:]", re.IGNORECASE)
_ALTERNATIVES = re.compile(r"\b(?:or|either|between|and/or|versus|vs|anywhere)\b", re.IGNORECASE)
_NEGATED = re.compile(r"[^\d]*\b(?:not|never|\w+n't)\b[^\d]*\d", re.IGNORECASE)
_REJECTED = re.compile(
    r"(?:\b(?:is|are|was|were|be) |n't |\bnot )(?:wrong|incorrect|false)\b|(?:n't|\bnot) (?:right|correct)\b"
)
_ROW = re.compile(r"0(?:\s*,\s*0){2,}|0[^0=]{0,20}\bor\b[^0=]{0,20}0|^\W*0(?:\s*(?:,|;|&|\band\b|\s)\s*0)+\W*$")
# Small talk around an answer, which says none.
_CHATTER = re.compile(
    r"(?:i )?hope\b|let me\b|feel free\b|please\b|thank|(?:yes[,.]? )?(?:that|this|it)(?:'s| is) (?:right|correct)\b",
    re.IGNORECASE,
)
_LONGEST = 1000  # characters in a statement; more are no answer
_ARTICLE = re.compile(r"^(?:the|a|an)\s+")


def read_value(statement: str) -> tuple[str, Quantity] | None:
    """The one quantity that a statement says, as read and as a value; None if it leaves open which one it is.

    "3 + 4 = 7" says 7, "14, because 2 × 7 = 14" 14, "7 or 8", "5, 6, 7" and "not 7" nothing.
    """
    statement = plain(statement)
    if len(statement) > _LONGEST:
        return None
    if _listed(statement) or _REJECTED.search(statement):
        return None
    statement = _tail(_CONCLUSION, statement)
    head, aside, rest = _cut(statement)
    # After a mere comma the working may go on, and its result is what counts.
    if aside == "," and "=" in rest and quantities(rest) and not _ASIDE.match(f" {rest}"):
        head = rest
    elif not quantities(head):
        head = statement
    if _several(head) or _NEGATED.match(head):
        return None
    found = quantities(_tail(_COPULA, head))
    run, value = found[-1]
    return None if value is None else (run, value)


def _cut(statement: str) -> tuple[str, str, str]:
    """The statement's first part, the word or mark that sets off what is said beside it, and that."""
    aside = _ASIDE.search(statement)
    if aside is None:
        return statement, "", ""
    return statement[: aside.start()], aside[0].strip(), statement[aside.end() :]


def _tail(cut: re.Pattern[str], text: str) -> str:
    """What the last match of `cut` that leads to a quantity leads to; all of the text if none does."""
    for match in reversed(list(cut.finditer(text))):
        if quantities(text[match.end() :]):
            return text[match.end() :]
    return text


def _several(head: str) -> bool:
    """Are several values offered side by side?"""
    if len(quantities(head)) < 2:
        return False
    return bool(_ALTERNATIVES.search(head) or re.search(r"0\s(?:and|&)\s0", _shape(head)))


def _listed(statement: str) -> bool:
    """Is this a row of values, or one that another follows after an "or"?"""
    return bool(_ROW.search(_shape(statement)))


def _shape(text: str) -> str:
    """The text with 0 for every number."""
    return re.sub(r"[-+]?[$€£¥]?\d[\d.,/]*(?<=\d)(?:\s\d{3}(?!\d))*(?:\s\d+/\d+)?%?", "0", text)


class FinalAnswer:
    """Is the answer's final answer the reference's `correct_answer` (or `target`)?

    Where that is one quantity, values are compared exactly, and units where both have one that is known; else the words,
    letter case, articles, quotes and final marks aside. What counts as the final answer, `extraction` says; several on
    offer ("7 or 8") are none. An answer that was cut off is truncated: what it would have ended in nobody knows.

    tolerance: the largest difference between quantities that is none, in the reference's unit.
    """

    name: ClassVar[str] = "final_answer"
    version: ClassVar[int] = 1
    needs_whole_answer: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("correct",)

    def __init__(self, tolerance: float | str = 0) -> None:
        value = None if isinstance(tolerance, bool) else single_number(str(tolerance))
        if value is None or value < 0:
            raise ValueError(f"tolerance must be a number of at least 0, not {tolerance!r}")
        self._tolerance = value
        self.parameters: Mapping[str, Json] = {"tolerance": str(tolerance)}

    def check(self, sample: Sample) -> None:
        expected_answer(sample)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        expected = expected_answer(sample)
        extracted, correct = verdict(completion.text, expected, sample.prompt, self._tolerance)
        return [Score("correct", correct, detail={"extracted": extracted, "expected": expected})]


def verdict(
    text: str, expected: str, prompt: Prompt = "", tolerance: Fraction = Fraction(0)
) -> tuple[str | None, bool]:
    """What the text answers in the end (None: nothing), and whether that is `expected`."""
    text = without_question(text, prompt)
    target = _as_quantity(expected)
    if target is not None:
        if _bare_list(text):
            return None, False
        statement = passage(text, lambda part: bool(quantities(part)))
        found = read_value(statement) if statement else None
        return (found[0], found[1].equals(target, tolerance)) if found else (None, False)
    wanted = normal_text(expected)
    statement = passage(text, lambda part: bool(normal_text(part)) and not _CHATTER.match(part))
    if statement is None:
        return None, False
    said = _sayings(statement)
    return next(((part, True) for part in said if normal_text(part) == wanted), (said[-1], False))


def _as_quantity(expected: str) -> Quantity | None:
    """The reference as a quantity: nothing but one, with a unit or without."""
    found = quantities(expected)
    if len(found) != 1 or found[0][1] is None:
        return None
    rest = re.sub(r"[\d.,/\s$€£¥%+^-]|\\\w+|[{}]", "", plain(expected))
    return found[0][1] if len(rest) <= 20 and len(expected.split()) <= 5 else None


def _bare_list(text: str) -> bool:
    """Does the text end in lines that are each but a number? Who counts up does not answer."""
    lines = [line.strip(" \t-*•,.;") for line in text.split("\n") if line.strip()]
    return len(lines) > 2 and all(single_number(line) is not None for line in lines[-3:])


def _sayings(statement: str) -> list[str]:
    """What a statement may say: all of it, or what its last verb leads to, up to an aside."""
    head = _ASIDE.split(statement, maxsplit=1)[0]
    tails = [part[cut.end() :] for part in (head,) for cut in _COPULA.finditer(part)]
    return [part.strip() for part in (statement, head, *tails[-1:]) if part.strip()]


def normal_text(text: str) -> str:
    """Words without dress: one form of each character, no letter case, TeX, quotes, marks around them, or article."""
    text = plain(unicodedata.normalize("NFKC", text)).casefold()
    text = re.sub(r"[*_`\"“”'‘’$\\{}]", "", text)
    text = re.sub(r"\s*([,()\[\]=+/<>-])\s*", r"\1", re.sub(r"\s+", " ", text)).strip(" .,;:!?")
    return _ARTICLE.sub("", text)
