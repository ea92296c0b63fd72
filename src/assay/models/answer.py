"""One answer as it grows, for engines that hand out token by token."""

from __future__ import annotations

import math

from assay.errors import GenerationError, UnsupportedOption
from assay.models.stopping import StopFinder, TokenDecoder
from assay.types import Chunk, GenerateOptions, Token


class Answer:
    """One answer as it grows: decoding, stop strings, and the tokens to report."""

    def __init__(self, decoder: TokenDecoder, stops: StopFinder, ending: frozenset[int], logprobs: bool) -> None:
        self._decoder = decoder
        self._stops = stops
        self._ending = ending
        self._logprobs = logprobs
        self.logprob = 0.0
        self._last: tuple[Token, ...] = ()
        self._rest = ""
        self.count = 0
        self.finished = False

    def take(self, token: int, logprob: float) -> Chunk:
        """Take a token. Once `finished`, the chunk is not for showing: `end` tells the rest."""
        self.count += 1
        self.logprob += logprob
        tokens = (Token(token, logprob),) if self._logprobs else ()
        if token in self._ending:
            self.finished, self._last = True, tokens
            return Chunk("")
        text = self._stops.push(self._decoder.push(token))
        if self._stops.hit:
            self.finished, self._last, self._rest = True, tokens, text
        return Chunk(text, tokens=tokens)

    def end(self) -> tuple[str, tuple[Token, ...]]:
        """The text still held back, and the tokens not reported yet."""
        if self._stops.hit:
            return self._rest, self._last
        text = self._stops.push(self._decoder.flush())
        return text + self._stops.flush(), self._last


def checked_logprob(value: float) -> float:
    """The log-probability, at most 0. Raises `GenerationError` if it is no number."""
    if math.isnan(value):
        raise GenerationError(
            "the model's probabilities are not numbers: its weights, or the adapter's, overflow or hold NaN"
        )
    return min(0.0, value)


def check_values(engine: str, options: GenerateOptions) -> None:
    """Refuse values that samplers would take for "off" or fail on. Raises `UnsupportedOption`."""
    wrong = [
        name
        for name, fine in {
            "temperature": options.temperature >= 0,
            "max_tokens": options.max_tokens >= 1,
            "top_p": 0 < options.top_p <= 1,
            "top_k": options.top_k >= 0,
            "repeat_penalty": options.repeat_penalty > 0,
            "stop": "" not in options.stop,
            "seed": options.seed is None or 0 <= options.seed < 2**64,
        }.items()
        if not fine
    ]
    if wrong:
        given = ", ".join(f"{name}={getattr(options, name)!r}" for name in wrong)
        raise UnsupportedOption(f"the {engine} engine can't generate with {given}; choose a value within range")
