"""What llama.cpp's server is started with, and the few requests that the engine makes of it, wherever it runs.

It runs in this process (`llama_embedded`) or in one of its own (`llama_process`), on this machine alone, and answers only to
a key that was made for this one server.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from assay.errors import EngineDied, GenerationError

HOST = "127.0.0.1"
_LAST_WORDS_SECONDS = 1.0
BATCH = 512  # prompt tokens computed between two looks at whether the request was cancelled


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server is started with. adapters: GGUF LoRA files; an adapter's place here is its id in requests."""

    model: Path
    context_length: int
    threads: int
    adapters: tuple[Path, ...] = ()


class ServerError(Exception):
    """The server refused a request: `status` is HTTP's, `kind` llama.cpp's own name for the error."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.kind = str(body.get("type", ""))
        self.body = body
        super().__init__(str(body.get("message") or f"HTTP status {status}"))


def default_threads() -> int:
    """Half of the processors that this process may use, at least one.

    llama.cpp's threads wait for each other, spinning, many times a token. Measured on two processors: two threads are
    1.5 times as fast as one while nothing else runs, but 1.5 times as slow beside one busy process and 13 times as slow
    beside two. The number of threads does not change the answers.
    """
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        usable = os.cpu_count() or 1
    return max(1, usable // 2)


class LlamaServer:
    """A running server, by its port and its key. A subclass starts and ends it."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._closed = False

    def close(self) -> None:
        """End the server; nothing of it is left behind."""
        self._closed = True

    def epitaph(self, within: float = 0.0) -> str | None:
        """How the server ended by itself, None while it runs. Waits for it so many seconds."""
        return None

    def broken(self, how: object) -> GenerationError:
        """The error of an answer that came to no end."""
        if (epitaph := self.epitaph(_LAST_WORDS_SECONDS)) is not None:
            return EngineDied(epitaph)
        return GenerationError(f"llama.cpp broke the connection off: {how}", error_class="transient")

    def get(self, path: str) -> Any:
        """The JSON answer to a GET. Raises `ServerError`."""
        return self._whole("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to a POST. Raises `ServerError`."""
        return self._whole("POST", path, body)

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The server-sent events that answer a POST, as they come. Closing the generator cancels the request.

        Raises `ServerError`, also for an error in the middle of the stream.
        """
        connection = self._connect()
        try:
            response = self._request(connection, "POST", path, body)
            try:
                for line in response:
                    if line.startswith(b"data: ") and line != b"data: [DONE]\n":
                        event = json.loads(line[6:])
                        if "error" in event:
                            raise ServerError(200, event["error"])
                        yield event
            finally:
                response.close()
        except (OSError, http.client.HTTPException) as error:
            raise self.broken(error) from None
        finally:
            connection.close()

    def _whole(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        connection = self._connect()
        try:
            return json.loads(self._request(connection, method, path, body).read())
        except (OSError, http.client.HTTPException) as error:
            raise self.broken(error) from None
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        # A connection for each request (0.1 ms): the server ends one after each stream and after five idle seconds.
        if self._closed:
            raise GenerationError("the llama.cpp engine is closed")
        return http.client.HTTPConnection(HOST, self._port)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ServerError(response.status, _error_of(response.read()))
        return response


class Backend(Protocol):
    """What runs the server.

    version: of llama.cpp, as it is shown. about: what else of it decides the answers. memory: bytes that its GPUs have.
    """

    @property
    def version(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def memory(self) -> int: ...

    def start(self, settings: ServerSettings) -> LlamaServer:
        """Load the model and the adapters. Raises `ModelError` with the reason that llama.cpp gives."""
        ...


def _error_of(raw: bytes) -> Mapping[str, Any]:
    try:
        error = json.loads(raw)["error"]
    except (ValueError, KeyError, TypeError):
        return {"message": raw[:200].decode("utf-8", errors="replace")}
    return error if isinstance(error, dict) else {"message": str(error)}
