"""A user's own llama.cpp server with LoRA adapters, as users start it: caches on, four requests at once."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from assay.adapters.convert import mlx_to_gguf
from assay.adapters.files import read_adapter
from assay.adapters.gguf_header import read_gguf_header
from assay.errors import ModelError
from assay.models import http_llama
from assay.models.base import TextModel, complete
from assay.models.http import HttpModel
from assay.models.http_open import open_http
from assay.models.llama_embedded import port_of
from assay.models.llama_log import ServerLog
from assay.types import GenerateOptions, Raw
from tests.models import llama_opened
from tests.models.llama_programs import PROGRAMS, REAL
from tests.models.openai_server import OpenAIServer, Reply

QUESTIONS = (llama_opened.QUESTION, "What is 3 + 4?", "What is the capital of France?")
GREEDY = GenerateOptions(max_tokens=24)
ITERATIONS = (20, 120)


@pytest.fixture(scope="module")
def base(request: pytest.FixtureRequest) -> Path:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    return Path(__file__).parents[2] / "examples" / "lab" / "base" / "lab-f32.gguf"


@pytest.fixture(scope="module")
def files(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two of the lab's checkpoints as GGUF adapters."""
    folder, header = tmp_path_factory.mktemp("served"), read_gguf_header(base)
    heads, kv_heads = header.integer("attention.head_count"), header.integer("attention.head_count_kv")
    assert heads is not None
    assert kv_heads is not None
    lab = base.parents[1] / "checkpoints"
    return [
        mlx_to_gguf(
            read_adapter(lab / f"{iteration:07d}_adapters.safetensors", lab / "adapter_config.json"),
            folder / f"lab-{iteration}.gguf",
            arch=header.architecture,
            heads=heads,
            kv_heads=kv_heads,
        )
        for iteration in ITERATIONS
    ]


@contextmanager
def served(base: Path, files: list[Path], scale: float = 1.0, port: int = 0) -> Iterator[str]:
    """The address of a server with these adapters, each at this scale for whoever names none."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.verbosity, params.ui = -1, False
    params.hostnames, params.port = ["127.0.0.1"], port
    params.model.path, params.model_alias = str(base), {"lab"}
    params.n_ctx, params.n_parallel, params.warmup = 2048, 4, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), scale) for path in files]
    server = xllamacpp.Server(params)
    url = f"http://127.0.0.1:{port_of(server)}/v1"
    try:
        assert asked(url, "/lora-adapters", None) is not None  # its main loop runs by now
        yield url
    finally:
        server = None


def asked(url: str, path: str, body: Any) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url.removesuffix("/v1") + path, data)) as reply:
        return json.loads(reply.read())


def set_scales(url: str, *scales: float) -> None:
    asked(url, "/lora-adapters", [{"id": place, "scale": scale} for place, scale in enumerate(scales)])


@contextmanager
def really_served(base: Path, files: list[Path]) -> Iterator[str]:
    """The same by a real llama-server, called as users call it."""
    called = [REAL, "--model", str(base), "--alias", "lab", "--port", "0", "--ctx-size", "2048", "--parallel", "4"]
    called += ["--threads", "1", "--lora", ",".join(map(str, files))]
    with subprocess.Popen(called, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            assert server.stdout is not None
            port = ServerLog(server.stdout).port(60)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()


@pytest.fixture(scope="module", params=PROGRAMS)
def url(request: pytest.FixtureRequest, base: Path, files: list[Path]) -> Iterator[str]:
    with really_served(base, files) if request.param == "real" else served(base, files) as url:
        yield url


async def said(spec: str, *prompts: Any) -> list[str]:
    model = open_http(spec)
    try:
        return [(await complete(model, prompt, GREEDY)).text for prompt in prompts]
    finally:
        await model.aclose()


async def expected(base: Path, lab: Path) -> dict[tuple[str, str], str]:
    """What the engine says under each adapter, and without: by the model's name and the question."""
    async with llama_opened.opened(base) as model:
        adapters = [
            read_adapter(
                lab / "checkpoints" / f"{iteration:07d}_adapters.safetensors",
                lab / "checkpoints" / "adapter_config.json",
            )
            for iteration in ITERATIONS
        ]
        await model.expect(adapters)
        models: dict[str, TextModel] = {"lab": model}
        models |= {f"lab-{i}": await model.attach(a) for i, a in zip(ITERATIONS, adapters, strict=True)}
        return {(name, q): (await complete(m, q, GREEDY)).text for name, m in models.items() for q in QUESTIONS}


async def test_each_name_is_answered_under_its_adapter_alone(url: str, base: Path, lab: Path) -> None:
    set_scales(url, 0.0, 0.0)
    alone = await expected(base, lab)
    assert len({text for (_, question), text in alone.items() if question == QUESTIONS[0]}) > 2
    models = {name: open_http(f"{url}#{name}") for name, _ in alone}
    wanted = list(alone) * 12
    random.Random(7).shuffle(wanted)
    assert len(wanted) >= 100

    async def one(place: int, name: str, question: str) -> str:
        shown = (lambda _: None) if place % 2 else None  # half of them as a stream
        return (await complete(models[name], question, GREEDY, shown)).text

    try:
        found = await asyncio.gather(*(one(place, *key) for place, key in enumerate(wanted)))
    finally:
        for model in models.values():
            await model.aclose()
    assert found == [alone[key] for key in wanted]


async def test_one_that_is_on_for_everybody_is_asked_alone_as_well(url: str, base: Path, lab: Path) -> None:
    set_scales(url, 1.0, 1.0)
    alone = await expected(base, lab)
    assert await said(f"{url}#lab-120", *QUESTIONS) == [alone["lab-120", question] for question in QUESTIONS]
    assert await said(f"{url}#lab-20.gguf", *QUESTIONS) == [alone["lab-20", question] for question in QUESTIONS]


@pytest.mark.parametrize(
    ("scales", "name", "sentence"),
    [
        (
            (0.0, 1.0),
            "lab",
            r"applies the LoRA adapter lab-120 to whoever names none; write .*#lab-20, .*#lab-120 to ask",
        ),
        ((0.0, 0.5), "lab-120", r"at a scale of 0.5, and assay asks under an adapter at 1"),
        (
            (0.0, 0.0),
            "lab-12",
            r"neither a model nor a LoRA adapter of that name; write .*#lab, .*#lab-20, .*#lab-120$",
        ),
    ],
)
async def test_what_leaves_a_doubt_is_refused(url: str, scales: tuple[float, ...], name: str, sentence: str) -> None:
    set_scales(url, *scales)
    for prompt in ("What is 3 + 4?", Raw("What is")):
        with pytest.raises(ModelError, match=sentence):
            await said(f"{url}#{name}", prompt)


def test_the_command_ends_with_one_sentence(url: str) -> None:
    set_scales(url, 1.0, 0.0)
    code = "import sys; from assay.cli import main; sys.exit(main())"
    called = [sys.executable, "-c", code, "generate", f"{url}#lab", "What is 3 + 4?"]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "applies the LoRA adapter lab-20 to whoever names none" in done.stderr


async def test_a_server_that_comes_back_with_other_adapters_is_not_asked_on(
    base: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_llama, "_KNOWN_SECONDS", 0.0)
    with ExitStack() as stack:
        url = stack.enter_context(served(base, files, scale=0.0))
        model: HttpModel = open_http(f"{url}#lab-20")
        try:
            await complete(model, QUESTIONS[0], GREEDY)
            stack.close()
            with (
                served(base, files[1:], scale=0.0, port=int(url.rpartition(":")[2].removesuffix("/v1"))),
                pytest.raises(ModelError, match="LoRA adapters have changed while it was in use"),
            ):
                await complete(model, QUESTIONS[0], GREEDY)
        finally:
            await model.aclose()


async def test_two_adapters_of_one_name_are_refused(base: Path, files: list[Path], tmp_path: Path) -> None:
    (twin := tmp_path / files[0].name).write_bytes(files[0].read_bytes())
    with served(base, [files[0], twin], scale=0.0) as url, pytest.raises(ModelError, match="several LoRA adapters"):
        await said(f"{url}#lab-20", "hi")


async def test_a_proxy_that_hands_only_the_api_on_is_asked_as_any_server() -> None:
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply("Fine.", headers={"Server": "llama.cpp"})
        assert await said(server.spec, "hi", "ho") == ["Fine.", "Fine."]
        assert all({"lora", "cache_prompt"}.isdisjoint(ask.body) for ask in server.asked if ask.body)
