"""Streaming means and intervals equal those of the whole list."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.results.means import Means
from assay.results.stats import wilson
from assay.results.tally import Questions, Tally
from assay.types import Score, ScoreFailure


def tally(values: list[float] | list[bool], low: float = 0.0, high: float = 10.0) -> Tally:
    made = Tally()
    for value in values:
        made.add(Score("m", value, low, high))
    return made


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_a_stream_of_numbers(values: list[float]) -> None:
    made = tally(values)
    assert made.means().mean == pytest.approx(fmean(values), abs=1e-9)
    assert made.interval() == pytest.approx(Means.of(values).number_interval(0, 10), abs=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_stream_of_booleans(values: list[bool]) -> None:
    made = tally(values, high=1.0)
    assert (made.correct, made.scored) == (sum(values), len(values))
    assert made.interval() == wilson(sum(values), len(values))


def test_large_values_lose_no_digits() -> None:
    small, large = [4.0, 7.0, 13.0, 16.0], [1e9 + x for x in (4.0, 7.0, 13.0, 16.0)]
    low, high = tally(small, 0, math.inf).interval() or (0, 0)
    assert tally(large, 0, math.inf).interval() == pytest.approx((1e9 + low, 1e9 + high), abs=1e-5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_answers_to_one_question_are_put_together_in_any_order(answers: list[tuple[int, bool]]) -> None:
    questions, made = Questions(), Tally()
    for question, right in answers:
        made.add(Score("m", right), questions.number("m", f"q{question}", 0))
    by_question = {question: [right for name, right in answers if name == question] for question, _ in answers}
    means = Means()
    for values in by_question.values():
        means.add(fmean(values), len(values))
    assert (made.means().questions, made.scored) == (len(by_question), len(answers))
    assert made.means().mean == pytest.approx(means.mean)
    assert made.interval() == pytest.approx(means.share_interval())


def test_questions_are_numbered_by_model_and_those_asked_once_are_not() -> None:
    questions = Questions()
    given = [("m", "a", None), ("m", "a", 0), ("m", "b", 0), ("n", "b", 3), ("m", "a", 1), ("n", "a", 0)]
    assert [questions.number(*each) for each in given] == [None, 0, 1, 0, 0, 1]


def test_a_question_without_a_score_is_in_no_mean() -> None:
    made = Tally()
    for question, outcome in enumerate([Score("m", True), ScoreFailure("m", "permanent", "bad"), Score("m", False)]):
        made.add(outcome, question)
    made.add(ScoreFailure("m", "truncated", "cut"), 2)
    assert (made.means().questions, made.scored, made.failed, made.truncated) == (2, 2, 1, 1)
    assert made.interval() == wilson(1, 2)


def test_what_has_no_score_is_counted_apart() -> None:
    made = tally([])
    assert made.interval() is None
    made.add(ScoreFailure("m", "truncated", "cut"))
    made.add(ScoreFailure("m", "permanent", "bad"))
    made.add(ScoreFailure("m", "transient", "bad"))
    made.add(Score("m", True))
    assert (made.asked, made.scored, made.truncated, made.failed, made.correct) == (4, 1, 1, 2, 1)


def test_bounds_that_each_text_has_of_its_own_make_no_scale() -> None:
    made = Tally()
    for high in (10.0, 273.0, 40.0):
        made.add(Score("markers", 0.0, 0.0, high))
    assert (made.varied, made.high, made.interval()) == (True, 273.0, None)
    made.add(Score("markers", 2.0, 0.0, 20.0))
    assert made.interval() == Means.of([0.0, 0.0, 0.0, 2.0]).number_interval(0, 273)
    assert tally([0.0, 0.0]).interval() is not None
