"""Asking a model for a verdict: held to the schema where it can be, asked again where the reply can't be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from assay.errors import GenerationError, ModelError, UnsupportedOption
from assay.models.base import RenderingModel, TextModel, check_options, complete
from assay.models.structured import StructuredModel
from assay.reasoning import continued, final_answer
from assay.results.canonical import digest_of
from assay.scorers.judge_prompt import defused
from assay.scorers.judge_reply import Field, ReplyError, Verdict, read_verdict
from assay.scorers.rubric import REASON
from assay.types import Completion, FailureClass, GenerateOptions, Message, SparingOptions

# The first question and two more: a judge that fails three times was not stopped by chance.
ATTEMPTS = 3

# What chat templates raise that take no system message: Gemma's and Mistral's first ones, and others after them.
_NO_SYSTEM = re.compile(
    r"system (?:role|message|prompt)|roles? .{0,30}\bsystem\b|roles must alternate|only user and assistant",
    re.IGNORECASE,
)

# How much of an unusable reply the judge is shown again; a loop must not fill its context.
_SHOWN_REPLY = 4000


# What a judge can do without, and some reasoning models refuse: they choose for themselves.
_SPARED = ("temperature", "seed")


class NoVerdict(Exception):
    """The judge gave no usable verdict. "transient" means that asking again later may help."""

    def __init__(self, error_class: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.error_class: FailureClass = error_class
        self.reason = reason


class Asked(msgspec.Struct, frozen=True):
    """A verdict and what it took: how many calls, the tokens of all of them, and whether the schema was enforced.

    left_out: options that the server refused, so that it chose for itself.
    """

    verdict: Verdict
    calls: int
    prompt_tokens: int
    completion_tokens: int
    structured: bool
    left_out: tuple[str, ...] = ()


class Asker:
    """A model in the role of a judge. Safe to use from many tasks of one event loop at once.

    identity: what the key of a score needs to know of who judged. Raises `UnsupportedOption` if the model can't honour
    the options; a seed is left out where it can't be set, as are temperature and seed once a server has refused them.
    """

    def __init__(self, model: TextModel, options: GenerateOptions) -> None:
        self.model = model
        self.seeded = "seed" in model.info.options
        self.options = options
        self._left_out: frozenset[str] = frozenset()
        check_options(model.info, self._options(0))
        # Found out by the first call, for some servers only say no when asked.
        self._structured = model if isinstance(model, StructuredModel) else None
        self._rendering = model if isinstance(model, RenderingModel) else None
        # Does the chat template know no system message? None: nobody has answered yet.
        self._one_role: bool | None = None

    @property
    def identity(self) -> str:
        """A digest of the judge: the engine's identity and the adapter's, if one is attached."""
        info = self.model.info
        return _identity(info.identity, info.adapter or "")

    def _options(self, vote: int) -> GenerateOptions:
        seed = (self.options.seed or 0) + vote if self.seeded else None
        return self.options if seed == self.options.seed else msgspec.structs.replace(self.options, seed=seed)

    async def ask(
        self,
        messages: Sequence[Message],
        fields: Mapping[str, Field],
        schema: Mapping[str, Any],
        vote: int = 0,
        judged: str = "",
    ) -> Asked:
        """The verdict on the material `judged`, which stands in the messages.

        A reply that can't be used is shown to the judge again with the reason, twice at most. Raises `NoVerdict` if no
        reply could be used, or if the model failed in mid-answer.
        """
        talk = list(messages)
        reasoned = REASON in schema["required"]
        prompt_tokens = completion_tokens = 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                reply, structured = await self._complete(talk, schema, self._options(vote))
            except GenerationError as error:
                # "truncated" would say that the judged answer was cut off, which it wasn't.
                error_class: FailureClass = "permanent" if error.error_class == "truncated" else error.error_class
                raise NoVerdict(error_class, f"the judge failed: {error}") from error
            prompt_tokens += reply.usage.prompt_tokens
            completion_tokens += reply.usage.completion_tokens
            try:
                cut = reply.finish_reason == "length"
                verdict = read_verdict(reply.text, fields, cut=cut, judged=judged, reasoned=reasoned)
            except ReplyError as error:
                problem = str(error)
            else:
                left_out = tuple(sorted(self._left_out))
                return Asked(verdict, attempt, prompt_tokens, completion_tokens, structured, left_out)
            talk += _again(reply, problem)
        raise NoVerdict("permanent", f"the judge gave no usable verdict in {ATTEMPTS} replies; the last one: {problem}")

    async def _complete(
        self, talk: Sequence[Message], schema: Mapping[str, Any], options: GenerateOptions
    ) -> tuple[Completion, bool]:
        if self._one_role is not True:
            try:
                answered = await self._reply(tuple(talk), schema, options)
            except (GenerationError, ModelError) as error:
                # A template that has taken a system message once takes each: then the words are about something else.
                if self._one_role is False or not _NO_SYSTEM.search(str(error)):
                    raise
            else:
                self._one_role = False
                return answered
        answered = await self._reply(_in_one_role(talk), schema, options)
        if self._one_role is None:
            self._one_role = True
        return answered

    async def _reply(
        self, talk: tuple[Message, ...], schema: Mapping[str, Any], options: GenerateOptions
    ) -> tuple[Completion, bool]:
        while True:
            left_out = self._left_out
            sent = SparingOptions(**msgspec.structs.asdict(options), left_out=left_out) if left_out else options
            try:
                return await self._sent(talk, schema, sent)
            except UnsupportedOption as error:
                if error.option not in _SPARED or error.option in left_out:
                    raise
                self._left_out |= {error.option}

    async def _sent(
        self, talk: tuple[Message, ...], schema: Mapping[str, Any], options: GenerateOptions
    ) -> tuple[Completion, bool]:
        if self._structured is not None:
            try:
                return await self._structured.complete_structured(talk, schema, options), True
            except UnsupportedOption as error:
                if error.option:
                    raise
                self._structured = None
        reply = await complete(self.model, talk, options)
        if self._rendering is not None:  # the chat template may have opened the judge's own reasoning
            reply = msgspec.structs.replace(reply, text=continued(await self._rendering.render(talk), reply.text))
        return reply, False


@lru_cache(maxsize=64)
def _identity(model: str, adapter: str) -> str:
    return digest_of("judge", model, adapter)


def _in_one_role(talk: Sequence[Message]) -> tuple[Message, ...]:
    """The talk with what the system said at the head of the first question."""
    system, first, *rest = talk
    return Message("user", f"{system.content}\n\n{first.content}"), *rest


def _again(reply: Completion, problem: str) -> list[Message]:
    # The reply may quote what was judged, so it's made inert like that was. Thoughts are for whoever thinks them.
    shown = defused((final_answer(reply.text) or "").strip()[:_SHOWN_REPLY]) or "(no text)"
    return [
        Message("assistant", shown),
        Message(
            "user",
            f"That reply can't be used: {defused(problem)}. Reply again with the complete JSON object, and nothing before "
            "or after it.",
        ),
    ]
