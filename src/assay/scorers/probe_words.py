"""The words that may stand around an answer in a statement of it: what "plainly stated" means, as vocabulary.

A statement has any number of ways to take an answer away, in any language, and few to give it. So a word that is not known
to be harmless makes a statement no evidence. Known are the words below, what the question is about, and a scorer's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from assay.scorers.probe_mentions import ASIDE, MENTION

# Grammar, and how one says that something is the answer. Left out is all that denies, doubts, limits or compares.
_GRAMMAR = """
    a an the this that these those it its them i we you one there here they my our your their
    is are was were be been being am has have had having do does did will would must should shall let lets
    s re m ve ll
    of for to in on at by as from with into and then
    now so therefore thus hence because since while when where which who what
    how after before
    just simply only exactly precisely most about approximately
    roughly indeed again also too together altogether overall
    total totals all both each of finally
    ultimately eventually clearly surely certainly definitely undoubtedly absolutely
    likely probably very quite pretty well can going us yes yep ok okay right sure certain confident positive easy
    course doubt without fact short possible once still already actually
    really due single rather wait correction confidence high obviously naturally
    """
_STATING = """
    verdict response version required requested selected better desired needed numerical complete numbers
    recheck rechecking rechecked reviewing redoing redo tells tell
    answer answered answering solution result value number output outcome final correct true best
    option choice choose pick select letter word item term conclusion conclude concludes summary summarize sum question
    problem prompt task explanation reasoning tldr tl dr ans a q qed hi hello great sure happy help
    equals equal equalling give gives given giving get gets got getting make makes made making come comes came coming
    work works worked working out yield yields yielding leave
    leaves left leaving find finds found obtain obtains obtained
    arrive arrives arrived reach reaches become becomes mean means
    turn turns amount amounts add adds added adding up down
    know see say think believe go need needs
    want show shows showing calculate calculating calculated calculation compute
    computing computed determine solve solves solving solved check checked verify verified confirm confirmed
    end ends ended ending use using take takes taking took put apply applying do doing write written say evaluate
    evaluates simplify simplifies simplified reduce reduces form
    lowest terms simplest decimal fraction percent percentage
    expressed exact equivalently equivalent namely ie i.e denoted called name named
    finish finishes finished full start started missing new change changes twice keeps
    code element entry pair stdout careful reading quick look closer analysis
    subtract subtracting subtracted multiply multiplying multiplied multiplication subtraction addition division divide
    dividing divided calculation expression equation plus minus times over both sides side
    remain remains remaining follow follows following complete completes continue continues
    happen happens occur occurs hold holds fit fits explain explains
    cover covers covered travel travels travelled traveled measure measures
    run runs lasts lasted lead leads leading play plays
    facing faces
    distance duration time cost costs price place likelihood
    properly done based given
    print prints printed printing display displays displayed return returns returned
    """
# Of the things that the probes ask for: beside another question's answer, these may mean something else.
PROBED = frozenset(
    [
        "convert",
        "converts",
        "converting",
        "converted",
        "whose",
        "taken",
        "charge",
        "causes",
        "caused",
        "slippery",
        "wet",
        "replacement",
        "replacing",
        "row",
        "falls",
        "rises",
        "drops",
        "fell",
        "rose",
        "starting",
        "begin",
        "begins",
        "list",
        "lists",
        "joined",
        "joining",
        "dash",
        "dashes",
        "hyphen",
        "hyphens",
        "square",
        "squares",
        "draw",
        "draws",
        "drawing",
        "drawn",
        "pick",
        "picks",
        "picked",
        "picking",
        "directs",
        "directed",
        "directing",
        "command",
        "commands",
        "commanded",
        "commanding",
        "guide",
        "guides",
        "conducts",
        "controls",
        "controlled",
        "steers",
        "heads",
        "headed",
        "works",
        "worker",
        "went",
        "goes",
        "gone",
        "stand",
        "stands",
        "stood",
        "stays",
        "win",
        "wins",
        "won",
        "crossed",
        "finishing",
        "arrives",
        "position",
        "spot",
        "rank",
        "ranking",
        "race",
        "line",
        "pattern",
        "sequence",
        "series",
        "rule",
        "another",
        "previous",
        "preceding",
        "whole",
        "length",
        "size",
        "figure",
        "overall",
        "program",
        "script",
        "code",
        "function",
        "screen",
        "console",
        "console's",
        "look",
        "looking",
        "looks",
        "pointing",
        "points",
        "point",
        "directly",
        "towards",
        "toward",
        "trip",
        "journey",
        "ride",
        "ground",
        "distance",
        "way",
        "around",
        "once",
        "combined",
        "jointly",
        "simultaneously",
        "minutes",
        "hours",
        "hour",
        "minute",
        "likely",
        "event",
        "outcome",
        "outcomes",
        "favourable",
        "favorable",
        "desired",
        "fraction",
        "ratio",
        "group",
        "groups",
        "pupil",
        "student",
        "kids",
        "class",
        "classroom",
        "everyone",
        "members",
        "farm",
        "farmer",
        "barn",
        "animals",
        "tank",
        "pool",
        "full",
        "empty",
        "filled",
        "fill",
        "tool",
        "place",
        "profession",
        "workplace",
        "ensemble",
        "common",
        "factor",
        "hidden",
        "underlying",
        "weather",
        "main",
        "reason",
        "discounted",
        "raised",
        "increased",
        "reduced",
        "lowered",
        "increase",
        "reduction",
        "relationship",
        "analogy",
        "pair",
        "just",
    ]
)
_ELSEWHERE = """
    richtige korrekte bonne exacte correcte 最终答案是 最终答案 最終的な答えは 正确答案是 正确答案 答案为 정답 정답은 정답입니다
    antwort lautet ist die der das ergebnis lösung also somit daher
    réponse la le est donc c résultat solution finale
    respuesta la el es por tanto resultado final correcta
    risposta è quindi resposta é portanto odpowiedź odpowiedz to jest wynik
    antwoord het is svaret är svar vastaus
    ответ это равен итак
    答案 答案是 答え 答えは です 答 결과 답 답은
    """
KNOWN = frozenset(f"{_GRAMMAR} {_STATING} {_ELSEWHERE}".split())
# What a number counts stands right behind it; of the known words, these do not say what is counted.
_COUNTED = frozenset(
    """answer solution result value number output outcome option
    choice letter word item term conclusion question problem
    prompt task explanation step decimal fraction calculation expression
    equation side sides code element entry pair
    distance duration time cost costs price probability place form percentage likelihood
    verdict response version numbers each a an short s m re ve ll tell tells us""".split()  # noqa: SIM905
)
BESIDE_A_NUMBER = KNOWN - _COUNTED
# Words of a question that say something else of an answer than of the question's things.
_TREACHEROUS = frozenset(
    """no not nor never none neither cannot can't don't without
    if unless whether either or but except than less more fewer
    least most opposite before after wrong false possible possibly
    maybe might may could half double twice""".split()  # noqa: SIM905
)
# What may name a quantity in a formula: a letter, with or without what it is applied to.
_FUNCTIONS = frozenset("sqrt frac gcd lcm lcd cdot times cap cup binom text mathrm xy ab pr prob".split())  # noqa: SIM905
_LETTER = r"[^\W\d_\u00b2\u00b3\u00b9\u2070-\u209c]"
_WORD = re.compile(rf"{_LETTER}+(?:[.-]{_LETTER}+)*")
_ENDINGS = ("ing", "ies", "ed", "es", "s", "d", "e", "y")


# "After the 10 % increase it costs …": of what is not asked for, this says only when.
_AFTER = re.compile(
    rf"\bafter\s+(?:(?:the|an?|both|this|that)\s+)*(?:[{ASIDE}{MENTION}]\s*)?(?!first|second)({_LETTER}+)",
    re.IGNORECASE,
)


_TURN = re.compile(r"\bafter\s+the\s+(?:first|second|third|last|final)(?=\s+[^\W\d_])", re.IGNORECASE)


class Words(Protocol):
    """What may stand beside an answer."""

    def strange(self, text: str) -> list[str]:
        """The words of a text that may not."""


class Vocabulary:
    """The words that are harmless beside an answer to one question.

    asked: the question. own: words that say what is asked for.
    units: the answer's. others: words of what is not asked for, harmless only beside `own`, which of the words in general
    use takes those alone that are units. also: words that are harmless too.
    """

    def __init__(
        self,
        asked: str,
        own: Iterable[str],
        units: Iterable[str],
        others: Iterable[str],
        also: frozenset[str] = frozenset(),
    ) -> None:
        self._also = also
        words = set(words_in(asked)) - _TREACHEROUS
        mine, units = {word for phrase in own for word in words_in(phrase)}, set(units)
        self._mine = frozenset(stem(word) for word in mine if word not in KNOWN or word in units)
        self._others = frozenset(word.casefold() for word in others)
        self._stems = frozenset(stem(word) for word in (*words, *mine, *units, *self._others))

    def strange(self, text: str) -> list[str]:
        """The words of a text that are not known to be harmless."""
        words = words_in(_TURN.sub(" ", text))
        elsewhere = not self._mine.intersection(map(stem, words))
        before = {match[1].casefold() for match in _AFTER.finditer(text)}
        return [
            word
            for word in words
            if not self._known(word) or (elsewhere and word in self._others and word not in before)
        ]

    def _known(self, word: str) -> bool:
        return (
            word in KNOWN
            or word in self._also
            or (len(word) == 1 and word.isascii())
            or word in _FUNCTIONS
            or stem(word) in self._stems
        )


def words_in(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
