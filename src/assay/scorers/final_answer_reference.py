"""What a reference is, understood as a whole: a form, a quantity, an expression, a formula that can't be read, or words.

A quantity is a number with nothing but its unit, or what it counts: "3x", "3\\pi" and "at least 3" are more than 3.
"""

from __future__ import annotations

import re
from itertools import pairwise

from assay.scorers.final_answer_algebra import FUNCTIONS, GREEK, Expression
from assay.scorers.final_answer_forms import Form, single_form
from assay.scorers.final_answer_terms import is_formula, single_expression
from assay.scorers.match import placed_numbers
from assay.scorers.quantities import Quantity, in_digits, one_notation, plain, quantities
from assay.scorers.units import NAMES

_BOXED = re.compile(r"\s*\$?\s*\\(?:boxed|fbox)\s*\{(.*)\}\s*\$?\.?\s*", re.DOTALL)
_BEFORE = re.compile(
    r"[\s$€£¥₹≈~+-]*|(?:about|approximately|approx\.?|roughly|around|the (?:final )?answer is|it is)\s*[$€£¥]?"
    r"|[A-Za-z][\w ]{0,40}?\s*[=:]\s*[$€£¥]?"
    r"|(?:[^\W\d_]+ ){0,3}(?:is|are|was|were|has|have|had|costs?|pays?|earns?|equals?|makes?|gets?|sold) [$€£¥]?",
    re.IGNORECASE,
)
_POWER = r"(?:\s?\^\s?[({]?\s?-?[123]\s?[)}]?|[²³])"
_UNIT = rf"[\s-]*(?:{NAMES})(?![A-Za-z]){_POWER}?"
# Units that are not converted, and what is counted.
_NOUN = (
    rf"\s+(?!(?:{FUNCTIONS}|{GREEK}|pi|x|or|and|to|than|plus|minus|times)\b)(?:o['’]clock|[^\W\d_]{{2,}}|[NJWVAKCFΩ](?![^\W\d_])|\$?/)"
    rf"{_POWER}?(?:[ /'’.·-]+[^\W\d_]{{1,20}}{_POWER}?){{0,4}}"
)
_BETWEEN = re.compile(rf"(?:{_UNIT}|{_NOUN})?[\s,]*(?:and\s)?")
_AFTER = re.compile(
    rf"(?:\s?[%°¢€£¥$](?:\s?[CF]\b)?)?(?:st|nd|rd|th)?(?:{_UNIT})?(?:\s?/\s?[^\W\d_]{{1,10}})?(?:{_NOUN})?(?:\s*\([^()]{{1,30}}\))?[\s.,?]*",
    re.IGNORECASE,
)
_GLUED = re.compile(r"\s?(?:\\?pi\b|π|\\?sqrt|√|\\frac|([A-Za-zα-ω]{1,2})(?![^\W\d_]))")
_KNOWN = re.compile(
    rf"(?:\s?(?:{NAMES}|k|[ap]m|st|nd|rd|th|bn)|\s(?:or|in|on|is|to|at|by|of|as|so|he|it|we|no|if|am|(?-i:I|a)))(?![^\W\d_])",
    re.IGNORECASE,
)

_INSIDE = re.compile(
    r"(?:\\?sqrt\s*(?:\[\w+\]\s*)?[({]?|√\s*[({]?|\\?\b(?:log|ln|exp|sin|cos|tan)\b(?:_\{?\w+\}?)?\s*[({]?)\s*-?$",
    re.IGNORECASE,
)

Reference = Form | Quantity | Expression


def understood(expected: str) -> Reference | None:
    """The reference as what it is; None for words, and for formulas that can't be read."""
    return single_form(expected) or as_quantity(expected) or single_expression(expected)


def opaque(expected: str) -> bool:
    """Is a reference that isn't understood no words either?"""
    return is_formula(expected)


def unboxed(expected: str) -> str:
    """The reference without a box around all of it."""
    box = _BOXED.fullmatch(expected)
    return box[1].strip() if box and box[1].strip() else expected


def as_quantity(expected: str) -> Quantity | None:
    """The reference as a quantity: nothing but one, with a unit or without."""
    found = quantities(expected)
    if len(found) != 1 or found[0][1] is None:
        return None
    text, numbers = placed_numbers(in_digits(plain(expected)))
    if not numbers or not _BEFORE.fullmatch(text[: numbers[0][0]]) or not _AFTER.fullmatch(text[numbers[-1][1] :]):
        return None
    inner = [text[one[1] : two[0]] for one, two in pairwise(numbers)]
    return found[0][1] if all(_BETWEEN.fullmatch(part) for part in inner) else None


def goes_on(statement: str, run: str, expected: str) -> bool:
    """Is a number in a statement but a part of an expression ("3y", "√3"), of which the reference says nothing?"""
    statement = placed_numbers(one_notation(plain(statement)))[0]
    places = list(re.finditer(rf"(?<![\w.,]){re.escape(run)}(?![\d]|[.,]\d)", statement))
    if places and _INSIDE.search(statement, max(0, places[-1].start() - 20), places[-1].start()):
        return True
    for number in places:
        more = _GLUED.match(statement, number.end())
        if more is None or _KNOWN.match(statement, number.end()):
            return False
        if more[1] and re.search(rf"\d\s?{re.escape(more[1])}\b", expected):
            return False
    return bool(places)
