"""Which of a few labels a model finds likeliest after a prompt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

import msgspec

from assay.errors import BadInput
from assay.models.base import TextModel, asked_logprob_model
from assay.models.sync import plain
from assay.types import Likelihood, Prompt


class Classification(msgspec.Struct, frozen=True):
    """The likeliest label, the first of equals, and how likely each one is. All labels in the order given."""

    label: str
    likelihoods: Mapping[str, Likelihood]

    @property
    def probabilities(self) -> dict[str, float]:
        """Each label's probability if the answer were one of them: longer labels have less, as they have in the model."""
        top = max(told.logprob for told in self.likelihoods.values())
        weights = {label: math.exp(told.logprob - top) for label, told in self.likelihoods.items()}
        total = math.fsum(weights.values())
        return {label: weight / total for label, weight in weights.items()}


async def classify(model: TextModel, prompts: Sequence[Prompt], labels: Sequence[str]) -> list[Classification]:
    """Of each prompt the label that is likeliest as the model's next words, by `LogprobModel.loglikelihood`.

    A label is taken as it is: after `Raw` text that ends in a word it begins with a blank. Raises `UnsupportedOption` for a
    model that can't tell, `BadInput` for fewer than two labels or one that is there twice, `GenerationError`.
    """
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise BadInput(f"labels to choose from are two or more different ones, not {list(labels)!r}")
    told = await asked_logprob_model(model)
    found = await asyncio.gather(*[told.loglikelihood(prompt, label) for prompt in prompts for label in labels])
    each = len(labels)
    return [_classified(dict(zip(labels, found[at : at + each], strict=True))) for at in range(0, len(found), each)]


def _classified(likelihoods: Mapping[str, Likelihood]) -> Classification:
    return Classification(max(likelihoods, key=lambda label: likelihoods[label].logprob), likelihoods)


classify_sync = plain(classify)
