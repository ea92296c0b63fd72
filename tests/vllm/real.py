"""A real vLLM on the lab's base, from the environment that `make vllm` sets up, in a process of its own."""

from __future__ import annotations

import fcntl
import http.client
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from filelock import FileLock

from assay.models import llama_supervisor
from tests.conftest import LAB, ROOT

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
BASE = "lab"
CONTEXT = 256
_START_SECONDS = 240.0

# Two adapters in a batch and four in memory: with more of them, vLLM reads them from their folders again and again.
_FLAGS = {
    "--model": str(LAB / "base"),
    "--served-model-name": BASE,
    "--host": "127.0.0.1",
    "--dtype": "float32",
    "--max-model-len": str(CONTEXT),
    "--max-loras": "2",
    "--max-cpu-loras": "4",
    "--max-lora-rank": "16",
}
_SWITCHES = ("--enforce-eager", "--enable-lora", "--enable-tokenizer-info-endpoint")
_ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",  # else the first log-probabilities wait for a C++ compiler
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def skip_without() -> None:
    """Skip the test where no vLLM is installed."""
    if not PYTHON.exists():
        pytest.skip("needs a real vLLM: make vllm")


class RealVllm:
    """The server's process. flags: besides those above, or in their place. folder: where its log lies."""

    def __init__(
        self, folder: Path, flags: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = _free_port()
        self._flags = {**_FLAGS, "--port": str(self.port), **(flags or {})}
        self._environment = {**os.environ, **_ENVIRONMENT, **(environment or {})}
        self._log = folder / f"vllm-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def spec(self) -> str:
        return f"{self.url}#{BASE}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [word for flag in self._flags.items() for word in flag]
        served = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", *_SWITCHES, *words]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(llama_supervisor.__file__), *served],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"vLLM did not start:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.2)

    def kill(self) -> None:
        """End it at once, as a machine that goes down does."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        while self._answers():
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False


def _free_port() -> int:
    """None of those that the system hands out by itself: it is bound only many seconds later."""
    while True:
        port = random.randrange(18_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


@contextmanager
def shared(folder: Path) -> Iterator[str]:
    """The address of one server for all processes that name this folder. The first starts it, and waits at its end for the
    others.
    """
    starting = FileLock(folder / "starting")
    address = folder / "address"
    own = None
    with (folder / "users").open("a") as users:
        with starting:
            if not address.exists():
                own = RealVllm(folder)
                own.start()
                address.write_text(own.spec)
            fcntl.flock(users, fcntl.LOCK_SH)
            spec = address.read_text()
        yield spec
        fcntl.flock(users, fcntl.LOCK_UN)
        while own is not None:
            with starting, suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                address.unlink()
                own.kill()
                own = None
            time.sleep(0.1)
