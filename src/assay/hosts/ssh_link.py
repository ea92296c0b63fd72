"""A connection that is opened when it is needed, shared, and opened again when it drops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import asyncssh

from assay.errors import Unreachable
from assay.hosts.ssh_config import Route
from assay.hosts.ssh_connect import Lost, Refusal, Session, open_session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a host is waited for, in seconds.

    first: for the first connection, when a user sits there. again: for one that has dropped. answer: for one answer. Pauses
    between tries are random up to `pause`, doubled each time, at most `longest_pause`. drops: connections in a row that may be
    lost under one piece of work which gets nowhere meanwhile.
    """

    first: float = 10.0
    again: float = 180.0
    answer: float = 60.0
    pause: float = 0.5
    longest_pause: float = 15.0
    drops: int = 5

    def wait(self, tries: int) -> float:
        """The pause after so many tries: "full jitter" (M. Brooker, Exponential Backoff and Jitter, 2015)."""
        return random.uniform(0, min(self.longest_pause, self.pause * 2.0 ** min(tries, 32)))


class Link:
    """Work over one shared connection. What is lost when it drops is asked again, so work must be such as can be repeated."""

    def __init__(self, route: Route, patience: Patience) -> None:
        self._route = route
        self._patience = patience
        self._session: Session | None = None
        self._opening: asyncio.Task[Session] | None = None
        self._worked = False
        self._closed = False

    async def call(
        self,
        work: Callable[[Session, Callable[[], None]], Awaitable[T]],
        *,
        seconds: float | None = None,
        progress: Callable[[], int] = lambda: 0,
    ) -> T:
        """Have `work` done over a connection. It gets a function to call with each answer: its time counts from there.

        progress: a number that tells whether a lost connection had brought the work on; if so, patience begins anew.
        Raises `Unreachable`, or `BadInput` as `open_session` does; everything else comes from the work itself.
        """
        patience = self._patience
        allowed = patience.answer if seconds is None else seconds
        loop = asyncio.get_running_loop()
        drops, before = 0, progress()
        while True:
            session = await self._opened()
            try:
                async with asyncio.timeout(allowed) as limit:
                    return await work(session, lambda: limit.reschedule(loop.time() + allowed))
            except TimeoutError:
                reason = f"{self._route.place} did not answer within {allowed:g} s"
            except asyncssh.SFTPError as error:
                if not isinstance(error, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection):
                    raise
                reason = f"the connection to {self._route.place} dropped"
            except asyncssh.ChannelOpenError:
                if not session.connection.is_closed():
                    raise
                reason = f"the connection to {self._route.place} dropped"
            except (asyncssh.Error, OSError) as error:
                reason = f"the connection to {self._route.place} dropped: {error}"
            self._forget(session)
            now = progress()
            drops = 1 if now != before else drops + 1
            before = now
            if drops >= patience.drops:
                raise Unreachable(f"{reason}, {drops} times in a row")
            await asyncio.sleep(patience.wait(drops))

    async def aclose(self) -> None:
        """Close the connection for good."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    async def _opened(self) -> Session:
        """The connection; all who need one wait for the same."""
        if self._closed:
            raise Unreachable(f"the connection to {self._route.place} was closed")
        session = self._session
        if session is not None and not session.connection.is_closed():
            return session
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_look_at)
        return await asyncio.shield(self._opening)

    async def _open(self) -> Session:
        patience = self._patience
        loop = asyncio.get_running_loop()
        began, tries = loop.time(), 0
        allowed = patience.again if self._worked else patience.first
        while True:
            try:
                self._session = await open_session(self._route)
            except Refusal as refusal:
                if not self._worked:
                    raise
                reason = str(refusal)
            except Lost as lost:
                reason = str(lost)
            else:
                self._worked = True
                return self._session
            tries += 1
            pause = patience.wait(tries)
            passed = loop.time() - began
            if passed + pause > allowed:
                raise Unreachable(f"{reason} ({tries} tries in {passed:.0f} s)")
            await asyncio.sleep(pause)

    def _forget(self, session: Session) -> None:
        session.abort()
        if self._session is session:
            self._session = None


def _look_at(opening: asyncio.Task[Session]) -> None:
    """An error whose callers have all gone is no news to anybody."""
    if not opening.cancelled():
        opening.exception()
