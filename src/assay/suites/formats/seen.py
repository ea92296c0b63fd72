"""Which (id, model, repeat) a file has had: exact enough to tell duplicates, small enough for millions of lines."""

from __future__ import annotations

from array import array

_MASK = 2**64 - 1


class Seen:
    """A set of 64-bit hashes in one array: 16 to 32 bytes an answer, where a set of tuples takes some 200.

    Two different ones are taken for one with a chance of n² / 2⁶⁵: 3 in 10⁸ for a file of a million lines.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, name: str, model: str, repeat: int = 0) -> bool:
        """Add the answer; True if it was there before. In the journal repeat 1 of `a` is the same answer as `a#2`."""
        if 2 * self._count >= len(self._slots):
            self._grow()
        before = self._put(
            self._slots, (hash((f"{name}#{repeat + 1}" if repeat else name, model)) & _MASK) or 1
        )  # 0 marks a free slot
        self._count += not before
        return before

    def _grow(self) -> None:
        larger = array("Q", bytes(8 * 2 * len(self._slots)))
        for value in self._slots:
            if value:
                self._put(larger, value)
        self._slots = larger

    @staticmethod
    def _put(slots: array[int], value: int) -> bool:
        mask = len(slots) - 1
        index = value & mask
        while held := slots[index]:
            if held == value:
                return True
            index = (index + 1) & mask
        slots[index] = value
        return False
