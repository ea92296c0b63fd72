"""What ordinary answers say beside their value and in other words: taken out, or turned round, before the value is looked for.

Each of these only takes values away, or puts a number in the place of what is shown to be equal to it.
"""

from __future__ import annotations

import re

from assay.scorers.final_answer_algebra import parse
from assay.scorers.quantities import Quantity

_NUMBER = r"[$€£]?-?\d(?:[\d.,/]*\d)?%?"
_SMALL_TALK = re.compile(
    r"(?:(?<=[.!?])\s+|\n)(?:thanks?\b|thank you|(?:please )?rate (?:me|this|my|it)\b)[^.!?\n]*[.!?]*", re.I
)
_SOURCE = re.compile(r"(?:(?<=\d)[ ]?|(?<=[A-Za-z]{2})|(?<=[.)]))\[\d{1,2}\](?=[\s.,;:!?\[]|$)")
_EACH = re.compile(
    rf",? (?:or|which is|that is) (?:about |just |only )?{_NUMBER}(?: [^\W\d_]+)? "
    r"(?:each|apiece|per [^\W\d_]+|for each(?: [^\W\d_]+)?|an? (?:day|week|month|year|hour|person|piece))\b(?! or\b)",
    re.IGNORECASE,
)
_TAKEN_APART = re.compile(
    rf"(?P<lead>^|\bis |\bso |: |\. )(?P<value>{_NUMBER}) ?= ?(?P<work>\d[\d.,]*(?: ?[-+*/×·÷] ?\d[\d.,]*)+)(?=[.!]?\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
_OTHERS = re.compile(
    rf"[;,]\s*(?:and |while |but )?(?P<value>{_NUMBER})(?: [^\W\d_]+)? would be (?:wrong|incorrect)\b", re.I
)
_STEPS = re.compile(rf"^[^\w\n]*step \d+[:.)] *{_NUMBER}[^\w\n]*\n\s*(?=[^\w\n]*step \d)", re.IGNORECASE | re.MULTILINE)
_YET = re.compile(r"\b(?:we|I) (?:don't|do not) know [^.,;\n]{0,40}\byet[.,;](?=[^\n]*\d)", re.IGNORECASE)
_COMPARED = re.compile(
    rf"(?<![\d.,/])(?P<one>{_NUMBER}) is (?P<how>\w+er|more \w+|less \w+) than {_NUMBER}", re.IGNORECASE
)
_NONE = re.compile(
    r"\bthere (?:are|is|will be|were|would be) (?:none|nothing|no [^\W\d_]+) (?:left|remaining)\b"
    r"|\bnone (?:of [\w ]{1,30} )?(?:(?:is|are|were|will be) left|remains?)\b"
    r"|\b(?:has|have|had) (?:none|nothing|no [^\W\d_]+) (?:left|remaining)\b",
    re.IGNORECASE,
)
_NO_SUCH = re.compile(
    r"(?:so,? |therefore,? |thus,? )?(?:none of|no)(?P<whom>(?: [^\W\d_]+){1,12})[.!]?", re.IGNORECASE
)
_NAMED = re.compile(r"(?<![^\W\d_])(?P<name>[A-Z][^\W\d_]{1,30}) ?[:=] ?(?P<value>" + _NUMBER + r")(?![\w.,]*[\d(])")
_ASKED_NAME = re.compile(
    r"\b(?:what (?:is|are)|find|solve for|value of|determine|compute) (?:the value of )?"
    r"\$?([A-Za-z])\$?(?![\w(^'’]| ?[-+*/=^(])",
    re.IGNORECASE,
)
_NEXT_TURN = re.compile(
    r"\n[ \t>*#]*(?:question|q|problem|exercise|human|user)\s*\d*\s*[:.][ \t*]*(?=\S)", re.IGNORECASE
)
_INTRODUCED = re.compile(
    r"[:,]\W*$|\b(?:restate|rephrase|repeat|following|here (?:is|are)|given|consider|understand|read|asks?|question|problem)\b",
    re.IGNORECASE,
)
_FUNCTION_WORDS = frozenset(("is", "are", "the", "a", "an", "of", "in", "to", "that", "this", "than", "city", "they"))
_NEVER = frozenset(("or", "and", "nor", "not", "no", "never", "neither", "either"))
_MORE = re.compile(
    r"(?:it|he|she|they|the \w+) (?:is (?:an?|the|located|situated|known|famous|home)|lies|has|was (?:founded|born|built|an?)"
    r"|sits|stands|lived|became|wrote|are)\b"
    r"(?:(?!\b(?:old|former|once|wrong|not|replaced|but|though|however|guess|joke)\b)[^?;])*",
    re.IGNORECASE,
)


def first_turn(text: str) -> str:
    """The text up to where it goes on with another question, as a model does that doesn't end its turn."""
    for turn in _NEXT_TURN.finditer(text):
        before = text[: turn.start()].strip()
        last = before.rsplit("\n", 1)[-1]
        if before and not _INTRODUCED.search(last) and not _NEXT_TURN.match(f"\n{last}"):
            return before
    return text


def without_small_talk(text: str) -> str:
    """The text without thanks, a plea for stars, and numbered sources ("42 [1]")."""
    return _SOURCE.sub("", _SMALL_TALK.sub("", text))


def said_plainly(text: str, question: str, target: Quantity) -> str:
    """The text with its values alone where it says another beside them: "42 = 6 × 7", "$42, or $21 each"."""
    text = _STEPS.sub("", _YET.sub(" ", text))
    text = _OTHERS.sub(lambda m: m[0] if m["value"] in text[: m.start()] else "", text)
    text = _TAKEN_APART.sub(_value_alone, text)
    if not re.search(r"\b(?:each|per|apiece)\b", question, re.IGNORECASE):
        text = _EACH.sub("", text)
    text = _COMPARED.sub(lambda m: m["one"] if _asks(question, m["how"]) else m[0], text)
    if target.value == 0 and not re.search(r"\d", text):
        text = _none_counted(_NONE.sub("0 left", text), question)
    return _of_the_name(_of_the_person(text, question), question)


def _value_alone(match: re.Match[str]) -> str:
    work = re.sub("[×·]", "*", match["work"]).replace("÷", "/")
    left, right = parse(match["value"].strip("$€£").rstrip("%")), parse(work)
    return match["lead"] + match["value"] if left and right and left.equals(right) else match[0]


def _asks(question: str, how: str) -> bool:
    """Is it asked which is `how`?"""
    return re.search(rf"\b(?:which|who|what)\b[^.?]*\b{re.escape(how)}\b", question, re.IGNORECASE) is not None


def _none_counted(text: str, question: str) -> str:
    """ "No students failed.", as a number, where it is asked how many students failed."""
    asked = set(re.findall(r"[^\W\d_]+", question.casefold())) | _FUNCTION_WORDS | {"them", "of"}
    said = _NO_SUCH.fullmatch(text.strip())
    return "0" if said and asked.issuperset(re.findall(r"[^\W\d_]+", said["whom"].casefold())) else text


def _last_sentence(question: str) -> str:
    return re.split(r"(?<=[.!?])\s+|\n", question.strip())[-1]


def _of_the_person(text: str, question: str) -> str:
    """A last line that gives a value for each of several names, as the value of the only one that is asked for."""
    head, newline, last = text.rstrip().rpartition("\n")
    pairs = list(_NAMED.finditer(last))
    asked = set(re.findall(r"[^\W\d_]+", _last_sentence(question)))
    mine = [pair for pair in pairs if pair["name"] in asked]
    alone = not re.search(r"[\d]", _NAMED.sub("", last)) and len({pair["name"] for pair in pairs}) == len(pairs)
    return f"{head}{newline}{mine[0]['value']}" if len(pairs) > 1 and len(mine) == 1 and alone else text


def _of_the_name(text: str, question: str) -> str:
    """Without the powers of the name that is asked for: "x = 2, and x^2 = 4"."""
    asked = _ASKED_NAME.search(_last_sentence(question))
    if asked is None:
        return text
    powers = re.compile(rf",?\s*\b(?:and\s+|so\s+)?\$?{asked[1]}(?:\^\{{?\d\}}?|[²³])\$?\s*=\s*-?\d[\d.,]*(?<=\d)\$?")
    return powers.sub("", text)


def is_told(statement: str, wanted: str, question: str) -> bool:
    """Does a statement, as normal text, say of what is wanted only what was asked: "Mars is known as the red planet"?

    What is wanted stands first or last: "Plants absorb carbon dioxide."
    """
    if len(question.split()) < 3 or statement in question.casefold():
        return False
    first, last = (
        statement.startswith(f"{wanted} "),
        statement.endswith(f" {wanted}") and wanted not in question.casefold(),
    )
    if not (first or last) or "n't" in statement:
        return False
    told = re.sub(r"['’]s\b", "", statement[len(wanted) :] if first else statement[: -len(wanted)])
    words = re.findall(r"[^\W_]+", told)
    asked = set(re.findall(r"[^\W_]+", question.casefold()))
    own = [word for word in words if word not in _FUNCTION_WORDS]
    return bool(own) and not _NEVER.intersection(words) and all(word in asked for word in own)


def lone_first(text: str) -> str | None:
    """The first sentence if it is but a few words and the others only tell more of what it names."""
    first, *others = re.split(r"(?<=[.!])[ ]+", text.strip())
    if not others or len(first.split()) > 4 or "\n" in text.strip():
        return None
    return first if all(_MORE.fullmatch(part.strip()) for part in others) else None
