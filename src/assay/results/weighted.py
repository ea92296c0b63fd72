"""What scores come to that don't count the same, each for its text's tokens: the mean over all of them, and its interval.

The mean is a ratio of two sums, of weight times value and of weights. Texts are what was drawn, and not their tokens, which
resemble each other within a text; so texts are the unit of the interval, which is that of a ratio estimator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from assay.results.stats import check_confidence, t_quantile


class WeightedMeans(msgspec.Struct):
    """Weighted values so far, in constant memory, one a question.

    questions: those with a score. weight: their weights' sum. geometric: the mean is that of the logarithms, and what is
    given out is a value again. The running sums are Welford's, see `Means`, under the weights and under their squares.
    """

    geometric: bool = False
    questions: int = 0
    weight: float = 0.0
    _mean: float = 0.0
    _heavy: float = 0.0  # the squared weights' sum
    _middle: float = 0.0  # the mean under them, and the squared deviations from it
    _squares: float = 0.0

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]], *, geometric: bool = False) -> WeightedMeans:
        """Of (value, weight) pairs."""
        made = cls(geometric)
        for value, weight in pairs:
            made.add(value, weight)
        return made

    def add(self, value: float, weight: float) -> None:
        """Count a question's score."""
        if self.geometric:
            value = math.log(value)
        self.questions += 1
        self.weight += weight
        self._mean += (value - self._mean) * weight / self.weight
        self._heavy += weight * weight
        step = value - self._middle
        self._middle += step * weight * weight / self._heavy
        self._squares += weight * weight * step * (value - self._middle)

    @property
    def answers(self) -> int:
        """As many as questions: none is asked twice."""
        return self.questions

    @property
    def shares(self) -> float:
        """As of `Means`."""
        return float(self.questions)

    @property
    def mean(self) -> float:
        return self._out(self._mean)

    @property
    def shown(self) -> float:
        """The mean to 13 digits: the last ones depend on the order."""
        return float(f"{self.mean:.13g}")

    @property
    def error(self) -> float | None:
        """The standard error of the mean, of its logarithm where it is geometric; None where nothing tells.

        The ratio estimator's, by linearisation: n / (n - 1) times the sum of the squared weight · (value - mean), over the
        squared sum of the weights (W. G. Cochran, Sampling Techniques, 3rd ed., 1977, section 2.11). With equal weights it is
        that of a plain mean.
        """
        if self.questions < 2:
            return None
        spread = self._squares + self._heavy * (self._middle - self._mean) ** 2
        return math.sqrt(self.questions / (self.questions - 1) * max(spread, 0.0)) / self.weight

    def number_interval(self, low: float, high: float, confidence: float = 0.95) -> tuple[float, float] | None:
        """Student's t around the mean, clipped to the metric's bounds; None where nothing tells: one text, or all alike."""
        check_confidence(confidence)
        error = self.error
        if not error or not low < high:
            return None
        reach = t_quantile((1 + confidence) / 2, self.questions - 1) * error
        return max(low, self._out(self._mean - reach)), min(high, self._out(self._mean + reach))

    def _out(self, value: float) -> float:
        return math.exp(value) if self.geometric else value


class WeightedChange(NamedTuple):
    """Means of old and new over the same texts, and the 95 % interval of the difference; None where nothing tells."""

    old: float
    new: float
    difference: float
    interval: tuple[float, float] | None


def weighted_change(
    old: Sequence[float], new: Sequence[float], weights: Sequence[float], *, geometric: bool = False
) -> WeightedChange:
    """`old[i]` and `new[i]` belong to one text of weight `weights[i]`; there is at least one.

    The difference with its interval is that of the means. Of geometric means it is the relative one, new / old - 1: texts
    differ by factors, so a change of each by the same factor is known exactly, however far apart the texts are.
    """
    pairs = list(zip(old, new, weights, strict=True))
    before = WeightedMeans.of(((x, w) for x, _, w in pairs), geometric=geometric).mean
    after = WeightedMeans.of(((y, w) for _, y, w in pairs), geometric=geometric).mean
    if not geometric:
        moved = WeightedMeans.of((y - x, w) for x, y, w in pairs)
        return WeightedChange(before, after, after - before, moved.number_interval(-math.inf, math.inf))
    ratio = WeightedMeans.of(((y / x, w) for x, y, w in pairs), geometric=True).number_interval(0.0, math.inf)
    return WeightedChange(before, after, after / before - 1, (ratio[0] - 1, ratio[1] - 1) if ratio else None)
