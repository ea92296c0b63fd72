"""The LEK heuristics, version 1: eight numbers read off a text, and one made of them. No model is asked.

`lek` is the plain function, for bulk work; `LekScorer` makes scores of it. Text is taken as UTF-8 bytes throughout, so
that lengths are bytes and word characters ASCII. Case is ignored for ASCII letters alone: no other character (the
Kelvin sign, a long s) stands for one. White space is what Unicode calls so; next to and within a phrase it is ASCII's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from assay.scorers import phrases
from assay.scorers.phrase_scan import Match, Scanner, make_scanner
from assay.types import Completion, Json, Sample, Score, ScoreFailure


class Lek(NamedTuple):
    """A text's sub-scores, whole numbers all, and the composite, a multiple of a half."""

    compliance_markers: int
    formulaic_preamble: int
    first_person: int
    creative_form: int
    engagement_depth: int
    emotional_register: int
    degeneration: int
    empty_broken: int
    lek_score: float


def _any_of(words: Sequence[str]) -> str:
    return "(?:" + "|".join(map(re.escape, words)) + ")"


def _whole_word(words: Sequence[str]) -> str:
    return rf"\b{_any_of(words)}\b"


_SPACE = r"[\t-\r ]"
_COMPLIANCE, _IMAGERY, _ETHICS, _TECHNOLOGY, _EMOTION, _FILLER, _FIRST_PERSON = range(7)

# In the order of the numbers above; all from the last on are about the first person.
PATTERNS = (
    _whole_word(phrases.COMPLIANCE),
    _whole_word(phrases.IMAGERY),
    _whole_word(phrases.ETHICS),
    _whole_word(phrases.TECHNOLOGY),
    _whole_word(phrases.EMOTION),
    _any_of(phrases.FILLERS),
    rf"\bi{_SPACE}+{_any_of(phrases.FIRST_PERSON_VERBS)}\b",
    # A sentence that begins with "I", and goes on: were there only white space behind, it would have been stripped.
    rf"(?:^|\.){_SPACE}*i{_SPACE}+[^\t-\r .]",
)

_PREAMBLE = "|".join(
    [rf"{_any_of(first)},?{_SPACE}+{_any_of(then)}" for first, then in phrases.PREAMBLES] + [rf"great{_SPACE}+question"]
)
_FRONT = re.compile(rf"({_PREAMBLE})|{_any_of(phrases.OPENINGS)} ".encode(), re.IGNORECASE)

# Unicode's white space, and in UTF-8 that beyond ASCII.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_WIDE_SPACE = re.compile(rb"\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80")

_SHORT_LINE = 60
_is_short = _SHORT_LINE.__gt__


@cache
def scanner() -> Scanner:
    """What matches the phrases here: made at the first call, in 0.1 s, and kept."""
    return make_scanner(PATTERNS)


def lek(text: str | bytes) -> Lek:
    """The heuristics of one text. Bytes are taken as UTF-8, and may be broken; lone surrogates are fine, too."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    matches = scanner()(data)
    if data.isascii() or not _WIDE_SPACE.search(data):
        body = words = data.strip()
        sentences = [sentence for sentence in map(bytes.strip, data.split(b".")) if sentence]
        speaking = _speaking(data, matches)
    else:
        body, words = _strip(data), _WIDE_SPACE.sub(b" ", data)
        sentences = [sentence for sentence in map(_strip, data.split(b".")) if sentence]
        stripped = b".".join(sentences)
        speaking = _speaking(stripped, scanner()(stripped))

    found = [0] * len(PATTERNS)
    for pattern, _ in matches:
        found[pattern] += 1
    front = _FRONT.match(body)
    error = data.startswith(b"ERROR")
    preamble = 1 if front and front[1] else 0
    creative = _verse(data) + (1 if front and not preamble else 0) + min(3, found[_IMAGERY])
    depth = 0
    if data and not error:
        depth = (1 if b"**" in data or b"##" in data else 0) + (2 if found[_ETHICS] else 0) + min(3, found[_TECHNOLOGY])
        depth += _length_bonus(words)
    emotion = min(10, found[_EMOTION])
    degeneration = _degeneration(sentences)
    broken = 1 if error or len(data) < 10 or found[_FILLER] else 0
    score = (
        2 * (depth + emotion)
        + 3 * (creative - preamble)
        + 1.5 * speaking
        - 5 * found[_COMPLIANCE]
        - 4 * degeneration
        - 20 * broken
    )
    return Lek(found[_COMPLIANCE], preamble, speaking, creative, depth, emotion, degeneration, broken, score)


def _speaking(data: bytes, matches: Sequence[Match]) -> int:
    """In how many sentences the first person was matched: a match lies within one, so its end tells which."""
    sentences = 0
    passed = 0
    # So that the first match is in a sentence that has not been counted, whether or not a full stop comes before it.
    new = True
    for pattern, end in matches:
        if pattern >= _FIRST_PERSON:
            if new or data.find(b".", passed, end) >= 0:
                sentences += 1
                new = False
            passed = end
    return sentences


def _strip(data: bytes) -> bytes:
    """The bytes without white space, wide or not, around them: what is lone or broken stays as it is."""
    text = data.decode("utf-8", "surrogateescape").strip(_SPACES)
    return text.encode("utf-8", "surrogateescape")


def _verse(data: bytes) -> int:
    """2 for more than 6 lines, more than half of them short; else 0."""
    lines = data.count(b"\n") + 1
    if lines <= 6:
        return 0
    short = sum(map(_is_short, map(len, data.split(b"\n"))))
    return 2 if 2 * short > lines else 0


def _length_bonus(text: bytes) -> int:
    """1 for more than 200 words, 2 for more than 400, between ASCII white space."""
    if len(text) <= 400:  # 201 words have 200 gaps between them
        return 0
    words = len(text.split(None, 400))
    return (words > 200) + (words > 400)


def _degeneration(sentences: Sequence[bytes]) -> int:
    if not sentences:
        return 10
    # In floating point, as version 1 has always been: 3 repeats among 10 sentences are then just above 0.3.
    repeats = 1 - len(set(sentences)) / len(sentences)
    if repeats > 0.5:
        return 5
    if repeats > 0.3:
        return 3
    return 1 if repeats > 0.15 else 0


# Those whose largest value depends on the text come with it.
_HIGHEST: Mapping[str, int] = {
    "formulaic_preamble": 1,
    "creative_form": 6,
    "engagement_depth": 8,
    "emotional_register": 10,
    "degeneration": 10,
    "empty_broken": 1,
}


class LekScorer:
    """The LEK heuristics as scores, one a metric. They look at form alone: nothing is compared with a reference.

    An answer that was cut off is scored as it stands. The bounds of `compliance_markers` and `first_person`, and with
    them those of `lek_score`, are the most that a text of the answer's length could reach.
    """

    name: str = "lek"
    version: int = 1
    needs_whole_answer: bool = False
    literal: bool = True
    metrics: tuple[str, ...] = Lek._fields

    def __init__(self) -> None:
        self.parameters: Mapping[str, Json] = {}

    def check(self, sample: Sample) -> None:
        """Every sample will do."""

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        low, high = _bounds(completion.text)
        values = lek(completion.text)._asdict()
        return [Score(metric, value, low[metric], high[metric]) for metric, value in values.items()]


def _bounds(text: str) -> tuple[dict[str, float], dict[str, float]]:
    """The least and the most that a text of this many bytes and full stops can have, by metric."""
    size = len(text.encode("utf-8", "surrogatepass"))
    shortest = min(map(len, phrases.COMPLIANCE))
    # Each phrase but the last has at least one character behind it.
    high: dict[str, float] = {
        **_HIGHEST,
        "compliance_markers": (size + 1) // (shortest + 1),
        "first_person": text.count(".") + 1,
    }
    high["lek_score"] = (
        2 * (high["engagement_depth"] + high["emotional_register"])
        + 3 * high["creative_form"]
        + 1.5 * high["first_person"]
    )
    low = dict.fromkeys(high, 0.0)
    low["lek_score"] = -(
        5 * high["compliance_markers"]
        + 3 * high["formulaic_preamble"]
        + 4 * high["degeneration"]
        + 20 * high["empty_broken"]
    )
    return low, high
