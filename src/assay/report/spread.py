"""How far apart a judge's votes on one answer lie: a line below the table, for each rubric and judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

# What a judge of several votes leaves in a score's detail.
SPREAD, _VOTES, _FAILED = "spread", "votes", "failed_votes"


class Spreads:
    """The spreads (highest vote less lowest) of scores that are the median of several votes; of others nothing is kept."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, int], Counter[float]] = {}

    def add(self, scorer: str, judge: str, votes: int, spread: float, count: int = 1) -> None:
        """Add `count` scores of `votes` votes each with this spread."""
        self._found.setdefault((scorer, judge, votes), Counter())[spread] += count

    def add_score(self, scorer: str, judge: str, detail: Mapping[str, Any]) -> None:
        """Add a score by its detail."""
        if SPREAD in detail:
            self.add(scorer, judge, len(detail[_VOTES]) + detail[_FAILED], detail[SPREAD])

    def lines(self) -> list[str]:
        """One for each rubric, and for each judge where there are several."""
        several = len({judge for _, judge, _ in self._found}) > 1
        return [
            f"votes: {votes} for each score of {scorer.removeprefix('judge:')}{f' by {judge}' if several else ''}, "
            f"median spread {_median(spreads):g}, largest {max(spreads):g}"
            for (scorer, judge, votes), spreads in self._found.items()
        ]


def _median(spreads: Counter[float]) -> float:
    """Half of the spreads are at most so large; of an even number the mean of the middle two."""
    middle = [(spreads.total() - 1) // 2, spreads.total() // 2]
    found, passed = [], 0
    for spread in sorted(spreads):
        found += [spread for at in middle if passed <= at < passed + spreads[spread]]
        passed += spreads[spread]
    return sum(found) / 2
