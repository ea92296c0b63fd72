"""The MLX engine: any model that mlx-lm runs, with LoRA adapters swapped in place on a base that is loaded once."""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from assay.errors import AssayError, GenerationError, ModelError
from assay.models.answer import check_values, checked_logprob
from assay.models.base import ModelInfo
from assay.models.hf_text import HfText
from assay.models.likelihood import Weighed, Window, likelihoods
from assay.models.local import LikelihoodRequest
from assay.models.mlx_adapters import AdapterSlots
from assay.models.mlx_load import context_length, load
from assay.types import Adapter, Chunk, EngineSettings, FinishReason, GenerateOptions, Likelihood, Prompt, Usage

_RESIDENT = 16
_POSITIONS = 512  # of a given text that go through the model together
_PENALTY_WINDOW = 64  # tokens that repeat_penalty looks back on, as llama.cpp does; mlx-lm's own default is 20


def open_engine(path: str, settings: EngineSettings) -> MlxEngine:
    """Load the model in the folder `path`. Raises `ModelError`. Call it on the thread that will generate."""
    try:
        return MlxEngine(Path(path), settings)
    except ModelError:
        _end_streams()
        raise


class MlxEngine:
    """A `LogprobEngine` over mlx-lm. All calls come from the thread that made it: MLX's streams belong to a thread."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        loaded = load(path, settings.memory_limit)
        self._model: Any = loaded.model
        self._tokenizer: Any = loaded.tokenizer
        self._slots = AdapterSlots(self._model)
        self._limits = _set_limits(settings)
        lengths = [n for n in (context_length(loaded.config), settings.context_length) if n is not None]
        self.info: ModelInfo = ModelInfo(
            name=f"mlx:{path}",
            engine="mlx",
            engine_version=loaded.about,
            identity=loaded.identity,
            context_length=min(lengths, default=None),
            concurrency=4,  # the engine takes one at a time; its queue should never be empty
            resident_adapters=_RESIDENT,
        )
        self._text = HfText(
            self.info.name,
            self._tokenizer,
            self._tokenizer.eos_token_ids,
            template=self._tokenizer.has_chat_template,
            length=self.info.context_length,
        )
        self.info = self._text.beginning(self.info)

    def load_files(self, folder: Path) -> None:
        """Put the adapter in the folder in for good, as mlx-lm's own loader does: from then on it is part of the base."""
        from mlx_lm.tuner.utils import load_adapters

        load_adapters(self._model, str(folder)).eval()

    def render(self, prompt: Prompt) -> str:
        return self._text.render(prompt)

    def ended(self, prompt: Prompt, answer: str) -> str:
        return self._text.ended(prompt, answer)

    def generate(self, text: str, options: GenerateOptions, adapter: str | None) -> Iterator[Chunk]:
        """Stream the answer; a chunk for each token, so that closing the iterator stops within one.

        Raises `GenerationError` for a prompt that is empty or leaves the context no room, `UnsupportedOption`.
        """
        started = time.perf_counter()
        check_values("mlx", options)
        ids = self._text.prompt(text, options)
        room = self._text.room(len(ids), options.max_tokens)
        self._slots.use(adapter)
        answer = self._text.answer(options)
        finish: FinishReason = "length"
        with closing(self._tokens(ids, options, room)) as tokens:
            for token, logprob in tokens:
                chunk = answer.take(token, logprob)
                if answer.finished:
                    finish = "stop"
                    break
                yield chunk
        rest, last = answer.end()
        usage = Usage(len(ids), answer.count, time.perf_counter() - started, answer.logprob)
        yield Chunk(rest, finish, usage, last)

    def likelihoods(self, requests: Sequence[LikelihoodRequest]) -> Sequence[Likelihood | AssayError]:
        return likelihoods(requests, self._text.split, self.info.context_length, self._weigh)

    def make_resident(self, adapters: Sequence[Adapter]) -> None:
        self._slots.make_resident(adapters)

    def close(self) -> None:
        """Free the weights and give the process its former limits back."""
        import gc

        import mlx.core as mx

        self._slots.make_resident(())
        self._model = self._tokenizer = None
        del self._slots, self._text
        gc.collect()
        mx.clear_cache()
        _end_streams()
        for name, before in self._limits.items():
            getattr(mx, name)(before)

    def _weigh(self, windows: Sequence[Window]) -> Iterator[list[Weighed] | AssayError]:
        for window in windows:
            try:
                self._slots.use(window.adapter)
                yield _told(self._model, window)
            except GenerationError as error:
                yield error

    def _tokens(self, ids: list[int], options: GenerateOptions, room: int) -> Generator[tuple[int, float], None, None]:
        """At most `room` token ids, each with its log-probability. The KV cache dies with the generator."""
        import mlx.core as mx
        from mlx_lm.generate import generate_step
        from mlx_lm.sample_utils import make_logits_processors, make_sampler

        mx.random.seed(secrets.randbits(63) if options.seed is None else options.seed)
        seen: deque[Any] = deque()
        # First: before the penalty changes the logits.
        processors: list[Callable[[Any, Any], Any]] = [lambda _, logits: _remember(seen, logits)]
        if options.repeat_penalty != 1.0:
            processors += make_logits_processors(
                repetition_penalty=options.repeat_penalty, repetition_context_size=_PENALTY_WINDOW
            )
        vocabulary = len(self._tokenizer)
        sampler = make_sampler(
            temp=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k if options.top_k < vocabulary else 0,  # mlx-lm refuses to keep all
        )
        steps = generate_step(
            mx.array(ids), self._model, max_tokens=room, sampler=sampler, logits_processors=processors
        )
        with closing(steps):
            for token, _ in steps:
                # generate_step runs one step ahead, so the oldest remembered one belongs to this token.
                yield token, checked_logprob(seen.popleft()[token].item())


def _end_streams() -> None:
    """End this thread's streams, where it ends as well: MLX aborts a process that ends while they are taken down."""
    if "mlx.core" in sys.modules and threading.current_thread() is not threading.main_thread():
        import mlx.core as mx

        mx.clear_streams()


def _told(model: Any, window: Window) -> list[Weighed]:
    """Weigh a window's tokens. A long one goes through the model in parts, as mlx-lm processes a prompt."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache: Any = make_prompt_cache(model)
    first = len(window.ids) - len(window.told)  # from this position on, logits are needed
    found: list[Weighed] = []
    for begin in range(0, len(window.ids), _POSITIONS):
        logits = model(mx.array(list(window.ids[begin : begin + _POSITIONS]))[None], cache=cache)[0]
        told = window.told[max(0, begin - first) : max(0, begin + logits.shape[0] - first)]
        if not told:
            mx.eval([layer.state for layer in cache])
            continue
        exact = logits[-len(told) :].astype(mx.float32)
        ids = mx.array(list(told))
        logprobs: Any = mx.take_along_axis(exact, ids[:, None], axis=1)[:, 0] - mx.logsumexp(exact, axis=-1)
        likeliest: Any = exact.argmax(-1)
        found += [
            Weighed(token, checked_logprob(logprob), token == best)
            for token, logprob, best in zip(told, logprobs.tolist(), likeliest.tolist(), strict=True)
        ]
    return found


def _remember(seen: deque[Any], logits: Any) -> Any:
    """Keep the log-probabilities over the vocabulary, in float32, and hand the logits on as they are."""
    import mlx.core as mx

    exact = logits[0].astype(mx.float32)
    seen.append(exact - mx.logsumexp(exact))
    return logits


def _set_limits(settings: EngineSettings) -> dict[str, int]:
    """Set MLX's limits, in bytes for the whole process; return the former ones by the function that sets them."""
    import mlx.core as mx

    before: dict[str, int] = {}
    for name, limit in (("set_memory_limit", settings.memory_limit), ("set_cache_limit", settings.cache_limit)):
        if limit is not None:
            before[name] = getattr(mx, name)(limit)
    return before
