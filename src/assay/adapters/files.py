"""LoRA adapters: read, digest, copy to where nobody overwrites them, check against a base.

An adapter is mlx-lm's `adapters.safetensors` (or `0000100_adapters.safetensors`, …) with `adapter_config.json` beside it;
PEFT's are turned into that. One that is a GGUF file stays one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeAlias

from msgspec import structs

from assay.adapters.fit import BLOCK_OF, base_shapes, check_against
from assay.adapters.gguf_lora import GGUF_NAME, read_gguf_adapter
from assay.adapters.header import read_header, read_layout
from assay.adapters.lora import Lora, Part
from assay.adapters.mlx_files import INPUT_ONLY
from assay.adapters.peft import normalise
from assay.errors import AdapterBroken, CheckpointError, DiskFault, HostFault, NotReady
from assay.hosts.base import Host
from assay.types import Adapter, Checkpoint, TensorSpec

__all__ = [
    "CONFIG_NAME",
    "WEIGHTS_NAME",
    "base_shapes",
    "check_against",
    "read_adapter",
    "read_header",
    "stage",
    "staged",
]

WEIGHTS_NAME = "adapters.safetensors"
CONFIG_NAME = "adapter_config.json"
_FLOATS = {"F16", "BF16", "F32", "F64"}

Size: TypeAlias = tuple[int, float]  # rank and scale


def read_adapter(weights: Path, config: Path, shown: tuple[PurePath, PurePath] | None = None) -> Adapter:
    """Read an adapter and check that it is whole. shown: what errors call the files, if not what they are called.

    Raises `NotReady` if a file is missing or still being written, `AdapterBroken` if it is not a LoRA adapter of
    mlx-lm's (lora_a and lora_b pairs whose inner dimension is the configured rank), or one as `stage` makes it of PEFT's.
    """
    return _read(weights, config, *(shown or (weights, config)))


async def stage(host: Host, checkpoint: Checkpoint, folder: Path) -> Adapter:
    """Copy the checkpoint from its host to `folder/<digest>/`, and read the copy: a trainer can't change it under us.

    The copy appears whole or not at all; one that was cut off is gone on with by a later call. Raises as `read_adapter`,
    `NotReady` if a file changed during the copy or is gone, `Unreachable` as the host does, and `DiskFault` where there
    is no room. Not for two callers at once: one watch at a time holds a workspace.
    """
    temporary = folder / f".fetch-{_name_of(checkpoint)}"
    shown = checkpoint.weights, checkpoint.config
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        if checkpoint.layout == "gguf":
            await _copy(host, checkpoint.weights, temporary / GGUF_NAME)
        else:
            await _copy(host, checkpoint.config, temporary / CONFIG_NAME)
            await _copy(host, checkpoint.weights, temporary / WEIGHTS_NAME)
        adapter = await asyncio.to_thread(_settle, checkpoint, temporary, folder, shown)
    except CheckpointError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    except OSError as error:
        raise DiskFault(_no_room(checkpoint.weights, folder, error.strerror or str(error))) from error
    shutil.rmtree(temporary, ignore_errors=True)
    return adapter


def _settle(checkpoint: Checkpoint, temporary: Path, folder: Path, shown: tuple[PurePath, PurePath]) -> Adapter:
    """Read the copied files, and give their folder its name."""
    if checkpoint.layout == "peft":
        normalise(temporary / WEIGHTS_NAME, temporary / CONFIG_NAME, *shown)
    adapter = _read_copy(temporary, shown)
    final = folder / adapter.digest
    if not _holds(final, adapter):
        try:
            temporary.rename(final)
        except OSError:  # another process was faster
            if not _holds(final, adapter):
                raise
    return structs.replace(adapter, weights=final / adapter.weights.name)


def _read_copy(place: Path, shown: tuple[PurePath, PurePath] | None = None) -> Adapter:
    """The adapter that lies in a folder of ours. Raises as `read_adapter`."""
    if (place / GGUF_NAME).exists():
        return read_gguf_adapter(place / GGUF_NAME, shown[0] if shown else None)
    return read_adapter(place / WEIGHTS_NAME, place / CONFIG_NAME, shown)


def staged(folder: Path, digest: str) -> Adapter | None:
    """The copy that an earlier `stage` left under this digest; None if there is none, or it is damaged."""
    place = folder / digest
    try:
        adapter = _read_copy(place)
    except CheckpointError:
        return None
    return adapter if adapter.digest == digest else None


def _name_of(checkpoint: Checkpoint) -> str:
    """What tells a state of a checkpoint's files from all others, so that half a copy of another one is never gone on with."""
    text = json.dumps([checkpoint.host, str(checkpoint.weights), *checkpoint.state])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


async def _copy(host: Host, source: PurePosixPath, target: Path) -> None:
    try:
        if not await asyncio.to_thread(target.exists):
            await host.copy_from(source, target)
    except HostFault as fault:
        if fault.kind == "full":
            raise DiskFault(_no_room(source, target.parent.parent, str(fault))) from fault
        if fault.kind == "missing":
            raise _missing(source) from None
        if fault.kind == "changed":
            raise NotReady(
                f"{source}: the file changed while it was copied; training may still be writing it"
            ) from None
        raise AdapterBroken(f"{source}: the file can't be read ({fault}); check its permissions") from None


def _no_room(source: PurePath, folder: Path, why: str) -> str:
    return (
        f"{source} could not be copied to {folder} ({why}); what was earned is safe: make room and run the same command "
        "again"
    )


def _holds(final: Path, adapter: Adapter) -> bool:
    """Whether an earlier copy is there and whole; a damaged one is removed."""
    if not final.exists():
        return False
    try:
        there = _read_copy(final)
    except (NotReady, AdapterBroken):
        there = None
    if there is not None and structs.replace(there, weights=adapter.weights) == adapter:
        return True
    shutil.rmtree(final)
    return False


def read_lora(weights: Path, config: Path, shown: tuple[PurePath, PurePath] | None = None) -> Lora:
    """The adapter by its headers: its numbers are not looked at. shown, raises: as `read_adapter`."""
    shown_weights, shown_config = shown or (weights, config)
    configured, layers, base, input_only = _read_config(config, shown_config)
    try:
        with weights.open("rb") as file:
            layout = read_layout(file, shown_weights)
    except FileNotFoundError:
        raise _missing(shown_weights) from None
    except OSError as error:
        raise AdapterBroken(f"{shown_weights}: the file can't be read ({error.strerror or error})") from None
    parts = {name: Part(spec, *layout.spans[name]) for name, spec in layout.tensors.items()}
    modules = {name.rpartition(".")[0] for name in parts}
    sizes = dict.fromkeys(modules, configured) if isinstance(configured, tuple) else configured
    if sizes.keys() != modules:
        raise AdapterBroken(f"{shown_config}: names other modules than {shown_weights} holds; fetch both again")
    _check_pairs(layout.tensors, sizes, shown_weights)
    ranks = {module: rank for module, (rank, _) in sizes.items()}
    scales = {module: scale for module, (_, scale) in sizes.items()}
    return Lora(weights, shown_weights, parts, ranks, scales, layers, base, input_only=input_only)


def _read(weights: Path, config: Path, shown_weights: PurePath, shown_config: PurePath) -> Adapter:
    """`read_adapter`, with errors that name the files as the user knows them."""
    lora = read_lora(weights, config, (shown_weights, shown_config))
    try:
        digest = lora.digest()
    except FileNotFoundError:
        raise _missing(shown_weights) from None
    except OSError as error:
        raise AdapterBroken(f"{shown_weights}: the file can't be read ({error.strerror or error})") from None
    own = {module: size for module, size in lora.sizes.items() if size != lora.common}
    return Adapter(digest, weights, *lora.common, lora.layers, lora.tensors, own=own, input_only=lora.input_only)


def _missing(path: PurePath) -> NotReady:
    return NotReady(f"{path}: the file is not there (yet); training may still be writing it")


def _read_config(path: Path, shown: PurePath) -> tuple[Size | dict[str, Size], int, str, bool]:
    """Of an mlx-lm `adapter_config.json`: the modules' rank and scale, the layers, the base's name or "", `input_only`.

    Our own has the rank and scale of each module by its name. Other keys are the trainer's.
    """
    config = _load_config(path, shown)
    if "peft_type" in config:
        raise AdapterBroken(
            f"{shown}: a PEFT adapter's configuration, but beside mlx-lm's weights; a PEFT adapter is adapter_model.safetensors"
        )
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise AdapterBroken(
            f"{shown}: fine_tune_type {kind!r} is not supported; only 'lora' adapters can be evaluated: fuse it into its base "
            "with mlx_lm.fuse, and name what that writes as a model"
        )
    parameters = config.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise AdapterBroken(f"{shown}: has no lora_parameters; only adapters that mlx-lm has written can be evaluated")
    modules = parameters.get("modules")
    sizes: Size | dict[str, Size]
    if isinstance(modules, dict) and "rank" not in parameters:
        sizes = {module: _size(own, f"lora_parameters.modules.{module}", shown) for module, own in modules.items()}
    else:
        sizes = _size(parameters, "lora_parameters", shown)
    layers = config.get("num_layers", -1)
    if type(layers) is not int:
        raise AdapterBroken(f"{shown}: num_layers must be a whole number, not {layers!r}")
    keys = parameters.get("keys")
    if isinstance(keys, list) and any(BLOCK_OF.fullmatch(str(key)) for key in keys):
        layers = 0
    elif layers <= 0:
        layers = -1
    base = config.get("model")
    return sizes, layers, base if isinstance(base, str) else "", config.get(INPUT_ONLY) is True


def _size(parameters: Any, where: str, shown: PurePath) -> Size:
    rank, scale = (parameters.get(name) if isinstance(parameters, dict) else None for name in ("rank", "scale"))
    if type(rank) is not int or rank < 1:
        raise AdapterBroken(f"{shown}: {where}.rank must be a positive whole number, not {rank!r}")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise AdapterBroken(f"{shown}: {where}.scale must be a number, not {scale!r}")
    return rank, float(scale)


def _load_config(path: Path, shown: PurePath) -> dict[str, Any]:
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


def _check_pairs(tensors: Mapping[str, TensorSpec], sizes: Mapping[str, Size], path: PurePath) -> None:
    """Raise `AdapterBroken` unless these are lora_a and lora_b pairs of these ranks."""
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
        rank, _ = sizes[module]
        for leaf in ("lora_a", "lora_b"):
            if leaf not in pair:
                problems.append(f"{module}.{leaf} is missing")
            elif (inner := _inner(leaf, pair[leaf].shape)) != rank:
                problems.append(f"{module}.{leaf} of shape {pair[leaf].shape} has the rank {inner}, not {rank}")
    if not tensors:
        problems.append("it holds no tensors")
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        ranks = sorted({rank for rank, _ in sizes.values()})
        of = f" of rank {ranks[0]}" if len(ranks) == 1 else ""
        raise AdapterBroken(f"{path}: not a LoRA adapter{of} as mlx-lm writes it: {'; '.join(problems[:3])}{more}")


def _inner(leaf: str, shape: tuple[int, ...]) -> int | None:
    """The rank that a tensor's shape tells: (in, rank) and (rank, out); for experts (E, rank, in) and (E, out, rank)."""
    match leaf, shape:
        case ("lora_a", (_, rank)) | ("lora_b", (rank, _)) | ("lora_a", (_, rank, _)) | ("lora_b", (_, _, rank)):
            return rank
        case _:
            return None
