"""How many requests may be under way at once: a bound that gives way when the server says "too many"."""

from __future__ import annotations

import asyncio
from collections import deque

_SHRINK = 0.7
_GROWTH = 0.25
_FORGETTING = 0.8


class AdaptiveLimit:
    """At most `maximum` slots, fewer while the server pushes back, handed out in the order of asking.

    Additive increase, multiplicative decrease (Chiu and Jain, 1989): each answer adds a quarter of a slot, so the bound
    grows by a quarter while that many requests are answered; a push-back takes 30 %. Of the requests that were under way
    together one counts: they all say the same. And servers refuse requests for other reasons, too: while as many are
    under way as when others were answered, a push-back only weakens the memory of that, by 20 %.

    A request that must be alone waits until none is under way, and holds all slots.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._bound = float(maximum)
        self._used = 0
        self._epoch = 0
        self._proven = 0.0  # so many were under way when an answer came
        self._alone = False  # the request that is under way must be
        self._waiting: deque[tuple[asyncio.Future[None], bool]] = deque()

    @property
    def bound(self) -> int:
        """How many may be under way now."""
        return int(self._bound)

    @property
    def used(self) -> int:
        """How many are under way now."""
        return self._used

    async def acquire(self, *, first: bool = False, alone: bool = False) -> int:
        """Wait for a slot. The number that comes back tells `push_back` when the request began.

        first: before all who wait already; for a request that had its turn and must be repeated, or on which theirs depend.
        """
        if not self._waiting and self._has_room(alone):
            self._take(alone)
            return self._epoch
        turn = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)((turn, alone))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot came together with the cancellation
                self.release()
            elif (turn, alone) in self._waiting:
                self._waiting.remove((turn, alone))
                self._hand_out()
            raise
        return self._epoch

    def release(self) -> None:
        """Give the slot back."""
        self._used -= 1
        self._alone = False
        self._hand_out()

    def succeeded(self) -> None:
        """A request was answered, and its slot not released yet: the bound recovers."""
        self._proven = max(self._proven, self._used)
        if self._bound < self._maximum:
            self._bound = min(float(self._maximum), self._bound + _GROWTH)
            self._hand_out()

    def push_back(self, began: int) -> None:
        """The server refused a request that began at `began`, whose slot is not released yet."""
        excessive = self._used > self._proven
        self._proven *= _FORGETTING
        if began == self._epoch and excessive:
            self._epoch += 1
            self._bound = max(1.0, self._bound * _SHRINK)

    def _has_room(self, alone: bool) -> bool:
        return not self._alone and self._used < (1 if alone else int(self._bound))

    def _take(self, alone: bool) -> None:
        self._used += 1
        self._alone = alone

    def _hand_out(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][1]):
            turn, alone = self._waiting.popleft()
            if not turn.done():
                self._take(alone)
                turn.set_result(None)
