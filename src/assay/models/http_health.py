"""Is the server still there? What its answers and failures so far say of it, and when to ask before it is given up.

A server that fails twenty questions in a row may be dead, or the questions may be such that any server fails them. Whoever
takes the second for the first stops at the same place for ever. So a question is asked that any server would answer. The same
is done where questions are turned away: by a key that allows nothing, an account that is empty, a field that is never taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from assay.errors import UnsupportedOption
from assay.models.http_faults import Fault
from assay.models.http_protocol import Request
from assay.models.http_retry import Attempts
from assay.types import GenerateOptions, Prompt, Raw, SparingOptions

T = TypeVar("T")

# A server that never answered anything is doubted after so many questions: one may only be a hard question. The same holds for
# one that turns them away, and for what replies as no such server does.
_SILENT_CALLS = 3

# So many questions in a row, given up since the last answer: the server, or what its proxy stands for, may be gone.
_FAILED_CALLS = 20

_NEVER = float("-inf")
_MOMENTARY = ("unconnected", "silent", "broken", "foreign", "busy", "failing", "garbled", "webpage")
_NO_API = ("foreign", "garbled", "webpage")
_TURNED_AWAY = ("setup", "spent", "forbidden")
_REFUSALS = ("refused", "unsuited", "forbidden")  # nobody refuses who is not there
_PLAIN, _FEW_TOKENS = "Say yes.", 16


class Question(msgspec.Struct, frozen=True):
    """What a server was asked, before it becomes a request. model: another than the address names, "" for that one."""

    prompt: Prompt
    options: GenerateOptions
    schema: Mapping[str, Any] | None = None
    model: str = ""

    def shorter(self, most: int) -> Question:
        """The same, for an answer of at most so many tokens."""
        return msgspec.structs.replace(self, options=msgspec.structs.replace(self.options, max_tokens=most))

    def plain(self, *, few_tokens: bool = True) -> Question:
        """A question that nobody could fail over its words, in the same form."""
        most = min(_FEW_TOKENS, self.options.max_tokens) if few_tokens else self.options.max_tokens
        options = msgspec.structs.replace(self.options, max_tokens=most)
        return Question(Raw(_PLAIN) if isinstance(self.prompt, Raw) else _PLAIN, options, self.schema)


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How a question is put: what is sent for it, and what a reply says of it that came in so many seconds.

    alone: nothing else may be under way meanwhile.
    """

    request: Callable[[Question], Request]
    read: Callable[[bytes, Question, float], T]
    alone: bool = False


class Health:
    """One server's, by the times of the event loop's clock."""

    def __init__(self) -> None:
        self._answered_at = _NEVER  # the last answer, of whatever status
        self._alive_at = _NEVER  # the last answer that says that it works
        self._gone_at = _NEVER
        self._silent_calls = self._failed_calls = self._turned_away = 0
        self._good: Question | None = None
        self._asking = asyncio.Lock()

    @property
    def has_succeeded(self) -> bool:
        """Has it ever answered a question?"""
        return self._good is not None

    def has_taken(self, option: str, value: object) -> bool:
        """Was the last question that it answered asked with this very option?"""
        if self._good is None or (
            isinstance(self._good.options, SparingOptions) and option in self._good.options.left_out
        ):
            return False
        return bool(getattr(self._good.options, option) == value)

    def answered(self) -> None:
        """An answer has begun, of whatever status."""
        self._answered_at = asyncio.get_running_loop().time()

    def succeeded(self, question: Question) -> None:
        """It has answered the question."""
        self._good = msgspec.structs.replace(
            question, model=""
        )  # another model may be gone by the time it is asked again
        self._alive()

    def _alive(self) -> None:
        self._alive_at = asyncio.get_running_loop().time()
        self._failed_calls = self._turned_away = 0

    def is_unconnected(self, fault: Fault, attempts: Attempts) -> bool:
        """Did no attempt at the question get a connection, and meanwhile nothing else was answered either?"""
        return fault.kind == "unconnected" and self._answered_at < attempts.began

    def doubt(self, fault: Fault) -> str:
        """Why the server may be gone, now that a question was given up with `fault`; "" if nothing says so."""
        if fault.kind in ("silent", "broken") and self._answered_at == _NEVER:
            self._silent_calls += 1
            if self._silent_calls >= _SILENT_CALLS:
                return "it has not answered anything yet"
        if fault.kind in _MOMENTARY:
            self._failed_calls += 1
            if self._failed_calls >= (_SILENT_CALLS if fault.kind in _NO_API else _FAILED_CALLS):
                return f"{self._failed_calls} questions in a row came to nothing"
        if self._turns_away(fault):
            self._turned_away += 1
            # Some gateways forbid what others call a violation of their policy.
            few = fault.kind != "forbidden" or not self.has_succeeded
            if self._turned_away >= (_SILENT_CALLS if few else _FAILED_CALLS):
                return f"{self._turned_away} questions in a row were turned away"
        return ""

    def _turns_away(self, fault: Fault) -> bool:
        # Once a request of this form was answered, what is wrong with another is the question.
        return fault.kind in _TURNED_AWAY or (fault.kind == "unsuited" and not self.has_succeeded)

    async def is_gone(
        self, fault: Fault, failed: Question, attempts: Attempts, ask: Callable[[Question], Awaitable[object]]
    ) -> bool:
        """Ask what was answered before, or a plain question in the form of the one that `failed`: is that given up, too?

        ask: raises `Fault`, or `UnsupportedOption` for a form that the server refuses. Several that doubt at the same time
        share what the first of them finds out.
        """
        now = asyncio.get_running_loop().time
        doubted = now()
        async with self._asking:
            if self._alive_at >= doubted:
                return False
            if self._gone_at >= attempts.began:
                return True
            asked = now()
            turned_away = self._turns_away(fault)
            try:
                await ask(self._good or failed.plain(few_tokens=not turned_away))
            except Fault as again:
                good = ("refused",) if turned_away else _REFUSALS
                if again.kind not in good and self._alive_at < asked:
                    self._gone_at = now()
                    return True
            except UnsupportedOption:
                pass
            self._alive()
            return False
