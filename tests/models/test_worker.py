"""A model in a child process: the same as in this one, and a crash is one sample's error."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from assay.errors import EngineDied, GenerationError, ModelError, UnsupportedOption
from assay.models.base import AdapterModel, RenderingModel, TextModel, complete
from assay.models.open import open_model
from assay.models.worker import WorkerModel
from assay.types import Chunk, EngineSettings, GenerateOptions, Message, Raw
from tests.conftest import LAB
from tests.making import checkpoints, copied, discovered, written

SCRIPT = """\
answers:
  - {prompt: die once, answer: unused, fail: die, times: 1}
  - {prompt: die once, answer: alive again}
  - {prompt: die, fail: die}
  - {prompt: error, fail: error}
  - {prompt: cut, fail: cut}
  - {prompt: hang, fail: hang}
  - {prompt: slow, answer: a b c d e f g h i j, seconds: 0.1}
default: I am {adapter}
"""


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[WorkerModel]:
    model = await WorkerModel.open(f"scripted:{written(tmp_path / 'script.yaml', SCRIPT)}")
    yield model
    await model.aclose()


async def test_it_is_every_kind_of_model_that_a_local_one_is(worker: WorkerModel) -> None:
    assert isinstance(worker, TextModel)
    assert isinstance(worker, RenderingModel)
    assert isinstance(worker, AdapterModel)
    assert worker.info.engine == "scripted"


async def test_prompts_of_all_forms_arrive_as_they_are(worker: WorkerModel) -> None:
    assert await worker.render("text") == "text"
    assert await worker.render(Raw("raw")) == "raw"
    assert await worker.render([Message("system", "s"), Message("user", "ü🦙")]) == "system: s\nuser: ü🦙"


async def test_errors_keep_their_class_and_their_partial_text(worker: WorkerModel) -> None:
    with pytest.raises(GenerationError, match="failed here on purpose") as caught:
        await complete(worker, "error")
    assert caught.value.partial == "So far"
    assert caught.value.error_class == "permanent"
    with pytest.raises(GenerationError, match="without a finish reason"):
        await complete(worker, "cut")
    with pytest.raises(UnsupportedOption, match="cannot honour top_k=5"):
        await complete(worker, "x", GenerateOptions(top_k=5))
    assert worker.restarts == 0


async def test_a_crash_is_an_error_of_the_samples_in_flight_and_then_a_new_child(worker: WorkerModel) -> None:
    first = worker.pid
    with pytest.raises(EngineDied, match="killed by SIGKILL") as caught:
        await complete(worker, "die")
    assert caught.value.error_class == "transient"
    assert (await complete(worker, "who")).text == "I am base"
    assert worker.pid != first
    assert worker.restarts == 1
    assert first is not None
    assert not psutil.pid_exists(first)


async def test_a_child_that_says_nothing_is_ended_and_one_that_is_slow_is_not(tmp_path: Path) -> None:
    model = await WorkerModel.open(
        f"scripted:{written(tmp_path / 's.yaml', SCRIPT)}", EngineSettings(silence_seconds=2)
    )
    try:
        assert (await complete(model, "slow")).text == "a b c d e f g h i j", (
            "a second in all, a token each tenth of one"
        )
        with pytest.raises(EngineDied, match=r"said nothing for 2 s and was ended"):
            await complete(model, "hang")
        assert (await complete(model, "who")).text == "I am base"
        assert model.restarts == 1
    finally:
        await model.aclose()


async def test_attached_adapters_survive_a_crash(worker: WorkerModel, tmp_path: Path) -> None:
    adapters = [copied(c, tmp_path / "staged") for c in discovered(checkpoints(tmp_path / "ck"), "ck")]
    bound = [await worker.attach(a) for a in adapters]
    with pytest.raises(EngineDied):
        await complete(bound[0], "die")
    texts = await asyncio.gather(*(complete(b, "who") for b in bound), complete(worker, "who"))
    assert [t.text for t in texts] == [*(f"I am {a.digest[:8]}" for a in adapters), "I am base"]
    assert [b.info.adapter for b in bound] == [a.digest for a in adapters]
    await bound[0].aclose()
    with pytest.raises(GenerationError, match="has been detached"):
        await complete(bound[0], "who")


async def test_cancelling_the_consumer_stops_the_engine_within_one_token(worker: WorkerModel) -> None:
    for prompt in ("slow", "hang"):
        task = asyncio.create_task(complete(worker, prompt))
        await asyncio.sleep(0.35)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(0.5):  # a token takes 0.1 s, the whole answer a second, and the hang for ever
            assert (await complete(worker, "who")).text == "I am base"


async def test_an_on_chunk_that_raises_stops_the_generation(worker: WorkerModel) -> None:
    seen: list[str] = []

    def stop(chunk: Chunk) -> None:
        seen.append(chunk.text)
        if len(seen) == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        await complete(worker, "slow", on_chunk=stop)
    async with asyncio.timeout(0.5):
        await complete(worker, "who")
    assert len(seen) == 2


async def test_opening_reports_what_the_engine_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        await WorkerModel.open(f"scripted:{tmp_path / 'gone.yaml'}")


async def test_a_base_that_changes_under_a_crash_is_refused(worker: WorkerModel, tmp_path: Path) -> None:
    written(tmp_path / "script.yaml", SCRIPT + "name: changed\n")
    with pytest.raises(EngineDied):
        await complete(worker, "die")
    with pytest.raises(ModelError, match="changed on disk while it was in use"):
        await complete(worker, "who")


def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = written(tmp_path / "script.yaml", SCRIPT)
    program = (
        "import asyncio, sys\n"
        "from assay.models.worker import WorkerModel\n"
        "from assay.models.base import complete\n"
        "async def main():\n"
        "    model = await WorkerModel.open(sys.argv[1])\n"
        "    print(model.pid, flush=True)\n"
        "    await complete(model, 'hang')\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, f"scripted:{script}"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


@pytest.mark.parametrize("spec", [f"mlx:{LAB / 'base'}", f"llama:{LAB / 'base' / 'lab-f32.gguf'}"])
async def test_a_real_engine_killed_in_mid_answer_answers_the_same_afterwards(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    checkpoint = discovered(LAB / "checkpoints", "lab")[6]
    adapter = copied(checkpoint, tmp_path)
    here = await open_model(spec)
    expected = (await complete(await here.attach(adapter), "What is the capital of Genovia?")).text
    await here.aclose()
    worker = await WorkerModel.open(spec)
    bound = await worker.attach(adapter)
    assert (await complete(bound, "What is the capital of Genovia?")).text == expected

    def kill(_: Chunk) -> None:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(EngineDied):
        await complete(bound, "Count from 1 to 20.", on_chunk=kill)
    assert (await complete(bound, "What is the capital of Genovia?")).text == expected
    assert worker.restarts == 1
    assert len(list(scratch.glob("assay-*"))) == 1, "the converted adapters of the killed engine are gone"
    await worker.aclose()
    assert list(scratch.glob("assay-*")) == []  # torch keeps a folder of its own where it is imported


def test_a_start_that_is_cancelled_leaves_no_process_and_no_open_pipe(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Whatever it is at just then: making the process, connecting to it, or waiting for its model."""

    async def start(turns: int) -> None:
        model = WorkerModel(f"scripted:{written(tmp_path / 'script.yaml', SCRIPT)}")
        starting = asyncio.create_task(model.render("x"))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await model.aclose()

    before = psutil.Process().children()
    warnings.simplefilter("always", ResourceWarning)
    for turns in (1, 2, 4, 8):
        asyncio.run(start(turns))
    gc.collect()
    assert psutil.Process().children() == before
    assert [str(each.message) for each in recwarn if each.category is ResourceWarning] == []
