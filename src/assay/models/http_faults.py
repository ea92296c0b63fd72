"""What goes wrong between here and a server, and what a refusal means: ask again, give up, or tell the user.

How statuses are read follows RFC 9110; the bodies are those of OpenAI's API and of the servers that imitate it (vLLM,
llama.cpp, Ollama, LiteLLM and FastAPI's own).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal

import msgspec

from assay.secret import Secret
from assay.types import FailureClass

# unconnected: no connection could be made. silent: no answer in time. broken: the connection ended, or what came breaks
# HTTP's rules. foreign: what came is no HTTP from its first byte. busy: 429. failing: 408 and 5xx. garbled: an answer that
# can't be read. All of these are worth another try.
# refused: by a policy. forbidden: by a policy, or the key doesn't allow it. spent: the account's quota is. unsuited: a
# request that this server can't take. setup: the address, the key or the model's name is wrong, if nothing was answered
# yet. webpage: so is the address. closed: the model was.
FaultKind = Literal[
    "unconnected",
    "silent",
    "broken",
    "foreign",
    "busy",
    "failing",
    "garbled",
    "refused",
    "forbidden",
    "spent",
    "unsuited",
    "setup",
    "webpage",
    "closed",
]
_AGAIN = ("unconnected", "silent", "broken", "foreign", "busy", "failing", "garbled")
_CLASSES: Mapping[str, FailureClass] = {
    "refused": "refused",
    "forbidden": "refused",
    "spent": "permanent",
    "unsuited": "permanent",
    "setup": "permanent",
}

# What to say of a web page where nothing else has ever come from the address.
API_ADDRESS = "; most such addresses end in /v1#MODEL"
_NO_PAGE = (b"{", b"[", b"data:", b"event:", b":")  # how JSON and streams begin
_SHOWN = 300  # characters of a server's own words that an error quotes
_READ = 4000  # of which it is taken; markup and white space are long
_POLICY = re.compile(
    r"content[_ ](?:policy|filter|management)|responsibleai|moderation|safety (?:system|filter)", re.IGNORECASE
)
_TOO_LONG = re.compile(
    r"context[_ ](?:length|size|window|limit)|maximum context|exceed_context|prompt is too long", re.IGNORECASE
)
# The context's tokens, and those of the prompt. vLLM's newest leaves an answer that is only too long for the rest to us, and
# refuses what is longer than all of the context; those before it, and others that speak as they did, refused both.
_ROOM = (
    re.compile(r"max_model_len=(\d+)"),
    re.compile(r"maximum context length is (\d+) tokens and your request has (\d+) input tokens"),
    re.compile(
        r"maximum context length is (\d+) tokens.{0,40} requested \d+ tokens \((\d+) in the (?:messages|prompt)"
    ),
)
_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


class Refusal(msgspec.Struct, frozen=True):
    """A server's own words about an error. fields: the request's fields that they are about, as far as they say."""

    message: str
    code: str = ""
    fields: tuple[str, ...] = ()

    @property
    def about_length(self) -> bool:
        """Does the prompt leave no room in the model's context?"""
        return bool(_TOO_LONG.search(self.code) or _TOO_LONG.search(self.message))

    def room(self, wanted: int) -> int | None:
        """How many tokens of an answer there is room for, where it says so and they are fewer than were wanted."""
        for pattern in _ROOM:
            if found := pattern.search(self.message):
                room = int(found[1]) - int(found[2] if found.re.groups > 1 else 0)
                return room if 0 < room < wanted else None
        return None

    def names(self, name: str) -> bool:
        """Is the refusal about the request's field `name`?"""
        if self.fields:
            return name in self.fields
        quoted = re.search(rf"['\"`\[.]{re.escape(name)}['\"`\].]", self.message)
        blamed = re.search(rf"\b{re.escape(name)}\b", self.message) and _BLAME.search(self.message)
        return bool(quoted or blamed)


_BLAME = re.compile(
    r"unsupported|unknown|unrecogni[sz]ed|unexpected|invalid|not (?:supported|permitted|allowed|available)|extra|"
    r"must be|should be|does(?: not|n't) support|too (?:many|large|long)|out of range",
    re.IGNORECASE,
)


@dataclass(slots=True, eq=False)
class Fault(Exception):
    """One attempt's failure.

    after: seconds that the server asks to wait. refusal: its own words, if it gave any. status: of its answer, 0 if there
    was none.
    """

    kind: FaultKind
    reason: str
    after: float | None = None
    refusal: Refusal | None = None
    status: int = 0

    def __str__(self) -> str:
        return self.reason

    @property
    def again(self) -> bool:
        """Can the same request succeed a moment later?"""
        return self.kind in _AGAIN

    @property
    def failure(self) -> FailureClass:
        """What a question is that failed so, once it is given up."""
        return _CLASSES.get(self.kind, "transient")


def fault_of(status: int, headers: Mapping[str, str], body: bytes, path: str = "") -> Fault:
    """What an answer means that is no success. `headers` by lower-case name; path: of the API, what was asked."""
    after = retry_after(headers.get("retry-after"), headers.get("date"))
    if 300 <= status < 400:
        return Fault(
            "setup",
            f"the server redirects to {in_short(headers.get('location', 'nowhere'))!r}; name that address instead",
        )
    # A gateway's page is a failure of the moment; a page in place of an API is the wrong address.
    if is_page(headers, body) and status in (200, 404, 405):
        return web_page()
    where = f" to {path}" if path and status in (404, 405, 501) else ""
    fault = fault_of_error(status, read_refusal(body), after, told=f"the server answered {status}{where}")
    fault.status = status
    return fault


def fault_of_error(status: int, refusal: Refusal, after: float | None = None, *, told: str) -> Fault:
    """What an error means that is told by a status and in words. told: how."""
    said = told + (f": {refusal.message}" if refusal.message else "")
    if after:
        said += f"; it asks for a wait of {f'{after:.1f}'.removesuffix('.0')} s"
    if refusal.code in _SPENT or status == 402:
        return Fault("spent", said, refusal=refusal)
    if _POLICY.search(refusal.code) or (_POLICY.search(refusal.message) and status in (400, 403, 422, 451)):
        return Fault("refused", said, refusal=refusal)
    if status == 429:
        return Fault("busy", said, after, refusal)
    if status in (408, 425) or (status >= 500 and status not in (501, 505)):
        return Fault("failing", said, after, refusal)
    if status == 401:
        return Fault("setup", f"{said}; is the right key in ASSAY_API_KEY?", refusal=refusal)
    if status == 407:
        return Fault(
            "setup", "the proxy wants a user name and password; put them into its URL: http://NAME:PASSWORD@HOST"
        )
    if status in (403, 451):
        return Fault("forbidden", f"{said}; does the key in ASSAY_API_KEY allow this?", refusal=refusal)
    if status in (404, 405, 501):
        return Fault(
            "setup",
            f"{said}; are the address (mostly http://HOST/v1#MODEL) and the model's name right?",
            refusal=refusal,
        )
    return Fault("unsuited", said, refusal=refusal)


def web_page() -> Fault:
    return Fault("webpage", "the server answers with a web page, not as an OpenAI-compatible API")


def foreign(said: bytes) -> Fault:
    words = in_short(said[:_SHOWN].decode("utf-8", errors="replace"), 80)
    return Fault("foreign", f"what answers there is no HTTP server (it says {words!r}); is the port right?")


def closed() -> Fault:
    return Fault("closed", "the model is closed")


def is_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Is the answer a web page?"""
    start = body[:200].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return True
    # Small servers call everything a page that they send as a text.
    return "text/html" in headers.get("content-type", "").lower() and not start.startswith(_NO_PAGE)


def retry_after(value: str | None, date: str | None = None) -> float | None:
    """Seconds that a `Retry-After` asks to wait: it holds a number of them, or a date. None if neither.

    date: when the server sent it, by its own clock; else it counts from now by this machine's.
    """
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", value.strip(), re.ASCII):
        return float(value)
    then, sent = _time(value), _time(date or "")
    return None if then is None else max(0.0, then - (time.time() if sent is None else sent))


def _time(date: str) -> float | None:
    """An HTTP date in seconds since 1970; it is in GMT, also where it doesn't say so."""
    from email.utils import (
        parsedate_to_datetime,  # as long to import as all else in here, and most servers never send a date
    )

    try:
        found = parsedate_to_datetime(date)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def read_refusal(body: bytes) -> Refusal:
    """The words of an error's body, whatever its form."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[:_READ].decode("utf-8", errors="replace")
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return Refusal(in_short(title[1] if title else re.sub(r"<[^>]*>", " ", text)))
    return refusal_of(found)


def refusal_of(found: Any) -> Refusal:
    """The words of an error that came as JSON."""
    if isinstance(found, list) and len(found) == 1:  # Google's
        (found,) = found
    inner = (found.get("error") or found) if isinstance(found, dict) else found
    if not isinstance(inner, dict):
        return Refusal(in_short(inner))
    detail = inner.get("detail")
    if isinstance(detail, list):  # FastAPI's: one entry for each field that it doesn't like
        said = "; ".join(f"{'.'.join(_path(entry))}: {entry.get('msg')}" for entry in _entries(detail))
        return Refusal(in_short(said), fields=tuple(name for entry in _entries(detail) for name in _path(entry)))
    message = inner.get("message") or detail or inner.get("error") or inner
    code = inner.get("code") if isinstance(inner.get("code"), str) else inner.get("type")
    param = inner.get("param")
    return Refusal(in_short(message), str(code or ""), (param,) if isinstance(param, str) and param else ())


def _entries(detail: list[Any]) -> Iterator[dict[str, Any]]:
    return (entry for entry in detail if isinstance(entry, dict))


def _path(entry: Mapping[str, Any]) -> list[str]:
    place = entry.get("loc")
    return [str(part) for part in place if part != "body"] if isinstance(place, list) else []


def in_short(told: Any, most: int = _SHOWN) -> str:
    """What a server said, in one line that is safe to show: its start, if it's long; no control characters."""
    text = told if isinstance(told, str) else msgspec.json.encode(told).decode()
    text = " ".join(text[: _READ + most].split())
    text = "".join([c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:most]])
    return text if len(text) < most else text[: most - 1] + "…"


def scrubbed(said: str, key: Secret | None) -> str:
    """A server's words without the key, which some of them repeat; also where they were cut off within it."""
    if not key:
        return said
    plain = key.reveal()
    said = said.replace(plain, "***")
    for length in range(len(plain) - 1, 2, -1):
        said = said.replace(f"{plain[:length]}…", "***…")
    return said
