"""The mean over all tokens, and how sure it is: against the plain formulas, and against many draws."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.results.means import Means
from assay.results.stats import t_quantile
from assay.results.tally import Tally
from assay.results.weighted import WeightedMeans, weighted_change
from assay.types import Score, ScoreFailure

PAIRS = st.lists(st.tuples(st.floats(0.01, 20), st.integers(1, 500)), min_size=2, max_size=20)


@given(PAIRS)
def test_mean_and_error_are_the_ratio_estimators(pairs: list[tuple[float, int]]) -> None:
    means = WeightedMeans.of(pairs)
    total = sum(w for _, w in pairs)
    ratio = math.fsum(v * w for v, w in pairs) / total
    squares = math.fsum((w * (v - ratio)) ** 2 for v, w in pairs)
    assert means.mean == pytest.approx(ratio)
    assert means.error == pytest.approx(math.sqrt(len(pairs) / (len(pairs) - 1) * squares) / total, abs=1e-6)


def test_equal_weights_give_the_plain_mean_and_its_interval() -> None:
    values = [1.0, 2.5, 2.0, 4.0, 3.0]
    weighted, plain = WeightedMeans.of((v, 7.0) for v in values), Means.of(values)
    assert weighted.mean == pytest.approx(fmean(values))
    assert weighted.error == pytest.approx(stdev(values) / math.sqrt(5))
    assert weighted.number_interval(0.0, math.inf) == pytest.approx(plain.number_interval(0.0, math.inf))


def test_a_geometric_mean_is_the_exponential_of_the_losses_mean() -> None:
    losses = [(0.3, 12), (2.0, 3), (1.1, 40)]
    plain = WeightedMeans.of(losses)
    geometric = WeightedMeans.of(((math.exp(v), w) for v, w in losses), geometric=True)
    assert geometric.mean == pytest.approx(math.exp(plain.mean))
    expected = plain.number_interval(0.0, math.inf)
    assert expected is not None
    assert geometric.number_interval(1.0, math.inf) == pytest.approx([max(1.0, math.exp(end)) for end in expected])


def test_nothing_tells_of_one_text_or_of_texts_that_are_all_alike() -> None:
    assert WeightedMeans.of([]).number_interval(0, math.inf) is None
    assert WeightedMeans.of([(2.0, 9)]).number_interval(0, math.inf) is None
    assert WeightedMeans.of([(2.0, 9), (2.0, 4)]).number_interval(0, math.inf) is None


def test_the_interval_holds_the_true_loss_as_often_as_it_says() -> None:
    drawn, held, texts = random.Random(7), 0, 40
    for _ in range(1000):
        pairs = []
        for _ in range(texts):
            tokens = drawn.randint(5, 200)
            pairs.append((drawn.gauss(2.0 + 0.002 * tokens, 0.5), tokens))
        low, high = WeightedMeans.of(pairs).number_interval(-math.inf, math.inf) or (0.0, 0.0)
        # E[tokens * loss] / E[tokens], of whole numbers drawn evenly from 5 to 200.
        truth = 2.0 + 0.002 * (sum(n * n for n in range(5, 201)) / sum(range(5, 201)))
        held += low <= truth <= high
    assert 925 <= held <= 970


def test_a_tally_takes_weights_as_scores_state_them() -> None:
    tally = Tally()
    for loss, tokens in ((1.0, 1), (2.0, 9)):  # a text of one token has a weight as well
        tally.add(Score("loss", loss, 0.0, math.inf, {}, tokens, lower_is_better=True))
    tally.add(ScoreFailure("loss", "permanent", "gone"))
    assert tally.means().mean == pytest.approx(1.9)
    assert (tally.scored, tally.failed, tally.asked, tally.means().questions) == (2, 1, 3, 2)
    low, high = tally.interval() or (0.0, 0.0)
    reach = t_quantile(0.975, 1) * math.sqrt(2 * (0.9**2 + (9 * 0.1) ** 2)) / 10
    assert (low, high) == pytest.approx((max(0.0, 1.9 - reach), 1.9 + reach))


def test_a_change_counts_texts_by_their_weights() -> None:
    change = weighted_change([1.0, 2.0], [0.5, 2.2], [10, 30])
    assert (change.old, change.new) == pytest.approx((1.75, 1.775))
    assert change.interval is not None
    assert change.interval[0] < 0.025 < change.interval[1]
    ratio = weighted_change([math.e, math.e**2], [math.e**0.5, math.e**2.2], [10, 30], geometric=True)
    assert (ratio.old, ratio.new) == pytest.approx((math.exp(1.75), math.exp(1.775)))
    assert ratio.difference == pytest.approx(math.exp(0.025) - 1)
    assert ratio.interval == pytest.approx([math.exp(end) - 1 for end in change.interval])


def test_a_change_by_like_factors_is_known_well_however_far_apart_the_texts_are() -> None:
    old, factors = [2.0, 40.0, 900.0, 15.0], [0.79, 0.8, 0.81, 0.8]
    moved = weighted_change(old, [x * f for x, f in zip(old, factors, strict=True)], [10, 30, 5, 7], geometric=True)
    assert moved.difference == pytest.approx(-0.2, abs=0.005)
    assert moved.interval is not None
    assert -0.22 < moved.interval[0] < moved.difference < moved.interval[1] < -0.18
