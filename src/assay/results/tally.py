"""Means and intervals of a stream of scores, in constant memory where each question is asked once."""

from __future__ import annotations

import math
from array import array

import msgspec

from assay.results.means import Means
from assay.results.weighted import WeightedMeans
from assay.types import Score, ScoreFailure


class Tally(msgspec.Struct):
    """One metric's scores so far. low, high: the metric's bounds, as its scores state them; infinite where it has none.

    varied: scores state bounds that differ, each of its own text. weighted: of scores that don't count the same.
    """

    scored: int = 0
    failed: int = 0
    truncated: int = 0
    correct: int = 0
    boolean: bool = True
    low: float = math.inf
    high: float = -math.inf
    varied: bool = False
    _once: Means = msgspec.field(default_factory=Means)
    # Of questions that may come again, by their number: the sum of the scores, and how many they are.
    _sums: array[float] = msgspec.field(default_factory=lambda: array("d"))
    _counts: array[int] = msgspec.field(default_factory=lambda: array("L"))
    weighted: WeightedMeans | None = None

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
        questions: int,
        mean: float | None,
        variance: float | None,
        least: float | None,
        most: float | None,
        shares: float | None,
        low: float | None,
        high: float | None,
        varied: bool | None,
    ) -> Tally:
        """What `add` would have made of all scores, from their sums: those of `Means`, but for the variance.

        variance: of the questions' means, divided by their number. None stands for what nothing scored has, and for a bound
        that a metric lacks.
        """
        if mean is None or variance is None or least is None or most is None or shares is None:
            return cls(failed=failed, truncated=truncated)
        means = Means(questions, scored, mean, variance * questions, least, most, shares)
        bounds = -math.inf if low is None else low, math.inf if high is None else high
        return cls(scored, failed, truncated, correct, boolean, *bounds, bool(varied), means)

    def add(self, outcome: Score | ScoreFailure, question: int | None = None) -> None:
        """Count one answer's score, or why it has none.

        question: the number, from 0 up without gaps, of the question that it answers, where that may be asked again; None
        for a question that is asked once, which takes no memory.
        """
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
        if (outcome.low, outcome.high) != (self.low, self.high):
            self.varied = self.scored > 1
            self.low, self.high = min(self.low, outcome.low), max(self.high, outcome.high)
        if outcome.weight is not None:
            self.weighted = self.weighted or WeightedMeans(outcome.geometric)
            self.weighted.add(value, outcome.weight)
            return
        if question is None:
            self._once.add(value)
            return
        missing = question + 1 - len(self._counts)
        if missing > 0:
            self._sums.extend([0.0] * missing)
            self._counts.extend([0] * missing)
        self._sums[question] += value
        self._counts[question] += 1

    def means(self) -> Means | WeightedMeans:
        """The questions' means, and their mean."""
        if self.weighted is not None:
            return self.weighted
        return self._plain()

    def _plain(self) -> Means:
        if not self._counts:
            return self._once
        means = msgspec.structs.replace(self._once)
        for total, count in zip(self._sums, self._counts, strict=True):
            if count:
                means.add(total / count, count)
        return means

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """The mean's interval: Wilson's for a boolean metric, else Student's; see `Means`. None where nothing tells."""
        if self.weighted is not None:
            return self.weighted.number_interval(self.low, self.high, confidence)
        if self.boolean:
            return self._plain().share_interval(confidence)
        return self._plain().number_interval(self.low, self.high, confidence, varied=self.varied)


class Questions:
    """Numbers for the questions that may come again, of each model from 0 up, as `Tally.add` takes them."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {}

    def number(self, model: str, question: str, repeat: int | None) -> int | None:
        """The question's number; None where it is asked once (repeat is None)."""
        if repeat is None:
            return None
        known = self._numbers.setdefault(model, {})
        return known.setdefault(question, len(known))
