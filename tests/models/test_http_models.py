"""A URL that names no model stands for the only one of its server."""

from __future__ import annotations

import pytest

from assay.errors import AssayError, ModelError, Unreachable
from assay.models.base import complete
from assay.models.open import open_model
from assay.types import HttpSettings
from tests.models.http_opened import QUICK
from tests.models.openai_server import OpenAIServer
from tests.models.raw_server import RawServer, response

SETTINGS = HttpSettings(**{**QUICK, "attempts": 3})


@pytest.mark.parametrize("end", ["", "/", "#", "/# "])
async def test_the_only_model_is_found_and_asked_by_its_name(end: str) -> None:
    async with OpenAIServer(model="org/Model-7B:latest") as server:
        model = await open_model(f"{server.url}{end}", http=SETTINGS)
        named = await open_model(f"{server.url}#org/Model-7B:latest", http=SETTINGS)
        assert model.info == named.info
        assert model.info.name == f"{server.url}#org/Model-7B:latest"
        assert (await complete(model, "?")).text == "Fine."
        await model.aclose()
        await named.aclose()


async def test_several_models_are_shown_and_none_is_guessed() -> None:
    for names, said in (
        (["a", "b"], r"has 2 models \(a, b\); name one: http://.*/v1#MODEL"),
        (["a", "b", "c", "d", "e"], r"has 5 models \(a, b, c, d, …\)"),
        ([], "has no model"),
    ):
        async with OpenAIServer(models=names) as server:
            with pytest.raises(ModelError, match=said):
                await open_model(server.url, http=SETTINGS)


async def test_the_key_is_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_API_KEY", "sk-sekrit")
    async with OpenAIServer(key="sk-sekrit") as server:
        await (await open_model(server.url, http=SETTINGS)).aclose()
        server.key = "another"
        with pytest.raises(ModelError, match=r"Incorrect API key provided: \*\*\*") as caught:
            await open_model(server.url, http=SETTINGS)
        assert "sekrit" not in str(caught.value)


@pytest.mark.parametrize(
    ("packets", "error", "said", "times"),
    [
        ([response(b"Welcome")], ModelError, "lists no models", 1),
        ([response(b"<html>")], ModelError, "lists no models", 1),
        ([response(b'{"models": []}')], ModelError, r'lists no models .*\{"models":\[\]\}', 1),
        ([response(b'{"detail": "Not Found"}', status="404 No")], ModelError, "404 to /models: Not Found", 1),
        ([response(b"", status="307 No")], ModelError, "redirects", 1),
        ([response(b"", status="503 No")], Unreachable, r"answered 503 .*write http://.*/v1#MODEL", 3),
        ([None], Unreachable, "closed the connection", 3),
    ],
)
async def test_a_server_that_lists_no_models(
    packets: list[bytes | None], error: type[AssayError], said: str, times: int
) -> None:
    async with RawServer(lambda _: packets) as server:
        with pytest.raises(error, match=said):
            await open_model(server.spec.removesuffix("#m"), http=SETTINGS)
        assert len(server.asked) == times
        assert server.asked[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
        assert b"Content-Length" not in server.asked[0]


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(Unreachable, match="no connection could be made"):
        await open_model("http://127.0.0.1:9/v1", http=SETTINGS)
