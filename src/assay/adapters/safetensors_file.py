"""Write a safetensors file, one tensor in memory at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from assay.adapters.buffer import Buffer
from assay.adapters.lora import FLOATS, Bits
from assay.types import TensorSpec


def write_safetensors(
    path: Path, tensors: Mapping[str, TensorSpec], read: Callable[[str], Bits], about: Mapping[str, str]
) -> None:
    """Write the tensors, each as `read` gives it by its name. about: what the header says besides."""
    # The wide ones first, so that each lies where its type wants it; the header is filled up for the same reason.
    order = sorted(tensors, key=lambda name: (-FLOATS[tensors[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": dict(about)} if about else {}
    end = 0
    for name in order:
        start, end = end, end + math.prod(tensors[name].shape) * FLOATS[tensors[name].dtype]
        header[name] = {"dtype": tensors[name].dtype, "shape": tensors[name].shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        buffer = Buffer()
        for name in order:
            file.write(buffer.contiguous(read(name)).data)
