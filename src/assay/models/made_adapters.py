"""Adapters that nobody trained: one pair of zeros, which changes nothing. What a server does with it tells of its base.

vLLM 0.32 takes a tensor that is smaller than its layer wants, and reads the rest as zeros; it passes over layers that its base
does not have; only what is larger is refused. So an adapter of another base may be taken, and answer as no training made it.
Who asks with a pair that is larger by one learns whether the layer is there, and no larger than the adapter's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from assay.adapters.files import CONFIG_NAME
from assay.adapters.module_names import in_transformers
from assay.adapters.safetensors_file import write_safetensors
from assay.checkpoints.layouts import PEFT_WEIGHTS
from assay.types import TensorSpec

_NUMBER = re.compile(r"\d+")


class Pair(NamedTuple):
    """A module by mlx-lm's name, and how many numbers go in and out of it."""

    module: str
    inputs: int
    outputs: int

    @property
    def kind(self) -> tuple[str, int, int]:
        """What the modules of all layers have in common."""
        return _NUMBER.sub("#", self.module), self.inputs, self.outputs

    @property
    def layer(self) -> tuple[int, ...]:
        """The numbers in the name."""
        return tuple(map(int, _NUMBER.findall(self.module)))

    @property
    def block(self) -> str:
        """The part of the base that the module lies in: the name up to its last number."""
        numbers = list(_NUMBER.finditer(self.module))
        return self.module[: numbers[-1].end()] if numbers else self.module


def pairs_of(tensors: Mapping[str, TensorSpec]) -> list[Pair]:
    """All pairs of an adapter, in mlx-lm's form; what is no matrix is left out."""
    shapes = {name: spec.shape for name, spec in tensors.items()}
    modules = sorted({name.rpartition(".")[0] for name in shapes})
    found = ((module, shapes.get(f"{module}.lora_a", ()), shapes.get(f"{module}.lora_b", ())) for module in modules)
    return [Pair(module, a[0], b[1]) for module, a, b in found if len(a) == len(b) == 2]


def outermost(pairs: Iterable[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Of each kind the last layer, and of each kind the first: where they are, those in between are."""
    kinds: dict[tuple[str, int, int], list[Pair]] = {}
    for pair in pairs:
        kinds.setdefault(pair.kind, []).append(pair)
    return [max(kind, key=_layer) for kind in kinds.values()], [min(kind, key=_layer) for kind in kinds.values()]


def write_zeros(pair: Pair, folder: Path) -> list[Path]:
    """Write the pair as a PEFT adapter of rank 1; its files, the weights last."""
    name = in_transformers(pair.module)
    specs = {
        f"base_model.model.{name}.lora_A.weight": TensorSpec((1, pair.inputs), "F16"),
        f"base_model.model.{name}.lora_B.weight": TensorSpec((pair.outputs, 1), "F16"),
    }
    config, weights = folder / CONFIG_NAME, folder / PEFT_WEIGHTS
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": [name]}
    config.write_text(json.dumps({**settings, "bias": "none"}) + "\n", encoding="utf-8")
    write_safetensors(weights, specs, lambda name: np.zeros(specs[name].shape, np.uint16), {"format": "pt"})
    return [config, weights]


def _layer(pair: Pair) -> tuple[int, ...]:
    return pair.layer
