"""Any in-process engine as a `TextModel`: one thread per engine, a queue in front of it, cancellation between tokens.

An engine (MLX, llama.cpp) is written as plain synchronous code, `LocalEngine`, and is only ever called from the one
thread that loaded it: MLX binds its streams to their thread, and none of these libraries promises more. The event loop
is never blocked. Requests wait their turn in order of arrival.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from msgspec.structs import replace

from assay.errors import AssayError, GenerationError, UnsupportedOption
from assay.models.attached import AttachedModel, BareCalls
from assay.models.base import ModelInfo, check_options, logprob_model
from assay.models.engine_thread import EngineThread, post
from assay.types import Adapter, Chunk, GenerateOptions, Likelihood, Prompt, Raw

T = TypeVar("T")


class LocalEngine(Protocol):
    """A synchronous engine. Every method, and the factory that made it, runs on one and the same thread.

    `generate` takes text that `render` made, and the digest of a resident adapter or None for the bare base. Its
    iterator yields as tokens come, ends with a chunk that carries `finish_reason` and `usage`, and stops the engine when it
    is closed. `make_resident` is given every adapter that should be attached from now on, oldest first; what it leaves
    out may be forgotten.
    """

    @property
    def info(self) -> ModelInfo: ...

    def render(self, prompt: Prompt) -> str: ...

    def generate(self, text: str, options: GenerateOptions, adapter: str | None) -> Iterator[Chunk]: ...

    def make_resident(self, adapters: Sequence[Adapter]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What an engine is asked: text that `render` made, and the digest of a resident adapter or None."""

    text: str
    options: GenerateOptions
    adapter: str | None


@runtime_checkable
class BatchEngine(LocalEngine, Protocol):
    """An engine that answers several requests at once, each under its own adapter.

    batch: how many are worth handing over together, by now. `generate_batch` yields each request's place with its chunks as
    `generate` would, or with the error that ends it and no other. dropped: whether nobody waits for a request any more.
    """

    batch: int

    def generate_batch(
        self, requests: Sequence[Request], dropped: Callable[[int], bool]
    ) -> Iterator[tuple[int, Chunk | AssayError]]: ...


@dataclass(frozen=True, slots=True)
class LikelihoodRequest:
    """How likely is `continuation` after `text`, which `render` made? adapter: a resident one's digest, or None.

    raw: `text` is the caller's own and no chat template ended it.
    """

    text: str
    continuation: str
    adapter: str | None
    raw: bool = False


@runtime_checkable
class LogprobEngine(LocalEngine, Protocol):
    """An engine that tells how likely given texts are; see `LogprobModel`.

    It is handed as many requests as `BatchEngine.batch` says, else one, and gives what came of each, in order.
    """

    def likelihoods(self, requests: Sequence[LikelihoodRequest]) -> Sequence[Likelihood | AssayError]: ...


@runtime_checkable
class EndingEngine(LocalEngine, Protocol):
    """An engine that knows how training data writes an answer; see `assay.models.base.ended`."""

    def ended(self, prompt: Prompt, answer: str) -> str: ...


# A fast model makes tokens faster than a reader wants to be woken: they are handed over together, at most this late.
_HANDOVER_SECONDS = 0.01


class _Outbox:
    """Hands chunks over as they come, but merges those that come within a hundredth of a second of the last handover."""

    def __init__(self, send: Callable[[Chunk], None]) -> None:
        self._send = send
        self._held: Chunk | None = None
        self._sent_at = 0.0

    def put(self, chunk: Chunk) -> None:
        held = self._held
        self._held = (
            chunk if held is None else replace(chunk, text=held.text + chunk.text, tokens=held.tokens + chunk.tokens)
        )
        if chunk.finish_reason is not None or time.perf_counter() - self._sent_at >= _HANDOVER_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._held is not None:
            self._send(self._held)
            self._held = None
            self._sent_at = time.perf_counter()


class _Answering:
    """A request on its way through the engine's thread, and the stream that waits for its chunks."""

    def __init__(self, request: Request, engine: str, send: Callable[[Chunk | BaseException | None], None]) -> None:
        self.request = request
        self.cancelled = threading.Event()
        self.over = False
        self._engine = engine
        self._send = send
        self._sofar: list[str] = []
        self._outbox = _Outbox(send)

    def take(self, item: Chunk | BaseException) -> None:
        """A chunk, or what ends the request."""
        if isinstance(item, Chunk):
            self._sofar.append(item.text)
            self._outbox.put(item)
        else:
            self.end(item)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes. error: why not, unless the answer is whole."""
        if self.over:
            return
        self.over = True
        self._outbox.flush()
        error = _as_assay(self._engine, error)
        if isinstance(error, GenerationError) and not error.partial:
            error.partial = "".join(self._sofar)
        self._send(error)


def _as_assay(engine: str, item: T | BaseException) -> T | AssayError:
    """The same; an engine's own exception as a `GenerationError`."""
    if not isinstance(item, BaseException) or isinstance(item, AssayError):
        return item
    wrapped = GenerationError(f"{engine} failed: {type(item).__name__}: {item}")
    wrapped.__cause__ = item
    return wrapped


def _settle(future: asyncio.Future[T], item: T | AssayError) -> None:
    if future.done():  # cancelled meanwhile
        return
    if isinstance(item, AssayError):
        future.set_exception(item)
    else:
        future.set_result(item)


class LocalModel(BareCalls):
    """Every kind of model over a `LocalEngine`; a `LogprobModel` only where the engine is a `LogprobEngine`."""

    def __init__(self, thread: EngineThread, engine: LocalEngine, name: str = "") -> None:
        self._thread = thread
        self._engine = engine
        self._info = replace(
            engine.info,
            name=name or engine.info.name,
            batch=engine.batch if isinstance(engine, BatchEngine) else 1,
            likelihoods=isinstance(engine, LogprobEngine),
        )
        self._resident: dict[str, Adapter] = {}
        self._attached: dict[str, int] = {}
        self._changing = asyncio.Lock()
        self._rendered: dict[Prompt, str] = {}
        self._waiting: deque[_Answering] = deque()
        self._weighed: deque[tuple[LikelihoodRequest, asyncio.Future[Likelihood]]] = deque()
        self._closed = False

    @classmethod
    async def open(cls, factory: Callable[[], LocalEngine], spec: str, name: str = "") -> LocalModel:
        """Start the engine's thread and load the engine on it. name: the model's, unless the engine's own will do."""
        thread = EngineThread(f"engine {spec}")
        try:
            return cls(thread, await thread.call(factory), name)
        except BaseException:
            thread.stop()
            raise

    @property
    def info(self) -> ModelInfo:
        return self._info

    async def render(self, prompt: Prompt) -> str:
        """The prompt as the engine will see it. Rendered once: every checkpoint is asked the same prompts."""
        key = prompt if isinstance(prompt, str) else tuple(prompt)
        if isinstance(prompt, str) and type(prompt) is not str:
            return await self._thread.call(lambda: self._engine.render(prompt))
        if key not in self._rendered:
            if len(self._rendered) >= 4096:
                self._rendered.clear()
            self._rendered[key] = await self._thread.call(lambda: self._engine.render(prompt))
        return self._rendered[key]

    async def stream_with(self, prompt: Prompt, options: GenerateOptions, digest: str | None) -> AsyncIterator[Chunk]:
        """`stream` under the resident adapter with this digest, or under none."""
        check_options(self._info, options)
        self._check(digest)
        text = await self.render(prompt)
        chunks: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        answering = _Answering(
            Request(text, options, digest), self._info.engine, lambda item: post(loop, chunks.put_nowait, item)
        )
        self._waiting.append(answering)
        self._thread.post(self._serve)
        try:
            while (item := await chunks.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            answering.cancelled.set()

    async def loglikelihood_with(self, prompt: Prompt, continuation: str, digest: str | None) -> Likelihood:
        """`loglikelihood` under the resident adapter with this digest, or under none."""
        logprob_model(self)
        self._check(digest)
        text = await self.render(prompt)
        future: asyncio.Future[Likelihood] = asyncio.get_running_loop().create_future()
        self._weighed.append((LikelihoodRequest(text, continuation, digest, isinstance(prompt, Raw)), future))
        self._thread.post(self._weigh)
        return await future

    async def ended(self, prompt: Prompt, answer: str) -> str:
        """The answer as training data has it behind the rendered prompt."""
        engine = self._engine
        if not isinstance(engine, EndingEngine):
            raise UnsupportedOption(f"the engine {self._info.engine!r} can't tell how training data ends an answer")
        return await self._thread.call(lambda: engine.ended(prompt, answer))

    def _check(self, digest: str | None) -> None:
        if self._closed:
            raise GenerationError(f"the model {self._info.name} is closed")
        if digest is not None and digest not in self._attached:
            raise GenerationError(f"the adapter {digest[:12]} is not attached to {self._info.name}")

    def _weigh(self) -> None:
        """On the engine's thread: tell likelihoods to those that have waited longest."""
        assert isinstance(self._engine, LogprobEngine)
        bound = self._engine.batch if isinstance(self._engine, BatchEngine) else 1
        taken: list[tuple[LikelihoodRequest, asyncio.Future[Likelihood]]] = []
        while self._weighed and len(taken) < bound:
            request, future = self._weighed.popleft()
            if not future.done():  # a caller that was cancelled
                taken.append((request, future))
        if not taken:
            return
        try:
            found: Sequence[Likelihood | BaseException] = self._engine.likelihoods([request for request, _ in taken])
        except BaseException as error:  # carried to those who wait, whatever it is
            found = [error] * len(taken)
        for (_, future), item in zip(taken, found, strict=True):
            post(future.get_loop(), _settle, future, _as_assay(self._info.engine, item))

    def _serve(self) -> None:
        """On the engine's thread: answer what has waited longest, with all that the engine takes together with it."""
        several = isinstance(self._engine, BatchEngine)
        taken: list[_Answering] = []
        while self._waiting and len(taken) < (self._engine.batch if isinstance(self._engine, BatchEngine) else 1):
            answering = self._waiting.popleft()
            if not answering.cancelled.is_set():
                taken.append(answering)
        if not taken:  # an earlier call has served it
            return
        try:
            if several:
                self._serve_batch(taken)
            else:
                self._serve_one(taken[0])
        except BaseException as error:  # carried to those who wait, whatever it is
            for answering in taken:
                answering.end(error)
        for answering in taken:
            answering.end()

    def _serve_one(self, answering: _Answering) -> None:
        request = answering.request
        iterator = self._engine.generate(request.text, request.options, request.adapter)
        try:
            for chunk in iterator:
                answering.take(chunk)
                if answering.cancelled.is_set():
                    return
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _serve_batch(self, taken: Sequence[_Answering]) -> None:
        assert isinstance(self._engine, BatchEngine)
        requests = [answering.request for answering in taken]
        for place, item in self._engine.generate_batch(requests, lambda n: taken[n].cancelled.is_set()):
            taken[place].take(item)
            if isinstance(item, Chunk) and item.finish_reason is not None:
                taken[place].end()

    async def expect(self, adapters: Sequence[Adapter]) -> None:
        """Load these adapters together, where the engine holds several; attached ones stay."""
        wanted = {a.digest: a for a in adapters}
        async with self._changing:
            await self._make_resident({**wanted, **{d: a for d, a in self._resident.items() if d in self._attached}})

    async def attach(self, adapter: Adapter) -> AttachedModel:
        """Bind a model to this adapter. Raises `AdapterMismatch` if it doesn't fit the base."""
        async with self._changing:  # a second attach must not work out its set before the first one's is in place
            if adapter.digest not in self._resident:
                await self._make_resident({**self._resident, adapter.digest: adapter}, needed=adapter.digest)
            else:  # most recently used last, so that the bounded set forgets the oldest
                self._resident[adapter.digest] = self._resident.pop(adapter.digest)
            self._attached[adapter.digest] = self._attached.get(adapter.digest, 0) + 1
        return AttachedModel(self, adapter.digest)

    async def _make_resident(self, wanted: dict[str, Adapter], needed: str | None = None) -> None:
        bound = max(self._info.resident_adapters, 1)
        held = {d: a for d, a in wanted.items() if d in self._attached or d == needed}
        for digest, adapter in reversed(wanted.items()):
            if len(held) >= bound and digest not in held:
                continue
            held.setdefault(digest, adapter)
        if len(held) > bound:
            raise GenerationError(
                f"{self._info.engine} holds at most {bound} adapters at once and all are in use; detach one first"
            )
        chosen = {d: a for d, a in wanted.items() if d in held}
        if chosen.keys() == self._resident.keys():
            return
        await self._thread.call(lambda: self._engine.make_resident(list(chosen.values())))
        self._resident = chosen

    async def detach(self, digest: str) -> None:
        """Forget one use of the adapter; its weights stay resident until another needs the room."""
        left = self._attached.get(digest, 0) - 1
        if left > 0:
            self._attached[digest] = left
        else:
            self._attached.pop(digest, None)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._thread.call(self._engine.close)
            self._thread.stop()
            self._thread.join()
