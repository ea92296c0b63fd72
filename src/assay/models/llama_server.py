"""llama.cpp's own HTTP server inside this process, and the few requests that the engine makes of it.

Why HTTP and not xllamacpp's callbacks: only the server can apply the chat template, it cancels when a connection is
closed, and a stream can be pulled by the thread that wants it. It costs about 0.4 ms a request. The server listens on
127.0.0.1 alone, on a port that the system picks, and answers only to a key made for this one server.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assay.errors import GenerationError, ModelError

_BATCH = 512  # prompt tokens computed between two looks at whether the request was cancelled
_QUIET, _ERRORS = -1, 1  # llama.cpp's log levels
_EXPLAIN_SECONDS = 120


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


def import_xllamacpp() -> Any:
    """The module `xllamacpp`. Raises `ModelError` where it is not installed."""
    try:
        import xllamacpp
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "xllamacpp"
        why = "it is not installed" if missing else f"it does not load ({error})"
        raise ModelError(f"llama.cpp models need xllamacpp, but {why}: pip install 'assay[llama]'") from None
    return xllamacpp


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
    """A running server. `close` ends its threads and frees the model; nothing of it is left behind.

    Loading holds the interpreter's lock: xllamacpp does not release it.
    """

    def __init__(self, settings: ServerSettings) -> None:
        """Load the model and the adapters. Raises `ModelError` with the reason that llama.cpp gives."""
        self._key = secrets.token_hex(16)
        try:
            self._server = _start(settings, self._key, _QUIET)
        except RuntimeError:
            raise ModelError(f"llama.cpp can't load {settings.model}: {_reason(settings)}") from None
        address = urlsplit(self._server.listening_address)
        if address.hostname != "127.0.0.1" or address.port is None:
            raise ModelError(f"llama.cpp listens on {address.netloc!r} instead of a port of 127.0.0.1")
        self._port = address.port
        # Answered by the server's main loop, so it runs by now. One that is told to end before its loop has begun
        # forgets it and never ends, and waiting for it would hold the interpreter's lock for ever.
        self.get("/slots")

    def close(self) -> None:
        self._server = None

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
        finally:
            connection.close()

    def _whole(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        connection = self._connect()
        try:
            return json.loads(self._request(connection, method, path, body).read())
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        # A connection for each request (0.1 ms): the server ends one after each stream and after five idle seconds.
        if self._server is None:
            raise GenerationError("the llama.cpp engine is closed")
        return http.client.HTTPConnection("127.0.0.1", self._port)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ServerError(response.status, _error_of(response.read()))
        return response


def _error_of(raw: bytes) -> Mapping[str, Any]:
    try:
        error = json.loads(raw)["error"]
    except (ValueError, KeyError, TypeError):
        return {"message": raw[:200].decode("utf-8", errors="replace")}
    return error if isinstance(error, dict) else {"message": str(error)}


def _start(settings: ServerSettings, key: str, verbosity: int) -> Any:
    """Start xllamacpp's server. What decides answers here is named in `LlamaCppEngine`'s identity."""
    xllamacpp = import_xllamacpp()
    params = xllamacpp.CommonParams()
    params.verbosity = verbosity
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [key]
    params.ui, params.n_threads_http = False, 2
    params.model.path = str(settings.model)
    params.n_ctx, params.n_batch, params.n_ubatch = settings.context_length, _BATCH, _BATCH
    # One request at a time: what else is in a batch changes the last bits of an answer.
    params.n_parallel = 1
    # No cache survives a request: it would have been computed under another adapter.
    params.cache_ram_mib, params.cache_prompt, params.cache_idle_slots, params.n_ctx_checkpoints = 0, False, False, 0
    # Plain attention over a float32 cache: within 2e-5 of MLX's and torch's logits. Flash attention sums in another
    # order, and a float16 cache rounds keys and values: either differs from the other engines by 1e-3.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    # A scale of 0 at the start, so that none is on before a request says so.
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in settings.adapters]
    return xllamacpp.Server(params)


def explain(settings: ServerSettings) -> None:
    """Start the server with llama.cpp's errors on standard error; for a child process."""
    _start(settings, secrets.token_hex(16), _ERRORS)


def _reason(settings: ServerSettings) -> str:
    """Why llama.cpp refused. It only logs its reasons, so the load is tried again where its log can be read."""
    adapters = "".join(f"Path({str(path)!r})," for path in settings.adapters)
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from assay.models.llama_server import ServerSettings, explain\n"
        f"explain(ServerSettings(Path({str(settings.model)!r}), {settings.context_length}, {settings.threads}, ({adapters})))"
    )
    try:
        child = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, errors="replace", timeout=_EXPLAIN_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return "it gave no reason"
    lines = re.findall(r"^\S+ E (.+)$", child.stderr, flags=re.MULTILINE)
    if not lines:
        return "it gave no reason" if child.returncode else "a second try succeeded, so memory may have run short"
    return re.sub(r"^\w+: (error loading model: )?", "", lines[0]).strip()
