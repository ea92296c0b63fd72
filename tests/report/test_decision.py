import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.report.decision import Decision, decide
from assay.report.rows import GroupChange, Proof
from assay.types import Cell, Goal

GOAL = Goal(improve=("new",), keep=("old",))
LIVE: dict[tuple[str, str], Proof] = {("lab", f"d{step}"): "live" for step in range(100)}


def column(step: int, groups: Mapping[str, str], *, number: bool = False, **changes: Any) -> list[Cell]:
    """Cells of one checkpoint (0: the base) from marks: `1` right, `0` wrong, `F` failed, `T` truncated, `-` not asked.

    With `number`, a digit is the value of a metric from 0 to 10.
    """
    cells = []
    for group, marks in groups.items():
        for at, mark in enumerate(marks):
            if mark == "-":
                continue
            outcome = {"F": "failed", "T": "truncated"}.get(mark, "scored")
            values: dict[str, Any] = {"boolean": False, "low": 0.0, "high": 10.0} if number and mark.isdigit() else {}
            start: dict[str, Any] = {
                "run": "lab",
                "checkpoint": f"lab @{step}" if step else "base",
                "iteration": step,
                "digest": f"d{step}" if step else "",
                "suite": "facts",
                "metric": "judge" if number else "correct",
                "value": float(mark) if mark.isdigit() else None,
            }
            question = {"group": group, "sample": f"{group}{at}", "outcome": outcome}
            cells.append(Cell(**{**start, **values, **question, **changes}))
    return cells


def choose(
    *columns: Iterable[Cell], goal: Goal | None = GOAL, proofs: Mapping[tuple[str, str], Proof] = LIVE
) -> Decision:
    decision = decide([cell for part in columns for cell in part], proofs, goal)
    json.dumps(decision.as_dict())  # always fit for programs
    assert decision.reason == "There is only the base." or decision.lines()[0].startswith("best: ")
    return decision


def change(decision: Decision, group: str) -> GroupChange:
    return next(found for found in decision.changes if found.group == group)


BASE = column(0, {"new": "0000000000", "old": "1111111111"})


def test_the_most_gained_among_those_that_keep() -> None:
    decision = choose(
        BASE,
        column(10, {"new": "1000000000", "old": "1111111111"}),
        column(20, {"new": "1111111110", "old": "1111111111"}),
        column(30, {"new": "1111111111", "old": "1111110000"}),
    )
    assert (decision.checkpoint, decision.iteration, decision.digest) == ("lab @20", 20, "d20")
    assert decision.rule == "goal"
    assert decision.reason == "It gains most on new (0/10 → 9/10) among the 2 of 3 checkpoints that keep old."
    assert decision.complete
    assert decision.notes == ()
    assert [(one.checkpoint, one.reason) for one in decision.excluded] == [
        ("lab @30", "does not keep old (10/10 → 6/10)")
    ]
    assert [(one.checkpoint, one.tied) for one in decision.rivals] == [("base", False), ("lab @10", False)]
    assert decision.rivals[0].p == pytest.approx(2 / 2**9)


def test_the_earlier_one_on_a_tie_whatever_the_order_of_the_cells() -> None:
    late = column(50, {"new": "1111111111", "old": "1111111111"})
    early = column(40, {"new": "1111111111", "old": "1111111111"})
    decision = choose(late, early, BASE)
    assert decision.checkpoint == "lab @40"
    assert "the earliest of 2 that do equally well" in decision.reason
    assert "tied: 10 paired samples cannot separate it from lab @50 (p ≥ 0.05)." in decision.lines()


def test_tolerance_is_a_difference_of_means() -> None:
    one_lost = column(10, {"new": "1111111111", "old": "1111111110"})
    assert choose(BASE, one_lost).rule == "highest mean"
    decision = choose(BASE, one_lost, goal=Goal(("new",), ("old",), 0.1))
    assert decision.rule == "goal"
    lost = change(decision, "old")
    assert (lost.lost, lost.known) == (("old9",), 10)
    assert (lost.low, lost.high) == pytest.approx((0.0179, 0.4042), abs=5e-5)
    assert lost.effect == "lost 1 of 10 [2–40%]: old9"


def test_an_unfinished_answer_counts_as_lost_and_as_not_gained() -> None:
    lossy = column(10, {"new": "1111111111", "old": "111111111T"})
    shy = column(20, {"new": "1111FFFFFF", "old": "1111111111"})
    steady = column(30, {"new": "1111100000", "old": "1111111111"})
    decision = choose(BASE, lossy, shy, steady)
    assert decision.checkpoint == "lab @30"
    assert not decision.complete
    assert decision.excluded[0].reason == "does not keep old (10/10 → 9/10; 1 without a score)"
    assert any("6 failed and 1 truncated of 80 answers" in note for note in decision.notes)


def test_a_rivals_failures_are_no_evidence_against_it() -> None:
    good = column(10, {"new": "1111111111", "old": "1111111111"})
    unlucky = column(20, {"new": "1FFFFFFFFF", "old": "1111111111"})
    decision = choose(BASE, good, unlucky)
    assert decision.checkpoint == "lab @10"
    rival = next(one for one in decision.rivals if one.checkpoint == "lab @20")
    assert rival.tied
    assert rival.difference == pytest.approx(0.9)


def test_the_bests_own_failures_are_evidence_against_it() -> None:
    best = column(10, {"new": "11111111FF", "old": "1111111111"})
    rival = column(20, {"new": "0000000011", "old": "1111111111"})
    decision = choose(BASE, best, rival)
    assert decision.checkpoint == "lab @10"
    assert decision.rivals[1].p == pytest.approx(112 / 1024)  # 8 against 2


def test_samples_without_a_base_score_are_left_out_on_both_sides() -> None:
    base = column(0, {"new": "00000", "old": "11FT1"})
    tuned = column(10, {"new": "11111", "old": "11001"})
    decision = choose(base, tuned)
    assert decision.checkpoint == "lab @10"
    assert change(decision, "old").samples == 3
    assert "2 of 10 samples are left out: the base has no score for them." in decision.notes
    assert not decision.complete


def test_only_live_checkpoints_can_be_best() -> None:
    better = column(10, {"new": "1111111111", "old": "1111111111"}, digest="ghost")
    decision = choose(BASE, better, column(20, {"new": "1111111000", "old": "1111111111"}))
    assert decision.checkpoint == "lab @20"
    assert decision.excluded[0].reason == "the adapter was not shown to be live"


def test_all_unproven_is_undecided() -> None:
    decision = choose(BASE, column(10, {"new": "1111111111", "old": "1111111111"}), proofs={("lab", "d10"): "unproven"})
    assert (decision.checkpoint, decision.rule) == (None, "none")
    assert decision.lines() == [
        "best: undecided. No checkpoint was shown to be live.",
        "not eligible: lab @10: the adapter was not shown to be live.",
    ]


def test_nothing_and_only_the_base_are_undecided() -> None:
    assert choose().rule == "none"
    decision = choose(BASE)
    assert (decision.checkpoint, decision.reason) == (None, "There is only the base.")
    assert decision.lines() == [], "nothing could have been decided"
    few = choose(column(0, {"new": "00", "old": "1F"}))
    assert few.lines() == ["note: incomplete: 1 failed and 0 truncated of 4 answers."]
    assert not few.complete
    more = choose(column(0, {"new": "00", "old": "1F"}), column(0, {"new": "00", "old": "1F"}, metric="another"))
    assert more.lines() == few.lines(), "an answer is one, under however many metrics"
    twice = choose(column(0, {"new": "00", "old": "1F"}), column(0, {"new": "00", "old": "11"}))
    assert twice.lines() == ["note: incomplete: 1 failed and 0 truncated of 8 answers."]


def test_the_base_stands_where_nothing_is_gained() -> None:
    decision = choose(BASE, column(10, {"new": "0000000000", "old": "1111111111"}))
    assert (decision.checkpoint, decision.iteration, decision.digest) == ("base", 0, "")
    assert decision.rule == "base stands"
    assert decision.reason == "The only checkpoint that keeps old gains nothing on new."
    assert decision.changes == ()
    two = choose(BASE, *(column(step, {"new": "0000000000", "old": "1111111111"}) for step in (1, 2)))
    assert two.reason == "Of the 2 checkpoints that keep old, none gains anything on new."


def test_where_none_qualifies_the_mean_decides_and_the_costs_are_said() -> None:
    decision = choose(BASE, column(10, {"new": "1111111111", "old": "1111110000"}))
    assert (decision.checkpoint, decision.rule) == ("lab @10", "highest mean")
    assert decision.reason.endswith("(0.800); no checkpoint keeps old.")
    lost = change(decision, "old")
    assert lost.fractions == "10/10 → 6/10"
    assert lost.effect == "lost 4 of 10 [17–69%]: old6, old7, old8, … (+1)"


def test_the_base_can_have_the_highest_mean() -> None:
    worse = column(10, {"new": "1000000000", "old": "0000000000"})
    assert choose(BASE, worse, goal=None).checkpoint == "base"
    even = column(10, {"new": "1100000000", "old": "1111111100"})
    decision = choose(BASE, even, goal=None)
    assert decision.checkpoint == "base", "the base is the earlier one"
    assert "no goal is set" in decision.reason


def test_groups_count_the_same_however_many_samples_they_have() -> None:
    base = column(0, {"new": "0000", "old": "1111111111"})
    decision = choose(base, column(10, {"new": "1111", "old": "1111100000"}), goal=None)
    assert decision.checkpoint == "lab @10"
    assert decision.rivals[0].difference == pytest.approx(0.25)


def test_without_a_base_the_mean_decides() -> None:
    decision = choose(column(10, {"new": "10", "old": "11"}), column(20, {"new": "11", "old": "11"}))
    assert decision.checkpoint == "lab @20"
    assert "the goal needs scores of the base" in decision.reason
    assert decision.changes == ()
    assert any("the base has no scores" in note for note in decision.notes)
    failed = choose(column(0, {"new": "FF", "old": "FF"}), column(10, {"new": "10", "old": "11"}))
    assert failed.checkpoint == "lab @10"
    assert not failed.complete


def test_an_interrupted_checkpoint_does_not_shrink_the_comparison() -> None:
    full = [column(step, {"new": "1111100000", "old": "1111111111"}) for step in (10, 20)]
    decision = choose(BASE, *full, column(30, {"new": "11--------", "old": "----------"}))
    assert (decision.checkpoint, decision.compared) == ("lab @10", 10)
    assert decision.excluded[0].reason == "asked only 2 of the 20 samples that most were asked"
    assert not decision.complete


def test_different_samples_are_compared_on_the_common_ones() -> None:
    wide = column(10, {"new": "1111111111", "old": "1111111110"})
    narrow = [column(step, {"new": "11111-----", "old": "11111-----"}) for step in (20, 30)]
    decision = choose(BASE, wide, *narrow)
    assert decision.checkpoint == "lab @20", "what the wide one lost counts, though the others were not asked it"
    assert decision.compared == 5
    assert change(decision, "old").samples == 5
    assert any("ranked on 10 of 20 samples" in note for note in decision.notes)
    assert not decision.complete


def test_nothing_in_common_is_undecided() -> None:
    decision = choose(BASE, column(10, {"new": "1---------"}), column(20, {"new": "-1--------"}))
    assert (decision.checkpoint, decision.rule) == (None, "none")


def test_a_keep_group_that_was_not_asked_is_not_kept() -> None:
    decision = choose(BASE, column(10, {"new": "1111111111"}))
    assert decision.rule == "highest mean"
    assert "no checkpoint keeps old" in decision.reason


def test_an_improve_group_without_samples_turns_the_goal_off() -> None:
    decision = choose(BASE, column(10, {"new": "11", "old": "11"}), goal=Goal(("absent",), ("old",)))
    assert decision.rule == "highest mean"
    assert "the goal needs samples of absent that all were asked" in decision.reason


def test_a_goal_without_improve_means_all_groups() -> None:
    decision = choose(BASE, column(10, {"new": "1110000000", "old": "1111111111"}), goal=Goal(keep=("old",)))
    assert (decision.checkpoint, decision.rule) == ("lab @10", "goal")


def test_numbers_are_compared_by_their_means() -> None:
    base = column(0, {"new": "555555", "old": "777777"}, number=True)
    decision = choose(
        base,
        column(10, {"new": "889898", "old": "777676"}, number=True),
        column(20, {"new": "679999", "old": "777774"}, number=True),
        goal=Goal(("new",), ("old",), 0.4),
    )
    assert decision.checkpoint == "lab @10"
    assert change(decision, "new").fractions == "5.00 → 8.33"
    old = change(decision, "old")
    assert old.known is None
    assert old.difference == pytest.approx(-1 / 3)
    assert old.low < old.difference < old.high
    assert decision.excluded[0].reason == "does not keep old (7.00 → 6.50)"


def test_an_unfinished_number_counts_as_the_metrics_lowest() -> None:
    base = column(0, {"new": "5555", "old": "7777"}, number=True)
    decision = choose(base, column(10, {"new": "999F", "old": "7777"}, number=True))
    assert change(decision, "new").mean == pytest.approx(27 / 4)
    assert change(decision, "new").unfinished == ("new3",)


def test_metrics_of_different_ranges_are_averaged_as_shares() -> None:
    def mixed(step: int, old: str, new: str) -> list[Cell]:
        return column(step, {"new": new}, number=True) + column(step, {"old": old})

    decision = choose(mixed(0, "1111", "5555"), mixed(10, "0000", "9999"), goal=None)
    assert decision.checkpoint == "base", "a gain of 0.4 of the range does not outweigh a loss of 1.0"
    assert "share of its metric's range" in decision.reason


def test_the_first_metric_of_a_group_decides() -> None:
    first = [cell for step, marks in ((0, "0000000"), (10, "1111111")) for cell in column(step, {"new": marks})]
    second = [cell for step, marks in ((0, "999"), (10, "111")) for cell in column(step, {"new": marks}, number=True)]
    decision = choose(first, second, goal=Goal(("new",)))
    assert decision.checkpoint == "lab @10"
    assert [found.metric for found in decision.changes] == ["correct"]


def test_repeats_of_a_sample_are_averaged() -> None:
    again = column(10, {"new": "0000000000", "old": "1111111110"})
    decision = choose(BASE, column(10, {"new": "1111111111", "old": "1111111111"}), again, goal=None)
    assert change(decision, "new").fractions == "0/10 → 5/10"
    assert change(decision, "old").lost == ("old9",)


def test_an_overwritten_checkpoint_is_two() -> None:
    old = column(10, {"new": "1000000000", "old": "1111111111"}, digest="d11")
    new = column(10, {"new": "1111111111", "old": "1111111111"})
    decision = choose(BASE, old, new)
    assert (decision.checkpoint, decision.digest) == ("lab @10", "d10")
    assert decision.lines()[0].startswith("best: lab @10 (d10).")
    assert any("lab @10 (d11)" in line for line in decision.lines())


def test_groups_come_in_the_order_asked_for() -> None:
    cells = BASE + column(10, {"new": "1111111111", "old": "1111111111"})
    assert [found.group for found in decide(cells, LIVE, GOAL, ["old"]).changes] == ["old", "new"]


def test_cells_of_two_runs_or_suites_are_a_fault() -> None:
    for other in (column(10, {"new": "1"}, run="other"), column(10, {"new": "1"}, suite="other")):
        with pytest.raises(ValueError, match="one run and one suite"):
            decide(BASE + other, LIVE, None)


marks = st.text("01FT-", min_size=4, max_size=4)
columns = st.lists(st.tuples(marks, marks), min_size=1, max_size=4)


@settings(deadline=None)  # a busy machine is no failure
@given(columns, st.tuples(marks, marks), st.floats(0, 0.5), st.randoms())
def test_what_is_best_is_live_keeps_and_does_not_depend_on_order(
    found: list[tuple[str, str]], base: tuple[str, str], tolerance: float, random: Any
) -> None:
    cells = column(0, {"new": base[0], "old": base[1]})
    for step, (new, old) in enumerate(found, start=1):
        cells += column(step, {"new": new, "old": old})
    proofs = {key: proof for key, proof in LIVE.items() if key[1] != "d1"}
    decision = choose(cells, goal=Goal(("new",), ("old",), tolerance), proofs=proofs)
    assert decision.digest != "d1"
    if decision.rule == "goal":
        assert change(decision, "old").difference >= -tolerance - 1e-9
        assert change(decision, "new").samples >= 1
    shuffled = list(cells)
    random.shuffle(shuffled)
    again = choose(shuffled, goal=Goal(("new",), ("old",), tolerance), proofs=proofs)
    assert (again.digest, again.rule, again.compared) == (decision.digest, decision.rule, decision.compared)


def test_nothing_is_decided_where_nothing_was_scored() -> None:
    for goal in (None, GOAL):
        decision = choose(column(0, {"new": "TT"}), column(10, {"new": "TT"}), column(20, {"new": "TF"}), goal=goal)
        assert decision.checkpoint is None
        assert decision.rule == "none"


def test_a_metric_without_bounds_is_ranked_within_what_was_seen() -> None:
    def lengths(step: int, *values: float | None) -> list[Cell]:
        place = ("lab", f"lab @{step}" if step else "base", step, f"d{step}" if step else "", "facts", "g")
        outcomes = [("failed", None) if value is None else ("scored", value) for value in values]
        scored: Any = [(*place, str(number), "length", *outcome) for number, outcome in enumerate(outcomes)]
        return [Cell(*fields, False, 0.0, math.inf) for fields in scored]

    cells = lengths(0, 4.0, 4.0, 4.0) + lengths(1, 9.0, 8.0, None) + lengths(2, 5.0, 6.0, 7.0)
    decision = decide(cells, LIVE, Goal(("g",), ()), ("g",))
    assert (decision.rule, decision.checkpoint) == ("goal", "lab @2"), "the failure counts as lowest"
