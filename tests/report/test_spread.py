"""How far a judge's votes on one answer lie apart."""

from __future__ import annotations

from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from assay.report.spread import Spreads


def test_a_line_a_rubric_and_judge_where_there_were_several_votes() -> None:
    spreads = Spreads()
    spreads.add_score("judge:brevity", "one", {"reason": "short"})
    assert spreads.lines() == []
    for votes, spread in (([7, 8, 7.5], 1), ([2, 2], 0)):
        spreads.add_score("judge:brevity", "one", {"votes": votes, "spread": spread, "failed_votes": 3 - len(votes)})
    assert spreads.lines() == ["votes: 3 for each score of brevity, median spread 0.5, largest 1"]
    spreads.add("judge:tone", "other", 2, 4.0, 5)
    assert spreads.lines() == [
        "votes: 3 for each score of brevity by one, median spread 0.5, largest 1",
        "votes: 2 for each score of tone by other, median spread 4, largest 4",
    ]


@given(st.lists(st.integers(0, 9), min_size=1))
def test_the_median_is_that_of_all(found: list[int]) -> None:
    spreads = Spreads()
    for spread in found:
        spreads.add("judge:x", "one", 3, spread)
    assert f"median spread {median(found):g}, largest {max(found)}" in spreads.lines()[0]
