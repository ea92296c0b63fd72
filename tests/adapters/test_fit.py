"""Adapters against bases: every difference is listed, quantised and GGUF bases give their logical shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from assay.adapters.files import base_shapes, check_against
from assay.errors import AdapterMismatch, ModelError
from assay.types import Adapter, TensorSpec

Q = "model.layers.{}.self_attn.q_proj"


def adapter(shapes: dict[str, tuple[int, ...]], rank: int = 4, layers: int = -1) -> Adapter:
    return Adapter("d" * 64, Path("x"), rank, 1.0, layers, {n: TensorSpec(s, "F32") for n, s in shapes.items()})


def pair(module: str, into: int = 16, out: int = 24) -> dict[str, tuple[int, ...]]:
    return {f"{module}.lora_a": (into, 4), f"{module}.lora_b": (4, out)}


BASE: dict[str, tuple[int, ...]] = {f"{Q.format(i)}.weight": (24, 16) for i in range(4)}


def test_a_fitting_adapter_passes() -> None:
    every = {name: shape for layer in range(4) for name, shape in pair(Q.format(layer)).items()}
    check_against(adapter(every), BASE)
    last = {**pair(Q.format(2)), **pair(Q.format(3))}
    check_against(adapter(last, layers=2), BASE)


def test_a_layer_that_lacks_what_others_have_is_missed() -> None:
    with pytest.raises(AdapterMismatch) as caught:
        check_against(adapter({**pair(Q.format(1)), **pair(Q.format(3))}, layers=3), BASE)
    assert caught.value.differences == (
        f"{Q.format(2)}.lora_a: missing, though other layers have theirs",
        f"{Q.format(2)}.lora_b: missing, though other layers have theirs",
    )


def test_embeddings_and_experts() -> None:
    base = {"model.embed_tokens.weight": (100, 16), "e.switch_mlp.up_proj.weight": (8, 32, 16)}
    experts = {"e.switch_mlp.up_proj.lora_a": (8, 4, 16), "e.switch_mlp.up_proj.lora_b": (8, 32, 4)}
    check_against(adapter({**pair("model.embed_tokens", 100, 16), **experts}), base)
    with pytest.raises(AdapterMismatch):
        check_against(adapter(pair("model.embed_tokens", 16, 100)), base)


def test_all_differences_are_listed() -> None:
    wrong = {f"{Q.format(0)}.lora_a": (32, 4), f"{Q.format(0)}.lora_b": (4, 24)}
    rest = {name: shape for layer in range(1, 6) for name, shape in pair(Q.format(layer)).items()}
    with pytest.raises(AdapterMismatch) as caught:
        check_against(adapter({**wrong, **rest}), BASE)
    assert caught.value.differences == (
        f"{Q.format(0)}.lora_a: shape (32, 4), but the base wants (16, 4)",
        f"{Q.format(4)}.lora_a: names no layer of the base",
        f"{Q.format(4)}.lora_b: names no layer of the base",
        f"{Q.format(5)}.lora_a: names no layer of the base",
        f"{Q.format(5)}.lora_b: names no layer of the base",
    )
    message = str(caught.value)
    assert "5 differences in 12 tensors" in message
    assert "(32, 4)" in message
    assert message.endswith("and 2 more")
    assert "\n" not in message


def test_an_adapter_of_another_model_matches_nothing() -> None:
    with pytest.raises(AdapterMismatch, match="none of the adapter's 4 tensors") as caught:
        check_against(adapter({**pair("transformer.h.0.attn"), **pair("transformer.h.1.attn")}), BASE)
    assert len(caught.value.differences) == 4


def base_folder(folder: Path, tensors: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {}))
    return folder


def test_shapes_of_plain_and_sharded_bases(tmp_path: Path) -> None:
    q, norm = np.zeros((24, 16), np.float16), np.ones(16, np.float16)
    plain = base_folder(tmp_path / "plain", {f"{Q.format(0)}.weight": q, "model.norm.weight": norm})
    assert base_shapes(plain) == {f"{Q.format(0)}.weight": (24, 16)}
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    for i in (1, 2):
        save_file({f"{Q.format(i)}.weight": q}, sharded / f"model-0000{i}-of-00002.safetensors")
    index = {"weight_map": {f"{Q.format(i)}.weight": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    assert base_shapes(sharded) == {f"{Q.format(1)}.weight": (24, 16), f"{Q.format(2)}.weight": (24, 16)}
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="1 of 2 shards are missing, first model-00002"):
        base_shapes(sharded)


def test_quantised_bases_give_logical_shapes(tmp_path: Path) -> None:
    import mlx.core as mx

    tensors: dict[str, Any] = {}
    quantization: dict[str, Any] = {"group_size": 32, "bits": 4, "mode": "affine"}
    for i, bits in enumerate((4, 8, 3, 6)):
        packed = mx.quantize(mx.random.normal((24, 64)), group_size=32, bits=bits)
        for name, array in zip(("weight", "scales", "biases"), packed, strict=True):
            tensors[f"{Q.format(i)}.{name}"] = np.array(array)
        if bits != 4:
            quantization[Q.format(i)] = {"group_size": 32, "bits": bits}
    folder = base_folder(tmp_path / "base", tensors, {"quantization": quantization})
    assert base_shapes(folder) == {f"{Q.format(i)}.weight": (24, 64) for i in range(4)}
    base_folder(folder, tensors, {})
    with pytest.raises(ModelError, match="how many bits"):
        base_shapes(folder)


def test_gguf_bases(tmp_path: Path) -> None:
    import gguf

    folder = tmp_path / "gguf"
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "base.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.zeros((100, 64), np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((32, 64), np.float32))
    writer.add_tensor("blk.0.attn_norm.weight", np.zeros((64,), np.float32))
    half = gguf.quants.quantize(np.zeros((96, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.11.ffn_down.weight", half, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = {
        "model.embed_tokens.weight": (100, 64),
        "model.layers.0.self_attn.q_proj.weight": (32, 64),
        "model.layers.11.mlp.down_proj.weight": (96, 64),
    }
    assert base_shapes(folder) == base_shapes(folder / "base.gguf")
    assert {k: v for k, v in base_shapes(folder).items() if k.startswith("model.")} == expected


def test_bases_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        base_shapes(tmp_path / "absent")
    with pytest.raises(ModelError, match="neither safetensors nor GGUF"):
        base_shapes(tmp_path)
    (tmp_path / "x.gguf").write_bytes(b"nonsense, not a model")
    with pytest.raises(ModelError, match="not a GGUF file"):
        base_shapes(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ModelError, match="damaged"):
        base_shapes(tmp_path)
