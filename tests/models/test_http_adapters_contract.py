"""A server by URL that takes adapters passes the contract of adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Thread

import pytest

from assay.models.base import TextModel
from assay.models.http_open import open_http
from assay.testing import AdapterTests, UnderTest
from assay.types import HttpSettings, Raw
from tests.conftest import LAB
from tests.making import copied, discovered
from tests.models import mlx_tiny
from tests.models.http_opened import QUICK
from tests.models.test_contract import QUESTIONS
from tests.models.vllm_server import VllmServer

pytest.importorskip("mlx_lm", reason="needs the mlx extra")


@pytest.fixture(scope="module")
def server() -> Iterator[VllmServer]:
    """It runs in a thread, for the contract's models have a loop of their own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    running = VllmServer(f"mlx:{LAB / 'base'}")
    asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result()
    yield running
    asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def under_test(server: VllmServer, tmp_path_factory: pytest.TempPathFactory) -> UnderTest:
    folder = tmp_path_factory.mktemp("contract")
    found = discovered(LAB / "checkpoints", "lab")

    async def opened() -> TextModel:
        return open_http(server.spec, HttpSettings(**QUICK))

    return UnderTest(
        open=opened,
        prompts=QUESTIONS,
        long=Raw("What is"),
        adapters=[copied(found[at], folder) for at in (1, 4, 11)],
        misfit=mlx_tiny.read(mlx_tiny.write_adapter(folder / "misfit")),
    )


class TestUrl(AdapterTests):
    """The rest of the contract is held against a real server in test_http_llama."""
