"""What is kept of a server's log, and what of it explains a failure."""

from __future__ import annotations

import io

import pytest

from assay.models.llama_log import ServerLog

PLAIN = "0.00.079.550 I srv    load_model: initializing, n_slots = 1"
LISTENING = "0.00.093.915 I srv  llama_server: listening on http://127.0.0.1:41237"


def log(*lines: str) -> ServerLog:
    found = ServerLog(io.BytesIO("\n".join(lines).encode()))
    assert found.ended(10)
    return found


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), ""),
        ((PLAIN, "0.00.1 E llama_model_load: error loading model: no file", "0.00.2 E srv  main: exiting"), "no file"),
        (("error: invalid argument: --cache-ram", "usage"), "invalid argument: --cache-ram"),
        (("libcuda.so.1: cannot open shared object file",), "cannot open shared object file"),
        (("one", "two", "three", "four"), "two three four"),
        ((LISTENING, PLAIN), ""),
        (("an error that was overcome", LISTENING), ""),
        (
            (LISTENING, "0.1 E srv: a bad question", "ggml-cuda.cu:83: CUDA error: out of memory"),
            "CUDA error: out of memory",
        ),
        ((LISTENING, "0.1 E srv: a bad question", *[PLAIN] * 40, "ggml-cuda.cu:83: CUDA error"), "CUDA error"),
    ],
)
def test_the_reason(lines: tuple[str, ...], reason: str) -> None:
    assert log(*lines).reason() == reason


@pytest.mark.parametrize(
    "line", [LISTENING, "main: server is listening on http://127.0.0.1:41237 - starting the main loop"]
)
def test_the_port(line: str) -> None:
    assert log(PLAIN, line, PLAIN).port(0) == 41237
    assert log(PLAIN).port(0) is None


def test_no_log_fills_the_memory_or_an_error() -> None:
    found = ServerLog(io.BytesIO(b"x" * 30_000_000 + b"\nfailed " + b"y" * 10_000))
    assert found.ended(30)
    assert sum(map(len, found._lines)) < 1_000_000
    assert len(found.reason()) < 500
