"""The kernel: the few types that every other module speaks.

Nothing here does any work, and all types are immutable. Nothing of assay's is imported, but for the error about a value that
makes no sense, and how a path is written.

They are `msgspec.Struct`s: made in a seventh of the time of a frozen dataclass (0.2 µs and 1.4 µs for a `Score`), and defined
in a twentieth (0.02 ms and 0.8 ms for six fields), for which every start waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import msgspec

from assay.errors import ConfigError
from assay.paths import recorded

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length"]
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Raw(str):
    """Text that is sent to the model untouched: no chat template, no role markers."""

    __slots__ = ()


# A plain string is one user message; the chat template is applied wherever the model has one. Messages need one.
Prompt: TypeAlias = str | Raw | Sequence[Message]


def unwrapped(prompt: Prompt) -> Prompt:
    """The same, a lone user message as its text: wherever both can be asked, they are one question."""
    if isinstance(prompt, str) or len(prompt) != 1 or prompt[0].role != "user":
        return prompt
    return prompt[0].content


class GenerateOptions(msgspec.Struct, frozen=True):
    """How to generate. The defaults are neutral: greedy, nothing cut, nothing penalised.

    An engine that cannot honour an option that differs from its neutral value raises `UnsupportedOption`.

    temperature: 0 is greedy. max_tokens: tokens generated at most. top_p: 1 is off. top_k: 0 is off.
    repeat_penalty: 1 is off. stop: generation ends before the first of these. seed: None lets the engine choose.
    logprobs: report each generated token's id and natural-log probability under the model, before sampling is shaped
    by temperature or cut-offs. truncate_prompt: a prompt that leaves no room for `max_tokens` loses its beginning, as with
    lm-evaluation-harness; else it is the answer that ends early.
    """

    temperature: float = 0.0
    max_tokens: int = 512
    top_p: float = 1.0
    top_k: int = 0
    repeat_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: bool = False
    truncate_prompt: bool = False

    def as_told(self) -> dict[str, Any]:
        """As they are journaled and digested: what came later is left out where it is neutral, for it changed nothing."""
        told = msgspec.structs.asdict(self)
        if not self.truncate_prompt:
            del told["truncate_prompt"]
        return told


class SparingOptions(GenerateOptions, frozen=True):
    """Options for a server that refuses some of them: nothing is sent of those `left_out`, and its own values hold."""

    left_out: frozenset[str] = frozenset()


class Token(msgspec.Struct, frozen=True):
    """One generated token: its id in the model's vocabulary and its natural-log probability (at most 0)."""

    id: int
    logprob: float


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one generation, and the engine's own time for it in seconds (queueing left out).

    logprob: the sum of the generated tokens' natural-log probabilities, as far as the engine reports them on the way; None if
    it reports none. It is the same each time the same model gives the same answer, and so tells models apart that give the
    same text; it is no substitute for `Chunk.tokens`, which has every token.
    """

    prompt_tokens: int
    completion_tokens: int
    seconds: float = 0.0
    logprob: float | None = None


class Chunk(msgspec.Struct, frozen=True):
    """A piece of generated text. Only the last one of a stream carries `finish_reason` and `usage`.

    `tokens` is filled only where `GenerateOptions.logprobs` asked for it.
    """

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    tokens: tuple[Token, ...] = ()


class Completion(msgspec.Struct, frozen=True):
    """A whole answer. `finish_reason` "length" means that it was cut off at `max_tokens`."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    tokens: tuple[Token, ...] = ()


class Likelihood(msgspec.Struct, frozen=True):
    """How likely a model finds a given text.

    tokens: the text's tokens in order, each with its natural-log probability given all that comes before it. greedy: each is
    the likeliest of the vocabulary in its place, so greedy decoding would give this text.
    """

    tokens: tuple[Token, ...]
    greedy: bool

    @property
    def logprob(self) -> float:
        """The text's natural-log probability: the sum over its tokens."""
        return math.fsum(token.logprob for token in self.tokens)


class Sample(msgspec.Struct, frozen=True):
    """One question. `reference` holds what scorers compare with (`target`, …); `group` is what tables show."""

    id: str
    prompt: Prompt
    group: str = "all"
    reference: Mapping[str, Json] = {}
    metadata: Mapping[str, Json] = {}


class Score(msgspec.Struct, frozen=True):
    """One metric's value for one answer: a boolean, or a number within `low` and `high`.

    weight: how much it counts in a mean, None where all count the same; of a mean over a text's tokens their number, so that
    means of such means are over all tokens. lower_is_better: of a loss. geometric: means are those of its logarithm, as of a
    perplexity; such a score has a weight.
    """

    metric: str
    value: bool | float
    low: float = 0.0
    high: float = 1.0
    detail: Mapping[str, Json] = {}
    weight: float | None = None
    lower_is_better: bool = False
    geometric: bool = False


FailureClass: TypeAlias = Literal["transient", "permanent", "refused", "truncated"]


class ScoreFailure(msgspec.Struct, frozen=True):
    """Why there is no score. Never a zero in disguise: a failure is counted apart from wrong answers."""

    metric: str
    error_class: FailureClass
    reason: str


Layout: TypeAlias = Literal["mlx", "peft", "gguf"]


class Checkpoint(msgspec.Struct, frozen=True):
    """What training wrote, as found on a host: one adapter file and the configuration beside it.

    `modified_ns` and `size` (bytes) are the file's as last seen, the `config_` ones its configuration's (0 where there is none
    yet); the weights' digest is known only once it is read. host: "" is this machine. layout: who wrote it, mlx-lm or PEFT,
    or a GGUF file, which has no configuration and names itself in its place.
    name: the label where its folder's name decides it. tag, run_id: what stands for the model and the run in go-ml's tables.
    numbered: its iteration is in its name; else it is the last one written, which may hold the weights of a numbered one.
    """

    run: str
    iteration: int
    weights: PurePosixPath
    config: PurePosixPath
    size: int
    modified_ns: int
    config_size: int = 0
    config_modified_ns: int = 0
    host: str = ""
    layout: Layout = "mlx"
    name: str = ""
    tag: str = ""
    run_id: str = ""
    numbered: bool = True

    @property
    def state(self) -> tuple[int, int, int, int]:
        """What changes when the checkpoint does; the configuration is part of it, for it holds the scale."""
        return self.size, self.modified_ns, self.config_size, self.config_modified_ns

    @property
    def path(self) -> str:
        """Where its weights are, as records say it."""
        return recorded(self.weights, self.host)

    @property
    def file(self) -> tuple[str, str]:
        """What tells its file from all others: the host and the path there."""
        return self.host, self.path

    @property
    def label(self) -> str:
        return self.name or f"{self.run} @{self.iteration}"


class TensorSpec(msgspec.Struct, frozen=True):
    """A tensor's shape and its dtype's name in safetensors or ggml (`F32`, `BF16`, `Q8_0`, …)."""

    shape: tuple[int, ...]
    dtype: str


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter that was read and found whole, in a folder of our own where nobody overwrites it.

    digest: sha256 hex of the tensors (names, dtypes, shapes, bytes), the effective scale and the rank; where modules differ,
    those of each.
    scale: what the low-rank product is multiplied with (`lora_alpha / rank` in PEFT's terms).
    layers: how many blocks, counted from the last, its configuration adapts (-1: all; 0: the modules that it names one by one).
    architecture: of the base that a GGUF adapter is for; "" for an adapter in mlx-lm's form.
    own: the rank and the scale of each module that differs from `rank` and `scale`, by mlx-lm's names.
    input_only: it adapts an embedding as PEFT does, where that is the output as well the input alone; mlx-lm adapts both.
    """

    digest: str
    weights: Path
    rank: int
    scale: float
    layers: int
    tensors: Mapping[str, TensorSpec]
    architecture: str = ""
    own: Mapping[str, tuple[int, float]] = {}
    input_only: bool = False

    def size(self, module: str) -> tuple[int, float]:
        """The module's rank and scale."""
        return self.own.get(module, (self.rank, self.scale))


class EngineSettings(msgspec.Struct, frozen=True):
    """What a local engine may use; None leaves it to the engine. Limits are in bytes, the context length in tokens.

    silence_seconds: an engine in a child process that says nothing for so long while it is asked, not even a token, is taken
    for hung and ended. llama_server: the program that runs `llama-server:` models, by its path or as a command on PATH; None is
    llama-server.
    """

    memory_limit: int | None = None
    cache_limit: int | None = None
    context_length: int | None = None
    silence_seconds: float = 600.0
    llama_server: str | None = None


# A second try after a deadline was missed is worth it; a third would only make the sample take for ever.
_TOTAL_IN_CALLS = 1.5


class HttpSettings(msgspec.Struct, frozen=True):
    """How to talk to a server.

    concurrency: requests under way at once, at most. call_seconds: the deadline of one request, from sending it to the
    end of its answer. total_seconds: of one question with all its repetitions, waiting included; None is 1.5 times
    `call_seconds`. attempts: requests for one question, at most; those refused with 429 don't count. The wait before
    repetition n is random, from 0 to `backoff_seconds` · 2ⁿ⁻¹ and at most `backoff_cap_seconds`, or what the server asks
    for. connect_seconds: the deadline for making a connection. Raises `ConfigError` for values that make no sense.
    """

    concurrency: int = 32
    call_seconds: float = 300.0
    total_seconds: float | None = None
    attempts: int = 5
    backoff_seconds: float = 0.5
    backoff_cap_seconds: float = 30.0
    connect_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        for name in ("call_seconds", "total", "backoff_seconds", "backoff_cap_seconds", "connect_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number of seconds above 0, not {getattr(self, name)!r}")

    @property
    def total(self) -> float:
        """Seconds that a question may take with all its repetitions."""
        return _TOTAL_IN_CALLS * self.call_seconds if self.total_seconds is None else self.total_seconds

    def with_call(self, seconds: float) -> HttpSettings:
        """The same with another deadline for a request. A `total_seconds` that has no room for one is given up."""
        total = self.total_seconds
        return msgspec.structs.replace(
            self, call_seconds=seconds, total_seconds=total if total is not None and total >= seconds else None
        )


class AdapterPlace(msgspec.Struct, frozen=True):
    """Where a server finds the adapters that it is to load, for none can be sent to it.

    folder: one that it can read: a path of this machine, or `ssh://HOST/PATH` to have them copied there; "" where the server
    runs on this machine. on_server: what the server calls that folder, "" where it is the same. own: a folder of this machine
    that copies may lie in and that nobody else uses; None for a temporary one.
    """

    folder: str = ""
    on_server: str = ""
    own: Path | None = None


class Cell(msgspec.Struct, frozen=True):
    """One sample's result under one metric at one checkpoint: the atom of every table.

    outcome: "scored" has a value; "failed" and "truncated" have none and are never counted as wrong.
    iteration: 0 for the base, whose digest is "". value: a boolean metric's 0.0 or 1.0 where `boolean` is set.
    question: a digest of what was asked, "" if unknown. numbered: `sample` is only a line's number in a file without ids,
    beginning: where the question is called by its own, for people. weight, lower_is_better, geometric: as in `Score`; a cell
    without a value has the defaults.
    """

    run: str
    checkpoint: str
    iteration: int
    digest: str
    suite: str
    group: str
    sample: str
    metric: str
    outcome: Literal["scored", "failed", "truncated"]
    value: float | None = None
    boolean: bool = True
    low: float = 0.0
    high: float = 1.0
    question: str = ""
    numbered: bool = False
    beginning: str = ""
    weight: float | None = None
    lower_is_better: bool = False
    geometric: bool = False


class Goal(msgspec.Struct, frozen=True):
    """What a suite wants of a checkpoint: which groups should gain, which may not lose more than `tolerance`.

    `tolerance` is a difference of group means (0.1 allows one lost of ten).
    """

    improve: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    tolerance: float = 0.0
