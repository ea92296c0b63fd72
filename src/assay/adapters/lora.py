"""A LoRA adapter as it lies in a safetensors file, mlx-lm's or PEFT's, seen as mlx-lm lays it out.

mlx-lm keeps `lora_a` as (in, rank) and `lora_b` as (rank, out), PEFT the transposes. One tensor is in memory at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePath
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from assay.adapters.buffer import Buffer
from assay.adapters.header import read_layout
from assay.adapters.tensor_digest import TensorDigest
from assay.errors import AdapterBroken, NotReady
from assay.types import Adapter, TensorSpec

# A tensor's numbers as they are stored, for numpy has no bfloat16: unsigned integers of their width.
Bits: TypeAlias = "npt.NDArray[np.unsignedinteger[npt.NBitBase]]"

FLOATS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}  # bytes


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor, and where its bytes lie in the file. spec: as mlx-lm has it. turned: the file holds its transpose."""

    spec: TensorSpec
    start: int
    end: int
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Lora:
    """Each module's pair by mlx-lm's names (`model.layers.0.self_attn.q_proj.lora_a`), and what decides its size.

    shown: what errors call the file. ranks, scales: of each module; `scale` is what its product is multiplied with. layers: as
    in `Adapter`. base: what the adapter's configuration calls its base, "" where it doesn't. stabilised: by PEFT's rsLoRA.
    carried: weights of the base itself that the file holds besides, by the base's names. input_only: as in `Adapter`.
    """

    weights: Path
    shown: PurePath
    parts: Mapping[str, Part]
    ranks: Mapping[str, int]
    scales: Mapping[str, float]
    layers: int
    base: str = ""
    stabilised: bool = False
    carried: Mapping[str, Part] = field(default_factory=dict)
    input_only: bool = False

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        return {name: part.spec for name, part in self.parts.items()}

    @property
    def dtypes(self) -> list[str]:
        return sorted({part.spec.dtype for part in self.parts.values()})

    @property
    def uniform(self) -> tuple[int, float] | None:
        """The rank and the scale that all modules have, None where they differ."""
        found = set(self.sizes.values())
        return next(iter(found)) if len(found) == 1 else None

    @property
    def sizes(self) -> dict[str, tuple[int, float]]:
        """Each module's rank and scale, in order of their names."""
        return {module: (self.ranks[module], self.scales[module]) for module in sorted(self.ranks)}

    @property
    def common(self) -> tuple[int, float]:
        """The rank and the scale that most modules have."""
        return Counter(self.sizes.values()).most_common(1)[0][0]

    def read(self, file: BufferedReader, name: str, buffer: Buffer | None = None) -> Bits:
        """The tensor as mlx-lm lays it out, perhaps a view of another order. buffer: where it may lie.

        Raises `NotReady` if the file became shorter.
        """
        part = self.parts[name] if name in self.parts else self.carried[name]
        shape = tuple(reversed(part.spec.shape)) if part.turned else part.spec.shape
        file.seek(part.start)
        raw = (buffer or Buffer()).take(part.end - part.start)
        if file.readinto(raw.data) < len(raw):
            raise _shorter(self.shown)
        bits: Bits = raw.view(f"<u{FLOATS[part.spec.dtype]}").reshape(shape)
        return bits.T if part.turned else bits

    def digest(self) -> str:
        """What `Adapter.digest` is of it. Raises `AdapterBroken` for NaN and infinity."""
        digest = TensorDigest(self.shown)
        read, turned = Buffer(), Buffer()
        with self.weights.open("rb") as file:
            for name in sorted(self.parts):
                digest.begin(name, self.parts[name].spec)
                digest.add(turned.contiguous(self.read(file, name, read)).data)
        # The same numbers in mlx-lm's form adapt more, where the embedding is the output as well.
        more = {"input_only": True} if self.input_only else {}
        if self.uniform is None:
            return digest.end({"modules": self.sizes, **more})
        rank, scale = self.uniform
        return digest.end({"rank": rank, "scale": scale, **more})


def lora_of(adapter: Adapter) -> Lora:
    """An adapter in mlx-lm's form. Raises `AdapterBroken` if its file is no longer what was read."""
    with adapter.weights.open("rb") as file:
        layout = read_layout(file, adapter.weights)
    if layout.tensors != adapter.tensors:
        raise AdapterBroken(f"{adapter.weights}: the file has changed since it was read; read it again")
    parts = {name: Part(spec, *layout.spans[name]) for name, spec in layout.tensors.items()}
    sizes = {module: adapter.size(module) for module in (name.rpartition(".")[0] for name in parts)}
    ranks = {module: rank for module, (rank, _) in sizes.items()}
    scales = {module: scale for module, (_, scale) in sizes.items()}
    return Lora(adapter.weights, adapter.weights, parts, ranks, scales, adapter.layers)


def _shorter(shown: PurePath) -> NotReady:
    return NotReady(f"{shown}: became shorter while it was read; training may still be writing it")
