"""The transformers engine: any causal model of transformers', on CUDA, MPS or the CPU, with LoRA adapters by PEFT.

Requests that wait together are answered in one batch, each row under its own adapter. A row that has ended leaves the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from assay.errors import AssayError, GenerationError
from assay.models.answer import Answer, check_values, checked_logprob
from assay.models.base import ModelInfo
from assay.models.hf_text import HfText
from assay.models.likelihood import likelihoods
from assay.models.local import LikelihoodRequest, Request
from assay.models.mlx_load import context_length
from assay.models.transformers_adapters import PeftSlots
from assay.models.transformers_likelihood import Scales, out_of_memory
from assay.models.transformers_load import load
from assay.models.transformers_sampling import Sampler
from assay.types import Adapter, Chunk, EngineSettings, FinishReason, GenerateOptions, Likelihood, Prompt, Usage

_RESIDENT = 64
_BATCH = {"cuda": 64, "mps": 16, "cpu": 16}  # rows to begin with; halved whenever the memory is too small for them


def open_engine(path: str, settings: EngineSettings) -> TransformersEngine:
    """Load the model in the folder `path`. Raises `ModelError`."""
    return TransformersEngine(Path(path), settings)


class TransformersEngine:
    """A `BatchEngine` and `LogprobEngine` over transformers and PEFT."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        loaded = load(path, settings.memory_limit)
        self._model: Any = loaded.model
        self._tokenizer: Any = loaded.tokenizer
        self._device = loaded.device
        self._slots = PeftSlots(self._model)
        self.batch = _BATCH[loaded.device]
        self._scales = Scales(self._model, self._slots, self._device, self.batch)
        lengths = [n for n in (context_length(loaded.config), settings.context_length) if n is not None]
        self.info: ModelInfo = ModelInfo(
            name=f"transformers:{path}",
            engine="transformers",
            engine_version=loaded.about,
            identity=loaded.identity,
            context_length=min(lengths, default=None),
            concurrency=2 * self.batch,  # the next batch should be there when one ends
            resident_adapters=_RESIDENT,
        )
        named = self._model.generation_config.eos_token_id
        ends = named if isinstance(named, list) else [named, self._tokenizer.eos_token_id]
        self._text = HfText(
            self.info.name,
            self._tokenizer,
            [end for end in ends if end is not None],
            template=bool(self._tokenizer.chat_template),
            length=self.info.context_length,
        )
        self.info = self._text.beginning(self.info)

    def load_files(self, folder: Path) -> None:
        """Put the adapter in the folder in for good, as PEFT's own loader does: from then on it is part of the base."""
        import warnings

        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what its next versions will do
            PeftModel.from_pretrained(self._model, str(folder)).eval()

    def render(self, prompt: Prompt) -> str:
        return self._text.render(prompt)

    def ended(self, prompt: Prompt, answer: str) -> str:
        return self._text.ended(prompt, answer)

    def generate(self, text: str, options: GenerateOptions, adapter: str | None) -> Iterator[Chunk]:
        """Stream one answer. Raises `GenerationError` for a prompt that is empty or too long, `UnsupportedOption`."""
        for _, item in self.generate_batch([Request(text, options, adapter)], lambda _: False):
            if isinstance(item, AssayError):
                raise item
            yield item

    def generate_batch(
        self, requests: Sequence[Request], dropped: Callable[[int], bool]
    ) -> Iterator[tuple[int, Chunk | AssayError]]:
        """The chunks of all answers as they come, each with its request's place; an error ends that request alone."""
        rows: list[_Row] = []
        for place, request in enumerate(requests):
            try:
                rows.append(self._row(place, request))
            except AssayError as error:
                yield place, error
        waiting = [rows]
        while waiting:
            part = [row for row in waiting.pop(0) if not dropped(row.place)]
            if not part:
                continue
            try:
                yield from self._decode(part, dropped)
            except out_of_memory() as error:
                left = [row for row in part if not row.ended]
                if len(left) <= 1:
                    for row in left:
                        yield (
                            row.place,
                            GenerationError(
                                f"{self._device} has no memory for this answer ({' '.join(str(error).split())[:200]}); set a "
                                "smaller context_length, or take a smaller model"
                            ),
                        )
                    continue
                self.batch = max(1, min(self.batch, len(left) // 2))
                middle = len(left) // 2
                waiting[:0] = [left[:middle], left[middle:]]

    def likelihoods(self, requests: Sequence[LikelihoodRequest]) -> Sequence[Likelihood | AssayError]:
        """What came of each request, in order. One pass for all windows that the memory has room for at once."""
        return likelihoods(requests, self._text.split, self.info.context_length, self._scales.weigh)

    def make_resident(self, adapters: Sequence[Adapter]) -> None:
        self._slots.make_resident(adapters)

    def close(self) -> None:
        """Free the weights."""
        import gc

        import torch

        self._model = self._tokenizer = None
        del self._slots, self._text, self._scales
        gc.collect()
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _row(self, place: int, request: Request) -> _Row:
        options = request.options
        check_values("transformers", options)
        if request.adapter is not None and request.adapter not in self._slots:
            raise GenerationError(f"the adapter {request.adapter[:12]} is not resident; attach it first")
        ids = self._text.prompt(request.text, options)
        room = self._text.room(len(ids), options.max_tokens)
        return _Row(place, request, ids, room, self._text.answer(options), Sampler(options, self._device))

    def _decode(self, rows: list[_Row], dropped: Callable[[int], bool]) -> Iterator[tuple[int, Chunk | AssayError]]:
        """Answer the rows together, from where they are to their ends."""
        import torch

        batch = _Batch(self._model, self._slots, self._device, rows)
        with torch.inference_mode():
            while batch.rows:
                logits = batch.step().float()
                exact = logits.log_softmax(-1)
                likeliest = exact.max(-1)
                greedy = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
                for row, its, known, best in zip(batch.rows, logits, exact, greedy, strict=True):
                    for item in row.take(its, known, best):
                        yield row.place, item
                batch.keep([not row.ended and not dropped(row.place) for row in batch.rows])


class _Row:
    """One request on its way: its tokens, and what was said of it."""

    def __init__(
        self, place: int, request: Request, ids: list[int], room: int, answer: Answer, sampler: Sampler
    ) -> None:
        self.place = place
        self.adapter = request.adapter
        self.ids = ids
        self.ended = False
        self._prompt = len(ids)
        self._room = room
        self._answer = answer
        self._sampler = sampler
        self._started = time.perf_counter()

    def take(self, logits: Any, exact: Any, best: tuple[int, float]) -> Iterator[Chunk | AssayError]:
        """Choose the next token, and say what is new. exact: log-probabilities. best: the likeliest token and its one."""
        try:
            if self._sampler.greedy:
                token, logprob = best
            else:
                token = self._sampler.pick(logits, self.ids)
                logprob = float(exact[token])
            logprob = checked_logprob(logprob)
        except GenerationError as error:
            self.ended = True
            yield error
            return
        self.ids.append(token)
        chunk = self._answer.take(token, logprob)
        if not self._answer.finished:
            yield chunk
        if self._answer.finished or len(self.ids) - self._prompt >= self._room:
            self.ended = True
            yield self._last("stop" if self._answer.finished else "length")

    def _last(self, finish: FinishReason) -> Chunk:
        rest, tokens = self._answer.end()
        seconds = time.perf_counter() - self._started
        return Chunk(rest, finish, Usage(self._prompt, self._answer.count, seconds, self._answer.logprob), tokens)


class _Batch:
    """Rows that are decoded together, padded on the left, and their keys and values."""

    def __init__(self, model: Any, slots: PeftSlots, device: str, rows: list[_Row]) -> None:
        import torch
        from transformers import DynamicCache

        self.rows = rows
        self._model = model
        self._slots = slots
        self._cache: Any = DynamicCache(config=model.config)
        width = max(len(row.ids) for row in rows)
        padded = [[0] * (width - len(row.ids)) + row.ids for row in rows]
        mask = [[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows]
        self._next: Any = torch.tensor(padded, device=device)
        self._mask: Any = torch.tensor(mask, device=device)
        self._at: Any = (self._mask.cumsum(1) - 1).clamp(min=0)

    def step(self) -> Any:
        """The logits of each row's next token, (rows, vocabulary)."""
        import torch

        with self._slots.using([row.adapter for row in self.rows]):
            out = self._model(
                input_ids=self._next,
                attention_mask=self._mask,
                position_ids=self._at,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self._at = self._at[:, -1:] + 1
        return out.logits[:, -1]

    def keep(self, kept: Sequence[bool]) -> None:
        """Go on with these rows, each after the token that it has taken."""
        import torch

        places = [place for place, stays in enumerate(kept) if stays]
        if len(places) < len(self.rows):
            chosen = torch.tensor(places, device=self._mask.device, dtype=torch.long)
            self.rows = [self.rows[place] for place in places]
            if not self.rows:
                return
            self._mask, self._at = self._mask[chosen], self._at[chosen]
            self._cache.batch_select_indices(chosen)
        self._next = torch.tensor([[row.ids[-1]] for row in self.rows], device=self._mask.device)
