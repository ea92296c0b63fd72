"""A LoRA adapter as PEFT writes it, turned into mlx-lm's files, which are what assay reads.

PEFT keeps `lora_A` as (rank, in) and `lora_B` as (out, rank), the transposes of mlx-lm's, and scales by lora_alpha / r, or by
lora_alpha / √r for rank-stabilised LoRA (Kalajdzievski 2023, arXiv 2312.03732). What mlx-lm's files can't say is refused by
name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np

from assay.adapters.header import Layout, read_layout
from assay.errors import AdapterBroken
from assay.types import TensorSpec

_PREFIX = "base_model.model."
_PAIR = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_BLOCK = re.compile(r"(?:.*\.)?layers\.(\d+)\..+")
# What mlx-lm's configuration has no word for, by the values that mean "not used".
_UNUSED: Mapping[str, tuple[object, ...]] = {
    "use_dora": (None, False),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "fan_in_fan_out": (None, False),
    "lora_bias": (None, False),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "use_qalora": (None, False),
    "corda_config": (None,),
    "alora_invocation_tokens": (None, []),
}


def normalise(weights: Path, config: Path, shown_weights: PurePath, shown_config: PurePath) -> None:
    """Rewrite both files in place, in mlx-lm's form. One tensor is in memory at a time.

    shown_weights, shown_config: what errors call them. Raises `AdapterBroken` for what is no LoRA adapter, or one that uses
    what mlx-lm's form can't express; `NotReady` for a file that is cut off.
    """
    settings = _settings(config, shown_config)
    rank, scale = _rank_and_scale(settings, shown_config)
    with weights.open("rb") as file:
        layout = read_layout(file, shown_weights)
        names = {name: _mlx_name(name, shown_weights) for name in layout.tensors}
        if len(set(names.values())) != len(names):
            raise AdapterBroken(f"{shown_weights}: two of its tensors are of one layer")
        target = weights.with_suffix(".mlx")
        _write(file, layout, names, target)
    target.replace(weights)
    made = {
        "fine_tune_type": "lora",
        "num_layers": _layers(names.values()),
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0},
        "model": settings.get("base_model_name_or_path"),
    }
    config.write_text(json.dumps(made), encoding="utf-8")


def _settings(config: Path, shown: PurePath) -> dict[str, Any]:
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterBroken(f"{shown}: can't be read as JSON ({error})") from None
    if not isinstance(settings, dict) or "peft_type" not in settings:
        raise AdapterBroken(f"{shown}: has no peft_type, so it is no configuration of PEFT's")
    if settings["peft_type"] != "LORA":
        raise AdapterBroken(
            f"{shown}: peft_type {settings['peft_type']!r} is not supported; only LORA can be evaluated"
        )
    used = [name for name, unused in _UNUSED.items() if settings.get(name) not in unused]
    if settings.get("bias", "none") != "none":
        used.append("bias")
    if used:
        raise AdapterBroken(
            f"{shown}: uses {', '.join(used)}, which can't be evaluated; only plain LoRA and rsLoRA can"
        )
    return settings


def _rank_and_scale(settings: Mapping[str, Any], shown: PurePath) -> tuple[int, float]:
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        raise AdapterBroken(f"{shown}: r must be a positive whole number, not {rank!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise AdapterBroken(f"{shown}: lora_alpha must be a number, not {alpha!r}")
    return rank, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _mlx_name(name: str, shown: PurePath) -> str:
    match = _PAIR.fullmatch(name.removeprefix(_PREFIX))
    if match is None or not name.startswith(_PREFIX):
        raise AdapterBroken(f"{shown}: the tensor {name} is no part of a LoRA over linear layers")
    return f"{match[1]}.lora_{match[2].lower()}"


def _layers(names: Any) -> int:
    """How many of the last blocks are adapted; -1 if the first is, and so perhaps all: `check_against` sees what is missing."""
    blocks = {int(match[1]) for name in names if (match := _BLOCK.fullmatch(name)) is not None}
    if not blocks or 0 in blocks:
        return -1
    return max(blocks) - min(blocks) + 1


def _write(file: BinaryIO, layout: Layout, names: Mapping[str, str], target: Path) -> None:
    """The same tensors transposed, under their new names, as a safetensors file."""
    order = sorted(layout.tensors, key=lambda name: names[name])
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        spec, (start, stop) = layout.tensors[name], layout.spans[name]
        shape = tuple(reversed(_matrix(name, spec)))
        header[names[name]] = {"dtype": spec.dtype, "shape": shape, "data_offsets": [end, end + stop - start]}
        end += stop - start
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            spec, (start, stop) = layout.tensors[name], layout.spans[name]
            file.seek(start)
            rows, columns = _matrix(name, spec)
            size = (stop - start) // max(1, rows * columns)
            raw = np.frombuffer(file.read(stop - start), dtype=f"V{size}").reshape(rows, columns)
            out.write(np.ascontiguousarray(raw.T).tobytes())


def _matrix(name: str, spec: TensorSpec) -> tuple[int, int]:
    if len(spec.shape) != 2:
        raise AdapterBroken(f"the tensor {name} has the shape {spec.shape}; a linear layer's LoRA has two dimensions")
    return spec.shape[0], spec.shape[1]
