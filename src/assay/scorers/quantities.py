"""A piece of text as one quantity: an exact number, with its unit where that is one of the few known here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from assay.scorers.match import read_numbers
from assay.scorers.number_words import scales_to_exponents, words_to_digits

# By kind, each unit's names and what one is in the kind's first unit. Left out is what has several meanings
# ("pounds", "m" for minutes, "C"): an unknown unit is ignored, a misread one makes a right answer wrong.
_KINDS: dict[str, dict[str, Fraction]] = {
    "percent": {"% percent pct": Fraction(1)},
    "time": {
        "s sec secs second seconds": Fraction(1),
        "min mins minute minutes": Fraction(60),
        "h hr hrs hour hours": Fraction(3600),
        "day days": Fraction(86400),
        "week weeks": Fraction(7 * 86400),
    },
    "length": {
        "mm millimeter millimeters millimetre millimetres": Fraction(1, 1000),
        "cm centimeter centimeters centimetre centimetres": Fraction(1, 100),
        "m meter meters metre metres": Fraction(1),
        "km kilometer kilometers kilometre kilometres": Fraction(1000),
        "inch inches": Fraction(254, 10000),
        "ft foot feet": Fraction(3048, 10000),
        "yard yards": Fraction(9144, 10000),
        "mile miles": Fraction(1609344, 1000),
    },
    "mass": {
        "mg milligram milligrams": Fraction(1, 1000),
        "g gram grams": Fraction(1),
        "kg kilogram kilograms": Fraction(1000),
    },
    "volume": {
        "ml milliliter milliliters millilitre millilitres": Fraction(1, 1000),
        "l liter liters litre litres": Fraction(1),
    },
    "dollars": {"$ dollar dollars usd": Fraction(1), "¢ cent cents": Fraction(1, 100)},
    "euros": {"€ euro euros eur": Fraction(1)},
    "sterling": {"£ gbp": Fraction(1)},
    "yen": {"¥ yen jpy": Fraction(1)},
}
_UNITS = {
    name: (kind, factor) for kind, units in _KINDS.items() for names, factor in units.items() for name in names.split()
}
_NAMES = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
# Before the number only signs of money stand; after it, any unit, unless a square, a cube or a rate follows.
_UNIT = re.compile(
    rf"(?P<before>[$€£¥])\s?-?(?=[\d.])|(?<=[\d½¼¾])(?:\s{{0,2}}|-)(?P<after>{_NAMES})(?![\w^²³/]|\s+(?:per|squared|cubed)\b)",
    re.IGNORECASE,
)

_TEX: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|displaystyle)\b|\\[()\[\]]|\$\$", " "),
        (r"\\(?:text|textbf|mathrm|mathbf|mbox|textrm|operatorname)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\[dt]?frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\[;:! ]|~|\\,(?!\d{3}(?!\d))", " "),
        # Dollars that are no money, the marks around a formula, go; those that are one are kept out of their way.
        (r"\\\$", "\ue000"),
        (r"(?<![\w$])\$(?=[^\s$])([^$\n]*[^\s$])\$(?![\d$])", r"\1"),
        ("\ue000", "$"),
        (r"\\%", "%"),
        (r"\^\s*(?:\{\s*)?\\circ\s*\}?|\\degree", " degrees"),
    )
)
# "1.234,5" can only be the way most of Europe writes it. "1.234" and "1,5" could be either, and are left alone.
_EUROPEAN = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d{3})+),(\d+)(?![\w.,]*\d)")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number. kind: what its unit measures, "" if none is known; factor: the unit in the kind's first one."""

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
        if self.kind == "percent":
            return abs(self.value / 100 - other.value) <= tolerance
        return other.kind == "percent" and abs(self.value * 100 - other.value) <= tolerance


def plain(text: str) -> str:
    """The text without TeX's dress: its text commands, spaces, brackets and dollar signs."""
    for pattern, replacement in _TEX:
        text = pattern.sub(replacement, text)
    return text


def quantities(text: str) -> list[tuple[str, Quantity | None]]:
    """The text's quantities in their order, as read; None where digits name no one number ("3-4").

    Number words are read only where there are no digits, for "one" is mostly no number. Where there are several
    quantities, units are known only if each has one; "2 h 30 min" is a single quantity then.
    """
    text = plain(text)
    text = _EUROPEAN.sub(lambda m: m[1].replace(".", "") + "." + m[2], scales_to_exponents(text))
    if not re.search(r"[\d½⅓⅔¼¾⅛]", text):
        text = words_to_digits(text)
    numbers = list(read_numbers(text))
    units = [_UNITS[(m["before"] or m["after"]).lower()] for m in _UNIT.finditer(text)]
    if len(units) != len(numbers):
        # "$5 USD" names its unit twice.
        units = [units[0]] * len(numbers) if len(set(units)) == 1 else [("", Fraction(1))] * len(numbers)
    found = [
        (run, None if value is None else Quantity(value, *unit))
        for (run, value), unit in zip(numbers, units, strict=True)
    ]
    whole = _composed([quantity for _, quantity in found if quantity]) if len(found) == 2 else None
    return [(" ".join(run for run, _ in found), whole)] if whole else found


def _composed(parts: list[Quantity]) -> Quantity | None:
    """ "5 feet 3 inches" as one length: the same kind, the smaller unit second and less than one of the larger."""
    if len(parts) != 2:
        return None
    large, small = parts
    fits = large.kind == small.kind != "" and large.factor > small.factor
    if not fits or not 0 <= small.value * small.factor < large.factor:
        return None
    return Quantity(large.value + small.value * small.factor / large.factor, large.kind, large.factor)
