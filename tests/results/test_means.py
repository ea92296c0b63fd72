"""Means over questions: by hand, by simulation, and what must hold however often each question was asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.results.means import Means
from assay.results.stats import wilson


def means(questions: Iterable[Sequence[float]]) -> Means:
    """Of the answers' scores of each question."""
    made = Means()
    for values in questions:
        made.add(fmean(values), len(values))
    return made


def number(values: Iterable[float], low: float, high: float, confidence: float = 0.95) -> tuple[float, float] | None:
    return Means.of(values).number_interval(low, high, confidence)


def test_students_sleep_data() -> None:
    # Differences of the data in Student (1908); R prints 0.7001142 to 2.4598858 for them
    sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert number(sleep, -10, 10) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)


def test_an_interval_is_clipped_to_the_bounds() -> None:
    assert number([1.0, 0.2], 0, 1) == (0.0, 1.0)


def test_one_question_tells_nothing_of_the_spread() -> None:
    assert number([], 0, 10) is None
    assert number([7.0], 0, 10) is None
    assert means([[7.0, 1.0, 3.0]]).number_interval(0, 10) is None
    assert Means().share_interval() is None


def test_equal_values_are_no_certainty() -> None:
    low, high = number([10.0] * 10, 0, 10) or (0, 0)
    assert low == pytest.approx(10 * 0.05**0.1)
    assert high == 10
    low, high = number([4.0] * 10, 0, 10) or (0, 0)
    assert 0 < low < 4 < high < 10
    assert number([4.0] * 10, -math.inf, 10) is None
    assert Means.of([0.0] * 3).number_interval(0, 273, varied=True) is None, (
        "the longest text's bound is not the others'"
    )
    assert Means.of([0.0, 1.0, 5.0]).number_interval(0, 273, varied=True) == number([0.0, 1.0, 5.0], 0, 273)
    assert number([0.0] * 10, 0, 0) is None, "a metric that can only be 0"


def test_means_that_are_equal_on_paper_are_equal() -> None:
    thirds = [[0.1, 0.2, 0.3], [0.2, 0.2, 0.2], [0.3, 0.1, 0.2], [0.2]]
    assert len({sum(values) / len(values) for values in thirds}) > 1
    made = Means()
    for values in thirds:
        made.add(sum(values) / len(values), len(values))
    low, high = made.number_interval(0, 1) or (0, 0)
    assert low < 0.11
    assert high > 0.6


def test_a_value_outside_of_its_bounds_is_an_error() -> None:
    for values in ([0.5, 11.0], [math.nan, math.nan]):
        with pytest.raises(ValueError, match="outside"):
            number(values, 0, 10)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        number([0.5], 0, 1, confidence)
    with pytest.raises(ValueError, match="confidence"):
        Means.of([1.0]).share_interval(confidence)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(-3, 5), min_size=2, max_size=40))
def test_an_interval_holds_the_mean_within_the_bounds(values: list[float]) -> None:
    low, high = number(values, -3, 5) or (0, 0)
    assert -3 <= low < high <= 5 or max(values) - min(values) < 1e-6
    assert low - 1e-9 <= sum(values) / len(values) <= high + 1e-9


@pytest.mark.parametrize(
    ("questions", "size"),
    [
        # Asked once: the answers are the questions.
        ([[1.0]] * 6 + [[0.0]] * 4, 10.0),
        # The same answer four times over tells no more than once.
        ([[1.0] * 4] * 6 + [[0.0] * 4] * 4, 10.0),
        ([[1.0] * 4] * 10, 10.0),
        ([[0.0] * 4] * 10, 10.0),
        # One question is one question.
        ([[1.0, 0.0, 1.0, 1.0]], 1.0),
        # Of two, nothing tells how much questions differ.
        ([[1.0, 0.0, 1.0, 0.0]] * 2, 2.0),
        # Questions that don't differ: as good as 40 answers.
        ([[1.0, 0.0, 1.0, 0.0]] * 10, 40.0),
        # 30 questions, a third all right, half right, all wrong. With two more, one right and one wrong, the squares around
        # 1/2 sum to 22 / 4; 1/4 · 30 · 32 / 5.5 = 43.64, times (t(119) / t(29))² = (1.980100 / 2.045230)².
        ([[1.0] * 4] * 10 + [[1.0, 1.0, 0.0, 0.0]] * 10 + [[0.0] * 4] * 10, 40.9016),
        # Unequal numbers: 31.3 by the formula, but at most what chance alone would leave, 20² / (10 / 1 + 10 / 3).
        ([[1.0]] * 5 + [[0.0]] * 5 + [[1.0, 0.0, 1.0]] * 5 + [[0.0, 0.0, 1.0]] * 5, 30.0),
    ],
)
def test_effective_size_by_hand(questions: list[list[float]], size: float) -> None:
    made = means(questions)
    assert made.effective_size() == pytest.approx(size, rel=1e-5)
    assert made.share_interval() == pytest.approx(wilson(made.mean * size, size), abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=30))
def test_repeats_never_widen_nor_promise_more_than_their_number(questions: list[list[bool]]) -> None:
    made = means([[float(right) for right in answers] for answers in questions])
    size = made.effective_size()
    assert made.questions == len(questions) <= size <= made.answers == sum(map(len, questions))
    low, high = made.share_interval() or (0, 0)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= made.mean <= high + 1e-12
    few, many = wilson(made.mean * len(questions), len(questions)), wilson(made.mean * made.answers, made.answers)
    assert high - low <= few[1] - few[0] + 1e-9
    assert high - low >= many[1] - many[0] - 1e-9
    mirrored = means([[1.0 - right for right in answers] for answers in questions]).share_interval()
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_one_wrong_answer_more_moves_an_interval_a_little() -> None:
    """Where all is right nothing tells whether repeats are worth anything; it must not be as if they were."""
    perfect = means([[1.0] * 4] * 50).share_interval() or (0, 0)
    flawed = means([[1.0] * 4] * 49 + [[1.0, 1.0, 1.0, 0.0]]).share_interval() or (0, 0)
    assert flawed[0] < perfect[0] + 0.005
    assert abs(flawed[0] - perfect[0]) < 0.02


# questions, repeats, the share that is right, how alike the answers to one question are (0: not at all, 1: all the same)
DESIGNS = [(k, m, share, rho) for k in (5, 20, 60) for m in (2, 8) for share in (0.5, 0.9) for rho in (0.0, 0.3, 0.8)]


@pytest.mark.parametrize(("k", "m", "share", "rho"), DESIGNS)
def test_coverage_of_shares_by_simulation(k: int, m: int, share: float, rho: float) -> None:
    """Of 1,000 suites drawn from questions without end, how many intervals hold the true share?

    Wilson's own coverage with k questions asked once is the yardstick, since its own coverage swings around 95 %.
    """
    random = np.random.default_rng(20240611 + k * m)
    held = asked_once = naive = 0
    for _ in range(1000):
        alike = (1 - rho) / rho if rho else 0
        chances = random.beta(share * alike, (1 - share) * alike, k) if rho else np.full(k, share)
        answers = random.random((k, m)) < chances[:, None]
        low, high = means(answers.astype(float).tolist()).share_interval() or (0, 0)
        held += low <= share <= high
        low, high = wilson(int(answers[:, 0].sum()), k)
        asked_once += low <= share <= high
        low, high = wilson(int(answers.sum()), k * m)
        naive += low <= share <= high
    assert held >= min(950, asked_once) - 25
    if rho == 0.8 and m == 8:
        assert naive < 700, "so this test can fail: counted as independent, repeats hold it far less often"


@pytest.mark.parametrize(("k", "m"), [(10, 4), (40, 2), (40, 10)])
def test_coverage_of_numbers_by_simulation(k: int, m: int) -> None:
    """Scores from 0 to 10 of questions of which some are harder, some of them without a score."""
    random = np.random.default_rng(11)
    held = naive = 0
    for _ in range(3000):
        hard = random.normal(0, 1, k)
        scores = [list(5 + h + random.normal(0, 0.7, max(1, m - (i % 3)))) for i, h in enumerate(hard)]
        low, high = means(scores).number_interval(-math.inf, math.inf) or (0, 0)
        held += low <= 5 <= high
        low, high = number([score for question in scores for score in question], -math.inf, math.inf) or (0, 0)
        naive += low <= 5 <= high
    assert held >= 2805
    assert naive < 2760, "so this test can fail"


def test_repeats_narrow_an_interval_as_far_as_they_tell_something() -> None:
    random = np.random.default_rng(3)
    answers = (random.random((50, 8)) < 0.5).astype(float)
    once = means(answers[:, :1].tolist()).share_interval() or (0, 0)
    often = means(answers.tolist()).share_interval() or (0, 0)
    assert often[1] - often[0] < 0.5 * (once[1] - once[0])


def test_the_last_digits_of_a_running_mean_are_not_shown() -> None:
    values = [0.0] * 49 + [1.0]
    assert Means.of(values).shown == 0.02
    assert Means.of(reversed([3.2, 3.45] * 100)).shown == 3.325
