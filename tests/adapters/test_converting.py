"""What is written, refused and left alone; that engines compute the same with it is tested with them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from assay.adapters.bases import Base, read_base
from assay.adapters.convert import convert
from assay.adapters.dtypes import cast
from assay.adapters.files import read_adapter
from assay.adapters.named import adapter_at
from assay.adapters.sources import source_at
from assay.errors import AdapterMismatch, BadInput, DiskFault, ModelError


@pytest.fixture
def trained(lab: Path) -> Path:
    return lab / "checkpoints" / "0000100_adapters.safetensors"


def written(folder: Path, scale: float = 2.0, rank: int = 3, dtype: type = np.float32, size: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    name = "model.layers.0.self_attn.q_proj"
    tensors = {
        f"{name}.lora_a": (random.standard_normal((8, rank)) * size).astype(dtype),
        f"{name}.lora_b": (random.standard_normal((rank, 8)) * size).astype(dtype),
    }
    save_file(tensors, folder / "adapters.safetensors")
    config = {"num_layers": 1, "model": "org/base", "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_there_and_back_is_the_same_file(trained: Path, tmp_path: Path) -> None:
    there = convert(source_at(trained), tmp_path / "peft", "peft", None)
    back = convert(source_at(there.path), tmp_path / "mlx", "mlx", None)
    own = read_adapter(trained, trained.with_name("adapter_config.json")).digest
    assert there.digest() == back.digest() == adapter_at(there.path).digest == own
    before, after = load_file(trained), load_file(back.path / "adapters.safetensors")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    config = json.loads((there.path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (8, 80, False)
    assert config["base_model_name_or_path"] == "examples/lab/base"
    assert there.size == sum(file.stat().st_size for file in there.path.iterdir())


@given(scale=st.floats(1e-3, 1e3), rank=st.sampled_from([1, 4, 8, 16, 64]))
def test_a_scale_survives_where_ranks_are_powers_of_two(
    scale: float, rank: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("scale")
    source = source_at(written(folder / "mlx", scale, rank))
    assert convert(source, folder / "peft", "peft", None).digest() == source.digest()


@given(scale=st.floats(1e-3, 1e3), rank=st.sampled_from([3, 5, 12, 48]))
def test_a_scale_survives_to_the_last_bit_else(
    scale: float, rank: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("scale")
    there = convert(source_at(written(folder / "mlx", scale, rank)), folder / "peft", "peft", None)
    assert adapter_at(there.path).scale == pytest.approx(scale, rel=3e-16)


@pytest.mark.parametrize("source", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("target", ["F32", "F16", "BF16"])
def test_every_type_becomes_every_other_as_torch_does_it(source: str, target: str) -> None:
    torch = pytest.importorskip("torch")
    kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    values = torch.tensor(np.random.default_rng(2).standard_normal((40, 50)) * 300).to(kinds[source])
    ties = torch.tensor([[1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 0.0, -0.0, 2**-24]]).to(kinds[source])
    for numbers in (values, ties):
        width = {8: torch.int64, 4: torch.int32, 2: torch.int16}
        bits = numbers.view(width[numbers.element_size()]).numpy()
        found = cast(bits.view(f"<u{bits.itemsize}"), source, target)
        wanted = numbers.to(torch.float32).to(kinds[target])
        if (source, target) == ("F64", "F16"):  # torch rounds twice, by way of float32
            wanted = torch.tensor(numbers.numpy().astype(np.float16))
        np.testing.assert_array_equal(found, wanted.view(width[wanted.element_size()]).numpy().view(found.dtype))


def test_numbers_too_large_for_a_type_are_said(tmp_path: Path) -> None:
    source = source_at(written(tmp_path / "mlx", size=1e6))
    with pytest.raises(AdapterMismatch, match=r"its numbers don't fit into f16 \(the largest is \d"):
        convert(source, tmp_path / "half", "peft", None, "f16")
    assert [path.name for path in tmp_path.iterdir()] == ["mlx"]
    assert convert(source, tmp_path / "bf16", "peft", None, "bf16").dtypes == ("BF16",)


def test_what_is_there_is_kept_unless_it_may_go(trained: Path, lab: Path, tmp_path: Path) -> None:
    source, base = source_at(trained), read_base(lab / "base")
    for form, name in (("peft", "out"), ("mlx", "out2"), ("gguf", "a.gguf")):
        first = convert(source, tmp_path / name, form, base)  # type: ignore[arg-type]
        former = first.digest()
        assert former == adapter_at(tmp_path / name).digest
        with pytest.raises(BadInput, match=r"is there already; choose another name, or give --overwrite"):
            convert(source, tmp_path / name, form, base)  # type: ignore[arg-type]
        again = convert(source, tmp_path / name, form, base, "f16", overwrite=True)  # type: ignore[arg-type]
        assert former != again.digest() == adapter_at(tmp_path / name).digest
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"more than an adapter of this form \(notes\.txt\)"):
        convert(source, tmp_path / "out", "peft", base, overwrite=True)
    with pytest.raises(BadInput, match="more than an adapter of this form"):
        convert(source, tmp_path / "out", "mlx", base, overwrite=True)
    with pytest.raises(BadInput, match="where the adapter itself lies"):
        convert(source_at(tmp_path / "out2"), tmp_path / "out2", "mlx", base, overwrite=True)
    with pytest.raises(BadInput, match=r"a name that ends in \.gguf"):
        convert(source, tmp_path / "b", "gguf", base)
    with pytest.raises(BadInput, match="is a folder, not a file"):
        convert(source, tmp_path / "b.gguf", "peft", base)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file, which the output can't take the place of"):
        convert(source, tmp_path / "file", "peft", base, overwrite=True)
    (tmp_path / "empty").mkdir()
    convert(source, tmp_path / "empty", "peft", base)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "empty", "file", "out", "out2"]


def test_a_full_disk_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "big").mkdir()
    name = "model.layers.0.mlp.up_proj"
    save_file(
        {
            f"{name}.lora_a": random.standard_normal((400_000, 8)).astype(np.float32),
            f"{name}.lora_b": random.standard_normal((8, 400_000)).astype(np.float32),
        },
        tmp_path / "big" / "adapters.safetensors",
    )
    config = {"num_layers": 1, "lora_parameters": {"rank": 8, "scale": 2.0, "dropout": 0.0}}
    (tmp_path / "big" / "adapter_config.json").write_text(json.dumps(config))
    source = source_at(tmp_path / "big")
    for form in ("peft", "mlx"):
        with pytest.raises(DiskFault, match="make room there"):
            convert(source, small_disk / "out", form, None)  # type: ignore[arg-type]
    assert list(small_disk.iterdir()) == []


def test_another_base_is_refused_with_every_difference(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    shapes = {"q_proj": (128, 64), "k_proj": (64, 96)}
    weights = {
        f"model.layers.{n}.self_attn.{k}.weight": np.zeros(s, np.float32) for n in (0, 1) for k, s in shapes.items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_attention_heads": 4}))
    for form, name in (("peft", "out"), ("mlx", "out"), ("gguf", "out.gguf")):
        with pytest.raises(AdapterMismatch) as caught:
            convert(source_at(trained), tmp_path / name, form, read_base(folder))  # type: ignore[arg-type]
        assert len(caught.value.differences) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize(
    ("config", "kind", "tied"),
    [
        ({"model_type": "mistral", "num_attention_heads": 4}, "llama", False),
        ({"model_type": "mistral3", "text_config": {"num_attention_heads": 4}}, "mistral3", False),
        (
            {"model_type": "gemma3", "text_config": {"num_attention_heads": 4, "model_type": "gemma3_text"}},
            "gemma3",
            False,
        ),
        ({"model_type": "qwen2", "num_attention_heads": 4, "tie_word_embeddings": True}, "qwen2", True),
    ],
)
def test_what_a_base_says_of_itself(config: dict[str, Any], kind: str, tied: bool, tmp_path: Path) -> None:
    save_file({"lm_head.weight": np.zeros((4, 8), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    base = read_base(tmp_path)
    assert (base.kind, base.heads, base.kv_heads, base.tied) == (kind, 4, 4, tied)


def test_both_files_of_a_base_say_the_same(lab: Path) -> None:
    folder, gguf = read_base(lab / "base"), read_base(lab / "base" / "lab-f32.gguf")
    assert (folder.kind, folder.heads, folder.kv_heads, folder.tied) == (
        gguf.kind,
        gguf.heads,
        gguf.kv_heads,
        gguf.tied,
    )


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"fine_tune_type": "dora"}, "fine_tune_type 'dora' is not supported"),
        ({"fine_tune_type": "full"}, "fine_tune_type 'full' is not supported"),
    ],
)
def test_what_is_no_lora_is_refused_by_name(config: dict[str, Any], word: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "mlx")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(BadInput, match=word):
        source_at(folder)


def test_experts_are_refused_by_name(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.switch_mlp.up_proj"
    tensors = {f"{name}.lora_a": np.ones((4, 3, 8), np.float32), f"{name}.lora_b": np.ones((4, 8, 3), np.float32)}
    folder = written(tmp_path / "mlx")
    save_file(tensors, folder / "adapters.safetensors")
    with pytest.raises(AdapterMismatch, match=r"switch_mlp\.up_proj\.lora_a: PEFT has no layer for it"):
        convert(source_at(folder), tmp_path / "out", "peft", None)


def test_pickled_weights_and_gguf_are_no_sources(tmp_path: Path, lab: Path, trained: Path) -> None:
    folder = written(tmp_path / "pickled")
    (folder / "adapters.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(BadInput, match="pickled weights, which can run code, are refused"):
        source_at(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 3, "lora_alpha": 3}))
    with pytest.raises(BadInput, match="a pickled PyTorch file, not safetensors"):
        source_at(folder)
    gguf = convert(source_at(trained), tmp_path / "a.gguf", "gguf", read_base(lab / "base")).path
    with pytest.raises(BadInput, match=r"a GGUF adapter is laid out for llama\.cpp and is not converted back"):
        source_at(gguf)


def test_a_scale_of_nothing_is_not_scaled_by_one(tmp_path: Path, lab: Path) -> None:
    lora = source_at(written(tmp_path / "mlx", scale=0.0)).lora
    from assay.adapters.gguf_writing import write_gguf

    with pytest.raises(AdapterMismatch, match="is scaled by 0"):
        write_gguf(lora, tmp_path / "a.gguf", arch="qwen2", heads=1, kv_heads=1)


def test_without_gguf_the_error_says_what_to_install(
    trained: Path, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"pip install 'assay\[llama\]'"):
        convert(source_at(trained), tmp_path / "a.gguf", "gguf", read_base(lab / "base"))
    assert list(tmp_path.iterdir()) == []


def test_killed_in_the_middle_it_has_not_appeared(trained: Path, tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from assay.adapters.convert import convert
from assay.adapters.sources import source_at
source = source_at(Path({str(trained)!r}))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # bytes of a file, beyond which the kernel ends the process
convert(source, Path({str(tmp_path / "out")!r}), "peft", None)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGXFSZ
    assert not (tmp_path / "out").exists()


@given(
    kinds=st.lists(st.sampled_from([np.float16, np.float32, np.float64]), min_size=4, max_size=4),
    blocks=st.sets(st.integers(0, 40), min_size=1, max_size=4),
    rank=st.integers(1, 9),
)
@settings(max_examples=25)
def test_tensors_of_several_types_and_blocks_come_back(
    kinds: list[type], blocks: set[int], rank: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mixed")
    random = np.random.default_rng(rank)
    tensors = {}
    for block in blocks:
        for place, (name, into, out) in enumerate((("mlp.up_proj", 5, 7), ("self_attn.q_proj", 3, 2))):
            key = f"model.layers.{block}.{name}"
            tensors[f"{key}.lora_a"] = random.standard_normal((into, rank)).astype(kinds[2 * place])
            tensors[f"{key}.lora_b"] = random.standard_normal((rank, out)).astype(kinds[2 * place + 1])
    (folder / "mlx").mkdir()
    save_file(tensors, folder / "mlx" / "adapters.safetensors")
    config = {"num_layers": -1, "lora_parameters": {"rank": rank, "scale": 2.0, "dropout": 0.0}}
    (folder / "mlx" / "adapter_config.json").write_text(json.dumps(config))
    there = convert(source_at(folder / "mlx"), folder / "peft", "peft", None)
    back = convert(source_at(there.path), folder / "back", "mlx", None)
    assert there.former == there.digest() == back.digest() == adapter_at(folder / "mlx").digest
    found = load_file(back.path / "adapters.safetensors")
    assert {name: tensor.dtype for name, tensor in found.items()} == {n: t.dtype for n, t in tensors.items()}
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)
    theirs = load_file(there.path / "adapter_model.safetensors")
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        np.testing.assert_array_equal(theirs[f"base_model.model.{module}.lora_{leaf[-1].upper()}.weight"], tensor.T)
    base = Base(folder, {f"{n.rpartition('.')[0]}.weight": (0, 0) for n in tensors}, "qwen2", 1, 1, tied=False)
    shapes = {"mlp.up_proj": (7, 5), "self_attn.q_proj": (2, 3)}
    fits = {name: shapes[name.split(".", 3)[3].removesuffix(".weight")] for name in base.shapes}
    gguf = convert(source_at(there.path), folder / "a.gguf", "gguf", replace(base, shapes=fits))
    for tensor in GGUFReader(gguf.path).tensors:
        assert tensor.tensor_type.name == "F32"
        block, leaf = tensor.name.split(".")[1], tensor.name[-6:]
        key = f"model.layers.{block}.{'mlp.up_proj' if 'ffn' in tensor.name else 'self_attn.q_proj'}.{leaf}"
        stored = tensor.data.reshape(tuple(reversed(tensor.shape.tolist())))
        np.testing.assert_array_equal(stored, tensors[key].T.astype(np.float32))
