"""A piece of text as one quantity: an exact number, with its unit where that is one of the few known here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from assay.scorers.match import read_numbers
from assay.scorers.number_words import scales_to_exponents, words_to_digits
from assay.scorers.units import NAMES, unit_of

# Before the number only signs of money stand; after it, any unit, unless a square, a cube or a rate follows.
_UNIT = re.compile(
    rf"(?P<before>[$€£¥])\s?-?(?=[\d.])|(?<=[\d½¼¾])(?:\s{{0,2}}|-)(?P<after>{NAMES})(?![\w^²³/]|\s+(?:per|squared|cubed)\b)",
    re.IGNORECASE,
)

_TEX: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|displaystyle)\b|\\[()\[\]]|\$\$", " "),
        (r"\\(?:text|textbf|mathrm|mathbf|mbox|textrm|operatorname)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\[dt]?frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"(?<=\d),\\!\s*(?=\d{3})", ","),
        (r"\\[;:! ]|~|\\,(?!\d{3}(?!\d))", " "),
        # Dollars that are no money, the marks around a formula, go; those that are one are kept out of their way.
        (r"\\\$", "\ue000"),
        (r"(?<![\w$])\$(?=[^\s$])([^$\n]*[^\s$])\$(?![\d$])", r"\1"),
        ("\ue000", "$"),
        (r"\\%", "%"),
        (r"\^\s*(?:\{\s*)?\\circ\s*\}?|\\degree", " degrees"),
    )
)
# "1.234,5", "1.234.567" and "1 234,5" can only be the way most of Europe writes it. "1.234" and "1,5" could be either,
# and are left alone.
_EUROPEAN = re.compile(
    r"(?<![\w.,])(?<!\d )(\d{1,3}(?:\.\d{3})+(?=,\d)|\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?=,\d)|\d{1,3}(?:\.\d{3}){2,})(?:,(\d+))?"
    r"(?![\w.,]*\d)"
)
# "$70k", "$2.5M"; without a currency capitals are mostly units, and only "70k" is read.
_THOUSANDS = re.compile(r"(?<![\w.,])(\d+(?:,\d{3})*(?:\.\d+)?)k\b|([$€£¥₹]\s?\d+(?:,\d{3})*(?:\.\d+)?)\s?(K|M|bn|B)\b")
_SCALES = {"K": 3, "M": 6, "bn": 9, "B": 9}
# "negative 5" has a sign; so has "minus 5" where there is nothing to take it from.
_SIGN = re.compile(
    r"\bnegative\s+(?=[$€£¥]?\d)|(?:(?<=is )|(?<=was )|(?<=be )|(?<=of )|(?<=to )|(?<=[=:(] )|^\s*)minus\s+(?=[$€£¥]?\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number. kind: what its unit measures, "" if none is known; factor: the unit in the kind's measure."""

    value: Fraction
    kind: str = ""
    factor: Fraction = Fraction(1)

    def equals(self, other: Quantity, tolerance: Fraction = Fraction(0)) -> bool:
        """Equal as numbers, and in their units where both have one. 50% is 50, and 0.5 where the other has no unit.

        tolerance: the largest difference that is none, in the unit of `other`.
        """
        if self.kind and other.kind:
            value = self.value * self.factor / other.factor
            return self.kind == other.kind and abs(value - other.value) <= tolerance
        if abs(self.value - other.value) <= tolerance:
            return True
        if self.kind == "part":
            return abs(self.value / 100 - other.value) <= tolerance
        return other.kind == "part" and abs(self.value * 100 - other.value) <= tolerance


def plain(text: str) -> str:
    """The text without TeX's dress: its text commands, spaces, brackets and dollar signs."""
    for pattern, replacement in _TEX:
        text = pattern.sub(replacement, text)
    return text


def one_notation(text: str) -> str:
    """The text with numbers in the English notation and in full: "1.234,5" is 1234.5, "3 million" 3e6, "$70k" $70e3."""
    return _THOUSANDS.sub(_in_full, scales_to_exponents(_EUROPEAN.sub(_in_english, text)))


def in_digits(text: str) -> str:
    """The text in one notation, number words in digits if it has none, signs before numbers."""
    text = one_notation(text)
    return _SIGN.sub("-", text if re.search(r"[\d½⅓⅔¼¾⅛]", text) else words_to_digits(text))


def quantities(text: str) -> list[tuple[str, Quantity | None]]:
    """The text's quantities in their order, as read; None where digits name no one number ("3-4").

    Number words are read only where there are no digits, for "one" is mostly no number. Where there are several
    quantities, units are known only if each has one; "2 h 30 min" is a single quantity then.
    """
    text = in_digits(plain(text))
    numbers = list(read_numbers(text))
    units = [unit for m in _UNIT.finditer(text) if (unit := unit_of(m["before"] or m["after"]))]
    if len(units) != len(numbers):
        # "$5 USD" names its unit twice.
        units = [units[0]] * len(numbers) if len(set(units)) == 1 else [("", Fraction(1))] * len(numbers)
    found = [
        (run, None if value is None else Quantity(value, *unit))
        for (run, value), unit in zip(numbers, units, strict=True)
    ]
    whole = composed([quantity for _, quantity in found if quantity]) if len(found) == 2 else None
    return [(" ".join(run for run, _ in found), whole)] if whole else found


def _in_english(match: re.Match[str]) -> str:
    return re.sub(r"[^\d]", "", match[1]) + (f".{match[2]}" if match[2] else "")


def _in_full(match: re.Match[str]) -> str:
    number, zeros = (match[1], 3) if match[1] else (match[2], _SCALES[match[3]])
    return f"{number.replace(',', '')}e{zeros}"


def composed(parts: list[Quantity]) -> Quantity | None:
    """ "5 feet 3 inches" as one length: the same kind, the smaller unit second and less than one of the larger."""
    if len(parts) != 2:
        return None
    large, small = parts
    fits = large.kind == small.kind != "" and large.factor > small.factor
    if not fits or not 0 <= small.value * small.factor < large.factor:
        return None
    return Quantity(large.value + small.value * small.factor / large.factor, large.kind, large.factor)
