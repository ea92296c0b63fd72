"""Intervals and paired tests, made for the small numbers of samples that suites have.

Everything is deterministic: the same numbers give the same interval and the same p-value. No correction for multiple
testing is made anywhere here: who compares a checkpoint with twenty others at 0.05 should expect one false separation.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

# From this p on two things are called tied: the pairs don't separate them, which is no proof that they are equal. With fewer
# than six pairs that differ nothing can reach it, so small suites leave most things tied.
ALPHA = 0.05
_EXACT_FLIPS = 16  # up to here all 2^n sign patterns are counted; beyond, a fixed number of them is drawn
_DRAWS = 19_999
_DRAWN_ERROR = 0.0036  # the standard error of a p-value so drawn, at most
_BYTE = 8
_LOOKED_UP = 2**20  # sums of eight at once: 16 MB
_WHOLE_TOSSES = 10_000  # up to here the numbers of patterns are counted, which have a digit for three tosses
_EXPANDED_FROM = 300


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion, within [0, 1]; (0, 1) where `n` is 0, for nothing is known then.

    Unlike the textbook's `p ± z·sqrt(p(1-p)/n)` it has a sensible width at 0/n and n/n. `n` may be an effective size
    (see `Means` in means.py), and so neither needs to be whole.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    recommended for small n by Brown, Cai and DasGupta, "Interval estimation for a binomial proportion" (2001).
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    check_confidence(confidence)
    if n == 0:
        return 0.0, 1.0
    z = normal_quantile((1 + confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the two ends the formula is exactly 0 and 1; rounding must not make that 1e-17 or 0.9999.
    low = 0.0 if successes == 0 else (centre - reach) / scale
    high = 1.0 if successes == n else (centre + reach) / scale
    return low, high


@lru_cache(maxsize=16)
def normal_quantile(probability: float) -> float:
    """The number that a standard normal one stays below with this probability."""
    from statistics import NormalDist  # brings fractions and more, which a start doesn't need

    return NormalDist().inv_cdf(probability)


@lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: int) -> float:
    """The t that a Student-distributed number with `degrees` (1 or more) degrees of freedom stays below.

    `probability` lies within 0 and 1, both excluded. The closed form of the distribution for whole degrees of freedom
    (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4) is inverted by bisection over the
    angle atan(t / sqrt(degrees)). All its terms are positive, so nothing cancels. It has as many terms as degrees, so
    from 300 on the expansion around the normal quantile (26.7.5) takes its place. The error is below 1e-9 relative for
    probabilities of 0.5001 to 0.9999.
    """
    if degrees < 1 or not 0 < probability < 1:
        raise ValueError(f"no t quantile for probability {probability}, {degrees} degrees of freedom")
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    if degrees >= _EXPANDED_FROM:
        return _expanded_t(normal_quantile(probability), degrees)
    inside = 2 * probability - 1
    low, high = 0.0, math.pi / 2
    for _ in range(64):
        middle = (low + high) / 2
        if _t_inside(middle, degrees) < inside:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _t_inside(angle: float, degrees: int) -> float:
    """P(|T| < t) where `angle` is atan(t / sqrt(degrees))."""
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for step in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (step - 1) / step
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _expanded_t(z: float, degrees: int) -> float:
    """The t quantile as a series in 1 / degrees, from the normal one."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, 1))


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How `b` differs from `a`, sample by sample.

    n: pairs. mean: of b - a, in the metric's unit (0 without pairs). gained, lost: pairs where b is higher, lower.
    p: two-sided; the chance of a difference at least this large if each pair's sign were a coin toss.
    """

    n: int
    mean: float
    gained: int
    lost: int
    p: float


def paired_difference(a: Sequence[float], b: Sequence[float]) -> PairedDifference:
    """Compare two answers to each of the same questions: `a[i]` and `b[i]` belong to one sample; booleans are 0 and 1.

    For booleans the p-value is McNemar's, exact; for numbers it is the sign-flip test's, of which McNemar's is the
    special case: see `sign_flip_p`. Raises ValueError where the lengths differ.
    """
    differences = [after - before for before, after in zip(a, b, strict=True)]
    return PairedDifference(
        n=len(differences),
        mean=math.fsum(differences) / len(differences) if differences else 0.0,
        gained=sum(difference > 0 for difference in differences),
        lost=sum(difference < 0 for difference in differences),
        p=sign_flip_p(differences),
    )


def sign_flip_p(differences: Iterable[float]) -> float:
    """Two-sided p-value of a sum of paired differences: how often it is at least as large under random signs.

    R. A. Fisher, The Design of Experiments (1935), section 21: if neither side is better, each difference was as likely
    to have the other sign. No normality is assumed, and differences that are all equal do not give p = 0, as t does.
    Where all differences have one size, as booleans do, the count of signs is binomial and the p-value is exact
    (McNemar's test in its exact form: Q. McNemar, Psychometrika 12, 1947). Else it is exact for up to 16 differences;
    beyond, 19,999 patterns are drawn with a fixed seed, and the pattern seen is counted among them (Phipson and Smyth,
    "Permutation p-values should never be zero", 2010), with a standard error of at most 0.0036. Where so many differences
    add up that the sum's distribution is as near to the normal one (by the bound of Berry and Esseen, with the constant
    of I. Shevtsova, "An improvement of convergence rate estimates in the Lyapunov theorem", Doklady Mathematics 82,
    2010), which takes some hundred thousand, that one is asked.
    """
    sizes = [difference for difference in differences if difference != 0]
    if not all(math.isfinite(size) for size in sizes):
        raise ValueError("a paired difference is not finite")
    if not sizes:
        return 1.0
    largest = max(map(abs, sizes))
    if all(math.isclose(abs(size), largest, rel_tol=1e-9) for size in sizes):
        return _binomial_p(sum(size > 0 for size in sizes), len(sizes))
    # Sums that are equal on paper may differ in the last bits; they count as hits, which errs towards "tied".
    seen = abs(math.fsum(sizes)) - 1e-9 * math.fsum(map(abs, sizes))
    if len(sizes) <= _EXACT_FLIPS:
        sums = _signed_sums(sizes)
        return sum(abs(total) >= seen for total in sums) / len(sums)
    if _normal_error(sizes) <= _DRAWN_ERROR:
        return max(math.erfc(seen / math.sqrt(2 * math.fsum(size * size for size in sizes))), 1 / (1 + _DRAWS))
    return (1 + _drawn_hits(sizes, seen)) / (1 + _DRAWS)


def _binomial_p(positive: int, n: int) -> float:
    """Two-sided p of `positive` heads in `n` tosses of a fair coin: twice the smaller tail, at most 1 and never 0."""
    fewer = min(positive, n - positive)
    if n > _WHOLE_TOSSES:
        return _large_binomial_p(fewer, n)
    tail = term = 1
    for heads in range(fewer):
        term = term * (n - heads) // (heads + 1)
        tail += term
    p = 2 * tail / (1 << n)  # whole numbers up to here, so the tail is exact
    return min(1.0, max(p, sys.float_info.min))


def _large_binomial_p(fewer: int, n: int) -> float:
    """The same, from the tail's largest term down, as far as the terms count; right to 7 digits."""
    term = total = 1.0
    for heads in range(fewer, 0, -1):
        term *= heads / (n - heads + 1)
        total += term
        if term < 1e-17 * total:
            break
    largest = math.lgamma(n + 1) - math.lgamma(fewer + 1) - math.lgamma(n - fewer + 1) - n * math.log(2)
    return min(1.0, max(2 * total * math.exp(largest), sys.float_info.min))


def _signed_sums(sizes: Sequence[float]) -> list[float]:
    """The sums under all 2^n patterns of signs."""
    sums = [0.0]
    for size in sizes:
        sums = [total + size for total in sums] + [total - size for total in sums]
    return sums


def _normal_error(sizes: Sequence[float]) -> float:
    """How far off a two-sided p from the normal distribution can be, at most."""
    squares = math.fsum(size * size for size in sizes)
    return 2 * 0.56 * math.fsum(abs(size) ** 3 for size in sizes) / (squares * math.sqrt(squares))


def _drawn_hits(sizes: Sequence[float], seen: float) -> int:
    """How many of the sums under `_DRAWS` random patterns of signs reach `seen`, up or down.

    A random byte looks up the sum of eight differences.
    """
    import numpy as np

    blocks = np.zeros((-(-len(sizes) // _BYTE), _BYTE))
    blocks.flat[: len(sizes)] = sizes
    signs = 1.0 - 2.0 * (np.arange(256)[:, None] >> np.arange(_BYTE) & 1)
    tables = (blocks @ signs.T).ravel()
    offsets = 256 * np.arange(len(blocks))
    source = random.Random(0)
    hits, at_once = 0, max(1, _LOOKED_UP // len(blocks))
    for start in range(0, _DRAWS, at_once):
        drawn = b"".join(source.randbytes(len(blocks)) for _ in range(min(at_once, _DRAWS - start)))
        patterns = np.frombuffer(drawn, np.uint8).reshape(-1, len(blocks))
        hits += int((abs(tables[patterns + offsets].sum(axis=1)) >= seen).sum())
    return hits


def check_confidence(confidence: float) -> None:
    """Raises ValueError unless it is a share."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
