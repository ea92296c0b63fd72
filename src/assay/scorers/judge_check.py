"""How far a judge can be trusted: its agreement with people's labels, and what moves it that should not.

Pure functions over numbers. Everything is deterministic: bootstrap draws have a fixed seed. numpy does the resampling and
is imported on first use.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

from assay.results.stats import PairedDifference, paired_difference, t_quantile, wilson
from assay.scorers.alpha import Alpha, alpha
from assay.scorers.estimate import DRAWS, FEWEST, NEAR, Estimate, percentiles, ratio

if TYPE_CHECKING:
    from assay.scorers.estimate import Floats


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge's scores of one dimension agree with labels.

    n: pairs of a score and a label. answers: distinct answers among them; the intervals take several labels of one answer,
    which has one score, for one observation. exact, within_one: shares (0 to 1) of scores equal to the label, and at most one
    point of the scale away; Wilson intervals, for as many answers as there are. spearman, kendall: rank correlations (rho;
    tau-b), -1 to 1. kappa: quadratic-weighted, at most 1; 0 is what chance gives. The intervals of these three are percentile
    bootstrap ones: with fewer than some 30 answers read them as rough. error: the mean of score less label, in points of
    the scale, with Student's t: above 0, the judge is lenient. alpha: Krippendorff's, of the judge and all people who labelled
    an answer, each as one rater of it.
    """

    n: int
    answers: int
    exact: Estimate
    within_one: Estimate
    spearman: Estimate
    kendall: Estimate
    kappa: Estimate
    error: Estimate
    alpha: Alpha


def agreement(scores: Sequence[float], labels: Sequence[float], answers: Sequence[Hashable] | None = None) -> Agreement:
    """Compare a judge's scores with the labels of the same answers. Raises `ValueError` where the lengths differ.

    answers: which answer each pair is of; None: each of another one.

    Spearman's rho is Pearson's correlation of midranks; tau-b is Kendall's with ties ("The treatment of ties in ranking
    problems", Biometrika 33, 1945). Kappa with quadratic weights (J. Cohen, "Weighted kappa", Psychological Bulletin 70,
    1968) is, for any numbers, 1 - mean((x-y)²) / (var x + var y + (mean x - mean y)²), which needs no categories.
    """
    answers = range(len(scores)) if answers is None else answers
    if not len(scores) == len(labels) == len(answers):
        raise ValueError(f"{len(scores)} scores, {len(labels)} labels and {len(answers)} answers")
    _check_finite(scores, labels)
    gaps = [abs(s - label) for s, label in zip(scores, labels, strict=True)]
    distinct = len(set(answers))
    sample = _resampled(scores, labels, answers)
    return Agreement(
        n=len(gaps),
        answers=distinct,
        exact=_share([gap <= NEAR for gap in gaps], distinct),
        within_one=_share([gap <= 1 + NEAR for gap in gaps], distinct),
        spearman=_bootstrap(sample, _spearman),
        kendall=_bootstrap(sample, _kendall),
        kappa=_bootstrap(sample, _kappa),
        error=_mean_error(scores, labels, answers),
        alpha=alpha(_ratings(scores, labels, answers)),
    )


def length_bias(
    scores: Sequence[float],
    labels: Sequence[float],
    lengths: Sequence[float],
    answers: Sequence[Hashable] | None = None,
) -> Estimate:
    """Spearman's rho of the judge's error (score less label) with the answer's length: above 0, it pays for length.

    answers: as of `agreement`. A scale's ends can fake a little of it: where long answers are also the better ones by the
    labels, errors at the top can only be negative. `padding` is the stricter test.
    """
    answers = range(len(scores)) if answers is None else answers
    if not len(scores) == len(labels) == len(lengths) == len(answers):
        raise ValueError(
            f"{len(scores)} scores, {len(labels)} labels, {len(lengths)} lengths and {len(answers)} answers"
        )
    _check_finite(scores, labels, lengths)
    errors = [round(s - label, 9) for s, label in zip(scores, labels, strict=True)]
    return _bootstrap(_resampled(errors, lengths, answers), _spearman)


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


def _ratings(scores: Sequence[float], labels: Sequence[float], answers: Sequence[Hashable]) -> list[list[float]]:
    """Of each answer the judge's score, once, and all its labels."""
    ratings: dict[Hashable, list[float]] = {}
    for score, label, answer in zip(scores, labels, answers, strict=True):
        ratings.setdefault(answer, [score]).append(label)
    return list(ratings.values())


def _check_finite(*columns: Sequence[float]) -> None:
    if not all(math.isfinite(value) for column in columns for value in column):
        raise ValueError("a score or a label is not a finite number")


def _share(hits: Sequence[bool], answers: int) -> Estimate:
    """The share of hits, as certain as if each answer had given one of them."""
    if not hits:
        return Estimate(None, None, None)
    share = sum(hits) / len(hits)
    return Estimate(share, *wilson(share * answers, answers))


def _mean_error(scores: Sequence[float], labels: Sequence[float], answers: Sequence[Hashable]) -> Estimate:
    """The mean of score less label, with Student's t on the sums by answer (the sandwich estimate of a mean's variance)."""
    errors = [s - label for s, label in zip(scores, labels, strict=True)]
    if not errors:
        return Estimate(None, None, None)
    mean = fmean(errors)
    sums: dict[Hashable, float] = defaultdict(float)
    for error, answer in zip(errors, answers, strict=True):
        sums[answer] += error - mean
    count = len(sums)
    spread = math.fsum(total * total for total in sums.values())
    if count < FEWEST or spread <= NEAR:
        return Estimate(mean, None, None)
    reach = t_quantile(0.975, count - 1) * math.sqrt(spread * count / (count - 1)) / len(errors)
    return Estimate(mean, mean - reach, mean + reach)


# Each takes the distinct pairs' x and y, and a row of counts for each resampling; gives a number for each row.
_Statistic: TypeAlias = "Callable[[Floats, Floats, Floats], Floats]"


@dataclass(frozen=True, slots=True)
class _Resampled:
    """Samples of as many answers as there are, drawn from them, each with all its pairs of x and y.

    x, y: the distinct pairs. whole: how often each occurs, in one row. draws: the same for each sample; None with too few
    answers.
    """

    x: Floats
    y: Floats
    whole: Floats
    draws: Floats | None


def _resampled(x: Sequence[float], y: Sequence[float], answers: Sequence[Hashable]) -> _Resampled | None:
    """Draw samples; None without pairs. Answers with equal pairs are counted, so the work depends on how many differ."""
    import numpy as np

    if not x:
        return None
    of: dict[Hashable, Counter[tuple[float, float]]] = defaultdict(Counter)
    for a, b, answer in zip(x, y, answers, strict=True):
        of[answer][a, b] += 1
    kinds = Counter(frozenset(pairs.items()) for pairs in of.values())
    place = {pair: number for number, pair in enumerate(dict.fromkeys(zip(x, y, strict=True)))}
    within = np.zeros((len(kinds), len(place)))
    for row, kind in enumerate(kinds):
        for pair, count in kind:
            within[row, place[pair]] = count
    pairs = np.array(list(place), dtype=np.float64)
    weights = np.array(list(kinds.values()), dtype=np.float64)
    draws = None
    if len(of) >= FEWEST:
        drawn = np.random.default_rng(0).multinomial(len(of), weights / weights.sum(), size=DRAWS)
        draws = drawn.astype(np.float64) @ within
    return _Resampled(pairs[:, 0], pairs[:, 1], (weights @ within)[None, :], draws)


def _bootstrap(sample: _Resampled | None, statistic: _Statistic) -> Estimate:
    """The statistic of all pairs, with its interval over the samples drawn."""
    if sample is None:
        return Estimate(None, None, None)
    value = float(statistic(sample.x, sample.y, sample.whole)[0])
    return percentiles(value, None if sample.draws is None else statistic(sample.x, sample.y, sample.draws))


def _kappa(x: Floats, y: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    spread = weights @ (x * x) / total - mean_x**2 + weights @ (y * y) / total - mean_y**2
    disagreement = weights @ ((x - y) ** 2) / total
    by_chance = spread + (mean_x - mean_y) ** 2
    return 1 - ratio(disagreement, by_chance)


def _spearman(x: Floats, y: Floats, weights: Floats) -> Floats:
    rank_x, rank_y = _midranks(x, weights), _midranks(y, weights)
    total = weights.sum(axis=1, keepdims=True)
    from_x = rank_x - (weights * rank_x).sum(axis=1, keepdims=True) / total
    from_y = rank_y - (weights * rank_y).sum(axis=1, keepdims=True) / total
    both = (weights * from_x * from_y).sum(axis=1)
    return ratio(both, _root((weights * from_x**2).sum(axis=1) * (weights * from_y**2).sum(axis=1)))


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

    return ratio(pairs(sign_x * sign_y), _root(pairs(np.abs(sign_x)) * pairs(np.abs(sign_y))))


def _root(values: Floats) -> Floats:
    import numpy as np

    root: Floats = np.sqrt(np.maximum(values, 0))
    return root
