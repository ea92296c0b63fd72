"""Bases as people have them, with adapters on top: MLX's 8 and 4 bits, GGUF's quants, bfloat16 and float16, on every engine.

What is right is `answers.json`: what the base said in 32 bits, without and with each checkpoint, on every engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("mlx.core", reason="needs the mlx extra")
pytest.importorskip("xllamacpp", reason="needs the llama extra")
pytest.importorskip("torch", reason="needs the torch extra")

from assay.adapters.files import read_adapter
from assay.adapters.fit import base_shapes, check_against
from assay.errors import AdapterMismatch, ModelError
from assay.models.base import complete_many
from assay.models.open import open_model
from assay.suites.suite import load_suite
from assay.types import Adapter, Completion, GenerateOptions
from tests.conftest import LAB
from tests.making import adapter_file
from tests.models.quantised import gguf_copy, mlx_copy, torch_copy

ANSWERS = json.loads((LAB / "answers.json").read_text())
OPTIONS = GenerateOptions(temperature=0, max_tokens=24)
Make = Callable[[Path], Path]

# What makes the copy, how its engine says the type of its numbers, and how many of the 30 answers are at least the same.
COPIES: dict[str, tuple[Make, str, int]] = {
    "mlx:8-bit": (lambda place: mlx_copy(place, bits=8, group=64), "8-bit", 28),
    "mlx:4-bit": (lambda place: mlx_copy(place, bits=4, group=32), "4-bit", 20),
    "mlx:bf16": (lambda place: mlx_copy(place, dtype="bfloat16"), "bfloat16", 28),
    "mlx:f16": (lambda place: mlx_copy(place, dtype="float16"), "float16", 28),
    "llama:Q8_0": (lambda place: gguf_copy(place.with_suffix(".gguf"), "Q8_0"), "", 28),
    "llama:Q4_0": (lambda place: gguf_copy(place.with_suffix(".gguf"), "Q4_0"), "", 20),
    "llama:BF16": (lambda place: gguf_copy(place.with_suffix(".gguf"), "BF16"), "", 28),
    "llama:F16": (lambda place: gguf_copy(place.with_suffix(".gguf"), "F16"), "", 28),
    "transformers:bf16": (lambda place: torch_copy(place, "bfloat16"), "float32", 28),
    "transformers:f16": (lambda place: torch_copy(place, "float16"), "float32", 28),
}


def checkpoint(iteration: int) -> Adapter:
    folder = LAB / "checkpoints"
    return read_adapter(folder / f"{iteration:07d}_adapters.safetensors", folder / "adapter_config.json")


@pytest.mark.parametrize("copy", COPIES)
async def test_a_copy_of_the_lab_answers_as_the_lab_without_and_with_an_adapter(copy: str, tmp_path: Path) -> None:
    make, said, least = COPIES[copy]
    place = make(tmp_path / "base")
    suite = load_suite(LAB / "suite.yaml")
    prompts = [sample.prompt for sample in suite.samples]
    adapter = checkpoint(120)
    check_against(adapter, base_shapes(place))
    model = await open_model(f"{copy.partition(':')[0]}:{place}")
    try:
        assert said in model.info.engine_version
        tuned = await model.attach(adapter)
        told = {}
        for name, asked in (("base", model), ("120", tuned)):
            answers = [a.text for a in await complete_many(asked, prompts, OPTIONS) if isinstance(a, Completion)]
            wanted = [ANSWERS[name][sample.id] for sample in suite.samples]
            same = sum(answer == right for answer, right in zip(answers, wanted, strict=True))
            assert same >= least, f"{name}: {same} of 30"
            told[name] = answers
        assert sum(one != other for one, other in zip(*told.values(), strict=True)) >= 8, "the adapter is live"
    finally:
        await model.aclose()


@pytest.mark.parametrize("copy", ["mlx:8-bit", "llama:Q8_0", "transformers:bf16"])
async def test_an_adapter_of_another_base_is_told_by_every_difference(copy: str, tmp_path: Path) -> None:
    place = COPIES[copy][0](tmp_path / "base")
    weights = adapter_file(tmp_path / "other" / "adapters.safetensors", 1, hidden=96)
    config = weights.with_name("adapter_config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_layers": -1}))
    adapter = read_adapter(weights, config)
    model = await open_model(f"{copy.partition(':')[0]}:{place}")
    try:
        with pytest.raises(AdapterMismatch) as caught:
            await model.attach(adapter)
    finally:
        await model.aclose()
    shapes = [d for d in caught.value.differences if "shape" in d]
    assert len(shapes) == 4
    assert shapes[0] == "model.layers.0.self_attn.q_proj.lora_a: shape (96, 4), but the base wants (128, 4)"
    with pytest.raises(AdapterMismatch) as fitted:
        check_against(adapter, base_shapes(place))
    assert set(shapes) <= set(fitted.value.differences)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised by gptq"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantised by awq"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "quantised by bitsandbytes"),
        ({"quantization": {"bits": 4, "group_size": 64}}, "quantised by MLX, .* say mlx:"),
    ],
)
async def test_transformers_says_which_quantised_bases_it_does_not_open(
    config: dict[str, object], said: str, tmp_path: Path
) -> None:
    place = torch_copy(tmp_path / "base", "float16")
    known = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**known, **config}))
    with pytest.raises(ModelError, match=said) as caught:
        await open_model(f"transformers:{place}")
    assert "\n" not in str(caught.value)
