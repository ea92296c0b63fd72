"""Where a text mentions quantities, each number being one, whatever it counts; and where intervals, lists, sets and dates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from assay.scorers.final_answer_forms import Form, forms_like, in_notation
from assay.scorers.match import placed_numbers
from assay.scorers.number_words import words_to_digits
from assay.scorers.probe_mentions import Mention, Piece, masked
from assay.scorers.probe_words import stem
from assay.scorers.quantities import Quantity, composed, in_digits
from assay.scorers.units import NAMES, unit_of

_MONEY = re.compile(r"(?:US)?([$€£¥₹])\s?-?$")
_UNIT = re.compile(rf"(?:\s{{0,2}}|-)({NAMES})(?![\w^²³/])(?P<rate>\s+(?:per|squared|cubed)\b)?", re.IGNORECASE)
# What makes another number of it: "42 dozens", "42 pm".
_OTHER = re.compile(r"\s?(?:dozens?|[ap]\.?m\b|\(mod\b|%\w)", re.IGNORECASE)
# A number that only says for what, how long or where; it is no other answer.
_ADJUNCT = re.compile(
    r"(?<!vote )(?<!go )(?<!opt )(?<!settle )\b(?:for|in|during|within|until|every|per|on|among|across|over"
    r"|to (?:get to|reach|read|pack|buy|make))\s+"
    r"(?:(?:the|a|an|all|each|every|those|these|his|her|their|its|next|first|last|other)\s+){0,3}$",
    re.IGNORECASE,
)
_POWER = re.compile(
    rf"(?:\s{{0,2}}|-)(?:{NAMES})\s{{0,2}}(?:\^\s?\{{?[23]\}}?|[²³])", re.IGNORECASE
)  # "40 cm^2", of no known unit
_NOUN = re.compile(r"\s([^\W\d_]{3,})\b")
_SHARE = re.compile(r"\b(\d+)\s+out\s+of\s+(?:every\s+)?(\d+)\b")
_APART = 10  # of two values around "≈", the difference is at most one part in so many
_BETWEEN = re.compile(r",?(?:\s+and)?\s*")


@dataclass(frozen=True, slots=True)
class _Found:
    start: int
    end: int
    quantity: Quantity | None


class QuantityReader:
    """Mentions of quantities. Those that equal the target have the value "".

    asked: the question's words, by their stems; one of them behind a number is what it counts.
    """

    chains = True

    def __init__(self, target: Quantity, tolerance: Fraction, asked: frozenset[str] = frozenset()) -> None:
        self._target, self._tolerance, self._asked = target, tolerance, asked
        self.nouns: frozenset[str] = frozenset()

    def read(self, text: str) -> Piece:
        """The text with its quantities masked; number words are read only where digits don't say the target."""
        piece = self._read(in_digits(text))
        if not any(mention.right for mention in piece.mentions):
            piece = self._read(in_digits(words_to_digits(text)))
        return piece

    def _read(self, text: str) -> Piece:
        if self._target.value.denominator > 1:  # "3 out of 4" is 3 otherwise
            text = _SHARE.sub(r"\1/\2", text)
        text, numbers = placed_numbers(text)
        nouns = Counter(noun[1].casefold() for _, end, _ in numbers if (noun := _NOUN.match(text, end)))
        found = (self._found(text, start, end, value, nouns) for start, end, value in numbers)
        return masked(text, self._mentions(text, list(_composed(text, found))))

    def _found(self, text: str, start: int, end: int, value: Fraction | None, nouns: Counter[str]) -> _Found:
        sign, power = _MONEY.search(text, max(0, start - 5), start), _POWER.match(text, end)
        unit = None if power else _UNIT.match(text, end)
        known = unit_of(sign[1]) if sign else unit_of(unit[1]) if unit and not unit["rate"] else None
        value = None if _OTHER.match(text, end) else value
        if not (unit or power) and (noun := _NOUN.match(text, end)):
            word = noun[1].casefold()
            end = noun.end() if nouns[word] > 1 or stem(word) in self._asked else end
        end = power.end() if power else end
        quantity = None if value is None else Quantity(value, *(known or ()))
        return _Found(
            sign.start() if sign else start, (unit.end(1) if unit[1] == "%" else unit.end()) if unit else end, quantity
        )

    def _mentions(self, text: str, found: Sequence[_Found]) -> Iterator[tuple[int, int, Mention | None]]:
        right = [one.quantity for one in found if one.quantity and one.quantity.equals(self._target, self._tolerance)]
        before = _Found(0, 0, None)
        for one in found:
            same = bool(one.quantity) and (self._is_target(one.quantity, right) or self._rounds(text, before, one))
            aside = not same and _ADJUNCT.search(text, max(0, one.start - 40), one.start)
            mention = Mention(text[one.start : one.end], "" if same else str(one.quantity and one.quantity.value), same)
            yield one.start, one.end, None if aside or not one.quantity else mention
            before = one

    def _is_target(self, quantity: Quantity | None, right: Sequence[Quantity]) -> bool:
        """Is a quantity the target, or what was given for it, in another unit ("160 minutes, or 2 h 40 min")?"""
        return quantity is not None and (
            quantity.equals(self._target, self._tolerance)
            or (quantity.kind != "" and any(quantity.kind == one.kind and quantity.equals(one) for one in right[:9]))
        )

    def _rounds(self, text: str, one: _Found, two: _Found) -> bool:
        """Is the second "5.33" in "16/3 ≈ 5.33", the first being the target?"""
        if one.quantity is None or two.quantity is None or "≈" not in text[one.end : two.start]:
            return False
        near = abs(self._target.value) / _APART
        return one.quantity.equals(self._target, self._tolerance) and two.quantity.equals(self._target, near)


class FormReader:
    """Mentions of intervals, lists, sets or dates: of what is of the target's kind. The target has the value ""."""

    chains = True
    nouns: frozenset[str] = frozenset()

    def __init__(self, target: Form) -> None:
        self._target = target

    def read(self, text: str) -> Piece:
        text = in_notation(text)
        found = forms_like(self._target, text)
        return masked(text, ((start, end, self._mention(text[start:end], form)) for start, end, form in found))

    def _mention(self, shown: str, form: Form) -> Mention:
        right = self._target.equals(form)
        return Mention(shown, "" if right else shown, right)


def _composed(text: str, found: Iterable[_Found]) -> Iterator[_Found]:
    """The quantities; "2 h 24 min" is a single one."""
    pending: _Found | None = None
    for each in found:
        if pending and pending.quantity and each.quantity and _BETWEEN.fullmatch(text, pending.end, each.start):
            whole = composed([pending.quantity, each.quantity])
            if whole:
                pending = _Found(pending.start, each.end, whole)
                continue
        if pending:
            yield pending
        pending = each
    if pending:
        yield pending
