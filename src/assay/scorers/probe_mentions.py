"""Where a text mentions something that could be the answer: marks in the text's place of each, and what they stand for.

A reader of one kind of answer (numbers, choices, patterns) replaces every mention by one character, so that what is said
about it can be read without knowing what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# A mention, and what is of the kind that is asked for but can't be an answer: another unit, a part of a date.
MENTION = "\ue000"
ASIDE = "\ue001"


@dataclass(frozen=True, slots=True)
class Mention:
    """shown: as it was read. value: equal for mentions that mean the same. right: it is the target."""

    shown: str
    value: str
    right: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """Text with one `MENTION` for each of `mentions`, in their order."""

    text: str
    mentions: tuple[Mention, ...]

    def cut(self, start: int, end: int) -> Piece:
        first = self.text.count(MENTION, 0, start)
        return Piece(self.text[start:end], self.mentions[first : first + self.text.count(MENTION, start, end)])

    def split(self, edges: re.Pattern[str]) -> list[Piece]:
        """The pieces between the places where `edges` matches; empty ones are left out."""
        pieces, position, used = [], 0, 0
        for start, end in [*((m.start(), m.end()) for m in edges.finditer(self.text)), (len(self.text),) * 2]:
            text = self.text[position:start]
            count = text.count(MENTION)
            if text.strip():
                pieces.append(Piece(text, self.mentions[used : used + count]))
            used += self.text.count(MENTION, position, end)
            position = end
        return pieces


class Reader(Protocol):
    """Finds the mentions of one kind. chains: steps lead to the answer, so a later statement replaces an earlier one."""

    @property
    def chains(self) -> bool: ...
    @property
    def nouns(self) -> frozenset[str]:
        """Words (in lower case) that may stand beside an answer without adding anything: its unit."""

    def read(self, text: str) -> Piece: ...


def masked(text: str, found: Iterable[tuple[int, int, Mention | None]]) -> Piece:
    """The text with each span replaced; those without a mention are asides. Spans are in order and apart."""
    parts, mentions, position = [], [], 0
    for start, end, mention in found:
        parts += [text[position:start], ASIDE if mention is None else MENTION]
        if mention is not None:
            mentions.append(mention)
        position = end
    return Piece("".join(parts) + text[position:], tuple(mentions))


class ChoiceReader:
    """Mentions of the words or names that the answer is one of.

    forms, patterns: by choice, the words and the regular expressions that stand for it. A longer form wins.
    """

    chains = False
    nouns: frozenset[str] = frozenset()

    def __init__(
        self, forms: Mapping[str, Sequence[str]], target: str, patterns: Mapping[str, str] | None = None
    ) -> None:
        self._target = target
        self._choices: dict[str, str] = {}
        alternatives: list[tuple[int, str]] = []
        for choice, words in forms.items():
            for form in words:
                alternatives.append((len(form), self._named(choice, _flexible(form))))
        for choice, pattern in (patterns or {}).items():
            alternatives.append((1000, self._named(choice, pattern)))
        ordered = "|".join(pattern for _, pattern in sorted(alternatives, key=lambda a: -a[0]))
        self._pattern = re.compile(rf"(?<![\w])(?<!\w-)(?:{ordered})(?!\w|-\w)", re.IGNORECASE)

    def _named(self, choice: str, pattern: str) -> str:
        group = f"c{len(self._choices)}"
        self._choices[group] = choice
        return f"(?P<{group}>{pattern})"

    def read(self, text: str) -> Piece:
        return masked(text, ((m.start(), m.end(), self._mention(m)) for m in self._pattern.finditer(text)))

    def _mention(self, match: re.Match[str]) -> Mention:
        choice = self._choices[match.lastgroup or ""]
        return Mention(match[0], choice, choice == self._target)


class PatternReader:
    """Mentions of whatever has the answer's shape, such as a code of a letter and a number. White space is ignored."""

    chains = True
    nouns: frozenset[str] = frozenset()

    def __init__(self, pattern: str, target: str) -> None:
        self._pattern = re.compile(rf"(?<![\w])(?:{pattern})(?!\w)", re.IGNORECASE)
        self._target = _squeezed(target)

    def read(self, text: str) -> Piece:
        return masked(text, ((m.start(), m.end(), self._mention(m[0])) for m in self._pattern.finditer(text)))

    def _mention(self, shown: str) -> Mention:
        return Mention(shown, _squeezed(shown), _squeezed(shown) == self._target)


# Punctuation follows a "no" that is an answer; a noun follows the other one ("no bird").
# "Yes, that's right" confirms what was said, whatever that was.
_YES = r"(?:yes|yep|yeah)(?!,? (?:that|this|it)(?:'s| is| looks)? (?:right|correct|consistent|holds|checks))"
_NO = (
    r"(?:no way(?=\s*[.!,]|$)|no|nope)(?=\s*(?:[^\w\s']|'(?!\w)|[^\x00-\x7f]|$)|[ \t]*\n"
    r"|\s+(?:because|since|as|if|when|unless|it|they|this|that|is|was|rather|not|but|(?:or|and)\s+yes)\b)"
)
_OPEN = (
    r"(?:cannot|can't|could not|can not) be (?:determined|known|decided|inferred|concluded)|not enough information"
    r"|impossible to (?:say|tell|know|determine)|(?:cannot|can't) (?:say|tell|know)|undetermined|undecidable"
)


def yes_no_reader(forms: Mapping[str, Sequence[str]], target: str) -> ChoiceReader:
    """Mentions of yes, of no, of what amounts to them by `forms`, and of leaving the question open."""
    return ChoiceReader(forms, target, {"yes": _YES, "no": _NO, "undetermined": _OPEN})


def _flexible(form: str) -> str:
    return r"\s+".join(re.escape(word) for word in form.split())


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text).casefold()
