"""Numbers of one floating-point type as another, on their bits: numpy has no bfloat16."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from assay.adapters.lora import Bits

Dtype: TypeAlias = Literal["f32", "f16", "bf16"]
DTYPES = {dtype: dtype.upper() for dtype in get_args(Dtype)}

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def cast(bits: Bits, source: str, target: str) -> Bits:
    """The bits of the nearest numbers of the type `target` (F32, F16, BF16; halves go to even; to BF16 by way of F32).

    Raises `OverflowError` where the type has none that is near.
    """
    if source == target:
        return bits
    wide = _floats(bits, source)
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4" if target == "BF16" else _FLOATS[target], copy=False)
    cut: Bits = _rounded(narrow.view("<u4")) if target == "BF16" else narrow.view(f"<u{narrow.itemsize}")
    if not np.isfinite(_floats(cut, target)).all():
        raise OverflowError(f"the largest is {np.abs(wide).max():.3g}")
    return cut


def _floats(bits: Bits, dtype: str) -> Any:
    if dtype == "BF16":  # the upper half of a float32
        return (bits.astype("<u4") << 16).view("<f4")
    return bits.view(_FLOATS[dtype])


def _rounded(bits: Any) -> Any:
    """The upper halves, rounded to even by the lower ones."""
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
