"""Checked against published examples, values computed independently (SciPy 1.17), and what must hold for any input."""

import itertools
import math
from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.results.stats import paired_difference, sign_flip_p, t_quantile, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.27753279986288926),
        (1, 10, 0.017876213095072896, 0.4041500267952385),
        (6, 10, 0.3126737697336583, 0.8318196702937639),
        (10, 10, 0.7224672001371109, 1.0),
        # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_published(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_without_samples_knows_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_wilson_rejects_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_is_symmetric(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high
    mirrored = wilson(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert wilson(successes, n, 0.99)[1] >= high


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [
        (0.975, 1, 12.706204736174694),
        (0.975, 2, 4.302652729749462),
        (0.975, 9, 2.262157162798205),
        (0.995, 30, 2.7499956535672254),
        (0.975, 120, 1.9799304050824402),
        (0.975, 299, 1.9679296690656698),
        (0.975, 300, 1.9679030112610865),
        (0.9999, 300, 3.7654932071860143),
        (0.975, 1000, 1.9623390808264083),
        (0.975, 1_000_000, 1.959966356814107),
        (0.9, 5, 1.4758840488244815),
        (0.6, 3, 0.2766706623326898),
        (0.9999, 7, 7.063432828157639),
        (0.1, 5, -1.4758840488244815),
        (0.5, 4, 0.0),
    ],
)
def test_t_quantile(probability: float, degrees: int, value: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.9, 0)])
def test_t_quantile_rejects(probability: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="quantile"):
        t_quantile(probability, degrees)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (0, 5, 0.0625),
        (0, 6, 0.03125),
        (2, 4, 0.6875),
        (1, 9, 0.021484375),
        (10, 0, 0.001953125),
        (3, 17, 0.0025768280029296875),
        (86, 121, 0.017905614973719838),
    ],
)
def test_mcnemar_exact(gained: int, lost: int, p: float) -> None:
    a = [0.0] * gained + [1.0] * lost + [1.0, 0.0, 1.0]
    b = [1.0] * gained + [0.0] * lost + [1.0, 0.0, 1.0]
    result = paired_difference(a, b)
    assert (result.n, result.gained, result.lost) == (gained + lost + 3, gained, lost)
    assert result.mean == pytest.approx((gained - lost) / result.n)
    assert result.p == pytest.approx(p, rel=1e-12)


def test_sign_flip_on_darwins_maize() -> None:
    # Fisher, The Design of Experiments, section 21: 863 of 2^15 patterns reach the sum of 314, and as many its opposite
    maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sum(maize) == 314
    assert sign_flip_p(maize) == pytest.approx(2 * 863 / 2**15, rel=1e-12)


def test_sign_flip_against_scipy() -> None:
    assert sign_flip_p([1.1, -0.3, 0.4, 2.2, 0.9, -0.1, 0.7]) == pytest.approx(0.078125, rel=1e-12)


def test_many_differences_are_sampled_and_reproducible() -> None:
    values = [-1 + 2.6 * step / 39 for step in range(40)]
    p = sign_flip_p(values)
    assert p == sign_flip_p(values)
    assert p == pytest.approx(0.0196, abs=0.006)  # paired t: 0.0196
    assert sign_flip_p([1 + step / 100 for step in range(40)]) == pytest.approx(1 / 20_000)


def test_drawn_patterns_are_those_of_before() -> None:
    """The patterns are drawn byte by byte, as when these were written; who has a p-value keeps it."""
    random = Random(1)
    assert sign_flip_p([random.gauss(0.01, 1) for _ in range(100)]) == 0.6761
    assert sign_flip_p([float(random.randint(-3, 3)) for _ in range(100)]) == 0.44125


@pytest.mark.parametrize("n", [10_001, 100_000, 1_000_000])
def test_large_numbers_of_tosses(n: int) -> None:
    """Against SciPy's binomtest; beyond 10,000 the patterns are too many to be counted in whole numbers."""
    known = {
        10_001: (0.047709238800664674, 2.176296072545506e-89),
        100_000: (0.04599903538427745, 0.0),
        1_000_000: (0.0456082998653896, 0.0),
    }
    sizes = [1.0] * (n // 2 + int(n**0.5)) + [-1.0] * (n - n // 2 - int(n**0.5))
    assert sign_flip_p(sizes) == pytest.approx(known[n][0], rel=1e-6)
    assert sign_flip_p([1.0] * (3 * n // 5) + [-1.0] * (n - 3 * n // 5)) == pytest.approx(
        known[n][1], rel=1e-6, abs=1e-300
    )
    assert sign_flip_p([1.0] * n) > 0, "an observation is never impossible"


def test_so_many_differences_are_as_good_as_normal() -> None:
    random = Random(2)
    values = [random.gauss(0.002, 1) for _ in range(400_000)]
    z = math.fsum(values) / math.sqrt(math.fsum(value * value for value in values))
    assert sign_flip_p(values) == pytest.approx(2 - 2 * NormalDist().cdf(abs(z)))
    assert sign_flip_p([value + 1 for value in values]) == 1 / 20_000, "no less than patterns that are drawn could show"


def test_no_pairs_say_nothing() -> None:
    assert paired_difference([], []).p == 1.0


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [])
    with pytest.raises(ValueError, match="finite"):
        paired_difference([math.nan], [1.0])


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_sign_flip_equals_plain_enumeration(differences: list[int]) -> None:
    sums = [sum(map(int.__mul__, differences, signs)) for signs in itertools.product((1, -1), repeat=len(differences))]
    expected = sum(abs(total) >= abs(sum(differences)) for total in sums) / len(sums)
    assert sign_flip_p(differences) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=12), st.floats(0.1, 100))
def test_p_is_symmetric_and_free_of_units(pairs: list[tuple[float, float]], unit: float) -> None:
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert 0 < there.p <= 1
    assert there.p == pytest.approx(back.p)
    assert (there.gained, there.lost) == (back.lost, back.gained)
    assert 2 ** min(0, 1 - there.gained - there.lost) <= there.p + 1e-12
