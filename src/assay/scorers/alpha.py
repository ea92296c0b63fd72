"""Krippendorff's alpha: how far raters of the same things agree beyond chance, whoever they are and whatever each left out.

1 is full agreement, 0 what chance gives, and below 0 there is less than that. K. Krippendorff, "Computing Krippendorff's
Alpha-Reliability" (2011), whose worked examples the tests compute.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.scorers.estimate import DRAWS, FEWEST, Estimate, percentiles, ratio

if TYPE_CHECKING:
    from assay.scorers.estimate import Floats


@dataclass(frozen=True, slots=True)
class Alpha:
    """interval: differences count by the square of their size. ordinal: by that of the ranks between, for scales whose steps
    are not alike. units: things with two ratings or more; the intervals take each for one observation.
    """

    units: int
    interval: Estimate
    ordinal: Estimate


def alpha(units: Sequence[Sequence[float]]) -> Alpha:
    """The agreement within `units`: of each thing that was rated its ratings, in any order and as many as there are.

    A thing with fewer than two ratings tells nothing and is left out. Raises `ValueError` for what is no finite number.
    """
    import numpy as np

    if not all(math.isfinite(value) for unit in units for value in unit):
        raise ValueError("a rating is not a finite number")
    kinds = Counter(tuple(sorted(unit)) for unit in units if len(unit) > 1)
    count = kinds.total()
    if not count:
        nothing = Estimate(None, None, None)
        return Alpha(0, nothing, nothing)
    levels = sorted({value for unit in kinds for value in unit})
    held = np.array([[unit.count(level) for level in levels] for unit in kinds], dtype=np.float64)
    often = np.array(list(kinds.values()), dtype=np.float64)
    drawn = np.random.default_rng(0).multinomial(count, often / count, size=DRAWS).astype(np.float64)
    draws = drawn if count >= FEWEST else None
    values = np.array(levels)
    return Alpha(count, _estimate(held, often, draws, values), _estimate(held, often, draws, None))


def _estimate(held: Floats, often: Floats, draws: Floats | None, values: Floats | None) -> Estimate:
    value = float(_alphas(held, often[None, :], values)[0])
    return percentiles(value, None if draws is None else _alphas(held, draws, values))


def _alphas(held: Floats, weights: Floats, values: Floats | None) -> Floats:
    """Alpha for each row of `weights`, which says how often each unit is there.

    held: how often each unit has each level. values: the levels' places on the scale; None for their midranks among all
    ratings, whose differences are the ordinal metric. Both sums of squared differences over pairs are those about a mean:
    the sum over ordered pairs of m values is 2 m times their squared deviations.
    """
    import numpy as np

    ratings = weights @ held
    whole = ratings.sum(axis=1)
    places = np.cumsum(ratings, axis=1) - ratings / 2 if values is None else np.broadcast_to(values, ratings.shape)
    places = places - (ratings * places).sum(axis=1, keepdims=True) / whole[:, None]
    size = held.sum(axis=1)
    within = (places**2) @ held.T - (places @ held.T) ** 2 / size
    observed = (weights * within * 2 * size / (size - 1)).sum(axis=1) / whole
    expected = 2 * (ratings * places**2).sum(axis=1) / (whole - 1)
    return 1 - ratio(observed, expected)
