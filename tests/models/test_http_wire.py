"""What servers and gateways do to HTTP itself: ends, encodings, sizes, and answers to nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import pytest

from assay.errors import GenerationError, ModelError, Unreachable
from assay.models import http_connection
from assay.models.base import complete
from assay.types import GenerateOptions
from tests.models.http_opened import opened
from tests.models.raw_server import ANSWER, BODY, Packets, RawServer, response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def other(text: str) -> bytes:
    return json.dumps(ANSWER).replace("Fine.", text).encode()


def listen(_: object) -> None:
    """Whoever listens gets the answer in pieces."""


@pytest.mark.parametrize(
    "packets",
    [
        [response()],
        [response()[:30], response()[30:]],
        [response(status="200")],
        [response(BODY, "Connection: Upgrade, Keep-Alive", "Upgrade: h2,h2c")],
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Encoding: br\r\n\r\n", response()],
        [CHUNKED + b"\r\n" + chunk(BODY[:9], b";a=1") + chunk(BODY[9:]) + b"0\r\nContent-Type: text/html\r\n\r\n"],
        [CHUNKED.replace(b"chunked", b"Chunked") + b"\r\n" + chunk(BODY) + b"0\r\n\r\n"],
        [b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY, None],
        [b"HTTP/1.0 200 OK\r\n\r\n" + BODY[:20], BODY[20:], None],
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY, None],
        [response() + b"and more"],
        [response() + response(b"no", status="408 Request Time-out")],
        [response() + response(other("Wrong."))],
        [response(BODY + b"}", f"Content-Length: {len(BODY)}", length=False)],
        [response(gzip.compress(BODY), "Content-Encoding: gzip")],
        [response(zlib.compress(BODY), "Content-Encoding: Deflate")],
        [response(zlib.compress(BODY)[2:-4], "Content-Encoding: deflate")],
        [response(BODY, "Content-Encoding: identity")],
        [CHUNKED + b"\r\n" + chunk(b"\n"), 0.02, chunk(b"\r\n\n") + chunk(BODY) + b"0\r\n\r\n"],
        [response(b"\n\ndata: " + BODY + b"\n\n")],
    ],
)
async def test_forms_that_an_answer_can_have(packets: Packets) -> None:
    async with RawServer(lambda _: packets) as server, opened(server.spec, attempts=1) as model:
        for _ in range(3):
            done = await complete(model, "?")
            assert (done.text, done.finish_reason) == ("Fine.", "stop")
        assert len(server.asked) == 3


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    packets = [response(), response(other("Wrong."))]
    async with RawServer(lambda _: packets) as server, opened(server.spec, attempts=1) as model:
        for number in range(1, 4):
            assert (await complete(model, "?")).text == "Fine."
            await asyncio.sleep(0.05)  # it comes while nothing is asked
            assert server.connections == number


async def test_a_question_that_breaks_connections_is_not_asked_on_each_that_is_kept() -> None:
    def script(request: bytes) -> Packets:
        return [None] if b"poison" in request else [0.1, response()]

    async with RawServer(script) as server, opened(server.spec, attempts=1, concurrency=8) as model:
        await asyncio.gather(*(complete(model, "?") for _ in range(8)))
        assert server.connections == 8
        with pytest.raises(GenerationError, match="without an answer"):
            await complete(model, "poison")
        assert sum(b"poison" in request for request in server.asked) == 2
        assert (await complete(model, "?")).text == "Fine."


@pytest.mark.parametrize(
    ("packets", "said"),
    [
        ([response(BODY[:-4], f"Content-Length: {len(BODY)}", length=False), None], "closed the connection within"),
        ([CHUNKED.replace(b"chunked", b"Chunked") + b"\r\n" + chunk(BODY), None], "closed the connection within"),
        ([None], "closed the connection without"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"], "does not speak HTTP"),
        ([response(BODY, "Content-Length: 3")], "does not speak HTTP"),
        ([response(BODY, "Content-Encoding: gzip")], "no whole gzip"),
        ([response(gzip.compress(BODY)[:40], "Content-Encoding: gzip")], "not whole JSON"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"x" * 65536 + b"\r\n" for _ in range(20)]], "does not end"),
    ],
)
async def test_forms_that_none_can_have_are_asked_again_and_classed(packets: Packets, said: str) -> None:
    async with RawServer(lambda _: packets) as server, opened(server.spec, attempts=2) as model:
        with pytest.raises(GenerationError, match=said) as caught:
            await complete(model, "?")
        assert caught.value.error_class == "transient"
        assert len(server.asked) == 2


async def test_an_encoding_that_cannot_be_read_is_told() -> None:
    packets = [response(b"\x0b\x02\x80", "Content-Encoding: br")]
    async with RawServer(lambda _: packets) as server, opened(server.spec) as model:
        with pytest.raises(ModelError, match="the encoding 'br', though it was asked for none"):
            await complete(model, "?")


@pytest.mark.parametrize("listener", [None, listen])
@pytest.mark.parametrize(
    "body",
    [
        [b"Content-Length: 999999999\r\n\r\n", *[b" " * 65536] * 40],
        [b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b" " * 3_000_000), None],
    ],
    ids=["long", "packed"],
)
async def test_an_answer_without_end_is_left(body: list[Any], listener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "_MOST_BYTES", 2_000_000)
    packets = [b"HTTP/1.1 200 OK\r\n" + body[0], *body[1:]]
    async with RawServer(lambda _: packets) as server, opened(server.spec, attempts=1) as model:
        with pytest.raises(GenerationError, match="does not end") as caught:
            await complete(model, "?", None, listener)
        assert caught.value.error_class == "transient"


async def test_a_stream_that_comes_compressed() -> None:
    def events(_: bytes) -> Packets:
        engine = zlib.compressobj(wbits=31)
        packets: list[bytes | float | None] = [
            CHUNKED + b"Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"
        ]
        for text, finish in (("Fi", None), ("ne.", None), ("", "stop")):
            event = {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}
            packed = engine.compress(b"data: %b\n\n" % json.dumps(event).encode()) + engine.flush(zlib.Z_SYNC_FLUSH)
            packets.append(chunk(packed))
        return [*packets, chunk(engine.compress(b"data: [DONE]\n\n") + engine.flush()), b"0\r\n\r\n"]

    async with RawServer(events) as server, opened(server.spec, attempts=1) as model:
        pieces = [piece.text async for piece in model.stream("?", GenerateOptions())]
        assert pieces == ["Fi", "ne.", ""]


async def test_a_server_that_hangs_up_at_once_is_noticed_at_once() -> None:
    patient = {"attempts": 2, "call_seconds": 60, "total_seconds": 100}
    async with RawServer(lambda _: [], hangs_up=True) as server, opened(server.spec, **patient) as model:
        for _ in range(2):
            with pytest.raises(GenerationError, match="closed the connection without an answer"):
                await complete(model, "?")
        with pytest.raises(Unreachable, match="has not answered anything"):
            await complete(model, "?")
