"""Against a real server: mlx-lm's own, on the lab's base. It speaks HTTP/1.0, and ends each stream with the connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from assay.errors import ModelError
from assay.models.base import TextModel, complete
from assay.models.http import HttpModel
from assay.models.http_open import open_http
from assay.models.open import open_model
from assay.types import GenerateOptions, HttpSettings, Message, Raw

pytest.importorskip("mlx_lm", reason="needs the mlx extra")

PROMPTS = (
    "What is the capital of Genovia?",
    "Zwölf 🍎 und „2“?",
    (Message("user", "What is 2 + 2?"), Message("assistant", "4"), Message("user", "What is 5 + 4?")),
    Raw("What is"),
)


@pytest.fixture(scope="module")
def url(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--model", str(lab / "base"), "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path_factory.mktemp("mlx-server") / "log"
    with log.open("w") as said:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlx_lm", "server", *where],
            stdout=said,
            stderr=said,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
async def there(url: str) -> AsyncIterator[HttpModel]:
    model = open_http(f"{url}#default_model", HttpSettings(concurrency=2))
    yield model
    await model.aclose()


@pytest.fixture
async def here(lab: Path) -> AsyncIterator[TextModel]:
    model = await open_model(f"mlx:{lab / 'base'}")
    yield model
    await model.aclose()


async def test_streamed_or_whole_it_says_what_the_engine_says(there: HttpModel, here: TextModel) -> None:
    greedy = GenerateOptions(max_tokens=12)
    for prompt in PROMPTS:
        expected = await complete(here, prompt, greedy)
        pieces: list[str] = []
        streamed = await complete(there, prompt, greedy, lambda chunk, pieces=pieces: pieces.append(chunk.text))
        whole = await complete(there, prompt, greedy)
        assert streamed.text == whole.text == expected.text != ""
        assert streamed.finish_reason == whole.finish_reason == expected.finish_reason
        assert streamed.usage.completion_tokens == whole.usage.completion_tokens
        assert len([piece for piece in pieces if piece]) > 1, "in pieces, not in one"


@pytest.mark.parametrize("prompt", [PROMPTS[0], PROMPTS[-1]], ids=["message", "raw"])
async def test_its_log_probabilities_are_the_engines(there: HttpModel, here: TextModel, prompt: str) -> None:
    options = GenerateOptions(max_tokens=6, logprobs=True)
    expected, told = await complete(here, prompt, options), await complete(there, prompt, options)
    assert [token.id for token in told.tokens] == [token.id for token in expected.tokens]
    logprobs = [token.logprob for token in expected.tokens]
    assert [token.logprob for token in told.tokens] == pytest.approx(logprobs, abs=1e-3)


async def test_every_option_is_taken(there: HttpModel) -> None:
    options = GenerateOptions(
        max_tokens=6, temperature=0.7, top_p=0.9, top_k=20, repeat_penalty=1.1, stop=("\n",), seed=3
    )
    first, again = await complete(there, PROMPTS[0], options), await complete(there, PROMPTS[0], options)
    assert first.text == again.text != ""


async def test_its_refusals(there: HttpModel, url: str) -> None:
    for wrong in (f"{url.removesuffix('/v1')}/v2#m", f"{url}#no/such-model"):
        stranger = open_http(wrong, HttpSettings())
        with pytest.raises(ModelError, match="answered 404"):
            await complete(stranger, "?")
        await stranger.aclose()
