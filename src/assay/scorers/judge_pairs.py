"""Which of two answers is better, asked in both orders: a verdict that turns with the order is none.

Judges favour a place in the prompt, often the first (L. Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and
Chatbot Arena", NeurIPS 2023, section 3.3, whose remedy this is).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from assay.models.base import TextModel
from assay.reasoning import final_answer
from assay.results.stats import sign_flip_p
from assay.scorers.judge_ask import Asker, NoVerdict
from assay.scorers.judge_prompt import DATA_RULES, block, code_for, defused, described, inputs_of, user_text
from assay.scorers.rubric import REASON, Input, Rubric
from assay.types import GenerateOptions, Json, Message, Prompt, Sample, ScoreFailure

Slot: TypeAlias = Literal["first", "second", "tie"]
Winner: TypeAlias = Literal["a", "b", "tie"]

METRIC = "preference"

_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {REASON: {"type": "string"}, "better": {"type": "string", "enum": list(get_args(Slot))}},
    "required": [REASON, "better"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """The outcome of both orders.

    winner: "tie" also where the two orders disagree; then `consistent` is false. picks: what was chosen with `a` first,
    and with `b` first. reasons: the judge's, for each.
    """

    winner: Winner
    consistent: bool
    picks: tuple[Slot, Slot]
    reasons: tuple[str | None, str | None] = (None, None)
    calls: int = 2


async def judge_pairwise(
    model: TextModel,
    criterion: Rubric | str,
    prompt: Prompt,
    a: str,
    b: str,
    *,
    reference: Mapping[str, Json] | None = None,
    seed: int = 0,
    max_tokens: int = 2048,
) -> PairVerdict | ScoreFailure:
    """Ask which answer to `prompt` is better, at temperature 0, once with `a` first and once with `b` first.

    criterion: a rubric, of which guidance, dimensions and inputs are shown, or what "better" means in plain words.
    reference: the fields that the rubric's inputs name. Reasoning before an answer is cut away. Two equal answers are a tie
    without a call. A failure of either order is a `ScoreFailure`, as is an answer whose reasoning never ends. Raises
    `ValueError` where the rubric's material is missing.
    """
    first, second = final_answer(a), final_answer(b)
    if first is None or second is None:
        return ScoreFailure(
            METRIC, "truncated", "the reasoning of an answer never ends, so there is nothing to compare"
        )
    a, b = first, second
    if a == b:
        return PairVerdict("tie", True, ("tie", "tie"), calls=0)
    asker = Asker(model, GenerateOptions(temperature=0.0, max_tokens=max_tokens, seed=seed))
    sample = Sample("pair", prompt, reference=reference or {})
    picks: list[Slot] = []
    reasons, calls = [], 0
    for answers in ((a, b), (b, a)):
        material = "\n".join(text for _, text in _pieces(criterion, sample, *answers))
        try:
            messages = pair_messages(criterion, sample, *answers)
            asked = await asker.ask(messages, {"better": _slot}, _SCHEMA, judged=material)
        except NoVerdict as error:
            return ScoreFailure(METRIC, error.error_class, error.reason)
        picks.append(asked.verdict.values["better"])
        reasons.append(asked.verdict.reason)
        calls += asked.calls
    return _outcome((picks[0], picks[1]), (reasons[0], reasons[1]), calls)


def _outcome(picks: tuple[Slot, Slot], reasons: tuple[str | None, str | None], calls: int) -> PairVerdict:
    with_a_first: Mapping[Slot, Winner] = {"first": "a", "second": "b", "tie": "tie"}
    with_b_first: Mapping[Slot, Winner] = {"first": "b", "second": "a", "tie": "tie"}
    one, other = with_a_first[picks[0]], with_b_first[picks[1]]
    return PairVerdict(one if one == other else "tie", one == other, picks, reasons, calls)


def _slot(given: Json) -> Slot:
    for slot in get_args(Slot):
        if isinstance(given, str) and given.strip().lower() == slot:
            return slot  # type: ignore[no-any-return]
    raise ValueError(f'must be "first", "second" or "tie", not {str(given)[:40]!r}')


def pair_messages(criterion: Rubric | str, sample: Sample, first: str, second: str) -> tuple[Message, Message]:
    """The prompt for one order; the system message depends on the criterion alone."""
    pieces = _pieces(criterion, sample, first, second)
    code = code_for("pair", {f"{number} {name}": text for number, (name, text) in enumerate(pieces)})
    body = "\n\n".join(f"The {name.replace('_', ' ')}:\n{block(name, defused(text), code)}" for name, text in pieces)
    return Message("system", _system(criterion)), Message("user", user_text(code, body))


def _pieces(criterion: Rubric | str, sample: Sample, first: str, second: str) -> list[tuple[str, str]]:
    """The material by name: what the rubric's inputs show beside the answer, and both answers."""
    inputs = criterion.inputs if isinstance(criterion, Rubric) else (Input("question", "prompt"),)
    shown = inputs_of(tuple(i for i in inputs if i.source != "answer"), sample, "")
    pieces = [(name, text) for name, text in shown.items() if text is not None]
    return [*pieces, ("first_answer", first), ("second_answer", second)]


def _system(criterion: Rubric | str) -> str:
    parts = [
        "You compare two answers to the same question and say which one is better. Their order "
        "means nothing, and neither does their length.",
        DATA_RULES,
    ]
    if isinstance(criterion, Rubric):
        parts += [criterion.guidance] if criterion.guidance else []
        parts += [described(dimension) for dimension in criterion.dimensions]
        parts.append(_better(criterion))
    else:
        parts.append(f"What better means here: {criterion}")
    parts.append(
        "Reply with one JSON object and nothing else. It has exactly these keys, in this order:\n"
        f'- "{REASON}": one or two sentences that name what decided\n'
        '- "better": "first", "second", or "tie" if neither is better'
    )
    return "\n\n".join(parts)


def _better(rubric: Rubric) -> str:
    lower = [d.name for d in rubric.dimensions if d.lower_is_better]
    kind = "better scores" if lower else "higher scores"
    said = f"Better is the answer that would get the {kind} by these descriptions, taken together."
    return f"{said} Higher is better, but for {' and '.join(lower)}, where lower is." if lower else said


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How a judge's picks turned with the order.

    n: pairs. consistent: those with one outcome in both orders. first, second: pairs in which that place won both times.
    other: a tie in one order only. p: two-sided, exact; the chance of a difference between `first` and `second` at least this
    large if neither place were favoured; None without pairs.
    """

    n: int
    consistent: int
    first: int
    second: int
    other: int
    p: float | None


def position_bias(verdicts: Sequence[PairVerdict]) -> PositionBias:
    """Measure it over pairs that were judged in both orders (those that cost no call say nothing, and are left out)."""
    asked = [v for v in verdicts if v.calls]
    first = sum(v.picks == ("first", "first") for v in asked)
    second = sum(v.picks == ("second", "second") for v in asked)
    consistent = sum(v.consistent for v in asked)
    p = sign_flip_p([1.0] * first + [-1.0] * second) if asked else None
    return PositionBias(len(asked), consistent, first, second, len(asked) - consistent - first - second, p)
