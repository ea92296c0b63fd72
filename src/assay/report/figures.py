"""A mean with its interval as text, with as many decimals as it takes not to show a width of nothing."""

from __future__ import annotations

from typing import Literal

Interval = tuple[float, float] | None

_MOST = 9


def share_figure(share: float, interval: Interval) -> str:
    """`54% [44%–64%]`; what is neither none nor all isn't shown as 0% or 100%."""
    shown = interval or (share, share)
    digits = decimals(*shown, 0, scale=100) if interval else 0
    while digits < _MOST and 0 < share < 1 and f"{share:.{digits}%}" in (f"{0:.{digits}%}", f"{1:.{digits}%}"):
        digits += 1
    text = f"{share:.{digits}%}"
    return f"{text} [{shown[0]:.{digits}%}–{shown[1]:.{digits}%}]" if interval else text


def number_figure(mean: float, interval: Interval) -> str:
    """`7.31 [6.90 to 7.72]`."""
    if interval is None:
        return f"{mean:.2f}"
    digits = decimals(*interval, 2)
    return f"{mean:.{digits}f} [{interval[0]:.{digits}f} to {interval[1]:.{digits}f}]"


def difference_figure(difference: float, interval: Interval, unit: Literal["", "points", "%"] = "") -> str:
    """`+0.31 [-0.10 to +0.72]`, or in hundredths with their unit: `+20 points [+11 to +27]`, `-12.3% [-15.0 to -9.5]`."""
    scale = 100 if unit else 1
    least = {"": 2, "points": 0, "%": 1}[unit]
    unit_shown = " points" if unit == "points" else unit
    if interval is None:
        return f"{difference * scale:+.{least}f}{unit_shown}"
    digits = decimals(*interval, least, scale=scale)
    low, high = (f"{end * scale:+.{digits}f}" for end in interval)
    return f"{difference * scale:+.{digits}f}{unit_shown} [{low} to {high}]"


def decimals(low: float, high: float, least: int, scale: float = 1) -> int:
    """How many decimals, `least` or more, it takes to show an interval's ends, `scale` times, as two numbers."""
    digits = least
    while digits < _MOST and low < high and float(f"{low * scale:.{digits}f}") == float(f"{high * scale:.{digits}f}"):
        digits += 1
    return digits
