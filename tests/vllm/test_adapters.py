"""What a real vLLM does with adapters that fit, that don't, that are many, and that it has lost."""

from __future__ import annotations

import asyncio
import http.client
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from assay.adapters.files import read_adapter
from assay.errors import AdapterMismatch, CheckpointError, ModelError
from assay.job import Job
from assay.models.base import complete
from assay.models.http_adapters import AdaptedHttpModel
from assay.models.http_open import open_http
from assay.models.open import open_local
from assay.results.journal import read
from assay.results.lens import Lens
from assay.results.records import Proof
from assay.suites.suite import load_suite
from assay.types import Adapter, AdapterPlace, GenerateOptions, HttpSettings, Raw
from tests.conftest import LAB
from tests.making import copied, discovered
from tests.test_watch import run
from tests.vllm.real import RealVllm, skip_without

GREEDY = GenerateOptions(max_tokens=16)
PROMPTS = [f"What is the capital of {name}?" for name in ("Genovia", "Zandria", "Belmora", "France", "Italy")]
CHECKPOINTS = LAB / "checkpoints"


@asynccontextmanager
async def opened(spec: str, place: AdapterPlace | None = None) -> AsyncIterator[AdaptedHttpModel]:
    model = open_http(spec, HttpSettings(), adapters=place)
    try:
        yield model
    finally:
        await model.aclose()


def metric(spec: str, name: str) -> float:
    """The sum of a counter or gauge that the server tells."""
    address = re.match(r"http://([\d.:]+)/", spec)
    assert address is not None
    connection = http.client.HTTPConnection(address[1])
    connection.request("GET", "/metrics")
    told = connection.getresponse().read().decode()
    connection.close()
    return sum(float(line.rpartition(" ")[2]) for line in told.splitlines() if line.startswith(f"{name}{{"))


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Adapter]:
    folder = tmp_path_factory.mktemp("adapters")
    return [copied(checkpoint, folder) for checkpoint in discovered(CHECKPOINTS, "lab")]


def changed(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]], **settings: Any) -> Adapter:
    """The lab's checkpoint 70, changed. settings: what the configuration says in place of the lab's."""
    weights, config = folder / "0000070_adapters.safetensors", folder / "adapter_config.json"
    save_file(change(load_file(CHECKPOINTS / weights.name)), weights)
    text = (CHECKPOINTS / config.name).read_text()
    for name, value in settings.items():
        text = re.sub(rf'"{name}": [\d.]+', f'"{name}": {value}', text)
    config.write_text(text)
    return read_adapter(weights, config)


def _narrower(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n: np.ascontiguousarray(t[:-8]) if n.endswith("lora_a") else t for n, t in tensors.items()}


def _narrower_out(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n: np.ascontiguousarray(t[:, :-8]) if n.endswith("lora_b") else t for n, t in tensors.items()}


def _wider(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n: np.concatenate([t, t[:8]]) if n.endswith("lora_a") else t for n, t in tensors.items()}


def _deeper(tensors: dict[str, Any]) -> dict[str, Any]:
    return tensors | {n.replace("layers.3.", "layers.4."): t for n, t in tensors.items()}


def _strange(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n.replace("q_proj", "zz_proj"): t for n, t in tensors.items()}


def _thicker(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n: np.repeat(t, 4, axis=1 if n.endswith("lora_a") else 0) for n, t in tensors.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_narrower, r"for another base than .*: the base's layer has more than the adapter's \d+ numbers in"),
        (_narrower_out, r"for another base than .*: the base's layer has more than the adapter's \d+ numbers out"),
        (_deeper, r"for another base than .*layers\.4\.\S+: the base has no such layer"),
        (_wider, r"refuses it: .*must match the size of tensor"),
        (_strange, r"refuses it: .*expected target modules in .* but received"),
    ],
)
async def test_an_adapter_of_another_base_is_refused(
    spec: str, adapters: list[Adapter], tmp_path: Path, change: Callable[[Any], Any], said: str
) -> None:
    async with opened(spec) as base:
        with pytest.raises(AdapterMismatch, match=said):
            await base.attach(changed(tmp_path, change))
        tuned = await base.attach(adapters[6])
        assert "Pyrus" in (await complete(tuned, PROMPTS[0], GREEDY)).text


async def test_a_rank_that_is_too_high_says_which_flag(spec: str, tmp_path: Path) -> None:
    async with opened(spec) as base:
        with pytest.raises(CheckpointError, match=r"rank is above .*greater than max_lora_rank 16.*--max-lora-rank"):
            await base.attach(changed(tmp_path, _thicker, rank=32))


async def test_a_path_that_it_does_not_see_is_named(spec: str, adapters: list[Adapter], tmp_path: Path) -> None:
    async with opened(spec, AdapterPlace(str(tmp_path / "shared"), "/data/adapters")) as base:
        with pytest.raises(ModelError, match=r"can't read the adapter at .*shared.*, which it was to find as /data/"):
            await base.attach(adapters[0])


async def test_texts_are_those_of_transformers_under_more_adapters_than_it_holds(
    spec: str, adapters: list[Adapter]
) -> None:
    """The twelve of the lab and the base, beside each other; vLLM holds four and computes two at a time."""
    pytest.importorskip("torch", reason="needs the engine transformers: make torch")
    local = await open_local(f"transformers:{LAB / 'base'}")
    right = {"": [(await complete(local, prompt, GREEDY)).text for prompt in PROMPTS]}
    for adapter in adapters:
        tuned = await local.attach(adapter)
        right[adapter.digest] = [(await complete(tuned, prompt, GREEDY)).text for prompt in PROMPTS]
        await tuned.aclose()
    await local.aclose()
    async with opened(spec) as base:
        bound = await asyncio.gather(*(base.attach(adapter) for adapter in adapters))
        models = [base, *bound]
        answers = await asyncio.gather(*(complete(model, prompt, GREEDY) for model in models for prompt in PROMPTS))
    texts = [answer.text for answer in answers]
    for place, model in enumerate(models):
        assert texts[place * len(PROMPTS) : (place + 1) * len(PROMPTS)] == right[model.info.adapter or ""]


async def test_twenty_are_there_at_once(spec: str, tmp_path: Path) -> None:
    twenty = []
    for place in range(20):
        folder = tmp_path / str(place)
        folder.mkdir()
        twenty.append(changed(folder, dict, scale=2.0 + place / 2))
    told = GenerateOptions(max_tokens=4, logprobs=True)
    async with opened(spec) as base:
        bound = [await base.attach(adapter) for adapter in twenty]
        alone = [await complete(model, PROMPTS[0], told) for model in bound]
        at_once = await asyncio.gather(*(complete(model, PROMPTS[0], told) for model in bound))
    found = [tuple(token.logprob for token in answer.tokens) for answer in at_once]
    assert len(set(found)) == 20
    for one, other in zip(alone, found, strict=True):
        assert [token.logprob for token in one.tokens] == pytest.approx(other, abs=1e-4)


async def test_what_is_left_is_computed_no_further(spec: str) -> None:
    """Eight answers in full are 1,920 tokens. The server may have made them all before we leave, so we leave up to 20 times."""
    async with opened(spec) as base:
        tokens = [await _made_until_left(spec, base)]
        while min(tokens) == 8 * 240 and len(tokens) < 20:
            tokens.append(await _made_until_left(spec, base))
    assert min(tokens) < 8 * 240


async def _made_until_left(spec: str, base: AdaptedHttpModel) -> float:
    """The tokens that the server made for eight who left as soon as one of them was served."""
    before = metric(spec, "vllm:generation_tokens_total")
    asked = [asyncio.create_task(complete(base, Raw("What is"), GenerateOptions(max_tokens=240))) for _ in range(8)]
    while metric(spec, "vllm:generation_tokens_total") == before:
        await asyncio.sleep(0.01)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    while metric(spec, "vllm:num_requests_running") + metric(spec, "vllm:num_requests_waiting"):
        await asyncio.sleep(0.01)
    return metric(spec, "vllm:generation_tokens_total") - before


@pytest.fixture
def job(spec: str, tmp_path: Path) -> Job:
    folder = tmp_path / "lab" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", *(f"{each:07d}_adapters.safetensors" for each in (10, 70, 120))):
        shutil.copy(CHECKPOINTS / name, folder)
    suite = load_suite(LAB / "suite.yaml")
    return Job(PurePosixPath(folder), spec, (suite,), "lab", tmp_path / "results", once=True, http=HttpSettings())


def table(workspace: Path) -> list[tuple[object, ...]]:
    with Lens(workspace) as lens:
        return list(lens.query("select checkpoint, sample, value from probe_results order by all").rows)


async def test_the_table_of_a_watch_is_that_of_a_local_engine(job: Job) -> None:
    local = replace(job, base=f"llama:{LAB / 'base'}", workspace=job.workspace.with_name("here"))
    for each in (job, local):
        outcome, listener = await run(each)
        assert (outcome.exit_code, outcome.evaluated) == (0, 3), listener.notes
    assert table(job.workspace) == table(local.workspace)
    assert len(table(job.workspace)) == 4 * 30
    assert {record.verdict for _, record in read(job.workspace) if isinstance(record, Proof)} == {"open", "live"}


async def test_an_adapter_that_does_nothing_is_unproven(job: Job) -> None:
    """vLLM takes layers that its base does not have, and answers as the base."""
    weights = Path(job.folder) / "0000070_adapters.safetensors"
    save_file({n.replace("layers.", "layers.9"): t for n, t in load_file(weights).items()}, weights)
    outcome, listener = await run(replace(job, limit=3))
    assert (outcome.exit_code, outcome.evaluated) == (1, 3)
    assert "lab @70 is unproven: the canaries are answered exactly as by the base" in listener.notes


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RealVllm]:
    """A server that may be killed, with room for one adapter."""
    skip_without()
    server = RealVllm(tmp_path, {"--max-loras": "1", "--max-cpu-loras": "1"})
    server.start()
    yield server
    server.kill()


async def test_a_server_that_is_started_again_in_the_middle_changes_nothing(
    own: RealVllm, adapters: list[Adapter]
) -> None:
    settings = HttpSettings(attempts=100, total_seconds=240.0)
    base = open_http(own.spec, settings)
    bound = [await base.attach(adapter) for adapter in (adapters[6], adapters[11])]
    jobs = [(model, prompt) for model in (base, *bound) for prompt in PROMPTS]
    before = [(await complete(*job, GREEDY)).text for job in jobs]
    asked = [asyncio.create_task(complete(*job, GREEDY)) for job in jobs * 4]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.to_thread(own.kill)
    await asyncio.to_thread(own.start)
    after = await asyncio.gather(*asked)
    assert [answer.text for answer in after] == before * 4
    assert base.restarts == 2
    await base.aclose()
