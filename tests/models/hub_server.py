"""A hub on a real socket: as much of its protocol as huggingface_hub asks to list and download a model's files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the hub holds, and how it misbehaves.

    repos: files by repository. gated: those that want the token "let-me-in". cuts: how many downloads break off after `cut_at`
    bytes. stalls: of a download that has come so far no more comes, until `go_on` is set. asked: the files that were asked
    for, with their Range.
    """

    repos: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    cut_at: int = 0
    cuts: int = 0
    stalls: bool = False
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at `hub.url` until the end."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def files_of(folder: Path, *names: str) -> dict[str, bytes]:
    """These files of a folder, or all."""
    chosen = [folder / name for name in names] or [file for file in folder.iterdir() if file.is_file()]
    return {file.name: file.read_bytes() for file in chosen}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?/?", path):
            if self._allowed(found[1], found[3] or "main"):
                self._json(self._tree(found[1]) if found[2] == "tree" else self._info(found[1]))
        elif (found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)) and self._allowed(
            found[1], found[2]
        ):
            self._file(self.hub.repos[found[1]], found[3])

    def _allowed(self, repo: str, revision: str) -> bool:
        if repo not in self.hub.repos:
            self._fail(401 if "authorization" not in self.headers else 404, "RepoNotFound")
            return False
        if repo in self.hub.gated and self.headers["authorization"] != "Bearer let-me-in":
            self._fail(403 if "authorization" in self.headers else 401, "GatedRepo")
            return False
        if revision not in ("main", COMMIT):
            self._fail(404, "RevisionNotFound")
            return False
        return True

    def _info(self, repo: str) -> object:
        siblings = [{"rfilename": name, "size": len(data)} for name, data in self.hub.repos[repo].items()]
        return {"id": repo, "modelId": repo, "sha": COMMIT, "tags": [], "siblings": siblings}

    def _tree(self, repo: str) -> object:
        files = self.hub.repos[repo].items()
        return [{"type": "file", "path": name, "size": len(data), "oid": _oid(data)} for name, data in files]

    def _file(self, files: dict[str, bytes], name: str) -> None:
        if name not in files:
            self._fail(404, "EntryNotFound")
            return
        data = files[name]
        asked = self.headers["range"] or ""
        start = int(asked.removeprefix("bytes=").partition("-")[0] or 0) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{_oid(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.hub.asked.append((name, asked))
        if self.hub.cuts and len(data) - start > self.hub.cut_at:
            self.hub.cuts -= 1
            self.wfile.write(data[start : start + self.hub.cut_at])
            if self.hub.stalls:
                self.hub.stalled.set()
                self.hub.go_on.wait()
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _oid(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
