"""A connection that is opened when it is needed, shared, and opened again when it drops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

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
    lost under a piece of work while nothing else comes through either.
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


class Pace:
    """How work tells that it goes on, so that neither a deadline nor dropped connections end it."""

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self.pieces = 0

    def answered(self) -> None:
        """The host answered: the time for an answer counts from now."""
        self.limit.reschedule(self._loop.time() + self._seconds)

    def kept(self) -> None:
        """It answered with a piece that will not be asked for again, whatever happens."""
        self.pieces += 1
        self.answered()


Work: TypeAlias = Callable[[Session, Pace], Awaitable[T]]


class Link:
    """Work over one shared connection. What is lost when it drops is asked again, so work must be such as can be repeated."""

    def __init__(self, route: Route, patience: Patience) -> None:
        self._route = route
        self._patience = patience
        self._session: Session | None = None
        self._opening: asyncio.Task[Session] | None = None
        self._worked = False
        self._kept = (
            0  # pieces of work that are done, which tell a line that breaks often from one that carries nothing
        )
        self._closed = False

    async def call(self, work: Work[T]) -> T:
        """Have `work` done over a connection.

        Raises `Unreachable`, or `BadInput` as `open_session` does; everything else comes from the work itself.
        """
        patience = self._patience
        drops, kept = 0, self._kept
        while True:
            session = await self._opened()
            pace = Pace(asyncio.timeout(patience.answer), patience.answer)
            try:
                async with pace.limit:
                    result = await work(session, pace)
                self._kept += 1
                return result
            except TimeoutError:
                reason = f"{self._route.place} did not answer within {patience.answer:g} s"
            except (asyncssh.Error, OSError) as error:
                if not _is_loss(error, session):
                    raise
                reason = f"the connection to {self._route.place} dropped"
            self._forget(session)
            self._kept += pace.pieces
            drops = drops + 1 if self._kept == kept else 1
            kept = self._kept
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
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled() and self._closed:
                raise Unreachable(f"the connection to {self._route.place} was closed") from None
            raise

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


def _is_loss(error: Exception, session: Session) -> bool:
    """Whether an error tells of the connection, and not of what was asked."""
    if isinstance(error, asyncssh.SFTPError):
        return isinstance(error, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection)
    return not isinstance(error, asyncssh.ChannelOpenError) or session.connection.is_closed()


def _look_at(opening: asyncio.Task[Session]) -> None:
    """An error whose callers have all gone is no news to anybody."""
    if not opening.cancelled():
        opening.exception()
