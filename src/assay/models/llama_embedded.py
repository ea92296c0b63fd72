"""llama.cpp's own HTTP server inside this process, as xllamacpp embeds it.

Why HTTP and not xllamacpp's callbacks: only the server can apply the chat template, it cancels when a connection is
closed, and a stream can be pulled by the thread that wants it. It costs about 0.4 ms a request. The server listens on
127.0.0.1 alone, on a port that the system picks, and answers only to a key made for this one server.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from assay.errors import ModelError
from assay.models.llama_server import BATCH, HOST, LlamaServer, ServerSettings

_QUIET, ERRORS = -1, 1  # llama.cpp's log levels
_EXPLAIN_SECONDS = 120


def import_xllamacpp() -> Any:
    """The module `xllamacpp`. Raises `ModelError` where it is not installed."""
    try:
        import xllamacpp
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "xllamacpp"
        why = "it is not installed" if missing else f"it does not load ({error})"
        raise ModelError(f"llama.cpp models need xllamacpp, but {why}: pip install 'assay[llama]'") from None
    return xllamacpp


def build_number(xllamacpp: Any) -> str:
    """llama.cpp's, which is the last part of xllamacpp's version where the build has none."""
    return str(xllamacpp.BUILD_INFO["build_number"] or str(xllamacpp.__version__).rpartition(".")[2])


class Embedded:
    """A `Backend` in this process."""

    about = ""
    memory = 0

    def __init__(self) -> None:
        xllamacpp = import_xllamacpp()
        self.version = f"{xllamacpp.__version__} (llama.cpp b{build_number(xllamacpp)})"

    def start(self, settings: ServerSettings) -> LlamaServer:
        return EmbeddedServer(settings)


class EmbeddedServer(LlamaServer):
    """A running server. `close` ends its threads and frees the model.

    Loading holds the interpreter's lock: xllamacpp does not release it.
    """

    def __init__(self, settings: ServerSettings) -> None:
        key = secrets.token_hex(16)
        try:
            self._server = start(settings, key, _QUIET)
        except RuntimeError:
            raise ModelError(f"llama.cpp can't load {settings.model}: {_reason(settings)}") from None
        super().__init__(port_of(self._server), key)
        # Answered by the server's main loop, so it runs by now. One that is told to end before its loop has begun
        # forgets it and never ends, and waiting for it would hold the interpreter's lock for ever.
        self.get("/slots")

    def close(self) -> None:
        super().close()
        self._server = None


def port_of(server: Any) -> int:
    """The port that a server of xllamacpp listens on. Raises `ModelError` if others than this machine could reach it."""
    address = urlsplit(server.listening_address)
    if address.hostname != HOST or address.port is None:
        raise ModelError(f"llama.cpp listens on {address.netloc!r} instead of a port of {HOST}")
    return int(address.port)


def start(settings: ServerSettings, key: str, verbosity: int) -> Any:
    """Start xllamacpp's server. What decides answers here is named in `LlamaCppEngine`'s identity."""
    xllamacpp = import_xllamacpp()
    params = xllamacpp.CommonParams()
    params.verbosity = verbosity
    params.hostnames, params.port, params.api_keys = [HOST], 0, [key]
    params.ui, params.n_threads_http = False, 2
    params.model.path = str(settings.model)
    params.n_ctx, params.n_batch, params.n_ubatch = settings.context_length, BATCH, BATCH
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
    start(settings, secrets.token_hex(16), ERRORS)


def _reason(settings: ServerSettings) -> str:
    """Why llama.cpp refused. It only logs its reasons, so the load is tried again where its log can be read."""
    adapters = "".join(f"Path({str(path)!r})," for path in settings.adapters)
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from assay.models.llama_embedded import ServerSettings, explain\n"
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
