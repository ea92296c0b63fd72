"""Answers that are neither one quantity nor words: intervals, lists and sets of numbers, and dates.

Each kind has several notations: "[0, 3)" is "0 ≤ x < 3", "{2, 3}" is "x = 3 or x = 2", "2024-03-05" is "5 March 2024". What
has two readings ("[0, 3]" as a list or as an interval, "03/04/2024") equals only what is equal by a reading it has for sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from assay.scorers.match import single_number
from assay.scorers.quantities import plain

_INFINITE = Fraction(10) ** 400  # beyond any number that is read
_MOST = 50  # numbers in a list; more are no answer

_NOTATION: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}", r"\1/\2"),
        (r"\\(?:infty|infinity)\b|\b[Ii]nfinity\b|\binf\b", "∞"),
        (r"\\(?:leqslant|leq|le)\b|<=|⩽|&le;", "≤"),
        (r"\\(?:geqslant|geq|ge)\b|>=|⩾|&ge;", "≥"),
        (r"\\lt\b|&lt;", "<"),
        (r"\\gt\b|&gt;", ">"),
        (r"\\cup\b", "∪"),
        (r"\\pm\b|\+/-", "±"),
        (r"\\in\b", "="),
        (r"\\([{}])|\\(?:quad|qquad|,|;|!| )", r"\1"),
        ("[\u2212\u2013]", "-"),
    )
)
_NUMBER = r"(?:[-+]\s?)?(?:\d{1,30}(?:\.\d{1,30})?(?:/\d{1,30})?|∞)(?![\w.]*[\w])"
_NAME = r"(?<![^\W\d_])[a-zA-Zθλ](?:_?\{?\d\}?)?(?![^\W\d_])"
_BRACKETS = re.compile(
    rf"(?P<open>[\[({{\]])\s*(?P<items>{_NUMBER}(?:\s*[,;]\s*{_NUMBER}){{1,{_MOST}}})\s*(?P<close>[\])}}\[])"
)
_CHAIN = re.compile(rf"(?P<low>{_NUMBER})\s*(?P<one>[<>≤≥])\s*{_NAME}\s*(?P<two>[<>≤≥])\s*(?P<high>{_NUMBER})")
_BOUND = re.compile(
    rf"{_NAME}\s*(?P<after>[<>≤≥])\s*(?P<bound>{_NUMBER})|(?P<value>{_NUMBER})\s*(?P<before>[<>≤≥])\s*{_NAME}"
)
_EQUATED = re.compile(rf"^{_NAME}\s*[=∈]\s*")
_TURNED = str.maketrans("<>≤≥", "><≥≤")
_JOIN = re.compile(r"\s*(?P<union>∪|,?\s*\bor\b|\bU\b)\s*|\s*(?P<both>,?\s*\band\b|,|∧|&)\s*")
_NAMED = re.compile(rf"(?P<name>{_NAME})\s*=\s*(?P<sign>±\s?)?(?P<value>{_NUMBER})(?![\s]*[-+*/^×(])")
_BARE = re.compile(
    rf"(?<![\w.,])(?:±\s?{_NUMBER}|{_NUMBER}(?:(?:,?\s*and\b|,(?=\s)|;|\s*&)\s*{_NUMBER}){{1,{_MOST}}})(?![\w])"
)
_MORE = re.compile(rf"\s*(?:,?\s*\bor\b|,?\s*\band\b|,)\s*(?P<more>{_NUMBER})(?!\s*[=(])")
_TWO = re.compile(rf"{_NUMBER}\s*(?:and|&)\s*{_NUMBER}")
_AND = re.compile(r"\s*(?:,?\s*\b(?:and|or)\b|,|;|&)\s*")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTH = "|".join(f"{month}|{month[:3]}\\.?" for month in _MONTHS) + r"|sept\.?"
_YEAR = r"(?P<{0}>[12]\d{{3}})"
_DATE = re.compile(
    rf"(?<![\w/.-])(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+(?P<month>{_MONTH})(?:,?\s+{_YEAR.format('year')})?"
    rf"|(?P<month2>{_MONTH})\s+(?:the\s+)?(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+{_YEAR.format('year2')})?"
    rf"|{_YEAR.format('y')}(?P<s>[-/.])(?P<m>\d{{1,2}})(?P=s)(?P<d>\d{{1,2}})"
    rf"|(?P<a>\d{{1,2}})(?P<t>[-/.])(?P<b>\d{{1,2}})(?P=t){_YEAR.format('yy')})(?![\w/-]|\.\d)",
    re.IGNORECASE,
)

# Disjoint intervals: each its ends, and whether they belong to it.
Bounds = frozenset[tuple[Fraction, bool, Fraction, bool]]


@dataclass(frozen=True, slots=True)
class Form:
    """One answer, in each reading that its notation has.

    bounds: as intervals. items: as numbers, `ordered` or not, in `brackets` ("" if it has none). day: year (None: any), month
    and day.
    """

    bounds: Bounds | None = None
    items: tuple[Fraction, ...] = ()
    ordered: bool = True
    brackets: str = ""
    day: tuple[int | None, int, int] | None = None

    def equals(self, said: Form) -> bool:
        """Is what was said this? A set has no order, and a list that was asked for in no brackets may stand in some."""
        if self.day is not None:
            return said.day is not None and said.day[1:] == self.day[1:] and self.day[0] in (None, said.day[0])
        if self.bounds is not None and self.bounds == said.bounds:
            return True
        if not self.items or (self.brackets and said.brackets and self.brackets != said.brackets):
            return False
        if self.ordered and said.ordered:
            return self.items == said.items
        return sorted(self.items) == sorted(said.items)


def single_form(text: str) -> Form | None:
    """The form that the whole text is, "x =" before it aside; None if it is anything else."""
    text = in_notation(plain(text)).strip(" .$")
    for whole in (text, _EQUATED.sub("", text)):
        found = list(forms(whole))
        if len(found) == 1 and found[0][:2] == (0, len(whole)):
            return found[0][2]
    return None


def forms_like(wanted: Form, text: str) -> list[tuple[int, int, Form]]:
    """The forms of the same kind in a text in one notation, as `forms` gives them."""
    return [found for found in forms(text) if (found[2].day is None) == (wanted.day is None)]


def in_notation(text: str) -> str:
    """The text with one sign for each relation."""
    for pattern, replacement in _NOTATION:
        text = pattern.sub(replacement, text)
    return text


def forms(text: str) -> Iterator[tuple[int, int, Form]]:
    """The forms in a text in one notation, with where each starts and ends."""
    atoms = sorted(
        [*_dates(text), *_bracketed(text), *_chains(text), *_named(text), *_bare(text)], key=lambda a: (a[0], -a[1])
    )
    pending: tuple[int, int, Form] | None = None
    for start, end, form in atoms:
        if pending is None:
            pending = (start, end, form)
        elif start >= pending[1]:
            joined = _joined(pending[2], form, _JOIN.fullmatch(text, pending[1], start))
            if joined is None:
                yield pending
            pending = (start, end, form) if joined is None else (pending[0], end, joined)
    if pending is not None:
        yield pending


def _joined(one: Form, two: Form, by: re.Match[str] | None) -> Form | None:
    """Intervals with "∪" or "or" between them, or what two bounds have in common; None if they don't belong together."""
    if by is None or not one.bounds or not two.bounds or (by[0].strip() != "∪" and (one.items or two.items)):
        return None
    if by["union"]:
        return Form(one.bounds | two.bounds)
    if len(one.bounds) > 1:
        return None
    ((low, low_in, high, high_in),), ((low2, low2_in, high2, high2_in),) = one.bounds, two.bounds
    left, right = max((low, not low_in), (low2, not low2_in)), min((high, high_in), (high2, high2_in))
    return Form(frozenset({(left[0], not left[1], *right)})) if left[0] < right[0] else None


def _number(text: str) -> Fraction | None:
    text = text.replace(" ", "").lstrip("+")
    if text.lstrip("-") == "∞":
        return -_INFINITE if text[0] == "-" else _INFINITE
    return single_number(text)


def _numbers(text: str) -> tuple[Fraction, ...]:
    found = [_number(part) for part in _AND.split(text)]
    return () if None in found else tuple(value for value in found if value is not None)


def _bracketed(text: str) -> Iterator[tuple[int, int, Form]]:
    for match in _BRACKETS.finditer(text):
        items, pair = _numbers(match["items"]), match["open"] + match["close"]
        interval = len(items) == 2 and items[0] < items[1] and pair in ("[]", "()", "[)", "(]", "]]", "][", "[[")
        bounds = None
        if interval:
            bounds = frozenset({(items[0], pair[0] == "[", items[1], pair[1] == "]")})
        if pair in ("[]", "()", "{}") and _INFINITE not in map(abs, items):
            yield match.start(), match.end(), Form(bounds, items, pair != "{}", pair)
        elif bounds:
            yield match.start(), match.end(), Form(bounds)


def _chains(text: str) -> Iterator[tuple[int, int, Form]]:
    """Inequalities: "0 ≤ x < 3", "x > 5"."""
    for match in _CHAIN.finditer(text):
        one, two = _number(match["low"]), _number(match["high"])
        down = match["one"] in ">≥"
        if one is None or two is None or down != (match["two"] in ">≥"):
            continue
        ends = [(one, match["one"] in "≤≥"), (two, match["two"] in "≤≥")]
        low, high = reversed(ends) if down else ends
        yield match.start(), match.end(), Form(frozenset({(*low, *high)}))
    for match in _BOUND.finditer(text):
        value = _number(match["bound"] or match["value"])
        sign = match["after"] or match["before"].translate(_TURNED)
        if value is not None:
            below = (-_INFINITE, False, value, sign == "≤")
            bounds = below if sign in "<≤" else (value, sign == "≥", _INFINITE, False)
            yield match.start(), match.end(), Form(frozenset({bounds}))


def _named(text: str) -> Iterator[tuple[int, int, Form]]:
    """ "x = 2 or x = 3", "x = 1, y = 2", "x = 2, 3", "x = ±2": values of names."""
    group: list[re.Match[str]] = []
    for match in _NAMED.finditer(text):
        if group and not _AND.fullmatch(text, group[-1].end(), match.start()):
            yield from _values(text, group)
            group = []
        group.append(match)
    if group:
        yield from _values(text, group)


def _values(text: str, group: list[re.Match[str]]) -> Iterator[tuple[int, int, Form]]:
    end, pairs = group[-1].end(), [(m["name"], v) for m in group[:_MOST] if (v := _number(m["value"])) is not None]
    if group[0]["sign"]:
        pairs += [(name, -value) for name, value in pairs]
    while len(group) == 1 and (more := _MORE.match(text, end)):
        value, end = _number(more["more"]), more.end()
        pairs += [] if value is None else [(group[0]["name"], value)]
    one_name = len({re.sub(r"[_{}\d]", "", name) for name, _ in pairs}) == 1
    if len(pairs) > 1:
        values = tuple(value for _, value in (pairs if one_name else sorted(pairs)))
        yield group[0].start(), end, Form(items=values, ordered=not one_name)


def _bare(text: str) -> Iterator[tuple[int, int, Form]]:
    for match in _BARE.finditer(text):
        either = match[0][0] == "±"
        items = _numbers(match[0].lstrip("±"))
        items += tuple(-value for value in items) if either else ()
        if items:
            yield match.start(), match.end(), Form(items=items, ordered=not either and not _TWO.fullmatch(match[0]))


def _dates(text: str) -> Iterator[tuple[int, int, Form]]:
    for match in _DATE.finditer(text):
        day = _day(match)
        if day is not None:
            yield match.start(), match.end(), Form(day=day)


def _day(match: re.Match[str]) -> tuple[int | None, int, int] | None:
    """The day that a date means; None for none, and where month and day could be either way round."""
    if match["a"]:
        one, two, year = int(match["a"]), int(match["b"]), int(match["yy"])
        readings = {(year, *pair) for pair in ((one, two), (two, one)) if _exists(year, *pair)}
        return readings.pop() if len(readings) == 1 else None
    named = match["month"] or match["month2"]
    month = 1 + [name[:3] for name in _MONTHS].index(named[:3].casefold()) if named else int(match["m"])
    year_said = match["year"] or match["year2"] or match["y"]
    day = int(match["day"] or match["day2"] or match["d"])
    return (int(year_said) if year_said else None, month, day) if _exists(int(year_said or 2000), month, day) else None


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
