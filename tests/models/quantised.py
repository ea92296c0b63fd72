"""Copies of the lab's base as people have theirs: quantised by MLX or for llama.cpp, or in 16 bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import quantize

from tests.conftest import LAB

BASE = LAB / "base"


def mlx_copy(folder: Path, *, bits: int = 0, group: int = 0, dtype: str = "float32") -> Path:
    """What `mlx_lm.convert` makes of the base, with -q where bits are given. Its down_proj fits no group and stays whole."""
    from mlx_lm import convert

    quantised = {"quantize": True, "q_bits": bits, "q_group_size": group} if bits else {}
    convert(str(BASE), str(folder), dtype=dtype, **quantised)
    return folder


def torch_copy(folder: Path, dtype: str) -> Path:
    """The base with its weights in another type, as transformers saves it."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(BASE, folder, ignore=shutil.ignore_patterns("*.gguf", "*.safetensors"))
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in load_file(BASE / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": dtype}))
    return folder


def gguf_copy(path: Path, kind: str) -> Path:
    """The base's GGUF with its matrices of another type (F16, BF16, Q8_0, Q4_0), where rows have whole blocks of it."""
    reader = GGUFReader(BASE / "lab-f32.gguf")
    writer = GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            item = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], item)
    wanted = GGMLQuantizationType[kind]
    for tensor in reader.tensors:
        weights: Any = np.asarray(tensor.data)
        fits = weights.ndim == 2 and weights.shape[-1] % 32 == 0
        used = wanted if fits else GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, quantize(weights, used), raw_dtype=used)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
