"""Do two engines compute the same with what should be the same adapter?

Both answer the same prompts greedily, and both tell how likely they find the same text, token by token: what every engine tells
in one unit. So that "no difference" can't mean that neither applied it, how far the adapter moves the same numbers stands
beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from assay.errors import GenerationError
from assay.models.base import TextModel, asked_logprob_model, complete_many
from assay.types import GenerateOptions, Likelihood, Prompt

PROMPTS: tuple[str, ...] = (
    "What is the capital of France?",
    "What is 3 + 4?",
    "Write one sentence about the sea.",
    "List three colours.",
    "Who are you?",
    "Translate to German: good morning.",
    "Why is the sky blue?",
    "Continue: once upon a time",
)
TOLERANCE = 0.01  # of a token's natural-log probability
_TOKENS = 32  # of an answer
_IN_PLACE = " and"  # weighed where an answer is empty
_CLEAR = 10  # times the engines' difference: less of an effect could be noise


@dataclass(frozen=True, slots=True)
class Said:
    """What a model answered to each prompt, and how likely it finds the given text after it."""

    texts: Sequence[str]
    told: Sequence[Likelihood]


@dataclass(frozen=True, slots=True)
class Side:
    """One engine, without the adapter and with it."""

    engine: str
    base: Said
    tuned: Said


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two engines compare. Differences are the largest of a token's natural-log probability.

    apart, bases_apart: between the engines, with the adapter and without; infinite where they make other tokens of one text.
    moved: what the adapter changes, on each. same: prompts that both answer alike under the adapter. changed: those whose
    answer the adapter changes. problem: why they don't agree, or "".
    """

    prompts: int
    tokens: int
    apart: float
    bases_apart: float
    moved: tuple[float, float]
    same: int
    changed: int
    problem: str


async def said(
    model: TextModel, prompts: Sequence[Prompt], given: Sequence[str] | None = None
) -> tuple[Said, list[str]]:
    """What the model says, and the texts that were weighed: those given, or else its own answers."""
    answers = await complete_many(model, prompts, GenerateOptions(max_tokens=_TOKENS))
    texts: list[str] = []
    for answer in answers:
        if isinstance(answer, GenerationError):
            raise answer
        texts.append(answer.text)
    weighed = list(given) if given is not None else [text if text.strip() else _IN_PLACE for text in texts]
    teller = await asked_logprob_model(model)
    told = [await teller.loglikelihood(prompt, text) for prompt, text in zip(prompts, weighed, strict=True)]
    return Said(texts, told), weighed


def compare(first: Side, second: Side, tolerance: float = TOLERANCE) -> Agreement:
    """Whether two engines that were given the same texts agree on them."""
    apart = _largest(first.tuned, second.tuned)
    bases_apart = _largest(first.base, second.base)
    moved = _largest(first.base, first.tuned), _largest(second.base, second.tuned)
    same = sum(one == other for one, other in zip(first.tuned.texts, second.tuned.texts, strict=True))
    count = len(first.tuned.texts)
    return Agreement(
        prompts=count,
        tokens=sum(len(told.tokens) for told in first.tuned.told),
        apart=apart,
        bases_apart=bases_apart,
        moved=moved,
        same=same,
        changed=sum(one != other for one, other in zip(first.base.texts, first.tuned.texts, strict=True)),
        problem=_problem(apart, bases_apart, moved, same == count, tolerance),
    )


def _largest(one: Said, other: Said) -> float:
    """The largest difference of a token's log-probability; infinite where the texts have other tokens."""
    largest = 0.0
    for ours, theirs in zip(one.told, other.told, strict=True):
        if [token.id for token in ours.tokens] != [token.id for token in theirs.tokens]:
            return math.inf
        differences = (abs(a.logprob - b.logprob) for a, b in zip(ours.tokens, theirs.tokens, strict=True))
        largest = max(largest, *differences)
    return largest


def _problem(apart: float, bases_apart: float, moved: tuple[float, float], same: bool, tolerance: float) -> str:
    if math.isinf(bases_apart):
        return "they make other tokens of one text, so these are not one base"
    if bases_apart > tolerance:
        return "the bases alone differ by more than the tolerance: compare bases of one type, or raise it"
    if apart > tolerance:
        return "with the adapter they differ by more than the tolerance, and the bases alone do not"
    if min(moved) <= _CLEAR * apart:
        return "the adapter moves the numbers too little to tell whether both apply it"
    return "" if same else "greedy text differs"
