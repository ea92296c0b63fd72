"""Log-probabilities of given tokens on llama.cpp's server, which tells them only of what it generates.

So it is made to generate them: one request with a grammar that allows these tokens alone, one after the other. A token that
is a part of a character, or ends an answer, can't be forced so: its step is taken with the choice forced to the end-of-text
token, and the token is looked for among the likeliest. Log-probabilities are of the logits as they are, before anything is
forced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from assay.adapters.gguf_header import GgufHeader
from assay.errors import GenerationError
from assay.models.likelihood import Weighed, Window
from assay.models.llama_server import LlamaServer, ServerError

_STEP: Mapping[str, Any] = {
    "stream": False,
    "cache_prompt": False,
    "post_sampling_probs": False,
    "n_probs": 1,
    "temperature": 0.0,
    "response_fields": ["completion_probabilities"],
}


class ForcedTokens:
    """What is known of a model's tokens, for all requests."""

    def __init__(self, header: GgufHeader) -> None:
        self._size = header.lengths.get("tokenizer.ggml.tokens", 0)
        self._end = int(header.values.get("tokenizer.ggml.eos_token_id", 0))
        # Those that no grammar can force. Others that end an answer become known when a request fails.
        self._alone = {self._end}
        begin = header.values.get("tokenizer.ggml.bos_token_id")
        self.has_bos = begin is not None
        self.begin = self._end if begin is None else int(begin)  # stands for an empty prompt

    def encode(self, server: LlamaServer, text: str) -> list[int]:
        """The text's tokens, as those of a prompt."""
        wanted = {"content": text, "add_special": True, "parse_special": True, "with_pieces": True}
        tokens = server.post("/tokenize", wanted)["tokens"]
        self._alone.update(token["id"] for token in tokens if not isinstance(token["piece"], str))
        return [int(token["id"]) for token in tokens]

    def weigh(self, server: LlamaServer, lora: Sequence[Mapping[str, Any]], window: Window) -> list[Weighed]:
        """How likely each token of a window is. lora: the scale of every adapter. Raises `ServerError`, `GenerationError`."""
        prompt = window.ids[: len(window.ids) - len(window.told) + 1]
        return self._told(server, {**_STEP, "lora": lora}, list(prompt), list(window.told))

    def step(self, server: LlamaServer, request: Mapping[str, Any], token: int) -> Weighed:
        """How likely this token is after the request's prompt; works for every token."""
        for count in (1, 64, self._size):  # the likeliest token is nearly always the one
            step = {**request, **_STEP, "n_predict": 1, "n_probs": count, "logit_bias": [[self._end, 1e6]]}
            found = server.post("/completion", step)["completion_probabilities"][0]["top_logprobs"]
            for place, entry in enumerate(found):
                if entry["id"] == token:
                    return Weighed(token, exact_logprob(entry), place == 0)
        raise GenerationError("llama.cpp gave no log-probability for a token of the text")

    def _told(
        self, server: LlamaServer, request: Mapping[str, Any], before: list[int], told: list[int]
    ) -> list[Weighed]:
        found: list[Weighed] = []
        for alone, group in groupby(told, self._alone.__contains__):
            run = list(group)
            if alone:
                for token in run:
                    found.append(self.step(server, {**request, "prompt": before}, token))
                    before = [*before, token]
            else:
                found += self._run(server, request, before, run)
                before = [*before, *run]
        return found

    def _run(self, server: LlamaServer, request: Mapping[str, Any], before: list[int], run: list[int]) -> list[Weighed]:
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in run)
        wanted = {**request, "prompt": before, "samplers": ["temperature"], "grammar": grammar, "n_predict": len(run)}
        try:
            entries = server.post("/completion", wanted)["completion_probabilities"]
        except ServerError as error:
            if "grammar" not in str(error):
                raise
            entries = []
        if [entry["id"] for entry in entries] == run:
            return [Weighed(e["id"], exact_logprob(e), e["id"] == e["top_logprobs"][0]["id"]) for e in entries]
        if len(run) == 1:
            self._alone.update(run)
        half = len(run) // 2
        first, rest = run[:half], run[half:]
        return [
            *self._told(server, request, before, first),
            *self._told(server, request, [*before, *first], rest),
        ]


# llama.cpp takes its logarithms of probabilities in float32. Below this they have lost digits, and soon are those of 0.
_FAINTEST = -92.0


def logprob_of(entry: Mapping[str, Any]) -> float:
    """An entry's log-probability. Raises `GenerationError` where it is not a number."""
    if entry["logprob"] is None:  # JSON's way to say NaN
        raise GenerationError(
            "the model's probabilities are not numbers: its weights, or the adapter's, overflow or hold NaN"
        )
    return min(0.0, float(entry["logprob"]))


def exact_logprob(entry: Mapping[str, Any]) -> float:
    """The same, where the number itself is wanted. Raises `GenerationError` also for one that llama.cpp can't tell."""
    logprob = logprob_of(entry)
    if logprob < _FAINTEST:
        raise GenerationError(
            f"a token is less likely than e^{_FAINTEST:g}, which llama.cpp can't tell from impossible; mlx and transformers can"
        )
    return logprob
