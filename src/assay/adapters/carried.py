"""Weights of the base that an adapter's file holds besides: nothing is lost without them if they are the base's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from assay.adapters.bases import Base
from assay.adapters.dtypes import cast
from assay.adapters.header import read_layout
from assay.adapters.lora import FLOATS, Lora, Part
from assay.errors import AdapterMismatch


def check_carried(lora: Lora, base: Base) -> None:
    """Raise `AdapterMismatch` unless the weights that the adapter carries are the base's own, to the bit in their type."""
    differing = [name for name in sorted(lora.carried) if not _same(lora, name, base.path)]
    if differing:
        raise AdapterMismatch(
            f"{lora.shown}: holds weights that are not the base's own, which no form but PEFT's can: {', '.join(differing)}; "
            "name the very base with --base as safetensors, or keep PEFT's files",
            [f"{name}: differs from the base's" for name in differing],
        )


def _same(lora: Lora, name: str, base: Path) -> bool:
    for path in sorted(base.glob("*.safetensors")) if base.is_dir() else []:
        with path.open("rb") as file, lora.weights.open("rb") as own_file:
            layout = read_layout(file, path)
            spec, own = layout.tensors.get(name), lora.carried[name].spec
            if spec is None or spec.dtype not in FLOATS or spec.shape != own.shape:
                continue
            there = Lora(path, path, {name: Part(spec, *layout.spans[name])}, {}, {}, 0).read(file, name)
            try:
                return bool(np.array_equal(cast(there, spec.dtype, own.dtype), lora.read(own_file, name)))
            except OverflowError:
                return False
    return False
