"""InfluxDB as a sink, by the write path of version 1, 2 or 3, which other servers speak as well (VictoriaMetrics does).

The token comes from `INFLUX_TOKEN` or from the file `.influx_token` in the home directory, and goes nowhere but into the
request.
"""

from __future__ import annotations

import asyncio
import base64
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.config import Secret, SinkConfig
from assay.errors import BadInput, ConfigError, Unreachable
from assay.sinks.base import Fact, Poison, SampleFact
from assay.sinks.line_protocol import JUDGED_CAPABILITY, averages_of, is_judged_capability, lines_of

_SECONDS = 30.0
_KEPT = 256  # judged samples whose dimensions are not all here yet
_NO_LINE_ENDS = "\r\n"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET that writes nothing and succeeds, and the token would go to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


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
        try:
            await asyncio.to_thread(self._post, "")
        except _Refused as refused:
            if refused.status not in (400, 422):  # nothing to write is an error to some, and no harm
                raise Unreachable(f"{self._url}: {refused.status} {refused.words}") from None
        return ""

    async def take(self, facts: Sequence[Fact]) -> str:
        lines: list[tuple[int, str]] = []
        for index, fact in enumerate(facts):
            lines += [(index, line) for line in (*lines_of(fact), *self._averages(fact))]
        poison: dict[int, str] = {}
        await asyncio.to_thread(self._write, lines, poison)
        if poison:
            raise Poison(poison)
        return ""

    async def aclose(self) -> None: ...

    def _averages(self, fact: Fact) -> list[str]:
        if not (isinstance(fact, SampleFact) and is_judged_capability(fact) and fact.value is not None):
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
        status, words = self._send(request)
        if status < 300:
            return
        words = words or "no reason given"
        if status in (401, 403):
            raise BadInput(
                f"{self._url} refuses the token ({status}: {words}); put the right one in INFLUX_TOKEN or ~/.influx_token"
            )
        if status == 404:
            raise BadInput(f"{self._url} has no database {self._database!r} ({words}); make it, or name another one")
        if 300 <= status < 400:
            raise BadInput(f"{self._url} sends requests elsewhere ({status}); name the address that it sends them to")
        if status in (400, 413, 422):
            raise _Refused(status, words)
        raise Unreachable(f"{self._url}: {status} {words}")

    def _address(self) -> tuple[str, Mapping[str, str]]:
        version = self._known_version()
        token = self._token.reveal() if self._token is not None else ""
        name = {"db": self._database, "precision": "ns"}
        path, scheme = "/write", "Token"
        if version == 2:
            path, name = "/api/v2/write", {"bucket": self._database, "org": self._org, "precision": "ns"}
        elif version == 3:
            path, scheme = "/api/v3/write_lp", "Bearer"
            name["precision"] = "nanosecond"
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if token and version == 1 and ":" in token:  # a user's name and password
            headers["Authorization"] = "Basic " + base64.b64encode(token.encode()).decode()
        elif token:
            headers["Authorization"] = f"{scheme} {token}"
        return f"{self._url}{path}?{urllib.parse.urlencode(name)}", headers

    def _known_version(self) -> int:
        """The version that the server names on `/ping`; 1 where it names none, whose path most others speak as well."""
        if self._version is None:
            opened = urllib.request.Request(f"{self._url}/ping", headers=self._authorized())
            named = self._send(opened, header="X-Influxdb-Version")[1].lstrip("v")
            self._version = int(named[0]) if named[:1] in ("1", "2", "3") else 1
        return self._version

    def _authorized(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.reveal()}"} if self._token is not None else {}

    def _send(self, request: urllib.request.Request, header: str = "") -> tuple[int, str]:
        """The status, and the reply's words or a header's."""
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
                return reply.status, reply.headers.get(header, "") if header else ""
        except urllib.error.HTTPError as error:
            said = (
                error.headers.get(header, "") if header else " ".join(error.read(500).decode(errors="replace").split())
            )
            return error.code, said or ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise Unreachable(f"{self._url} can't be reached: {reason}") from None


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
