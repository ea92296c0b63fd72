"""One connection to a server: a request goes out, its answer comes in, and the connection serves the next.

HTTP/1.1 is parsed by llhttp, through `httptools`. Nothing is redirected or sent twice in here, and a deadline or a cancelled
caller closes the connection, so that the server stops working for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from assay.models.http_faults import Fault, foreign

if TYPE_CHECKING:
    from httptools import HttpResponseParser

    from assay.models.http_encoding import Inflater

# More is no answer of a language model, and would fill the memory.
_MOST_HEAD_BYTES = 1 << 20
_MOST_BYTES = 1 << 28


class Connection(asyncio.Protocol):
    """A connection that is asked one thing at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = self._deadline = 0.0
        self._fault: Fault | None = None
        self._pieces: list[bytes] = []
        self._eager = False
        self._bounded = False
        self._keep = False
        self._received = 0  # bytes of the present answer
        self._greeting = b""  # what came unasked, and is no HTTP
        self._inflater: Inflater | None = None
        self.headed = False
        self.complete = True  # no answer is under way
        self.closed = False
        self.touched = False  # the answer has begun to arrive
        self.status = 0
        self.headers: dict[str, str] = {}
        self.idle_since = 0.0

    @property
    def reusable(self) -> bool:
        """Can it be asked again?"""
        return self.complete and self._keep and not self.closed

    @property
    def is_new(self) -> bool:
        """Was nothing asked on it before?"""
        return self.idle_since == 0.0

    def ask(self, request: bytes, seconds: float, spent: float = 0.0) -> None:
        """Send a request; the answer must be there, to its end, after so many seconds, of which some were spent before."""
        assert self._transport is not None
        assert self.complete, "the answer before is still under way"
        if self._parser is None:
            from httptools import HttpResponseParser

            self._parser = HttpResponseParser(self)
        self._pieces, self.headers, self.status, self._received, self._inflater = [], {}, 0, 0, None
        self.headed = self.complete = self.touched = self._eager = self._bounded = self._keep = False
        self._seconds, self._deadline = seconds, self._loop.time() + seconds - spent
        if self.closed:  # by the server, or for what it said, as soon as it was made
            said = "the server closed the connection without an answer"
            self._fail(foreign(self._greeting) if self._greeting else Fault("broken", said))
            return
        if self._timer is None or self._timer.when() > self._deadline:
            self._stop_timer()
            self._timer = self._loop.call_at(self._deadline, self._expire)
        self._transport.write(request)

    async def head(self) -> None:
        """Wait for the answer's status and headers. Raises `Fault`."""
        self._eager = True
        while not self.headed:
            await self._change()

    async def body(self) -> bytes:
        """Wait for the rest of the answer's body. Raises `Fault`."""
        self._eager = False
        while not self.complete:
            await self._change()
        return self._plain(b"".join(self._pieces))

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The answer's body as it comes. Raises `Fault` after all that had come."""
        self._eager = True
        while True:
            if self._pieces:
                pieces, self._pieces = self._pieces, []
                yield self._plain(b"".join(pieces))
            elif self.complete:
                return
            else:
                await self._change()

    def close(self) -> None:
        """End the connection at once."""
        self.closed = True
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def _plain(self, data: bytes) -> bytes:
        encoding = self.headers.get("content-encoding", "identity").lower()
        if encoding == "identity":
            return data
        if self._inflater is None:
            from assay.models.http_encoding import Inflater

            self._inflater = Inflater(encoding, _MOST_BYTES)
        return self._inflater.feed(data)

    async def _change(self) -> None:
        if self._fault is not None:
            raise self._fault
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, fault: Fault) -> None:
        if not self.complete and self._fault is None:
            self._fault = fault
            self._wake()

    def _expire(self) -> None:
        """The timer of an earlier request serves the later ones: setting one for each would cost more than it is worth."""
        self._timer = None
        if self.complete:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._expire)
            return
        self._fail(Fault("silent", f"no complete answer came within {self._seconds:.3g} s"))
        self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.complete or self._parser is None:  # nobody asked
            self._greeting = b"" if _begins_http(data) else data
            self.close()
            return
        self.touched = True
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except Exception as error:  # the parser has a class for each rule that can be broken
            said = f"the server does not speak HTTP as it should ({type(error).__name__}: {error})"
            first = self._received == len(data)
            self._fail(foreign(data) if first and not _begins_http(data) else Fault("broken", said))
            self.close()
        if self._received > (_MOST_BYTES if self.headed else _MOST_HEAD_BYTES):
            self._fail(Fault("garbled", f"the server's answer does not end: {self._received:,} bytes came"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._stop_timer()
        if self.headed and not self._bounded and exc is None:
            self.complete = True  # an answer without a length ends where the connection does
            self._wake()
        where = "within its answer" if self.touched else "without an answer"
        self._fail(Fault("broken", f"the server closed the connection {where}"))

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.headed:  # what follows the body is no head
            return
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self.complete:
            return
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self.headed = True
            self._bounded = (
                "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()
            )
            if self._eager:
                self._wake()

    def on_body(self, piece: bytes) -> None:
        if self.complete:
            return
        self._pieces.append(piece)
        if self._eager:
            self._wake()

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self.complete:  # a second answer, to nothing: whatever comes next here can't be trusted
            self._keep = False
            return
        if self.status < 200:  # "100 Continue" and such come before the answer
            self.headers = {}
            return
        self._keep = self._parser.should_keep_alive()
        self.complete = True
        self._wake()


def _begins_http(data: bytes) -> bool:
    """Can an answer over HTTP begin so?"""
    start = b"HTTP/"
    return data[: len(start)] == start[: len(data)]
