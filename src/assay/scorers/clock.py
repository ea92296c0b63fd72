"""Times of day, as "3:30", "3:30 PM" and "15:30" write them."""

from __future__ import annotations

import re

_TIME = re.compile(r"(?<![\w:.])(\d{1,2})(?::([0-5]\d))?(?![\d:])(?:\s?([ap])\.?m\b\.?)?", re.IGNORECASE)


def times(text: str) -> list[tuple[str, frozenset[int]]]:
    """The times of day in a text, as written, each with the minutes after midnight that it may mean.

    There are two where neither "am" nor "pm" tells them apart, one from 13:00 on. A number alone is no time.
    """
    found = []
    for match in _TIME.finditer(text):
        hour, minute, half = int(match[1]), int(match[2] or 0), (match[3] or "").lower()
        if (match[2] is None and not half) or hour > (12 if half else 23):
            continue
        hours = [hour % 12 + 12 * (half == "p")] if half else [hour, (hour + 12) % 24][: 2 if hour <= 12 else 1]
        found.append((match[0].strip(), frozenset(60 * each + minute for each in hours)))
    return found


def single_time(text: str) -> frozenset[int] | None:
    """What the whole text means as a time of day; None if it is anything else."""
    found = times(text.strip())
    return found[0][1] if len(found) == 1 and found[0][0] == text.strip() else None
