"""A LoRA adapter written as the GGUF file that llama.cpp reads, with numpy and the `gguf` package alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from assay.adapters.buffer import Buffer
from assay.adapters.dtypes import cast
from assay.adapters.fit import raise_differences
from assay.adapters.gguf_names import BLOCK
from assay.adapters.levelling import differs, multiplied, powers
from assay.adapters.lora import Bits, Lora
from assay.errors import AdapterMismatch, ModelError

_KEY = re.compile(r"(?:language_model\.)?(?:model\.layers\.(\d+)\.(.+)|(lm_head)|model\.(embed_tokens))\.(lora_[ab])")

# Rotary embeddings turn pairs of rows. Hugging Face and MLX pair a row with the one half a head further on, llama.cpp's
# llama pairs neighbours, so its GGUF files have the rows of q and k reordered. The others are laid out as trained.
# An architecture that is not listed is refused: a wrong guess would give wrong answers and no error.
PERMUTED = frozenset({"llama"})
PLAIN = frozenset({"qwen2", "qwen3", "gemma", "gemma2", "gemma3"})

_STORED = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def check_architecture(arch: str) -> None:
    """Raise `AdapterMismatch` unless it is known how llama.cpp lays the architecture's rows out."""
    if arch not in PERMUTED | PLAIN:
        known = ", ".join(sorted(PERMUTED | PLAIN))
        raise AdapterMismatch(
            f"adapters for llama.cpp models of the kind {arch!r} can't be made here, only for {known}; make it with "
            "llama.cpp's convert_lora_to_gguf.py, in a folder of its own, and name that"
        )


def gguf_names(lora: Lora) -> dict[str, str]:
    """The GGUF name of each tensor, in order of their own. Raises `AdapterMismatch` with all that have none."""
    names: dict[str, str] = {}
    unknown: list[str] = []
    for key in sorted(lora.parts):
        match = _KEY.fullmatch(key) if len(lora.parts[key].spec.shape) == 2 else None
        if match is not None and match[3]:
            names[key] = f"output.weight.{match[5]}"
        elif match is not None and match[4]:
            names[key] = f"token_embd.weight.{match[5]}"
        elif match is not None and match[2] in BLOCK:
            names[key] = f"blk.{match[1]}.{BLOCK[match[2]]}.weight.{match[5]}"
        else:
            unknown.append(f"{key}: llama.cpp has no layer for it")
    raise_differences(unknown, len(lora.parts), all_strange=False)
    return dict(sorted(names.items(), key=lambda item: item[1]))


def alpha_of(lora: Lora) -> tuple[float, Mapping[str, int]]:
    """What llama.cpp divides by each pair's own rank to scale it, and the power of two that each module has besides.

    Raises `AdapterMismatch` where one number can't do.
    """
    alphas = {module: lora.scales[module] * rank for module, rank in lora.ranks.items()}
    found = powers(alphas)
    if found is None:
        raise AdapterMismatch(
            f"{lora.shown}: {differs('alpha', alphas)}, which GGUF's one adapter.lora.alpha can't say; transformers and "
            "MLX can, on the base as safetensors"
        )
    if found[0] == 0:  # llama.cpp takes it for "not scaled"
        raise AdapterMismatch(f"{lora.shown}: is scaled by 0, which GGUF can't say, and so changes nothing")
    return found


def write_gguf(lora: Lora, path: Path, *, arch: str, heads: int, kv_heads: int, dtype: str = "F32") -> None:
    """Write the adapter. arch, heads, kv_heads: the base's `general.architecture`, attention heads and key-value heads.

    dtype: of the tensors, F32, F16 or BF16. Raises `AdapterMismatch` with all that has no counterpart in GGUF, `ModelError` if
    the `gguf` package is missing.
    """
    check_architecture(arch)
    names = gguf_names(lora)
    try:
        from gguf import GGMLQuantizationType, GGUFWriter
    except ImportError:
        raise ModelError("adapters for llama.cpp need the gguf package: pip install 'assay[llama]'") from None
    writer = GGUFWriter(path, arch)
    try:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        alpha, by = alpha_of(lora)
        writer.add_float32("adapter.lora.alpha", alpha)
        kind, width = GGMLQuantizationType[dtype], np.dtype(_STORED[dtype]).itemsize
        for key, name in names.items():
            rows, columns = shape = _shape(lora, key, name)
            writer.add_tensor_info(name, shape, np.dtype(_STORED[dtype]), width * rows * columns, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    read, laid_out = Buffer(), Buffer()
    with lora.weights.open("rb") as source, path.open("ab") as file:
        for key, name in names.items():
            bits = cast(lora.read(source, key, read), lora.parts[key].spec.dtype, dtype)
            if key.endswith(".lora_b"):
                bits = multiplied(bits, dtype, by[key.rpartition(".")[0]], lora.shown, key)
            file.write(bytes(-file.tell() % writer.data_alignment))
            file.write(laid_out.contiguous(_laid_out(bits, name, arch, heads, kv_heads)).data)
        file.write(bytes(-file.tell() % writer.data_alignment))


def _shape(lora: Lora, key: str, name: str) -> tuple[int, int]:
    rows, columns = lora.parts[key].spec.shape
    return (rows, columns) if _looked_up(name) else (columns, rows)


def _looked_up(name: str) -> bool:
    """An embedding's `lora_a` is looked up by rows, and so the one that is not transposed."""
    return name == "token_embd.weight.lora_a"


def _laid_out(bits: Bits, name: str, arch: str, heads: int, kv_heads: int) -> Bits:
    """The tensor as llama.cpp wants it: lora_a (rank, in) and lora_b (out, rank), the transposes of mlx-lm's."""
    matrix = bits if _looked_up(name) else bits.T
    if arch in PERMUTED and name.endswith(".lora_b"):
        if ".attn_q." in name:
            return _permute(matrix, heads)
        if ".attn_k." in name:
            return _permute(matrix, kv_heads)
    return matrix


def _permute(matrix: Bits, heads: int) -> Bits:
    """Reorder the rows of each head, (2 halves, n) to (n, 2 neighbours)."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
