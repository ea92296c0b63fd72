"""A llama-server in a process of its own: it answers as the embedded one does, and outlives nobody."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from assay.adapters.files import read_adapter
from assay.errors import EngineDied, GenerationError, ModelError
from assay.models import llama_process
from assay.models.base import TextModel
from assay.models.llama_cpp import LlamaCppEngine, open_on_llama_server
from assay.models.llama_process import ServerProcess
from assay.models.llama_server import ServerSettings
from assay.models.local import LocalModel
from assay.models.open import open_model
from assay.models.worker import WorkerModel
from assay.types import Adapter, EngineSettings, Message
from tests.models import llama_opened
from tests.models.gguf_tiny import adapter_tensors, write_adapter, write_base
from tests.models.llama_opened import QUESTION, answer
from tests.models.llama_programs import PROGRAMS, program, script

QUESTIONS = (QUESTION, "What is 3 + 4?", "What is the capital of France?")


@pytest.fixture(params=PROGRAMS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> EngineSettings:
    return EngineSettings(llama_server=program(request.param, tmp_path))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@asynccontextmanager
async def opened(path: Path, settings: EngineSettings) -> AsyncIterator[LocalModel]:
    model = await LocalModel.open(lambda: open_on_llama_server(str(path), settings), f"llama-server:{path}")
    try:
        yield model
    finally:
        await model.aclose()


def server_of(model: LocalModel) -> ServerProcess:
    assert isinstance(model._engine, LlamaCppEngine)
    assert isinstance(model._engine._running, ServerProcess)
    return model._engine._running


def checkpoint(lab: Path, iteration: int) -> Adapter:
    folder = lab / "checkpoints"
    return read_adapter(folder / f"{iteration:07d}_adapters.safetensors", folder / "adapter_config.json")


# What comes out


async def test_it_answers_as_the_embedded_one(lab: Path, settings: EngineSettings) -> None:
    talk = (Message("system", "be brief"), Message("user", "What is 2 + 2?"))
    async with opened(lab / "base", settings) as there, llama_opened.opened(lab / "base") as here:
        for question in (*QUESTIONS, talk):
            assert await there.render(question) == await here.render(question)
            found, wanted = [await answer(model, question, logprobs=True) for model in (there, here)]
            assert (found.text, found.finish_reason) == (wanted.text, wanted.finish_reason)
            assert [token.id for token in found.tokens] == [token.id for token in wanted.tokens]
            logprobs = [token.logprob for token in wanted.tokens]
            assert [token.logprob for token in found.tokens] == pytest.approx(logprobs, abs=1e-4)
        assert (there.info.engine, there.info.name) == ("llama.cpp", f"llama-server:{lab / 'base'}")
        assert there.info.engine_version.startswith("llama-server ")
        assert there.info.identity != here.info.identity
        assert there.info.context_length == here.info.context_length


async def test_mixed_adapters_answer_as_they_do_alone(lab: Path, settings: EngineSettings) -> None:
    adapters = [checkpoint(lab, iteration) for iteration in (20, 60, 120)]
    async with llama_opened.opened(lab / "base") as base:
        models: list[TextModel] = [base, *[await base.attach(adapter) for adapter in adapters]]
        alone = {(place, q): (await answer(models[place], q)).text for place in range(4) for q in QUESTIONS}
    assert len({alone[place, QUESTION] for place in range(4)}) > 2
    async with opened(lab / "base", settings) as base:
        await base.expect(adapters)
        models = [base, *[await base.attach(adapter) for adapter in adapters]]
        wanted = list(alone) * 9
        random.Random(5).shuffle(wanted)
        assert len(wanted) >= 100
        found = await asyncio.gather(*(answer(models[place], question) for place, question in wanted))
    assert [f.text for f in found] == [alone[key] for key in wanted]


async def test_an_adapter_under_any_name_can_be_attached(tiny: Path, tmp_path: Path, settings: EngineSettings) -> None:
    from assay.adapters.convert import mlx_to_gguf
    from assay.adapters.named import adapter_at

    folder = tmp_path / "a:1,b"
    folder.mkdir()
    made = write_adapter(folder, adapter_tensors(1))
    file = mlx_to_gguf(made, folder / "x:0,y.gguf", arch="llama", heads=4, kv_heads=2)
    async with opened(tiny, settings) as base:
        bare = await answer(base)
        texts = {(await answer(await base.attach(adapter))).text for adapter in (made, adapter_at(file))}
        assert len(texts) == 1
        assert bare.text not in texts


async def test_variables_of_llama_server_change_nothing(
    tiny: Path, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tiny, settings) as model:
        wanted = await model.render("hi"), (await answer(model)).text
    for name, value in {"CHAT_TEMPLATE": "chatml", "N_PREDICT": "1", "MODEL": "/nowhere.gguf", "PORT": "1"}.items():
        monkeypatch.setenv(f"LLAMA_ARG_{name}", value)
    async with opened(tiny, settings) as model:
        assert (await model.render("hi"), (await answer(model)).text) == wanted


async def test_the_spec_and_the_setting_lead_to_it(tiny: Path, settings: EngineSettings) -> None:
    model = await open_model(f"llama-server:{tiny}", settings)
    try:
        assert model.info.engine_version.startswith("llama-server ")
        assert (await answer(model)).usage.completion_tokens == 24
    finally:
        await model.aclose()


# The process


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


async def test_its_key_stands_in_no_command_line_and_it_listens_here_alone(
    tiny: Path, settings: EngineSettings
) -> None:
    before = set(family(os.getpid()))
    async with opened(tiny, settings) as model:
        ours = set(family(os.getpid())) - before
        assert len(ours) == 2
        key = server_of(model)._key
        assert not any(key in word for process in ours for word in process.cmdline())
        listening = [c.laddr.ip for p in ours for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
        assert listening == ["127.0.0.1"]
        server_of(model)._key = "wrong"
        with pytest.raises(GenerationError, match=r"(?i)api key"):
            await answer(model)
    assert not set(family(os.getpid())) - before


async def test_a_server_that_dies_is_one_answers_error_and_starts_anew(
    tiny: Path, tmp_path: Path, settings: EngineSettings
) -> None:
    async with opened(tiny, settings) as base:
        model = await base.attach(write_adapter(tmp_path, adapter_tensors(1)))
        before = await answer(model), await answer(base)
        asked = asyncio.create_task(answer(model, max_tokens=1900))
        await asyncio.sleep(0.05)
        for process in family(server_of(base)._process.pid):
            process.kill()
        with pytest.raises(EngineDied, match=r"llama-server ended \(killed by SIGKILL, as where memory runs out\)"):
            await asked
        assert [(await answer(m)).text for m in (model, base)] == [each.text for each in before]


async def test_behind_the_worker_a_new_child_has_it_all_anew(
    tiny: Path, tmp_path: Path, settings: EngineSettings
) -> None:
    base = await WorkerModel.open(f"llama-server:{tiny}", settings)
    try:
        model = await base.attach(write_adapter(tmp_path, adapter_tensors(1)))
        before = await answer(model)
        assert base.pid is not None
        (supervisor,) = family(base.pid)[:1]
        asked = asyncio.create_task(answer(model, max_tokens=1900))
        await asyncio.sleep(0.05)
        for process in supervisor.children():
            process.kill()
        with pytest.raises(EngineDied, match=r"llama-server ended \(killed by SIGKILL, as where memory runs out\)"):
            await asked
        assert (await answer(model)).text == before.text
        assert base.restarts == 1
    finally:
        await base.aclose()
    assert gone([supervisor])


PARENT = """
import os, signal, sys, time, psutil
from pathlib import Path
from assay.models.llama_cpp import open_on_llama_server
from assay.types import EngineSettings

engine = open_on_llama_server(sys.argv[1], EngineSettings(llama_server=sys.argv[2]))
print(*[process.pid for process in psutil.Process().children(recursive=True)], flush=True)
how = sys.argv[3]
if how == "raise":
    raise RuntimeError("on purpose")
if how == "wait":
    time.sleep(60)
"""


def gone(processes: list[psutil.Process], seconds: float = 20) -> bool:
    """Do they all end in time? Those that don't are ended here, lest a test that fails leaves them."""
    left = psutil.wait_procs(processes, timeout=seconds)[1]
    for process in left:
        process.kill()
    return not left


@pytest.mark.parametrize(
    ("how", "sent"),
    [
        ("end", None),
        ("raise", None),
        ("wait", signal.SIGTERM),
        ("wait", signal.SIGINT),
        ("wait", signal.SIGKILL),
    ],
)
def test_nothing_outlives_assay(tiny: Path, settings: EngineSettings, how: str, sent: int | None) -> None:
    assert settings.llama_server is not None
    called = [sys.executable, "-c", PARENT, str(tiny), settings.llama_server, how]
    with subprocess.Popen(called, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        left = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(left) == 2
        if sent is not None:
            parent.send_signal(sent)
        parent.wait(30)
    assert gone(left)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_nothing_outlives_assay_and_the_supervisor_killed_together(tiny: Path, settings: EngineSettings) -> None:
    assert settings.llama_server is not None
    called = [sys.executable, "-c", PARENT, str(tiny), settings.llama_server, "wait"]
    with subprocess.Popen(called, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        left = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        left[0].suspend()  # so that it can do nothing
        left[0].kill()
        parent.kill()
        parent.wait(30)
    assert gone(left)


async def test_a_supervisor_that_hangs_is_ended_with_its_server(
    tiny: Path, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_process, "_CLOSE_SECONDS", 0.3)
    async with opened(tiny, settings) as model:
        server = server_of(model)
        ours = [psutil.Process(server._process.pid), *family(server._process.pid)]
        ours[0].suspend()
    assert gone(ours)


# What can't be


def test_a_model_that_cannot_be_loaded_is_told_in_the_servers_words(
    tiny: Path, tmp_path: Path, settings: EngineSettings
) -> None:
    (tmp_path / "cut.gguf").write_bytes(tiny.read_bytes()[:-5000])
    (tmp_path / "odd.gguf").write_bytes(
        tiny.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lemma", 1)
    )
    before = set(family(os.getpid()))
    for name, reason in {"cut": "corrupted or incomplete", "odd": "unknown model architecture: 'lemma'"}.items():
        with pytest.raises(ModelError, match=rf"can't load .*{name}.gguf: .*exit code 1.*{reason}"):
            open_on_llama_server(str(tmp_path / f"{name}.gguf"), settings)
    assert not set(family(os.getpid())) - before


def test_a_server_that_never_listens_is_ended_at_its_deadline(tiny: Path, tmp_path: Path) -> None:
    loud = script(tmp_path / "loud", "yes the model is a large one")
    before = set(family(os.getpid()))
    for name, said in {
        loud: "it says: the model is a large one",
        script(tmp_path / "still", "exec sleep 60"): "says nothing",
    }.items():
        with pytest.raises(ModelError, match=f"has not loaded .*tiny.gguf in time; .*{said}"):
            ServerProcess([name], ServerSettings(tiny, 256, 1), seconds=0.5)
    time.sleep(0.1)
    assert not set(family(os.getpid())) - before


def test_a_server_that_ends_while_it_is_asked_for_its_health_is_told(tiny: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = f"listening on http://127.0.0.1:{port}"
    with pytest.raises(
        ModelError, match=r"can't load .*llama-server ended \(exit code 7\); it says: no memory: it failed"
    ):
        ServerProcess(
            [script(tmp_path / "brief", f"echo {said}; echo no memory: it failed; exit 7")],
            ServerSettings(tiny, 256, 1),
        )


async def test_a_script_that_runs_the_server_may_stand_before_it(tiny: Path, tmp_path: Path) -> None:
    before = set(family(os.getpid()))
    async with opened(tiny, EngineSettings(llama_server=program("stand-in", tmp_path, run="true;"))) as model:
        ours = set(family(os.getpid())) - before
        assert len(ours) == 3
        assert (await answer(model)).usage.completion_tokens == 24
    assert gone(list(ours), seconds=2)
