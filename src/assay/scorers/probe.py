"""`probe_answer`: is the final answer of a text the right one, in whatever style it is given?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from assay.scorers.match import exact_tolerance, single_number
from assay.scorers.probe_claims import final_claim
from assay.scorers.probe_doubt import doubted
from assay.scorers.probe_mentions import ChoiceReader, Mention, PatternReader, Reader, yes_no_reader
from assay.scorers.probe_numbers import NumberReader, dimension_of
from assay.scorers.probe_text import loops, plain_text, stressed, without_question
from assay.scorers.probe_words import KNOWN, PROBED, Vocabulary, words_in
from assay.types import Completion, Json, Message, Sample, Score, ScoreFailure

_KINDS = ("number", "choice", "yes_no", "pattern")


class ProbeAnswer:
    """Does the text's final answer equal the sample's `target`? Metric `correct`, its detail `extracted`, `expected`.

    The final answer is what the text commits itself to: not a number or word that merely stands in it. The question
    repeated, a refusal, a list of candidates, "7 or 9", and a right value that is taken back are not right answers;
    text that runs in a loop is wrong, also where it was cut off. Any other answer that was cut off is truncated.

    kind: "number" (compared exactly, in any notation and any unit of the same dimension), "choice" (one of `choices`),
    "yes_no", or "pattern" (whatever matches the regular expression `pattern`; white space and letter case don't count).
    unit: the target's unit, or the nouns of what is counted. others: words of what else is counted or measured, never the
    answer. tolerance: the largest difference that still counts as equal, for decimals of fractions. choices: the
    possible answers, as a list, or each with a list of further forms. asks: words that make a statement an answer
    ("third" in "Otto came third").
    """

    name: str = "probe_answer"
    version: int = 2
    needs_whole_answer: bool = False
    metrics: tuple[str, ...] = ("correct",)

    def __init__(
        self,
        kind: str = "number",
        unit: str = "",
        others: Sequence[str] = (),
        tolerance: float | str = 0,
        choices: Sequence[str] | Mapping[str, Sequence[str]] = (),
        pattern: str = "",
        asks: Sequence[str] = (),
    ) -> None:
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, not {kind!r}")
        self._tolerance = exact_tolerance(tolerance)
        if not isinstance(unit, str) or not isinstance(pattern, str):
            raise ValueError("unit and pattern must be texts")
        if (kind == "choice") and len(choices) < 2:
            raise ValueError("a choice needs at least two choices")
        if (kind == "pattern") != bool(pattern):
            raise ValueError("a pattern is needed for the kind 'pattern', and for no other")
        self._kind, self._unit, self._pattern = kind, unit, _compiled(pattern)
        self._others, self._asks = _texts(others, "others"), _texts(asks, "asks")
        self._forms = _forms(choices, itself=kind == "choice")
        self._asked = (
            re.compile(rf"\b(?:{'|'.join(map(re.escape, self._asks))})\b", re.IGNORECASE) if self._asks else None
        )
        self.parameters: Mapping[str, Json] = {
            **{"kind": kind, "unit": unit, "others": list(self._others), "tolerance": str(tolerance)},
            **{"choices": {c: list(f) for c, f in self._forms.items()}, "pattern": pattern, "asks": list(self._asks)},
        }

    def check(self, sample: Sample) -> None:
        self._reader(sample)

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        looping = loops(completion.text)
        if completion.finish_reason == "length" and not looping:
            return [ScoreFailure("correct", "truncated", "the answer was cut off, perhaps before its conclusion")]
        found = None if looping else self._final(sample, completion.text)
        detail: dict[str, Json] = {"extracted": found.shown if found else None, "expected": _target(sample)}
        return [Score("correct", found is not None and found.right, detail=detail)]

    def _final(self, sample: Sample, answer: str) -> Mention | None:
        text = without_question(plain_text(answer), plain_text(_question(sample)))
        reader = self._reader(sample)
        bold = {mention.value for words in stressed(answer) for mention in reader.read(words).mentions}
        piece = reader.read(text)
        final = final_claim(piece, reader, self._asked, bold.pop() if len(bold) == 1 else None)
        return None if final is None or doubted(piece, final, self._words(sample, reader)) else final

    def _words(self, sample: Sample, reader: Reader) -> Vocabulary:
        # Chances, too, are called by their unit's words.
        counted = "part" in self._unit.split() or dimension_of(self._unit.partition(" ")[0]) is None
        own = [*self._asks, *(reader.nouns if counted else ())]
        return Vocabulary(plain_text(_question(sample)), own, reader.nouns, self._others, PROBED)

    def _reader(self, sample: Sample) -> Reader:
        target = _target(sample)
        if self._kind == "number":
            value = single_number(target)
            if value is None:
                raise ValueError(f"its target {target!r} is not one number, which its scorer needs")
            # Where no unit is given, what the question is about may be counted.
            nouns = [word for word in words_in(_question(sample)) if word not in KNOWN]
            beside = self._asks if self._unit else (*self._asks, *nouns)
            return NumberReader(value, self._unit, self._others, self._tolerance, beside)
        if self._kind == "pattern":
            if not self._pattern.fullmatch(target):
                raise ValueError(f"its target {target!r} doesn't match the pattern {self._pattern.pattern!r}")
            return PatternReader(self._pattern.pattern, target)
        possible = ("yes", "no", "undetermined") if self._kind == "yes_no" else tuple(self._forms)
        if target not in possible:
            raise ValueError(f"its target {target!r} is none of the choices {', '.join(possible)}")
        return yes_no_reader(self._forms, target) if self._kind == "yes_no" else ChoiceReader(self._forms, target)


def _target(sample: Sample) -> str:
    target = sample.reference.get("target")
    if not isinstance(target, str) or not target.strip():
        raise ValueError("it has no target, which its scorer compares answers with")
    return target.strip()


def _question(sample: Sample) -> str:
    prompt = sample.prompt
    if isinstance(prompt, str):
        return str(prompt)
    asked = [message.content for message in prompt if isinstance(message, Message) and message.role == "user"]
    return asked[-1] if asked else ""


def _forms(choices: Sequence[str] | Mapping[str, Sequence[str]], *, itself: bool) -> dict[str, tuple[str, ...]]:
    if isinstance(choices, Mapping):
        forms = {choice: _texts(words, f"the forms of {choice!r}") for choice, words in choices.items()}
    else:
        forms = dict.fromkeys(_texts(choices, "choices"), ())
    return {choice: (choice, *words) if itself else words for choice, words in forms.items()}


def _texts(items: object, what: str) -> tuple[str, ...]:
    if isinstance(items, (str, Mapping)) or not isinstance(items, Sequence):
        raise ValueError(f"{what} must be a list of words, not {items!r}")
    for item in items:
        if not isinstance(item, str) or not item.strip():
            raise ValueError(f"{what} must be words, not {item!r}")
    return tuple(items)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is not a regular expression: {error}") from None
