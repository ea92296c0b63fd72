"""MLX adapters as GGUF: names, shapes, values and what is refused. That llama.cpp answers right with them is tested there."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from assay.adapters.convert import mlx_to_gguf
from assay.adapters.files import base_shapes, read_adapter
from assay.adapters.gguf_header import gguf_files, read_gguf_header
from assay.adapters.gguf_names import gguf_shapes
from assay.errors import AdapterBroken, AdapterMismatch, DiskFault, ModelError
from assay.types import Adapter

CONFIG = '{"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 8, "scale": 10.0, "dropout": 0.0}}'


@pytest.fixture
def adapter(lab: Path) -> Adapter:
    folder = lab / "checkpoints"
    return read_adapter(folder / "0000100_adapters.safetensors", folder / "adapter_config.json")


def written(folder: Path, tensors: dict[str, np.ndarray]) -> Adapter:
    save_file(tensors, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text(CONFIG, encoding="utf-8")
    return read_adapter(folder / "adapters.safetensors", folder / "adapter_config.json")


def pair(module: str, *, into: int = 12, out: int = 16, dtype: type = np.float32) -> dict[str, np.ndarray]:
    random = np.random.default_rng(len(module))
    return {
        f"{module}.lora_a": random.standard_normal((into, 8)).astype(dtype),
        f"{module}.lora_b": random.standard_normal((8, out)).astype(dtype),
    }


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    return {t.name: t.data.reshape(tuple(reversed(t.shape.tolist()))) for t in GGUFReader(path).tensors}


def test_every_tensor_of_a_checkpoint_arrives_transposed(adapter: Adapter, tmp_path: Path) -> None:
    path = mlx_to_gguf(adapter, tmp_path / "new" / "a.gguf", arch="qwen2", heads=4, kv_heads=4)
    found, given = tensors_of(path), load_file(adapter.weights)
    assert len(found) == len(given) == len(adapter.tensors)
    block = next(key for key in given if "q_proj" in key).split(".")[2]
    for leaf in ("lora_a", "lora_b"):
        expected = given[f"model.layers.{block}.self_attn.q_proj.{leaf}"].T
        np.testing.assert_array_equal(found[f"blk.{block}.attn_q.weight.{leaf}"], expected)


def test_the_header_says_lora_and_the_scale(adapter: Adapter, tmp_path: Path) -> None:
    header = read_gguf_header(mlx_to_gguf(adapter, tmp_path / "a.gguf", arch="llama", heads=4, kv_heads=4))
    assert header.values["general.type"] == "adapter"
    assert header.values["adapter.type"] == "lora"
    assert header.architecture == "llama"
    assert header.values["adapter.lora.alpha"] == adapter.scale * adapter.rank


@pytest.mark.parametrize(("arch", "reordered"), [("llama", True), ("qwen3", False), ("gemma3", False)])
def test_only_llama_has_its_rotated_rows_reordered(arch: str, reordered: bool, tmp_path: Path) -> None:
    given: dict[str, np.ndarray] = {}
    for name in ("q", "k", "v", "o"):
        given |= pair(f"model.layers.0.self_attn.{name}_proj")
    found = tensors_of(mlx_to_gguf(written(tmp_path, given), tmp_path / "a.gguf", arch=arch, heads=4, kv_heads=2))
    for name, heads in (("q", 4), ("k", 2)):
        rows = given[f"model.layers.0.self_attn.{name}_proj.lora_b"].T
        size = 16 // heads
        order = [h * size + half * size // 2 + i for h in range(heads) for i in range(size // 2) for half in (0, 1)]
        np.testing.assert_array_equal(found[f"blk.0.attn_{name}.weight.lora_b"], rows[order] if reordered else rows)
    np.testing.assert_array_equal(
        found["blk.0.attn_v.weight.lora_b"], given["model.layers.0.self_attn.v_proj.lora_b"].T
    )


def test_half_precision_arrives_exactly(tmp_path: Path) -> None:
    given = pair("model.layers.1.mlp.up_proj", dtype=np.float16)
    found = tensors_of(mlx_to_gguf(written(tmp_path, given), tmp_path / "a.gguf", arch="llama", heads=1, kv_heads=1))
    for leaf in ("lora_a", "lora_b"):
        tensor = found[f"blk.1.ffn_up.weight.{leaf}"]
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, given[f"model.layers.1.mlp.up_proj.{leaf}"].T.astype(np.float32))


def test_bfloat16_arrives_exactly(tmp_path: Path) -> None:
    halves = {k: (v.view(np.uint32) >> 16).astype("<u2") for k, v in pair("model.layers.1.mlp.up_proj").items()}
    header, at = {}, 0
    for name, half in halves.items():  # by hand: numpy, and so safetensors.numpy, has no bfloat16
        header[name] = {"dtype": "BF16", "shape": half.shape, "data_offsets": [at, at + half.nbytes]}
        at += half.nbytes
    raw = json.dumps(header).encode()
    data = b"".join(half.tobytes() for half in halves.values())
    (tmp_path / "adapters.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    (tmp_path / "adapter_config.json").write_text(CONFIG, encoding="utf-8")
    adapter = read_adapter(tmp_path / "adapters.safetensors", tmp_path / "adapter_config.json")
    found = tensors_of(mlx_to_gguf(adapter, tmp_path / "a.gguf", arch="llama", heads=1, kv_heads=1))
    for name, half in halves.items():
        expected = (half.astype(np.uint32) << 16).view(np.float32).T
        np.testing.assert_array_equal(found[f"blk.1.ffn_up.weight.{name.rpartition('.')[2]}"], expected)


def test_all_layers_that_gguf_lacks_are_listed(tmp_path: Path) -> None:
    given = pair("model.layers.0.self_attn.q_proj") | pair("model.embed_norm") | pair("model.layers.1.mlp.gate")
    with pytest.raises(AdapterMismatch) as caught:
        mlx_to_gguf(written(tmp_path, given), tmp_path / "a.gguf", arch="llama", heads=4, kv_heads=2)
    assert {difference.partition(":")[0] for difference in caught.value.differences} == {
        "model.embed_norm.lora_a",
        "model.embed_norm.lora_b",
        "model.layers.1.mlp.gate.lora_a",
        "model.layers.1.mlp.gate.lora_b",
    }
    assert not (tmp_path / "a.gguf").exists()


def test_an_architecture_of_unknown_layout_is_refused(adapter: Adapter, tmp_path: Path) -> None:
    with pytest.raises(AdapterMismatch, match="'mamba'"):
        mlx_to_gguf(adapter, tmp_path / "a.gguf", arch="mamba", heads=4, kv_heads=4)


def test_a_file_that_changed_is_not_converted(tmp_path: Path) -> None:
    adapter = written(tmp_path, pair("model.layers.0.self_attn.q_proj"))
    written(tmp_path, pair("model.layers.0.self_attn.v_proj"))
    with pytest.raises(AdapterBroken, match="has changed"):
        mlx_to_gguf(adapter, tmp_path / "a.gguf", arch="llama", heads=4, kv_heads=2)
    assert not list(tmp_path.glob("*.gguf"))
    assert not list(tmp_path.glob(".convert-*"))


def test_a_full_disk_is_no_fault_of_the_adapter(adapter: Adapter, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, 8192):  # no room at all; room for a part
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(DiskFault, match=r"could not be converted in .*: make room there"):
                mlx_to_gguf(adapter, tmp_path / "full" / "a.gguf", arch="llama", heads=4, kv_heads=4)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "full").iterdir()) == []


def test_the_result_replaces_an_older_file(adapter: Adapter, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"old")
    mlx_to_gguf(adapter, tmp_path / "a.gguf", arch="llama", heads=4, kv_heads=4)
    assert len(tensors_of(tmp_path / "a.gguf")) == len(adapter.tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_without_gguf_the_error_says_what_to_install(
    adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"pip install 'assay\[llama\]'"):
        mlx_to_gguf(adapter, tmp_path / "a.gguf", arch="llama", heads=4, kv_heads=4)


def test_a_base_header_agrees_with_the_gguf_package(lab: Path) -> None:
    (path,) = (lab / "base").glob("*.gguf")
    header, reader = read_gguf_header(path), GGUFReader(path)
    assert header.shapes == {t.name: tuple(reversed(t.shape.tolist())) for t in reader.tensors}
    assert header.architecture == "llama"
    assert header.integer("attention.head_count") == 4
    assert header.integer("no.such.key") is None
    assert header.lengths["tokenizer.ggml.tokens"] == len(reader.fields["tokenizer.ggml.tokens"].data)
    assert header.values["tokenizer.chat_template"] == reader.fields["tokenizer.chat_template"].contents()
    layers = {name: shape for name, shape in base_shapes(path).items() if "layers" in name}
    assert layers.items() <= gguf_shapes(header.shapes).items()


@pytest.mark.parametrize("size", [0, 3, 30, 3000])
def test_a_short_gguf_file_is_named(lab: Path, tmp_path: Path, size: int) -> None:
    (path,) = (lab / "base").glob("*.gguf")
    (tmp_path / "short.gguf").write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"short\.gguf: not a"):
        read_gguf_header(tmp_path / "short.gguf")


def test_all_shards_of_a_split_model_are_found_or_missed(tmp_path: Path) -> None:
    files = [tmp_path / f"big-{n:05d}-of-00003.gguf" for n in (1, 2, 3)]
    files[0].touch()
    files[1].touch()
    with pytest.raises(ModelError, match="big-00003-of-00003"):
        gguf_files(files[0])
    files[2].touch()
    assert gguf_files(files[0]) == files
