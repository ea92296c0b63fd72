"""Figures as people read them: no interval looks as if it had no width."""

from __future__ import annotations

import pytest

from assay.report.figures import decimals, difference_figure, number_figure, share_figure
from assay.results.means import Means


@pytest.mark.parametrize(
    ("share", "interval", "text"),
    [
        (0.54, (0.437, 0.639), "54% [44%–64%]"),
        (2 / 3, None, "67%"),
        (0.0, (0.0, 0.00004), "0.000% [0.000%–0.004%]"),
        (1.0, (0.9962, 1.0), "100.0% [99.6%–100.0%]"),
        (0.996, (0.978, 0.9993), "99.6% [97.8%–99.9%]"),
        (0.001, None, "0.1%"),
        (0.0, None, "0%"),
        (1.0, (0.21, 1.0), "100% [21%–100%]"),
    ],
)
def test_shares(share: float, interval: tuple[float, float] | None, text: str) -> None:
    assert share_figure(share, interval) == text


@pytest.mark.parametrize(
    ("mean", "interval", "text"),
    [
        (7.3123, (6.9, 7.7239), "7.31 [6.90 to 7.72]"),
        (5.0, (4.9998, 5.0002), "5.0000 [4.9998 to 5.0002]"),
        (5.0, None, "5.00"),
    ],
)
def test_numbers(mean: float, interval: tuple[float, float] | None, text: str) -> None:
    assert number_figure(mean, interval) == text


def test_differences() -> None:
    assert difference_figure(0.2, (0.111, 0.266), "points") == "+20 points [+11 to +27]"
    assert difference_figure(0.0, (-0.0004, 0.0003), "points") == "+0.00 points [-0.04 to +0.03]"
    assert difference_figure(0.0, None, "points") == "+0 points"
    assert difference_figure(0.314, (-0.1, 0.7), "") == "+0.31 [-0.10 to +0.70]"
    assert difference_figure(3.0, (2.999, 3.001), "") == "+3.000 [+2.999 to +3.001]"
    assert difference_figure(3.0, None, "") == "+3.00"
    assert difference_figure(-0.245, (-0.36, -0.1081), "%") == "-24.5% [-36.0 to -10.8]"


def test_a_million_equal_answers_are_no_certainty_to_the_eye() -> None:
    alike = Means(questions=1_000_000, answers=1_000_000, mean=5.0, least=5.0, most=5.0, shares=1e6)
    low, high = alike.number_interval(0, 10) or (0, 0)
    assert low < 5 < high
    assert number_figure(5.0, (low, high)) == "5.00000 [4.99999 to 5.00001]"
    assert decimals(low, high, 2) == 5
    assert decimals(5, 5, 2) == 2
