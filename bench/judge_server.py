"""A judge behind a URL that costs next to nothing: a server in a process of its own, for benchmarks of scoring over HTTP.

It answers each chat completion after a fixed latency with a valid verdict for the rubric `semantic`, and tells what it saw:
each call's item (the answers hold marks such as `item-000123`), when it came and when its reply was sent, and the CPU time
that the server took itself. Replies are made beforehand, and requests are read no further than needed.

With `faults` some calls fail, drawn by item, and by attempt where they pass: 5 % are answered 500, 2 % 429 with
`Retry-After: 1`, 1 % not before 30 s, and 1 % with JSON that breaks off: the reply's own for an even item, the verdict's
in it for an odd one.

    with JudgeServer(0.05) as server:
        subprocess.run(["assay", "score", …, "--judge", server.spec])
        print(server.seen().pace)
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import selectors
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

VERDICT = {"reason": "Weighs both.", "sovereignty": 5, "ethical_depth": 6, "creative_expression": 7, "self_concept": 8}
MARK = "item-{:06}"
HANG_SECONDS = 30.0

_MARK = b"item-"
_LIMITS = ((0.05, "500"), (0.07, "429"), (0.08, "hang"), (0.09, "cut"))


def fate(item: int, attempt: int, seed: int) -> str:
    """What happens to a call: the same for the same numbers."""
    drawn = int.from_bytes(hashlib.blake2b(f"{seed}/{item}/{attempt}".encode(), digest_size=4).digest()) / 2**32
    return next((name for limit, name in _LIMITS if drawn < limit), "fine")


def _completion(content: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940}
    reply = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "judge", "choices": [choice]}
    return json.dumps({**reply, "usage": usage}).encode()


def _response(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


_ERROR = json.dumps({"error": {"message": "of this benchmark's making"}}).encode()
_FINE = _completion(json.dumps(VERDICT))
_REPLIES = {
    "fine": _response("200 OK", _FINE),
    "hang": _response("200 OK", _FINE),
    "500": _response("500 Internal Server Error", _ERROR),
    "429": _response("429 Too Many Requests", _ERROR, "Retry-After: 1"),
    "cut": _response("200 OK", _FINE[: len(_FINE) // 2]),
    "cut verdict": _response("200 OK", _completion(json.dumps(VERDICT)[:40])),
}


class _Board:
    """What the server has seen, and how it answers."""

    def __init__(self, latency: float, faults: str, seed: int) -> None:
        self.latency, self.faults, self.seed = latency, faults, seed
        self.clear()

    def clear(self) -> None:
        self.calls: list[list[Any]] = []  # item, came at, sent at or None, fate
        self.attempts: Counter[int] = Counter()
        self.bodies: list[bytes] = []
        self.answered = 0
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.cpu = usage.ru_utime + usage.ru_stime

    def told(self) -> bytes:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return json.dumps({"calls": self.calls, "cpu": usage.ru_utime + usage.ru_stime - self.cpu}).encode()

    def fate(self, item: int) -> str:
        attempt = self.attempts[item]
        self.attempts[item] += 1
        if self.faults == "none":
            return "fine"
        drawn = fate(item, attempt if self.faults == "passing" else 0, self.seed)
        return "cut verdict" if drawn == "cut" and item % 2 else drawn


class _Judge(asyncio.Protocol):
    """One connection, on which one request follows the other's reply."""

    def __init__(self, board: _Board, keep: bool) -> None:
        self._board, self._keep = board, keep
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        end = self._data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self._data[:end].lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(self._data) < end + int(length or 0):
            return
        request, self._data = self._data, b""
        if request.startswith(b"POST"):
            self._judge(request, end)
        else:
            self._tell(request.split(b" ", 2)[1])

    def _judge(self, request: bytes, end: int) -> None:
        board = self._board
        mark = request.find(_MARK, end) + len(_MARK)
        item = int(request[mark : mark + 6]) if mark >= len(_MARK) else -1
        call = [item, time.monotonic(), None, board.fate(item)]
        board.calls.append(call)
        if self._keep:
            board.bodies.append(request[end:])
        wait = HANG_SECONDS if call[3] == "hang" else board.latency
        if wait:
            asyncio.get_running_loop().call_later(wait, self._send, call)
        else:
            self._send(call)

    def _send(self, call: list[Any]) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_REPLIES[call[3]])
        call[2] = time.monotonic()
        self._board.answered += call[3] == "fine"

    def _tell(self, path: bytes) -> None:
        board = self._board
        if path == b"/clear":
            board.clear()
        if path == b"/seen":
            said = board.told()
        elif path == b"/bodies":
            said = b"[" + b",".join(board.bodies) + b"]"
        else:
            said = b"%d" % board.answered
        self._transport.write(_response("200 OK", said))


async def _serve(board: _Board, keep: bool) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Judge(board, keep), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass(frozen=True)
class Call:
    """A call as the server saw it; times by the machine's monotonic clock. sent: None if the caller left before."""

    item: int
    came: float
    sent: float | None
    fate: str

    @property
    def answered(self) -> bool:
        """Was a whole and valid verdict sent?"""
        return self.sent is not None and self.fate in ("fine", "hang")


@dataclass(frozen=True)
class Seen:
    """What the server saw since it was cleared. cpu: its own CPU seconds."""

    calls: list[Call]
    cpu: float

    @property
    def seconds(self) -> float:
        """From the first request to the last reply."""
        return max(c.sent for c in self.calls if c.sent is not None) - min(c.came for c in self.calls)

    @property
    def answered(self) -> set[int]:
        """The items that got a verdict."""
        return {call.item for call in self.calls if call.answered}


class JudgeServer:
    """The server's process. latency: seconds from request to reply. faults: "none", "passing" or "lasting".

    keep: hold on to the requests' bodies.
    """

    def __init__(self, latency: float, *, faults: str = "none", seed: int = 1, keep: bool = False) -> None:
        self._command = [sys.executable, str(Path(__file__)), str(latency), faults, str(seed), str(int(keep))]

    def __enter__(self) -> JudgeServer:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    @property
    def spec(self) -> str:
        """The model's spec."""
        return f"{self.url}/v1#judge"

    def clear(self) -> None:
        """Forget all calls."""
        self._get("clear")

    def answered(self) -> int:
        """How many verdicts were sent."""
        return int(self._get("answered"))

    def seen(self) -> Seen:
        found = self._get("seen")
        return Seen([Call(*call) for call in found["calls"]], found["cpu"])

    def bodies(self) -> list[dict[str, Any]]:
        """The requests' bodies, in the order in which they came."""
        found: list[dict[str, Any]] = self._get("bodies")
        return found

    def _get(self, path: str) -> Any:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.url}/{path}") as reply:
            return json.load(reply)


def main() -> None:
    parser = argparse.ArgumentParser(description="A judge for benchmarks; prints its port.")
    parser.add_argument("latency", type=float, help="seconds from request to reply")
    parser.add_argument("faults", choices=("none", "passing", "lasting"))
    parser.add_argument("seed", type=int)
    parser.add_argument("keep", type=int, choices=(0, 1), help="1: hold on to the requests' bodies")
    arguments = parser.parse_args()
    board = _Board(arguments.latency, arguments.faults, arguments.seed)
    # select() sleeps to the microsecond; epoll would round the latency up to a whole millisecond.
    new_loop = partial(asyncio.SelectorEventLoop, selectors.SelectSelector())
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(board, bool(arguments.keep)))


if __name__ == "__main__":
    main()
