"""Mentions of numbers, as quantities of what a probe asks for: number words, fractions and other units included."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from assay.scorers.match import single_number
from assay.scorers.number_words import scales_to_exponents, words_to_digits
from assay.scorers.probe_mentions import Mention, Piece, masked
from assay.scorers.probe_words import BESIDE_A_NUMBER
from assay.scorers.units import NAMES, names_of, unit_of

_ORDINALS = [
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
]
_TENTHS = ["twent", "thirt", "fort", "fift", "sixt", "sevent", "eight", "ninet"]
_DENOMINATORS = {word: n for n, word in enumerate(_ORDINALS, 3)} | {
    f"{t}ieth": 10 * n for n, t in enumerate(_TENTHS, 2)
}
_DENOMINATORS |= {
    f"{tens}y-{word}": 10 * n + unit
    for n, tens in enumerate(_TENTHS, 2)
    for word, unit in {"first": 1, "second": 2, **{w: u for u, w in enumerate(_ORDINALS[:7], 3)}}.items()
}
_NTHS = "|".join(
    sorted((word.replace("-", r"[\s-]") for word, n in _DENOMINATORS.items() if n > 10), key=len, reverse=True)
)

# "One" that is no number: "this one", "one of them".
_LONE_ONE = re.compile(
    rf"\bone\b(?!\s*$)(?!-)(?!\s+(?:and|hundred|thousand|half|third|quarter|in|out|(?:{NAMES})\b)"
    r"|\s+\w+(?:th|ths|rd|rds|nds)\b)",
    re.IGNORECASE | re.MULTILINE,
)
_RUN = re.compile(
    r"(?<![\w.])(?<!\d[,:/])(?:[1-9]\d{0,2}(?: \d{3})+(?![ ,.]?\d)|\.\d+"
    r"|\d+(?:(?:[.,'_:-]|\^[+-]?| ?/ ?|[eE][+-]?|\.\d+\.)\d+)*(?: \d+ ?/ ?\d+(?![\d/]))?)"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SCIENTIFIC = re.compile(r"(\d)\s?[×*·]\s?10(?:\^\{?|(?=[⁰¹²³⁴-⁹⁻]))([-\d⁰¹²³⁴-⁹⁻]+)\}?")  # 1.5 × 10³
_AFTER = re.compile(
    rf"(?P<glued>(?:{NAMES})(?![\w^²³]|/[a-z])|[^\W\d_]+|[%°$€£¢])"
    rf"|(?:[ \t]+|-)(?:of\s+)?(?:an?\s+)?(?P<unit>(?![$€£¥])(?:{NAMES})(?![\w^²³]|/[a-z]))"
    r"|[ \t]?(?P<sign>[€£¥₹₽₩₺₴฿])(?!\s?\d)|[ \t]+(?P<noun>[^\W\d_²³]+(?:[ \t][^\W\d_]+)?)|(?P<power>\s?\^|[_²³])",
    re.IGNORECASE,
)
_PARTITIVE = re.compile(r"\s+of\s+(?:(?:the|all|these|those|its|her|his|their)\s+)*", re.IGNORECASE)
_ROUNDED = re.compile(
    r"\s*≈\s*|[\s,(]*(?:(?:or|i\.e\.|that is|which is)?,?\s*(?:about|approximately|approx\.?|roughly|around))\s*",
    re.IGNORECASE,
)
_EXACTLY = re.compile(r"[\s,(]*(?:or\s+)?(?:more\s+)?(?:exactly|precisely)[\s,]*", re.IGNORECASE)
_IN_BRACKETS = re.compile(rf"\s*[(\[]\s*(?P<bracketed>{NAMES})\s*[)\]]", re.IGNORECASE)  # "53 (cm)"
_ABOUT = frozenset(("about", "approximately", "approx", "roughly", "around"))
_ARTICLES = frozenset(("the", "these", "those", "all", "his", "her", "its", "their"))
_PRONOUNS = frozenset(("them", "us", "you", ""))
_BEHIND = re.compile(r"[^\W\d_]+")
_SQUARE = re.compile(r"(?:^|[,;.:(\n⇒])\s*[^\W\d_²³]+\s*(?:[²³]|\^\s*\d)\s*[:=]\s*$")
_SIGN = re.compile(r"(?:^|[=:(,;⇒\"\n])\s*-\s?$|[^\W\d_]\s+-$")
_NUMBERED_BEFORE = re.compile(
    r"\b(?:year|page|chapter|question|problem|exercise|(?<!by )step|room|version|volume|v|no)\.?\s+$", re.IGNORECASE
)
_YEAR_BEFORE = re.compile(r"\b(?:in|since|by|until|from|before|after)\s+$", re.IGNORECASE)


def dimension_of(unit: str) -> tuple[str, Fraction] | None:
    """The kind and size of a unit, a kind's name being one of its own; None for what isn't one, such as pupils."""
    return (unit, Fraction(1)) if names_of(unit) else unit_of(unit)


@dataclass(frozen=True, slots=True)
class _Found:
    start: int
    end: int
    value: Fraction | None
    dimension: str = ""
    size: Fraction = Fraction(1)


class NumberReader:
    """Mentions of numbers.

    unit: what the target is in, "" for a mere number; others: nouns of what else is counted; beside: words that may stand
    right behind the number. Any other noun there says that something else is counted.
    """

    chains = True

    def __init__(
        self,
        target: Fraction,
        unit: str = "",
        others: Sequence[str] = (),
        tolerance: Fraction = Fraction(0),
        beside: Sequence[str] = (),
    ) -> None:
        self._target = target
        self._tolerance = tolerance
        self._others = frozenset(word.casefold() for word in others)
        self._beside = frozenset(word for words in beside for word in re.findall(r"[^\W\d_]+", words.casefold()))
        known = next((known for word in unit.split() if (known := dimension_of(word))), None)
        self._dimension, self._size = known if known else ("", Fraction(1))
        self.nouns = names_of(self._dimension) | frozenset(word.casefold() for word in unit.split())

    def read(self, text: str) -> Piece:
        text = self._digits(text)
        found = self._beside_each_other(text, list(self._composed(text)))
        return masked(text, ((f.start, f.end, self._mention(text, f)) for f in found))

    def _beside_each_other(self, text: str, found: list[_Found]) -> list[_Found]:
        """The quantities, a rounding beside what it rounds taken for that, and none where "9 of the 23" says of how many."""
        joined: set[int] = set()
        for i in range(len(found) - 1):
            one, two = found[i], found[i + 1]
            gap = text[one.end : two.start]
            if one.value is None or two.value is None:
                continue
            if _PARTITIVE.fullmatch(gap) and self._dimension != "part":
                found[i + 1] = replace(two, value=None)
            elif _ROUNDED.fullmatch(gap) and self._rounds(text, two, one):
                found[i + 1] = replace(one, start=two.start if "(" in gap else one.start, end=two.end)
                if "(" not in gap:
                    joined.add(i)
            elif _EXACTLY.fullmatch(gap) and self._rounds(text, one, two):
                found[i] = replace(two, start=one.start, end=one.end)
        return [each for i, each in enumerate(found) if i not in joined]

    def _rounds(self, text: str, rough: _Found, exact: _Found) -> bool:
        """Is a decimal the other number, rounded to its last place?"""
        decimals = re.search(r"\.(\d+)", text[rough.start : rough.end])
        place = Fraction(1, 10 ** len(decimals[1] if decimals else ""))
        known = {"", self._dimension}
        if rough.value is None or exact.value is None or not known.issuperset({rough.dimension, exact.dimension}):
            return False
        scale = rough.size if rough.dimension else self._size
        return (
            abs(rough.value * scale - exact.value * (exact.size if exact.dimension else self._size))
            <= place * scale / 2
        )

    def _digits(self, text: str) -> str:
        """The text with number words in digits, and fractions and times in one notation."""
        text = re.sub(r"\b(thousand|million),\s+(?=[a-z])", r"\1 ", text, flags=re.IGNORECASE)
        text = re.sub(r"(?<=\d)\s?\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r" \1/\2", text)
        text = re.sub(r"\\[dt]?frac\s*\{([\d,]+)\}\s*\{([\d,]+)\}", r"\1/\2", text)
        text = re.sub(r"\bUS(?=[$])", "", text)
        text = _SCIENTIFIC.sub(lambda m: f"{m[1]}e{m[2].translate(_SUPERSCRIPTS)}", text)
        text = re.sub("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]", lambda m: f" {single_number(m[0])}", text)
        text = re.sub(rf"(?<=[a-z0-9])[\s-]({_NTHS})s\b", self._divisor, text, flags=re.IGNORECASE)
        text = words_to_digits(_LONE_ONE.sub("a single", scales_to_exponents(text)))
        text = re.sub(r"\b(\d+) over (\d+)\b", r"\1/\2", text)
        text = re.sub(r"\b(\d+) and (?:a )?(\d+/\d+)", r"\1 \2", text)
        if self._dimension == "time":
            text = _times(text)
        if self._dimension == "part":
            text = re.sub(r"\b(\d+)\s+(?:chances?\s+)?(?:in|out of)\s+(?:every\s+)?(\d+)\b", r"\1/\2", text)
        return text

    @staticmethod
    def _divisor(match: re.Match[str]) -> str:
        return f" /{_DENOMINATORS['-'.join(match[1].casefold().split())]}"

    def _found(self, text: str) -> Iterator[_Found]:
        for run in _RUN.finditer(text):
            head, value = text[max(0, run.start() - 40) : run.start()], single_number(run[0])
            start, dimension, size = run.start(), "", Fraction(1)
            if (
                re.match(r"0\d+$", run[0])
                or re.search(r"[^\W\d_]-$|\b(?!US)[A-Z]{1,3}\$\s?$|\^\s?[({]?$", head)
                or _NUMBERED_BEFORE.search(head)
                or self._labelled(head)
            ):
                value = None
            money = re.search(r"([$€£¥₹₽₩₺₴฿])\s?(-?)\s?$", head)
            if money:
                dimension, size = unit_of(money[1]) or (money[1], size)
                start -= len(money[0])
                value = -value if value is not None and money[2] else value
                head = head[: -len(money[0])]
            if _SIGN.search(head):
                value, start = None if value is None else -value, start - (len(head) - head.rindex("-"))
            end, unit, stranger = self._after(text, run.end())
            unit = unit or _label_unit(head)
            if unit:
                dimension, size = unit
            elif end == run.end() and run[0].isdecimal() and _YEAR_BEFORE.search(head):  # a bare one is a year
                value = None
            yield _Found(start, end, None if stranger else value, dimension, size)

    def _labelled(self, head: str) -> bool:
        """Does a label say that what follows counts something else ("Chickens: 14")?"""
        if _SQUARE.search(head):  # a square is not the thing itself
            return True
        label = re.search(r"([^\W\d_]+)\s*[:=]\s*$", head)
        return label is not None and label[1].casefold() in self._others

    def _after(self, text: str, end: int) -> tuple[int, tuple[str, Fraction] | None, bool]:
        """Where the quantity ends, its unit, and whether what follows makes it no number of ours."""
        match = _IN_BRACKETS.match(text, end) or _AFTER.match(text, end)
        if match and "bracketed" in match.groupdict():
            return match.end(), unit_of(match["bracketed"], self._dimension), False
        if not match:
            return end, None, False
        if match["power"]:
            return end, None, True
        if re.match(r"[ap]\.?m\b", match["noun"] or match["glued"] or "", re.IGNORECASE):
            return match.end(), None, True
        if match["noun"]:
            words = match["noun"].casefold().split()
            own = words[0] in self.nouns  # what is counted belongs to the number
            after = match.start("noun") + len(words[0])
            squared = own and re.match(r"[\^²³]|/[a-z]", text[after : after + 2]) is not None
            return after if own else end, None, squared or not (own or self._harmless(text, match.start("noun")))
        name = match["glued"] or match["unit"] or match["sign"]
        # "m" is a minute where a time is asked for.
        unit = unit_of(name, self._dimension)
        if unit is None:
            return end, None, name.casefold() not in self.nouns
        if match["glued"] in ("$", "€", "£") and text[match.end() : match.end() + 1].isdigit():  # the next one's sign
            return end, None, False
        rate = re.match(r"/(?=[a-z])|\s*(?:per|squared|cubed)\b", text[match.end() : match.end() + 12])
        return match.end(), unit, bool(rate)

    def _harmless(self, text: str, start: int) -> bool:
        """Does what stands behind a number leave open what it counts, or come to our noun after an adjective or two?"""
        words = [word.casefold() for word in _BEHIND.findall(text[start : start + 60])]
        if words[0] == "or":  # "5/33, or about 15 %"
            return words[1:2] != [] and words[1] in _ABOUT
        if words[0] == "of":  # "9 of the 23 animals are rabbits"
            whole = next((word for word in words[1:] if word not in _ARTICLES), "")
            return whole in _PRONOUNS or bool((self.nouns | self._beside) & set(words[1:8]))
        if words[0] in BESIDE_A_NUMBER or words[0] in self._beside:
            return not self._others & set(words[:3]) or bool(self.nouns & set(words[:6]))
        return not self._others & set(words[:3]) and bool(self.nouns & set(words[1:3]))

    def _composed(self, text: str) -> Iterator[_Found]:
        """The quantities; "2 h 24 min" is a single one."""
        pending: _Found | None = None
        for found in self._found(text):
            if (
                pending
                and pending.value is not None
                and found.value is not None
                and pending.dimension == found.dimension != ""
            ):
                gap = text[pending.end : found.start]
                amount = found.value * found.size
                if re.fullmatch(r",?(?:\s+and)?\s*", gap) and 0 <= amount < pending.size and found.size < pending.size:
                    total = pending.value + amount / pending.size
                    pending = _Found(pending.start, found.end, total, pending.dimension, pending.size)
                    continue
            if pending:
                yield pending
            pending = found
        if pending:
            yield pending

    def _mention(self, text: str, found: _Found) -> Mention | None:
        if found.value is None or (found.dimension and found.dimension != self._dimension):
            return None
        own = found.value * found.size / self._size if found.dimension else found.value
        right = abs(own - self._target) <= self._tolerance
        return Mention(text[found.start : found.end].strip(), str(self._target if right else own), right)


def _label_unit(head: str) -> tuple[str, Fraction] | None:
    """The unit that a label names ("Hours: 2.4"); a letter alone is a name, not a unit."""
    label = re.search(rf"(?<![^\W_])({NAMES})\s*[:=]\s*$", head, re.IGNORECASE)
    return unit_of(label[1]) if label and (len(label[1]) > 1 or label[1] == "%") else None


def _times(text: str) -> str:
    """Durations such as "1h45", "1:45" and "an hour and a half" in the plain form."""
    text = re.sub(r"\b(?:an|one) hour\b", "1 hour", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(\d+) hours? and (?:a )?half\b", r"\1 1/2 hours", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(\d+) hours? and (\d+/\d+)(?! of)", r"\1 \2 hours", text, flags=re.IGNORECASE)
    text = re.sub(
        r"(?<![\w.,:])(\d+)\s?h(?:rs?|ours?)?\s?(\d{1,2})(?:\s?m(?:in(?:ute)?s?)?)?(?![\w.:])",
        _minutes,
        text,
        flags=re.IGNORECASE,
    )
    return re.sub(r"(?<![\w.,:])(\d):([0-5]\d)(?:\s?h(?:rs?|ours?)?)?(?![\w:]|\s?[ap]\.?m)", _minutes, text)


def _minutes(match: re.Match[str]) -> str:
    return f"{60 * int(match[1]) + int(match[2])} minutes"
