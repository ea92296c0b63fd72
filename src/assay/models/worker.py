"""Any local engine in a child process, itself a `TextModel`: a crash of the engine is one sample's error, not the program's.

The child is started fresh (never forked: engines keep threads), speaks `assay.models.wire` over a socket pair, and ends
when its parent does, however the parent ends. A child that died is replaced at the next request; the adapters that were
attached are attached again there, so a bound model goes on working across a crash.

A child from which nothing is heard for `EngineSettings.silence_seconds` while a call waits is taken for hung, and killed; one
that loads may take an hour.

Not protected: a child whose engine holds Python's global lock for ever can't notice that its parent has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from assay.errors import AssayError, EngineDied, GenerationError, ModelError
from assay.models.attached import AttachedModel, BareCalls
from assay.models.base import ModelInfo
from assay.models.scripted import EXPENDABLE
from assay.models.wire import Call, Failed, Reply, frame, pack_prompt, read_frame, reply_decoder, unpack_error
from assay.scratch import Scratch
from assay.types import Adapter, Chunk, EngineSettings, GenerateOptions, Likelihood, Prompt, Raw

_CLOSE_SECONDS = 5.0
# Calls under which an engine may load its base, from a slow disk perhaps, and says nothing until it has.
_LOADING = frozenset({"open", "expect", "attach"})
_LOADING_SECONDS = 3600.0
_STDERR_KEPT = 2000  # characters of the child's last words that an error quotes


class _Child:
    """One child process and the calls in flight to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        scratch: Scratch,
        silence: float,
    ):
        self.process = process
        self._scratch = scratch
        self._silence = silence
        self._heard = asyncio.get_running_loop().time()
        self._hung = 0.0
        self._engine_died = ""
        self.attached: set[str] = set()
        self.gone = False
        self._writer = writer
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Queue[Reply | AssayError]] = {}
        self._stderr = ""
        self._tasks = [asyncio.create_task(self._receive(reader)), asyncio.create_task(self._listen())]

    @classmethod
    async def start(cls, silence: float) -> _Child:
        ours, theirs = socket.socketpair()
        # The child's temporary files, converted adapters above all: it may die without a chance to remove them.
        scratch = Scratch("engine")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "assay.models.worker_child",
                str(theirs.fileno()),
                str(scratch.path),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                # Ctrl-C at the terminal is the parent's to handle: it ends the child in its own time.
                start_new_session=True,
                env={**os.environ, EXPENDABLE: "1"},
            )
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 24)
        return cls(process, reader, writer, scratch, silence)

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        while text := await self.process.stderr.read(4096):
            self._stderr = (self._stderr + text.decode(errors="replace"))[-_STDERR_KEPT:]

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        while (data := await read_frame(reader)) is not None:
            reply = reply_decoder.decode(data)
            if (
                reply.chunk is None or reply.chunk.text or reply.chunk.finish_reason
            ):  # a piece of nothing is no progress
                self._heard = asyncio.get_running_loop().time()
            if (waiting := self._calls.get(reply.id)) is not None:
                waiting.put_nowait(reply)
        self.gone = True
        code = await self._ended(within=1.0)
        self._scratch.cleanup()
        await self._tasks[1]
        for waiting in self._calls.values():
            waiting.put_nowait(EngineDied(self._epitaph(code)))
        self._writer.close()

    async def _ended(self, within: float) -> int:
        """The child's exit code, once it has ended by itself or was killed after `within` seconds.

        Not `Process.kill`, which may reap the child behind the event loop's back and lose its exit code.
        """
        try:
            return await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            return await self.process.wait()

    def _epitaph(self, code: int) -> str:
        if self._hung:
            return f"the engine said nothing for {self._hung:g} s and was ended"
        if self._engine_died:
            return self._engine_died
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        words = " ".join(self._stderr.split())[-300:]
        return f"the engine's process ended ({how})" + (f"; its last words: {words}" if words else "")

    async def _next(self, waiting: asyncio.Queue[Reply | AssayError], silence: float) -> Reply | AssayError:
        """The next reply. A child from which nobody hears anything for too long hangs, and is killed."""
        loop = asyncio.get_running_loop()
        while True:
            # Not `wait_for`, which in Python 3.11 loses a cancellation that comes together with a reply.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._heard + silence):
                    return await waiting.get()
            if loop.time() >= self._heard + silence:
                self._hung = silence
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process.pid, signal.SIGKILL)
                return await waiting.get()  # what `_receive` has to say of the end

    def send(self, call: Call) -> None:
        if not self.gone:
            self._writer.write(frame([call]))

    async def replies(self, call: Call) -> AsyncGenerator[Reply, None]:
        """Send a call and yield its replies to the last; leaving early cancels it in the child."""
        call.id = next(self._ids)
        waiting: asyncio.Queue[Reply | AssayError] = asyncio.Queue()
        if not self._calls:
            self._heard = asyncio.get_running_loop().time()  # nobody asked it anything before
        self._calls[call.id] = waiting
        silence = max(self._silence, _LOADING_SECONDS) if call.what in _LOADING else self._silence
        done = False
        try:
            if self.gone:
                raise EngineDied("the engine's process has ended")
            self.send(call)
            while not done:
                reply = await self._next(waiting, silence)
                done = isinstance(reply, AssayError) or reply.done or reply.failed is not None
                if isinstance(reply, AssayError):
                    raise reply
                if reply.failed is not None:
                    raise self._failed(reply.failed)
                yield reply
        finally:
            del self._calls[call.id]
            if not done:
                self.send(Call("cancel", id=call.id))

    def _failed(self, failed: Failed) -> AssayError:
        """The error. Where the engine ran in a process of its own that died, the child ends too: a new one has it all anew."""
        error = unpack_error(failed)
        if isinstance(error, EngineDied) and not self.gone:
            self.gone, self._engine_died = True, str(error)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
        return error

    async def ask(self, call: Call) -> Reply:
        """Send a call that has one reply."""
        async with contextlib.aclosing(self.replies(call)) as replies:
            async for reply in replies:
                return reply
        raise EngineDied("the engine's process gave no reply")

    async def stop(self) -> None:
        """End the child: asked first, killed after a while."""
        self.send(Call("close"))
        await self._ended(within=_CLOSE_SECONDS)
        await asyncio.gather(*self._tasks, return_exceptions=True)


class WorkerModel(BareCalls):
    """A local engine behind a process boundary: all that `LocalModel` is.

    `restarts` counts the children that had to be replaced.
    """

    def __init__(self, spec: str, settings: EngineSettings | None = None) -> None:
        self._spec = spec
        self._settings = settings or EngineSettings()
        self._child: _Child | None = None
        self._starting = asyncio.Lock()
        self._attaching = asyncio.Lock()
        self._info: ModelInfo | None = None
        self._attached: dict[str, Adapter] = {}
        self._uses: Counter[str] = Counter()
        self._rendered: dict[str, str] = {}
        self._closed = False
        self._children = 0

    @classmethod
    async def open(cls, spec: str, settings: EngineSettings | None = None) -> WorkerModel:
        """Start the child and load the engine there. Raises what the engine raised."""
        model = cls(spec, settings)
        try:
            await model._ready()
        except BaseException:
            await model.aclose()
            raise
        return model

    @property
    def info(self) -> ModelInfo:
        if self._info is None:
            raise GenerationError("the worker has not been opened")
        return self._info

    @property
    def restarts(self) -> int:
        return max(self._children - 1, 0)

    @property
    def pid(self) -> int | None:
        """The present child's process id."""
        return self._child.process.pid if self._child is not None else None

    async def _ready(self) -> _Child:
        async with self._starting:
            if self._closed:
                raise GenerationError(f"the model {self._spec} is closed")
            if self._child is not None and not self._child.gone:
                return self._child
            if self._child is not None:
                await self._child.stop()
            starting = asyncio.create_task(_Child.start(self._settings.silence_seconds))
            try:
                self._child = await asyncio.shield(starting)
            except asyncio.CancelledError:
                self._child = await starting  # a process that has begun is ended in order, by `aclose`
                raise
            self._children += 1
            reply = await self._child.ask(Call("open", spec=self._spec, settings=self._settings))
            if reply.info is None:
                raise GenerationError("the worker's child opened nothing")
            if self._info is not None and reply.info.identity != self._info.identity:
                raise ModelError(
                    f"{self._spec} changed on disk while it was in use; start again to evaluate the new one"
                )
            self._info = reply.info
            if self._attached:
                await self._child.ask(Call("expect", adapters=tuple(self._attached.values())))
            return self._child

    async def _with_adapter(self, digest: str | None) -> _Child:
        child = await self._ready()
        if digest is None or digest in child.attached:
            return child
        async with self._attaching:
            if digest not in child.attached:
                await child.ask(Call("attach", adapters=(self._attached[digest],)))
                child.attached.add(digest)
        return child

    async def render(self, prompt: Prompt) -> str:
        key = f"{type(prompt).__name__}:{prompt!r}"
        if isinstance(prompt, Raw):
            return str(prompt)
        if key not in self._rendered:
            child = await self._ready()
            if len(self._rendered) >= 4096:
                self._rendered.clear()
            self._rendered[key] = (await child.ask(Call("render", prompt=pack_prompt(prompt)))).text
        return self._rendered[key]

    async def stream_with(self, prompt: Prompt, options: GenerateOptions, digest: str | None) -> AsyncIterator[Chunk]:
        """`stream` under the attached adapter with this digest, or under none."""
        child = await self._with_adapter(digest)
        call = Call("stream", prompt=pack_prompt(prompt), options=options, adapter=digest or "")
        sofar: list[str] = []
        try:
            async with contextlib.aclosing(child.replies(call)) as replies:
                async for reply in replies:
                    if reply.chunk is not None:
                        sofar.append(reply.chunk.text)
                        yield reply.chunk
        except GenerationError as error:
            error.partial = error.partial or "".join(sofar)
            raise

    async def loglikelihood_with(self, prompt: Prompt, continuation: str, digest: str | None) -> Likelihood:
        """`loglikelihood` under the attached adapter with this digest, or under none."""
        child = await self._with_adapter(digest)
        call = Call("likelihood", prompt=pack_prompt(prompt), continuation=continuation, adapter=digest or "")
        reply = await child.ask(call)
        if reply.likelihood is None:
            raise GenerationError("the worker's child told no likelihood")
        return reply.likelihood

    async def ended(self, prompt: Prompt, answer: str) -> str:
        """The answer as training data has it behind the rendered prompt."""
        child = await self._ready()
        return (await child.ask(Call("ended", prompt=pack_prompt(prompt), continuation=answer))).text

    async def expect(self, adapters: Sequence[Adapter]) -> None:
        """Announce adapters that will be attached soon; the engine loads them together where it can."""
        child = await self._ready()
        await child.ask(Call("expect", adapters=tuple(adapters)))

    async def attach(self, adapter: Adapter) -> AttachedModel:
        """Bind a model to this adapter. Raises `AdapterMismatch` if it doesn't fit the base."""
        fresh = adapter.digest not in self._attached
        self._attached[adapter.digest] = adapter
        try:
            await self._with_adapter(adapter.digest)
        except BaseException:
            if fresh:
                self._attached.pop(adapter.digest, None)
            raise
        self._uses[adapter.digest] += 1
        return AttachedModel(self, adapter.digest)

    async def detach(self, digest: str) -> None:
        """Give one use of the adapter back; after the last the child forgets it, and its file is not needed any more."""
        self._uses[digest] -= 1
        if self._uses[digest] > 0:
            return
        self._attached.pop(digest, None)
        child = self._child
        if child is not None and not child.gone and digest in child.attached:
            child.attached.discard(digest)
            with contextlib.suppress(EngineDied):
                await child.ask(Call("detach", adapter=digest))

    async def restart(self) -> None:
        """Replace the child: an engine that lost an adapter is not to be trusted with the next."""
        if self._child is not None:
            await self._child.stop()
        await self._ready()

    async def aclose(self) -> None:
        """End the child process."""
        self._closed = True
        if self._child is not None:
            await self._child.stop()
            self._child = None
