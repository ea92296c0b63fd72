"""How far a judge can be trusted: its agreement with people's labels, and what moves it that should not.

Pure functions over numbers. Everything is deterministic: bootstrap draws have a fixed seed. numpy does the resampling and
is imported on first use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from assay.results.stats import PairedDifference, paired_difference, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

DRAWS = 2000
_NEAR = 1e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95% interval; all None where it is not defined, as a correlation with a constant is not."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge's scores of one dimension agree with labels.

    n: pairs. exact, within_one: shares (0 to 1) of scores equal to the label, and at most one point of the scale away; Wilson
    intervals. spearman, kendall: rank correlations (rho; tau-b), -1 to 1. kappa: quadratic-weighted, at most 1; 0 is
    what chance gives. error: the mean of score less label, in points of the scale: above 0, the judge is lenient.
    The intervals of these four are percentile bootstrap ones: with fewer than some 30 pairs read them as rough.
    """

    n: int
    exact: Estimate
    within_one: Estimate
    spearman: Estimate
    kendall: Estimate
    kappa: Estimate
    error: Estimate


def agreement(scores: Sequence[float], labels: Sequence[float]) -> Agreement:
    """Compare a judge's scores with the labels of the same answers. Raises `ValueError` where the lengths differ.

    Spearman's rho is Pearson's correlation of midranks; tau-b is Kendall's with ties ("The treatment of ties in ranking
    problems", Biometrika 33, 1945). Kappa with quadratic weights (J. Cohen, "Weighted kappa", Psychological Bulletin 70,
    1968) is, for any numbers, 1 - mean((x-y)²) / (var x + var y + (mean x - mean y)²), which needs no categories.
    """
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} scores and {len(labels)} labels")
    _check_finite(scores, labels)
    gaps = [abs(s - label) for s, label in zip(scores, labels, strict=True)]
    return Agreement(
        n=len(gaps),
        exact=_share(sum(gap <= _NEAR for gap in gaps), len(gaps)),
        within_one=_share(sum(gap <= 1 + _NEAR for gap in gaps), len(gaps)),
        spearman=_bootstrap(scores, labels, _spearman),
        kendall=_bootstrap(scores, labels, _kendall),
        kappa=_bootstrap(scores, labels, _kappa),
        error=_bootstrap(scores, labels, _error),
    )


def length_bias(scores: Sequence[float], labels: Sequence[float], lengths: Sequence[float]) -> Estimate:
    """Spearman's rho of the judge's error (score less label) with the answer's length: above 0, it pays for length.

    A scale's ends can fake a little of it: where long answers are also the better ones by the labels, errors at the top can
    only be negative. `padding` is the stricter test.
    """
    if not len(scores) == len(labels) == len(lengths):
        raise ValueError(f"{len(scores)} scores, {len(labels)} labels and {len(lengths)} lengths")
    _check_finite(scores, labels, lengths)
    errors = [round(s - label, 9) for s, label in zip(scores, labels, strict=True)]
    return _bootstrap(errors, lengths, _spearman)


def padding_effect(plain: Sequence[float], padded: Sequence[float]) -> PairedDifference:
    """What padding does to the scores of the same answers: `mean` of padded less plain, with an exact sign-flip p-value.

    `padded` makes the texts. A judge that minds repetition gives less; one that pays for length gives more.
    """
    return paired_difference(plain, padded)


_PADDING = (
    "This is an important matter, and it is worth taking the time to consider it properly.",
    "There are, as always, several ways in which one could look at it.",
    "It is good to keep in mind what has been said above.",
    "In summary, the points made here speak for themselves.",
    "With that said, I hope that this has been of use.",
)


def padded(answer: str, factor: float = 2.0) -> str:
    """The answer with sentences after it that say nothing, until it is `factor` times as long, and five at least."""
    parts = [answer]
    length, number = len(answer), 0
    while number < len(_PADDING) or length < factor * len(answer):
        parts.append(_PADDING[number % len(_PADDING)])
        length += len(parts[-1]) + 1
        number += 1
    return answer + "\n\n" + " ".join(parts[1:])


def _check_finite(*columns: Sequence[float]) -> None:
    if not all(math.isfinite(value) for column in columns for value in column):
        raise ValueError("a score or a label is not a finite number")


def _share(hits: int, n: int) -> Estimate:
    return Estimate(hits / n, *wilson(hits, n)) if n else Estimate(None, None, None)


# Each takes the distinct pairs' x and y, and a row of counts for each resampling; gives a number for each row.
_Statistic: TypeAlias = "Callable[[Floats, Floats, Floats], Floats]"


def _bootstrap(x: Sequence[float], y: Sequence[float], statistic: _Statistic) -> Estimate:
    """The statistic of the pairs, and the middle 95% of it over samples of the same size drawn from them.

    B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979). Draws in which it is
    not defined are left out. Pairs that are equal are counted, so the work depends on how many distinct ones there are.
    """
    import numpy as np

    if not x:
        return Estimate(None, None, None)
    counts = Counter(zip(x, y, strict=True))
    pairs = np.array(list(counts), dtype=np.float64)
    weights = np.array(list(counts.values()), dtype=np.float64)
    value = statistic(pairs[:, 0], pairs[:, 1], weights[None, :])[0]
    if not np.isfinite(value):
        return Estimate(None, None, None)
    draws = np.random.default_rng(0).multinomial(len(x), weights / weights.sum(), size=DRAWS).astype(np.float64)
    values = statistic(pairs[:, 0], pairs[:, 1], draws)
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


def _error(x: Floats, y: Floats, weights: Floats) -> Floats:
    return _ratio(weights @ (x - y), weights.sum(axis=1))


def _kappa(x: Floats, y: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    spread = weights @ (x * x) / total - mean_x**2 + weights @ (y * y) / total - mean_y**2
    disagreement = weights @ ((x - y) ** 2) / total
    by_chance = spread + (mean_x - mean_y) ** 2
    return 1 - _ratio(disagreement, by_chance)


def _spearman(x: Floats, y: Floats, weights: Floats) -> Floats:
    rank_x, rank_y = _midranks(x, weights), _midranks(y, weights)
    total = weights.sum(axis=1, keepdims=True)
    from_x = rank_x - (weights * rank_x).sum(axis=1, keepdims=True) / total
    from_y = rank_y - (weights * rank_y).sum(axis=1, keepdims=True) / total
    both = (weights * from_x * from_y).sum(axis=1)
    return _ratio(both, _root((weights * from_x**2).sum(axis=1) * (weights * from_y**2).sum(axis=1)))


def _midranks(values: Floats, weights: Floats) -> Floats:
    """Each pair's rank in each resampling, less 1/2; ties share the mean of their ranks."""
    import numpy as np

    levels, index = np.unique(values, return_inverse=True)
    member = (index[:, None] == np.arange(len(levels))[None, :]).astype(np.float64)
    at_level = weights @ member
    ranks: Floats = (np.cumsum(at_level, axis=1) - at_level / 2)[:, index]
    return ranks


def _kendall(x: Floats, y: Floats, weights: Floats) -> Floats:
    import numpy as np

    sign_x, sign_y = np.sign(x[:, None] - x[None, :]), np.sign(y[:, None] - y[None, :])

    def pairs(signs: Floats) -> Floats:
        summed: Floats = ((weights @ signs) * weights).sum(axis=1)
        return summed

    return _ratio(pairs(sign_x * sign_y), _root(pairs(np.abs(sign_x)) * pairs(np.abs(sign_y))))


def _root(values: Floats) -> Floats:
    import numpy as np

    root: Floats = np.sqrt(np.maximum(values, 0))
    return root


def _ratio(above: Floats, below: Floats) -> Floats:
    """above / below; not a number where there is nothing (or only rounding errors) below."""
    import numpy as np

    whole = below > _NEAR
    divided: Any = np.divide(above, np.where(whole, below, 1.0))
    return np.where(whole, divided, np.nan)
