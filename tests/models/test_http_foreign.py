"""Another program listens at the address, or another API answers there."""

from __future__ import annotations

import asyncio

import pytest

from assay.errors import GenerationError, ModelError, Unreachable
from assay.models.base import complete
from assay.models.http_address import parse_address
from assay.models.open import open_model
from assay.models.vllm_api import VllmApi
from assay.types import HttpSettings
from tests.models.http_opened import opened
from tests.models.openai_server import OpenAIServer, Reply
from tests.models.raw_server import RawServer, response


@pytest.mark.parametrize("unasked", [True, False])
async def test_another_program_that_listens_there_is_the_users_mistake(*, unasked: bool) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not unasked:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listener:
        base = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        said = r"no HTTP server \(it says 'SSH-2.0-OpenSSH_9.6'\); is the port right\?"
        async with opened(f"{base}#m", attempts=2) as model:
            with pytest.raises(ModelError, match=said):
                await complete(model, "?")
        with pytest.raises(ModelError, match=said):
            await open_model(base, http=HttpSettings(attempts=2))
        with pytest.raises(ModelError, match=said):
            await VllmApi(parse_address(f"{base}#m"), HttpSettings(attempts=2), None).check()


async def test_what_is_no_http_after_an_answer_is_a_moments_failure() -> None:
    said = iter([response(), b"PONG\r\n", b"PONG\r\n", response()])
    async with RawServer(lambda _: [next(said), None]) as server, opened(server.spec, attempts=2) as model:
        assert (await complete(model, "1")).text == "Fine."
        with pytest.raises(GenerationError, match="no HTTP server") as caught:
            await complete(model, "2")
        assert caught.value.error_class == "transient"
        assert (await complete(model, "3")).text == "Fine."


async def test_another_api_that_answers_there_stops_the_work() -> None:
    async with OpenAIServer() as server, opened(server, attempts=2) as model:
        server.script = lambda ask: Reply(raw=b'{"cluster_name": "elasticsearch"}')
        for _ in range(2):
            with pytest.raises(GenerationError, match="no choices"):
                await complete(model, "?")
        with pytest.raises(Unreachable, match=r"elasticsearch.*3 questions in a row came to nothing"):
            await complete(model, "?")
