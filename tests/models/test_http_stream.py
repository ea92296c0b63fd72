"""Streams: pieces as they come, however the bytes are cut, and every way in which a stream can break."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing, suppress
from typing import Any

import pytest

from assay.errors import AssayError, GenerationError
from assay.models.base import complete
from assay.types import Chunk, GenerateOptions, Raw
from tests.models.http_opened import opened
from tests.models.openai_server import OpenAIServer, Reply, error_body
from tests.models.raw_server import RawServer

TEXT = ["Zwölf ", "Äpfel 🍎", "\n\n", "und „data: 7“\r\n", "."]


def listen(_: object) -> None:
    """Whoever listens gets the answer in pieces."""


async def test_pieces_are_there_as_the_server_sends_them() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(pieces=["One", " two", " three"], pause=0.3)
        began = time.monotonic()
        times: list[float] = []
        chunks: list[Chunk] = []
        async for chunk in model.stream("?", GenerateOptions()):
            times.append(time.monotonic() - began)
            chunks.append(chunk)
        assert [chunk.text for chunk in chunks] == ["One", " two", " three", ""]
        assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "stop"]
        assert chunks[-1].usage is not None
        assert times[0] < times[-1] - 0.5, "the first was here long before the last"


@pytest.mark.parametrize("packet", [1, 2, 3, 7, None])
@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
async def test_how_the_bytes_are_cut_makes_no_difference(packet: int | None, line: str) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(pieces=TEXT, packet=packet, line=line)
        assert (await complete(model, "?", None, listen)).text == "".join(TEXT)


@pytest.mark.parametrize("end", [("usage",), ("done",), ("usage", "done"), ("newline",), ("usage", "done", "newline")])
async def test_ends_that_leave_something_out(end: tuple[str, ...]) -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(pieces=["One", " two"], end=end)
        done = await complete(model, "?", None, listen)
        assert (done.text, done.finish_reason) == ("One two", "stop")
        assert done.usage.completion_tokens == (2 if "usage" in end else 3)


async def test_a_stream_without_a_finish_reason_is_no_answer() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        for end in (("finish",), ("finish", "usage", "done", "newline")):
            server.script = lambda ask, end=end: Reply(pieces=["One", " two"], end=end)
            with pytest.raises(GenerationError, match="without a finish reason") as caught:
                await complete(model, "?", None, listen)
            assert (caught.value.partial, caught.value.error_class) == ("One two", "transient")
        assert len(server.asked) == 2, "what was shown can't be taken back, so nothing is asked again"


async def test_a_connection_cut_in_the_middle_keeps_what_came() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        for cut in range(400, 800, 70):
            server.script = lambda ask, cut=cut: Reply(pieces=["One", " two", " three", " four"], cut=cut)
            with pytest.raises(GenerationError) as caught:
                await complete(model, "?", None, listen)
            assert "One two three four".startswith(caught.value.partial)
            assert caught.value.partial
            assert caught.value.error_class == "transient"


async def test_an_error_in_mid_stream() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        for error, error_class in (
            ({"message": "out of memory", "code": 500}, "transient"),
            ({"message": "no", "code": "content_filter"}, "refused"),
            ({"message": "slot unavailable", "type": "server_error"}, "transient"),
            ({"message": "the prompt is too long", "code": "400"}, "permanent"),
        ):
            server.script = lambda ask, error=error: Reply(pieces=["One"], error=error)
            with pytest.raises(GenerationError, match=str(error["message"])) as caught:
                await complete(model, "?", None, listen)
            assert (caught.value.partial, caught.value.error_class) == ("One", error_class)


async def test_before_the_first_piece_it_is_asked_again() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        bad = [
            Reply(pieces=[], error={"message": "busy", "code": 503}),
            Reply(pieces=["One"], cut=20),
            Reply(status=500, raw=error_body("oops")),
            Reply(pieces=[], end=("finish",)),
        ]
        server.script = lambda ask: bad[ask.number] if ask.number < len(bad) else Reply(pieces=["Fine", "."])
        assert (await complete(model, "?", None, listen)).text == "Fine."
        assert len(server.asked) == 5


async def test_what_follows_the_end_changes_nothing() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(pieces=["One"], cut=2000, end=("done",))
        assert (await complete(model, "?", None, listen)).text == "One"


async def test_a_server_that_cannot_stream_answers_in_one_piece() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        raw = b'{"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}'
        server.script = lambda ask: Reply(raw=raw)
        assert (await complete(model, "?", None, listen)).text == "Yes."


def event(text: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()


def stream(*events: bytes, kind: str = "text/event-stream") -> list[bytes]:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return [head, *(b"%x\r\n%b\r\n" % (len(each), each) for each in events), b"0\r\n\r\n"]


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "between",
    [
        b"data:\n\n",
        b"data: \n\n",
        b": keep-alive\n\n",
        b'data: {"type": "ping"}\n\n',
        b'event: news\ndata: {"object": "chat.news", "choices": null}\n\n',
        b'data: {"choices": [], "prompt_filter_results": []}\n\n',
        b'data: {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}\n\n',
        b'data: {"error": null, "choices": []}\n\n',
    ],
    ids=repr,
)
async def test_what_servers_put_between_the_pieces(between: bytes) -> None:
    packets = stream(between, event("Yes"), between, event("."), event(None, "stop"), between, DONE)
    async with RawServer(lambda _: packets) as server, opened(server.spec, attempts=1) as model:
        for _ in range(2):
            done = await complete(model, "?", None, listen)
            assert (done.text, done.finish_reason) == ("Yes.", "stop")
        assert server.connections == 1


@pytest.mark.parametrize("listener", [None, listen])
@pytest.mark.parametrize("kind", ["Text/Event-Stream; charset=utf-8", "application/json", "text/plain", "text/html"])
@pytest.mark.parametrize("start", [b"", b": hello\n\n", b":\n\n", b"event: message\n"])
async def test_a_stream_is_known_whatever_it_is_called_and_whoever_asked(
    kind: str, start: bytes, listener: Any
) -> None:
    packets = stream(start + event("Yes"), event("."), event("", "stop"), b"data: [DONE] \n\n", kind=kind)
    async with RawServer(lambda _: packets) as server, opened(server.spec, attempts=1) as model:
        done = await complete(model, "?", None, listener)
        assert (done.text, done.finish_reason, done.usage.completion_tokens) == ("Yes.", "stop", 2)
        stopped = await complete(model, "?", GenerateOptions(stop=("s.",)), listener)
        assert (stopped.text, stopped.finish_reason) == ("Ye", "stop")


async def test_a_stream_that_nobody_asked_for_counts_only_with_its_end() -> None:
    packets = stream(event("Yes"), event("."))
    async with RawServer(lambda _: packets) as server, opened(server.spec, attempts=1) as model:
        with pytest.raises(GenerationError, match="without a finish reason"):
            await complete(model, "?")


async def test_pieces_of_raw_text_are_counted_where_the_server_counts_none() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(pieces=["One", " two", " three"], usage=None)
        assert (await complete(model, Raw("Count:"), None, listen)).usage.completion_tokens == 3


async def test_leaving_cancelling_or_raising_closes_the_request_at_the_server() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(pieces=["word "] * 1000, pause=0.05)

        async def gone(number: int) -> None:
            for _ in range(100):
                if server.abandoned == number and server.active == 0:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError(f"{server.abandoned} requests were ended, {server.active} go on")

        async with aclosing(model.stream("?", GenerateOptions())) as chunks:
            async for _ in chunks:
                break
        await gone(1)

        def stop(_: Any) -> None:
            raise KeyError("enough")

        with pytest.raises(KeyError):
            await complete(model, "?", None, stop)
        await gone(2)
        for number, reply in ((3, server.script), (4, lambda ask: Reply(hang=True))):
            server.script = reply
            task = asyncio.create_task(complete(model, "?", None, listen))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await gone(number)
        task = asyncio.create_task(complete(model, "?"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(5)
        assert model.limit.used == 0


async def test_nothing_is_left_open_whatever_fails_or_is_cancelled() -> None:
    kinds = [
        Reply(status=500, raw=b"x" * 5000),
        Reply(hang=True),
        Reply(cut=30),
        Reply(status=429, raw=b""),
        Reply(raw=b"{"),
        Reply(pieces=["word "] * 50, pause=0.02),
        Reply(headers={"Connection": "close"}),
        Reply(pieces=["One"], error={"message": "oops"}),
        Reply(latency=0.02),
    ]
    async with OpenAIServer() as server:
        server.script = lambda ask: kinds[(int(ask.question) + ask.number) % len(kinds)]
        before = asyncio.all_tasks()
        async with opened(server, concurrency=8, attempts=2, call_seconds=0.4) as model:

            async def ask(number: int) -> None:
                asking = asyncio.create_task(complete(model, f"{number}", None, listen if number % 2 else None))
                if number % 3 == 0:
                    await asyncio.sleep(number / 500)
                    asking.cancel()
                with suppress(AssayError, asyncio.CancelledError):
                    await asking

            await asyncio.gather(*(ask(number) for number in range(120)))
            assert model.limit.used == 0
        async with asyncio.timeout(20):
            while server._tasks or asyncio.all_tasks() != before:  # the server has one for each connection
                await asyncio.sleep(0.01)


async def test_a_stream_that_stalls_ends_at_its_deadline() -> None:
    async with OpenAIServer() as server, opened(server, call_seconds=0.4) as model:
        server.script = lambda ask: Reply(pieces=["One", " two"], pause=30)
        with pytest.raises(GenerationError, match=r"within 0\.4 s") as caught:
            await complete(model, "?", None, listen)
        assert (caught.value.partial, caught.value.error_class) == ("", "transient")
        server.script = lambda ask: Reply(pieces=["word "] * 1000, pause=0.05)
        with pytest.raises(GenerationError, match=r"within 0\.4 s") as caught:
            await complete(model, "?", None, listen)
        assert caught.value.partial.startswith("word ")
