"""How long one question may take, how often it is asked, and how long to wait in between."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from assay.errors import ConfigError
from assay.models.http_faults import Fault

# A second try after a deadline was missed is worth it; a third would only make the sample take for ever.
_TOTAL_IN_CALLS = 1.5

_LEAST_SHARE = 0.1  # of a call's time: with less than this left, another attempt would be a formality


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How to talk to a server.

    concurrency: requests under way at once, at most. call_seconds: the deadline of one request, from sending it to the
    end of its answer. total_seconds: of one question with all its repetitions, waiting included; None is 1.5 times
    `call_seconds`. attempts: requests for one question, at most; those refused with 429 don't count. The wait before
    repetition n is random, from 0 to `backoff_seconds` · 2ⁿ⁻¹ and at most `backoff_cap_seconds`, or what the server asks
    for. connect_seconds: the deadline for making a connection. Raises `ConfigError` for values that make no sense.
    """

    concurrency: int = 32
    call_seconds: float = 300.0
    total_seconds: float | None = None
    attempts: int = 5
    backoff_seconds: float = 0.5
    backoff_cap_seconds: float = 30.0
    connect_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        for name in ("call_seconds", "total", "backoff_seconds", "backoff_cap_seconds", "connect_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be a number of seconds above 0, not {getattr(self, name)!r}")

    @property
    def total(self) -> float:
        """Seconds that a question may take with all its repetitions."""
        return _TOTAL_IN_CALLS * self.call_seconds if self.total_seconds is None else self.total_seconds


class Attempts:
    """The attempts at one question. Time counts from the first request, not from the wait for a slot before it."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._counted = 0
        self._asked = 0.0
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
        if not fault.again or self._counted >= self._settings.attempts:
            return None
        base, cap = self._settings.backoff_seconds, self._settings.backoff_cap_seconds
        jitter = random.uniform(0, min(cap, base * 2 ** min(self.made - 1, 32)))
        pause = jitter if fault.after is None else fault.after + random.uniform(0, base)
        least = _LEAST_SHARE * min(self._settings.call_seconds, self._settings.total)
        return pause if self._loop.time() + pause + least < self.deadline else None
