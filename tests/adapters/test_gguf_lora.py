"""LoRA adapters that are GGUF files: read as written, told from models, waited for while short, and refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from assay.adapters.convert import mlx_to_gguf
from assay.adapters.files import read_adapter
from assay.adapters.fit import base_shapes, check_against
from assay.adapters.gguf_lora import HEAD, kind_of, read_gguf_adapter
from assay.adapters.named import adapter_at
from assay.errors import AdapterBroken, AdapterMismatch, BadInput, NotReady
from tests.models.gguf_tiny import adapter_tensors, write_adapter, write_base


def gguf(folder: Path, seed: int = 1) -> Path:
    adapter = write_adapter(folder, adapter_tensors(seed), scale=2.0)
    return mlx_to_gguf(adapter, folder / "a.gguf", arch="llama", heads=4, kv_heads=2)


def made(path: Path, *, kind: str = "adapter", form: str = "lora", rank: int = 2, **values: float) -> Path:
    """A GGUF of one pair, as llama.cpp's converter writes it, but for what is asked for."""
    writer = GGUFWriter(path, "llama")
    writer.add_type(kind)
    writer.add_string("adapter.type", form)
    writer.add_float32("adapter.lora.alpha", values.get("alpha", 4.0))
    if "tokens" in values:
        writer.add_array("adapter.alora.invocation_tokens", [1, 2])
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.full((rank, 32), values.get("fill", 0.5), np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", np.zeros((32, int(values.get("columns", rank))), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_it_says_what_it_holds(tmp_path: Path) -> None:
    adapter = read_gguf_adapter(made(tmp_path / "a.gguf"))
    assert (adapter.architecture, adapter.rank, adapter.scale) == ("llama", 2, 2.0)
    assert {name: spec.shape for name, spec in adapter.tensors.items()} == {
        "blk.0.attn_q.weight.lora_a": (2, 32),
        "blk.0.attn_q.weight.lora_b": (32, 2),
    }
    assert read_gguf_adapter(made(tmp_path / "b.gguf", alpha=0.0)).scale == 1.0, "llama.cpp doesn't scale then"


def test_the_digest_is_of_weights_and_alpha_and_of_nothing_else(tmp_path: Path) -> None:
    first = read_gguf_adapter(made(tmp_path / "a.gguf")).digest
    shutil.copy(tmp_path / "a.gguf", tmp_path / "other-name.gguf")
    assert read_gguf_adapter(tmp_path / "other-name.gguf").digest == first
    others = [
        made(tmp_path / "b.gguf", alpha=8.0),
        made(tmp_path / "c.gguf", fill=0.25),
        made(tmp_path / "d.gguf", rank=4),
    ]
    assert len({first, *(read_gguf_adapter(each).digest for each in others)}) == 4


def test_quantised_ones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    for leaf, rows in (("lora_a", 32), ("lora_b", 64)):
        raw = np.zeros((rows, 34), np.uint8)
        writer.add_tensor(f"output.weight.{leaf}", raw, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf_adapter(path)
    assert {name: (spec.dtype, spec.shape) for name, spec in found.tensors.items()} == {
        "output.weight.lora_a": ("Q8_0", (32, 32)),
        "output.weight.lora_b": ("Q8_0", (64, 32)),
    }
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(NotReady):
        read_gguf_adapter(path)


def test_at_every_length_it_is_waited_for_and_never_taken_for_something_else(tmp_path: Path) -> None:
    whole = made(tmp_path / "a.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(len(whole)):
        assert kind_of(whole[:length]) in (None, "adapter")
        cut.write_bytes(whole[:length])
        with pytest.raises(NotReady):
            read_gguf_adapter(cut)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "model"}, "a GGUF model, not an adapter"),
        ({"form": "ia3"}, "of the type 'ia3'; only LoRA"),
        ({"tokens": 1}, "activated LoRA"),
        ({"alpha": float("nan")}, "alpha must be a number"),
        ({"fill": float("inf")}, "lora_a holds NaN or infinite"),
        ({"columns": 3}, "have not one rank"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_name(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = made(tmp_path / "a.gguf", **change)  # type: ignore[arg-type]
    with pytest.raises(AdapterBroken, match=said) as error:
        read_gguf_adapter(path)
    assert str(error.value).startswith(str(path))


def test_a_model_is_told_from_its_beginning(tmp_path: Path) -> None:
    assert kind_of(write_base(tmp_path / "base.gguf").read_bytes()[:HEAD]) == ""
    assert kind_of(b"{" * 100) == ""
    assert kind_of(b"GGUF" + b"\x09\0\0\0" + b"\0" * 16) == "", "a version that is not known"


def test_every_differing_key_and_shape_is_named(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base.gguf")
    check_against(read_gguf_adapter(gguf(tmp_path / "fits")), base_shapes(base))
    with pytest.raises(AdapterMismatch) as error:
        check_against(read_gguf_adapter(made(tmp_path / "small.gguf")), base_shapes(base))
    assert error.value.differences == (
        "blk.0.attn_q.weight.lora_a: shape (2, 32), but the base wants (2, 64)",
        "blk.0.attn_q.weight.lora_b: shape (32, 2), but the base wants (64, 2)",
    )
    few = {name: shape for name, shape in base_shapes(base).items() if "blk.1" not in name}
    with pytest.raises(AdapterMismatch, match=r"blk\.1\.attn_k\.weight\.lora_a: names no layer") as error:
        check_against(read_gguf_adapter(tmp_path / "fits" / "a.gguf"), few)
    assert len(error.value.differences) == 14


def test_a_base_that_is_no_gguf_takes_none(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterMismatch, match=r"which only llama\.cpp takes"):
        check_against(read_gguf_adapter(made(tmp_path / "a.gguf")), base_shapes_of_safetensors(lab))


def base_shapes_of_safetensors(lab: Path) -> dict[str, tuple[int, ...]]:
    shapes = base_shapes(lab / "base")
    assert "model.layers.0.self_attn.q_proj.weight" in shapes
    return shapes


def test_named_by_file_or_folder(tmp_path: Path) -> None:
    path = gguf(tmp_path / "one")
    (path.parent / "adapters.safetensors").unlink()
    digest = read_gguf_adapter(path).digest
    assert adapter_at(path).digest == adapter_at(path.parent).digest == digest
    taken = adapter_at(path)
    made(path)
    assert read_gguf_adapter(taken.weights).digest == digest, "what is overwritten later is not what was named"
    shutil.copy(path, path.with_name("b.gguf"))
    with pytest.raises(BadInput, match=r"several GGUF files, a\.gguf and others"):
        adapter_at(path.parent)
    with pytest.raises(BadInput, match="a GGUF model, not an adapter"):
        adapter_at(write_base(tmp_path / "base.gguf"))


def test_it_is_the_same_adapter_as_the_one_that_it_was_made_of(tmp_path: Path) -> None:
    path = gguf(tmp_path)
    original = read_adapter(tmp_path / "adapters.safetensors", tmp_path / "adapter_config.json")
    found = read_gguf_adapter(path)
    assert (found.rank, found.scale) == (original.rank, original.scale)
    assert found.digest != original.digest, "rounding and order of rows may differ: it is asked on its own"
