"""A model behind a URL: whatever speaks OpenAI's API (vLLM, llama.cpp, Ollama, SGLang, hosted ones), as a `TextModel`.

What fails for a moment is asked again (`http_retry`), what floods the server is held back (`http_limit`), and what a server
can't do is an error, never left out in silence. Nobody who only wants the whole answer pays for a stream.

Why a client of our own on asyncio (`http_connection`, `http_pool`): at 64 requests at once a call costs 0.1 ms of CPU time in
here, all told, 0.2 ms in a bare aiohttp loop and 1.0 ms in httpx2 (`bench/http_client.py`), and its parser is imported in 2 ms,
aiohttp in 170 ms. Two clients written in Rust are as fast, but one goes on with a request whose caller was cancelled, and
the other aborted the interpreter at its exit now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any, NoReturn, TypeVar

import msgspec

from assay.errors import AssayError, BadInput, GenerationError, ModelError, Unreachable, UnsupportedOption
from assay.models.base import ModelInfo
from assay.models.http_address import Address, proxy_for
from assay.models.http_connection import Connection
from assay.models.http_faults import API_ADDRESS, Fault, Refusal, closed, fault_of, is_page, scrubbed, web_page
from assay.models.http_health import Form, Health, Question
from assay.models.http_limit import AdaptiveLimit
from assay.models.http_llama import ServedAdapters
from assay.models.http_pool import Pool
from assay.models.http_protocol import (
    Answer,
    Dialect,
    Request,
    read_reply,
    refused_option,
    refuses_schema,
    request_for,
)
from assay.models.http_retry import Attempts
from assay.models.http_stream import events_on
from assay.results.canonical import digest_of
from assay.secret import Secret
from assay.types import Chunk, Completion, GenerateOptions, HttpSettings, Prompt

T = TypeVar("T")

# How prompts and options become requests; what runs behind the URL, only the server knows.
_VERSION = "1"

_OPEN_A_SLOT = 4

_USERS = ("forbidden", "unsuited")  # what the user has to mend, if the server does it to every question


class HttpModel:
    """A `TextModel`, `WholeModel` and `StructuredModel` over HTTP. Safe to use from many tasks of one event loop at once.

    Raises `GenerationError` with its class for what one question may be the reason of, `ModelError` for a wrong address,
    name or key, `UnsupportedOption` for an option that the server refuses, and `Unreachable` for a server that can't be
    reached: no attempt at the question got a connection, and meanwhile nothing else was answered either; or it takes
    connections and never answers; or twenty questions in a row (three where it replies as no such server does) were given
    up, and so was one that it can answer (`http_health`).
    """

    def __init__(
        self, address: Address, settings: HttpSettings, key: Secret | None = None, context_length: int | None = None
    ) -> None:
        self._address = address
        self._settings = settings
        self._key = key
        self._limit = AdaptiveLimit(settings.concurrency)
        self._pool: Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # whose connections are in the pool
        self._via = ""
        self._dialect = Dialect()
        self._health = Health()
        self._adapters = ServedAdapters(address, settings, key)
        self._refused: set[str] = set()
        self._closing = asyncio.Event()
        self._info = ModelInfo(
            name=address.spec,
            engine="http",
            engine_version=_VERSION,
            identity=digest_of("http", address.base, address.model, "declared"),
            declared=True,
            context_length=context_length,
            # A question that waits to be asked again holds no slot, so more are worth having open than may be under way.
            concurrency=settings.concurrency * (_OPEN_A_SLOT if settings.concurrency > 1 else 1),
            options=frozenset(GenerateOptions.__struct_fields__),
        )

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def takes_schemas(self) -> bool:
        """False once the server has refused to be held to a JSON schema."""
        return self._dialect.schemas

    @property
    def refused(self) -> frozenset[str]:
        """The options that the server has refused."""
        return frozenset(self._refused)

    @property
    def limit(self) -> AdaptiveLimit:
        """How many requests may be under way, as the server's push-backs have left it."""
        return self._limit

    async def complete_whole(self, prompt: Prompt, options: GenerateOptions) -> Completion:
        """The answer in one piece, asked for in one piece."""
        return await self.whole(Question(prompt, options))

    async def complete_structured(
        self, prompt: Prompt, schema: Mapping[str, Any], options: GenerateOptions
    ) -> Completion:
        """The answer as JSON that fits the schema. Raises `UnsupportedOption` if the server can't do that, which is
        remembered: the next call raises without asking.
        """
        if not self._dialect.schemas:
            raise UnsupportedOption(f"{self._info.name} can't be held to a JSON schema")
        return await self.whole(Question(prompt, options, schema))

    def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        """The answer as the server sends it. Once a piece of it was shown, a failure is not repaired by asking again."""
        return self.streamed(Question(prompt, options))

    async def streamed(self, question: Question) -> AsyncGenerator[Chunk, None]:
        """`stream`, for a question that may name another model of the server."""
        self._check(question.options)
        attempts = Attempts(self._settings)
        caught: Fault | None = None
        shown: list[str] = []
        try:
            while True:
                request = self._request(question, stream=True)
                epoch = await self._slot(attempts, caught)
                try:
                    async with aclosing(self._events(request, question, attempts)) as chunks:
                        async for chunk in chunks:
                            shown.append(chunk.text)
                            if chunk.finish_reason is not None:  # many leave with the last chunk
                                self._success(question)
                            yield chunk
                    return
                except Fault as fault:
                    caught = fault
                    if fault.kind == "busy":
                        self._limit.push_back(epoch)
                finally:
                    self._limit.release()
                question = await self._repair(caught, question, request, attempts, "".join(shown))
        except Fault as fault:
            raise await self._given_up(fault, question, attempts, "".join(shown)) from None

    async def aclose(self) -> None:
        """Close all connections. Requests that are under way fail."""
        if self._loop in (None, asyncio.get_running_loop()):
            await self._close()
        elif self._loop is not None and not self._loop.is_closed():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._close(), self._loop))

    async def _close(self) -> None:
        self._closing.set()
        if self._pool is not None:
            await self._pool.aclose()

    async def whole(self, question: Question) -> Completion:
        """The answer in one piece to a question that may name another model of the server."""
        return await self.told(question, self._form)

    async def told(self, question: Question, form: Form[T]) -> T:
        """What the server says to a question that is put in this form."""
        self._check(question.options)
        attempts = Attempts(self._settings)
        try:
            return await self._answer(question, form, attempts)
        except Fault as fault:
            raise await self._given_up(fault, question, attempts) from None

    async def _answer(self, question: Question, form: Form[T], attempts: Attempts, *, first: bool = False) -> T:
        """Ask until there is an answer. Raises the last `Fault`. first: before all who wait for their turn."""
        caught: Fault | None = None
        while True:
            request = form.request(question)
            epoch = await self._slot(attempts, caught, first=first, alone=form.alone)
            try:
                found = await self._reply(request, question, form, attempts)
                self._success(question)
                return found
            except Fault as fault:
                caught = fault
                if fault.kind == "busy":
                    self._limit.push_back(epoch)
            finally:
                self._limit.release()
            question = await self._repair(caught, question, request, attempts)

    @property
    def _form(self) -> Form[Completion]:
        """Of an answer in one piece."""
        return Form(self._request, lambda body, asked, seconds: read_reply(body, asked.options, seconds, asked.model))

    def _request(self, question: Question, *, stream: bool = False) -> Request:
        return request_for(
            question.model or self._address.model,
            question.prompt,
            question.options,
            self._dialect,
            stream=stream,
            schema=question.schema,
        )

    async def _slot(self, attempts: Attempts, fault: Fault | None, *, first: bool = False, alone: bool = False) -> int:
        """Wait for the turn. Who was asked before and failed with `fault` waits only until its deadline, and raises it then."""
        if fault is None:
            return await self._limit.acquire(first=first, alone=alone)
        try:
            async with asyncio.timeout_at(attempts.deadline):
                return await self._limit.acquire(first=True, alone=alone)
        except TimeoutError:
            raise fault from None

    async def _reply(self, request: Request, question: Question, form: Form[T], attempts: Attempts) -> T:
        connection = await self._asked(request, attempts)
        try:
            body = await connection.body()
        finally:
            self._ready_pool().release(connection)
        if is_page(connection.headers, body):
            raise web_page()
        return form.read(body, question, attempts.elapsed)

    async def _events(self, request: Request, question: Question, attempts: Attempts) -> AsyncGenerator[Chunk, None]:
        """One attempt's chunks, the last with its finish reason. Leaving early closes the connection."""
        connection = await self._asked(request, attempts)
        answer = Answer(question.options, streamed=True, model=question.model)
        try:
            if "event-stream" in connection.headers.get("content-type", "").lower():
                async for event in events_on(connection):
                    text = answer.take(event)
                    if answer.stopped:
                        yield Chunk(text, tokens=answer.tokens())
                        break
                    if text:
                        yield Chunk(text, tokens=answer.tokens())
            else:  # a server that can't stream answers in one piece
                body = await connection.body()
                if is_page(connection.headers, body):
                    raise web_page()
                whole = read_reply(body, question.options, attempts.elapsed, question.model)
                yield Chunk(whole.text, whole.finish_reason, whole.usage, whole.tokens)
                return
        except Fault:
            if not answer.finished:  # what comes after the end is the server's housekeeping
                raise
        finally:
            self._ready_pool().release(connection)
        rest = answer.end()
        yield Chunk(rest, answer.finish_reason(), answer.usage(attempts.elapsed), answer.tokens())

    async def _asked(self, request: Request, attempts: Attempts) -> Connection:
        """Send the request; the connection on which a successful answer has begun. Raises `Fault`."""
        pool, seconds = self._ready_pool(), attempts.start()
        while True:
            lora = self._adapters.fields
            try:
                body = msgspec.json.encode({**request.body, **lora})
            except UnicodeEncodeError:
                raise Fault(
                    "unsuited", "the question holds half a character (a lone surrogate), which can't be sent"
                ) from None
            connection = await pool.ask(request.path, body, seconds, root=request.root)
            self._health.answered()
            try:
                if self._adapters.concern(connection):
                    await self._adapters.learn()
            except BaseException:
                pool.release(connection)
                raise
            if self._adapters.fields == lora:
                break
            pool.release(connection)  # what it answers here is said under adapters that nobody chose
        if connection.status == 200:
            return connection
        try:
            body = await connection.body()
        finally:
            pool.release(connection)
        raise fault_of(connection.status, connection.headers, body, request.path)

    async def _repair(
        self, fault: Fault, question: Question, request: Request, attempts: Attempts, shown: str = ""
    ) -> Question:
        """Wait, or learn from a refusal, and give the question as it can be asked again; else raise the fault."""
        if self._closing.is_set():
            raise closed()
        lost = question.model if fault.status == 404 and attempts.made <= self._settings.attempts else ""
        if lost and await self._restored(lost):
            return question
        said = fault.refusal
        if said is not None and fault.kind == "unsuited":
            if not question.options.truncate_prompt and (room := said.room(question.options.max_tokens)) is not None:
                return question.shorter(room)
            if not said.about_length and self._adapted(question, request, said):
                return question
        elif said is not None and refuses_schema(request.body, said, surely=True):
            self._refuse_schema(said)  # some fail over it, in place of saying no
        pause = None if shown else attempts.pause(fault)
        if pause is None:
            raise fault
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._closing.wait()
            raise closed()
        return question

    async def _restored(self, model: str) -> bool:
        """Does the server have the model (again), of which it said that it doesn't?"""
        return False

    def _adapted(self, question: Question, request: Request, refusal: Refusal) -> bool:
        """Should the question be asked in another form? Raises `UnsupportedOption`."""
        if self._dialect.learn(request.body, refusal):
            return True
        if refuses_schema(request.body, refusal):
            self._refuse_schema(refusal)
        if (option := refused_option(request.body, refusal)) is not None:
            value = getattr(question.options, option)
            if not self._health.has_taken(option, value):  # else the words quote the question, or mean it
                said = self._scrubbed(refusal.message)
                self._refused.add(option)
                raise UnsupportedOption(f"{self._info.name} does not take {option}={value!r}: {said}", option)
        return False

    def _refuse_schema(self, refusal: Refusal) -> NoReturn:
        self._dialect.schemas = False
        said = self._scrubbed(refusal.message)
        raise UnsupportedOption(f"{self._info.name} can't be held to this JSON schema: {said}")

    async def _given_up(self, fault: Fault, question: Question, attempts: Attempts, shown: str = "") -> AssayError:
        times = f" ({attempts.made} attempts)" if attempts.made > 1 else ""
        hint = API_ADDRESS if fault.kind == "webpage" and not self._health.has_succeeded else ""
        said = f"{self._info.name}{self._via}: {self._scrubbed(attempts.as_told(fault).reason)}{hint}{times}"
        if fault.kind in ("setup", "webpage", "foreign") and not self._health.has_succeeded:
            return ModelError(said)
        if self._health.is_unconnected(fault, attempts):
            return Unreachable(said)
        doubt = self._health.doubt(fault)
        if doubt and await self._health.is_gone(fault, question, attempts, self._try):
            if fault.kind in _USERS and not self._health.has_succeeded:
                return ModelError(f"{said}; a plain question fares no better")
            return Unreachable(f"{said}; {doubt}")
        return GenerationError(said, partial=shown, error_class=fault.failure)

    async def _try(self, question: Question) -> Completion:
        """The answer to a question of which it matters only whether there is one: within the time of a single request."""
        settings = msgspec.structs.replace(self._settings, total_seconds=self._settings.call_seconds)
        return await self._answer(question, self._form, Attempts(settings), first=True)

    def _success(self, question: Question) -> None:
        self._health.succeeded(question)
        self._limit.succeeded()

    def _check(self, options: GenerateOptions) -> None:
        if options.max_tokens < 1:
            raise UnsupportedOption(f"max_tokens must be at least 1, not {options.max_tokens}")
        if self._closing.is_set():
            raise GenerationError(f"{self._info.name}: {closed()}", error_class="transient")
        self._belong()

    def _belong(self) -> None:
        """Belong to the running loop, for connections do. One that has ended leaves nothing that could be used."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is None:
            self._loop = loop
            return
        if not self._loop.is_closed():
            raise BadInput(
                f"{self._info.name} is in use by another event loop; open it once more here: await open_model(…) where its "
                "calls are awaited, run_sync(open_model(…)) for plain calls"
            )
        self._loop, self._pool = loop, None
        self._closing, self._limit = asyncio.Event(), AdaptiveLimit(self._settings.concurrency)

    def _ready_pool(self) -> Pool:
        if self._pool is None:
            if (proxy := proxy_for(self._address)) is not None:
                self._via = f" (through the proxy {proxy.host}:{proxy.port})"
            seconds = self._settings.connect_seconds
            self._pool = Pool(self._address, seconds, agent="assay", key=self._key, proxy=proxy)
        return self._pool

    def _scrubbed(self, said: str) -> str:
        return scrubbed(said, self._key)
