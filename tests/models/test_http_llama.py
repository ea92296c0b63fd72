"""Against a real server: llama.cpp's own, on the lab's base. Over HTTP and in this process it says the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from assay.errors import GenerationError, ModelError
from assay.models.base import TextModel, complete
from assay.models.http import HttpModel
from assay.models.http_address import parse_address
from assay.models.http_retry import HttpSettings
from assay.models.llama_embedded import EmbeddedServer
from assay.models.llama_server import ServerSettings
from assay.models.open import open_model
from assay.secret import Secret
from assay.testing import ModelContract, UnderTest
from assay.types import GenerateOptions, Message, Raw

PROMPTS = (
    "What is the capital of Genovia?",
    "What is 3 + 4?",
    "What is the capital of France?",
    (Message("user", "What is 2 + 2?"), Message("assistant", "4"), Message("user", "What is 5 + 4?")),
    Raw("What is"),
)
GREEDY = GenerateOptions(max_tokens=24)


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """llama.cpp's server, which wants a key."""
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    lab = Path(__file__).parents[2] / "examples" / "lab" / "base" / "lab-f32.gguf"
    server = EmbeddedServer(ServerSettings(lab, 512, 1))
    yield server
    server.close()


@pytest.fixture
async def there(running: EmbeddedServer) -> AsyncIterator[HttpModel]:
    address = parse_address(f"http://127.0.0.1:{running._port}/v1#lab")
    model = HttpModel(address, HttpSettings(concurrency=4, backoff_seconds=0.01), Secret(running._key))
    yield model
    await model.aclose()


@pytest.fixture
async def here(lab: Path) -> AsyncIterator[TextModel]:
    model = await open_model(f"llama:{lab / 'base' / 'lab-f32.gguf'}")
    yield model
    await model.aclose()


@pytest.fixture(scope="module")
def under_test(running: EmbeddedServer) -> UnderTest:
    address = parse_address(f"http://127.0.0.1:{running._port}/v1#lab")

    async def opened() -> TextModel:
        return HttpModel(address, HttpSettings(concurrency=4), Secret(running._key), context_length=256)

    return UnderTest(open=opened, prompts=PROMPTS[:3], long=PROMPTS[-1], spelled="Hello!")


class TestContract(ModelContract):
    """What holds of every model holds of one behind a URL."""


async def test_streamed_or_whole_it_says_what_the_engine_says(there: HttpModel, here: TextModel) -> None:
    for prompt in PROMPTS:
        expected = await complete(here, prompt, GREEDY)
        pieces: list[str] = []
        streamed = await complete(there, prompt, GREEDY, lambda chunk, pieces=pieces: pieces.append(chunk.text))
        whole = await complete(there, prompt, GREEDY)
        assert streamed.text == whole.text == expected.text != ""
        assert streamed.finish_reason == whole.finish_reason == expected.finish_reason
        assert streamed.usage.completion_tokens == whole.usage.completion_tokens
        assert whole.usage.prompt_tokens > 0
        assert len([piece for piece in pieces if piece]) > 1, "in pieces, not in one"


async def test_its_log_probabilities_are_the_engines(there: HttpModel, here: TextModel) -> None:
    options = GenerateOptions(max_tokens=8, logprobs=True)
    expected = await complete(here, PROMPTS[0], options)
    for done in (
        await complete(there, PROMPTS[0], options),
        await complete(there, PROMPTS[0], options, lambda _: None),
    ):
        told = [token.id for token in done.tokens]
        assert told == [token.id for token in expected.tokens][: len(told)]
        assert [token.logprob for token in done.tokens] == pytest.approx(
            [token.logprob for token in expected.tokens][: len(told)], abs=1e-4
        )


async def test_it_is_held_to_a_schema(there: HttpModel) -> None:
    schema = {"type": "object", "properties": {"score": {"enum": [1, 2, 3]}}, "required": ["score"]}
    done = await there.complete_structured("Rate it.", schema, GenerateOptions(max_tokens=40))
    assert done.text.lstrip().startswith("{")


async def test_its_refusals(there: HttpModel, running: EmbeddedServer) -> None:
    with pytest.raises(GenerationError, match="context") as caught:
        await complete(there, "word " * 3000, GREEDY)
    assert caught.value.error_class == "permanent"
    stranger = HttpModel(parse_address(there.info.name), HttpSettings(), Secret("wrong"))
    with pytest.raises(ModelError, match="ASSAY_API_KEY"):
        await complete(stranger, "?", GREEDY)
    await stranger.aclose()
