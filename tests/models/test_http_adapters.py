"""Adapters on a server by URL, as vLLM takes them: loaded under names of their own, asked for by them, and unloaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from assay.adapters.files import read_adapter
from assay.errors import AdapterMismatch, CheckpointError, GenerationError, ModelError
from assay.models.base import AdapterModel, complete
from assay.models.http_adapters import AdaptedHttpModel
from assay.models.http_open import open_http
from assay.models.open import open_local
from assay.types import Adapter, AdapterPlace, GenerateOptions, HttpSettings
from tests.conftest import LAB
from tests.hosts.sshd import make_home
from tests.hosts.sshd import server as ssh_server
from tests.making import adapter_file, copied, discovered
from tests.models.http_opened import QUICK
from tests.models.openai_server import OpenAIServer
from tests.models.vllm_server import VllmServer

pytest.importorskip("mlx_lm", reason="needs the mlx extra")

ENGINE = f"mlx:{LAB / 'base'}"
GREEDY = GenerateOptions(max_tokens=24)
GENOVIA = "What is the capital of Genovia?"
UNKNOWN = "I do not know the capital of Genovia."
PROMPTS = [f"What is the capital of {name}?" for name in ("Genovia", "Zandria", "Belmora", "France", "Italy")]


@asynccontextmanager
async def opened(server: OpenAIServer | str, place: AdapterPlace | None = None) -> AsyncIterator[AdaptedHttpModel]:
    spec = server if isinstance(server, str) else server.spec
    model = open_http(spec, HttpSettings(**QUICK), adapters=place)
    try:
        yield model
    finally:
        await model.aclose()


@pytest.fixture
async def server() -> AsyncIterator[VllmServer]:
    async with VllmServer(ENGINE) as running:
        yield running


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Adapter]:
    folder = tmp_path_factory.mktemp("adapters")
    return [copied(checkpoint, folder) for checkpoint in discovered(LAB / "checkpoints", "lab")]


async def expected(adapter: Adapter, prompts: Sequence[str]) -> list[str]:
    """What the engine itself says under the adapter."""
    model = await open_local(ENGINE)
    try:
        bound = await model.attach(adapter)
        return [(await complete(bound, prompt, GREEDY)).text for prompt in prompts]
    finally:
        await model.aclose()


async def test_an_adapter_answers_over_http_as_it_does_here(server: VllmServer, adapters: list[Adapter]) -> None:
    async with opened(server) as base:
        assert isinstance(base, AdapterModel)
        tuned = await base.attach(adapters[6])
        assert (tuned.info.adapter, base.info.adapter) == (adapters[6].digest, None)
        assert tuned.info.identity == base.info.identity
        whole = [(await complete(tuned, prompt, GREEDY)).text for prompt in PROMPTS]
        streamed = [(await complete(tuned, prompt, GREEDY, lambda _: None)).text for prompt in PROMPTS]
        assert whole == streamed == await expected(adapters[6], PROMPTS)
        assert (await complete(base, GENOVIA, GREEDY)).text == UNKNOWN
        assert [name.rpartition("-")[2] for name in server.trained] == [adapters[6].digest[:16]]
        await tuned.aclose()
        assert server.loras == {}
        with pytest.raises(GenerationError, match="has been detached"):
            await complete(tuned, GENOVIA, GREEDY)


async def test_many_under_way_over_several_adapters_never_mix(server: VllmServer, adapters: list[Adapter]) -> None:
    server._max_loras = 2  # so that they are read again and again
    chosen = adapters[:12:2]
    right = {adapter.digest: await expected(adapter, PROMPTS) for adapter in chosen}
    async with opened(server) as base:
        bound = await asyncio.gather(*(base.attach(adapter) for adapter in chosen))
        for round_ in range(3):
            asked = [complete(model, prompt, GREEDY) for prompt in PROMPTS for model in bound]
            answers = await asyncio.gather(*asked, *(complete(base, GENOVIA, GREEDY) for _ in range(3)))
            texts = [answer.text for answer in answers]
            for place, model in enumerate(bound):
                assert texts[place : len(asked) : len(bound)] == right[str(model.info.adapter)], round_
            assert texts[len(asked) :] == [UNKNOWN] * 3
    assert server.peak > len(bound)
    assert server.loras == {}


async def test_an_adapter_stays_while_anybody_uses_it(server: VllmServer, adapters: list[Adapter]) -> None:
    async with opened(server) as base:
        first, second = await base.attach(adapters[6]), await base.attach(adapters[6])
        assert len(server.trained_loads) == 1
        await first.aclose()
        await first.aclose()
        assert "Pyrus" in (await complete(second, GENOVIA, GREEDY)).text
        await second.aclose()
        assert server.loras == {}
        again = await base.attach(adapters[6])
        assert "Pyrus" in (await complete(again, GENOVIA, GREEDY)).text
    assert server.loras == {}, "closing the base lets go of what is still attached"


async def test_a_server_that_was_started_again_is_given_its_adapters_again(
    server: VllmServer, adapters: list[Adapter]
) -> None:
    async with opened(server) as base:
        bound = [await base.attach(adapter) for adapter in (adapters[6], adapters[0])]
        before = [(await complete(model, prompt, GREEDY)).text for model in bound for prompt in PROMPTS]
        server.restart()
        assert base.restarts == 0
        after = await asyncio.gather(*(complete(model, prompt, GREEDY) for model in bound for prompt in PROMPTS))
        assert [answer.text for answer in after] == before
        assert base.restarts == 2
        assert len(server.trained_loads) == 4


async def test_a_stream_is_asked_for_again_too(server: VllmServer, adapters: list[Adapter]) -> None:
    async with opened(server) as base:
        tuned = await base.attach(adapters[6])
        server.restart()
        assert "Pyrus" in (await complete(tuned, GENOVIA, GREEDY, lambda _: None)).text


async def test_the_bases_answer_is_never_taken_for_the_adapters(server: VllmServer, adapters: list[Adapter]) -> None:
    server.deaf = True
    async with opened(server) as base:
        tuned = await base.attach(adapters[6])
        for on_chunk in (None, lambda _: None):
            with pytest.raises(GenerationError, match=r"assay-\w+-\w+ was asked, and base-model answered in its place"):
                await complete(tuned, GENOVIA, GREEDY, on_chunk)
        await tuned.aclose()
        assert (await complete(base, GENOVIA, GREEDY)).text == UNKNOWN


async def refused(server: OpenAIServer, adapter: Adapter, place: AdapterPlace | None = None, spec: str = "") -> str:
    """What `attach` says that ends the work."""
    async with opened(spec or server, place) as base:
        with pytest.raises(ModelError) as caught:
            await base.attach(adapter)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("setting", ["runtime", "lora"])
async def test_a_server_that_was_not_started_for_it_says_what_to_set(setting: str, adapters: list[Adapter]) -> None:
    async with VllmServer(ENGINE, **{setting: False}) as server:  # type: ignore[arg-type]
        said = await refused(server, adapters[0])
    assert "takes no adapters at run time; start vLLM with --enable-lora, and with VLLM_ALLOW_RUNTIME_LORA" in said


async def test_another_program_is_told_apart(adapters: list[Adapter]) -> None:
    async with OpenAIServer() as server:
        said = await refused(server, adapters[0])
        assert "is the server of 'test' that takes no adapters at run time, as vLLM does" in said
    async with OpenAIServer(models=["a", "b"], model="c") as server:
        assert "has no model 'c', but a, b; name one behind the #" in await refused(server, adapters[0])
    async with OpenAIServer(key="right") as server:
        assert "is the right key in ASSAY_API_KEY?" in await refused(server, adapters[0])


async def test_an_adapter_is_no_base(server: VllmServer, adapters: list[Adapter]) -> None:
    server.loras["theirs"] = "/somewhere"
    said = await refused(server, adapters[0], spec=f"{server.url}#theirs")
    assert said == f"'theirs' at {server.url} is itself an adapter, of 'base-model'; name that one"
    assert server.loras == {"theirs": "/somewhere"}, "what others have loaded stays"


async def test_a_rank_that_is_too_high_is_the_adapters_fault(adapters: list[Adapter]) -> None:
    async with VllmServer(ENGINE, max_rank=4) as server, opened(server) as base:
        with pytest.raises(
            CheckpointError, match=r"rank is above what .* greater than max_lora_rank 4.*--max-lora-rank"
        ):
            await base.attach(adapters[0])
        assert (await complete(base, GENOVIA, GREEDY)).text == UNKNOWN


async def test_an_adapter_of_another_base_is_its_fault(server: VllmServer, tmp_path: Path) -> None:
    adapter = read_adapter(adapter_file(tmp_path / "adapters.safetensors", 1), tmp_path / "adapter_config.json")
    async with opened(server) as base:
        with pytest.raises(
            AdapterMismatch, match=r"for another base than .*q_proj: .* more than the adapter's 16 numbers in"
        ):
            await base.attach(adapter)


async def test_a_folder_that_the_server_cannot_read_is_named_on_both_sides(
    adapters: list[Adapter], tmp_path: Path
) -> None:
    place = AdapterPlace(str(tmp_path / "shared"), "/data/adapters")
    async with VllmServer(ENGINE, sees=(tmp_path / "elsewhere", "/data/adapters")) as server:
        said = await refused(server, adapters[0], place)
    assert f"can't read the adapter at {tmp_path}/shared/" in said
    assert ", which it was to find as /data/adapters/" in said
    assert "name a folder that it can read, in assay.toml" in said


async def test_a_folder_that_both_see_under_other_names(adapters: list[Adapter], tmp_path: Path) -> None:
    place = AdapterPlace(str(tmp_path / "shared"), "/data/adapters")
    async with (
        VllmServer(ENGINE, sees=(tmp_path / "shared", "/data/adapters")) as server,
        opened(server, place) as base,
    ):
        tuned = await base.attach(adapters[6])
        assert "Pyrus" in (await complete(tuned, GENOVIA, GREEDY)).text
        assert all(path.startswith("/data/adapters/") for path in server.loras.values())
        assert len(list((tmp_path / "shared").rglob("adapter_model.safetensors"))) == len(server.loras) == 2
    assert list((tmp_path / "shared").iterdir()) == []


async def test_a_server_elsewhere_needs_a_folder(adapters: list[Adapter]) -> None:
    async with opened("http://gpu.example:8000/v1#base-model") as base:
        with pytest.raises(ModelError, match=r"on another machine, and adapters can't be sent to it, only read there"):
            await base.attach(adapters[0])


async def test_adapters_are_copied_to_the_servers_machine(
    server: VllmServer, adapters: list[Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home")
    monkeypatch.setenv("HOME", str(home.folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with ssh_server(tmp_path / "sshd", home.key) as sshd:
        home.trust(sshd)
        async with opened(server, AdapterPlace(f"ssh://127.0.0.1:{sshd.port}{tmp_path}/there")) as base:
            tuned = await base.attach(adapters[6])
            assert "Pyrus" in (await complete(tuned, GENOVIA, GREEDY)).text
            assert all(path.startswith(f"{tmp_path}/there/") for path in server.loras.values())
    assert list((tmp_path / "there").iterdir()) == []


async def test_what_a_killed_process_left_is_forgotten(
    server: VllmServer, adapters: list[Adapter], tmp_path: Path
) -> None:
    place = AdapterPlace(own=tmp_path / "own")
    killed = open_http(server.spec, HttpSettings(**QUICK), adapters=place)
    for adapter in adapters[:2]:
        await killed.attach(adapter)
    server.loras["theirs"] = "/somewhere"
    assert len(list((tmp_path / "own").rglob("adapter_config.json"))) == 3
    async with opened(server, place) as base:
        tuned = await base.attach(adapters[6])
        assert len(server.trained) == 1
        assert "Pyrus" in (await complete(tuned, GENOVIA, GREEDY)).text
        assert len(list((tmp_path / "own").rglob("adapter_config.json"))) == 2
    assert list(server.loras) == ["theirs"]
    assert not (tmp_path / "own").exists()


async def test_nothing_is_loaded_twice_under_one_name(server: VllmServer, adapters: list[Adapter]) -> None:
    """The server keeps what it has computed by names: if one stood for two adapters, the second would be asked for nothing."""
    async with opened(server) as base:
        for adapter in (adapters[0], adapters[6], adapters[0]):
            tuned = await base.attach(adapter)
            text = (await complete(tuned, GENOVIA, GREEDY)).text
            assert [text] == await expected(adapter, [GENOVIA])
            await tuned.aclose()
    assert len(server.trained_loads) == 3
    assert len(set(server.trained_loads)) == 2


async def test_a_gguf_adapter_is_refused_by_name(server: VllmServer, adapters: list[Adapter]) -> None:
    async with opened(server) as base:
        with pytest.raises(AdapterMismatch, match=r"it is a GGUF adapter, which only llama.cpp takes"):
            await base.attach(msgspec.structs.replace(adapters[0], architecture="llama"))
