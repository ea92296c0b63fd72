"""The scorer that reads an answer's final answer, in any of the styles that models write, and compares it exactly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from fractions import Fraction

from assay.scorers.clock import single_time, times
from assay.scorers.exact import expected_answers
from assay.scorers.extraction import passage, said_of
from assay.scorers.match import exact_tolerance, single_number
from assay.scorers.quantities import Quantity, plain, quantities
from assay.scorers.statement import ASIDE, COPULA, read_value
from assay.scorers.targets import best
from assay.types import Completion, Json, Prompt, Sample, Score, ScoreFailure

# Small talk around an answer, which says none.
_CHATTER = re.compile(
    r"(?:i )?hope\b|let me\b|feel free\b|please\b|thank|(?:yes[,.]? )?(?:that|this|it)(?:'s| is) (?:right|correct)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|never)\b|n't\b", re.IGNORECASE)
_SHARE = re.compile(r"\b(\d+) out of (?:every )?(\d+)\b")
_ARTICLE = re.compile(r"^(?:the|a|an)\s+")


class FinalAnswer:
    """Is the answer's final answer the reference's `correct_answer` (or `target`)?

    Where that is one quantity, values are compared exactly, and units where both have one that is known; where it is a
    time of day, times; else the words, letter case, articles, quotes and final marks aside. What counts as the final
    answer, `extraction` says, and what it comes to, `statement`; several on offer ("7 or 8") are none. An answer that was
    cut off is truncated: what it would have ended in nobody knows.

    tolerance: the largest difference between quantities that is none, in the reference's unit.
    """

    name: str = "final_answer"
    version: int = 1
    needs_whole_answer: bool = True
    metrics: tuple[str, ...] = ("correct",)

    def __init__(self, tolerance: float | str = 0) -> None:
        self._tolerance = exact_tolerance(tolerance)
        self.parameters: Mapping[str, Json] = {"tolerance": str(tolerance)}

    def check(self, sample: Sample) -> None:
        expected_answers(sample)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        return [best(self._compared(completion.text, expected, sample) for expected in expected_answers(sample))]

    def _compared(self, text: str, expected: str, sample: Sample) -> Score:
        extracted, correct = verdict(text, expected, sample.prompt, self._tolerance)
        return Score("correct", correct, detail={"extracted": extracted, "expected": expected})


def verdict(
    text: str, expected: str, prompt: Prompt = "", tolerance: Fraction = Fraction(0)
) -> tuple[str | None, bool]:
    """What the text answers in the end (None: nothing), and whether that is `expected`."""
    text = said_of(text, prompt)
    target = _as_quantity(expected)
    if target is not None:
        if _bare_list(text):
            return None, False
        statement = passage(text, lambda part: bool(quantities(part)))
        if statement and target.value.denominator > 1:  # "3 out of 4" is 3 otherwise
            statement = _SHARE.sub(r"\1/\2", statement)
        forms = read_value(statement) if statement else []
        said = next((run for run, value in forms if value.equals(target, tolerance)), None)
        return (said, True) if said is not None else (forms[-1][0] if forms else None, False)
    wanted = normal_text(expected)
    statement = passage(text, lambda part: bool(normal_text(part)) and not _CHATTER.match(part))
    if statement is None:
        return None, False
    clock = single_time(expected)
    shown = times(statement) if clock and not _DENIED.search(statement) else []
    if clock and shown:  # several times are none, unless they mean the same
        return shown[-1][0], bool(clock.intersection(*(time for _, time in shown)))
    sayings = _sayings(statement)
    return next(((part, True) for part in sayings if normal_text(part) == wanted), (sayings[-1], False))


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
    head = ASIDE.split(statement, maxsplit=1)[0]
    tails = [part[cut.end() :] for part in (head,) for cut in COPULA.finditer(part)]
    return [part.strip() for part in (statement, head, *tails[-1:]) if part.strip()]


def normal_text(text: str) -> str:
    """Words without dress: one form of each character, no letter case, TeX, quotes, marks around them, or article."""
    text = plain(unicodedata.normalize("NFKC", text)).casefold()
    text = re.sub(r"[*_`\"“”'‘’$\\{}]", "", text)
    text = re.sub(r"\s*([,()\[\]=+/<>-])\s*", r"\1", re.sub(r"\s+", " ", text)).strip(" .,;:!?")
    return _ARTICLE.sub("", text)
