"""Which of the mentions in a text is its final answer: the last one that the text commits itself to.

Everything here reads masked text (`probe_mentions`). A text is taken apart into clauses; what a clause claims has a
rank, for "the answer is 7" weighs more than "= 7" in the middle of a calculation. A claim that is taken back, left open
("7 or 9") or contradicted further on is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from assay.scorers import probe_phrases as say
from assay.scorers.probe_mentions import ASIDE, MENTION, Mention, Piece, Reader

_M = MENTION
_JOIN = "\ue002"  # where a label's line was joined with the next one
_I = re.IGNORECASE

# Nobody gives an answer in a clause of that length, and some of what follows takes time that grows with its square.
_LONGEST = 2000
_FILLERS = frozenset(
    """the a an is it it's its so therefore thus hence answer final about due approximately roughly exactly total of option and
    choice just simply only all altogether probably likely certainly definitely""".split()  # noqa: SIM905
)
_REASONED = re.compile(
    rf"[^\w{MENTION}]*(?:(?:the|an?|about|[a-z] =|[a-z]=)\s*)*{MENTION}(?:\s+[\w/%]+)?\s*:",
    _I,
)
_COLON = re.compile(":")
_PARTS = re.compile(r",|:|\band\b", _I)
_THEN = re.compile(r"\bthen\s+[a-z]+\s+(?:up |back )?to\b", _I)  # "falls to 204 and then rises to 224.40"
_AND = re.compile(r",?\s+and\b|,", _I)
_STATES = re.compile(rf"\b{say.BE}\s+{MENTION}", _I)
_PARENTHESES = re.compile(r"\([^()]*\)")
_ASIDE_EDGE = re.compile(rf"[:(=—]|\s-\s|{say.SUBORDINATE.pattern}|\b(?:for|so|not)\b", _I)


# "Yes, a glim might be a plask" says what may be of things, and not of the answer.
_OF_THINGS = re.compile(
    r"\b(?!(?:i|it|this|that|you|we|one|answer|solution|result|there)\b)(?:some )?[a-z]+ (?:could|might|may)"
    r"(?: also| still| well)? [a-z]+",
    _I,
)


class Rank(IntEnum):
    """How strongly a claim is put: in a check of the answer, in passing, as an outcome, as the answer."""

    CHECKED = 0
    PLAIN = 1
    FIRM = 2
    EXPLICIT = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """What a clause says the answer is; no mention: something that isn't one, or several at once. bare: nothing else."""

    mention: Mention | None
    rank: Rank
    bare: bool = False
    sure: bool = True


def final_claim(
    piece: Piece, reader: Reader, asked: re.Pattern[str] | None, stressed: str | None = None
) -> Mention | None:
    """The text's final answer; None if it has none.

    asked: the words that say of a mention that it is what was asked for. stressed: the only value that stands in bold.
    """
    piece = Piece(re.sub(r":[ \t]*\n\s*", f": {_JOIN}", piece.text), piece.mentions)
    refused = list(say.REFUSED.finditer(piece.text))
    if refused:
        rest = piece.cut(refused[-1].end(), len(piece.text))
        return _resolved([c for c in _claims(rest, reader, asked) if c.rank is Rank.EXPLICIT and not c.bare], reader)
    claims = [
        replace(claim, rank=Rank.EXPLICIT) if stressed in _values([claim]) and claim.rank > Rank.CHECKED else claim
        for claim in _standing(piece, reader, asked)
    ]
    return _resolved(claims, reader)


def _standing(piece: Piece, reader: Reader, asked: re.Pattern[str] | None) -> list[Claim]:
    """The claims that are not taken back: those after the last "wait, no", unless a check only confirms the earlier ones."""
    back = [m for m in say.TAKEN_BACK.finditer(piece.text) if piece.text[: m.start()].strip()]
    if not back:
        return _claims(piece, reader, asked)
    later = piece.cut(back[-1].end(), len(piece.text))
    claims = _claims(later, reader, asked)
    if say.CONFIRMED.search(later.text) and not any(c.rank >= Rank.FIRM for c in claims):
        return _claims(piece, reader, asked)
    return claims


def _resolved(claims: Sequence[Claim], reader: Reader) -> Mention | None:
    """The claim that stands in the end.

    Steps lead to a number, so of what is stated the last counts; of words, what is stated most strongly.
    """
    sure = [claim for claim in claims if claim.sure]
    if not sure:
        return None
    top = max(claim.rank for claim in sure)
    ordered = top is Rank.EXPLICIT or (top is Rank.FIRM and not reader.chains)
    floor = top if ordered else min(top, Rank.PLAIN)
    position = max(i for i, claim in enumerate(claims) if claim.sure and claim.rank >= floor)
    if ordered:
        for i in range(position + 1, len(claims)):  # contradicted further on
            if claims[i].sure and claims[i].rank is Rank.FIRM and not _same(claims[i], claims[position]):
                position = i
    final = claims[position]
    left_open = any(not claim.sure and not _same(claim, final) for claim in claims[position + 1 :])
    return None if left_open or _enumerated(claims, final) else final.mention


def _enumerated(claims: Sequence[Claim], final: Claim) -> bool:
    """Is the final claim one of a list of bare ones, or one of many answers?"""
    listed = final.bare or final.rank < Rank.EXPLICIT
    bare = _values([claim for claim in claims if claim.bare])
    return (listed and len(bare) > 1) or len(_values([c for c in claims if c.rank is Rank.EXPLICIT])) > 2


def _values(claims: Sequence[Claim]) -> set[str]:
    return {claim.mention.value for claim in claims if claim.sure and claim.mention is not None}


def _same(one: Claim, other: Claim) -> bool:
    return one.mention is not None and other.mention is not None and one.mention.value == other.mention.value


def _claims(piece: Piece, reader: Reader, asked: re.Pattern[str] | None) -> list[Claim]:
    found: list[Claim] = []
    checking = False
    sentences = piece.split(say.SENTENCE)
    final = max((i for i, sentence in enumerate(sentences) if sentence.mentions), default=-1)
    for index, sentence in enumerate(sentences):
        if sentence.text.rstrip().endswith("?"):
            continue
        for number, clause in enumerate(sentence.split(say.CLAUSE)):
            if len(clause.text) > _LONGEST:
                continue
            concludes = say.ANSWER.search(clause.text) or (number == 0 and asked and asked.search(clause.text))
            checking = (checking or bool(say.CHECK.match(clause.text))) and not concludes
            claim = _lead(sentence, reader) if index == number == 0 else None
            last = index == final
            claim = claim or _claim(clause, reader, asked, last=last, checking=checking)
            if claim is not None:
                found.append(claim)
    return found


def _claim(clause: Piece, reader: Reader, asked: re.Pattern[str] | None, *, last: bool, checking: bool) -> Claim | None:
    """What a clause claims, unless the clause as a whole denies it."""
    claim = _put(clause, reader, asked, last=last, checking=checking)
    if claim is None or claim.mention is None or any(claim.mention is mention for mention in _affirmed(clause)):
        return claim
    return None


def _put(clause: Piece, reader: Reader, asked: re.Pattern[str] | None, *, last: bool, checking: bool) -> Claim | None:
    text = clause.text
    explicit = _explicit(clause, reader)
    if _hedged(clause):
        others = say.OTHERS_THINK.search(text) or not clause.mentions
        return None if others else Claim(_only(clause.mentions), Rank.PLAIN, sure=False)
    if say.SUPPOSED.match(text):
        return None
    if explicit is not None:
        return explicit
    if not clause.mentions:
        return None
    denied = bool(say.NOT_THE_ANSWER.search(text))  # it may go on to say what is the answer
    if not reader.chains and clause.mentions and "(" in text and _wavers(clause, clause.mentions[0]):
        return Claim(None, Rank.FIRM)
    if not denied and _bare(text, reader) and (mention := _value(clause)) is not None:
        return Claim(mention, Rank.FIRM, bare=True)
    keyed = _keyed(clause, asked, reader) if asked is not None and not denied else None
    if keyed is not None:
        return Claim(keyed, Rank.CHECKED if checking else Rank.EXPLICIT)
    for said in (say.PRONOUN, say.CHOSEN):
        match = said.search(text)
        if match and (mention := _value(clause.cut(match.start(), len(text)))) is not None:
            return Claim(mention, Rank.FIRM)
    mention = _stated(clause, reader, last=last)
    if mention is None or denied:
        return None
    # "… but it's 8", "… but she rides 8 km" contradict what was said before.
    rank = Rank.CHECKED if checking else Rank.FIRM if say.BUT.match(text) else Rank.PLAIN
    return Claim(mention, rank)


def _hedged(clause: Piece) -> bool:
    values = {mention.value for mention in _affirmed(clause)}
    open_choice = len(values) > 1 and re.search(rf"\bor\b|{_M}\s*/\s*{_M}", clause.text, _I)
    return bool(say.HEDGE.search(clause.text) or open_choice or re.match(rf"[^\w{_M}]*or\b", clause.text, _I))


def _explicit(clause: Piece, reader: Reader) -> Claim | None:
    """What a clause with "the answer is" says; without a mention, it may claim something that is no answer."""
    text = clause.text
    if say.IS_RIGHT.search(text) and (mention := _only(_affirmed(clause))) is not None:
        return Claim(mention, Rank.EXPLICIT)
    marker = next(reversed(list(say.ANSWER.finditer(text))), None) or say.FINAL.search(text)
    if marker is None or say.NOT_THE_ANSWER.search(text):
        return None
    rest = clause.cut(marker.end(), len(text))
    if rest.mentions:
        mention = _before_reasons(rest) or _value(rest)
        steps = _JOIN in rest.text and "=" in rest.text  # "Answer:" over a calculation
        if steps and mention is None:
            return None
        return Claim(mention, Rank.PLAIN if steps and mention is not None else Rank.EXPLICIT)
    if ASIDE in rest.text:
        return Claim(None, Rank.EXPLICIT)
    if clause.mentions:  # "7 is the answer"
        return Claim(_value(clause.cut(0, marker.start())), Rank.EXPLICIT)
    words = re.findall(r"\w+", rest.text)
    other = 0 < len(words) <= 4 and marker[0].rstrip()[-1:] in ":=" and not rest.text.rstrip().endswith(":")
    return Claim(None, Rank.EXPLICIT) if other else None


def _before_reasons(rest: Piece) -> Mention | None:
    """The mention with which what is said of an answer begins, where a colon and the reasons follow it."""
    leading = _REASONED.match(rest.text)
    return rest.mentions[0] if leading else None


def _keyed(clause: Piece, asked: re.Pattern[str] | None, reader: Reader) -> Mention | None:
    """The only mention that stands in one part of the clause with the words that were asked for."""
    if asked is None or not asked.search(clause.text):
        return None
    if not reader.chains and (aside := re.search(r",\s+which\b", clause.text)) and _M in clause.text[: aside.start()]:
        clause = clause.cut(0, aside.start())  # what a word does is no other word
    said = _main(clause).split(_COLON)
    for part, following in zip(said, [*said[1:], None], strict=True):
        if asked.search(part.text) and part.mentions:
            if following is not None and _calculates(following, part.mentions[-1]):
                return following.mentions[-1]  # "the next difference is 80: 78 + 80 = 158"
            if (mention := _one_of_two(part, asked) or _value(part)) is not None:
                return mention
        elif asked.search(part.text) and following is not None and say.LABELLED.match(following.text):
            leading = say.LABELLED.match(following.text)
            worked = leading and re.match(r"\s*[-+×*/÷=·]", following.text[leading.end() :])
            return _value(following) if worked or not leading else following.mentions[0]  # "Sum: 7"
    if not reader.chains and re.match(rf"[^\w{_M}]*(?:the\s+)?{_M}\s+(?:{asked.pattern})", clause.text, _I):
        return _only(_affirmed(clause)[:1])  # "Rain causes people to carry umbrellas"
    parts = [part for part in clause.split(_PARTS) if asked.search(part.text) and len(part.mentions) == 1]
    return _only([mention for part in parts for mention in _affirmed(part)])


def _one_of_two(part: Piece, asked: re.Pattern[str]) -> Mention | None:
    """What is asked for, where each of several things is said to be something: "the rabbits are 9 and the chickens are 14"."""
    said = [piece for piece in part.split(_AND) if piece.mentions]
    if len(said) < 2 or not all(_STATES.search(piece.text) and len(piece.mentions) == 1 for piece in said):
        return None
    ours = [piece for piece in said if asked.search(piece.text)]
    return _only(_affirmed(ours[0])) if len(ours) == 1 else None


def _calculates(following: Piece, term: Mention) -> bool:
    """Is what follows a colon a calculation with the number that stands before it?"""
    formula = re.fullmatch(rf"\s*{_M}(?:\s*[-+×*/÷·]\s*{_M})+\s*=\s*{_M}\W*", following.text)
    return formula is not None and term.value in {mention.value for mention in following.mentions[:-1]}


def _lead(sentence: Piece, reader: Reader) -> Claim | None:
    """The answer with which a text begins, before it is explained."""
    match = say.LEAD.match(sentence.text)
    said = sentence if reader.chains else replace(sentence, text=_OF_THINGS.sub(" ", sentence.text))
    if not match or _hedged(said) or say.SUPPOSED.match(said.text):
        return None
    noun = (match["noun"] or "").strip().casefold()
    rest = sentence.cut(match.start("rest"), len(sentence.text))
    lead = sentence.mentions[0]
    if (noun and noun not in reader.nouns) or not any(mention is lead for mention in _affirmed(sentence)):
        return None
    edge = _ASIDE_EDGE.search(rest.text)  # where an explanation begins
    if edge and not reader.chains and _wavers(rest.cut(edge.start(), len(rest.text)), lead):
        return None
    if any(other.value != lead.value for other in _affirmed(rest.cut(0, edge.start()) if edge else rest)):
        return None
    bare = not re.sub(r"[\W_]", "", rest.text.replace(_M, ""))
    return Claim(lead, Rank.EXPLICIT, bare=bare)


def _wavers(explanation: Piece, lead: Mention) -> bool:
    """Is what should explain an answer nothing but answers, another one among them: "no (no, yes)"?"""
    others = any(mention.value != lead.value for mention in explanation.mentions)
    return others and not re.search(r"\w", explanation.text.replace(_M, ""))


def _bare(text: str, reader: Reader) -> bool:
    """Does the clause say nothing but a mention?"""
    if ASIDE in text or re.match(r"\W*[=×+*/÷^]", text.replace(_JOIN, "")) or re.search(r"[×+*/÷^=]", text):
        return False
    words = re.findall(r"[\w'/%]+", text.replace(_M, " ").casefold())
    return all(word in _FILLERS or word in reader.nouns for word in words)


def _stated(clause: Piece, reader: Reader, *, last: bool) -> Mention | None:
    """What a statement comes to: for a choice, only where it concludes; for a number, only where it is a predicate."""
    mention = _value(clause)
    if mention is None:
        return None
    if not reader.chains:
        return mention if last or say.CONCLUDES.match(clause.text) or say.BUT.match(clause.text) else None
    main = _main(clause)
    predicate = say.PREDICATE.search(main.text[: main.text.rfind(_M)]) if _M in main.text else None
    at_end = re.search(
        rf"{_M}(?:\s+(?:of\s+(?:the\s+)?)?[\w/]+)?(?:,?\s+and\s+{ASIDE}\s*[\w/]*)*[\s.!)\"'}}]*$", main.text
    )
    subject = re.match(
        rf"\W*{_M}(?:\s+of\s+(?:(?:the|these|all)\s+)?(?:{ASIDE}\s*)?[\w/]+|\s+[\w/]+)?\s+{say.BE}\b", main.text
    )
    return mention if predicate or at_end or subject else None


def _value(clause: Piece) -> Mention | None:
    """The one value that a clause comes to, None if it comes to none or to several."""
    main = _main(clause)
    affirmed = _affirmed(main)
    if not affirmed:
        return None
    if (single := _only(affirmed)) is not None:
        return single
    for predicate in reversed(list(say.PREDICATE.finditer(main.text))):
        after = _affirmed(main.cut(predicate.end(), len(main.text)))
        if after and predicate[0] != ":":
            return _only(after)
        if after and (mention := _only(after)) is not None:
            return mention
    if (then := _THEN.search(main.text)) and (mention := _only(_affirmed(main.cut(then.end(), len(main.text))))):
        return mention
    head, colon, _ = main.text.partition(":")  # "39 km in all: 15 km at first, then 24 km"
    return _only(_affirmed(main.cut(0, len(head)))) if colon else None


def _main(clause: Piece) -> Piece:
    """The clause without what is in parentheses and without its subordinate clauses, if a mention remains."""
    outside = clause.split(_PARENTHESES)
    piece = clause
    if any(part.mentions for part in outside):
        piece = Piece(" ".join(part.text for part in outside), tuple(m for part in outside for m in part.mentions))
    text = piece.text
    if say.SUBORDINATE.match(text.lstrip(" \"'" + _JOIN)):
        return piece.cut(text.rfind(",", 0, max(0, text.rfind(_M))) + 1, len(text))
    for subordinate in say.SUBORDINATE.finditer(text):
        if _M in text[: subordinate.start()]:
            return piece.cut(0, subordinate.start())
    return piece


def _affirmed(piece: Piece) -> list[Mention]:
    """The mentions that are not denied."""
    parts = piece.text.split(_M)
    affirmed: list[Mention] = []
    denied = False
    for mention, before, after in zip(piece.mentions, parts, parts[1:], strict=False):
        denied = bool(say.DENIED_BEFORE.search(before[-60:])) or (denied and bool(say.AND_SO_ON.fullmatch(before)))
        if not denied and not say.DENIED_AFTER.match(after):
            affirmed.append(mention)
    return affirmed


def _only(mentions: Sequence[Mention]) -> Mention | None:
    return mentions[0] if mentions and len({mention.value for mention in mentions}) == 1 else None
