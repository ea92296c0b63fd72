"""Scorers that compare an answer with the sample's `target`, without a model's help.

Both yield the boolean metric `correct`, and say in the score's detail what they `extracted` (null: nothing).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from assay.scorers.targets import best, targets, unworked
from assay.types import Completion, Json, Sample, Score, ScoreFailure

_MINUS = "\u2212\u2013\uff0d\ufe63\u2011\u2010"  # minus sign, en dash, full-width and small minus, hyphens
_APOSTROPHES = "\u2018\u2019\u02bc\uff07"
_CURRENCY = "$€£¥₹￥＄"
_ONE_MARK = {ord(c): mark for chars, mark in ((_MINUS, "-"), (_APOSTROPHES, "'"), ("“”„", '"')) for c in chars}


class ContainsWord:
    """Does the target, or one of several, stand in the answer as whole words?

    Letter case, white space, and the forms that Unicode has for one character (full-width letters, ligatures, curly
    quotes, dashes) don't matter; accents do. What a whole word is, `_whole` says. It is a search in the text: it can't
    tell "Pyrus" from "not Pyrus" or "Pyrus or Zenda", so it suits questions that are answered by naming one thing.

    An answer that was cut off counts: a miss within the suite's `max_tokens` is a miss. Only where the cut leaves open
    whether the word went on ("12" of "123"), it is truncated.

    case_sensitive: tell "US" from "us".
    """

    name: str = "contains_word"
    version: int = 1
    needs_whole_answer: bool = False
    metrics: tuple[str, ...] = ("correct",)

    def __init__(self, case_sensitive: bool = False) -> None:
        if not isinstance(case_sensitive, bool):
            raise ValueError(f"case_sensitive must be true or false, not {case_sensitive!r}")
        self.case_sensitive = case_sensitive
        self.parameters: Mapping[str, Json] = {"case_sensitive": case_sensitive}

    def check(self, sample: Sample) -> None:
        if not all(self._folded(target).strip() for target in targets(sample)):
            raise ValueError("its target is empty")

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        text, cut = self._folded(completion.text), completion.finish_reason == "length"
        return [best(self._search(self._folded(target).strip(), text, cut) for target in targets(sample))]

    def _search(self, target: str, text: str, cut: bool) -> Score | ScoreFailure:
        undecided = False
        start = text.find(target) if target else -1
        while start >= 0:
            end = start + len(target)
            if _whole(text, start, end):
                if not (cut and _may_go_on(text, end)):
                    return Score("correct", True, detail={"extracted": text[start:end]})
                undecided = True
            start = text.find(target, start + 1)
        if undecided:
            return ScoreFailure("correct", "truncated", "the answer was cut off where the target may have gone on")
        if cut:
            return ScoreFailure("correct", "truncated", "the answer was cut off before the target came")
        return Score("correct", False, detail={"extracted": None})

    def _folded(self, text: str) -> str:
        text = _same_form(text)
        text = text if self.case_sensitive else unicodedata.normalize("NFC", text.casefold())
        return re.sub(r"\s+", " ", text)


def _same_form(text: str) -> str:
    """The text with one form for each character: NFKC, save where that changes the meaning (10² is not 102)."""
    if text.isascii():
        return text
    meaningful = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
    parts = (
        c if unicodedata.decomposition(c).startswith(meaningful) else unicodedata.normalize("NFKC", c) for c in text
    )
    text = unicodedata.normalize("NFC", "".join(parts)).replace("\u00ad", "")  # a soft hyphen is only a hint
    return text.translate(_ONE_MARK)


# Single letters and such that stand after an apostrophe in English without being words ("I'd" does not answer "D").
_TAILS = ("s", "t", "d", "m", "ll", "re", "ve")


def _whole(text: str, start: int, end: int) -> bool:
    """Does a whole word start at `start`, and one end at `end`?

    Beyond no letter, mark or digit on either side: "7" is not in "7.5", "1,007" or "-7", "C" not in "C++", "D" not in
    "I'd". In scripts that put no spaces between words (Chinese, Japanese, Thai, …) any place is a word's edge.
    """
    # A few characters tell; whole slices would make a long answer take time that grows with its square.
    target, before, after = text[start:end], text[max(0, start - 40) : start], text[end : end + 40]
    if not (_edge(before[::-1], target[0]) and _edge(after, target[-1])):
        return False
    if target[0].isdigit() and re.search(r"(?:\d[.,]|(?:^|[\s(=\[:])[-.])$", before[-2:]):
        return False
    if target[-1].isdigit() and re.match(r"[.,]\d", after):
        return False
    if _is_word(target[-1]) and re.match(r"[+#]+(?!\w)", after):
        return False
    return not (target.casefold() in _TAILS and re.search(r"\w'$", before[-2:]))


def _edge(outside: str, inside: str) -> bool:
    """Is there a word's edge between the target's outermost character and what follows it, read outwards?"""
    if outside[:1] == "_":
        # Underscores for emphasis are no part of the word; those that join words are.
        rest = outside.lstrip("_")
        return not rest or not _is_word(rest[0])
    if not outside or not _is_word(outside[0]):
        return True
    if unicodedata.category(outside[0])[0] == "M":
        return False
    return _unspaced(outside[0]) or _unspaced(inside)


def _may_go_on(text: str, end: int) -> bool:
    """Could more text have made a longer word of the one that ends at `end`?"""
    rest = text[end : end + 2]
    return not rest or (text[end - 1].isdigit() and rest in (".", ","))


def _is_word(char: str) -> bool:
    # Marks are parts of words, and so are the two invisible joiners; `\w` leaves them out.
    return unicodedata.category(char)[0] in "LMN" or char in "_\u200c\u200d"


def _unspaced(char: str) -> bool:
    scripts = ("CJK ", "HIRAGANA ", "KATAKANA", "IDEOGRAPHIC ", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")
    return not char.isascii() and unicodedata.name(char, "").startswith(scripts)


class FinalNumber:
    """Is the last number of the answer the target (or one of several), as a number? Of a worked target it is that behind ####.

    What is read as a number, `read_numbers` says.

    An answer without one is wrong; an answer that was cut off is truncated, since its last number may be half of one.

    tolerance: the largest difference that still counts as equal.
    """

    name: str = "final_number"
    version: int = 2  # 2: worked targets are read, and those without a number refused
    needs_whole_answer: bool = True
    metrics: tuple[str, ...] = ("correct",)

    def __init__(self, tolerance: float | str = 0) -> None:
        self._tolerance = exact_tolerance(tolerance)
        self.parameters: Mapping[str, Json] = {"tolerance": str(tolerance)}

    def check(self, sample: Sample) -> None:
        self._wanted(sample)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        if completion.finish_reason == "length":
            return [ScoreFailure("correct", "truncated", "the answer was cut off, perhaps within its last number")]
        wanted = self._wanted(sample)
        numbers = list(read_numbers(completion.text))
        extracted, value = numbers[-1] if numbers else (None, None)
        correct = value is not None and any(abs(value - number) <= self._tolerance for number in wanted)
        return [Score("correct", correct, detail={"extracted": extracted})]

    def _wanted(self, sample: Sample) -> list[Fraction]:
        """The targets that are numbers. Raises ValueError if none is: no answer could equal it."""
        given = targets(sample)
        wanted = [number for target in given if (number := single_number(unworked(target))) is not None]
        if not wanted:
            raise ValueError(f"its target {given[0]!r} is not one number, which its scorer needs")
        return wanted


# Longer numbers are not read: no answer means them, and exact arithmetic on them could take for ever.
_MAX_DIGITS = 1000
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?:_\d{3})+|\d{1,3}(?:'\d{3})+|\d+)"
_NUMBER = rf"(?:{_INTEGER}(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_FRACTION = re.compile(rf"({_NUMBER}) ?/ ?({_NUMBER})")
_POWER = re.compile(r"(\d+(?:\.\d+)?)\^([+-]?\d{1,4})")
# Digits, and whatever joins them to more digits. One such run is one number, or none.
_RUN = re.compile(r"\d+(?:(?:[.,'_:-]|\^[+-]?| ?/ ?|[eE][+-]?)\d+)*")
_ALONE = re.compile(rf"(?![+-]{{2}})[+-]?[{_CURRENCY}]? ?[+-]?\.?{_RUN.pattern} ?[%$]?")
_DATE_OR_VERSION = re.compile(r".*:.*|\d+([-./])\d+(?:\1\d+)+")

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_NOTATIONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\{,\}", ","),  # TeX: 1{,}234
        (r"\\([$%])", r"\1"),
        (r"(?<=\d)\s?\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r" \1/\2"),
        (r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r"\1/\2"),
        (r"(?<=\d)\s?\\(?:times|cdot)\s?(?=\d)", "×"),
        (r"(\\[A-Za-z]+)(?=[-\d])", r"\1 "),
        (r"\^\s?\{\s?([+-]?\d+)\s?\}", r"^\1"),
        (r"(?<=\d)(?: ?\^ ?|\*\*)(?=[+-]?\d)", "^"),
        (r"(?<=\d)\s?[x×·*]\s?10\^([+-]?\d+)", r"e\1"),  # 1.5 × 10^6
        (r"(?<=\d)(?:\\,|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))", ","),
    )
)
_SPACED_GROUPS = re.compile(r"(?<![\w.,/:^])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?! ?[\d/])")
_MIXED = re.compile(r"(?<![\w.,/:^])(\d{1,9}) (\d{1,9})/(\d{1,9})(?![\d/])")


def single_number(text: str) -> Fraction | None:
    """The number that the whole text is, a currency or percent sign aside; None if it is anything else."""
    text = _rewritten(text.strip())
    values = [value for _, value, _ in _numbers(text)] if _ALONE.fullmatch(text) else []
    return values[0] if len(values) == 1 else None


def exact_tolerance(tolerance: float | str) -> Fraction:
    """A scorer's parameter `tolerance` as an exact number. Raises ValueError if it is none, or below 0."""
    # A float's shortest text is what the suite's author wrote, so 0.1 is a tenth and not its nearest binary one.
    value = None if isinstance(tolerance, bool) else single_number(str(tolerance))
    if value is None or value < 0:
        raise ValueError(f"tolerance must be a number of at least 0, not {tolerance!r}")
    return value


def read_numbers(text: str) -> Iterator[tuple[str, Fraction | None]]:
    """The numbers of a text in their order, each as it was read and as a value. All arithmetic is exact.

    Read: signs (a minus between two operands is none: "5 - 3" ends in 3), "1,234,567.89", India's "12,34,567", "1 234",
    "1_234", "1'234",
    ".5", "1e6", "1.5 × 10^6", powers ("10^6"), fractions ("1/2", "½", "1 1/2"), TeX, any script's digits. Currency,
    percent signs and units are ignored: "50%" is 50, "3 million" is 3, "$1,000.50" is 1000.5.
    Passed over, not being numbers: digits that belong to a name ("x2", "GPT-4", "0x1F"), exponents of units ("m^2"),
    dates, times and versions ("v1.2.3"). Number words are not read.
    With a value of None: digits joined to what names no one number ("3-4", "5-3", "1,5", "1/0").
    """
    return ((run, value) for run, value, _ in _numbers(_rewritten(text)))


def placed_numbers(text: str) -> tuple[str, list[tuple[int, int, Fraction | None]]]:
    """The text in one notation, and where in it each of its numbers (`read_numbers`) starts and ends, with its value."""
    text = _rewritten(text)
    return text, [(end - len(run), end, value) for run, value, end in _numbers(text)]


def _numbers(text: str) -> Iterator[tuple[str, Fraction | None, int]]:
    """The numbers of a text in one notation, and where they end."""
    for match in _RUN.finditer(text):
        run, start = match[0], match.start()
        if _in_name(text, start, match.end()) or _DATE_OR_VERSION.fullmatch(run.replace(" ", "")):
            continue
        # ".5" has a leading dot, the end of "No.5" or of "wait...5" has not.
        if re.search(r"(?:^|[^\w.)\]])\.$", text[max(0, start - 2) : start]):
            run, start = "." + run, start - 1
        value = _value(run)
        if _negative(text, start):
            run, value = "-" + run, None if value is None else -value
        yield run, value, match.end()


def _rewritten(text: str) -> str:
    """The text with one notation for digits, signs, powers, fractions and groups of three digits."""
    if not text.isascii():
        text = re.sub("[⁰¹²³⁴-⁹⁺⁻]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
        text = "".join(_plain_character(char) for char in text)
        text = re.sub(r"(?<=\d)\x00", " ", text).replace("\x00", "")
    for pattern, replacement in _NOTATIONS:
        text = pattern.sub(replacement, text)
    text = _SPACED_GROUPS.sub(lambda m: m[0].replace(" ", ","), text)
    return _MIXED.sub(_improper, text)


def _plain_character(char: str) -> str:
    if char.isascii():
        return char
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    if char in _MINUS:
        return "-"
    if char in _APOSTROPHES:
        return "'"
    if unicodedata.decomposition(char).startswith("<fraction>"):
        # The mark keeps "1½" from becoming "11/2".
        return "\x00" + unicodedata.normalize("NFKC", char).replace("\u2044", "/")
    return {"\u066b": ".", "\u066c": ",", "\u2044": "/"}.get(char, char)


def _improper(match: re.Match[str]) -> str:
    whole, above, below = (int(group) for group in match.groups())
    return f"{whole * below + above}/{below}" if above < below else match[0]


def _in_name(text: str, start: int, end: int) -> bool:
    """Do the digits belong to a word, or to a power whose other part is no number?"""
    if re.compile(r"[A-Za-z]+\d|_[^\W\d]|\s?\^").match(text, end):
        return True
    head = text[max(0, start - 20) : start]
    if head[-1:] and head[-1] in _CURRENCY:
        return False
    if head.rstrip(" ").endswith("^"):
        return True
    outer = head.rstrip("_")
    if outer == head and head.endswith("-"):
        outer = head[:-1]
    return bool(outer) and _is_letter(outer[-1])


def _is_letter(char: str) -> bool:
    # Scripts without spaces put a number right after a word.
    return unicodedata.category(char)[0] in "LM" and not _unspaced(char)


def _negative(text: str, start: int) -> bool:
    """Is there a minus sign before the number that starts at `start`, rather than a subtraction, a dash or a bullet?"""
    head = text[max(0, start - 40) : start]
    head = re.sub(rf"[{_CURRENCY}] ?$", "", head)
    if re.search(r"[=≈]\s*-\s*$", head):
        return True
    if not head.endswith("-"):
        return False
    before = head[:-1]
    if before and (before[-1] in ")]}%-" or _is_letter(before[-1]) or before[-1].isdigit()):
        return False
    return not re.search(r"[\d)\]%][ \t]+$", before)


def _value(run: str) -> Fraction | None:
    try:
        if found := _FRACTION.fullmatch(run):
            above, below = _exact(found[1]), _exact(found[2])
            return above / below if above is not None and below else None
        if found := _POWER.fullmatch(run):
            base, exponent = _exact(found[1]), int(found[2])
            # The digits of the result, about, so that no small text stands for a huge number.
            if base is None or len(found[1]) * abs(exponent) > _MAX_DIGITS:
                return None
            return Fraction(base**exponent)
        return _exact(run) if re.fullmatch(_NUMBER, run) else None
    except ZeroDivisionError:  # 0^-1
        return None


def _exact(number: str) -> Fraction | None:
    if len(number) > _MAX_DIGITS:
        return None
    try:
        value = Decimal(re.sub("[,_']", "", number))
    except InvalidOperation:  # an exponent beyond what decimals can hold
        return None
    return Fraction(value) if abs(value.adjusted()) <= _MAX_DIGITS else None
