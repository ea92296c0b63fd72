"""Adapters whose modules differ, for engines that have one scale or one rank for all: by what changes no number of the product.

A power of two goes from the scale into `lora_b`, whose numbers keep all their digits, and ranks are filled up with zeros.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath

import numpy as np

from assay.adapters.buffer import Buffer
from assay.adapters.dtypes import cast
from assay.adapters.header import read_layout
from assay.adapters.lora import Bits, Lora, Part
from assay.adapters.safetensors_file import write_safetensors
from assay.errors import AdapterMismatch
from assay.types import TensorSpec

_WIDE = {"F64": ("<f8", "<u8"), "F32": ("<f4", "<u4")}
_EXACT = 1e-9  # how far apart numbers may be that differ by their own rounding alone


def differs(what: str, factors: Mapping[str, float]) -> str:
    """That the modules' factors differ, with an example. what: "alpha" or "scale"."""
    usual = _usual(factors)
    module, own = next((module, factor) for module, factor in sorted(factors.items()) if factor != usual)
    return (
        "scales its modules each in its own way (alpha_pattern, or rank_pattern with use_rslora; for instance "
        f"{module} has the {what} {own:g} and most have {usual:g})"
    )


def powers(factors: Mapping[str, float]) -> tuple[float, Mapping[str, int]] | None:
    """One factor for all modules, and the power of two that each has besides; None where there is no such factor.

    It is the one that most modules have.
    """
    one = _usual(factors)
    if one == 0:
        return None if any(factors.values()) else (one, dict.fromkeys(factors, 0))
    found: dict[str, int] = {}
    for module, factor in factors.items():
        ratio = factor / one
        found[module] = round(math.log2(ratio)) if 0 < ratio < math.inf else 0
        if not math.isclose(factor, math.ldexp(one, found[module]), rel_tol=_EXACT):
            return None
    return one, found


def _usual(factors: Mapping[str, float]) -> float:
    """What most modules have; of equally many, the first by their names."""
    return Counter(factors[module] for module in sorted(factors)).most_common(1)[0][0]


def multiplied(bits: Bits, dtype: str, power: int, shown: PurePath, name: str) -> Bits:
    """The numbers times 2 to the `power`. Raises `AdapterMismatch` unless all keep every digit."""
    if power == 0:
        return bits
    try:
        made = _times(bits, dtype, power)
        if np.array_equal(_times(made, dtype, -power), bits):
            return made
    except OverflowError:
        pass
    raise AdapterMismatch(
        f"{shown}: the numbers of {name} are too large or too small to be scaled by 2^{power} exactly"
    )


def levelled(lora: Lora, file: Path) -> Lora:
    """The same adapter with one rank and one scale for all modules, in a file of its own where it has to be changed for that.

    Raises `AdapterMismatch` where the scales have no factor in common.
    """
    if lora.uniform is not None:
        return lora
    found = powers(lora.scales)
    if found is None:
        raise AdapterMismatch(
            f"{lora.shown}: {differs('scale', lora.scales)}, and they can't be brought to one scale for a server "
            "without rounding; transformers and MLX take them as they are: name a local model as the base"
        )
    scale, by = found
    rank = max(lora.ranks.values())
    specs = {name: _widened(name, spec, rank) for name, spec in lora.tensors.items()}
    buffer = Buffer()
    with lora.weights.open("rb") as source:

        def read(name: str) -> Bits:
            module, _, leaf = name.rpartition(".")
            bits, dtype = lora.read(source, name, buffer), specs[name].dtype
            if leaf == "lora_b":
                bits = multiplied(bits, dtype, by[module], lora.shown, name)
            rows, columns = (wide - own for wide, own in zip(specs[name].shape, bits.shape, strict=True))
            return np.pad(bits, ((0, rows), (0, columns)))

        write_safetensors(file, specs, read, {})
    with file.open("rb") as made:
        spans = read_layout(made, file).spans
    parts = {name: Part(spec, *spans[name]) for name, spec in specs.items()}
    return Lora(file, lora.shown, parts, dict.fromkeys(by, rank), dict.fromkeys(by, scale), lora.layers, lora.base)


def _widened(name: str, spec: TensorSpec, rank: int) -> TensorSpec:
    """The tensor, of an adapter of linear layers or embeddings, with another rank."""
    rows, columns = spec.shape
    return TensorSpec((rows, rank) if name.endswith(".lora_a") else (rank, columns), spec.dtype)


def _times(bits: Bits, dtype: str, power: int) -> Bits:
    """The bits of the numbers times 2 to the `power`, rounded. Raises `OverflowError` where the type has none so large."""
    wide = "F64" if dtype == "F64" else "F32"
    with np.errstate(over="ignore", under="ignore"):
        made = np.ldexp(cast(bits, dtype, wide).view(_WIDE[wide][0]), power)
    return cast(made.view(_WIDE[wide][1]), wide, dtype)
