"""A power of two goes from the scale into the numbers only where none of them is changed by it."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
import pytest

from assay.adapters.dtypes import cast
from assay.adapters.levelling import multiplied, powers
from assay.errors import AdapterMismatch

FILE = PurePath("adapter")


@pytest.mark.parametrize(
    ("factors", "found"),
    [
        ((6.0, 6.0, 3.0, 24.0), (6.0, (0, 0, -1, 2))),
        ((-6.0, -6.0, -3.0), (-6.0, (0, 0, -1))),
        ((1.4 / 7 * 7, 1.4, 2.8), (1.4, (0, 0, 1))),
        ((0.0, 0.0), (0.0, (0, 0))),
        ((6.0, 6.0, 0.0), None),
        ((0.0, 0.0, 6.0), None),
        ((6.0, -6.0), None),
        ((6.0, 6.0, 5.0), None),
        ((6.0, 6.0 * 2**0.5), None),
        ((1e300, 1e-300), None),
        ((1e-300, 1e300), None),
    ],
)
def test_one_factor_and_powers_of_two(factors: tuple[float, ...], found: tuple[float, tuple[int, ...]] | None) -> None:
    got = powers({str(at): factor for at, factor in enumerate(factors)})
    if found is None:
        assert got is None
        return
    assert got is not None
    assert got[0] == pytest.approx(found[0], rel=1e-15)
    assert tuple(got[1][str(at)] for at in range(len(factors))) == found[1]


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("power", [-3, 1, 5])
def test_every_digit_is_kept(dtype: str, power: int) -> None:
    numbers = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    bits = cast(numbers.view("<u4"), "F32", dtype).T
    made = multiplied(bits, dtype, power, FILE, "b")
    wide = [cast(one, dtype, "F32").view("<f4") for one in (bits, made)]
    np.testing.assert_array_equal(wide[1], wide[0] * 2.0**power)


def test_float64_as_well() -> None:
    numbers = np.array([[1 / 3, -2e300]])
    np.testing.assert_array_equal(multiplied(numbers.view("<u8"), "F64", -2, FILE, "b").view("<f8"), numbers / 4)


@pytest.mark.parametrize(
    ("dtype", "number", "power"), [("F16", 6e4, 1), ("F16", 1.0009765625e-4, -12), ("F32", 3e38, 1), ("BF16", 3e38, 1)]
)
def test_numbers_that_would_be_rounded_are_refused(dtype: str, number: float, power: int) -> None:
    bits = cast(np.array([[number, 1.0]], np.float32).view("<u4"), "F32", dtype)
    with pytest.raises(
        AdapterMismatch, match=rf"adapter: the numbers of b are too large or too small .* 2\^{power} exactly"
    ):
        multiplied(bits, dtype, power, FILE, "b")
