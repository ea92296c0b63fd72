"""A server on loopback that speaks OpenAI's API for real, refuses what real servers refuse, and fails on request.

    async with OpenAIServer() as server:
        server.script = lambda ask: Reply("Yes.") if ask.number else Reply(status=500)
        model = open_http(server.spec)

The script is called once a request that passed the checks, and says what happens. All that came in is in `asked`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

KNOWN = {
    *("model", "messages", "prompt", "temperature", "max_tokens", "max_completion_tokens", "top_p", "stop", "seed"),
    *("logprobs", "top_k", "repeat_penalty", "repetition_penalty", "response_format", "stream", "stream_options"),
}


@dataclass
class Ask:
    """A request as it came. number: its place among all, from 0. question: the last message, or the raw prompt."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def question(self) -> str:
        return str(self.body["prompt"]) if "prompt" in self.body else str(self.body["messages"][-1]["content"])


@dataclass
class Reply:
    """What the server does.

    text: the answer, sent in `pieces` if it is streamed. status, headers, raw: answer with these bytes instead.
    latency: seconds before the answer; pause: between its pieces. hang: never answer. cut: close the connection after so
    many bytes of the body. packet: bytes sent at once. end: what the stream's end leaves out, of "finish", "usage",
    "done" and "newline". error: an error object sent in the stream in place of its end.
    """

    text: str = "Fine."
    pieces: Sequence[str] | None = None
    finish: str | None = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    latency: float = 0.0
    pause: float = 0.0
    hang: bool = False
    cut: int | None = None
    packet: int | None = None
    end: Sequence[str] = ()
    error: dict[str, Any] | None = None
    line: str = "\n"
    model: str = "m"  # who answered
    logprobs: Sequence[float] | None = None  # of the answer's tokens, for whoever asks for them
    fields: dict[str, Any] = field(default_factory=dict)  # put into the message, or into the first delta
    usage: dict[str, int] | None = field(
        default_factory=lambda: {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    )


class Refused(Exception):
    """A request that a real server would refuse."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}

    @property
    def told(self) -> dict[str, Any]:
        return {"error": self.error}


def error_body(message: str, **more: Any) -> bytes:
    """An error as OpenAI's API sends it."""
    return json.dumps({"error": {"message": message, **more}}).encode()


class OpenAIServer:
    """The server. model, key: what it knows, None for "anything". rejects: fields that it does not take. tls: for https.

    models: what it lists; the one that it knows. port: where it listens; 0 for any that is free.
    """

    def __init__(
        self,
        *,
        model: str | None = "m",
        key: str | None = None,
        rejects: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        models: Sequence[str] | None = None,
        port: int = 0,
    ) -> None:
        self._port = port
        self.tls = tls
        self.models = tuple(models if models is not None else [model or "m"])
        self.model = model
        self.key = key
        self.rejects = tuple(rejects)
        self.script: Callable[[Ask], Reply] = lambda ask: Reply()
        self.asked: list[Ask] = []
        self.connections = 0
        self.active = 0  # answers under way
        self.peak = 0
        self.abandoned = 0  # answers whose asker left
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def spec(self) -> str:
        return f"{self.url}#{self.model or 'm'}"

    async def __aenter__(self) -> OpenAIServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, ssl=self.tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            ahead: bytes | None = b""
            while ahead is not None:
                ahead = await self._one(reader, writer, ahead)
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ahead: bytes) -> bytes | None:
        """Answer a request that begins with `ahead`; None if the connection ends, else what was read of the next one."""
        head = (ahead + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        try:
            self._check_key(headers)
            if (method, path) == ("GET", "/v1/models"):
                ask, reply = None, self._listed()
            else:
                ask = self._checked(method, path, headers, body)
                reply = self.script(ask)
        except Refused as refusal:
            reply = Reply(status=refusal.status, raw=json.dumps(refusal.told).encode())
            ask = None
        self.active += 1
        self.peak = max(self.peak, self.active)
        sending = asyncio.create_task(self._send(writer, ask, reply))
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            self.abandoned += not sending.done()
            if not (sending.done() and sending.result()):
                return None
            return leaving.result() if leaving.done() else b""
        finally:
            self.active -= 1
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    def _check_key(self, headers: dict[str, str]) -> None:
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            sent = headers.get("authorization", "").removeprefix("Bearer ")
            raise Refused(401, f"Incorrect API key provided: {sent}.", code="invalid_api_key")

    def _listed(self) -> Reply:
        models = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "test"} for name in self.models]
        return Reply(raw=json.dumps({"object": "list", "data": models}).encode())

    def _checked(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Ask:
        if method != "POST" or path not in ("/v1/chat/completions", "/v1/completions"):
            raise Refused(404, f"Unknown request URL: {method} {path}.", code="unknown_url")
        try:
            body = json.loads(raw)
        except ValueError:
            raise Refused(400, "We could not parse the JSON body of your request.") from None
        check_request(path, body, self.rejects)
        if self.model is not None and body["model"] != self.model:
            raise Refused(404, f"The model `{body['model']}` does not exist.", "model", "model_not_found")
        ask = Ask(len(self.asked), path, headers, body)
        self.asked.append(ask)
        return ask

    async def _send(self, writer: asyncio.StreamWriter, ask: Ask | None, reply: Reply) -> bool:
        if reply.hang:
            await asyncio.sleep(3600)
        await asyncio.sleep(reply.latency)
        if ask is not None and reply.raw is None and ask.body.get("stream"):
            return await _stream(writer, ask, reply)
        body = reply.raw if reply.raw is not None else json.dumps(_whole(ask, reply)).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
        writer.write(_head(reply.status, headers) + body[: reply.cut])
        await writer.drain()
        return reply.cut is None


def check_request(path: str, body: Any, rejects: Sequence[str] = ()) -> None:
    """Raise `Refused` for what servers refuse."""
    if not isinstance(body, dict):
        raise Refused(400, "The body must be a JSON object.")
    for name in body:
        if name not in KNOWN or name in rejects:
            raise Refused(400, f"Unrecognized request argument supplied: {name}", None, "unknown_parameter")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused(400, "you must provide a model parameter", "model")
    if path.endswith("/chat/completions"):
        _check_messages(body.get("messages"))
    elif not isinstance(body.get("prompt"), str):
        raise Refused(400, "prompt must be a string", "prompt")
    for name in ("max_tokens", "max_completion_tokens", "seed", "top_k"):
        if name in body and (not isinstance(body[name], int) or isinstance(body[name], bool)):
            raise Refused(400, f"Invalid type for '{name}': expected an integer.", name, "invalid_type")
    if body.get("max_tokens", 1) < 1:
        raise Refused(400, "Invalid 'max_tokens': integer below minimum value.", "max_tokens")
    for name, high in (("temperature", 2), ("top_p", 1)):
        if name in body and not (isinstance(body[name], int | float) and 0 <= body[name] <= high):
            raise Refused(400, f"Invalid '{name}': expected a number from 0 to {high}.", name)
    stop = body.get("stop", [])
    if not (isinstance(stop, list) and len(stop) <= 4 and all(isinstance(s, str) and s for s in stop)):
        raise Refused(400, "Invalid 'stop': array too long. Expected at most 4 texts.", "stop")
    if "stream_options" in body and not body.get("stream"):
        raise Refused(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "Invalid type for 'messages': expected a list of objects.", "messages")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise Refused(400, "Invalid 'messages': each must have a content.", "messages")
        if message.get("role") not in ("system", "user", "assistant", "tool", "developer"):
            raise Refused(400, f"Invalid value: {message.get('role')!r}. Unknown role.", "messages")


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _whole(ask: Ask | None, reply: Reply) -> dict[str, Any]:
    chat = ask is None or ask.path.endswith("/chat/completions")
    said = {"message": {"role": "assistant", "content": reply.text, **reply.fields}} if chat else {"text": reply.text}
    choice = {"index": 0, **said, "finish_reason": reply.finish}
    if ask is not None and ask.body.get("logprobs"):
        words = reply.text.split()
        choice["logprobs"] = (
            {"content": [{"token": "?", "logprob": p, "bytes": None, "top_logprobs": []} for p in reply.logprobs]}
            if chat and reply.logprobs is not None
            else {"content": [{"token": w, "id": i, "logprob": -0.5} for i, w in enumerate(words)]}
            if chat
            else {"tokens": words, "token_logprobs": [-0.25 for _ in words]}
        )
    whole: dict[str, Any] = {**_about(reply, chat), "choices": [choice]}
    return whole if reply.usage is None else {**whole, "usage": reply.usage}


def _about(reply: Reply, chat: bool, chunk: bool = False) -> dict[str, Any]:
    kind = ("chat.completion.chunk" if chunk else "chat.completion") if chat else "text_completion"
    return {"id": "x", "object": kind, "created": 1_700_000_000, "model": reply.model}


def _events(ask: Ask, reply: Reply) -> list[str]:
    chat = ask.path.endswith("/chat/completions")
    chunks: list[dict[str, Any]] = []
    if chat:
        chunks.append(
            {"choices": [{"index": 0, "delta": {"role": "assistant", **reply.fields}, "finish_reason": None}]}
        )
    for piece in reply.pieces if reply.pieces is not None else [reply.text]:
        said: dict[str, Any] = {"delta": {"content": piece}} if chat else {"text": piece}
        if ask.body.get("logprobs"):
            said["logprobs"] = {"content": [{"token": piece, "id": 5, "logprob": -1.5}]}
        chunks.append({"choices": [{"index": 0, **said, "finish_reason": None}]})
    about = _about(reply, chat, chunk=True)
    if reply.error is not None:
        told = [*({**about, **chunk} for chunk in chunks), {"error": reply.error}]
        return [json.dumps(each, ensure_ascii=False) for each in told]
    if "finish" not in reply.end:
        last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        chunks.append({"choices": [{"index": 0, **last, "finish_reason": reply.finish}]})
    wanted = (ask.body.get("stream_options") or {}).get("include_usage")
    if wanted and reply.usage is not None and "usage" not in reply.end:
        chunks.append({"choices": [], "usage": reply.usage})
    events = [json.dumps({**about, **chunk}, ensure_ascii=False) for chunk in chunks]
    return events if "done" in reply.end else [*events, "[DONE]"]


async def _stream(writer: asyncio.StreamWriter, ask: Ask, reply: Reply) -> bool:
    writer.write(
        _head(reply.status, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **reply.headers})
    )
    sent = 0
    events = _events(ask, reply)
    for number, event in enumerate(events):
        left = 2 if number < len(events) - 1 or "newline" not in reply.end else 0
        data = f"data: {event}{reply.line * left}".encode()
        if reply.cut is not None:
            data = data[: reply.cut - sent]
        sent += len(data)
        step = reply.packet or max(len(data), 1)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)
        if reply.cut is not None and sent >= reply.cut:
            return False
        await asyncio.sleep(reply.pause)
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True
