"""A figure and how far chance could have moved it, by resampling: what a check of a judge is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

DRAWS = 2000
NEAR = 1e-9
FEWEST = 5  # answers that an interval is made of


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95% interval.

    All None where it is not defined, as a correlation with a constant is not. low and high alone None where the examples
    can't tell: fewer than five answers, or resamplings that all come out alike.
    """

    value: float | None
    low: float | None
    high: float | None


def percentiles(value: float, resampled: Floats | None) -> Estimate:
    """`value` with the middle 95% of what it was over the samples drawn, as far as it was defined; None: too few answers.

    B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
    """
    import numpy as np

    if not np.isfinite(value):
        return Estimate(None, None, None)
    if resampled is None:
        return Estimate(value, None, None)
    low, high = np.quantile(resampled[np.isfinite(resampled)], [0.025, 0.975])
    return Estimate(value, float(low), float(high)) if high - low > NEAR else Estimate(value, None, None)


def ratio(above: Floats, below: Floats) -> Floats:
    """above / below; not a number where there is nothing (or only rounding errors) below."""
    import numpy as np

    whole = below > NEAR
    divided: Floats = np.divide(above, np.where(whole, below, 1.0))
    return np.where(whole, divided, np.nan)
