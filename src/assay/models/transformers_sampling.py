"""The next token of one row: penalty, cut-offs, temperature, in this order."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from assay.types import GenerateOptions

_PENALTY_WINDOW = 64  # tokens that repeat_penalty looks back on, as llama.cpp does


class Sampler:
    """Picks tokens by the options. One row's, with a random state of its own. greedy: it is the likeliest one each time."""

    def __init__(self, options: GenerateOptions, device: str) -> None:
        import torch

        self._options = options
        self.greedy = options.temperature == 0 and options.repeat_penalty == 1.0
        self._chance: Any = None
        if options.temperature > 0:
            seed = secrets.randbits(63) if options.seed is None else options.seed
            self._chance = torch.Generator(device).manual_seed(seed % 2**63)

    def pick(self, logits: Any, seen: Sequence[int]) -> int:
        """A token id. logits: float32, of the vocabulary. seen: the tokens of prompt and answer so far."""
        import torch

        options = self._options
        if options.repeat_penalty != 1.0 and seen:
            logits = _penalised(logits, seen[-_PENALTY_WINDOW:], options.repeat_penalty)
        if self._chance is None:
            return int(logits.argmax())
        if 0 < options.top_k < logits.numel():
            kept = logits.topk(options.top_k)
            logits = torch.full_like(logits, -torch.inf).scatter(0, kept.indices, kept.values)
        if options.top_p < 1.0:
            ordered, places = logits.sort(descending=True)
            before = ordered.softmax(0).cumsum(0) - ordered.softmax(0)
            logits = torch.full_like(logits, -torch.inf).scatter(
                0, places, ordered.masked_fill(before >= options.top_p, -torch.inf)
            )
        weights = (logits / options.temperature).softmax(0)
        return int(torch.multinomial(weights, 1, generator=self._chance))


def _penalised(logits: Any, seen: Sequence[int], penalty: float) -> Any:
    import torch

    places = torch.tensor(sorted(set(seen)), device=logits.device)
    values = logits[places]
    return logits.scatter(0, places, torch.where(values < 0, values * penalty, values / penalty))
