"""The llama.cpp engine: any GGUF model, with LoRA adapters chosen request by request, through llama.cpp's server.

Every request names the scale of every loaded adapter and uses no cache of an earlier one: llama.cpp reuses a cache that
was computed under another adapter otherwise, and the answers are wrong in silence.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from assay.adapters.bases import check_embeddings
from assay.adapters.convert import mlx_to_gguf
from assay.adapters.fit import check_against
from assay.adapters.gguf_header import gguf_files, read_gguf_header
from assay.adapters.gguf_names import gguf_shapes
from assay.errors import AdapterBroken, AdapterMismatch, AssayError, GenerationError, ModelError
from assay.models.answer import check_values
from assay.models.base import ModelInfo, messages_of, messages_shown
from assay.models.likelihood import Weighed, Window, likelihoods, split_text, truncated
from assay.models.llama_answer import LlamaAnswer
from assay.models.llama_embedded import Embedded
from assay.models.llama_files import check_memory, model_file
from assay.models.llama_forced import ForcedTokens
from assay.models.llama_process import Processes
from assay.models.llama_server import Backend, LlamaServer, ServerError, ServerSettings, default_threads
from assay.models.local import LikelihoodRequest
from assay.scratch import Scratch
from assay.types import (
    Adapter,
    Chunk,
    EngineSettings,
    FailureClass,
    GenerateOptions,
    Likelihood,
    Prompt,
    Raw,
    Token,
    Usage,
)

_RESIDENT = 16
_CONTEXT = 8192  # tokens, where neither the model nor the settings want fewer: the cache is allocated in full at once
_PENALTY_WINDOW = 64  # tokens, of prompt and answer, that repeat_penalty looks back on; the MLX engine's is the same
_SEEDS = 2**32 - 1  # llama.cpp's seeds are 32 bits wide, and the last one means "random"

# These alone shape the choice of a token, in mlx-lm's order; each is neutral unless the options say otherwise.
_SAMPLERS = ("penalties", "top_p", "top_k", "temperature")
_NEUTRAL = {
    "min_p": 0.0,
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "dynatemp_range": 0.0,
    "xtc_probability": 0.0,
    "dry_multiplier": 0.0,
    "mirostat": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repeat_last_n": _PENALTY_WINDOW,
}


def open_engine(path: str, settings: EngineSettings) -> LlamaCppEngine:
    """Load the model: `path` is a .gguf file, or a folder that holds exactly one. Raises `ModelError`.

    Of the settings, `context_length` is honoured, and `memory_limit` in so far as a model that is larger is refused;
    llama.cpp keeps no cache of freed memory that `cache_limit` could bound.
    """
    return LlamaCppEngine(model_file(Path(path)), settings, Embedded(), name=f"llama:{path}")


def open_on_llama_server(path: str, settings: EngineSettings) -> LlamaCppEngine:
    """The same on a llama-server in a process of its own: the one that `settings.llama_server` names, or PATH finds."""
    return LlamaCppEngine(
        model_file(Path(path)), settings, Processes.found(settings.llama_server), name=f"llama-server:{path}"
    )


class LlamaCppEngine:
    """A `LocalEngine` over llama.cpp's server."""

    def __init__(self, path: Path, settings: EngineSettings, backend: Backend, name: str) -> None:
        self._header = read_gguf_header(path)
        check_memory(path, settings, backend.memory)
        context = min(self._header.integer("context_length") or _CONTEXT, settings.context_length or _CONTEXT)
        self._settings = ServerSettings(path, context, default_threads())
        self._backend = backend
        self._running = backend.start(self._settings)
        self._folder = Scratch("llama")
        self._ids: dict[str, int] = {}
        context = int(self._server.get("/props")["default_generation_settings"]["n_ctx"])  # as rounded by llama.cpp
        self.info: ModelInfo = ModelInfo(
            name=name,
            engine="llama.cpp",
            engine_version=backend.version,
            identity=_identity(path, backend, context),
            context_length=context,
            concurrency=4,  # the engine takes one at a time; its queue should never be empty
            resident_adapters=_RESIDENT,
        )
        self._bos = self._own_bos()
        props = self._server.get("/props")
        self._eos = str(props["eos_token"])
        self._forced = ForcedTokens(self._header)
        begin = str(props["bos_token"]) if self._forced.has_bos else self._eos
        self.info = msgspec.structs.replace(self.info, begin=begin, begins=bool(self._bos))

    @property
    def _server(self) -> LlamaServer:
        """The server; one that has ended by itself is started anew, with its adapters."""
        if self._running.epitaph() is not None:
            self._running.close()
            self._running = self._backend.start(self._settings)
        return self._running

    def render(self, prompt: Prompt) -> str:
        """The prompt under the model's chat template; `Raw`, and a string where there is no template, as they are.

        llama.cpp applies the template, so this is what llama-server would make of the messages. It leaves the
        beginning-of-text token out where its tokenizer adds one.
        """
        if isinstance(prompt, Raw):
            return str(prompt)
        if "tokenizer.chat_template" not in self._header.values:
            if isinstance(prompt, str):
                return prompt
            raise ModelError(
                f"{self.info.name} has no chat template, so it can't take messages; send plain or raw text (in data: prompt "
                "and completion)"
            )
        given = messages_of(prompt)
        messages = [{"role": message.role, "content": message.content} for message in given]
        try:
            return str(self._server.post("/apply-template", {"messages": messages})["prompt"])
        except ServerError as error:  # templates raise what they like, for instance where they know no system role
            raise ModelError(f"{self.info.name}: the chat template refuses {messages_shown(given)}: {error}") from None

    def ended(self, prompt: Prompt, answer: str) -> str:
        """The answer and the end-of-text token: what a template writes behind that token, llama.cpp doesn't show."""
        return answer if answer.endswith(self._eos) else answer + self._eos

    def generate(self, text: str, options: GenerateOptions, adapter: str | None) -> Iterator[Chunk]:
        """Stream the answer; a chunk for each token that ends a character. Closing the iterator stops within one.

        Raises `GenerationError` for a prompt that is empty or too long, `UnsupportedOption`.
        """
        check_values("llama.cpp", options)
        request = self._request(text, options, adapter)
        started = time.perf_counter()
        answer = LlamaAnswer(options)
        try:
            with closing(self._server.stream("/completion", request)) as events:
                for event in events:
                    chunk = answer.take(event)
                    if answer.finish is not None:
                        break
                    yield chunk
            yield self._last(request, answer, started)
        except ServerError as error:
            raise _generation_error(error) from None

    def likelihoods(self, requests: Sequence[LikelihoodRequest]) -> Sequence[Likelihood | AssayError]:
        # One token fewer than the context: the last one is generated like the others, and the server keeps room for it.
        length = self.info.context_length
        return likelihoods(requests, self._split, length and length - 1, self._weigh)

    def make_resident(self, adapters: Sequence[Adapter]) -> None:
        """Start the server anew with exactly these. The old one ends first, lest two copies of the weights be held.

        Raises `AdapterMismatch` or `AdapterBroken`, after which the former adapters are loaded as before.
        """
        if {adapter.digest for adapter in adapters} == self._ids.keys():
            return
        files = tuple(self._converted(adapter) for adapter in adapters)
        former = self._settings
        self._running.close()
        try:
            self._running = self._backend.start(replace(former, adapters=files))
        except ModelError as error:
            self._running = self._backend.start(former)
            raise AdapterBroken(f"the adapters can't be loaded: {error}") from None
        self._settings = replace(former, adapters=files)
        self._ids = {adapter.digest: place for place, adapter in enumerate(adapters)}
        for unused in set(self._folder.path.glob("*.gguf")) - set(files):
            unused.unlink()

    def close(self) -> None:
        """Free the model and remove the converted adapters."""
        self._running.close()
        self._folder.cleanup()

    def _converted(self, adapter: Adapter) -> Path:
        """The adapter as a GGUF file, checked against the base; one that is a GGUF file already is taken as it is."""
        if adapter.architecture:
            self._check_gguf(adapter)
            return adapter.weights
        file = self._folder.path / f"{adapter.digest}.gguf"
        if file.exists():
            return file
        self._check(adapter)
        heads = self._header.integer("attention.head_count")
        if heads is None:
            raise ModelError(f"{self.info.name} does not say how many attention heads it has; convert it to GGUF again")
        kv_heads = self._header.integer("attention.head_count_kv") or heads
        return mlx_to_gguf(adapter, file, arch=self._header.architecture, heads=heads, kv_heads=kv_heads)

    def _check_gguf(self, adapter: Adapter) -> None:
        own = self._header.architecture
        if adapter.architecture != own:
            raise AdapterMismatch(
                f"the adapter is for models of the architecture {adapter.architecture!r}, and the base is of {own!r}; name the "
                "base that it was trained on"
            )
        self._check(adapter)

    def _check(self, adapter: Adapter) -> None:
        """Raise `AdapterMismatch` unless llama.cpp can take it: on some it would end the process."""
        check_against(adapter, gguf_shapes(self._header.shapes))
        tied = "output.weight" not in self._header.shapes
        check_embeddings((name.rpartition(".")[0] for name in adapter.tensors), tied=tied)

    def _own_bos(self) -> str:
        """The beginning-of-text token's text if the tokenizer puts it before every prompt, else ""."""

        def ids(special: bool) -> list[int]:
            return list(self._server.post("/tokenize", {"content": "a", "add_special": special})["tokens"])

        bos = self._header.values.get("tokenizer.ggml.bos_token_id")
        adds = ids(True)[:1] == [bos] and ids(False)[:1] != [bos]
        return str(self._server.get("/props")["bos_token"]) if adds else ""

    def _encode(self, text: str) -> list[int]:
        return self._forced.encode(self._server, text.removeprefix(self._bos))

    def _split(self, request: LikelihoodRequest) -> tuple[list[int], list[int]]:
        return split_text(self._encode, request, self._forced.begin)

    def _prompt(self, text: str, options: GenerateOptions) -> str | list[int]:
        """The prompt as it is sent: its text, or tokens where it is truncated."""
        if options.truncate_prompt:
            ids = self._encode(text)
            if (kept := truncated(ids, options, self.info.context_length)) != ids:
                return kept
        return text.removeprefix(self._bos)  # the tokenizer adds it

    def _weigh(self, windows: Sequence[Window]) -> Iterator[list[Weighed] | AssayError]:
        for window in windows:
            try:
                yield self._forced.weigh(self._server, self._lora(window.adapter), window)
            except ServerError as error:
                yield _generation_error(error)
            except GenerationError as error:
                yield error

    def _lora(self, adapter: str | None) -> list[dict[str, float]]:
        """The scale of every loaded adapter."""
        if adapter is not None and adapter not in self._ids:
            raise GenerationError(f"the adapter {adapter[:12]} is not resident; attach it first")
        return [{"id": i, "scale": 1.0 if digest == adapter else 0.0} for digest, i in self._ids.items()]

    def _request(self, text: str, options: GenerateOptions, adapter: str | None) -> dict[str, Any]:
        seed = secrets.randbelow(_SEEDS) if options.seed is None else options.seed % _SEEDS
        return {
            **_NEUTRAL,
            "prompt": self._prompt(text, options),
            "stream": True,
            "cache_prompt": False,
            "lora": self._lora(adapter),
            "samplers": _SAMPLERS,
            "n_predict": options.max_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": options.top_k,
            "repeat_penalty": options.repeat_penalty,
            "seed": seed,
            # Stop strings are found here: llama.cpp loses the beginning of one when the answer ends at max_tokens. One
            # that is a special token must show as text to be found.
            "preserved_tokens": options.stop,
            "return_tokens": True,
            "n_probs": 1,
            "post_sampling_probs": False,
            "response_fields": ["stop", "stop_type", "tokens_predicted", "tokens_evaluated"],
        }

    def _last(self, request: Mapping[str, Any], answer: LlamaAnswer, started: float) -> Chunk:
        """The chunk that ends the answer, with the text and the tokens that streaming has kept back."""
        if answer.finish is None:
            raise self._running.broken("the stream ended before the answer")
        if answer.prompt_tokens == 0:
            raise GenerationError("the prompt is empty: there is no token to begin with")
        if answer.incomplete or answer.untold:
            again = self._again(request, answer.count)
            if answer.incomplete:
                answer.complete(str(again["content"]))
            answer.tell(self._tokens(request, answer, [int(i) for i in again["tokens"]]))
        usage = Usage(answer.prompt_tokens, answer.count, time.perf_counter() - started, answer.logprob)
        return Chunk(answer.rest, answer.finish, usage, answer.tokens())

    def _again(self, request: Mapping[str, Any], count: int) -> Any:
        """The same answer in one piece. It is the same to the bit: nothing else is computed beside it."""
        fields = ["content", "tokens"]
        return self._server.post(
            "/completion", {**request, "stream": False, "n_predict": count, "response_fields": fields}
        )

    def _tokens(self, request: Mapping[str, Any], answer: LlamaAnswer, ids: Sequence[int]) -> dict[int, Token]:
        """Tokens that streaming left out: those that end within a character, by their place in the answer."""
        if any(ids[place : place + 1] != [token.id] for place, token in answer.told.items()):
            raise GenerationError("llama.cpp answered the same request differently", error_class="transient")
        return {place: self._token(request, ids, place) for place in answer.untold if place < len(ids)}

    def _token(self, request: Mapping[str, Any], ids: Sequence[int], place: int) -> Token:
        """The token at this place of the answer, whose log-probability llama.cpp does not report by itself."""
        prompt = request["prompt"]
        before = [prompt] if isinstance(prompt, str) else prompt
        step = {**request, "prompt": [*before, *ids[:place]] if place else prompt}
        return Token(ids[place], self._forced.step(self._server, step, ids[place]).logprob)


def _identity(path: Path, backend: Backend, context: int) -> str:
    """A digest of all that decides the answers: the file holds weights, dtype, tokenizer and chat template."""
    settings = f"n_ctx={context} kv=f32 flash_attention=off samplers={_SAMPLERS} repeat_last_n={_PENALTY_WINDOW}"
    digest = hashlib.sha256(f"llama.cpp\n{backend.version}\n{settings}\n{backend.about}".encode())
    for file in gguf_files(path):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _generation_error(error: ServerError) -> GenerationError:
    if error.kind == "exceed_context_size_error":
        return GenerationError(
            f"the prompt has {error.body.get('n_prompt_tokens')} tokens and leaves no room for an answer in the context of "
            f"{error.body.get('n_ctx')} tokens; shorten it or raise the context length"
        )
    kind: FailureClass = "permanent" if 400 <= error.status < 500 else "transient"
    return GenerationError(f"llama.cpp refused the prompt: {error}", error_class=kind)
