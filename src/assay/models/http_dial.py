"""Reaching a host: its name is looked up once for all who want to, and the first of its addresses that answers is taken.

asyncio does both, but looks the name up for each connection: many at once make some resolvers drop questions, which costs 5
seconds each. And its way of trying several addresses loses a socket that is connected just as its caller is cancelled.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

T = TypeVar("T", bound=asyncio.BaseProtocol)
Made = tuple[asyncio.Transport, T]

_REMEMBERED = 60.0  # seconds
_HEAD_START = 0.25  # seconds that an address has before the next is tried beside it (RFC 8305, 5)


class Dialer:
    """Makes connections to one host and port."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._literal = _is_address(host)
        self._found: Sequence[str] = ()
        self._found_at = 0.0
        self._looking: asyncio.Task[Sequence[str]] | None = None

    async def open(self, make: Callable[[], T], context: ssl.SSLContext | None = None) -> Made[T]:
        """A connection whose protocol is what `make` makes, over TLS if there is a `context`. Raises `OSError`."""
        loop, name = asyncio.get_running_loop(), None if context is None else self._host

        async def connect(address: str) -> Made[T]:
            return await loop.create_connection(make, address, self._port, ssl=context, server_hostname=name)

        found = [self._host] if self._literal else await self._addresses()
        try:
            return await (connect(found[0]) if len(found) == 1 else _first(connect, found))
        except BaseException:
            self._found = ()  # it may have moved
            raise

    async def _addresses(self) -> Sequence[str]:
        now = asyncio.get_running_loop().time()
        if self._found and now - self._found_at < _REMEMBERED:
            return self._found
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_up())
            self._looking.add_done_callback(_heard)
        # Who waits may leave; who else waits wants to know all the same.
        return await asyncio.shield(self._looking)

    async def _look_up(self) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        told = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        families: dict[int, dict[str, None]] = {}
        for family, _, _, _, where in told:
            families.setdefault(family, {})[str(where[0])] = None
        # One family may lead nowhere, so they take turns.
        self._found = [each for turn in zip_longest(*families.values()) for each in turn if each is not None]
        self._found_at = loop.time()
        return self._found


async def _first(connect: Callable[[str], Coroutine[Any, Any, Made[T]]], addresses: Sequence[str]) -> Made[T]:
    """The first connection that is made. The next address is tried when those before failed, or have had a head start."""
    waiting = list(addresses)
    trying: set[asyncio.Task[Made[T]]] = set()
    error: BaseException | None = None
    try:
        while waiting or trying:
            if waiting:
                trying.add(asyncio.create_task(connect(waiting.pop(0))))
            done, _ = await asyncio.wait(
                trying, timeout=_HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                trying.discard(task)
                if (error := task.exception()) is None:
                    return task.result()
                if isinstance(error, ssl.SSLError):  # it is there, and the others are the same host's
                    raise error
        raise error or OSError("the name leads to no address")
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close_unwanted)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _heard(task: asyncio.Task[Any]) -> None:
    """Its failure is known, also where nobody waits for it any more."""
    if not task.cancelled():
        task.exception()


def _close_unwanted(task: asyncio.Task[Made[T]]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result()[0].abort()
