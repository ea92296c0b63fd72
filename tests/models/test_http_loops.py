"""A model behind a URL belongs to the event loop that asks it: a notebook has one, plain calls have another."""

from __future__ import annotations

import asyncio
import gc

import pytest

from assay import complete, complete_sync, open_model, run_sync
from assay.errors import BadInput, GenerationError
from assay.models.http import HttpModel
from assay.models.http_open import open_http
from tests.models.openai_server import OpenAIServer


async def test_a_model_that_another_loop_uses_is_a_mistake_and_goes_on_there() -> None:
    async with OpenAIServer() as server:
        model = await open_model(server.spec)
        assert (await complete(model, "?")).text == "Fine."
        with pytest.raises(
            BadInput, match=r"in use by another event loop; .* run_sync\(open_model\(…\)\) for plain calls"
        ):
            await asyncio.to_thread(complete_sync, model, "?")
        assert (await complete(model, "?")).text == "Fine."
        await model.aclose()


async def test_plain_calls_use_a_model_that_they_opened() -> None:
    async with OpenAIServer() as server:

        def cell() -> str:
            model = run_sync(open_model(server.spec))
            try:
                return complete_sync(model, "?").text
            finally:
                run_sync(model.aclose())

        assert await asyncio.to_thread(cell) == "Fine."


async def test_it_can_be_closed_from_anywhere() -> None:
    async with OpenAIServer() as server:
        model = open_http(server.spec)
        assert await asyncio.to_thread(lambda: complete_sync(model, "?").text) == "Fine."
        await model.aclose()
        with pytest.raises(GenerationError, match="closed"):
            await asyncio.to_thread(complete_sync, model, "?")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_loop_that_has_ended_is_followed_by_the_next() -> None:
    """As in a script that calls `asyncio.run` for each question."""
    async with OpenAIServer() as server:

        def script() -> list[str]:
            model: HttpModel = open_http(server.spec)
            texts = [asyncio.run(complete(model, "?")).text for _ in range(3)]
            asyncio.run(model.aclose())
            return texts

        assert await asyncio.to_thread(script) == ["Fine."] * 3
    gc.collect()  # each `asyncio.run` leaves a connection open, of which Python warns here and not in a later test
