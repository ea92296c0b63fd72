"""InfluxDB as a sink, by the write path of version 1, 2 or 3, which other servers speak as well (VictoriaMetrics does).

The token comes from `INFLUX_TOKEN` or from the file `.influx_token` in the home directory, and goes nowhere but into the
request.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.config import SinkConfig
from assay.errors import BadInput, ConfigError, Unreachable
from assay.secret import Secret
from assay.sinks.base import Fact, Poison, SampleFact
from assay.sinks.line_protocol import JUDGED_CAPABILITY, averages_of, is_judged_capability, lines_of, store_line

_SECONDS = 30.0
_KEPT = 256  # judged samples whose dimensions are not all here yet
_NO_LINE_ENDS = "\r\n"
_MOST_READ = 1 << 16  # bytes of a reply
_WORDS = 500  # characters of a reply that are passed on to the user


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET that writes nothing and succeeds, and the token would go to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    text: str
    version: str  # that the server names


@dataclass(frozen=True, slots=True)
class _Refused(Exception):
    """The server will not take these lines as they are: the status and its words."""

    status: int
    words: str


class InfluxSink:
    """Facts as points. Implements `assay.sinks.base.Sink`. url: without a path; version: None asks the server."""

    def __init__(
        self, name: str, url: str, database: str, org: str = "", version: int | None = None, token: Secret | None = None
    ) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self.place = f"influx:{self._url}#{database}" + (f"@{org}" if org else "")
        self._database = database
        self._org = org
        self._version = version
        self._token = token
        self._partial: dict[tuple[str, ...], dict[str, SampleFact]] = {}

    async def check(self) -> str:
        return await asyncio.to_thread(self._check)

    async def take(self, facts: Sequence[Fact]) -> str:
        lines: list[tuple[int, str]] = []
        for index, fact in enumerate(facts):
            lines += [(index, line) for line in (*lines_of(fact), *self._averages(fact))]
        poison: dict[int, str] = {}
        await asyncio.to_thread(self._write, lines, poison)
        if poison:
            raise Poison(poison)
        return await asyncio.to_thread(self._store)

    async def aclose(self) -> None: ...

    def _check(self) -> str:
        try:
            self._post("")
        except _Refused as refused:
            if refused.status not in (400, 422):  # nothing to write is an error to some, and no harm
                raise Unreachable(f"{self._url}: {refused.status} {refused.words}") from None
        return self._store()

    def _store(self) -> str:
        """The database's own id, which is a point in it, written if there is none. "" where it can't be read back."""
        if (known := self._read_store()) == "":
            try:
                self._post(store_line(uuid.uuid4().hex))
            except _Refused:
                return ""
            known = self._read_store()
        return known or ""

    def _read_store(self) -> str | None:
        """The id that stands in the database, "" if none does, None if the server doesn't tell.

        All versions answer InfluxQL on this path. What others that take points make of it is no answer: VictoriaMetrics lists
        databases, and a token that may only write gets an error.
        """
        text = urllib.parse.urlencode({"db": self._database, "q": "select id from assay_store"})
        request = urllib.request.Request(f"{self._url}/query?{text}", headers=self._authorization())
        reply = self._send(request)
        try:
            [result] = json.loads(reply.text)["results"]
            if reply.status != 200 or "error" in result:
                return None
            if not result.get("series"):
                return ""
            [series] = result["series"]
            return str(series["values"][0][series["columns"].index("id")])
        except (ValueError, LookupError, TypeError, AttributeError):
            return None

    def _averages(self, fact: Fact) -> list[str]:
        if not (isinstance(fact, SampleFact) and is_judged_capability(fact) and fact.value is not None and fact.stands):
            return []
        about = fact.about
        key = (about.run_id, about.label, about.digest, fact.sample, fact.measure)
        parts = self._partial.setdefault(key, {})
        parts[fact.metric] = fact
        if len(parts) == len(JUDGED_CAPABILITY):
            return averages_of(list(self._partial.pop(key).values()))
        if len(self._partial) > _KEPT:
            del self._partial[next(iter(self._partial))]
        return []

    def _write(self, lines: Sequence[tuple[int, str]], poison: dict[int, str]) -> None:
        """Post the lines; where the server refuses some, halves, until those are found that it won't take."""
        if not lines:
            return
        try:
            self._post("\n".join(line for _, line in lines))
        except _Refused as refused:
            if len(lines) == 1:
                poison[lines[0][0]] = f"{refused.status} {refused.words}"
                return
            middle = len(lines) // 2
            self._write(lines[:middle], poison)
            self._write(lines[middle:], poison)

    def _post(self, body: str) -> None:
        """Raises `_Refused` for lines that are refused, `BadInput` for a wrong token or database, else `Unreachable`."""
        address, headers = self._address()
        request = urllib.request.Request(address, body.encode("utf-8", "replace"), headers, method="POST")
        reply = self._send(request)
        status = reply.status
        if status < 300:
            return
        words = _reason(reply.text)
        if status in (401, 403):
            what = "refuses the token" if self._token is not None else "wants a token"
            kind = "USER:PASSWORD" if self._version == 1 else "the right one"
            raise BadInput(f"{self._url} {what} ({status}: {words}); put {kind} in INFLUX_TOKEN or ~/.influx_token")
        if status == 404:
            raise BadInput(f"{self._url} has no database {self._database!r} ({words}); make it, or name another one")
        if 300 <= status < 400:
            raise BadInput(f"{self._url} sends requests elsewhere ({status}); name the address that it sends them to")
        if "retention policy" in words:
            raise BadInput(
                f"{self._url} keeps what is in {self._database!r} for too short a time ({words}); results stand at times from "
                "February 2025 on: let it keep them for ever, or name another database"
            )
        if status in (400, 413, 422):
            raise _Refused(status, words)
        raise Unreachable(f"{self._url}: {status} {words}")

    def _address(self) -> tuple[str, Mapping[str, str]]:
        version = self._known_version()
        path, name = "/write", {"db": self._database, "precision": "ns"}
        if version == 2:
            path, name = "/api/v2/write", {"bucket": self._database, "org": self._org, "precision": "ns"}
        elif version == 3:
            path, name["precision"] = "/api/v3/write_lp", "nanosecond"
        headers = {"Content-Type": "text/plain; charset=utf-8", **self._authorization()}
        return f"{self._url}{path}?{urllib.parse.urlencode(name)}", headers

    def _authorization(self) -> dict[str, str]:
        token = self._token.reveal() if self._token is not None else ""
        if not token:
            return {}
        if self._version == 1 and ":" in token:  # a user's name and password
            return {"Authorization": "Basic " + base64.b64encode(token.encode()).decode()}
        return {"Authorization": f"{'Token' if self._version in (1, 2) else 'Bearer'} {token}"}

    def _known_version(self) -> int:
        """The version that the server names on `/ping`; 1 where it names none, whose path most others speak as well."""
        if self._version is None:
            asked = urllib.request.Request(f"{self._url}/ping", headers=self._authorization())
            named = self._send(asked).version.lstrip("v")
            self._version = int(named[0]) if named[:1] in ("1", "2", "3") else 1
        return self._version

    def _send(self, request: urllib.request.Request) -> _Reply:
        try:
            try:
                reply = _opener.open(request, timeout=_SECONDS)
            except urllib.error.HTTPError as error:  # a reply as well
                reply = error
            with reply:
                text = reply.read(_MOST_READ).decode(errors="replace")
                return _Reply(reply.status, text, reply.headers.get("X-Influxdb-Version", ""))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(f"{self._url} can't be reached: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    """Why a request came to nothing, in the system's words and without its number."""
    cause = getattr(error, "reason", error)
    return str(getattr(cause, "strerror", None) or cause or type(error).__name__)


def _reason(text: str) -> str:
    """What a reply says is wrong, in one line. Version 1 and 3 call it `error`, version 2 `message`."""
    with contextlib.suppress(ValueError):
        told = json.loads(text)
        if isinstance(told, dict):
            text = next((told[name] for name in ("error", "message") if isinstance(told.get(name), str)), text)
    return " ".join(text[:_WORDS].split()) or "no reason given"


def open_sink(name: str, settings: SinkConfig, workspace: Path) -> InfluxSink:
    """The sink of a server: `INFLUX_URL` and `INFLUX_DB` stand in for what the settings leave out, as they did for go-ml."""
    if settings.path is not None:
        raise ConfigError(
            f"the sink {name!r} is a server; give it a URL, such as influx:http://localhost:8086#training"
        )
    url = settings.url or os.environ.get("INFLUX_URL") or "http://localhost:8181"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"the sink {name!r}: {url!r} is no URL of a server; give one such as http://localhost:8086")
    if parts.username or parts.password:
        raise ConfigError(
            f"the sink {name!r}: a URL with a password is kept nowhere safe; put USER:PASSWORD in INFLUX_TOKEN"
        )
    database = settings.database or os.environ.get("INFLUX_DB") or "training"
    return InfluxSink(name, url, database, settings.org or "", settings.version, _token())


def _token() -> Secret | None:
    token = os.environ.get("INFLUX_TOKEN", "").strip()
    if not token:
        try:
            token = (Path.home() / ".influx_token").read_text(encoding="utf-8").strip()
        except (OSError, RuntimeError, UnicodeDecodeError):
            return None
    if any(c in token for c in _NO_LINE_ENDS):
        raise ConfigError(
            "the InfluxDB token holds a line end; INFLUX_TOKEN or ~/.influx_token must hold the token alone"
        )
    return Secret(token) if token else None
