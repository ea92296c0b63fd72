"""The one quantity that a statement says: "so she pays $64 for 16 glasses" says 64.

It is taken apart by the words that join its parts. What stands after "because" or before a comma that ends "after …" is
beside the point; of the rest, what the last verb or equals sign leads to counts, and a quantity that only says for what,
in what or of what ("for 16 glasses", "of the 20") is passed over as long as another is left.
"""

from __future__ import annotations

import re

from assay.scorers.quantities import Quantity, one_notation, plain, quantities

_LONGEST = 1000  # characters in a statement; more are no answer
_APART = 10  # of two values around "≈", the difference is at most one part in so many

# What ends the part of a statement that says the value: "14, because …", "14 (7 × 2)".
ASIDE = re.compile(
    r",(?!\d)\s|;|\s\(|\s(?:because|since|as|when|if|which|where|after|before|given|using|not|instead|rather)\b|\s[—–]\s|≠"
)
COPULA = re.compile(r"\b(?:is|are|was|were|equals?|makes?|gives?|leaves?|be)\b|[=≈]|:(?!\d)", re.IGNORECASE)
# "Not 12, but 14": what is denied before what is said.
RATHER = re.compile(r"(?:\bnot\b|n't\b)[^,;.]{1,60}[,;]\s*(?:but(?: rather)?|it(?:'s| is)|rather)\s+", re.IGNORECASE)
_CONCLUSION = re.compile(
    r"\b(?:so|then|therefore|thus|hence)\b"
    r"|,\s*(?:giving|leaving|making|totall?ing|bringing|resulting in|which leaves|for a (?:grand )?total of)\b",
    re.IGNORECASE,
)
# "20 - 6, which is 14" and "6.5, which rounds up to 7" go on to the value; "14, which is 2 more" does not.
_EVALUATED = re.compile(
    r"(?P<last>[-+*/×÷]\s*[$€£]?\d[\d.,]*(?:\s[^\W\d_]+)?),? which (?:is|equals|makes|gives|comes to)\b"
)
_ROUNDED = re.compile(r",? (?:which (?:is )?|and |is )?round(?:s|ed|ing)?(?: (?:up|down|off))? to\b", re.IGNORECASE)
# "After giving 6 away, …": an opening, with the lists in it, up to its comma.
_OPENING = re.compile(
    r"\W*(?:if|when|after|before|since|because|as|given|with|for|at|by|to|in|on|from|over|out of|during|once|while"
    r"|assuming|of|[^\W\d_]+ing)\b[^,]*(?:,\s*(?:and\s+)?[$€£]?\d[^,]*)*?,\s+",
    re.IGNORECASE,
)
_LABEL = re.compile(r"\W*(?:step|part|case|day|option|question|q)\s*\d+\W*$", re.IGNORECASE)
_ALTERNATIVES = re.compile(r"\b(?:or|either|between|and/or|versus|vs|anywhere)\b", re.IGNORECASE)
_NEGATED = re.compile(r"[^\d]*\b(?:not|never|\w+n't)\b[^\d]*\d", re.IGNORECASE)
_REJECTED = re.compile(
    r"(?:\b(?:is|are|was|were|be) |n't |\bnot )(?:wrong|incorrect|false)\b|(?:n't|\bnot) (?:right|correct)\b"
)
_ROW = re.compile(r"0(?:\s*,\s*0){2,}|0[^0=]{0,20}\bor\b[^0=]{0,20}0|^\W*0(?:\s*(?:,|;|&|\band\b|\s)\s*0)+\W*$")
_RESTATED = re.compile(r",?\s+or\s+|\s*(?:≈|\\approx\b)\s*|\s\(|\)", re.IGNORECASE)

_NUMBER = r"[$€£¥₹]?\d(?:[\d.,/]*\d)?%?"
_FILLERS = (
    r"(?:(?:the|a|an|all|each|every|of|those|these|his|her|their|its|my|next|first|last|other|remaining|about|only|total"
    r"|another|just|\w+'s)\s+){0,4}"
)
_JOINED = rf"(?:\s*(?:[-+×*/÷&]|\band\b)\s*{_NUMBER})*"
# What only says for what, how long or where; weaker, of or from what; weakest, what to do. "At least 7" and "a profit of
# 7" don't.
_ADJUNCTS = tuple(
    re.compile(
        rf"(?P<kept>\ban?\s+(?:\w+\s+){{1,2}}of\s+{_NUMBER})"
        rf"|\b(?:{words})\s+(?!least\b|most\b){_FILLERS}{_NUMBER}{_JOINED}",
        re.IGNORECASE,
    )
    for words in (
        "for|in|over|during|within|until|every|each|per|on|among|across|out of|giving"
        r"|to (?:get to|reach)",
        "by|at|from|with|than|of",
        r"to\s+[^\W\d_]+",
    )
)


def read_value(statement: str) -> list[tuple[str, Quantity]]:
    """The quantity that a statement says, as read and as a value: in each form it is given in, none if it is left open.

    "3 + 4 = 7" says 7, "14, because 2 × 7 = 14" 14, "3/4, or 75%" 3/4 and 75%; "7 or 8", "5, 6, 7" and "not 7" nothing.
    """
    statement = one_notation(plain(statement))
    if len(statement) > _LONGEST:
        return []
    forms = _forms(statement)
    if forms:
        return forms
    if _ROW.search(_shape(statement)) or _REJECTED.search(statement):
        return []
    head = _head(_tail(_CONCLUSION, _ROUNDED.sub(" = ", _EVALUATED.sub(r"\g<last> =", RATHER.sub(" ", statement)))))
    said = _without_adjuncts(head)
    if _several(head, said) or _NEGATED.match(head):
        return []
    tail = _without_adjuncts(_tail(COPULA, head))
    if re.search(r"0\s0", _shape(tail)):  # "12 50"
        return []
    run, value = quantities(tail)[-1]
    return [] if value is None else [(run, value)]


def _forms(statement: str) -> list[tuple[str, Quantity]]:
    """The forms of one value that a statement gives side by side: "160 minutes, or 2 h 40 min", "16/3 ≈ 5.33"."""
    parts = [_tail(COPULA, part) for part in _RESTATED.split(statement) if quantities(part)]
    found = [quantities(part) for part in parts]
    if len(found) < 2 or any(len(each) != 1 for each in found):
        return []
    forms = [(run, value) for ((run, value),) in found if value is not None]
    near = abs(forms[0][1].value) / _APART if forms and re.search(r"≈|\\approx\b", statement) else None
    same = len(forms) == len(found) and all(
        value.equals(forms[0][1]) or (near is not None and value.equals(forms[0][1], near)) for _, value in forms[1:]
    )
    return forms if same else []


def _head(statement: str) -> str:
    """The part of a statement that says its value."""
    opening = _OPENING.match(statement)
    if opening and quantities(statement[opening.end() :]):
        statement = statement[opening.end() :]
    before, colon, after = statement.partition(": ")
    parts = colon and not _LABEL.match(before) and not COPULA.search(after) and len(quantities(after)) > 1
    if parts and quantities(_without_adjuncts(before, bare=True)):
        return before  # "35 flowers: 10 yellow, 18 purple and 7 green"
    aside = ASIDE.search(statement)
    if aside is None:
        return statement
    head, rest = statement[: aside.start()], statement[aside.end() :]
    # After a mere comma the working may go on, and its result is what counts.
    if aside[0].strip() == "," and "=" in rest and quantities(rest) and not ASIDE.match(f" {rest}"):
        return rest
    return head if quantities(head) else statement


def _tail(cut: re.Pattern[str], text: str) -> str:
    """What the last match of `cut` that leads to a quantity leads to; all of the text if none does."""
    for match in reversed(list(cut.finditer(text))):
        if quantities(text[match.end() :]):
            return text[match.end() :]
    return text


def _without_adjuncts(text: str, *, bare: bool = False) -> str:
    """The text without the quantities that only say for what or of what. bare: even if none is left."""
    for adjunct in _ADJUNCTS:
        left = adjunct.sub(lambda match: match["kept"] or " ", text)
        if left != text and (bare or quantities(left)):
            text = left
    return text


def _several(head: str, said: str) -> bool:
    """Are several values offered side by side?"""
    if len(quantities(said)) < 2:
        return False
    return bool(_ALTERNATIVES.search(head) or re.search(r"0\s(?:and|&)\s0", _shape(said)))


def _shape(text: str) -> str:
    """The text with 0 for every number."""
    return re.sub(r"[-+]?[$€£¥]?\d[\d.,/]*(?<=\d)(?:\s\d{3}(?!\d))*(?:\s\d+/\d+)?%?", "0", text)
