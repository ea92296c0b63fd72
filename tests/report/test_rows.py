import json
from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.report.rows import Broke, Row, broke, called, listed, rows, shorten
from assay.results.stats import wilson
from assay.types import Cell

BASE: dict[str, Any] = {"checkpoint": "base", "iteration": 0, "digest": ""}
TUNED: dict[str, Any] = {"checkpoint": "lab @10", "iteration": 10, "digest": "d10"}


def cell(sample: str, value: float | None, **changes: Any) -> Cell:
    """A boolean cell of the base's; a value of None is a failure."""
    start: dict[str, Any] = {"run": "lab", "suite": "facts", "group": "old", "metric": "correct", **BASE}
    outcome = "scored" if value is not None else "failed"
    return Cell(**{**start, "sample": sample, "outcome": outcome, "value": value, **changes})


def test_the_fields_are_the_documented_ones_in_order() -> None:
    documented = "run checkpoint iteration digest suite group metric mean low high correct asked scored failed"
    assert " ".join(field.name for field in fields(Row)) == f"{documented} truncated questions proof"


def test_a_row_counts_failures_apart() -> None:
    cells = [
        cell("a", 1.0),
        cell("b", 0.0),
        cell("c", 1.0),
        cell("d", None),
        cell("e", None, outcome="truncated"),
        cell("f", None, outcome="truncated"),
    ]
    [row] = rows(cells, {})
    assert (row.correct, row.asked, row.scored, row.failed, row.truncated) == (2, 6, 3, 1, 2)
    assert row.mean == pytest.approx(2 / 3)
    assert (row.low, row.high) == wilson(2, 3)
    assert json.loads(json.dumps(asdict(row)))["proof"] is None


def test_nothing_scored_is_no_zero() -> None:
    [row] = rows([cell("a", None), cell("b", None)], {})
    assert (row.mean, row.low, row.high) == (None, None, None)
    assert (row.correct, row.scored, row.failed) == (0, 0, 2)


def test_numbers_have_no_correct_and_stay_within_their_bounds() -> None:
    number = {"metric": "judge", "boolean": False, "low": 0.0, "high": 10.0}
    first, last = rows(
        [cell("a", 9.5, **number), cell("b", 10.0, **number), cell("a", None, metric="judge", **TUNED)],
        {},
    )
    assert first.correct is None
    assert first.mean == 9.75
    assert first.high == 10.0
    assert first.low is not None
    assert 0 <= first.low < 9.75
    assert last.correct is None, "a failure does not turn the metric into a boolean one"


def test_proof_is_live_only_where_it_is_said_of_this_digest() -> None:
    cells = [
        cell("a", 1.0),
        cell("a", 1.0, **TUNED),
        cell("a", 1.0, **{**TUNED, "digest": "other"}),
        cell("a", 1.0, checkpoint="lab @5", iteration=5, digest="d5"),
    ]
    proofs = {("lab", "d10"): "live", ("elsewhere", "d5"): "live", ("lab", "other"): "unproven"}
    found = [(row.checkpoint, row.digest, row.proof) for row in rows(cells, proofs)]  # type: ignore[arg-type]
    assert found == [
        ("base", "", None),
        ("lab @5", "d5", "unproven"),
        ("lab @10", "d10", "live"),
        ("lab @10", "other", "unproven"),
    ]


def test_order_is_by_iteration_then_groups_as_asked_for() -> None:
    cells = [
        cell("a", 1.0, group="z", **TUNED),
        cell("b", 1.0, group="a", **TUNED),
        cell("c", 1.0, group="m", **TUNED),
        cell("a", 1.0, group="z"),
    ]
    assert [(row.checkpoint, row.group) for row in rows(cells, {}, groups=["m", "absent"])] == [
        ("base", "z"),
        ("lab @10", "m"),
        ("lab @10", "z"),
        ("lab @10", "a"),
    ]


def test_broke_names_what_the_base_knew() -> None:
    base = [cell("a", 1.0), cell("b", 1.0), cell("c", 0.0), cell("d", 1.0), cell("e", None), cell("f", 1.0)]
    tuned = [
        cell("a", 0.0, **TUNED),
        cell("b", 1.0, **TUNED),
        cell("c", 0.0, **TUNED),
        cell("d", None, **TUNED),
        cell("e", 0.0, **TUNED),
        cell("f", None, outcome="truncated", **TUNED),
    ]
    found = broke([*tuned, *base])
    assert found == {("lab", "lab @10", "d10", "facts", "old", "correct"): Broke(("a",), ("d", "f"))}
    assert set(found) <= {row.key for row in rows([*base, *tuned], {})}


def test_broke_needs_a_base_of_the_same_run_and_suite() -> None:
    assert broke([cell("a", 0.0, **TUNED)]) == {}
    assert broke([cell("a", 1.0, run="other"), cell("a", 0.0, **TUNED)]) == {}
    assert broke([cell("a", 1.0, group="other"), cell("a", 0.0, **TUNED)]) == {}
    assert broke([cell("a", 1.0, suite="other"), cell("a", 0.0, **TUNED)]) == {}
    assert broke([cell("a", 1.0, boolean=False), cell("a", 0.0, boolean=False, **TUNED)]) == {}


def test_a_scored_cell_without_a_value_is_a_fault() -> None:
    with pytest.raises(ValueError, match="without a value"):
        rows([cell("a", None, outcome="scored")], {})


def test_words() -> None:
    assert [listed("a"), listed("ab"), listed("abc"), listed("")] == ["a", "a and b", "a, b and c", ""]
    assert shorten("abc") == "a, b, c"
    assert shorten("abcde") == "a, b, c, … (+2)"
    assert called([("x", "1234567"), ("y", "1"), ("x", "7654321")])["x", "7654321"] == "x (765432)"


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.sampled_from([0.0, 1.0, None]), max_size=30))
def test_counts_add_up(values: list[float | None]) -> None:
    for row in rows([cell(str(number), value) for number, value in enumerate(values)], {}):
        assert row.asked == row.scored + row.failed + row.truncated == len(values)
        assert row.mean is None or (row.low or 0) <= row.mean <= (row.high or 0)
