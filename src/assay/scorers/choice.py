"""Multiple choice: which of the options, named by letter or by their text, does an answer choose?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from assay.scorers.exact import expected_answer
from assay.scorers.extraction import passage, without_question
from assay.scorers.final_answer import normal_text
from assay.types import Completion, Json, Sample, Score, ScoreFailure

LETTERS = "ABCDEFGHIJ"

# A letter that can be nothing but an option's: in brackets, with a mark behind it, after "option", or alone.
_MARKED = re.compile(
    r"(?<![\w])\((?P<round>[A-Ja-j])\)|(?<!\w)\[(?P<square>[A-J])\]"
    r"|\b(?:[Oo]ption|[Cc]hoice|[Ll]etter)\s+[(\"'*]*(?P<named>[A-Ja-j])(?![\w'’])"
    r"|^\s*(?P<first>[A-Ja-j])(?=[).:](?:\s|$)|\s*$)"
)
# One that stands at the passage's start or end, or before a mark. "A" and "I" are words, too, and need the mark.
_STANDING = re.compile(
    r"(?<![\w'’.(-])(?P<letter>[B-HJ])(?![\w'’+#(-])|(?<![\w'’.(-])(?P<word>[AI])"
    r"(?=\s*(?:[,.;:!)]|$)|\s+(?:is|was)\s+(?:the\s+)?(?:right|correct|best|true|answer))"
)
# Two or more letters side by side.
_ROW = re.compile(r"(?<![\w'’])\(?[A-J]\)?(?:[\s,;/&]+(?:or\s|and\s)?\s*\(?[A-J]\)?(?![\w'’]))+")
_EITHER = re.compile(r"\b(?:or|either|both|neither|and)\b", re.IGNORECASE)
_REFUSED = re.compile(r"\b(?:not|isn't|wrong|incorrect|cannot|can't|don't know|eliminate|rule out)\b", re.IGNORECASE)
_ASIDE = re.compile(r"[,;]\s|\s(?:because|since|as|so|which|where|given|rather|instead|not)\b|\s[—–-]\s")


def choose(text: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that the text chooses in the end; None if that is none, several, or left open.

    options: each letter's text, "" where it isn't known.
    """
    if _lists_options(text, options):
        text = _after_options(text)
    if re.search(r"^\W*[A-J]\W*\n\W*[A-J]\W*\Z", text, re.MULTILINE):
        return None
    statement = passage(text, lambda part: bool(_letters(part, options)) or _by_text(part, options) is not None)
    if statement is None:
        return None
    same = _by_text(statement, options)
    if same is not None:
        return same
    head = _ASIDE.split(statement, maxsplit=1)[0]
    head = head if _letters(head, options) else statement
    found = _letters(head, options)
    # Either several letters, or words that take back the only one.
    if len(found) != 1 or _ROW.search(statement) or _REFUSED.search(head):
        return None
    others = _letters(statement, options) - found
    return None if others and _EITHER.search(statement) else found.pop()


def _letters(part: str, options: Mapping[str, str]) -> set[str]:
    """The options that a passage names: by marked letters, else by letters that merely stand there."""
    marked = {next(filter(None, m.groups())).upper() for m in _MARKED.finditer(part)}
    standing = {m["letter"] or m["word"] for m in _STANDING.finditer(part)}
    return (marked | standing) & options.keys()


def _by_text(part: str, options: Mapping[str, str]) -> str | None:
    """The option whose text the passage is, with or without its letter in front, or what its last verb leads to."""
    text = normal_text(part)
    tail = normal_text(re.split(r"\b(?:is|are|was|were|choose|pick|be)\b", text)[-1])
    for letter, option in options.items():
        wanted = normal_text(option)
        if wanted and any(
            re.fullmatch(rf"(?:\(?{letter.lower()}(?:\)|\.|:|\)\.)?\s*)?{re.escape(wanted)}", said)
            for said in (text, tail)
        ):
            return letter
    return None


def _option_lines(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"^[\s*_>-]*\(?([A-Ja-j])[).:][*_]*(?=\s|$).*$", text, re.MULTILINE))


def _lists_options(text: str, options: Mapping[str, str]) -> bool:
    """Does the text go through the options one by one, as the question did?"""
    return len({match[1].upper() for match in _option_lines(text)} & options.keys()) > 1


def _after_options(text: str) -> str:
    """What follows the listed options: the list itself chooses none."""
    return text[_option_lines(text)[-1].end() :]


class Choice:
    """Does the answer choose the right option?

    The reference's `correct_answer` (or `target`) is a letter from A to J, or an option's text; `choices`, if it is
    there, holds the options' texts, as a list or by letter, so that an answer may also give the text. A letter counts
    where it can be nothing else: the article "A" and the pronoun "I" do not. Several letters, or a list of all, choose none.

    An answer that was cut off counts where a letter was chosen before its last word; else it is truncated.
    """

    name: ClassVar[str] = "choice"
    version: ClassVar[int] = 1
    needs_whole_answer: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("correct",)

    def __init__(self) -> None:
        self.parameters: Mapping[str, Json] = {}

    def check(self, sample: Sample) -> None:
        _right_letter(sample, options_of(sample))

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        options = options_of(sample)
        expected = _right_letter(sample, options)
        text, cut = without_question(completion.text, sample.prompt), completion.finish_reason == "length"
        chosen = choose(re.sub(r"\S+\s*$", "", text) if cut else text, options)
        if cut and chosen is None:
            return [ScoreFailure("correct", "truncated", "the answer was cut off before it chose an option")]
        return [Score("correct", chosen == expected, detail={"extracted": chosen, "expected": expected})]


def options_of(sample: Sample) -> dict[str, str]:
    """The options' texts by letter; A to J without texts where the reference has no `choices`. Raises ValueError."""
    choices = sample.reference.get("choices")
    if choices is None:
        return dict.fromkeys(LETTERS, "")
    if isinstance(choices, Mapping):
        given = {str(letter).strip().upper(): text for letter, text in choices.items()}
    elif isinstance(choices, Sequence) and not isinstance(choices, str) and len(choices) <= len(LETTERS):
        given = dict(zip(LETTERS, choices, strict=False))
    else:
        raise ValueError(f"its choices must be a list of at most {len(LETTERS)} texts, or texts by letter")
    if len(given) < 2 or not given.keys() <= set(LETTERS):
        raise ValueError(f"its choices must be at least two, with letters from A to {LETTERS[-1]}")
    if not all(isinstance(text, (str, int, float)) for text in given.values()):
        raise ValueError("its choices must be texts or numbers")
    return {letter: str(text) for letter, text in given.items()}


def _right_letter(sample: Sample, options: Mapping[str, str]) -> str:
    expected = expected_answer(sample)
    letter = expected.strip().strip("().:").upper()
    if letter in options:
        return letter
    same = [letter for letter, text in options.items() if text and normal_text(text) == normal_text(expected)]
    if len(same) != 1:
        raise ValueError(f"its answer {expected!r} is not one of the options {', '.join(options)}, nor the text of one")
    return same[0]
