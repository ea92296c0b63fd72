"""Answers that are scored beside each other and handed out in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Answers that may be scored behind one that is still being judged, for each that is judged at once.
_AHEAD = 4


class Window(Generic[T]):
    """Answers in their order, scored or being judged: at most `concurrency` of them are judged at once.

    An answer has no task before its turn has come. Tasks that wait behind a semaphore cost time at each
    call that ends, and memory. Nothing begins by itself, so that nothing takes the place of what is cancelled.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._judged = 0
        self._entries: deque[asyncio.Task[T] | T] = deque()
        self._changed: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """Is there an answer that was not handed out yet?"""
        return bool(self._entries)

    def has_room(self, judged: bool) -> bool:
        """Can another answer join? One slow answer at the front holds up the others, in the end."""
        return len(self._entries) < _AHEAD * self._concurrency and not (judged and self._judged >= self._concurrency)

    def begin(self, work: Coroutine[Any, Any, T]) -> None:
        self._judged += 1
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._entries.append(task)

    def put(self, scored: T) -> None:
        self._entries.append(scored)

    def finished(self) -> Iterator[T]:
        """Hand out what is scored, up to the first that isn't. Raises what its judging raised."""
        while self._entries:
            entry = self._entries[0]
            if not isinstance(entry, asyncio.Task):
                self._entries.popleft()
                yield entry
            elif entry.done():
                self._entries.popleft()
                yield entry.result()
            else:
                return

    async def change(self) -> None:
        """Wait until the judging of any answer has ended."""
        self._changed = asyncio.get_running_loop().create_future()
        await self._changed

    async def cancel(self) -> None:
        """End all judging that is under way."""
        left = [entry for entry in self._entries if isinstance(entry, asyncio.Task)]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _ended(self, _: asyncio.Task[T]) -> None:
        self._judged -= 1
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
