"""Means and intervals of a stream of scores, in constant memory.

The running mean and squared deviations are Welford's ("Note on a method for calculating corrected sums of squares and
products", Technometrics 4, 1962), which doesn't lose digits as sums of squares do.
"""

from __future__ import annotations

import math

import msgspec

from assay.results.stats import normal_quantile, t_quantile, wilson
from assay.types import Score, ScoreFailure

# From here on Student's t equals the normal distribution to three digits, and its exact form grows slow.
_NORMAL_FROM = 1000


class Tally(msgspec.Struct):
    """One metric's scores so far. low, high: the metric's bounds, as its scores state them; `math.inf` if it has none."""

    scored: int = 0
    failed: int = 0
    truncated: int = 0
    correct: int = 0
    boolean: bool = True
    mean: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    _squares: float = 0.0
    _least: float = math.inf
    _most: float = -math.inf

    @property
    def asked(self) -> int:
        return self.scored + self.failed + self.truncated

    @classmethod
    def summed(
        cls,
        scored: int,
        failed: int,
        truncated: int,
        correct: int,
        boolean: bool,
        mean: float | None,
        variance: float | None,
        least: float | None,
        most: float | None,
        low: float | None,
        high: float | None,
    ) -> Tally:
        """What `add` would have made of all scores, from their sums. variance: of these values, divided by their number.

        None stands for what nothing scored has, and for a bound that a metric lacks.
        """
        if mean is None or variance is None or least is None or most is None:
            return cls(failed=failed, truncated=truncated)
        bounds = -math.inf if low is None else low, math.inf if high is None else high
        return cls(scored, failed, truncated, correct, boolean, mean, *bounds, variance * scored, least, most)

    def add(self, outcome: Score | ScoreFailure) -> None:
        """Count one answer's score, or why it has none."""
        if isinstance(outcome, ScoreFailure):
            if outcome.error_class == "truncated":
                self.truncated += 1
            else:
                self.failed += 1
            return
        value = float(outcome.value)
        self.scored += 1
        self.boolean = self.boolean and isinstance(outcome.value, bool)
        self.correct += outcome.value is True
        step = value - self.mean
        self.mean += step / self.scored
        self._squares += step * (value - self.mean)
        self.low, self.high = min(self.low, outcome.low), max(self.high, outcome.high)
        self._least, self._most = min(self._least, value), max(self._most, value)

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """The mean's interval: Wilson's for a boolean metric, else Student's t within the bounds. None without scores.

        One value tells nothing of the spread, and values that are all equal claim too much of it: the first gives the bounds,
        the second bounds the share of such values from below, as `stats.mean_interval` does.
        """
        if not self.scored:
            return None
        if self.boolean:
            return wilson(self.correct, self.scored, confidence)
        if self.scored == 1:
            return self.low, self.high
        if self._least == self._most:
            if math.isinf(self.low) or math.isinf(self.high):
                return self.mean, self.mean
            same = (1 - confidence) ** (1 / self.scored)
            return self.mean - (1 - same) * (self.mean - self.low), self.mean + (1 - same) * (self.high - self.mean)
        tail = (1 + confidence) / 2
        quantile = normal_quantile(tail) if self.scored > _NORMAL_FROM else t_quantile(tail, self.scored - 1)
        reach = quantile * math.sqrt(self._squares / (self.scored - 1) / self.scored)
        return max(self.low, self.mean - reach), min(self.high, self.mean + reach)
