"""LoRA adapters as mlx-lm writes them: read, digest, copy to where nobody overwrites them, check against a base.

An adapter is `adapters.safetensors` (or `0000100_adapters.safetensors`, …) with `adapter_config.json` beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from assay.adapters.fit import base_shapes, check_against
from assay.adapters.header import Layout, read_header, read_layout
from assay.errors import AdapterBroken, NotReady
from assay.types import Adapter, Checkpoint, TensorSpec

__all__ = ["CONFIG_NAME", "WEIGHTS_NAME", "base_shapes", "check_against", "read_adapter", "read_header", "stage"]

WEIGHTS_NAME = "adapters.safetensors"
CONFIG_NAME = "adapter_config.json"
_BLOCK = 1 << 20  # bytes read at a time, so that memory stays bounded
_FLOATS = {"F16", "BF16", "F32", "F64"}


def read_adapter(weights: Path, config: Path) -> Adapter:
    """Read an adapter and check that it is whole.

    Raises `NotReady` if a file is missing or still being written, `AdapterBroken` if it is not a LoRA adapter of
    mlx-lm's (lora_a and lora_b pairs whose inner dimension is the configured rank).
    """
    return _read(weights, config, weights, config)


def stage(checkpoint: Checkpoint, folder: Path) -> Adapter:
    """Copy the checkpoint to `folder/<digest>/`, and read the copy: a trainer that overwrites its file can't change it.

    The copy appears whole or not at all. Raises as `read_adapter`, and `NotReady` if a file changed during the copy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".stage-", dir=folder))
    try:
        _copy(checkpoint.config, temporary / CONFIG_NAME)
        _copy(checkpoint.weights, temporary / WEIGHTS_NAME)
        adapter = _read(temporary / WEIGHTS_NAME, temporary / CONFIG_NAME, checkpoint.weights, checkpoint.config)
        final = folder / adapter.digest
        if not _holds(final, adapter):
            try:
                temporary.rename(final)
            except OSError:  # another process was faster
                if not _holds(final, adapter):
                    raise
        return Adapter(
            adapter.digest, final / WEIGHTS_NAME, adapter.rank, adapter.scale, adapter.layers, adapter.tensors
        )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds(final: Path, adapter: Adapter) -> bool:
    """Whether an earlier copy is there and whole; a damaged one is removed."""
    if not final.exists():
        return False
    try:
        there = read_adapter(final / WEIGHTS_NAME, final / CONFIG_NAME)
    except (NotReady, AdapterBroken):
        there = None
    if there is not None and (there.digest, there.layers) == (adapter.digest, adapter.layers):
        return True
    shutil.rmtree(final)
    return False


def _copy(source: Path, target: Path) -> None:
    """Copy, and read the source again: time stamps are too coarse, and come too late, to show every change alone."""

    def state(stat: os.stat_result) -> tuple[int, int, int]:
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    try:
        with source.open("rb") as reading:
            before = os.fstat(reading.fileno())
            with target.open("wb") as writing:
                shutil.copyfileobj(reading, writing, _BLOCK)
            reading.seek(0)
            with target.open("rb") as copy:
                same = hashlib.file_digest(reading, "sha256").digest() == hashlib.file_digest(copy, "sha256").digest()
        after = source.stat()  # by path again: a trainer may also have put a new file there
    except FileNotFoundError:
        raise _missing(source) from None
    except PermissionError:
        raise AdapterBroken(f"{source}: the file can't be read; check its permissions") from None
    if not same or state(before) != state(after):
        raise NotReady(f"{source}: the file changed while it was copied; training may still be writing it")


def _read(weights: Path, config: Path, shown_weights: Path, shown_config: Path) -> Adapter:
    """`read_adapter`, with errors that name the files as the user knows them."""
    rank, scale, layers = _read_config(config, shown_config)
    try:
        with weights.open("rb") as file:
            layout = read_layout(file, shown_weights)
            _check_pairs(layout.tensors, rank, shown_weights)
            digest = _digest(file, layout, rank, scale, shown_weights)
    except FileNotFoundError:
        raise _missing(shown_weights) from None
    except OSError as error:
        raise AdapterBroken(f"{shown_weights}: the file can't be read ({error.strerror or error})") from None
    return Adapter(digest, weights, rank, scale, layers, dict(layout.tensors))


def _missing(path: Path) -> NotReady:
    return NotReady(f"{path}: the file is not there (yet); training may still be writing it")


def _read_config(path: Path, shown: Path) -> tuple[int, float, int]:
    """(rank, scale, layers) of an mlx-lm `adapter_config.json`; other keys are the trainer's business."""
    config = _load_config(path, shown)
    if "peft_type" in config:
        raise AdapterBroken(f"{shown}: a PEFT adapter, which is not supported; give one that mlx-lm has written")
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise AdapterBroken(f"{shown}: fine_tune_type {kind!r} is not supported; only 'lora' adapters can be evaluated")
    parameters = config.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise AdapterBroken(f"{shown}: has no lora_parameters; only adapters that mlx-lm has written can be evaluated")
    rank, scale, layers = parameters.get("rank"), parameters.get("scale"), config.get("num_layers", -1)
    if type(rank) is not int or rank < 1:
        raise AdapterBroken(f"{shown}: lora_parameters.rank must be a positive whole number, not {rank!r}")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise AdapterBroken(f"{shown}: lora_parameters.scale must be a number, not {scale!r}")
    if type(layers) is not int:
        raise AdapterBroken(f"{shown}: num_layers must be a whole number, not {layers!r}")
    return rank, float(scale), layers if layers > 0 else -1


def _load_config(path: Path, shown: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _missing(shown) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterBroken(f"{shown}: the file can't be read ({error})") from None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text.rstrip().endswith("}"):  # its end has not been written
            raise NotReady(f"{shown}: cut off; training may still be writing it") from None
        raise AdapterBroken(f"{shown}: not JSON ({error}); repair it or train again") from None
    if not isinstance(config, dict):
        raise AdapterBroken(f"{shown}: not a JSON object; it must be mlx-lm's adapter configuration")
    return config


def _check_pairs(tensors: Mapping[str, TensorSpec], rank: int, path: Path) -> None:
    """Raise `AdapterBroken` unless these are lora_a and lora_b pairs of this rank."""
    problems: list[str] = []
    pairs: dict[str, dict[str, TensorSpec]] = {}
    for name, spec in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf not in ("lora_a", "lora_b"):
            problems.append(f"{name} is neither lora_a nor lora_b")
        elif spec.dtype not in _FLOATS:
            problems.append(f"{name} has the type {spec.dtype}, not a floating-point one")
        else:
            pairs.setdefault(module, {})[leaf] = spec
    for module, pair in pairs.items():
        for leaf in ("lora_a", "lora_b"):
            if leaf not in pair:
                problems.append(f"{module}.{leaf} is missing")
            elif (inner := _inner(leaf, pair[leaf].shape)) != rank:
                problems.append(f"{module}.{leaf} of shape {pair[leaf].shape} has the rank {inner}, not {rank}")
    if not tensors:
        problems.append("it holds no tensors")
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise AdapterBroken(
            f"{path}: not a LoRA adapter of rank {rank} as mlx-lm writes it: {'; '.join(problems[:3])}{more}"
        )


def _inner(leaf: str, shape: tuple[int, ...]) -> int | None:
    """The rank that a tensor's shape tells: (in, rank) and (rank, out); for experts (E, rank, in) and (E, out, rank)."""
    match leaf, shape:
        case ("lora_a", (_, rank)) | ("lora_b", (rank, _)) | ("lora_a", (_, rank, _)) | ("lora_b", (_, _, rank)):
            return rank
        case _:
            return None


def _finite(block: bytes, dtype: str) -> bool:
    """Whether all values in a block of whole ones are numbers. bfloat16's exponent is all ones for what is none."""
    import numpy as np

    if dtype == "BF16":
        return not bool(((np.frombuffer(block, np.uint16) & 0x7F80) == 0x7F80).any())
    kind = {"F16": np.float16, "F32": np.float32, "F64": np.float64}.get(dtype)
    return kind is None or bool(np.isfinite(np.frombuffer(block, kind)).all())


def _digest(file: BinaryIO, layout: Layout, rank: int, scale: float, path: Path) -> str:
    """sha256 over the tensors in order of their names (name, type, shape, bytes), the scale and the rank."""
    digest = hashlib.sha256()
    for name in sorted(layout.tensors):
        spec, (start, end) = layout.tensors[name], layout.spans[name]
        digest.update(json.dumps([name, spec.dtype, spec.shape]).encode() + b"\n")
        file.seek(start)
        while start < end:
            block = file.read(min(_BLOCK, end - start))
            if not block:
                raise NotReady(f"{path}: became shorter while it was read; training may still be writing it")
            if not _finite(block, spec.dtype):
                raise AdapterBroken(f"{path}: {name} holds NaN or infinite values; the training has diverged")
            digest.update(block)
            start += len(block)
    digest.update(json.dumps({"rank": rank, "scale": scale}).encode())
    return digest.hexdigest()
