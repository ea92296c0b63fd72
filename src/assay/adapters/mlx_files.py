"""A LoRA adapter written as mlx-lm's `adapters.safetensors` and its `adapter_config.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from assay.adapters.buffer import Buffer
from assay.adapters.dtypes import cast
from assay.adapters.lora import Lora
from assay.adapters.safetensors_file import write_safetensors
from assay.types import TensorSpec

INPUT_ONLY = "assay_input_only"
_IN_BLOCK = re.compile(r"(?:.*\.)?layers\.\d+\.(.+)")


def write_mlx(
    lora: Lora, weights: Path, config: Path, tensors: Mapping[str, TensorSpec], base: str, *, input_only: bool = False
) -> None:
    """Write the adapter. tensors: what each becomes. base: what the configuration calls the base.
    input_only: as in `Adapter`, in a key of our own.

    mlx-lm's configuration has one rank and one scale. Of an adapter whose modules differ it becomes one of our own, that has
    those of each and that mlx-lm refuses.
    """
    buffer = Buffer()
    with lora.weights.open("rb") as file:
        own = lora.tensors
        write_safetensors(
            weights, tensors, lambda name: cast(lora.read(file, name, buffer), own[name].dtype, tensors[name].dtype), {}
        )
    made = {
        "fine_tune_type": "lora",
        "num_layers": lora.layers,
        "lora_parameters": {**_sizes(lora), "dropout": 0.0, "keys": _keys(lora)},
        "model": base or None,
        **({INPUT_ONLY: True} if input_only else {}),
    }
    config.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def _sizes(lora: Lora) -> dict[str, object]:
    if lora.uniform is None:
        return {"modules": {module: {"rank": rank, "scale": scale} for module, (rank, scale) in lora.sizes.items()}}
    rank, scale = lora.uniform
    return {"rank": rank, "scale": scale}


def _keys(lora: Lora) -> list[str]:
    """The modules as mlx-lm is told of them: by their paths within a block, or from the model's root.

    From the root it adapts no others, which is what is wanted where they are not the last whole blocks.
    """
    if lora.layers == 0:
        return sorted(lora.ranks)
    found = (_IN_BLOCK.fullmatch(module) for module in lora.ranks)
    return sorted({match[1] if match else module for match, module in zip(found, lora.ranks, strict=True)})
