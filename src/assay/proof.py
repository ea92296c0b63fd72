"""Is this adapter live? Engines lose, mix up and ignore adapters in silence, so every attachment is shown to be what it claims.

Fixed canary prompts give a fingerprint: the greedy tokens with their log-probabilities where the engine reports them, the
greedy text else. An adapter is live when its fingerprint

1. differs from the bare base's by more than the base's differs from its own on a second run,
2. differs from that of every other adapter (adapters of equal weights are one adapter here: identity is the digest),
3. is the same after the last sample as before the first.

Not protected: an adapter that is lost and comes back between the two fingerprints, and two adapters so alike that no canary
tells them apart; those are shown as unproven.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from assay.errors import UnsupportedOption
from assay.models.base import TextModel, complete
from assay.types import Completion, GenerateOptions

CANARIES = ("Name a city.", "Once upon a time", "Who are you?")

# With log-probabilities a few tokens tell adapters apart to seven digits (consecutive checkpoints of the lab differ by 1e-3
# nats and more); without them it takes text.
_CANARIES_WITH_LOGPROBS = 2
_TOKENS_WITH_LOGPROBS = 2
_TOKENS_OF_TEXT = 24

# Differences below this many nats are rounding, not an adapter: float32 sums in another order move logits by some 1e-6.
_ROUNDING = 2e-6

_COMPANY = 4  # fingerprints taken at the same time
# What a server's company moves is an adapter's own as long as all others are so many times farther away.
_MARGIN = 10.0

Canary: TypeAlias = tuple[str, tuple[int, ...], tuple[float, ...]]
Fingerprint: TypeAlias = tuple[Canary, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`verdict` is "live", "unproven" or "void" (the answers given in between don't count); `reason` says why not live."""

    verdict: str
    reason: str = ""


async def fingerprint(model: TextModel, *, logprobs: bool = True) -> Fingerprint:
    """Ask the canaries, greedily, with log-probabilities where they are wanted and the engine has them.

    Raises `GenerationError` if the model fails, `UnsupportedOption` for a server that turns out to have none.
    """
    logprobs = logprobs and "logprobs" in model.info.options
    options = GenerateOptions(max_tokens=_TOKENS_WITH_LOGPROBS if logprobs else _TOKENS_OF_TEXT, logprobs=logprobs)
    canaries = CANARIES[:_CANARIES_WITH_LOGPROBS] if logprobs else CANARIES
    answers = await asyncio.gather(*(complete(model, canary, options) for canary in canaries))
    return tuple(_canary(answer) for answer in answers)


def _canary(answer: Completion) -> Canary:
    return answer.text, tuple(t.id for t in answer.tokens), tuple(t.logprob for t in answer.tokens)


def distance(a: Fingerprint, b: Fingerprint) -> float:
    """The largest difference of a token's log-probability, in nats; infinite where text or tokens differ."""
    if len(a) != len(b):
        return math.inf
    largest = 0.0
    for (text_a, ids_a, logprobs_a), (text_b, ids_b, logprobs_b) in zip(a, b, strict=True):
        if text_a != text_b or ids_a != ids_b:
            return math.inf
        largest = max([largest, *(abs(x - y) for x, y in zip(logprobs_a, logprobs_b, strict=True))])
    return largest


@dataclass(frozen=True, slots=True)
class Baseline:
    """The base's fingerprint, and `noise`: how far (nats) apart two runs of the same model were seen to be, twice over.

    shared: it is computed together with what others ask, whose company is not ours to choose: runs may be farther apart.
    logprobs: whether the fingerprints to be compared with it are to have log-probabilities.
    """

    base: Fingerprint
    noise: float
    shared: bool = False
    logprobs: bool = True

    def same(self, a: Fingerprint, b: Fingerprint) -> bool:
        """Whether two fingerprints may be of one model."""
        return distance(a, b) <= self.noise

    def stayed(self, before: Fingerprint, after: Fingerprint, others: Iterable[Fingerprint]) -> bool:
        """Whether an adapter's second fingerprint is its own. others: of the other adapters."""
        if self.same(before, after):
            return True
        moved = distance(before, after)
        if not self.shared or math.isinf(moved):
            return False
        return all(moved * _MARGIN <= distance(after, other) for other in (self.base, *others))


async def baseline(base: TextModel) -> Baseline:
    """Fingerprint the bare base twice; where requests are computed together, in company as well, which moves the last bits.

    Whether a server reports log-probabilities, only asking tells: where it doesn't, adapters are told by their greedy text.
    """
    try:
        return await _measured(base, logprobs=True)
    except UnsupportedOption as error:
        if error.option != "logprobs":
            raise
        return await _measured(base, logprobs=False)


async def _measured(base: TextModel, *, logprobs: bool) -> Baseline:
    first = await fingerprint(base, logprobs=logprobs)
    others = [await fingerprint(base, logprobs=logprobs)]
    if base.info.batch > 1 or base.info.declared:
        others += await asyncio.gather(*(fingerprint(base, logprobs=logprobs) for _ in range(_COMPANY)))
    noise = max(_ROUNDING, *(2 * distance(first, other) for other in others))
    return Baseline(first, noise, base.info.declared, logprobs)


def judge(base: Baseline, before: Fingerprint, after: Fingerprint, others: Mapping[str, Fingerprint]) -> Verdict:
    """The verdict on one attachment. others: label → fingerprint of every other adapter that this base has carried."""
    if math.isinf(base.noise):
        return Verdict("unproven", "the base answers differently each time, so nothing can be told from the canaries")
    if not base.stayed(before, after, others.values()):
        what = "the base" if base.same(after, base.base) else "something else"
        return Verdict("void", f"the adapter was lost on the way: the canaries ended as from {what}")
    if base.same(before, base.base):
        return Verdict("unproven", "the canaries are answered exactly as by the base")
    for label, other in others.items():
        if base.same(before, other):
            return Verdict("unproven", f"the canaries are answered exactly as by {label}")
    return Verdict("live")
