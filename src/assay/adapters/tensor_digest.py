"""The digest of an adapter's tensors, whichever way their bytes come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath

from assay.adapters.header import finite
from assay.errors import AdapterBroken
from assay.types import TensorSpec

_BLOCK = 1 << 18  # bytes that are looked at and then hashed: what a core's cache holds


class TensorDigest:
    """sha256 over tensors in order of their names (name, type, shape, bytes), and at the end over what scales them.

    shown: what errors call the file.
    """

    def __init__(self, shown: PurePath) -> None:
        self._shown = shown
        self._sha = hashlib.sha256()
        self._name, self._dtype = "", ""

    def begin(self, name: str, spec: TensorSpec) -> None:
        """The next tensor; `add` gives its bytes."""
        self._name, self._dtype = name, spec.dtype
        self._sha.update(json.dumps([name, spec.dtype, spec.shape]).encode() + b"\n")

    def add(self, block: memoryview) -> None:
        """Whole elements of the tensor, in row-major order. Raises `AdapterBroken` for NaN and infinity."""
        for at in range(0, len(block), _BLOCK):
            part = block[at : at + _BLOCK]
            if not finite(part, self._dtype):
                raise AdapterBroken(
                    f"{self._shown}: {self._name} holds NaN or infinite values; the training has diverged"
                )
            self._sha.update(part)

    def end(self, scaling: Mapping[str, object]) -> str:
        """The digest, in hexadecimal digits."""
        self._sha.update(json.dumps(dict(scaling)).encode())
        return self._sha.hexdigest()
