"""Stores to forward to: a real InfluxDB 1 and a real VictoriaMetrics, and a server that speaks InfluxDB 3's write path.

InfluxDB 3 has no package that tests could install. What stands for it reads line protocol with a parser that isn't ours, keeps
a point once, and refuses what the real one refuses: a wrong token, an unknown database, lines that don't parse.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from line_protocol_parser import LineFormatError, parse_line

TOKEN = "the-right-token"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; install the package {package} (Debian: apt-get install {package})")
    return found


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        text: str = reply.read().decode()
        return text


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            get(url)
            return
        except (OSError, urllib.error.URLError):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, f"{url} never answered"
            time.sleep(0.05)


@contextlib.contextmanager
def _running(command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(url, process)
        yield process
    finally:
        process.terminate()
        process.wait(20)


class Influx1:
    """InfluxDB 1.6 with authentication off, which can be stopped and started again."""

    def __init__(self, folder: Path, port: int, *, auth: bool = False) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._program = _program("influxd", "influxdb")
        self._config = folder / "influxdb.conf"
        self._config.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{free_port()}"\n'
            f'[meta]\n  dir = "{folder}/meta"\n[data]\n  dir = "{folder}/data"\n  wal-dir = "{folder}/wal"\n'
            f'[http]\n  bind-address = "127.0.0.1:{port}"\n  log-enabled = false\n  auth-enabled = {str(auth).lower()}\n'
            "[monitor]\n  store-enabled = false\n[subscriber]\n  enabled = false\n"
        )
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        command = [self._program, "-config", str(self._config)]
        self._process = self._running.enter_context(_running(command, f"{self.url}/ping"))

    def stop(self) -> None:
        self._running.close()

    def kill(self) -> None:
        """As a power cut does."""
        self._process.kill()
        self.stop()

    def ask(self, query: str, database: str = "", user: str = "") -> list[dict[str, Any]]:
        """The rows of all series, tags and fields alike as columns. user: NAME:PASSWORD, where there are users."""
        text = urllib.parse.urlencode({"db": database, "q": query, "epoch": "ns"})
        request = urllib.request.Request(f"{self.url}/query?{text}", method="POST")
        if user:
            request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as reply:
            answer = json.load(reply)
        return [
            dict(zip(series["columns"], row, strict=True))
            for result in answer["results"]
            for series in result.get("series", [])
            for row in series["values"]
        ]


@contextlib.contextmanager
def influx1(folder: Path) -> Iterator[Influx1]:
    folder.mkdir(parents=True, exist_ok=True)
    server = Influx1(folder, free_port())
    server.start()
    try:
        server.ask('create database "training"')
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def victoria(folder: Path) -> Iterator[str]:
    """The URL of a VictoriaMetrics."""
    program = _program("victoria-metrics", "victoria-metrics")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # The points' times are of 2025: they must not be past what is kept.
    flags = [f"-storageDataPath={folder}/vm", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=100y"]
    with _running([program, *flags], f"{url}/health"):
        yield url


class Influx3:
    """InfluxDB 3's write path, and as much of its InfluxQL as reads one field. points: (measurement, tags, time) → fields.

    may_read: whether the token may.
    """

    def __init__(self) -> None:
        self.points: dict[tuple[str, tuple[tuple[str, str], ...], int], dict[str, Any]] = {}
        self.requests = 0
        self.down = False
        self.may_read = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                version = {"X-Influxdb-Version": "3.4.1"}
                if self.path.startswith("/query?"):
                    self._say(*outer._read(self.path, self.headers.get("Authorization", "")), version)
                else:
                    self._say(200, b"{}", version)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests += 1
                self._say(*outer._write(self.path, self.headers.get("Authorization", ""), body))

            def _say(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _write(self, path: str, authorization: str, body: bytes) -> tuple[int, bytes]:
        parts = urllib.parse.urlsplit(path)
        asked = urllib.parse.parse_qs(parts.query)
        if self.down:
            return 503, b'{"error":"service unavailable"}'
        if authorization != f"Bearer {TOKEN}":
            return 401, b'{"error":"the request was not authenticated"}'
        if parts.path != "/api/v3/write_lp" or asked.get("precision") != ["nanosecond"]:
            return 400, b'{"error":"no such path or precision"}'
        if asked.get("db") != ["training"]:
            return 404, b'{"error":"database not found"}'
        if not body:
            return 400, b'{"error":"empty write"}'
        try:
            parsed = [parse_line(line) for line in body.decode().split("\n") if line]
        except (LineFormatError, UnicodeDecodeError) as error:
            return 400, json.dumps({"error": f"partial write: {error}"}).encode()
        for each in parsed:
            key = each["measurement"], tuple(sorted(each["tags"].items())), each["time"]
            self.points.setdefault(key, {}).update(each["fields"])
        return 204, b""

    def _read(self, path: str, authorization: str) -> tuple[int, bytes]:
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        if authorization != f"Bearer {TOKEN}" or not self.may_read:
            return 403, b'{"error":"the request was not authorized"}'
        _, field, _, measurement = asked["q"][0].split()
        values = [
            [time, fields[field]]
            for (name, _, time), fields in self.points.items()
            if name == measurement and field in fields
        ]
        result: dict[str, Any] = {"statement_id": 0}
        if values:
            result["series"] = [{"name": measurement, "columns": ["time", field], "values": values}]
        return 200, json.dumps({"results": [result]}).encode()

    def results(self) -> int:
        """How many points there are that are results."""
        return sum(measurement != "assay_store" for measurement, _, _ in self.points)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def elsewhere(url: str) -> Iterator[str]:
    """The URL of a server that sends every request to `url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(302)
            self.send_header("Location", url + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the name that the server looks for

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
