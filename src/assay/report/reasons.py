"""Why answers have no score, in a few lines after the table: counts alone don't say what to mend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.results.lens import Missing

_SHOWN = 3
_LENGTH = 200


@dataclass(slots=True)
class _Reason:
    error_class: str
    said: str
    example: str
    count: int = 0


class Reasons:
    """Counts answers by suite, class and reason; reasons that differ in numbers only are one."""

    def __init__(self) -> None:
        self._found: dict[str, dict[tuple[str, str], _Reason]] = {}

    def add(self, suite: str, error_class: str, reason: str, example: str, count: int = 1) -> None:
        """So many answers of a suite have no score for a reason. example: which one, for people."""
        key = error_class, re.sub(r"\d+", "0", reason)
        found = self._found.setdefault(suite, {}).setdefault(key, _Reason(error_class, reason, example))
        found.count += count

    def add_journaled(self, suite: str, missing: Sequence[Missing]) -> None:
        """Those that the journal has of a suite. The base and a model without a name need not be named."""
        for one in missing:
            who = "" if one.checkpoint in ("base", "") else f" of {one.checkpoint}"
            self.add(suite, one.error_class, one.reason, f"{one.sample}{who}", one.count)

    def add_answer(self, failures: Sequence[Mapping[str, str]], which: str) -> None:
        """The failures of one answer, as `ScoredAnswer` has them: once for each reason, however many metrics lack a score."""
        for suite, error_class, reason in {(f["suite"], f["error_class"], f["reason"]): 0 for f in failures}:
            self.add(suite, error_class, reason, which)

    @property
    def has_unplaced(self) -> bool:
        """Are there answers without a score that no suite has counted?"""
        return "" in self._found

    def lines(self) -> Iterator[str]:
        """The commonest of each suite."""
        for suite, by_key in self._found.items():
            suite = suite or "answers that fit no suite"
            found = sorted(by_key.values(), key=lambda reason: -reason.count)
            for one in found[:_SHOWN]:
                said = one.said if len(one.said) <= _LENGTH else one.said[: _LENGTH - 3] + "..."
                which = f"such as {one.example}" if one.count > 1 else one.example
                yield f"{suite}: {one.count} without a score ({one.error_class}; {which}): {said}"
            if len(found) > _SHOWN:
                left = sum(one.count for one in found[_SHOWN:])
                yield f"{suite}: {left} for {len(found) - _SHOWN} other reasons"
