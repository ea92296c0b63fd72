"""llama.cpp's `llama-server` in a process of its own, which ends when this one does, however that ends.

Between the two stands a small process that holds a pipe to this one (`llama_supervisor`). The server picks its port itself, on
127.0.0.1 alone, and says it in its log; so no port is taken away between choosing and using it. Its key is in its
environment, since anybody on the machine can read what a process was called with.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from assay.errors import AssayError, ModelError
from assay.models.llama_binary import Binary, ask, find, supervised
from assay.models.llama_log import ServerLog
from assay.models.llama_server import BATCH, HOST, LlamaServer, ServerError, ServerSettings
from assay.scratch import Scratch

_START_SECONDS = 3600.0  # a large model, from a slow disk
_CLOSE_SECONDS = 5.0
_LAST_WORDS_SECONDS = 1.0

# What decides answers, of what the server is called with: as `llama_embedded` has it, and for its reasons.
_FLAGS = (
    *("--parallel", "1", "--batch-size", str(BATCH), "--ubatch-size", str(BATCH)),
    *("--cache-ram", "0", "--no-cache-prompt", "--ctx-checkpoints", "0"),
    *("--flash-attn", "off", "--cache-type-k", "f32", "--cache-type-v", "f32"),
    "--no-warmup",
)


def flags(settings: ServerSettings, adapters: Sequence[str]) -> list[str]:
    """What a llama-server is called with. adapters: paths of the settings' ones that hold neither ":" nor ","."""
    threads = str(settings.threads)
    called = ["--host", HOST, "--port", "0", "--model", str(settings.model), "--ctx-size", str(settings.context_length)]
    called += ["--threads", threads, "--threads-batch", threads, *_FLAGS]
    if adapters:  # a scale of 0 at the start, so that none is on before a request says so
        called += ["--lora-scaled", ",".join(f"{path}:0" for path in adapters)]
    return called


class Processes:
    """A `Backend` that starts a llama-server."""

    def __init__(self, binary: Binary) -> None:
        self._binary = binary
        self.version = f"llama-server {binary.version}" + (f" on {', '.join(binary.devices)}" if binary.devices else "")
        self.about = f"built with {binary.built}; {' '.join(_FLAGS)}"
        self.memory = binary.memory

    @classmethod
    def found(cls, named: str | None) -> Processes:
        """By the program of that name, or the one that is there (`llama_binary.find`). Raises `ModelError`."""
        return cls(ask(find(named)))

    def start(self, settings: ServerSettings) -> LlamaServer:
        return ServerProcess(self._binary.command, settings)


class ServerProcess(LlamaServer):
    """A llama-server that was started here. Raises `ModelError` for a model that can't be loaded, and another program."""

    def __init__(self, command: Sequence[str], settings: ServerSettings, seconds: float = _START_SECONDS) -> None:
        """seconds: until it must have loaded the model and answer."""
        deadline = time.monotonic() + seconds
        key = secrets.token_hex(16)
        self._folder = Scratch("llama-server")
        self._process = supervised([*command, *flags(settings, self._links(settings.adapters))], {"LLAMA_API_KEY": key})
        assert self._process.stdout is not None
        self._log = ServerLog(self._process.stdout)
        super().__init__(0, key)
        try:
            self._port = self._listening(command[0], settings, deadline)
            self._healthy(command[0], settings, deadline)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the server and wait until it has given its memory back."""
        if self._closed:
            return
        super().close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self._log.ended(_CLOSE_SECONDS):  # so there is still somebody in its group
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter where all are dead
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()

    def epitaph(self, within: float = 0.0) -> str | None:
        if self._closed or not self._log.ended(within):
            return None
        return self._ended_how()

    def _links(self, adapters: Sequence[Path]) -> list[str]:
        """Names without ":" and ",", which llama-server takes for its own."""
        links = []
        for place, adapter in enumerate(adapters):
            link = self._folder.path / f"{place}.gguf"
            link.symlink_to(adapter.absolute())
            links.append(str(link))
        return links

    def _listening(self, program: str, settings: ServerSettings, deadline: float) -> int:
        port = self._log.port(max(deadline - time.monotonic(), 0.0))
        if port is None and self._log.ended(0):
            raise ModelError(f"llama-server can't load {settings.model}: {self._ended_how()}")
        if port is None:
            raise self._late(program, settings)
        return port

    def _healthy(self, program: str, settings: ServerSettings, deadline: float) -> None:
        """Wait until it says so itself: some builds listen before they have loaded the model."""
        while True:
            try:
                self.get("/health")
                return
            except ServerError as error:
                if error.status != 503:
                    raise ModelError(f"{program} is not llama.cpp's llama-server: /health says {error}") from None
            except AssayError as error:
                if (how := self.epitaph()) is not None:
                    raise ModelError(f"llama-server can't load {settings.model}: {how}") from None
                raise ModelError(f"{program} does not answer: {error}") from None
            if time.monotonic() > deadline:
                raise self._late(program, settings)
            time.sleep(0.05)

    def _late(self, program: str, settings: ServerSettings) -> ModelError:
        said = self._log.reason()
        return ModelError(
            f"{program} has not loaded {settings.model} in time; " + (f"it says: {said}" if said else "it says nothing")
        )

    def _ended_how(self) -> str:
        """How the ended server ended, with the words of its log."""
        code = self._process.wait(_LAST_WORDS_SECONDS)
        how = f"killed by {signal.Signals(code - 128).name}" if code > 128 else f"exit code {code}"
        how += ", as where memory runs out" if code - 128 == signal.SIGKILL else ""
        said = self._log.reason()
        return f"llama-server ended ({how})" + (f"; it says: {said}" if said else "")
