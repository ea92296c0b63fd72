"""A sample that is weighed and not asked: each of its texts by the model, or from the journal, which has it from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.errors import UnsupportedOption
from assay.models.base import (
    LogprobModel,
    RenderingModel,
    ServedModel,
    TextModel,
    asked_logprob_model,
    ended,
    logprob_model,
    rendered,
)
from assay.models.beginning import in_context, whole_text
from assay.results.index import Ledger
from assay.results.keys import weighed_text_key
from assay.results.records import Place, TextWeighed, place_of
from assay.scorers.base import Continuation, Scorer, Weigher
from assay.types import Likelihood, Prompt, Raw, Sample

# Has something asked, and once more if the engine died under it.
Asking = Callable[[Callable[[], Awaitable[Likelihood]]], Awaitable[Likelihood]]


@dataclass(frozen=True, slots=True)
class WeighedText:
    """A text as it was weighed, behind its own prompt and with what ends it, and what came of it."""

    prompt: Prompt
    text: str
    made: TextWeighed


def weigher_of(scorers: Sequence[Scorer]) -> Weigher | None:
    """The sample's weigher: its own scorer, the first of these, if that is one."""
    return scorers[0] if scorers and isinstance(scorers[0], Weigher) else None


async def check_weighing(model: TextModel, samples: Iterable[Sample], scorers: Mapping[str, Scorer]) -> None:
    """Raise `UnsupportedOption` if one of the samples is weighed, and the model can't tell how likely its texts are.

    scorers: each sample's own, by its id. What a server doesn't tell of its tokens is said here, before anything is asked.
    """
    weighers = [(sample.prompt, own) for sample in samples if isinstance(own := scorers[sample.id], Weigher)]
    if not weighers:
        return
    told = await asked_logprob_model(model)
    if not isinstance(model, ServedModel):
        return
    raw = [(prompt, weigher) for prompt, weigher in weighers if isinstance(prompt, Raw)]
    if any(weigher.ended for _, weigher in raw):
        await ended(model, Raw(""), "")
    if not model.info.begin and any(not prompt.strip() for prompt, _ in raw):
        await told.loglikelihood(Raw(""), "Yes.")


class Weighing:
    """Weighs samples' texts. fresh: also those that the ledger has."""

    def __init__(self, model: TextModel, ledger: Ledger | None, *, fresh: bool) -> None:
        self._model = model
        self._ledger = ledger
        self._fresh = fresh

    async def sample(
        self, weigher: Weigher, sample: Sample, place: Callable[[], Place], asking: Asking
    ) -> tuple[tuple[WeighedText, ...], bool]:
        """The sample's texts, all at once, and whether the journal had them. Raises `GenerationError`.

        place: where a text stands that was weighed just now. Texts of one sample are of one batch, so that its scores are.
        """
        model = logprob_model(self._model)
        asked = [await self._asked(sample.prompt, text, weigher) for text in weigher.texts(sample)]
        keys = [await self._key(prompt, text) for prompt, text in asked]
        known = [self._ledger.weighed(key) for key in keys] if self._ledger is not None and not self._fresh else []
        had = [made for made in known if made is not None]
        if had and len(had) == len(keys) and len({made.batch for made in had}) == 1:
            return tuple(WeighedText(*own, made) for own, made in zip(asked, had, strict=True)), True
        found = await asyncio.gather(
            *(self._told(model, prompt, text, asking) for prompt, text in asked), return_exceptions=True
        )
        weighed: list[WeighedText] = []
        for at, (own, key, told) in enumerate(zip(asked, keys, found, strict=True)):
            if isinstance(told, BaseException):
                raise told
            made = TextWeighed(
                **place_of(place()), key=key, tokens=len(told.tokens), logprob=told.logprob, greedy=told.greedy, at=at
            )
            weighed.append(WeighedText(*own, made))
        if self._ledger is not None:
            self._ledger.append_all([each.made for each in weighed])
        return tuple(weighed), False

    async def _asked(self, prompt: Prompt, text: str | Continuation, weigher: Weigher) -> tuple[Prompt, str]:
        """A text with the prompt that it follows."""
        if isinstance(text, str):
            return prompt, await ended(self._model, prompt, text) if weigher.ended else text
        info = self._model.info
        if text.whole:
            return Raw(""), whole_text(info, text.text)
        if not isinstance(text.prompt, Raw) and not isinstance(self._model, RenderingModel):
            raise UnsupportedOption(
                f"{info.name} doesn't show its chat template, so nothing can be weighed behind a conversation; name the task "
                "with lm-eval: in place of lm-eval-chat:"
            )
        context, continuation = in_context(info, await rendered(self._model, text.prompt), text.text)
        return Raw(context), continuation

    async def _key(self, prompt: Prompt, text: str) -> str:
        info, form = self._model.info, "raw" if isinstance(prompt, Raw) else ""
        return weighed_text_key(info.identity, info.adapter, form, await rendered(self._model, prompt), text)

    async def _told(self, model: LogprobModel, prompt: Prompt, text: str, asking: Asking) -> Likelihood:
        return await asking(lambda: model.loglikelihood(prompt, text))
