"""Does a text stand by the final answer that was read off it? What `probe_doubt` and `probe_claims` ask, of any answer.

A probe knows the words that its answers are given in, and takes a clause in any other for no evidence. Of a question from
anywhere nobody knows them. So here a clause must be in words of answering, or speak of what was asked about, or calculate; and
it must hold no word that is known to take an answer away, unless that is the question's.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from assay.scorers import final_answer_phrases as say
from assay.scorers.final_answer_algebra import Expression
from assay.scorers.final_answer_forms import Form
from assay.scorers.final_answer_mentions import FormReader, QuantityReader
from assay.scorers.final_answer_terms import TermReader
from assay.scorers.probe_claims import final_claim
from assay.scorers.probe_doubt import CONCLUDING, doubted
from assay.scorers.probe_mentions import ASIDE, MENTION, ChoiceReader, Mention, Piece, Reader
from assay.scorers.probe_phrases import REFUSED
from assay.scorers.probe_text import plain_text, stressed, without_question
from assay.scorers.probe_words import KNOWN, stem, words_in
from assay.scorers.quantities import Quantity

# Nobody gives an answer in a line of that length, nor so far from both ends of a text. It bounds what reading one costs.
_LONGEST_LINE = 2000
_HEAD, _TAIL = 10_000, 50_000
_I = re.IGNORECASE
_SENTENCE_END = re.compile(r"(?<=[.!?])[ \t]+")
_OR = re.compile(r",?\s+or\s+(?:about\s+)?", _I)
_CLAUSES = re.compile(
    r"[,;:—()]|\b(?:rather than|instead of|not|because|since|which|so|therefore|thus|hence|but)\b", _I
)
_FEW_WORDS = 4  # a question of fewer says too little of what it is about
_THING = "thing"  # stands for what the question speaks of
_FIRST_PERSON = frozenset({"i", "you", "my", "your", "me"})
_SENTENCES = re.compile(r"((?<=[.!?])\s+|\n+)")


class Wary:
    """Words that take an answer away, but for those of the question."""

    def __init__(self, asked: frozenset[str]) -> None:
        self._asked = asked

    def strange(self, text: str) -> list[str]:
        return [word for word in words_in(text) if word in say.TREACHEROUS and stem(word) not in self._asked]


def without_denied(text: str) -> str:
    """The text without what it denies before it says what is so instead."""
    return say.DENIED_FIRST.sub(" ", text)


def stands_by(
    text: str, target: Quantity | Form | Expression, question: str, tolerance: Fraction = Fraction(0)
) -> bool:
    """Does the text give the target as its answer in some clause, without a doubt, and not take it back?"""
    text, asked = _shortened(text), _topic(question) and _topic(question) | {_THING}
    reader = _reader(target, tolerance, asked)
    bold = {mention.value for words in stressed(text) for mention in reader.read(words).mentions}
    text = without_denied(plain_text(text))
    for pattern, replacement in say.HARMLESS:
        text = pattern.sub(replacement, text)
    text = _as_asked(text, plain_text(question))
    if len(question.split()) >= _FEW_WORDS and any(mention.right for mention in reader.read(question).mentions):
        text = without_question(text, plain_text(question))
    piece = _restated(reader.read(text))
    if _left_open(piece) or say.DISOWNED.search(text):
        return False
    claim = final_claim(piece, reader, None, bold.pop() if len(bold) == 1 else None)
    answered = not _contradicted(piece, claim) if claim else not REFUSED.search(piece.text)
    return answered and _stated(_own(piece, asked), asked)


def _reader(target: Quantity | Form | Expression, tolerance: Fraction, asked: frozenset[str]) -> Reader:
    if isinstance(target, Expression):
        return TermReader(target)
    return FormReader(target) if isinstance(target, Form) else QuantityReader(target, tolerance, asked)


def stands_by_words(text: str, forms: Sequence[str], question: str) -> bool:
    """The same of an answer in words, in one of its forms."""
    piece = ChoiceReader({"": forms}, "").read(without_denied(plain_text(_shortened(text))))
    if say.BUT.search(piece.text) or say.WRONG.search(piece.text) or say.OFFERED.search(piece.text):
        return False
    asked = _topic(question)
    return _stated(_own(piece, asked), asked)


def _stated(piece: Piece, asked: frozenset[str]) -> bool:
    return not doubted(piece, Mention("", "", True), Wary(asked))


def _topic(question: str) -> frozenset[str]:
    """The stems of what a question is about: of its words that are not everyone's; none of a mere "Well?"."""
    words = words_in(question)
    topic = frozenset(stem(word) for word in words if word not in KNOWN and len(word) > 2)
    return topic if len(words) >= _FEW_WORDS else frozenset()


def _as_asked(text: str, question: str) -> str:
    """The text without the sound of a doubt in words that it has from the question: its teacher, those that "don't play"."""
    own = {word.casefold().rstrip("s") for word in say.OF_A_QUESTION.findall(question)}
    verbs = {stem(verb.casefold()) for _, verb in say.NEGATED_VERB.findall(question)}
    if own:
        text = say.OF_A_QUESTION.sub(lambda m: _THING if m[0].casefold().rstrip("s") in own else m[0], text)
    if verbs:
        text = say.NEGATED_VERB.sub(lambda m: f"{m[1]} {m[2]}" if stem(m[2].casefold()) in verbs else m[0], text)
    return text


def _restated(piece: Piece) -> Piece:
    """The piece with "or" between two forms of the target left out: that is no choice."""
    parts = piece.text.split(MENTION)
    for index, (one, two) in enumerate(pairwise(piece.mentions), 1):
        if one.right and two.right and _OR.fullmatch(parts[index]):
            parts[index] = " = "
    return Piece(MENTION.join(parts), piece.mentions)


def _shortened(text: str) -> str:
    """The text without what is too long, or too far from its ends, to say an answer."""
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]}\n{text[-_TAIL:]}"
    lines = []
    for line in text.split("\n"):
        parts = [line] if len(line) <= _LONGEST_LINE else _SENTENCE_END.split(line)
        lines += [part for part in parts if len(part) <= _LONGEST_LINE]
    return "\n".join(lines)


def _left_open(piece: Piece) -> bool:
    """Is another value offered beside the target, or after it?"""
    last = _last(piece)
    places = [match.start() for match in re.finditer(MENTION, piece.text)]
    for pattern in (say.PAIR, say.BOTH, say.LINES):
        for match in pattern.finditer(piece.text):
            first = bisect_left(places, match.start())
            pair = piece.mentions[first : first + 2]
            if pair[0].right != pair[1].right and last <= first + 1:  # the target isn't said once more, alone
                return True
    after = (say.WRONG, say.LIMITED)
    opened = (bisect_left(places, match.end()) - 1 for match in say.OPEN.finditer(piece.text))
    wrong = (bisect_left(places, match.start()) for pattern in after for match in pattern.finditer(piece.text))
    return any(i > last and not piece.mentions[i].right for i in opened) or any(piece.mentions[i].right for i in wrong)


def _contradicted(piece: Piece, claim: Mention) -> bool:
    """Does the text claim something else after it last mentions the target?"""
    return not claim.right and any(m is claim for m in reversed(piece.mentions[_last(piece) + 1 :]))


def _last(piece: Piece) -> int:
    """The place among the mentions of the target's last one; -1 if there is none."""
    return max((i for i, mention in enumerate(piece.mentions) if mention.right), default=-1)


def _own(piece: Piece, asked: frozenset[str]) -> Piece:
    """The piece without the values of sentences that give no answer: "He had 3 friends.", "In the film it's 7." """
    text: list[str] = []
    mentions: list[Mention] = []
    used = 0
    for sentence in _SENTENCES.split(piece.text):
        own = piece.mentions[used : used + sentence.count(MENTION)]
        used += len(own)
        if own and (_somebodys(sentence, asked) or _tells(sentence, own) or _beside_it(sentence, own, asked)):
            sentence, own = sentence.replace(MENTION, ASIDE), ()
        text.append(sentence)
        mentions += own
    return Piece("".join(text), tuple(mentions))


def _somebodys(sentence: str, asked: frozenset[str]) -> bool:
    """Does a sentence say whose answer a value is, if not the text's own? Of whom the question speaks, it may speak."""
    said = say.NOT_OWN.search(sentence)
    return said is not None and asked.isdisjoint(map(stem, words_in(said[0])))


def _beside_it(sentence: str, mentions: tuple[Mention, ...], asked: frozenset[str]) -> bool:
    """Does a sentence mention the target in strange words only, or under a condition that was not the question's?"""
    if not asked or not any(mention.right for mention in mentions):
        return False
    condition = say.CONDITION.match(sentence)
    supposed = condition is not None and not re.search(rf"[\d{MENTION}]", condition[0])
    if condition and supposed and asked.isdisjoint(map(stem, words_in(condition[0]))):
        return True
    return not any(_about(clause, asked) for clause in Piece(sentence, mentions).split(_CLAUSES))


def _about(clause: Piece, asked: frozenset[str]) -> bool:
    """Does a clause that mentions the target say so in words of answering, or of what was asked about?"""
    if not any(mention.right for mention in clause.mentions):
        return False
    counted = {stem(word) for mention in clause.mentions if mention.right for word in words_in(mention.shown)}
    stems = [stem(word) for word in words_in(clause.text) if len(word) > 1]
    if not asked.isdisjoint(counted) and not _FIRST_PERSON.intersection(stems):
        return True
    return "=" in clause.text or not asked.isdisjoint(stems) or all(each in say.EXPOSITORY for each in stems)


def _tells(sentence: str, mentions: Sequence[Mention]) -> bool:
    """Does a sentence with one value, which isn't the target, say something else than what an answer is?"""
    if len({mention.value for mention in mentions}) > 1 or mentions[0].right or CONCLUDING.search(sentence):
        return False
    unknown = [word for word in words_in(re.sub(rf"{MENTION}\s+[^\W\d_]+", MENTION, sentence)) if word not in KNOWN]
    return len(unknown) > 1 or bool({"he", "she"}.intersection(unknown))
