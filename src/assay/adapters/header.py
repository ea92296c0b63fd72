"""The header of a safetensors file, read strictly and without touching the data behind it.

A file that is shorter than its own header says is still being written (`NotReady`); one that contradicts itself will
never become an adapter (`AdapterBroken`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from assay.errors import AdapterBroken, NotReady
from assay.types import TensorSpec

# Bits per element; some of the newest types are smaller than a byte.
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}
PREFIX = 8  # bytes, that tell the header's length
_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
_ZIP, _PICKLE, _PROTOCOLS = b"PK\x03\x04", b"\x80", (b"\x02", b"\x03", b"\x04", b"\x05")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a safetensors file holds: each tensor's type and shape, and where its bytes lie (start, end) in the file."""

    tensors: Mapping[str, TensorSpec]
    spans: Mapping[str, tuple[int, int]]


def read_header(path: Path) -> dict[str, TensorSpec]:
    """The tensors of a safetensors file by name, without loading them.

    Raises `NotReady` if the file is missing or shorter than its header says, `AdapterBroken` if it can't be a
    safetensors file.
    """
    try:
        with path.open("rb") as file:
            return dict(read_layout(file, path).tensors)
    except FileNotFoundError:
        raise NotReady(f"{path}: the file is not there (yet); training may still be writing it") from None
    except OSError as error:
        raise AdapterBroken(
            f"{path}: the file can't be read ({error.strerror or error}); check its permissions"
        ) from None


def read_layout(file: BinaryIO, path: PurePath) -> Layout:
    """The layout of an open safetensors file; `path` is only what error messages call it. Raises as `read_header`."""
    size = file.seek(0, 2)
    file.seek(0)
    length = header_length(file.read(PREFIX), size, path)
    return layout_of(file.read(length), size, path)


def header_length(prefix: bytes, size: int, path: PurePath) -> int:
    """How many bytes the header has, from the file's first `PREFIX` bytes and its size. Raises as `read_header`."""
    length = int.from_bytes(prefix, "little")
    # A header of 640 bytes begins like a pickle of protocol 2; no pickle reads as a length that a header may have.
    pickled = prefix[:1] == _PICKLE and prefix[1:2] in _PROTOCOLS and length > _HEADER_LIMIT
    if prefix.startswith(_ZIP) or pickled:
        raise AdapterBroken(f"{path}: a pickled PyTorch file, not safetensors; save the adapter as safetensors")
    if len(prefix) < PREFIX:
        raise NotReady(f"{path}: only {size} bytes so far; training may still be writing it")
    if not 2 <= length <= _HEADER_LIMIT:
        raise _broken(path, f"its header claims a length of {length} bytes")
    if size < PREFIX + length:
        raise NotReady(
            f"{path}: cut off inside its header ({size} of at least {PREFIX + length} bytes); training may still be writing it"
        )
    return length


def layout_of(header: bytes, size: int, path: PurePath) -> Layout:
    """The layout that the header after the prefix tells, checked against the file's size. Raises as `read_header`."""
    entries = _parse(header, path)
    layout, data_size = _lay_out(entries, PREFIX + len(header), path)
    expected = PREFIX + len(header) + data_size
    if size < expected:
        raise NotReady(f"{path}: {size} of {expected} bytes so far; training may still be writing the rest")
    if size > expected:
        raise _broken(path, f"it is {size} bytes long, but its header accounts for {expected}")
    return layout


def _parse(raw: bytes, path: PurePath) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a name occurs twice")
        return result

    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not JSON ({str(error)[:100]})") from None
    if not isinstance(entries, dict):
        raise _broken(path, "its header is not a JSON object")
    entries.pop("__metadata__", None)
    return entries


def _lay_out(entries: dict[str, Any], start: int, path: PurePath) -> tuple[Layout, int]:
    """Check every entry, and that the data has neither holes nor overlaps. Returns also the data's size in bytes."""
    tensors: dict[str, TensorSpec] = {}
    offsets: dict[str, tuple[int, int]] = {}
    for name, entry in entries.items():
        tensors[name], offsets[name] = _entry(name, entry, path)
    end = 0
    for name, (first, last) in sorted(offsets.items(), key=lambda item: item[1]):
        if first != end:
            raise _broken(path, f"the data of {name!r} begins at {first}, where {end} was due")
        end = last
    return Layout(tensors, {name: (start + a, start + b) for name, (a, b) in offsets.items()}), end


def _entry(name: str, entry: Any, path: PurePath) -> tuple[TensorSpec, tuple[int, int]]:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(first), int(last)]}:
            pass
        case _:
            raise _broken(path, f"the entry of {name!r} is not a dtype, a shape and two offsets")
    if dtype not in _BITS:
        raise _broken(path, f"{name!r} has the unknown type {dtype!r}")
    if not all(type(dimension) is int and dimension >= 0 for dimension in shape):
        raise _broken(path, f"{name!r} has the impossible shape {shape}")
    bits = math.prod(shape) * _BITS[dtype]
    if not 0 <= first <= last or (last - first) * 8 != bits:
        raise _broken(path, f"{name!r} of type {dtype} and shape {shape} can't lie at {first} to {last}")
    return TensorSpec(tuple(shape), dtype), (first, last)


def _broken(path: PurePath, why: str) -> AdapterBroken:
    return AdapterBroken(f"{path}: not a whole safetensors file: {why}; fetch or save it again")


def finite(block: bytes | memoryview, dtype: str) -> bool:
    """Whether all values in a block of whole ones are numbers. bfloat16's exponent is all ones for what is none."""
    import numpy as np

    if dtype == "BF16":
        return not bool(((np.frombuffer(block, np.uint16) & 0x7F80) == 0x7F80).any())
    kind = {"F16": np.float16, "F32": np.float32, "F64": np.float64}.get(dtype)
    return kind is None or bool(np.isfinite(np.frombuffer(block, kind)).all())
