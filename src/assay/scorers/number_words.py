"""English number words: "twenty-one" is 21, "two and a half" is 2 1/2, "three quarters" is 3/4."""

from __future__ import annotations

import re

_TO_NINETEEN = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_UNITS = {word: value for value, word in enumerate(_TO_NINETEEN)}
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    **{"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8},
    **{"ninth": 9, "tenth": 10},
}
_ANY = "|".join(sorted([*_UNITS, *_TENS, "hundred", "dozen", *_SCALES], key=len, reverse=True))
_PART = "|".join(_PARTS)
_WHOLE = rf"(?:an?\s+(?=hundred|dozen|thousand|million|billion|trillion))?(?:{_ANY})(?:(?:\s+and\s+|[\s-]+)(?:{_ANY}))*"
_WORDS = re.compile(
    rf"(?<![\w'-])(?:(?P<whole>{_WHOLE})\s+and\s+(?P<some>an?|{_ANY})[\s-]+(?P<part>halves|(?:{_PART})s?)"
    rf"|(?P<count>an?|{_ANY})[\s-]+(?P<of>halves|(?:{_PART})s?)|(?P<number>{_WHOLE})|(?P<half>half\s+an?))(?![\w'-])",
    re.IGNORECASE,
)
_SCALED = re.compile(
    r"(?<![\w.,])(\d+(?:,\d{3})*(?:\.\d+)?)\s(hundred|thousand|million|billion|trillion)\b", re.IGNORECASE
)
_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}


def words_to_digits(text: str) -> str:
    """The text with its number words in digits. Words that make no one number ("two three") stay as they are."""
    return _WORDS.sub(_digits, text)


def scales_to_exponents(text: str) -> str:
    """The text with "3 million" as 3e6."""
    return _SCALED.sub(lambda m: f"{m[1].replace(',', '')}e{_POWERS[m[2].lower()]}", text)


def _digits(match: re.Match[str]) -> str:
    if match["half"]:
        return "1/2"
    if match["of"]:
        return f"{_small(match['count'])}/{_divisor(match['of'])}"
    whole = _value(match["whole"] or match["number"])
    if whole is None:
        return match[0]
    return f"{whole} {_small(match['some'])}/{_divisor(match['part'])}" if match["part"] else str(whole)


def _small(word: str) -> int:
    word = word.lower()
    return 1 if word in ("a", "an") else _value(word) or 0


def _divisor(word: str) -> int:
    word = word.lower()
    return 2 if word == "halves" else _PARTS[word.removesuffix("s")]


def _value(words: str) -> int | None:
    """What the words stand for, by the usual grammar: units after tens, hundreds after units, larger scales first."""
    total = group = 0
    room = 10**3  # what comes next in this group must be below, so that "two three" is none
    ceiling = 10**15
    for word in re.split(r"[\s-]+", words.lower()):
        if word in ("and", "a", "an"):
            continue
        value = _UNITS.get(word, _TENS.get(word))
        if value is not None:
            if value >= room or (value == 0 and words.lower() != "zero"):
                return None
            group += value
            room = 10 if value >= 20 else 1
        elif word in ("hundred", "dozen"):
            # "Fifteen hundred" is said, "twenty hundred" isn't.
            if group > 99 or (group >= 10 and (word == "dozen" or group % 10 == 0)) or (word == "dozen" and total):
                return None
            group = (group or 1) * (100 if word == "hundred" else 12)
            room = 100 if word == "hundred" else 1
        else:
            scale = _SCALES[word]
            if scale >= ceiling:
                return None
            total += (group or 1) * scale
            group, room, ceiling = 0, 10**3, scale
    return total + group
