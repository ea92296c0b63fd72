"""Krippendorff's alpha, against his own worked examples and the definition's plain double sums."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.scorers.alpha import alpha

# "Computing Krippendorff's Alpha-Reliability" (2011), part D: four observers, twelve units, some not rated by all.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
UNITS = [[value for value in unit if value is not None] for unit in zip(*OBSERVERS, strict=True)]


def plain(units: Sequence[Sequence[float]], apart: Callable[[float, float], float]) -> float:
    """The definition: observed over expected disagreement, pair by pair."""
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    observed = sum(apart(*pair) / (len(unit) - 1) for unit in units for pair in permutations(unit, 2)) / len(values)
    expected = sum(apart(*pair) for pair in permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - observed / expected


def between(units: Sequence[Sequence[float]]) -> Callable[[float, float], float]:
    """The ordinal metric: ratings between two levels, both with half of their own, squared."""
    often = Counter(value for unit in units if len(unit) > 1 for value in unit)

    def apart(a: float, b: float) -> float:
        low, high = sorted((a, b))
        return (sum(n for level, n in often.items() if low <= level <= high) - (often[low] + often[high]) / 2) ** 2

    return apart


def test_the_example_of_the_paper() -> None:
    found = alpha(UNITS)
    assert found.units == 11, "one unit has one rating alone"
    assert found.interval.value == pytest.approx(0.849, abs=5e-4)
    assert found.ordinal.value == pytest.approx(0.815, abs=5e-4)
    assert found.interval.low is not None
    assert found.interval.high is not None
    assert found.interval.low < 0.849 < found.interval.high <= 1
    assert alpha(UNITS) == found


# The same paper, part A: ten articles, two observers, right or wrong; 0.095 by any metric, for there are two values.
def test_two_values() -> None:
    found = alpha(list(zip([0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0], strict=True)))
    assert found.interval.value == pytest.approx(0.095, abs=5e-4)
    assert found.ordinal.value == pytest.approx(0.095, abs=5e-4)


@given(st.lists(st.lists(st.integers(1, 10), min_size=1, max_size=4), min_size=2, max_size=8))
def test_it_is_what_the_definition_says(units: list[list[int]]) -> None:
    found = alpha(units)
    rated = [unit for unit in units if len(unit) > 1]
    if len({value for unit in rated for value in unit}) < 2:
        assert found.interval.value is found.ordinal.value is None
        return
    assert found.interval.value == pytest.approx(plain(units, lambda a, b: (a - b) ** 2))
    assert found.ordinal.value == pytest.approx(plain(units, between(units)))


def test_what_is_not_defined_is_not_made_up() -> None:
    for nothing in ([], [[1]], [[1], [2]], [[3, 3], [3, 3]]):
        assert alpha(nothing).interval.value is None
        assert alpha(nothing).ordinal.value is None
    assert alpha([[1, 1], [2, 2]]).interval.value == 1
    assert alpha([[1, 1], [2, 2]]).interval.low is None, "too few for an interval"
    assert alpha([list(pair) for pair in product([1, 2], repeat=2)]).interval.value == pytest.approx(0.125)
    with pytest.raises(ValueError, match="not a finite number"):
        alpha([[1, math.nan]])
