"""Mentions of a question's options: by their letters, or by their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from assay.scorers.probe_mentions import Mention, Piece, masked
from assay.scorers.probe_text import plain_text

# "B) Paris" at the start of a line, which plain text would take for the numbering of a list.
_LISTED = re.compile(r"^(?P<before>[ \t*_>#|-]*)\(?(?P<letter>[A-Ja-j])[).:](?P<after>[*_]*)(?=\s|$)", re.MULTILINE)
# Letters that can be nothing but options.
_MARKED = (
    r"(?i:\b(?:option|choice|letter)\s+[(\[\"']*(?P<named>[A-J])[)\]\"']*(?![\w'.-]))"
    r"|(?<![\w(])\((?P<round>[A-Ja-j])\)|(?<!\w)\[(?P<square>[A-J])\]|(?<!\w)[\"'](?P<quoted>[A-J])[\"'](?!\w)"
)
# Capitals that stand alone. "A" and "I" are words, too: they need an end, a mark or a verb behind them.
_ALONE = (
    r"(?<![\w'.(°-])(?P<letter>[B-HJ])(?![\w'+#(-]|\.\w)"
    r"|(?<![\w'.(-])(?P<word>[AI])(?=\s*(?:[.;:!)}/|\]\"✓✔✅❌✗]|,(?!\s*too)|$)|\s+(?:-|—|⇒)"
    r"|\s+(?i:because|since|is|was|and|or|fits|rather|instead|it is)\b)"
)
_SMALL = r"(?:(?<=answer is )|(?<=answer: )|^\s*)(?P<small>[a-j])(?=\s*[.)]?\s*$)"
_LETTER = f"{_MARKED}|{_ALONE}|{_SMALL}"


def option_lines(text: str) -> str:
    """The text with the letters at the starts of lines so written that they number nothing: "B) x" is "option B: x"."""
    return _LISTED.sub(lambda m: f"{m['before']}option {m['letter'].upper()}{m['after']}:", text)


class LetterReader:
    """Mentions of options by letter."""

    chains = False
    nouns: frozenset[str] = frozenset()

    def __init__(self, options: Mapping[str, str], chosen: str) -> None:
        self._chosen = chosen
        # "B (Paris)", "B: Paris", "Paris (B)": an option's text belongs to its letter.
        words = {letter: _words(text) for letter, text in options.items()}
        self._behind = {
            letter: re.compile(_BEHIND.format(words=text or "(?!)"), re.I) for letter, text in words.items()
        }
        before = "|".join(
            rf"{text}\s*[(\[]\s*(?P<b{letter}>{letter})\s*[)\]]" for letter, text in words.items() if text
        )
        self._letter = re.compile(f"(?i:{before})|{_LETTER}" if before else _LETTER, re.MULTILINE)

    def read(self, text: str) -> Piece:
        found, end = [], 0
        for match in self._letter.finditer(text):
            letter = next(filter(None, match.groups())).upper()
            if letter in self._behind and match.start() >= end:
                named = self._behind[letter].match(text, match.end())
                end = named.end() if named else match.end()
                found.append((match.start(), end, Mention(match[0], letter, letter == self._chosen)))
        return masked(text, found)


# An option's text behind its letter, if the statement ends with it or goes on to judge it.
_BEHIND = (
    r"[).:,]?\s*(?:[-—]\s+)?[(\"']?(?:(?:the|an?)\s+)?{words}[\"')]?"
    r"(?=\s*(?:[.,;:!)(—*]|-\s|$|\n)|\s+(?:is|was)\s+(?:the\s+)?(?:correct|right|best|true|answer))"
)


def _words(text: str) -> str:
    return r"\s+".join(map(re.escape, without_article(plain_text(text)).rstrip(".;,").split()))


def without_article(text: str) -> str:
    return re.sub(r"^\s*(?:the|an?)\s+", "", text, flags=re.IGNORECASE).strip()


_ASKED = re.compile(r"^[ \t]*\(?([A-J])[).:][ \t]+(\S.*?)[ \t]*$", re.MULTILINE)


def options_asked(question: str) -> dict[str, str]:
    """The options that a question lists line by line, from A on: the last such list; empty if there is none."""
    found: dict[str, str] = {}
    for match in _ASKED.finditer(question):
        if match[1] == "A":
            found = {}
        if match[1] == chr(ord("A") + len(found)):
            found[match[1]] = match[2].rstrip(" .;,")
    return found if len(found) > 1 else {}
