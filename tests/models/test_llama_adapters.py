"""Adapters on the llama.cpp engine: right, apart from each other, swapped without a trace, and refused in time."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import psutil
import pytest

from assay.adapters.convert import mlx_to_gguf
from assay.adapters.files import read_adapter
from assay.adapters.gguf_header import read_gguf_header
from assay.adapters.named import adapter_at
from assay.errors import AdapterBroken, AdapterMismatch, GenerationError
from assay.models.base import TextModel
from assay.models.llama_cpp import LlamaCppEngine
from assay.models.local import LocalModel
from assay.types import Adapter, EngineSettings, Likelihood
from tests.adapters.test_gguf_lora import made
from tests.models.gguf_tiny import adapter_tensors, write_adapter, write_base
from tests.models.llama_opened import QUESTION, answer, opened


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def checkpoint(lab: Path, iteration: int) -> Adapter:
    folder = lab / "checkpoints"
    return read_adapter(folder / f"{iteration:07d}_adapters.safetensors", folder / "adapter_config.json")


async def test_an_adapter_answers_as_a_base_with_its_weights_merged_in(tiny: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path, adapter_tensors(1), scale=2.0)
    merged = write_base(tmp_path / "merged.gguf", merged=adapter.weights)
    async with opened(merged) as model:
        expected = await answer(model, logprobs=True)
    async with opened(tiny) as base:
        model_with = await base.attach(adapter)
        found, bare = await answer(model_with, logprobs=True), await answer(base, logprobs=True)
    assert found.text == expected.text != bare.text
    assert [t.id for t in found.tokens] == [t.id for t in expected.tokens]
    assert [t.logprob for t in found.tokens] == pytest.approx([t.logprob for t in expected.tokens], abs=2e-4)


async def test_texts_and_logprobs_agree_with_mlx(lab: Path) -> None:
    pytest.importorskip("mlx_lm")
    from assay.models.mlx import open_engine as open_mlx

    mlx = await LocalModel.open(lambda: open_mlx(str(lab / "base"), EngineSettings()), "mlx")
    async with opened(lab / "base") as base:
        try:
            for iteration in (0, 50, 120):
                ours: TextModel = base
                theirs: TextModel = mlx
                if iteration:
                    adapter = checkpoint(lab, iteration)
                    ours, theirs = await base.attach(adapter), await mlx.attach(adapter)
                for question in (QUESTION, "What is 3 + 4?"):
                    a, b = await answer(ours, question, logprobs=True), await answer(theirs, question, logprobs=True)
                    assert a.text == b.text
                    assert [t.id for t in a.tokens] == [t.id for t in b.tokens]
                    assert [t.logprob for t in a.tokens] == pytest.approx([t.logprob for t in b.tokens], abs=1e-4)
        finally:
            await mlx.aclose()


async def test_a_gguf_adapter_answers_as_the_one_that_it_was_made_of(lab: Path, tmp_path: Path) -> None:
    header = read_gguf_header(next((lab / "base").glob("*.gguf")))
    heads, kv_heads = header.integer("attention.head_count"), header.integer("attention.head_count_kv")
    assert heads is not None
    assert kv_heads is not None
    originals = [checkpoint(lab, iteration) for iteration in (20, 60, 120)]
    files = [
        mlx_to_gguf(o, tmp_path / f"{o.digest}.gguf", arch=header.architecture, heads=heads, kv_heads=kv_heads)
        for o in originals
    ]
    texts = set()
    async with opened(lab / "base") as base:
        await base.expect([*originals, *map(adapter_at, files)])
        for original, file in zip(originals, files, strict=True):
            wanted, given = await base.attach(original), await base.attach(adapter_at(file))
            for question in (QUESTION, "What is 3 + 4?"):
                a, b = await answer(wanted, question, logprobs=True), await answer(given, question, logprobs=True)
                assert (a.text, a.tokens) == (b.text, b.tokens)
                texts.add(a.text)
    assert len(texts) > 2
    assert all(file.is_file() for file in files), "what is not ours stays"


async def test_a_gguf_adapter_for_another_base_is_refused(tiny: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path, adapter_tensors(1))
    fits = mlx_to_gguf(adapter, tmp_path / "fits.gguf", arch="llama", heads=4, kv_heads=2)
    qwen = mlx_to_gguf(adapter, tmp_path / "qwen.gguf", arch="qwen2", heads=4, kv_heads=2)
    async with opened(tiny) as base:
        with pytest.raises(AdapterMismatch, match="for models of the architecture 'qwen2', and the base is of 'llama'"):
            await base.attach(adapter_at(qwen))
        with pytest.raises(AdapterMismatch, match=r"shape \(2, 32\), but the base wants \(2, 64\)"):
            await base.attach(adapter_at(made(tmp_path / "small.gguf")))
        assert (await answer(await base.attach(adapter_at(fits)))).text != (await answer(base)).text


async def test_a_resident_adapter_does_not_touch_the_base(tiny: Path, tmp_path: Path) -> None:
    async with opened(tiny) as base:
        before = await answer(base, logprobs=True)
        model = await base.attach(write_adapter(tmp_path, adapter_tensors(1)))
        assert (await answer(base, logprobs=True)).tokens == before.tokens
        assert (await answer(model)).text != before.text
        await model.aclose()
        assert (await answer(base, logprobs=True)).tokens == before.tokens


async def test_an_adapter_of_zeros_is_the_base(tiny: Path, tmp_path: Path) -> None:
    zeros = {name: np.zeros_like(t) if name.endswith("b") else t for name, t in adapter_tensors(1).items()}
    async with opened(tiny) as base:
        model = await base.attach(write_adapter(tmp_path, zeros))
        found, bare = await answer(model, logprobs=True), await answer(base, logprobs=True)
    assert found.tokens == bare.tokens
    assert found.text == bare.text


async def test_more_adapters_than_fit_take_turns_and_nothing_is_leaked(tiny: Path, tmp_path: Path) -> None:
    adapters = [write_adapter(tmp_path / str(seed), adapter_tensors(seed)) for seed in range(20)]
    process = psutil.Process()
    async with opened(tiny) as base:
        bare, threads = (await answer(base)).text, process.num_threads()
        first: list[str] = []
        for adapter in adapters * 2:
            model = await base.attach(adapter)
            first.append((await answer(model)).text)
            await model.aclose()
        assert first[:20] == first[20:]
        assert len({bare, *first}) == 21
        assert (await answer(base)).text == bare
        gc.collect()
        assert process.num_threads() <= threads
        kept = [await base.attach(adapter) for adapter in adapters[:16]]
        with pytest.raises(GenerationError, match="at most 16 adapters"):
            await base.attach(adapters[16])
        assert (await answer(kept[3])).text == first[3]


async def test_a_load_that_fails_brings_the_former_adapters_back(tiny: Path, tmp_path: Path) -> None:
    async with opened(tiny) as base:
        good = write_adapter(tmp_path / "good", adapter_tensors(1))
        model = await base.attach(good)
        before = (await answer(model)).text
        bad = write_adapter(tmp_path / "bad", adapter_tensors(2))
        engine = base._engine
        assert isinstance(engine, LlamaCppEngine)
        (engine._folder.path / f"{bad.digest}.gguf").write_bytes(b"GGUF, or so it says")
        with pytest.raises(AdapterBroken, match="can't be loaded"):
            await base.attach(bad)
        assert (await answer(model)).text == before


async def test_a_token_that_is_fainter_than_float32_can_say_is_no_number(tmp_path: Path) -> None:
    async with opened(write_base(tmp_path / "sharp.gguf", sharpness=40.0)) as model:
        told = [await likelihood(model, chr(letter)) for letter in range(ord("a"), ord("z") + 1)]
        found = [one.logprob for one in told if isinstance(one, Likelihood)]
        failed = [str(one) for one in told if not isinstance(one, Likelihood)]
        assert found
        assert failed
        assert min(found) >= -92
        assert all("llama.cpp can't tell from impossible" in said for said in failed)
        drawn = await answer(model, temperature=1e6, seed=1, max_tokens=12)
        assert drawn.usage.completion_tokens == 12, "an answer does not fail over it"


async def likelihood(model: LocalModel, text: str) -> Likelihood | GenerationError:
    try:
        return await model.loglikelihood(QUESTION, text)
    except GenerationError as error:
        return error
