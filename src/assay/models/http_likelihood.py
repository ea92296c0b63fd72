"""How likely a given text is to a model behind a URL, where its server is vLLM's.

vLLM tells of a prompt's tokens what others tell of an answer's (`prompt_logprobs`), and doesn't take what it has computed
before for it. The field is no part of the API, and servers pass over what they don't know: so it is asked first whether the
server tells it, and each reply is held against the very tokens that were sent, one entry a place.

vLLM 0.32 that runs on a CPU and takes LoRA adapters dies where it weighs a prompt in one step with any other request (it has
an index of adapters for each request, and looks for one for each token). What a server runs on, it doesn't tell. So whoever
takes adapters, or doesn't say so, is asked to weigh one text at a time, and nothing else meanwhile. On a GPU the same index
makes that an adapter of the output layer is left out of the numbers; such an adapter isn't weighed under.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from assay.errors import AssayError, GenerationError, UnsupportedOption
from assay.models.answer import checked_logprob
from assay.models.base import LIKELIHOODS
from assay.models.http import HttpModel
from assay.models.http_ask import ask
from assay.models.http_faults import Fault
from assay.models.http_health import Form, Question
from assay.models.http_protocol import Request, read_reply
from assay.models.http_retry import Attempts
from assay.models.http_tokens import INFO, PLAIN, START, ServerTokens, Special, read
from assay.models.likelihood import Weighed, Window, joined, split_text, texts_of, windows
from assay.models.local import LikelihoodRequest
from assay.types import GenerateOptions, Likelihood, Prompt, Raw

METRICS = "/metrics"
_ABSENT = (404, 405, 501)
_ONE = GenerateOptions(max_tokens=1)  # no server generates less
_IMPOSSIBLE = -9999.0  # what vLLM writes for minus infinity
_ROUNDING = 1e-3

# Log-probabilities at one place of a prompt by the ids of their tokens: the one that stands there, and the likeliest.
Place = Mapping[int, float | None]


class _Entry(msgspec.Struct, frozen=True):
    logprob: float | None


class _Choice(msgspec.Struct, frozen=True):
    prompt_logprobs: list[dict[int, _Entry] | None] | None = None


class _Reply(msgspec.Struct, frozen=True):
    choices: list[_Choice]


class WeighingHttpModel(HttpModel):
    """An `HttpModel` that is a `LogprobModel` and an `EndingModel` where its server can be one."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._learning = asyncio.Lock()
        self._tokens: ServerTokens | None = None
        self._alone = True  # while a text is weighed
        self._unable = ""

    async def learn_likelihoods(self) -> None:
        """Ask the server, once, whether it tells how likely a text is; `info` says it from then on.

        Raises `UnsupportedOption` if it doesn't, and what any question raises.
        """
        await self._learned()

    async def loglikelihood(self, prompt: Prompt, continuation: str) -> Likelihood:
        return await self.loglikelihood_as("", prompt, continuation)

    async def loglikelihood_as(self, model: str, prompt: Prompt, continuation: str) -> Likelihood:
        """`loglikelihood` of another model of the server, "" for the one that the address names."""
        tokens = await self._learned()
        raw = isinstance(prompt, Raw)
        request = LikelihoodRequest(await tokens.render(prompt), continuation, None, raw)
        if raw and not tokens.begin and not request.text.strip():
            raise UnsupportedOption(
                f"the prompt is empty, and {self._info.name} doesn't tell which token begins a text; {START}"
            )
        texts = texts_of(request)
        encoded = dict(zip(texts, await _all([tokens.encode(text, raw=raw) for text in texts]), strict=True))
        before, told = split_text(encoded.__getitem__, request, tokens.begin_id)
        parts = windows(before, told, self._room(tokens))
        found = joined(await _all([self._weighed(model, window) for window in parts]))
        if isinstance(found, AssayError):
            raise found
        return found

    async def ended(self, prompt: Prompt, answer: str) -> str:
        """The answer as training data has it behind the rendered prompt."""
        return await (await self._learned()).ended(prompt, answer)

    def _room(self, tokens: ServerTokens) -> int:
        """Tokens that may come before one that is told: it is part of the prompt as well, and one is generated."""
        own = tokens.length - 2
        return own if self._info.context_length is None else min(own, self._info.context_length)

    async def _weighed(self, model: str, window: Window) -> list[Weighed]:
        ids = [*window.ids, window.told[-1]]
        places = await self.told(Question(Raw(PLAIN), _ONE, model=model), self._weighing(ids))
        return weighed(ids, places, len(window.told))

    def _weighing(self, prompt: str | Sequence[int]) -> Form[list[Place | None] | None]:
        """The form in which a prompt is weighed. Greedy, for older versions shape a prompt's probabilities as an answer's."""
        body = {"prompt": prompt, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
        return Form(
            lambda asked: Request("/completions", {"model": asked.model or self._address.model, **body}),
            _read,
            alone=self._alone,
        )

    async def _learned(self) -> ServerTokens:
        async with self._learning:
            if self._unable:
                raise UnsupportedOption(self._unable)
            if self._tokens is None:
                try:
                    self._tokens = await self._found_out()
                except UnsupportedOption as error:
                    self._unable = str(error)
                    raise
                self._info = replace(self._info, likelihoods=True, begin=self._tokens.begin, begins=self._tokens.begins)
            return self._tokens

    async def _found_out(self) -> ServerTokens:
        """What the server shows of its tokens, once it was seen to tell how likely they are."""
        self._alone = not await self._takes_none()
        places = await self._asked_first(self._weighing(PLAIN))
        if places is None:
            raise self._refusal("it passes over prompt_logprobs")
        tokens = ServerTokens(self._info.name, self._asked_beside, await self._special())
        sent = await tokens.learn()
        try:
            weighed(sent, places, len(sent) - 1)
        except GenerationError as error:
            raise self._refusal(str(error)) from None
        return tokens

    async def _takes_none(self) -> bool:
        """Does the server say that it takes no adapters?"""
        try:
            told = await ask(self._address.root, self._settings, self._key, METRICS, again=lambda _: False)
        except Fault:  # a server that is gone will not answer the next question either
            return False
        return b"vllm:cache_config_info" in told and b"vllm:lora_requests_info" not in told

    async def _special(self) -> Special:
        """What the server tells of its tokenizer's own tokens: nothing, unless it was started for that."""
        attempts = Attempts(self._settings)
        attempts.start()
        try:
            return read(await ask(self._address.root, self._settings, self._key, INFO), Special)
        except Fault as fault:
            if not fault.again or fault.kind == "garbled":
                return Special()
            raise await self._given_up(fault, Question(Raw(PLAIN), _ONE), attempts) from None

    async def _asked_beside(self, path: str, body: Mapping[str, Any], reading: Callable[[bytes], Any]) -> Any:
        """What is asked of the tokenizer. It is the base's, whatever adapter is on it."""
        form: Form[Any] = Form(
            lambda _: Request(path, {"model": self._address.model, **body}, root=True), lambda told, *_: reading(told)
        )
        return await (self._asked_first(form) if self._tokens is None else self.told(Question(Raw(PLAIN), _ONE), form))

    async def _asked_first(self, form: Form[Any]) -> Any:
        """The reply, while it isn't known whether the server can: what it refuses, or has no path for, it can't."""
        question, attempts = Question(Raw(PLAIN), _ONE), Attempts(self._settings)
        self._check(question.options)
        try:
            return await self._answer(question, form, attempts)
        except UnsupportedOption as error:
            raise self._refusal(str(error)) from None
        except Fault as fault:
            if fault.kind == "unsuited" or fault.status in _ABSENT:
                raise self._refusal(self._scrubbed(fault.reason)) from None
            raise await self._given_up(fault, question, attempts) from None

    def _refusal(self, why: str) -> UnsupportedOption:
        return UnsupportedOption(
            f"the server of {self._info.name} can't tell how likely a given text is ({why}); {LIKELIHOODS}"
        )


async def _all(tasks: Sequence[Any]) -> list[Any]:
    """What came of all. The first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(task) for task in tasks]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in running]


def _read(body: bytes, question: Question, seconds: float) -> list[Place | None] | None:
    """What a reply says of the prompt; None if nothing. Raises `Fault`."""
    read_reply(body, question.options, seconds, question.model)
    choices = read(body, _Reply).choices
    told = choices[0].prompt_logprobs if choices else None
    if told is None:
        return None
    return [None if place is None else {token: entry.logprob for token, entry in place.items()} for place in told]


def weighed(ids: Sequence[int], places: Sequence[Place | None] | None, count: int) -> list[Weighed]:
    """The last `count` of the tokens that were sent, by what was told of every place. Raises `GenerationError`."""
    if places is None or len(places) != len(ids):
        raise GenerationError(f"of {len(ids)} tokens the server weighed {len(places or ())}")
    found = [_one(token, place or {}) for token, place in zip(ids[1:], places[1:], strict=True)]
    for each in found[-count:]:
        if each.logprob <= _IMPOSSIBLE:
            raise GenerationError(
                f"the model gives the token {each.id} no probability at all, as far as the server's numbers go"
            )
    return found[-count:]


def _one(token: int, place: Place) -> Weighed:
    """One place. It holds the token that stands there and the likeliest, so the former is the less likely of two."""
    told = {each: checked_logprob(math.nan if value is None else value) for each, value in place.items()}
    if token not in told or len(told) > 2 or told[token] > min(told.values()):
        raise GenerationError(
            f"the server weighed other tokens than those that were sent ({', '.join(map(str, told)) or 'none'} in the place of "
            f"{token})"
        )
    if any(value is not None and value > _ROUNDING for value in place.values()) or _total(told) > 1 + _ROUNDING:
        raise GenerationError("the server's numbers are no log-probabilities: start vLLM without --logprobs-mode")
    # Of equally likely ones the first is the likeliest, as with argmax.
    return Weighed(token, told[token], min(told, key=lambda each: (-told[each], each)) == token)


def _total(told: Mapping[int, float]) -> float:
    return math.fsum(math.exp(value) for value in told.values())
