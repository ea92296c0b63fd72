"""A LoRA adapter written as PEFT's `adapter_model.safetensors` and its `adapter_config.json`."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.adapters.buffer import Buffer
from assay.adapters.dtypes import cast
from assay.adapters.fit import EMBEDDINGS, raise_differences
from assay.adapters.lora import Bits, Lora
from assay.adapters.module_names import in_transformers
from assay.adapters.safetensors_file import write_safetensors
from assay.types import TensorSpec


def write_peft(lora: Lora, weights: Path, config: Path, tensors: Mapping[str, TensorSpec], base: str) -> None:
    """Write the adapter. tensors: what each of its own becomes, by mlx-lm's names and in its shapes.

    base: what the configuration calls the base. Raises `AdapterMismatch` with all that PEFT has no layer for.
    """
    strange = [
        f"{name}: PEFT has no layer for it" for name in sorted(lora.parts) if len(lora.parts[name].spec.shape) != 2
    ]
    raise_differences(strange, len(lora.parts), all_strange=False)
    own = lora.tensors
    names = {_name(name): name for name in own}
    specs = {peft: TensorSpec(tensors[name].shape[::-1], tensors[name].dtype) for peft, name in names.items()}
    buffer = Buffer()
    with lora.weights.open("rb") as file:

        def read(peft: str) -> Bits:
            name = names[peft]
            return cast(lora.read(file, name, buffer), own[name].dtype, tensors[name].dtype).T

        write_safetensors(weights, specs, read, {"format": "pt"})
    config.write_text(json.dumps(_settings(lora, base), indent=2) + "\n", encoding="utf-8")


def _name(name: str) -> str:
    module, _, leaf = name.rpartition(".")
    side = leaf[-1].upper()
    path = f"base_model.model.{in_transformers(module)}"
    return f"{path}.lora_embedding_{side}" if module.rpartition(".")[2] in EMBEDDINGS else f"{path}.lora_{side}.weight"


def _settings(lora: Lora, base: str) -> dict[str, object]:
    """PEFT's configuration. Each module is named in full: PEFT then adapts these, and no others that end alike."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or None,
        "inference_mode": True,
        **sizes(lora.sizes, stabilised=lora.stabilised),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(map(in_transformers, lora.ranks)),
    }


def sizes(modules: Mapping[str, tuple[int, float]], *, stabilised: bool) -> dict[str, Any]:
    """What PEFT's configuration says of the rank and the scale of each module. modules: by mlx-lm's names."""
    ranks = {module: rank for module, (rank, _) in modules.items()}
    alphas = {module: _alpha(*size, stabilised=stabilised) for module, size in modules.items()}
    rank, alpha = Counter(ranks.values()).most_common(1)[0][0], Counter(alphas.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": stabilised,
        "rank_pattern": {_pattern(module): own for module, own in sorted(ranks.items()) if own != rank},
        "alpha_pattern": {_pattern(module): own for module, own in sorted(alphas.items()) if own != alpha},
    }


def _alpha(rank: int, scale: float, *, stabilised: bool) -> float:
    """The lora_alpha by which PEFT comes to the very scale, bit for bit where one of the nearest does."""
    divisor = math.sqrt(rank) if stabilised else rank
    alpha = scale * divisor
    for near in (float(round(alpha)), alpha, math.nextafter(alpha, math.inf), math.nextafter(alpha, -math.inf)):
        if near / divisor == scale:
            alpha = near
            break
    return int(alpha) if alpha == int(alpha) else alpha


def _pattern(module: str) -> str:
    return re.escape(in_transformers(module))
