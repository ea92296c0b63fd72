"""From mlx-lm's LoRA files to the ones that llama.cpp reads, with numpy and the `gguf` package alone."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from assay.adapters.fit import raise_differences
from assay.adapters.gguf_names import BLOCK
from assay.adapters.header import Layout, read_layout
from assay.errors import NO_ROOM, AdapterBroken, AdapterMismatch, DiskFault, ModelError
from assay.types import Adapter

Matrix = npt.NDArray[np.float32]

_KEY = re.compile(r"(?:language_model\.)?(?:model\.layers\.(\d+)\.(.+)|(lm_head))\.(lora_[ab])")

# Rotary embeddings turn pairs of rows. Hugging Face and MLX pair a row with the one half a head further on, llama.cpp's
# llama pairs neighbours, so its GGUF files have the rows of q and k reordered. The others are laid out as trained.
# An architecture that is not listed is refused: a wrong guess would give wrong answers and no error.
_PERMUTED = frozenset({"llama"})
_PLAIN = frozenset({"qwen2", "qwen3", "gemma", "gemma2", "gemma3"})

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def mlx_to_gguf(adapter: Adapter, destination: Path, *, arch: str, heads: int, kv_heads: int) -> Path:
    """Write the adapter as a GGUF LoRA file in float32; return `destination`, which appears whole or not at all.

    arch, heads, kv_heads: the base's `general.architecture` and its counts of attention heads and key-value heads.
    One tensor is in memory at a time. Raises `AdapterMismatch` with every tensor that has no counterpart in GGUF,
    `AdapterBroken` if the file is damaged, `DiskFault` where there is no room, `ModelError` if the `gguf` package is missing.
    """
    if arch not in _PERMUTED | _PLAIN:
        known = ", ".join(sorted(_PERMUTED | _PLAIN))
        raise AdapterMismatch(
            f"adapters for llama.cpp models of the kind {arch!r} can't be made here, only for {known}; make it with "
            "llama.cpp's convert_lora_to_gguf.py, in a folder of its own, and name that"
        )
    names = _gguf_names(adapter)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert-", dir=destination.parent) as folder:
            temporary = Path(folder) / destination.name
            with adapter.weights.open("rb") as file:
                layout = read_layout(file, adapter.weights)
                if layout.tensors != adapter.tensors:
                    raise AdapterBroken(f"{adapter.weights}: the file has changed since it was read; read it again")
                tensors = _tensors(file, layout, names, arch in _PERMUTED, heads, kv_heads)
                _write(temporary, arch, adapter, names, tensors)
            temporary.replace(destination)
    except OSError as error:
        if error.errno in NO_ROOM or error.errno is None:  # numpy's error for what it could write only in part has none
            raise DiskFault(
                f"{adapter.weights} could not be converted in {destination.parent} ({error.strerror or error}); what was "
                "earned is safe: make room there, or set TMPDIR, and run the same command again"
            ) from None
        raise AdapterBroken(f"{adapter.weights}: can't be converted: {error.strerror or error}") from None
    return destination


def _gguf_names(adapter: Adapter) -> dict[str, str]:
    """The GGUF name of each tensor, in the file's order. Raises `AdapterMismatch` with all that have none."""
    names: dict[str, str] = {}
    unknown: list[str] = []
    for key in sorted(adapter.tensors):
        match = _KEY.fullmatch(key) if len(adapter.tensors[key].shape) == 2 else None
        if match is not None and match[3]:
            names[key] = f"output.weight.{match[4]}"
        elif match is not None and match[2] in BLOCK:
            names[key] = f"blk.{match[1]}.{BLOCK[match[2]]}.weight.{match[4]}"
        else:
            unknown.append(f"{key}: llama.cpp has no layer for it")
    raise_differences(unknown, len(adapter.tensors), all_strange=False)
    return names


def _tensors(
    file: BinaryIO, layout: Layout, names: Mapping[str, str], permuted: bool, heads: int, kv_heads: int
) -> Iterator[Matrix]:
    """Each tensor as llama.cpp wants it: lora_a (rank, in) and lora_b (out, rank), the transposes of MLX's."""
    for key, name in names.items():
        matrix = _read(file, layout, key).T
        if permuted and name.endswith(".lora_b"):
            if ".attn_q." in name:
                matrix = _permute(matrix, heads)
            elif ".attn_k." in name:
                matrix = _permute(matrix, kv_heads)
        yield np.ascontiguousarray(matrix)


def _read(file: BinaryIO, layout: Layout, key: str) -> Matrix:
    spec, (start, end) = layout.tensors[key], layout.spans[key]
    file.seek(start)
    raw = np.frombuffer(file.read(end - start), dtype=_DTYPES[spec.dtype])
    if spec.dtype == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False).reshape(spec.shape)


def _permute(matrix: Matrix, heads: int) -> Matrix:
    """Reorder the rows of each head, (2 halves, n) to (n, 2 neighbours)."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write(path: Path, arch: str, adapter: Adapter, names: Mapping[str, str], tensors: Iterator[Matrix]) -> None:
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise ModelError("adapters for llama.cpp need the gguf package: pip install 'assay[llama]'") from None
    writer = GGUFWriter(path, arch)
    try:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", adapter.scale * adapter.rank)  # llama.cpp multiplies by alpha / rank
        for key, name in names.items():
            shape = tuple(reversed(adapter.tensors[key].shape))
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * shape[0] * shape[1])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(tensor)
    finally:
        writer.close()
