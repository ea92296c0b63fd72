"""An answer of llama.cpp's server, put together from its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.models.llama_forced import exact_logprob, logprob_of
from assay.models.stopping import StopFinder
from assay.types import Chunk, FinishReason, GenerateOptions, Token


class LlamaAnswer:
    """One answer as its events come. `count` tokens so far; `told` are those whose log-probabilities are known."""

    def __init__(self, options: GenerateOptions) -> None:
        self._stops = StopFinder(options.stop)
        self._logprobs = options.logprobs
        self._raw = ""
        self._reported = 0
        self.told: dict[int, Token] = {}
        self.logprob = 0.0
        self.count = 0
        self.prompt_tokens = 0
        self.finish: FinishReason | None = None
        self.incomplete = False
        self.rest = ""

    @property
    def untold(self) -> list[int]:
        """The places of the tokens that streaming left out, if they are wanted."""
        return [place for place in range(self.count) if place not in self.told] if self._logprobs else []

    def take(self, event: Mapping[str, Any]) -> Chunk:
        """Take an event. Once `finish` is set the chunk is not for showing: `rest` and `tokens` tell the rest."""
        before, self.count = self.count, int(event["tokens_predicted"])
        self.prompt_tokens = int(event["tokens_evaluated"])
        if event["stop"]:
            self.finish = "length" if event["stop_type"] == "limit" else "stop"
            self.incomplete = self.count > before  # tokens were made, but the last is not a whole character
            self.rest = "" if self.incomplete else self._stops.flush()
            return Chunk("")
        for entry in event.get("completion_probabilities", ()):
            told = Token(entry["id"], exact_logprob(entry) if self._logprobs else logprob_of(entry))
            self.told[self.count - 1] = told
            self.logprob += told.logprob
        self._raw += event["content"]
        text = self._stops.push(event["content"])
        if self._stops.hit:
            self.finish, self.rest = "stop", text
            return Chunk("")
        return Chunk(text, tokens=self.tokens())

    def complete(self, whole: str) -> None:
        """Learn the end of the text, in which bytes that never became a character show as U+FFFD."""
        self.rest = self._stops.push(whole[len(self._raw) :]) + self._stops.flush()
        if self._stops.hit:
            self.finish = "stop"

    def tell(self, tokens: Mapping[int, Token]) -> None:
        self.told.update(tokens)

    def tokens(self) -> tuple[Token, ...]:
        """The tokens not reported yet, up to the first that is not known yet; none where they weren't asked for."""
        if not self._logprobs:
            return ()
        fresh: list[Token] = []
        while self._reported in self.told:
            fresh.append(self.told[self._reported])
            self._reported += 1
        return tuple(fresh)
