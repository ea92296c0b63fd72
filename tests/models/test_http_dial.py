"""Reaching a host: one lookup for all who ask at once, addresses that lead nowhere, and nothing left open."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from assay.errors import Unreachable
from assay.models.base import complete
from assay.models.http_dial import Dialer
from tests.models.http_opened import opened
from tests.models.openai_server import OpenAIServer, Reply

NAME = "far.example"


class Names:
    """A resolver that knows one name. looked_up: how often it was asked; fails: how often it will not know."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.looked_up = self.fails = 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)

    def _look_up(self, host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != NAME:
            return self._real(host, port, *more, **named)
        self.looked_up += 1
        if self.fails:
            self.fails -= 1
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


def spec_of(server: OpenAIServer) -> str:
    return f"http://{NAME}:{server.port}/v1#m"


async def test_a_name_is_looked_up_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, ["127.0.0.1"])
    async with OpenAIServer() as server, opened(spec_of(server), concurrency=20) as model:
        server.script = lambda ask: Reply(latency=0.05, headers={"Connection": "close"})
        await asyncio.gather(*(complete(model, f"{n}") for n in range(60)))
        assert (server.connections, names.looked_up) == (60, 1)
        assert server.asked[0].headers["host"] == f"{NAME}:{server.port}"


async def test_a_name_that_is_not_known_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, ["127.0.0.1"])
    names.fails = 2
    async with OpenAIServer() as server, opened(spec_of(server)) as model:
        assert (await complete(model, "?")).text == "Fine."
        assert names.looked_up == 3
        names.fails = 9
        for task in server._tasks:
            task.cancel()
        assert server._server is not None
        server._server.close()
        with pytest.raises(Unreachable, match=r"Name or service not known \(5 attempts\)"):
            await complete(model, "?")


@pytest.mark.skipif(sys.platform == "darwin", reason="127.0.0.1 is the only address of a Mac's loopback")
async def test_addresses_that_lead_nowhere_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OpenAIServer() as server:
        names = Names(monkeypatch, ["127.0.0.2", "127.0.0.1"])  # at the first nobody listens
        async with opened(spec_of(server), attempts=1) as model:
            assert (await complete(model, "?")).text == "Fine."
        with socket.socket() as full:  # one that never answers
            full.bind(("127.0.0.3", server.port))
            full.listen(0)
            full.setblocking(False)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            names.addresses = ["127.0.0.3", "127.0.0.1"]
            async with opened(spec_of(server), attempts=1) as model:
                assert (await complete(model, "?")).text == "Fine."
            names.addresses = ["127.0.0.3", "127.0.0.2"]
            async with opened(spec_of(server), attempts=2, connect_seconds=0.6) as model:
                with pytest.raises(Unreachable, match=r"within 0\.6 s"):
                    await complete(model, "?")
            for filler in fillers:
                filler.close()
        assert server.connections == 2


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.1"], ["127.0.0.1", "::1"]])
async def test_who_leaves_while_it_connects_leaves_nothing_open(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost socket would be a warning, which is an error."""
    Names(monkeypatch, addresses)
    async with OpenAIServer() as server:
        dialer = Dialer(NAME, server.port)
        before = asyncio.all_tasks()
        for steps in range(40):
            opening = asyncio.create_task(dialer.open(asyncio.Protocol))
            for _ in range(steps):
                await asyncio.sleep(0)
            opening.cancel()
            try:
                transport, _ = await opening
                transport.abort()
            except asyncio.CancelledError:
                pass
        async with asyncio.timeout(20):
            while server._tasks or asyncio.all_tasks() - before:
                await asyncio.sleep(0.01)
