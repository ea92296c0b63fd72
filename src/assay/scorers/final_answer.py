"""The scorer that reads an answer's final answer, in any of the styles that models write, and compares it exactly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from fractions import Fraction

from assay.scorers.clock import single_time, times
from assay.scorers.exact import expected_answers
from assay.scorers.extraction import last_question, passage, said_of
from assay.scorers.final_answer_algebra import FUNCTIONS, Expression
from assay.scorers.final_answer_beside import first_turn, is_told, lone_first, said_plainly, without_small_talk
from assay.scorers.final_answer_forms import Form, forms_like, in_notation
from assay.scorers.final_answer_gate import stands_by, stands_by_words, without_denied
from assay.scorers.final_answer_reference import goes_on, opaque, unboxed, understood
from assay.scorers.final_answer_terms import TermReader, in_terms, is_part, same_formula
from assay.scorers.match import exact_tolerance, single_number
from assay.scorers.probe_text import loops
from assay.scorers.quantities import Quantity, plain, quantities
from assay.scorers.statement import ASIDE, COPULA, read_value
from assay.scorers.targets import best
from assay.types import Completion, Json, Prompt, Sample, Score, ScoreFailure

# Small talk around an answer, which says none.
_CHATTER = re.compile(
    r"(?:i )?hope\b|let me\b|feel free\b|please\b|thank|(?:yes[,.]? )?(?:that|this|it)(?:'s| is) (?:right|correct)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|never)\b|n't\b", re.IGNORECASE)
_SHARE = re.compile(r"\b(\d+) out of (?:every )?(\d+)\b")
_MARKED = re.compile(r"####")  # before the answer, in references with their working
_SHOWN = 80  # characters of a reference in an error
_STANDS = "Formulaquoted"  # a word in a formula's place
_LONGEST = 1000  # characters in a statement of an interval, a list or a date
_NOT = re.compile(r"\b(?:not|rather|instead|because|since|which|unlike)\b", re.IGNORECASE)
# What leads to an answer in words, and what may come behind it.
_LEAD = re.compile(
    r"^(?:\W*\b(?:so|thus|hence|therefore|then|well|hmm|yes|sure|indeed|in conclusion|without (?:a|any) doubt|of course"
    r"|i (?:think|believe)|i'm (?:sure|confident)(?: that)?|(?:we|i) (?:get|find|have)|it comes to"
    r"|(?:it|that|this|there)(?:['’]s| is)|the (?:right |correct |final )?(?:answer|result) is|we get)\b[\s,:]*)+",
    re.IGNORECASE,
)
_TRAIL = re.compile(
    r"(?:\s*(?:[✓✔✅☑]|😊|\bin total\b|,? (?:indeed|of course|i (?:think|believe))\b)[\s.!]*)+$", re.IGNORECASE
)
_PLUS = re.compile(r"(?:(?<=is )|(?<=[={$*])|^)\+(?=\d)", re.MULTILINE)  # "+1"
_NUMBERED = re.compile(r"^[ \t]*\d{1,2}[.)]\s", re.MULTILINE)
_BY = re.compile(r"^\s*\w+(?:ed|en|ung|ade|uilt) by\s+")  # "was written by …"
_BULLET = re.compile(r"^\s*(?:[-*•>#]+\s+|\(?[\dA-Za-z]{1,2}[.)]\s+)+")
_HEADING = re.compile(r":$|\b(?:answer|solution|result|final|conclusion|explanation)\b")
_OPENING = re.compile(  # "With m = 2 and b = 1, …"
    r"^\W*(?:using|with|given|since|because|if|when|as|for|by|after|[^\W\d_]+ing)\b.*,\s+(?=[^,]*$)", re.IGNORECASE
)
_CONTINUES = re.compile(r"\s*(?:and|so|thus|then|giving|therefore|which (?:is|gives|simplifies))\b", re.IGNORECASE)
_WORD = re.compile(rf"(?!(?:{FUNCTIONS}|pi)\b)[A-Za-z]{{3,}}")
_TWO_VALUES = re.compile(r"\b([A-Za-z])\s*=\s*([^\s,;]+?),?\s+(?:and|or)\s+\1\s*=\s*([^\s,;]+?)(?=[.,;$]?(?:\s|$))")
_WHEN = re.compile(r"\s(?:in|around|between|during|on)\s(?:the\s)?(?:(?:early|late|mid)\W)?\d.*$", re.IGNORECASE)
_LETTER = re.compile(r"\(\w\)[.:]?|\w[).:]")  # "(B)"
_ARTICLE = re.compile(r"^(?:the|a|an)\s+")


class FinalAnswer:
    """Is the answer's final answer the reference's `correct_answer` (or `target`)?

    Where that is one quantity, values are compared exactly, and units where both have one that is known; an interval, a
    list or set of numbers and a date are compared as such; an expression ("2x + 1"), by its values; a time of day, as times;
    else the words, letter case, articles, quotes and final marks aside. A formula that can't be read is compared letter for
    letter, and what is not the same has no score. What counts as the final answer, `extraction` says, what it comes to,
    `statement`, and whether the text stands by it, `final_answer_gate`; several on offer ("7 or 8") are none. An answer that
    was cut off is truncated: what it would have ended in nobody knows.

    tolerance: the largest difference between quantities that is none, in the reference's unit.
    """

    name: str = "final_answer"
    version: int = 4
    needs_whole_answer: bool = True
    metrics: tuple[str, ...] = ("correct",)

    def __init__(self, tolerance: float | str = 0) -> None:
        self._tolerance = exact_tolerance(tolerance)
        self.parameters: Mapping[str, Json] = {"tolerance": str(tolerance)}

    def check(self, sample: Sample) -> None:
        expected_answers(sample)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        return [best(self._compared(completion.text, expected, sample) for expected in expected_answers(sample))]

    def _compared(self, text: str, expected: str, sample: Sample) -> Score | ScoreFailure:
        extracted, correct = verdict(text, expected, sample.prompt, self._tolerance)
        if correct is None:
            shown = expected if len(expected) <= _SHOWN else f"{expected[:_SHOWN]}…"
            reason = f"the reference {shown!r} is a formula that can't be compared, and the answer is not it letter for letter"
            return ScoreFailure("correct", "permanent", reason)
        return Score("correct", correct, detail={"extracted": extracted, "expected": expected})


def verdict(
    text: str, expected: str, prompt: Prompt = "", tolerance: Fraction = Fraction(0)
) -> tuple[str | None, bool | None]:
    """What the text answers in the end (None: nothing), and whether that is `expected`; None where that can't be said."""
    expected, question = unboxed(_MARKED.split(expected)[-1].strip() or expected), last_question(prompt)
    reference = understood(expected)
    unread = reference is None and opaque(expected)
    if loops(text):
        return None, None if unread else False
    text = _PLUS.sub("", without_denied(without_small_talk(first_turn(said_of(text, prompt)))))
    if len(_NUMBERED.findall(text)) == 1:  # "42. She …" begins no list
        text = re.sub(r"\A(\s*\d{1,2})\.\s+(?=\S)", r"\1\n\n", text)
    if isinstance(reference, Expression):
        return _expression_said(in_terms(text), reference, in_terms(question))
    if unread:
        return _formula_said(text, expected, question)
    if isinstance(reference, Form) and (found := _form_said(text, reference)) is not None:
        said, right = found
        return (said, right) if not right or stands_by(text, reference, question) else (None, False)
    if isinstance(reference, Quantity):
        text = said_plainly(text, question, reference)
        said, right = _quantity_said(text, reference, expected, tolerance)
        return (said, right) if not right or stands_by(text, reference, question, tolerance) else (None, False)
    said, right = _words_said(text, expected, question)
    forms = (expected, plain(expected).strip(), (said or expected).strip(" .,;:!?"))
    return (said, right) if not right or stands_by_words(text, forms, question) else (None, False)


def _expression_said(text: str, target: Expression, question: str) -> tuple[str | None, bool]:
    reader = TermReader(target)
    statement = passage(text, lambda part: len(part) <= _LONGEST and reader.said(part) is not None)
    statement = _OPENING.sub("", statement or "")
    asides = (cut for cut in ASIDE.finditer(statement) if not _CONTINUES.match(statement, cut.end()))
    aside = next((cut for cut in asides if "(" not in cut[0] or _WORD.match(statement, cut.end())), None)
    head = statement[: aside.start()] if aside else statement
    found = reader.said(head) or reader.said(statement)
    if found is None or not found[1]:
        return (found[0] if found else None), False
    return (found[0], True) if stands_by(text, target, question) else (None, False)


def _formula_said(text: str, expected: str, question: str) -> tuple[str | None, bool | None]:
    """The reference letter for letter, or nobody knows: whoever writes it in another way may be right."""
    statement = passage(text, lambda part: bool(part.strip()) and not _CHATTER.match(part))
    for part in _sayings(statement) if statement else []:
        if same_formula(part, expected) and stands_by_words(
            text.replace(part.strip(" ."), _STANDS), (_STANDS,), question
        ):
            return part, True
    return statement, None


def _quantity_said(text: str, target: Quantity, expected: str, tolerance: Fraction) -> tuple[str | None, bool]:
    if _bare_list(text) or any(single_number(two[2]) != single_number(two[3]) for two in _TWO_VALUES.finditer(text)):
        return None, False
    statement = passage(text, lambda part: bool(quantities(part)))
    if statement and target.value.denominator > 1:  # "3 out of 4" is 3 otherwise
        statement = _SHARE.sub(r"\1/\2", statement)
    forms = read_value(statement) if statement else []
    said = next((run for run, value in forms if value.equals(target, tolerance)), None)
    if (
        said is not None
        and statement is not None
        and not (goes_on(statement, said, expected) or is_part(said, statement))
    ):
        return said, True
    return forms[-1][0] if forms else None, False


def _form_said(text: str, wanted: Form) -> tuple[str | None, bool] | None:
    """The last form of the kind that is wanted in what the text says; None if there is none."""
    statement = passage(text, lambda part: len(part) <= _LONGEST and bool(forms_like(wanted, in_notation(plain(part)))))
    statement = in_notation(plain(statement or ""))
    found = forms_like(wanted, statement)
    aside = _NOT.search(statement, found[0][1]) if found else None
    found = [each for each in found if not aside or each[1] <= aside.start()]
    return (statement[found[-1][0] : found[-1][1]], wanted.equals(found[-1][2])) if found else None


def _words_said(text: str, expected: str, question: str) -> tuple[str | None, bool]:
    wanted = normal_text(expected)
    statement = lone_first(text) or passage(text, lambda part: bool(normal_text(part)) and not _CHATTER.match(part))
    if statement is None or _listed(text):
        return None, False
    clock = single_time(expected)
    shown = times(statement) if clock and not _DENIED.search(statement) else []
    if clock and shown:  # several times are none, unless they mean the same
        return shown[-1][0], bool(clock.intersection(*(time for _, time in shown)))
    if is_told(normal_text(statement), wanted, question):
        return expected, True
    sayings = _sayings(statement)
    if lettered := re.fullmatch(r"\((\w)\)", wanted):  # an option's
        wanted = lettered[1]
    if len(wanted) == 1:
        sayings += [part.strip("().:") for part in sayings if _LETTER.fullmatch(part)]
    return next(((part, True) for part in sayings if normal_text(part) == wanted), (sayings[-1], False))


def _bare_list(text: str) -> bool:
    """Does the text end in lines that are each but a number? Who counts up does not answer."""
    lines = [line.strip(" \t-*•,.;") for line in text.split("\n") if line.strip()]
    return len(lines) > 2 and all(single_number(line) is not None for line in lines[-3:])


def _sayings(statement: str) -> list[str]:
    """What a statement may say: all of it, what its opening leads to, or its last verb, up to an aside."""
    led = _LEAD.sub("", _TRAIL.sub("", statement))
    heads = [ASIDE.split(part, maxsplit=1)[0] for part in (led, statement)]
    tails = [heads[1][cut.end() :] for cut in list(COPULA.finditer(heads[1]))[-1:]]
    tails += statement.split(", so ")[1:]
    tails += [_BY.sub("", tail) for tail in tails]
    tails += [_WHEN.sub("", tail) for tail in tails]
    return [part.strip() for part in (statement, led, *heads, *tails) if part.strip()]


def _listed(text: str) -> bool:
    """Is the text nothing but several lines of a word or a few? Who lists answers gives none."""
    lines = [normal_text(_BULLET.sub("", line)) for line in text.split("\n") if line.strip()]
    short = all(len(line.split()) <= 3 and not _HEADING.search(line) for line in lines)
    return short and len(set(lines)) > 1


def normal_text(text: str) -> str:
    """Words without dress: one form of each character, no letter case, TeX, quotes, marks around them, or article."""
    text = plain(unicodedata.normalize("NFKC", text)).casefold()
    text = re.sub(r"[*_`\"“”'‘’$\\{}]", "", text)
    text = re.sub(r"\s*([,()\[\]=+/<>-])\s*", r"\1", re.sub(r"\s+", " ", text)).strip(" .,;:!?")
    return _ARTICLE.sub("", text)
