"""Multiple choice: which of the options, named by letter or by their text, does an answer choose?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from assay.scorers.exact import expected_answers
from assay.scorers.extraction import last_question, passage, said_of
from assay.scorers.final_answer import normal_text
from assay.scorers.final_answer_beside import first_turn
from assay.scorers.option_mentions import LetterReader, option_lines, options_asked, without_article
from assay.scorers.probe_doubt import doubted
from assay.scorers.probe_mentions import ChoiceReader, Mention
from assay.scorers.probe_text import plain_text
from assay.scorers.probe_words import Vocabulary
from assay.scorers.quantities import plain
from assay.types import Completion, Json, Sample, Score, ScoreFailure

LETTERS = "ABCDEFGHIJ"

# A letter that can be nothing but an option's: in brackets or quotes, with a mark behind it, after "option", or alone.
_MARKED = re.compile(
    r"(?<![\w])\((?P<round>[A-Ja-j])\)|(?<!\w)\[(?P<square>[A-J])\]|(?<!\w)['\"‘“](?P<quoted>[A-J])['\"’”](?!\w)"
    r"|(?i:\b(?:option|choice|letter)\s+[(\"'*]*(?P<named>[A-J])(?![\w'’]))"
    r"|^\s*(?P<first>[A-Ja-j])(?=[).:](?:\s|$)|\s*$)"
)
# One that stands at the passage's start or end, or before a mark. "A" and "I" are words, too, and need the mark.
_STANDING = re.compile(
    r"(?<![\w'’.(°-])(?P<letter>[B-HJ])(?![\w'’+#(-])|(?<![\w'’.(-])(?P<word>[AI])"
    r"(?=\s*(?:[,.;:!)}/<|✅✓✔☑]|$)|\s+(?:[–—-]\s|(?:because|since|rather|instead|fits|it is)\b"
    r"|(?:is|was)\s+(?:the\s+)?(?:right|correct|best|better|true|answer)))"
)
# Two or more letters side by side.
_IN_ROW = r"\(?(?:[B-HJ]|[AI](?!\s+(?!and\b|or\b)[a-z]))\)?"
_ROW = re.compile(rf"(?<![\w'’]){_IN_ROW}(?:[\s,;/&]+(?:or\s|and\s)?\s*{_IN_ROW}(?![\w'’]))+")
_EITHER = re.compile(r"\b(?:or|either|both|neither|and)\b", re.IGNORECASE)
_REFUSED = re.compile(r"\b(?:not|isn't|wrong|incorrect|cannot|can't|don't know|eliminate|rule out)\b", re.IGNORECASE)
_ASIDE = re.compile(
    r"[,;:]\s|\s(?:because|since|as|so|which|where|given|rather|instead|not(?=\s+\(?[A-J]\b))\b|\s[—–-]\s"
)
# Reasons name other options without offering them.
_REASON = re.compile(r"\s(?:because|since|as|given|which|where|whereas|while|rather than|instead of)\b", re.IGNORECASE)
_COMPARED = re.compile(r"^\W*(?:unlike|between|compared (?:to|with)|in contrast to|of)\s[^,]{1,40},", re.IGNORECASE)
# "Not A, so B", "torn between A and B, but B", "without A and B we are left with C": what counts is what follows.
_TURN = re.compile(
    r"[,;]\s+(?:it's|it is)\s|[,;]?\s+(?:but|so|therefore|thus|hence|left with|leaves|leaving)\s", re.IGNORECASE
)
_TICK = re.compile(r"[✅✓✔☑]|(?<!not )\bcorrect\b", re.IGNORECASE)
_OPTION_LINE = re.compile(r"^[ \t*_>#-]*\(?([A-Ja-j])[).:][*_]*(?=\s|$).*$", re.MULTILINE)
_LONGEST = 2000  # characters of a statement; what comes behind them chooses nothing
_SHORTEST = 3  # characters of an option's text that is looked for within a sentence


def choose(text: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that the text chooses in the end; None if that is none, several, or left open.

    options: each letter's text, "" where it isn't known.
    """

    def leads(first: str, rest: str) -> bool:
        return _alone(first, options) and bool(rest) and not _alone(rest.partition("\n")[0], options)

    listed = _listed(text, options)
    first, _, rest = text.strip().partition("\n")
    if listed and not leads(first, rest.lstrip()):
        # The list itself chooses none.
        text = text[: listed[0].start()] + "\n" + text[listed[-1].end() :]
    last = [line for line in text.split("\n") if line.strip()][-2:]
    if len({re.sub(r"\W", "", line) for line in last}) > 1 and all(re.fullmatch(r"\W*[A-J]\W*", line) for line in last):
        return None
    statement = passage(text, lambda part: bool(_letters(part, options)) or _by_text(part, options) is not None, leads)
    if statement is not None:
        return _by_text(statement, options) or _by_letter(_turned(plain(statement[:_LONGEST]), options), options)
    within = passage(text, lambda part: bool(_within(part, options)))
    if within is not None:
        found = _within(within, options)
        return found.pop() if len(found) == 1 and not _REFUSED.search(within) else None
    ticked = [line[1].upper() for line in listed if _TICK.search(line[0]) and "❌" not in line[0]]
    return ticked[0] if len(ticked) == 1 else None


def _by_letter(statement: str, options: Mapping[str, str]) -> str | None:
    """The only letter that a statement offers."""
    for option in options.values():  # which may hold a "not" of its own
        if len(option) < _SHORTEST:
            continue
        statement = re.sub(rf"(?<!\w){re.escape(option)}(?!\w)", " ", statement, flags=re.IGNORECASE)
    statement = _REASON.split(_COMPARED.sub("", statement), maxsplit=1)[0]
    head = _ASIDE.split(statement, maxsplit=1)[0]
    head = head if _letters(head, options) else statement
    found = _letters(head, options)
    # Either several letters, or words that take back the only one.
    if len(found) != 1 or _ROW.search(statement) or _REFUSED.search(head):
        return None
    others = _letters(statement, options) - found
    return None if others and _EITHER.search(statement) else found.pop()


def _turned(statement: str, options: Mapping[str, str]) -> str:
    """What a statement turns to in the end, where other options were named before that."""
    for turn in reversed(list(_TURN.finditer(statement))):
        before = statement[: turn.start()]
        if _letters(statement[turn.end() :], options) and (_letters(before, options) or _REFUSED.search(before)):
            return statement[turn.end() :]
    return statement


def _letters(part: str, options: Mapping[str, str]) -> set[str]:
    """The options that a passage names: by marked letters, else by letters that merely stand there."""
    part = plain(part)
    marked = {next(filter(None, m.groups())).upper() for m in _MARKED.finditer(part)}
    standing = {m["letter"] or m["word"] for m in _STANDING.finditer(part)}
    return (marked | standing) & options.keys()


def _by_text(part: str, options: Mapping[str, str]) -> str | None:
    """The option whose text the passage is, with or without its letter in front, or what its last verb leads to."""
    text = normal_text(part)
    tail = normal_text(re.split(r"['’]s\b|\b(?:is|are|was|were|choose|pick|be|equals)\b|=", text)[-1])
    for letter, option in options.items():
        wanted = normal_text(option)
        if wanted and any(
            re.fullmatch(rf"(?:\(?{letter.lower()}(?:\)|\.|:|\)\.)?\s*)?{re.escape(wanted)}", said)
            for said in (text, tail)
        ):
            return letter
    return None


def _within(part: str, options: Mapping[str, str]) -> set[str]:
    """The options whose texts stand in a passage, as whole words and not within another option's text."""
    text = normal_text(part)
    wanted = {letter: normal_text(option) for letter, option in options.items()}
    found = set()
    for letter, option in sorted(wanted.items(), key=lambda item: -len(item[1])):
        if len(option) >= _SHORTEST and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text):
            found.add(letter)
            text = re.sub(rf"(?<!\w){re.escape(option)}(?!\w)", " ", text)
    return found


def _alone(line: str, options: Mapping[str, str]) -> bool:
    """Is a line nothing but an option: its letter, its text, or a letter with a few words behind it?"""
    line = re.sub(r"[*_`#]", "", line).strip()
    return (
        bool(re.fullmatch(r"\W*[A-Ja-j]\W*", line))
        or (bool(_OPTION_LINE.match(line)) and len(line.split()) <= 8)
        or _by_text(line, options) is not None
    )


def _listed(text: str, options: Mapping[str, str]) -> list[re.Match[str]]:
    """The lines in which a text goes through the options one by one, as the question did; up to the first repeat."""
    lines: list[re.Match[str]] = []
    for line in _OPTION_LINE.finditer(text):
        if line[1].upper() in {earlier[1].upper() for earlier in lines}:
            break
        if line[1].upper() in options:
            lines.append(line)
    return lines if len(lines) > 1 else []


def _named(form: str) -> bool:
    return len(form) > 1 or form.isdigit()


def _stands_by(text: str, letter: str, options: Mapping[str, str], question: str) -> bool:
    """Does the text say plainly that it chooses the option, and not take that back?"""
    text = plain_text(option_lines(text))
    chosen = Mention(letter, letter, True)
    letters = LetterReader(options, letter).read(text)
    if chosen.value in {mention.value for mention in letters.mentions}:
        return not doubted(letters, chosen, Vocabulary(plain_text(question), options.values(), (), ()))
    forms = {each: (form,) for each, words in options.items() if _named(form := without_article(plain_text(words)))}
    return letter in forms and not doubted(ChoiceReader(forms, letter).read(text), chosen, None)


class Choice:
    """Does the answer choose the right option?

    The reference's `correct_answer` (or `target`) is a letter from A to J, or an option's text; `choices`, if it is
    there, holds the options' texts, as a list or by letter, so that an answer may also give the text. A letter counts
    where it can be nothing else: the article "A" and the pronoun "I" do not. Several letters, or a list of all, choose none.

    An answer that was cut off counts where a letter was chosen before its last word; else it is truncated.
    """

    name: str = "choice"
    version: int = 3
    needs_whole_answer: bool = False
    metrics: tuple[str, ...] = ("correct",)

    def __init__(self) -> None:
        self.parameters: Mapping[str, Json] = {}

    def check(self, sample: Sample) -> None:
        _right_letter(sample, options_of(sample))

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        options = options_of(sample)
        expected = _right_letter(sample, options)
        said = said_of(completion.text, sample.prompt)
        text = first_turn(said)
        cut = completion.finish_reason == "length" and text == said
        chosen = choose(re.sub(r"\S+\s*$", "", text) if cut else text, options)
        if chosen is not None and not _stands_by(text, chosen, options, last_question(sample.prompt)):
            chosen = None
        if cut and chosen is None:
            return [ScoreFailure("correct", "truncated", "the answer was cut off before it chose an option")]
        return [Score("correct", chosen == expected, detail={"extracted": chosen, "expected": expected})]


def poses_choice(reference: Mapping[str, Json]) -> bool:
    """Do a sample's reference fields make it multiple choice: `choices` and an answer, or a letter for an answer?"""
    answer = reference.get("correct_answer", reference.get("target"))
    if answer is None or reference.get("choices") is not None:
        return answer is not None
    return isinstance(answer, str) and answer.strip().strip("().:").upper() in tuple(LETTERS)


def options_of(sample: Sample) -> dict[str, str]:
    """The options' texts by letter; A to J without texts where the reference has no `choices`. Raises ValueError."""
    choices = sample.reference.get("choices")
    if choices is None:
        asked = options_asked(last_question(sample.prompt))
        letter = expected_answers(sample)[0].strip().strip("().:").upper()
        return asked if letter in asked else dict.fromkeys(LETTERS, "")
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
    expected, *others = expected_answers(sample)
    if others:
        raise ValueError(f"its answers {[expected, *others]!r} are several, and its scorer takes one option")
    letter = expected.strip().strip("().:").upper()
    if letter in options:
        return letter
    same = [letter for letter, text in options.items() if text and normal_text(text) == normal_text(expected)]
    if len(same) != 1:
        raise ValueError(f"its answer {expected!r} is not one of the options {', '.join(options)}, nor the text of one")
    return same[0]
