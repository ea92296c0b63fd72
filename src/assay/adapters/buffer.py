"""Memory that is used again, for one tensor after another: fresh memory costs more than what is copied into it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Buffer:
    """What it gave last is overwritten by what it gives next. Not for several threads."""

    def __init__(self) -> None:
        self._bytes: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def take(self, size: int) -> npt.NDArray[np.uint8]:
        """So many bytes, of any content."""
        if size > self._bytes.size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size]

    def contiguous(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The array's bytes in row-major order: its own where they lie so, else a copy."""
        if array.flags.c_contiguous:
            return array.reshape(-1).view(np.uint8)
        copied = self.take(array.nbytes)
        np.copyto(copied.view(array.dtype).reshape(array.shape), array)
        return copied
