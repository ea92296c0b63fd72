"""Any model of assay's, with any adapter, as a model of lm-evaluation-harness.

`import assay.lm_eval` makes the name `assay` known to it, and `assay lm-eval` is its command line with that name. Texts are
split into tokens as its `hf` model does, so that in float32 the numbers are the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import lm_eval.models  # noqa: F401, for its own models become known only while no other is
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from msgspec.structs import replace
from tqdm import tqdm

from assay.adapters.named import adapter_at
from assay.errors import BadInput, ModelError, UnsupportedOption
from assay.models.base import (
    AdapterModel,
    RenderingModel,
    TextModel,
    asked_logprob_model,
    complete,
    ended,
    logprob_model,
)
from assay.models.beginning import begun, in_context, whole_text
from assay.models.open import open_model
from assay.models.sync import run_sync
from assay.plugins import nearest
from assay.proof import baseline, fingerprint, judge
from assay.suites.lm_eval_options import MAX_TOKENS, options_of
from assay.types import EngineSettings, Likelihood, Message, Raw

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

T = TypeVar("T")

_logger = logging.getLogger(__name__)

# Requests that are handed to the engine at once, which sizes its batches itself.
_TOGETHER = 256
_ARGUMENTS = ("base", "adapter", "max_length", "add_bos_token")


@register_model("assay")
class AssayLM(LM):  # type: ignore[misc]
    """`base` with `adapter` attached, as lm-evaluation-harness asks a model.

    base: a model's spec (`mlx:PATH`, `llama:PATH.gguf`, a URL, a path), or an open `TextModel`, which stays open. adapter: a
    folder that mlx-lm or PEFT wrote, or a GGUF file. max_length: tokens of prompt and text together; by default the model's
    own. add_bos_token: begin every text with the token that begins a text, where the tokenizer doesn't. batch_size,
    max_batch_size, device: what lm-evaluation-harness hands to every model; engines choose them.

    Raises `BadInput` for a model or adapter that can't be had, and for an argument that is none of these.
    """

    def __init__(
        self,
        base: str | TextModel = "",
        adapter: str | Path | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        for name, value in others.items():
            if value is not None:
                raise BadInput(f"the model assay has no argument {name!r}; {nearest(name, _ARGUMENTS)}")
        if not base:
            raise BadInput("the model assay needs the argument base, such as --model_args base=mlx:PATH")
        self._owned: list[TextModel] = []
        try:
            self._model = run_sync(self._opened(base, adapter, max_length))
            if add_bos_token is not None:
                self._learn()
            self._check_beginning(add_bos_token)
        except BaseException:
            self.close()
            raise
        self._add_bos = bool(add_bos_token)

    @property
    def max_length(self) -> int | None:
        """Tokens of prompt and text together; None if unknown."""
        return self._model.info.context_length

    @property
    def max_gen_toks(self) -> int:
        """Tokens of an answer for which the task names no number."""
        return MAX_TOKENS

    @property
    def tokenizer_name(self) -> str:
        """What stands for tokenizer and chat template in the names of cached requests."""
        return self._model.info.identity[:16]

    def close(self) -> None:
        """Detach the adapter, and close the model if it was opened here."""
        while self._owned:
            run_sync(self._owned.pop().aclose())

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """How likely each continuation is after its context, and whether it is the likeliest."""
        self._learn()

        async def weighed(context: str, continuation: str) -> tuple[float, bool]:
            found = await self._weigh(*in_context(self._model.info, context, continuation, add=self._add_bos))
            return found.logprob, found.greedy

        return self._each("loglikelihood", requests, weighed, quiet=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """How likely each whole text is."""
        self._learn()

        async def weighed(text: str) -> float:
            return (await self._weigh("", whole_text(self._model.info, text, add=self._add_bos))).logprob

        return self._each("loglikelihood_rolling", requests, weighed, quiet=disable_tqdm)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Each context's answer, up to the first of the texts that end it."""

        tight = 0

        async def answered(context: str, wanted: dict[str, Any]) -> str:
            nonlocal tight
            options = replace(options_of(wanted), truncate_prompt=True)
            prompt = Raw(begun(self._model.info, context, add=self._add_bos))
            answer = await complete(self._model, prompt, options)
            length = self.max_length
            tight += length is not None and answer.usage.prompt_tokens + options.max_tokens >= length
            return answer.text

        found = self._each("generate_until", requests, answered, quiet=disable_tqdm)
        if tight:
            _logger.warning(
                "%d of %d prompts fill the context of %s tokens but for max_gen_toks; what was longer has lost its beginning",
                *(tight, len(found), self.max_length),
            )
        return found

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation under the model's chat template, ready for an answer, or in the middle of its last one.

        As with `hf`, a template that refuses the conversation is given it without the system message.
        """
        try:
            return run_sync(self._rendered(chat_history, add_generation_prompt))
        except ModelError:
            spoken = [turn for turn in chat_history if turn["role"] != "system"]
            if len(spoken) == len(chat_history):
                raise
            _logger.warning("the chat template refuses the conversation; it is given it without the system message")
            return run_sync(self._rendered(spoken, add_generation_prompt))

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """What the log of a run says of the template. Raises `BadInput` for one by a name: a model has its own."""
        if isinstance(chat_template, str):
            raise BadInput(
                f"the model assay applies the model's own chat template; leave out the name {chat_template!r}"
            )
        return f"the chat template of {self._model.info.name}" if chat_template else None

    def get_model_info(self) -> dict[str, Any]:
        """Who answers, for the results' file."""
        info = self._model.info
        return {
            "model_name": info.name,
            "model_engine": f"{info.engine} {info.engine_version}",
            "model_identity": info.identity,
            "model_adapter": info.adapter,
        }

    async def _opened(self, base: str | TextModel, adapter: str | Path | None, length: int | None) -> TextModel:
        """The model, under the adapter if there is one."""
        found = None if adapter is None else adapter_at(Path(adapter))
        if not isinstance(base, str):
            model: TextModel = base
        else:
            model = await open_model(base, EngineSettings(context_length=length))
            self._owned.append(model)
        if length is not None and model.info.context_length != length:
            has = model.info.context_length
            raise BadInput(
                f"{model.info.name} has a context of {has} tokens, not of {length}; leave max_length out"
                if has is not None
                else f"how long the context of {model.info.name} is, isn't known here; leave max_length out"
            )
        if found is None:
            return model
        if not isinstance(model, AdapterModel):
            raise BadInput(f"{model.info.name} can't be given adapters; serve it with the adapter in place")
        before = await baseline(model)
        attached = await model.attach(found)
        self._owned.append(attached)
        own = await fingerprint(attached, logprobs=before.logprobs)
        verdict = judge(before, own, own, {})
        if verdict.verdict != "live":
            _logger.warning("the adapter %s could not be shown to be live: %s", adapter, verdict.reason)
        return attached

    def _learn(self) -> None:
        """See that the model tells how likely a text is, and so what begins one. Raises `UnsupportedOption`."""
        run_sync(asked_logprob_model(self._model))

    def _check_beginning(self, add_bos_token: bool | None) -> None:
        info = self._model.info
        if add_bos_token is False and info.begins:
            raise UnsupportedOption(
                f"the tokenizer of {info.name} begins every text with {info.begin!r}, and no engine leaves it out; leave out "
                "add_bos_token=False"
            )
        if add_bos_token and not info.begin:
            raise UnsupportedOption(f"{info.name} doesn't tell which token begins a text; leave out add_bos_token")

    async def _weigh(self, context: str, text: str) -> Likelihood:
        return await logprob_model(self._model).loglikelihood(Raw(context), text)

    async def _rendered(self, history: Sequence[dict[str, str]], prompt: bool) -> str:
        if not isinstance(self._model, RenderingModel):
            raise UnsupportedOption(
                f"{self._model.info.name} doesn't show its chat template; leave out apply_chat_template"
            )
        turns = tuple(Message(turn["role"], turn["content"]) for turn in history)  # type: ignore[arg-type]
        if prompt:
            return await self._model.render(turns)
        *before, last = turns
        # An answer that has begun stands where the template has a whole one.
        whole = await ended(self._model, before, last.content)
        if not whole.startswith(last.content):
            raise ModelError(f"the chat template of {self._model.info.name} rewrites an answer that has begun")
        return await self._model.render(before) + last.content

    def _each(
        self, what: str, requests: Sequence[Instance], work: Callable[..., Awaitable[T]], *, quiet: bool
    ) -> list[T]:
        """What came of each request, in order. The longest are asked first: texts of like length share a batch."""
        asked = [request.args for request in requests]
        order = sorted(range(len(asked)), key=lambda at: -sum(len(part) for part in asked[at] if isinstance(part, str)))
        found: dict[int, T] = {}

        async def together(places: Sequence[int]) -> list[T | BaseException]:
            return await asyncio.gather(*(work(*asked[at]) for at in places), return_exceptions=True)

        with tqdm(total=len(asked), desc=f"Running {what} requests", disable=quiet) as bar:
            for begin in range(0, len(order), _TOGETHER):
                places = order[begin : begin + _TOGETHER]
                for at, came in zip(places, run_sync(together(places)), strict=True):
                    if isinstance(came, BaseException):
                        raise came
                    found[at] = came
                    self.cache_hook.add_partial(what, asked[at], came)
                bar.update(len(places))
        return [found[at] for at in range(len(asked))]
