"""Adapter files: whole ones are read and digested, every kind of damage is named, copies can't be changed."""

from __future__ import annotations

import json
import os
import re
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from assay.adapters.files import read_adapter, read_header
from assay.errors import AdapterBroken, NotReady
from assay.types import Checkpoint, TensorSpec
from tests.making import copied

CONFIG: dict[str, Any] = {
    "fine_tune_type": "lora",
    "num_layers": 2,
    "lora_parameters": {"rank": 4, "scale": 10, "dropout": 0.0},
}


def tensors(seed: int = 0, rank: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    result = {}
    for layer in (0, 1):
        name = f"model.layers.{layer}.self_attn.q_proj"
        result[f"{name}.lora_a"] = rng.standard_normal((16, rank)).astype(np.float32)
        result[f"{name}.lora_b"] = rng.standard_normal((rank, 24)).astype(np.float16)
    return result


def write(folder: Path, seed: int = 0, config: dict[str, Any] | None = None) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    weights, beside = folder / "0000010_adapters.safetensors", folder / "adapter_config.json"
    save_file(tensors(seed), weights)
    beside.write_text(json.dumps(CONFIG if config is None else config))
    return weights, beside


def checkpoint(weights: Path, config: Path) -> Checkpoint:
    stat = weights.stat()
    return Checkpoint("run", 10, weights, config, stat.st_size, stat.st_mtime_ns)


def raw_file(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(first: int, last: int, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


def test_header_is_what_the_library_wrote(tmp_path: Path) -> None:
    weights, _ = write(tmp_path)
    header = read_header(weights)
    assert header == {
        name: TensorSpec(array.shape, {"float32": "F32", "float16": "F16"}[str(array.dtype)])
        for name, array in load_file(weights).items()
    }


def test_every_truncation_is_not_ready_and_growth_is_broken(tmp_path: Path) -> None:
    weights, _ = write(tmp_path)
    whole = weights.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size in [*range(12), 100, len(whole) // 2, len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(NotReady, match=re.escape(str(cut))):
            read_header(cut)
    cut.write_bytes(whole + b"\0")
    with pytest.raises(AdapterBroken, match=f"{len(whole) + 1} bytes long"):
        read_header(cut)
    with pytest.raises(NotReady, match="not there"):
        read_header(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        (b"{nonsense}", b"", "not JSON"),
        (b"[1, 2]", b"", "not a JSON object"),
        (b'{"a": \xff}', b"", "not JSON"),
        (b'{"a": 1, "a": 2}', b"", "twice"),
        ({"a": {"dtype": "F32"}}, b"", "not a dtype"),
        ({"a": entry(0, 8, dtype="F99")}, bytes(8), "unknown type 'F99'"),
        ({"a": entry(0, 8, shape=(-2,))}, bytes(8), "impossible shape"),
        ({"a": entry(0, 4)}, bytes(4), "can't lie"),
        ({"a": entry(8, 0)}, bytes(8), "can't lie"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), "begins at 4, where 8"),
        ({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20), "begins at 12, where 8"),
        ({"a": entry(4, 12)}, bytes(12), "begins at 4, where 0"),
    ],
)
def test_headers_that_contradict_themselves_are_broken(tmp_path: Path, header: Any, data: bytes, says: str) -> None:
    with pytest.raises(AdapterBroken, match=says):
        read_header(raw_file(tmp_path / "bad.safetensors", header, data))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04" + bytes(40), "pickled"),
        (b"\x80\x02}q\x00." + bytes(40), "pickled"),
        (bytes(40), "length of 0 bytes"),
        (b"\xff" * 40, "claims a length"),
        (b"<!DOCTYPE html><html></html>", "claims a length"),
    ],
)
def test_other_files_are_broken(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterBroken, match=says):
        read_header(path)


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_looks_like_a_pickles_first_bytes_is_read(tmp_path: Path, length: int) -> None:
    path = raw_file(tmp_path / "x.safetensors", json.dumps({"a": entry(0, 8)}).encode().ljust(length), bytes(8))
    assert path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    assert list(read_header(path)) == ["a"]


def test_metadata_and_empty_tensors_are_fine(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "mlx"}, "a": entry(0, 0, shape=(0, 3)), "b": entry(0, 8)}
    assert read_header(raw_file(tmp_path / "x.safetensors", header, bytes(8))) == {
        "a": TensorSpec((0, 3), "F32"),
        "b": TensorSpec((2,), "F32"),
    }


def test_adapter_is_read(tmp_path: Path) -> None:
    adapter = read_adapter(*write(tmp_path, config={**CONFIG, "optimizer": "adam", "unheard_of": {"x": 1}}))
    assert (adapter.rank, adapter.scale, adapter.layers) == (4, 10.0, 2)
    assert adapter.tensors["model.layers.1.self_attn.q_proj.lora_b"] == TensorSpec((4, 24), "F16")
    assert re.fullmatch("[0-9a-f]{64}", adapter.digest)


def test_digest_depends_on_tensors_scale_and_rank_only(tmp_path: Path) -> None:
    first = read_adapter(*write(tmp_path / "a")).digest
    weights, config = write(tmp_path / "b", config={**CONFIG, "iters": 999})
    # The same tensors in another order and with other metadata: another file, the same adapter.
    shuffled = raw_file(tmp_path / "c.safetensors", *_reordered(weights))
    assert shuffled.read_bytes() != weights.read_bytes()
    assert {read_adapter(weights, config).digest, read_adapter(shuffled, config).digest} == {first}
    other_scale = {**CONFIG, "lora_parameters": {"rank": 4, "scale": 10.5}}
    others = {
        read_adapter(*write(tmp_path / "d", seed=1)).digest,
        read_adapter(*write(tmp_path / "e", config=other_scale)).digest,
    }
    assert len(others | {first}) == 3


def _reordered(weights: Path) -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = {"__metadata__": {"by": "another tool"}}
    data = b""
    for name, array in sorted(load_file(weights).items(), reverse=True):
        blob = array.tobytes()
        dtype = {"float32": "F32", "float16": "F16"}[str(array.dtype)]
        header[name] = entry(len(data), len(data) + len(blob), array.shape, dtype)
        data += blob
    return header, data


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ({**CONFIG, "fine_tune_type": "dora"}, AdapterBroken, "'dora' is not supported"),
        ({**CONFIG, "fine_tune_type": "full"}, AdapterBroken, "'full' is not supported"),
        ({"peft_type": "LORA", "r": 4}, AdapterBroken, "PEFT"),
        ({"num_layers": 2}, AdapterBroken, "no lora_parameters"),
        ({**CONFIG, "lora_parameters": {"rank": "4", "scale": 1}}, AdapterBroken, "rank must be"),
        ({**CONFIG, "lora_parameters": {"rank": True, "scale": 1}}, AdapterBroken, "rank must be"),
        ({**CONFIG, "lora_parameters": {"rank": 4}}, AdapterBroken, "scale must be"),
        ({**CONFIG, "lora_parameters": {"rank": 4, "scale": float("nan")}}, AdapterBroken, "scale must be"),
        ({**CONFIG, "num_layers": "all"}, AdapterBroken, "num_layers must be"),
        ({**CONFIG, "lora_parameters": {"rank": 8, "scale": 1}}, AdapterBroken, "has the rank 4, not 8"),
    ],
)
def test_configs_that_cannot_be_used(tmp_path: Path, config: dict[str, Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        read_adapter(*write(tmp_path, config=config))


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", NotReady, "cut off"),
        (json.dumps(CONFIG)[:-30], NotReady, "cut off"),
        ("{'rank': 4}", AdapterBroken, "not JSON"),
    ],
)
def test_config_texts(tmp_path: Path, text: str, error: type, says: str) -> None:
    weights, config = write(tmp_path)
    config.write_text(text)
    with pytest.raises(error, match=says):
        read_adapter(weights, config)
    config.unlink()
    with pytest.raises(NotReady, match="not there"):
        read_adapter(weights, config)


def test_tensors_that_are_no_lora_pairs(tmp_path: Path) -> None:
    weights, config = write(tmp_path)
    good = tensors()
    half = {name: array for name, array in good.items() if not name.endswith("1.self_attn.q_proj.lora_b")}
    peft = {f"base_model.model.{n[:-6]}lora_A.weight": a for n, a in good.items() if n.endswith("lora_a")}
    whole_numbers = {name: array.astype(np.int8) for name, array in good.items()}
    for content, says in (
        (half, r"model\.layers\.1\.self_attn\.q_proj\.lora_b is missing"),
        (peft, "neither lora_a nor lora_b"),
        (whole_numbers, "type I8"),
        ({**good, "model.norm.weight": np.ones(3, np.float32)}, "model.norm.weight is neither"),
        ({}, "no tensors"),
    ):
        save_file(content, weights)
        with pytest.raises(AdapterBroken, match=says):
            read_adapter(weights, config)


def test_stage_copies_and_the_copy_outlives_the_source(tmp_path: Path) -> None:
    weights, config = write(tmp_path / "run")
    adapter = copied(checkpoint(weights, config), tmp_path / "staged")
    assert adapter == read_adapter(adapter.weights, adapter.weights.parent / "adapter_config.json")
    assert adapter.weights == tmp_path / "staged" / adapter.digest / "adapters.safetensors"
    save_file(tensors(seed=5), weights)
    config.unlink()
    assert read_adapter(adapter.weights, adapter.weights.parent / "adapter_config.json").digest == adapter.digest
    assert [p.name for p in (tmp_path / "staged").iterdir()] == [adapter.digest]


def test_stage_again_keeps_the_copy_and_mends_a_damaged_one(tmp_path: Path) -> None:
    found = checkpoint(*write(tmp_path / "run"))
    first = copied(found, tmp_path / "staged")
    written = first.weights.stat().st_mtime_ns
    assert copied(found, tmp_path / "staged") == first
    assert first.weights.stat().st_mtime_ns == written
    os.truncate(first.weights, 50)
    assert copied(found, tmp_path / "staged") == first
    assert read_adapter(first.weights, first.weights.parent / "adapter_config.json").digest == first.digest


def test_stage_names_the_source_and_leaves_nothing_behind(tmp_path: Path) -> None:
    weights, config = write(tmp_path / "run")
    os.truncate(weights, weights.stat().st_size - 1)
    with pytest.raises(NotReady, match=re.escape(str(weights))):
        copied(checkpoint(weights, config), tmp_path / "staged")
    weights, config = write(tmp_path / "run2", config={**CONFIG, "fine_tune_type": "dora"})
    with pytest.raises(AdapterBroken, match=re.escape(str(config))):
        copied(checkpoint(weights, config), tmp_path / "staged")
    found = checkpoint(weights, config)
    weights.unlink()
    with pytest.raises(NotReady, match=re.escape(str(weights))):
        copied(found, tmp_path / "staged")
    assert list((tmp_path / "staged").iterdir()) == []


def test_stage_while_a_trainer_overwrites_in_place(tmp_path: Path) -> None:
    """Whatever is staged is one of the versions that were whole, never a mix."""
    weights, config = write(tmp_path / "run")
    rng = np.random.default_rng(0)
    big = [{"l.lora_a": rng.random((60_000, 4)), "l.lora_b": rng.random((4, 60_000))} for _ in range(2)]
    versions, digests = [], set()
    for content in big:
        save_file(content, weights)
        versions.append(weights.read_bytes())
        digests.add(read_adapter(weights, config).digest)
    done = threading.Event()

    def train() -> None:
        turn = 0
        while not done.wait(0.002):
            turn += 1
            weights.write_bytes(versions[turn % 2])  # truncated and written, as mlx saves: the same inode

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        refused = 0
        for _ in range(60):
            try:
                assert copied(checkpoint(weights, config), tmp_path / "staged").digest in digests
            except NotReady:
                refused += 1
    finally:
        done.set()
        trainer.join()
    assert refused > 0
    assert copied(checkpoint(weights, config), tmp_path / "staged").digest in digests
