"""Where a text matches any of several patterns: all of them in one pass, or one pass each.

`make_scanner` gives Hyperscan's engine where its wheel is installed and this processor can run it, else Python's own
`re`. Both report the same matches; Hyperscan does so about 60 times as fast on prose with few matches.

What a pattern may hold: literals, alternatives, character classes, `\\b`, `?`, `+`, `*` and a leading `(?:^|…)`, over
bytes. Case is ignored for ASCII letters only. Hyperscan reports each end of a match once and knows no "leftmost": the
two agree only on patterns of which no two matches overlap and none can end at two places. Whole-word phrases that
aren't parts of one another are such.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import hyperscan

# The pattern's position in the list, and the offset in bytes of the match's end.
Match: TypeAlias = tuple[int, int]
# The matches of a text by their ends; those with one end are in any order.
Scanner: TypeAlias = Callable[[bytes], list[Match]]


class HyperscanScanner:
    """Hyperscan over all patterns at once. Safe to call from several threads.

    Raises ImportError where the package is missing, `hyperscan.error` where the processor can't run it.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        import hyperscan

        self._database = hyperscan.Database()
        self._database.compile(
            expressions=[pattern.encode("ascii") for pattern in patterns],
            ids=list(range(len(patterns))),
            flags=[hyperscan.HS_FLAG_CASELESS] * len(patterns),
        )
        self._scratch = _Scratch(self._database)

    def __call__(self, text: bytes) -> list[Match]:
        matches: list[Match] = []
        self._database.scan(text, match_event_handler=_keep, context=matches, scratch=self._scratch.own)
        return matches


class _Scratch(threading.local):
    """Working memory for the matcher, one per thread: a scan lets other threads run, and must not meet theirs."""

    def __init__(self, database: hyperscan.Database) -> None:
        self.own = database.scratch.clone()


def _keep(pattern: int, _start: int, end: int, _flags: int, matches: object) -> None:
    matches.append((pattern, end))  # type: ignore[attr-defined]


class ReScanner:
    """Python's `re`, one pass a pattern: everywhere, and slower."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [re.compile(pattern.encode("ascii"), re.IGNORECASE) for pattern in patterns]

    def __call__(self, text: bytes) -> list[Match]:
        matches = [(i, match.end()) for i, pattern in enumerate(self._patterns) for match in pattern.finditer(text)]
        matches.sort(key=itemgetter(1))
        return matches


def make_scanner(patterns: Sequence[str]) -> Scanner:
    """The fastest scanner that this machine can run."""
    try:
        import hyperscan
    except ImportError:
        return ReScanner(patterns)
    try:
        return HyperscanScanner(patterns)
    except hyperscan.error:
        return ReScanner(patterns)
