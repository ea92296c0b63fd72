"""A loss is never maximised, never averaged with shares, and each text counts by its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from assay.report.comparison import compare
from assay.report.decision import Decision, decide
from assay.report.rows import rows
from assay.types import Cell, Goal

LIVE: Any = {("lab", f"d{step}"): "live" for step in range(1, 200)}
TOKENS = (10, 200, 30, 40, 50, 60, 70, 80)


def column(step: int, values: Sequence[float | None], group: str = "all", metric: str = "loss") -> list[Cell]:
    name, digest = (f"lab @{step}", f"d{step}") if step else ("base", "")
    place = ("lab", name, step, digest, "held-loss", group)
    loss = metric == "loss"
    return [
        Cell(*place, f"{group}{at}", metric, "failed")
        if value is None
        else Cell(
            *(*place, f"{group}{at}", metric, "scored", value, not loss, 0.0, math.inf if loss else 1.0),
            weight=TOKENS[at] if loss else None,
            lower_is_better=loss,
        )
        for at, value in enumerate(values)
    ]


def choose(*columns: list[Cell], goal: Goal | None = None) -> Decision:
    return decide([cell for each in columns for cell in each], LIVE, goal)


HIGH = [3.0, 3.1, 2.9, 3.2, 3.0, 3.3, 2.8, 3.1]


def lower(by: float) -> list[float]:
    return [value - by - 0.01 * at for at, value in enumerate(HIGH)]


def test_the_best_has_the_lowest_loss() -> None:
    decision = choose(column(0, HIGH), column(10, lower(1.0)), column(20, lower(0.5)), column(30, lower(-1.0)))
    assert (decision.checkpoint, decision.rule) == ("lab @10", "lowest mean")
    expected = math.fsum(v * w for v, w in zip(lower(1.0), TOKENS, strict=True)) / sum(TOKENS)
    assert f"the lowest mean loss over all ({expected:.4g})" in decision.reason
    (change,) = decision.changes
    assert change.mean == pytest.approx(expected)
    assert (len(change.gained), len(change.lost)) == (8, 0)
    assert change.low is not None
    assert change.high is not None
    assert change.low < change.difference < change.high < 0
    assert "8 better, 0 worse" in change.effect
    assert not any(rival.tied for rival in decision.rivals)
    assert all(rival.difference > 0 for rival in decision.rivals)


def test_the_base_stands_where_all_are_worse() -> None:
    decision = choose(column(0, HIGH), column(10, lower(-0.1)), column(20, lower(-1.0)))
    assert (decision.checkpoint, decision.rule) == ("base", "lowest mean")
    decision = choose(column(0, HIGH), column(10, lower(-0.1)), goal=Goal(("all",)))
    assert (decision.checkpoint, decision.rule) == ("base", "base stands")


def test_a_long_text_counts_by_its_tokens() -> None:
    """Worse on seven short texts, better on the one that has more tokens than all of them lose."""
    mixed = [value + (-1.0 if at == 1 else 0.1) for at, value in enumerate(HIGH)]
    assert choose(column(0, HIGH), column(10, mixed)).checkpoint == "lab @10"
    (row, _) = rows(column(0, mixed) + column(10, HIGH), LIVE)
    assert row.mean == pytest.approx(math.fsum(v * w for v, w in zip(mixed, TOKENS, strict=True)) / sum(TOKENS))


def test_a_text_without_a_score_counts_as_the_highest_loss_seen() -> None:
    missing: list[float | None] = [*lower(0.2)]
    missing[1] = None
    decision = choose(column(0, HIGH), column(10, missing), column(20, lower(0.1)))
    assert decision.checkpoint == "lab @20"
    assert "a checkpoint without one counts as highest" in " ".join(decision.notes)
    (row,) = [row for row in rows(column(0, HIGH) + column(10, missing), LIVE) if row.digest]
    assert (row.scored, row.failed, row.questions) == (7, 1, 7)
    assert row.mean is not None
    assert row.mean < 3.0, "no zero and no worst value is in the mean"


def test_keeping_a_loss_means_that_it_may_not_rise() -> None:
    def both(step: int, facts: list[float], loss: list[float]) -> list[Cell]:
        return column(step, facts, "facts", "correct") + column(step, loss, "old")

    goal = Goal(("facts",), ("old",), 0.05)
    right, wrong = [1.0] * 8, [0.0] * 8
    base = both(0, wrong, HIGH)
    assert choose(base, both(10, right, lower(0.5)), goal=goal).checkpoint == "lab @10", "a lower loss is kept"
    assert choose(base, both(10, right, [v + 0.04 for v in HIGH]), goal=goal).rule == "goal", "within the tolerance"
    worse = choose(base, both(10, right, [v + 0.06 for v in HIGH]), goal=goal)
    assert worse.checkpoint is None
    assert "does not keep old" in worse.excluded[0].reason
    assert "no mean can be taken over correct and loss: loss has no bounds" in worse.reason


def test_no_mean_is_taken_over_a_loss_and_shares() -> None:
    cells = [column(s, [f] * 8, "facts", "correct") + column(s, lower(s / 10), "old") for s, f in ((0, 0.0), (10, 1.0))]
    for goal in (None, Goal(("facts", "old")), Goal((), ("facts",))):
        decision = choose(*cells, goal=goal)
        assert decision.checkpoint is None
        assert "loss has no bounds" in decision.reason


def test_a_goal_on_losses_takes_the_one_that_lowers_them_most() -> None:
    def two(step: int, new: float, old: float) -> list[Cell]:
        return column(step, lower(new), "new") + column(step, lower(old), "old")

    goal = Goal(("new",), ("old",), 0.1)
    decision = choose(two(0, 0, 0), two(10, 0.5, -0.02), two(20, 1.5, -0.5), two(30, 0.4, 0.3), goal=goal)
    assert (decision.checkpoint, decision.rule) == ("lab @10", "goal")
    assert [one.checkpoint for one in decision.excluded] == ["lab @20"]
    assert choose(two(0, 0, 0), two(10, 0.5, -0.02), two(20, 0.1, 0.6)).rule == "lowest mean"


def test_ties_of_losses_are_named() -> None:
    near = [value + (0.01 if at % 2 else -0.01) * at for at, value in enumerate(lower(1.0))]
    decision = choose(column(0, HIGH), column(10, lower(1.0)), column(20, near))
    tied = {rival.checkpoint for rival in decision.rivals if rival.tied}
    assert tied == {"lab @10", "lab @20"} - {decision.checkpoint}


def test_a_comparison_pairs_texts_and_knows_what_is_better() -> None:
    (change,) = compare(column(0, HIGH), column(10, [*lower(0.5)[:7], HIGH[7] + 1]))
    assert change.lower_is_better
    assert (len(change.gained), change.lost) == (7, ("all7",))
    old = math.fsum(v * w for v, w in zip(HIGH, TOKENS, strict=True)) / sum(TOKENS)
    assert change.old == pytest.approx(old)
    assert change.difference == pytest.approx((change.new or 0) - old)
    assert change.low is not None
    assert change.high is not None
    assert change.low < (change.difference or 0) < change.high
