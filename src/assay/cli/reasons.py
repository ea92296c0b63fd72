"""Why answers have no score, in a few lines after the table: counts alone don't say what to mend."""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import TypeAlias

# By suite and reason, the answers that failed so.
Reasons: TypeAlias = Counter[tuple[str, str]]

_SHOWN = 3
_LENGTH = 200


def print_reasons(reasons: Reasons) -> None:
    """The commonest reasons of each suite, on standard error. Those that differ in numbers only are one."""
    alike: dict[tuple[str, str], tuple[str, int]] = {}
    for (suite, reason), count in reasons.items():
        key = suite, re.sub(r"\d+", "0", reason)
        shown, known = alike.get(key, (reason, 0))
        alike[key] = shown, known + count
    for suite in dict.fromkeys(suite for suite, _ in reasons):
        found = sorted((entry for key, entry in alike.items() if key[0] == suite), key=lambda entry: -entry[1])
        for reason, count in found[:_SHOWN]:
            said = reason if len(reason) <= _LENGTH else reason[: _LENGTH - 3] + "..."
            print(f"assay: {suite}: {count} without a score: {said}", file=sys.stderr)
        if len(found) > _SHOWN:
            left = sum(count for _, count in found[_SHOWN:])
            print(f"assay: {suite}: {left} for {len(found) - _SHOWN} other reasons", file=sys.stderr)
