"""PEFT's files, read as the adapter that they are: against the product that PEFT itself defines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from assay.adapters.files import read_adapter, staged
from assay.adapters.named import adapter_at
from assay.errors import AdapterBroken, BadInput
from tests.making import copied, discovered

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "base_model_name_or_path": "org/base"}


def write(folder: Path, config: dict[str, Any] | None = None, layers: tuple[int, ...] = (0, 1), **tensors: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    stored = {}
    for layer in layers:
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        stored[f"{name}.lora_A.weight"] = random.normal(size=(4, 16)).astype(np.float32)
        stored[f"{name}.lora_B.weight"] = random.normal(size=(24, 4)).astype(np.float32)
    stored.update(tensors)
    save_file(stored, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    return folder


@pytest.mark.parametrize(("rslora", "scale"), [(False, 2.0), (True, 4.0)])
def test_it_is_the_same_product_scaled_as_peft_scales_it(tmp_path: Path, rslora: bool, scale: float) -> None:
    folder = write(tmp_path / "run" / "checkpoint-100", {"use_rslora": rslora})
    [checkpoint] = discovered(tmp_path / "run", None)
    assert (checkpoint.label, checkpoint.iteration, checkpoint.layout) == ("run @100", 100, "peft")
    adapter = copied(checkpoint, tmp_path / "staged")
    assert (adapter.rank, adapter.scale, adapter.layers) == (4, scale, -1)
    theirs, ours = load_file(folder / "adapter_model.safetensors"), load_file(adapter.weights)
    for layer in (0, 1):
        name = f"model.layers.{layer}.self_attn.q_proj"
        a, b = (theirs[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        np.testing.assert_array_equal((ours[f"{name}.lora_a"] @ ours[f"{name}.lora_b"]).T, b @ a)
    assert read_adapter(adapter.weights, adapter.weights.parent / "adapter_config.json").digest == adapter.digest


def test_one_that_is_named_by_its_folder_is_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path / "run" / "checkpoint-100")
    [checkpoint] = discovered(tmp_path / "run", None)
    before = sorted((path.name, path.read_bytes()) for path in folder.iterdir())
    assert adapter_at(folder).digest == copied(checkpoint, tmp_path / "staged").digest
    assert sorted((path.name, path.read_bytes()) for path in folder.iterdir()) == before


def test_the_last_blocks_alone_may_be_adapted(tmp_path: Path) -> None:
    write(tmp_path / "run" / "checkpoint-5", layers=(2, 3))
    [checkpoint] = discovered(tmp_path / "run", None)
    assert copied(checkpoint, tmp_path / "staged").layers == 2


def test_half_precision_is_kept_bit_for_bit(tmp_path: Path) -> None:
    half = np.arange(64, dtype=np.float16).reshape(4, 16)
    write(tmp_path / "run" / "checkpoint-5", layers=(), **{
        "base_model.model.lm_head.lora_A.weight": half, "base_model.model.lm_head.lora_B.weight": half.reshape(16, 4),
    })  # fmt: skip
    [checkpoint] = discovered(tmp_path / "run", None)
    stored = load_file(copied(checkpoint, tmp_path / "staged").weights)
    np.testing.assert_array_equal(stored["lm_head.lora_a"], half.T)
    assert stored["lm_head.lora_a"].dtype == np.float16


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (
            {"use_dora": True},
            "uses use_dora, .* merge it into its base with PEFT's merge_and_unload, and name what is saved",
        ),
        ({"modules_to_save": ["lm_head"], "bias": "all"}, "uses modules_to_save, bias"),
        ({"peft_type": "IA3"}, "'IA3' is not supported"),
        ({"r": 0}, "r must be a positive whole number"),
        ({"lora_alpha": "much"}, "lora_alpha must be a number"),
        ({"rank_pattern": {"q_proj": 2}}, "has the rank 4, and the configuration says 2"),
        ({"init_lora_weights": "pissa_niter_4"}, "uses init_lora_weights 'pissa_niter_4'"),
    ],
)
def test_what_it_can_not_be_is_said_by_name(tmp_path: Path, config: dict[str, Any], match: str) -> None:
    write(tmp_path / "run" / "checkpoint-1", config)
    [checkpoint] = discovered(tmp_path / "run", None)
    with pytest.raises(AdapterBroken, match=match):
        copied(checkpoint, tmp_path / "staged")


def test_a_tensor_that_is_no_lora_is_named(tmp_path: Path) -> None:
    extra = {"base_model.model.model.norm.lora_embedding_C": np.zeros((4, 4), np.float32)}
    write(tmp_path / "run" / "checkpoint-1", **extra)
    [checkpoint] = discovered(tmp_path / "run", None)
    with pytest.raises(AdapterBroken, match="lora_embedding_C is no part of a LoRA"):
        copied(checkpoint, tmp_path / "staged")


def test_dora_is_told_by_its_tensors_as_well(tmp_path: Path) -> None:
    extra = {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector": np.ones(24, np.float32)}
    folder = write(tmp_path / "run" / "checkpoint-1", **extra)
    with pytest.raises(
        BadInput, match=r"lora_magnitude_vector is no part of a LoRA .*, but of DoRA: merge it into its base"
    ):
        adapter_at(folder)


def test_modules_that_differ_are_copied_with_the_rank_and_scale_of_each(tmp_path: Path) -> None:
    theirs = write(tmp_path / "run" / "checkpoint-1", {"alpha_pattern": {"layers.1.self_attn.q_proj": 2}})
    [checkpoint] = discovered(tmp_path / "run", None)
    adapter = copied(checkpoint, tmp_path / "staged")
    assert (adapter.rank, adapter.scale) == (4, 2.0)
    assert adapter.own == {"model.layers.1.self_attn.q_proj": (4, 0.5)}
    assert adapter.digest == adapter_at(theirs).digest
    assert staged(tmp_path / "staged", adapter.digest) == adapter
    config = adapter.weights.with_name("adapter_config.json")
    made = json.loads(config.read_text())
    assert not made["lora_parameters"].keys() & {"rank", "scale"}  # which mlx-lm would take for those of all
    del made["lora_parameters"]["modules"]["model.layers.0.self_attn.q_proj"]
    config.write_text(json.dumps(made))
    with pytest.raises(AdapterBroken, match="names other modules than"):
        read_adapter(adapter.weights, config)
    assert staged(tmp_path / "staged", adapter.digest) is None
