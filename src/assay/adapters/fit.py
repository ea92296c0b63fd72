"""Does an adapter fit a base? Names and shapes are compared here, so that no engine drops a key in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from assay.adapters.gguf_header import gguf_files, read_gguf_header
from assay.adapters.gguf_names import gguf_shapes
from assay.adapters.header import read_header
from assay.errors import AdapterMismatch, AssayError, CheckpointError, ModelError
from assay.paths import printable
from assay.types import Adapter, TensorSpec

# An embedding is looked up, not multiplied: its LoRA pair is (rows, rank) and (rank, width), not (in, …) and (…, out).
EMBEDDINGS = {"embed_tokens", "word_embeddings", "tok_embeddings", "wte", "embedding"}

_FEW = 3  # differences, that an error's sentence names itself

BLOCK_OF = re.compile(r"(.*?layers\.)(\d+)\.(.+)")


def check_against(adapter: Adapter, base: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `AdapterMismatch` unless every tensor names a layer of the base and has the shape that it wants, and none lacks.

    base: weight names (`model.layers.0.self_attn.q_proj.weight`) and their (out, in) shapes; experts (E, out, in);
    embeddings (rows, width); of a GGUF base GGUF's own names as well. All differences are listed, not only the first.
    """
    if adapter.architecture:
        _check_gguf(adapter, base)
        return
    check_tensors(adapter.tensors, lambda module: adapter.size(module)[0], adapter.layers, base)


def check_tensors(
    tensors: Mapping[str, TensorSpec],
    rank_of: Callable[[str], int],
    layers: int,
    base: Mapping[str, tuple[int, ...]],
) -> None:
    """`check_against` for tensors in mlx-lm's form. rank_of: what a module's rank is. layers: as in `Adapter`."""
    differences: list[str] = []
    strangers = 0
    for name in sorted(tensors):
        module, _, leaf = name.rpartition(".")
        weight = base.get(f"{module}.weight")
        if weight is None:
            strangers += 1
            differences.append(f"{name}: names no layer of the base")
            continue
        found, wanted = tensors[name].shape, _wanted(module, leaf, weight, rank_of(module))
        if found != wanted:
            differences.append(f"{name}: shape {found}, but the base wants {wanted}")
    differences += [f"{name}: missing, though other layers have theirs" for name in _missing(tensors, layers, base)]
    raise_differences(differences, len(tensors), all_strange=strangers == len(tensors))


def needs_gguf(adapter: Adapter) -> None:
    """Raise `AdapterMismatch` for a GGUF adapter, on behalf of an engine whose base is none."""
    if adapter.architecture:
        raise AdapterMismatch(
            "it is a GGUF adapter, which only llama.cpp takes, and the base is no GGUF file; name the base as a .gguf file, or "
            "the adapter as safetensors"
        )


def _check_gguf(adapter: Adapter, base: Mapping[str, tuple[int, ...]]) -> None:
    if not any(name.startswith("blk.") for name in base):
        needs_gguf(adapter)
    differences: list[str] = []
    strangers = 0
    for name in sorted(adapter.tensors):
        weight, _, leaf = name.rpartition(".")
        shape = base.get(weight)
        if shape is None:
            strangers += 1
            differences.append(f"{name}: names no layer of the base")
            continue
        found = adapter.tensors[name].shape
        wanted = _wanted_of_gguf(weight, leaf, shape, found)
        if found != wanted:
            differences.append(f"{name}: shape {found}, but the base wants {wanted}")
    raise_differences(differences, len(adapter.tensors), all_strange=strangers == len(adapter.tensors))


def _wanted_of_gguf(weight: str, leaf: str, shape: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that llama.cpp wants, with the rank that the tensor itself has: pairs are known to be of one rank."""
    *experts, out, into = shape
    if weight == "token_embd.weight":  # looked up by rows, not multiplied: (rows, rank) and (width, rank)
        return (out if leaf == "lora_a" else into, found[-1])
    return (*experts, found[-2], into) if leaf == "lora_a" else (*experts, out, found[-1])


def _missing(tensors: Mapping[str, TensorSpec], layers: int, base: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Tensors of the last `layers` blocks that the file lacks: a module adapted in one of them is adapted in all."""
    if layers == 0:
        return []
    count = block_count(base)
    first = 0 if layers < 0 else max(0, count - layers)
    named = [BLOCK_OF.fullmatch(name) for name in tensors]
    parts = {(part[1], part[3]) for part in named if part is not None}
    wanted = (
        (f"{front}{number}.{rest}", f"{front}{number}.{rest.rpartition('.')[0]}.weight")
        for front, rest in sorted(parts)
        for number in range(first, count)
    )
    return [name for name, weight in wanted if name not in tensors and weight in base]


def block_count(base: Mapping[str, tuple[int, ...]]) -> int:
    """How many blocks the base has, by the names of its weights."""
    blocks = (BLOCK_OF.fullmatch(name) for name in base)
    return 1 + max((int(block[2]) for block in blocks if block is not None), default=-1)


def in_full(error: AssayError) -> str:
    """An error's sentence for people; where it names only the first differences, all of them instead, one a line."""
    differences = error.differences if isinstance(error, AdapterMismatch) else ()
    if len(differences) <= _FEW:
        return printable(str(error))
    return "\n  ".join(map(printable, [str(error).partition(": ")[0], *differences]))


def raise_differences(differences: list[str], tensors: int, *, all_strange: bool) -> None:
    """Raise `AdapterMismatch` with all of these differences, the first few of them in its sentence; none is fine."""
    if not differences:
        return
    first = "; ".join(differences[:_FEW]) + (f"; and {len(differences) - _FEW} more" if len(differences) > _FEW else "")
    if all_strange:
        summary = f"none of the adapter's {tensors} tensors belongs to the base, it was trained on another model"
    else:
        summary = f"the adapter does not fit the base, {len(differences)} differences in {tensors} tensors"
    raise AdapterMismatch(f"{summary}: {first}", differences)


def _wanted(module: str, leaf: str, weight: tuple[int, ...], rank: int) -> tuple[int, ...]:
    if len(weight) == 3:
        experts, out, into = weight
        return (experts, rank, into) if leaf == "lora_a" else (experts, out, rank)
    out, into = weight
    if module.rpartition(".")[2] in EMBEDDINGS:
        out, into = into, out
    return (into, rank) if leaf == "lora_a" else (rank, out)


def base_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a base's weight matrices by name, from the headers of its files; nothing is loaded.

    folder: safetensors (one file or shards; MLX-quantised ones give their logical shapes), or else a GGUF file of the
    Llama family's layer names, or a folder that holds one. Raises `ModelError`.
    """
    if folder.suffix == ".gguf" and folder.is_file():
        return gguf_shapes(read_gguf_header(folder).shapes)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; give the folder of the base model")
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    if not files:
        ggufs = sorted({gguf_files(file)[0] for file in folder.glob("*.gguf")})
        if len(ggufs) == 1:
            return gguf_shapes(read_gguf_header(ggufs[0]).shapes)
        what = "several GGUF files; name one of them" if ggufs else "neither safetensors nor GGUF files"
        raise ModelError(f"{folder}: holds {what}")
    _check_shards(folder, files)
    tensors: dict[str, TensorSpec] = {}
    for file in files:
        try:
            tensors.update(read_header(file))
        except CheckpointError as error:
            raise ModelError(f"the base's weights are damaged: {error}") from None
    return _logical(tensors, _quantization(folder))


def _check_shards(folder: Path, files: list[Path]) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index}: not an index of safetensors shards; fetch the model again") from None
    missing = sorted(named - {file.name for file in files})
    if missing:
        raise ModelError(f"{folder}: {len(missing)} of {len(named)} shards are missing, first {missing[0]}")


def _quantization(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = config.get("quantization") if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def _logical(tensors: Mapping[str, TensorSpec], quantization: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Weight matrices with the shape they stand for: MLX packs `32 / bits` values of a row into each uint32."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, spec in tensors.items():
        if not name.endswith(".weight") or len(spec.shape) not in (2, 3):
            continue
        shape = spec.shape
        if spec.dtype == "U32" and name.removesuffix("weight") + "scales" in tensors:
            own = quantization.get(name.removesuffix(".weight"))
            bits = own.get("bits") if isinstance(own, dict) else quantization.get("bits")
            if type(bits) is not int or bits < 1:
                raise ModelError(f"{name} is quantised, but config.json does not say to how many bits; fetch it again")
            shape = (*shape[:-1], shape[-1] * 32 // bits)
        shapes[name] = shape
    return shapes
