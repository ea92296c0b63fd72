"""What the scores of many questions come to, where a question may have been asked more than once.

Answers to one question resemble each other more than answers to two do. To count them as independent makes an interval too
narrow: a hundred answers to one question tell of that question, and nothing of the next. So the question is the unit here.
A mean is that of the questions' own means, each counting the same however many of its answers have a score, and an
interval says how far the mean could have moved had other questions of the same kind been asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from assay.results.stats import check_confidence, t_quantile, wilson

_NEAR = 1e-9  # means that are equal on paper may differ by rounding


class Means(msgspec.Struct):
    """The questions' means so far, in constant memory. All are in the metric's unit.

    questions: those with a score. answers: their scores, all told. mean: of the questions' means. squares: their squared
    deviations from it, summed. least, most: the least and the greatest of them. shares: the sum of 1 / (a question's
    scores).

    The running mean and squared deviations are Welford's ("Note on a method for calculating corrected sums of squares and
    products", Technometrics 4, 1962), which doesn't lose digits as sums of squares do.
    """

    questions: int = 0
    answers: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    shares: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Means:
        """Of questions that were asked once."""
        made = cls()
        for value in values:
            made.add(value)
        return made

    def add(self, value: float, answers: int = 1) -> None:
        """Count a question whose `answers` scores have the mean `value`."""
        self.questions += 1
        self.answers += answers
        self.shares += 1 / answers
        step = value - self.mean
        self.mean += step / self.questions
        self.squares += step * (value - self.mean)
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value

    @property
    def shown(self) -> float:
        """The mean to 13 digits: the last ones of a running mean depend on the order, and would tip a rounding."""
        return float(f"{self.mean:.13g}")

    def effective_size(self, confidence: float = 0.95) -> float:
        """How many independent answers, right or wrong, would tell as much as these; at least as many as there are questions.

        The answers' number over the design effect (L. Kish, Survey Sampling, 1965), estimated from the spread of the
        questions' means, with the correction for few clusters of E. L. Korn and B. I. Graubard ("Confidence intervals for
        proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24,
        1998). Where all or nearly all is right or wrong that spread is a bad witness, and at 0 % and 100 % it is none. So
        it is taken as if there were two more questions, one always right and one always wrong, which is Agresti's and
        Coull's remedy for the same trouble (The American Statistician 52, 1998). The size then goes without a jump from
        what the questions alone are worth, where each gave one answer time and again, to what all answers are, where
        questions differ no more than chance has it. With each question asked once it is their number.
        """
        if self.answers == self.questions:
            return float(self.questions)
        if self.questions < 2:
            return float(self.questions)  # nothing tells how much questions differ
        count = self.questions
        middle = (count * self.mean + 1) / (count + 2)
        spread = self.squares + count * (self.mean - middle) ** 2 + middle**2 + (1 - middle) ** 2
        size = middle * (1 - middle) * count * (count + 2) / spread
        tail = (1 + confidence) / 2
        size *= (t_quantile(tail, self.answers - 1) / t_quantile(tail, count - 1)) ** 2
        return max(float(count), min(size, count**2 / self.shares))

    def share_interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """The interval of a share (values within 0 and 1): Wilson's with the effective size; None without scores."""
        check_confidence(confidence)
        if not self.questions:
            return None
        if self.answers == self.questions:
            return wilson(round(self.mean * self.questions), self.questions, confidence)
        size = self.effective_size(confidence)
        return wilson(min(self.mean * size, size), size, confidence)

    def number_interval(
        self, low: float, high: float, confidence: float = 0.95, *, varied: bool = False
    ) -> tuple[float, float] | None:
        """The interval of the mean of a metric that lies within `low` and `high`, in its unit; None where nothing tells.

        Student's t over the questions' means, clipped to the bounds ("Student", "The probable error of a mean", Biometrika
        6, 1908). It assumes that means are roughly normal: with few and skewed values read it as approximate.

        One question tells nothing of the spread: None. Where all n questions have the same mean, t would claim certainty;
        instead the share p of such questions is bounded from below by p^n = 1 - confidence (Clopper and Pearson's argument,
        Biometrika 26, 1934) and the rest may lie anywhere within the bounds. That needs a scale: None where a metric has no
        bounds, or has varied ones, each text its own: what the longest text could have come to says nothing of the others.
        """
        check_confidence(confidence)
        if self.questions and not _below(low) <= self.least <= self.most <= -_below(-high):
            raise ValueError(f"a value lies outside of [{low}, {high}]")
        if not self.questions or not low < high:
            return None
        if self.questions == 1:
            return None
        if self.most - self.least <= _NEAR * max(abs(self.least), abs(self.most)):
            if varied or not (math.isfinite(low) and math.isfinite(high)):
                return None
            others = 1 - (1 - confidence) ** (1 / self.questions)
            mean = min(max(self.least, low), high)
            return mean - others * (mean - low), mean + others * (high - mean)
        error = math.sqrt(self.squares / (self.questions - 1) / self.questions)
        reach = t_quantile((1 + confidence) / 2, self.questions - 1) * error
        # Rounding may put a mean of nearly equal values a last bit outside of the bounds.
        return max(low, min(self.mean - reach, high)), min(high, max(self.mean + reach, low))


def _below(bound: float) -> float:
    """A little less: a mean of values at a bound may fall short of it by rounding."""
    return bound - _NEAR * max(1.0, abs(bound)) if math.isfinite(bound) else bound
