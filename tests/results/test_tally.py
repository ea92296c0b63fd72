"""Streaming means and intervals equal those of the whole list."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.results.stats import mean_interval, wilson
from assay.results.tally import Tally
from assay.types import Score, ScoreFailure


def tally(values: list[float] | list[bool], low: float = 0.0, high: float = 10.0) -> Tally:
    made = Tally()
    for value in values:
        made.add(Score("m", value, low, high))
    return made


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_a_stream_of_numbers(values: list[float]) -> None:
    made = tally(values)
    assert made.mean == pytest.approx(fmean(values), abs=1e-9)
    assert made.interval() == pytest.approx(mean_interval(values, 0, 10), abs=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_stream_of_booleans(values: list[bool]) -> None:
    made = tally(values, high=1.0)
    assert (made.correct, made.scored) == (sum(values), len(values))
    assert made.interval() == wilson(sum(values), len(values))


def test_large_values_lose_no_digits() -> None:
    values = [1e9 + x for x in (4.0, 7.0, 13.0, 16.0)]
    assert tally(values, 0, math.inf).interval() == pytest.approx(mean_interval(values, 0, math.inf), abs=1e-5)


def test_what_has_no_score_is_counted_apart() -> None:
    made = tally([])
    assert made.interval() is None
    made.add(ScoreFailure("m", "truncated", "cut"))
    made.add(ScoreFailure("m", "permanent", "bad"))
    made.add(ScoreFailure("m", "transient", "bad"))
    made.add(Score("m", True))
    assert (made.asked, made.scored, made.truncated, made.failed, made.correct) == (4, 1, 1, 2, 1)


def test_many_values_take_the_normal_quantile() -> None:
    values = [float(i % 7) for i in range(5000)]
    assert tally(values).interval() == pytest.approx(mean_interval(values[:999] + values[999:], 0, 10), rel=1e-3)
