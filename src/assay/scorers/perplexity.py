"""Held-out loss: how surprised a model is by a text that it was not trained on, as trainers measure it while they train.

The mean over texts is over all their tokens, as a trainer's is: each text counts by its number of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from assay.results.records import TextWeighed
from assay.types import Completion, Json, Sample, Score, ScoreFailure

_METRICS = ("loss", "perplexity", "bits_per_byte")
_MOST = 700.0  # nats; a float can't hold e to the power of more


class Perplexity:
    """The loss of the sample's `target` after its prompt, in nats a token; lower is better.

    `perplexity` is e to the power of it. `bits_per_byte` is the text's information over its bytes in UTF-8, which can be
    compared between models whose tokenizers differ; a text counts by its bytes there. The token that ends the text is among its
    tokens.
    """

    name: str = "perplexity"
    version: int = 1
    needs_whole_answer: bool = False
    ended: bool = True
    metrics: tuple[str, ...] = _METRICS

    def __init__(self) -> None:
        self.parameters: Mapping[str, Json] = {}

    def check(self, sample: Sample) -> None:
        target = sample.reference.get("target")
        if not isinstance(target, str):
            raise ValueError("it has no target, or several, and perplexity is of one text")
        if not target:
            raise ValueError("its target is empty")

    def texts(self, sample: Sample) -> Sequence[str]:
        return (str(sample.reference["target"]),)

    def weigh(self, sample: Sample, weighed: Sequence[TextWeighed]) -> Sequence[Score | ScoreFailure]:
        (text,) = weighed
        loss = -text.logprob / text.tokens
        size = len(str(sample.reference["target"]).encode())
        detail: dict[str, Json] = {"tokens": text.tokens, "bytes": size, "logprob": text.logprob}
        bits = -text.logprob / math.log(2) / size
        return (
            Score("loss", loss, 0.0, math.inf, detail, text.tokens, lower_is_better=True),
            Score("perplexity", math.exp(loss), 1.0, math.inf, {}, text.tokens, lower_is_better=True, geometric=True)
            if loss < _MOST
            else ScoreFailure("perplexity", "permanent", f"e to the power of {loss:.0f} is beyond all numbers"),
            Score("bits_per_byte", bits, 0.0, math.inf, {}, size, lower_is_better=True),
        )

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        """Of an answer that was generated nothing is known but its text."""
        reason = "perplexity weighs the sample's target, for which it needs the model; an answer can't be scored by it"
        return [ScoreFailure(metric, "permanent", reason) for metric in _METRICS]
