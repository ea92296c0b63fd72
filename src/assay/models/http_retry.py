"""How long one question may take, how often it is asked, and how long to wait in between."""

from __future__ import annotations

import asyncio
import random
import re

from assay.models.http_faults import Fault
from assay.types import HttpSettings

__all__ = ["Attempts", "HttpSettings"]

_SILENT = ("silent", "unconnected")
_NUMBER = re.compile(r"[\d.]+")
_LEAST_SHARE = 0.1  # of a call's time: with less than this left, another attempt would be a formality


class Attempts:
    """The attempts at one question. Time counts from the first request, not from the wait for a slot before it."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._counted = 0
        self._asked = 0.0
        self._silence: Fault | None = None
        self.made = 0
        self.began = self.deadline = 0.0  # by the event loop's clock, once the first attempt was made

    @property
    def elapsed(self) -> float:
        """Seconds since the present attempt began."""
        return self._loop.time() - self._asked

    def start(self) -> float:
        """Begin an attempt: the seconds that it may take."""
        now = self._loop.time()
        if not self.made:
            self.began, self.deadline = now, now + self._settings.total
        self.made += 1
        self._asked = now
        return min(self._settings.call_seconds, max(0.01, self.deadline - now))

    def pause(self, fault: Fault) -> float | None:
        """Seconds to wait before the next attempt; None if there should be none.

        "Full jitter" (M. Brooker, Exponential Backoff and Jitter, 2015): clients that failed together don't come back
        together.
        """
        self._counted += fault.kind != "busy"
        if fault.kind in _SILENT and not _alike(self._silence, fault):
            self._silence = fault
        if not fault.again or self._counted >= self._settings.attempts:
            return None
        base, cap = self._settings.backoff_seconds, self._settings.backoff_cap_seconds
        jitter = random.uniform(0, min(cap, base * 2 ** min(self.made - 1, 32)))
        pause = fault.after + random.uniform(0, base) if fault.after else jitter
        least = _LEAST_SHARE * min(self._settings.call_seconds, self._settings.total)
        return pause if self._loop.time() + pause + least < self.deadline else None

    def as_told(self, fault: Fault) -> Fault:
        """Of faults alike the first: it names the time that the user allows, the last one what was left of it."""
        return self._silence if self._silence is not None and _alike(self._silence, fault) else fault


def _alike(one: Fault | None, other: Fault) -> bool:
    """Whether they differ in a number of seconds at most."""
    return one is not None and one.kind == other.kind and _NUMBER.sub("", one.reason) == _NUMBER.sub("", other.reason)
