"""The units that scorers know, by what they measure.

Left out is what has several meanings ("pounds", "C"): an unknown unit is ignored, a misread one makes a right answer wrong.
"""

from __future__ import annotations

import re
from fractions import Fraction

# By kind, each unit's names, and what one of it is in the kind's own measure. An underscore stands for a space. "m" is a
# metre, and a minute only where a time is asked for: the first kind that has a name keeps it. Speeds are told from other
# quantities, not converted.
KINDS: dict[str, dict[str, Fraction]] = {
    "part": {"% percent pct per_cent percentage": Fraction(1, 100)},
    "length": {
        "mm millimetre millimetres millimeter millimeters": Fraction(1, 1000),
        "cm centimetre centimetres centimeter centimeters": Fraction(1, 100),
        "m metre metres meter meters": Fraction(1),
        "km kilometre kilometres kilometer kilometers": Fraction(1000),
        "inch inches": Fraction(254, 10000),
        "ft foot feet": Fraction(3048, 10000),
        "yard yards": Fraction(9144, 10000),
        "mile miles": Fraction(1609344, 1000),
    },
    "time": {
        "s sec secs second seconds": Fraction(1),
        "m min mins minute minutes": Fraction(60),
        "h hr hrs hour hours": Fraction(3600),
        "day days": Fraction(86400),
        "week weeks": Fraction(7 * 86400),
    },
    "money": {"$ dollar dollars usd buck bucks": Fraction(1), "¢ cent cents": Fraction(1, 100)},
    "euros": {"€ euro euros eur": Fraction(1)},
    "sterling": {"£ gbp": Fraction(1)},
    "yen": {"¥ yen jpy": Fraction(1)},
    "angle": {"° degree degrees": Fraction(1)},
    "mass": {
        "mg milligram milligrams": Fraction(1, 1000),
        "g gram grams": Fraction(1),
        "kg kilogram kilograms": Fraction(1000),
    },
    "volume": {
        "ml millilitre millilitres milliliter milliliters": Fraction(1, 1000),
        "l litre litres liter liters": Fraction(1),
    },
    "speed": {"km/h kmh kph mph m/s": Fraction(1)},
}
_BY_KIND = {
    kind: {name: size for names, size in units.items() for name in names.split()} for kind, units in KINDS.items()
}
_FIRST = {name: (kind, size) for kind, units in reversed(_BY_KIND.items()) for name, size in units.items()}
# Matches any unit's name, longer ones first.
NAMES = "|".join(sorted((re.escape(name).replace("_", r"\s") for name in _FIRST), key=len, reverse=True))


def unit_of(name: str, kind: str = "") -> tuple[str, Fraction] | None:
    """The kind and size of a unit, of `kind` if it has a unit of that name; None for what isn't one, such as pupils."""
    name = re.sub(r"\s", "_", name.casefold())
    size = _BY_KIND.get(kind, {}).get(name)
    return _FIRST.get(name) if size is None else (kind, size)


def names_of(kind: str) -> frozenset[str]:
    """The names of a kind's units; none of a kind that isn't known."""
    return frozenset(_BY_KIND.get(kind, ()))
