"""Old against new: pairing, flips, intervals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.report.comparison import compare, paired_interval
from assay.types import Cell


def cell(sample: str, value: float | None, group: str = "g", outcome: str = "scored", boolean: bool = True) -> Cell:
    return Cell(
        "r", "c", 1, "d", "s", group, sample, "m", outcome, value, boolean, 0.0, 1.0 if boolean else 10.0  # type: ignore[arg-type]
    )  # fmt: skip


def test_flips_are_named_and_means_are_over_pairs() -> None:
    old = [cell("a", 1), cell("b", 0), cell("c", 1), cell("d", 1), cell("x", 1)]
    new = [cell("a", 0), cell("b", 1), cell("c", 1), cell("d", None, outcome="failed"), cell("y", 1)]
    [change] = compare(old, new)
    assert (change.n, change.old, change.new, change.difference) == (3, 2 / 3, 2 / 3, 0.0)
    assert (change.gained, change.lost) == (("b",), ("a",))
    assert change.unpaired == 3, "x, y and the failed one are in no number"
    assert change.p == 1.0


def test_groups_that_only_one_side_has_are_said_and_not_compared() -> None:
    [one, two, both] = compare([cell("a", 1, "old")], [cell("b", 1, "new")])
    assert (both.group, both.n, both.unpaired) == ("all", 0, 2)
    assert (one.group, one.n, one.old, one.p, one.low, one.unpaired) == ("old", 0, None, None, None, 1)
    assert two.group == "new"


def test_all_groups_are_a_line_of_their_own_where_several_have_pairs() -> None:
    one, two, other = cell("a", 1, "one"), cell("b", 1, "two"), cell("c", 1, "all")
    assert [(c.group, c.n) for c in compare([one, two], [one, two])] == [("one", 1), ("two", 1), ("all", 2)]
    assert [(c.group, c.n) for c in compare([one], [one, two])] == [("one", 1), ("two", 0)], "both would say the same"
    assert [(c.group, c.n, c.whole) for c in compare([one, other], [one, other])] == [
        ("one", 1, False),
        ("all", 1, False),
        ("all groups", 2, True),
    ]


def test_numbers() -> None:
    old = [cell(str(i), 5.0 + i % 3, boolean=False) for i in range(12)]
    new = [cell(str(i), 6.0 + i % 3 + (i % 2) / 2, boolean=False) for i in range(12)]
    [change] = compare(old, new)
    assert change.difference == pytest.approx(1.25)
    assert change.low is not None
    assert change.high is not None
    assert 1.0 < change.low < 1.25 < change.high < 1.5
    assert not change.boolean
    assert change.p is not None
    assert change.p < 0.01


def test_bonett_and_price_by_hand() -> None:
    """10 pairs, 5 gained, none lost: (6 - 1) / 12 and its standard error."""
    low, high = paired_interval([0] * 10, [1] * 5 + [0] * 5, boolean=True) or (0, 0)
    middle, error = 5 / 12, math.sqrt((7 / 12 - (5 / 12) ** 2) / 12)
    assert low == pytest.approx(middle - 1.959964 * error, abs=1e-6)
    assert high == pytest.approx(middle + 1.959964 * error, abs=1e-6)
    assert paired_interval([], [], boolean=True) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_the_interval_holds_the_shrunk_difference_and_turns_with_the_sides(pairs: list[tuple[bool, bool]]) -> None:
    a, b = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    there, back = paired_interval(a, b, boolean=True), paired_interval(b, a, boolean=True)
    assert there is not None
    assert back is not None
    assert there[0] <= there[1]
    assert there == pytest.approx((-back[1], -back[0]))
    assert -1 <= there[0] <= there[1] <= 1


def test_questions_are_paired_and_not_their_repeats() -> None:
    old = [cell("a", v) for v in (1, 1, 0, 0)] + [cell("b", v) for v in (0, 0, 0, 0)] + [cell("c", 1)] * 4
    new = [cell("a", v) for v in (1, 1, 1, 0)] + [cell("b", 1), cell("b", None, outcome="failed")] + [cell("c", 0)] * 4
    [change] = compare(old, new)
    assert (change.n, change.repeats, change.unpaired) == (3, None, 0)
    assert (change.old, change.new) == (0.5, pytest.approx((0.75 + 1 + 0) / 3))
    assert (change.gained, change.lost) == (("a", "b"), ("c",))
    assert change.p == 1.0, "three pairs, and 0.25 + 1 - 1 under any signs is as large"
    [change] = compare(old[:4] + old[8:], new[:4] + new[6:])
    assert (change.n, change.repeats) == (2, 4)


def test_repeats_make_no_pairs() -> None:
    """Six questions asked ten times, all gained: as much as six pairs can tell, and not as sixty."""
    old = [cell(str(i), 0) for i in range(6)] * 10
    new = [cell(str(i), 1) for i in range(6)] * 10
    [change] = compare(old, new)
    assert change.p == 2 / 2**6
    assert (change.low, change.high) == paired_interval([0] * 6, [1] * 6, boolean=True)


def test_shares_are_paired_by_their_differences() -> None:
    """Differences of 1/2, 0, 1/2 and 0 with one pair of each flip: (1 + 0) / 6, and the squares (1/2 + 2) / 6."""
    low, high = paired_interval([0.0, 0.5, 0.25, 1.0], [0.5, 0.5, 0.75, 1.0], boolean=True) or (0, 0)
    error = math.sqrt((2.5 / 6 - (1 / 6) ** 2) / 6)
    assert low == pytest.approx(1 / 6 - 1.959964 * error, abs=1e-6)
    assert high == pytest.approx(1 / 6 + 1.959964 * error, abs=1e-6)


def test_a_sample_of_two_groups_is_one_in_all_of_them() -> None:
    old = [cell("a", 1, "g"), cell("a", 0, "h"), cell("b", 1, "h")]
    whole = compare(old, [cell("a", 1, "g"), cell("a", 1, "h"), cell("b", 1, "h")])[-1]
    assert (whole.group, whole.n, whole.old, whole.new) == ("all", 2, 0.75, 1.0)


def test_differences_of_texts_with_bounds_of_their_own_stay_within_what_both_could_have() -> None:
    def bounded(value: float, high: float) -> list[Cell]:
        return [Cell("r", "c", 1, "d", "s", "g", name, "m", "scored", value, False, 0.0, high) for name in "ab"]

    [change] = compare(bounded(1.0, 2.0), bounded(7.0, 9.0))
    assert (change.low, change.high) == paired_interval([1.0] * 2, [7.0] * 2, boolean=False, span=9.0)
    failed = Cell("r", "c", 1, "d", "s", "g", "c", "m", "failed")
    [change] = compare([*bounded(0.1, 0.2), failed], bounded(0.1, 0.2))
    spanned = paired_interval([0.1] * 2, [0.1] * 2, boolean=False, span=0.2)
    assert (change.low, change.high) == spanned, "what has no score has no bounds"


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0]])
def test_without_bounds_nothing_tells_of_one_pair_or_of_equal_ones(values: list[float]) -> None:
    assert paired_interval([0.0] * len(values), values, boolean=False) is None
    bounded = paired_interval([0.0] * len(values), values, boolean=False, span=10)
    assert (bounded is None) == (len(values) == 1)
    if bounded is not None:
        assert -10 <= bounded[0] < 3 < bounded[1] <= 10
