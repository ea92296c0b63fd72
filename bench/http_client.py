"""What does a call to a model behind a URL cost?

Two figures, on a server of this file's own in a process of its own, which answers at once or after 50 ms:

- CPU seconds (user and system, of this process) per 1,000 calls with an answer at once: `complete` over `HttpModel` against
  a bare aiohttp loop that posts the same payloads and parses the same replies. Target: at most 1.6 times.
- Calls a second at 50 ms and 64 at once against the ideal, concurrency ÷ latency. Target: at least 95 %. The 2,000 calls
  are 31.25 rounds of 64, of which the last is not full, so that 97.7 % is the most that anybody can reach.

Opening connections is left out of both: each client makes one round of calls before it is measured. The two take turns.

    pip install aiohttp
    python bench/http_client.py
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import selectors
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

import lab
from assay.models.base import complete
from assay.models.http_open import open_http
from assay.models.http_retry import HttpSettings
from assay.types import GenerateOptions

LATENCY = 0.05
ANSWER = "x" * 80
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 12, "total_tokens": 212},
}
QUESTION = "Rate this answer. " + "Seven apples and five pears make twelve pieces of fruit. " * 15

Ask = Callable[[int], Awaitable[object]]


class _Answering(asyncio.Protocol):
    """Reads requests by their length and answers each after a while: less work than any real server has."""

    def __init__(self, latency: float) -> None:
        body = msgspec.json.encode(REPLY)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._reply = head.encode() + body
        self._latency = latency
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        length = self._data[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(self._data) >= end + 4 + int(length):
            self._data = b""
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, self._reply)


async def _serve(latency: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Answering(latency), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def serve(latency: float) -> None:
    # select() sleeps to the microsecond; epoll would round the latency up to a whole millisecond.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_serve(latency))


@asynccontextmanager
async def bare_aiohttp(port: int, concurrency: int) -> AsyncIterator[Ask]:
    """The plainest loop that one would write with aiohttp."""
    import aiohttp

    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

        async def ask(number: int) -> object:
            messages = [{"role": "user", "content": f"{number}. {QUESTION}"}]
            body = {"model": "m", "messages": messages, "temperature": 0.0, "max_tokens": 64, "seed": 1}
            async with session.post(url, json=body) as response:
                reply = await response.json()
            assert reply["choices"][0]["message"]["content"] == ANSWER
            return reply

        yield ask


@asynccontextmanager
async def http_model(port: int, concurrency: int) -> AsyncIterator[Ask]:
    model = open_http(f"http://127.0.0.1:{port}/v1#m", HttpSettings(concurrency=concurrency))
    options = GenerateOptions(max_tokens=64, seed=1)

    async def ask(number: int) -> object:
        completion = await complete(model, f"{number}. {QUESTION}", options)
        assert completion.text == ANSWER
        return completion

    try:
        yield ask
    finally:
        await model.aclose()


async def paced(ask: Ask, calls: int, concurrency: int) -> tuple[float, float]:
    """CPU seconds and wall seconds of so many calls, once the connections are open."""
    await asyncio.gather(*(ask(number) for number in range(concurrency)))
    numbers = iter(range(calls))

    async def work() -> None:
        for number in numbers:
            await ask(number)

    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


async def measure(latency: float, arguments: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    command = [sys.executable, __file__, "--serve", str(latency)]
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = int(await server.stdout.readline())
        measured: dict[str, list[tuple[float, float]]] = {"HttpModel": [], "bare aiohttp": []}
        for _ in range(arguments.rounds):
            for name, client in (("HttpModel", http_model), ("bare aiohttp", bare_aiohttp)):
                async with client(port, arguments.concurrency) as ask:
                    measured[name].append(await paced(ask, arguments.calls, arguments.concurrency))
        return measured
    finally:
        server.terminate()
        await server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="What does a call to a model behind a URL cost?")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", type=float, metavar="LATENCY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
        return 0
    try:
        import aiohttp
    except ImportError:
        lab.fail("this compares with aiohttp, which is not installed: pip install aiohttp")
    print(f"aiohttp {aiohttp.__version__}, {arguments.calls} calls, {arguments.concurrency} at once\n")
    cpu = {}
    for name, runs in asyncio.run(measure(0.0, arguments)).items():
        values = [seconds / arguments.calls * 1000 for seconds, _ in runs]
        cpu[name] = statistics.median(values)
        print(f"at once, {name}: CPU seconds per 1,000 calls {lab.spread(values)}")
    share = {}
    ideal = arguments.calls * LATENCY / arguments.concurrency
    for name, runs in asyncio.run(measure(LATENCY, arguments)).items():
        values = [ideal / wall for _, wall in runs]
        share[name] = statistics.median(values)
        print(f"{LATENCY * 1000:.0f} ms, {name}: share of the ideal pace {lab.spread(values)}")
    ratio = cpu["HttpModel"] / cpu["bare aiohttp"]
    code = lab.verdict("CPU per call, against bare aiohttp", ratio, 1.6, at_most=True)
    return max(code, lab.verdict("pace, against the ideal", share["HttpModel"], 0.95, at_most=False))


if __name__ == "__main__":
    sys.exit(main())
