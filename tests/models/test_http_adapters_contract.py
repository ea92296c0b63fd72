"""The contract of every model that takes adapters, on a server by URL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from assay.models.base import TextModel
from assay.models.http_open import open_http
from assay.testing import AdapterContract, UnderTest
from assay.types import HttpSettings, Raw
from tests.conftest import LAB
from tests.making import copied, discovered
from tests.models.http_opened import QUICK
from tests.models.mlx_tiny import read, write_adapter
from tests.models.vllm_server import VllmServer

pytest.importorskip("mlx_lm", reason="needs the mlx extra")

QUESTIONS = ("What is the capital of Belmora?", "What is 3 + 4?", "What is the capital of Genovia?")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The server's spec. It has a thread of its own, for the contract has the loop of its own."""
    known: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with VllmServer(f"mlx:{LAB / 'base'}") as server:
            ending = asyncio.Event()
            known.set_result((server.spec, asyncio.get_running_loop(), ending))
            await ending.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    spec, loop, ending = known.result(60)
    yield spec
    loop.call_soon_threadsafe(ending.set)
    thread.join()


@pytest.fixture(scope="module")
def under_test(url: str, tmp_path_factory: pytest.TempPathFactory) -> UnderTest:
    folder = tmp_path_factory.mktemp("contract")
    found = discovered(LAB / "checkpoints", "lab")

    async def opened() -> TextModel:
        model = open_http(url, HttpSettings(**QUICK))
        await model.prepare()
        return model

    return UnderTest(
        open=opened,
        prompts=QUESTIONS,
        long=Raw("What is"),
        spelled="Hello!",
        adapters=[copied(found[at], folder) for at in (1, 4, 11)],
        misfit=read(write_adapter(folder / "misfit")),
        seconds=60.0,
    )


class TestAdaptersByUrl(AdapterContract):
    """Over a real socket, by vLLM's protocol."""

    # The server here has computed an answer before it sends any of it, so there is nothing to stop.
    test_an_answer_that_nobody_waits_for_is_stopped = None  # type: ignore[assignment]
