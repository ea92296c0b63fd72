"""References that are expressions: equal ones are right in any notation, and what can't be compared has no score."""

from __future__ import annotations

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.scorers.final_answer import FinalAnswer
from assay.scorers.final_answer_algebra import parse
from assay.types import ScoreFailure
from tests.scorers.asking import outcome, right

STYLES = (
    "{}",
    "The answer is {}.",
    r"\boxed{{{}}}",
    "So we get $\\boxed{{{}}}$.",
    "Therefore, the final answer is ${}$",
)
REFERENCES = (
    *(
        "x+1",
        "x^2+1",
        r"\sqrt{2}",
        "√2",
        "log 2",
        "+1",
        "less than 5",
        r"\text{even}",
        r"3\pi",
        "4i",
        "3x",
        "y=3x",
        "2a",
    ),
    *(
        r"\frac{x}{2}",
        "5m",
        "a/b",
        r"\frac{\sqrt{3}}{2}",
        r"2\sqrt{3}",
        "e^{-x}",
        r"\sin x",
        "p-q",
        "12 cm^2",
        "5 N",
        "3rd",
    ),
    *(r"\{x\mid x>\sqrt 2\}", r"1\pm\sqrt{2}", "C++", "N/A", "H2SO4", "f(x)=2", "O(n log n)"),
)
EQUAL = [
    ("x+1", "1 + x"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    ("y=3x", "3x"),
    ("3x", "y = 3x"),
    ("x^2+y^2=25", r"y^2 + x^2 - 25 = 0"),
    ("2x - y = 3", "y = 2x - 3"),
    (r"\boxed{\sqrt{2}}", r"\sqrt{2}"),
    ("sqrt(2)", r"The length is √2."),
    (r"\frac{1}{\sqrt2}", r"\dfrac{\sqrt{2}}{2}"),
    ("2x+1", "The derivative is 2x + 1."),
    ("2x", "The derivative of $x^2$ is $2x$, since the power rule says so."),
    ("3x^2", r"Using the power rule, $\frac{d}{dx} x^3 = 3x^2$."),
    ("(x+2)(x+3)", "Two numbers with product 6 and sum 5 are 2 and 3. So x^2 + 5x + 6 = (x + 2)(x + 3)."),
    (r"\frac{\sqrt{3}}{2}", r"$\sin 60^\circ = \frac{\sqrt{3}}{2}$"),
    (r"36\pi", r"The area is $36\pi$ square units."),
    ("n!", r"\boxed{n!}"),
    ("42", "It is 42 m."),
    ("3000", "3k"),
    (r"\frac{x+4}{2}", "y = (x + 4)/2 (for all x)"),
    (r"f^{-1}(x) = \frac{x+4}{2}", r"The inverse is $f^{-1}(x) = \frac{x+4}{2}$."),
    ("x^2 + C", r"$$\int 2x\,dx = x^2 + C$$"),
    ("2n - 5", "Twice n is 2n, and 5 less than that is 2n - 5."),
    (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
    (r"\text{(C)}", r"\boxed{C}"),
    (r"16\sqrt{3}\text{ square units}", r"The area is $16\sqrt{3}$."),
    ("She has 14 apples", "14"),
    ("25°C", "25"),
    (r"11,\! 111,\! 111,\! 100", r"\boxed{11,\! 111,\! 111,\! 100}"),
    ("5m", "5"),
    ("14 apples", "14"),
    ("12 square meters", "12"),
    ("x+1", "The answer is x+2. Wait, no: x+1"),
]
UNEQUAL = [
    ("2", r"$\frac{6x^2}{3x} = 2x$"),
    ("2", r"$\cos(\pi/6) = \frac{\sqrt{3}}{2}$"),
    ("2", "(1+i)(1-i) = 2, so it is 2 + i."),
    *(("2x+1", "5 = 2x+1"), ("2x+1", r"\{2x+1, 3\}"), ("12", r"\frac{\pi}{12}"), ("12", "12x + 5")),
    ("3x", "3y"),
    ("3x", "The answer is 3."),
    ("y=3x", "y=3"),
    ("2a", "2b"),
    ("2x", "2x^2"),
    ("4i", "4"),
    ("n!", "n"),
    (r"\frac{x}{2}", r"\frac{y}{2}"),
    (r"3\pi", "3"),
    ("3π", "3"),
    ("5m", "5n"),
    ("3", "3x"),
    ("3", "3π"),
    ("y=3x", "z=3x"),
    ("2", r"2\sqrt{3}"),
    (r"\sqrt{2}", "2"),
    (r"\sqrt{2}", "1.41"),
    ("x+1", ""),
    ("x+1", "I do not know."),
    ("x+1", "x"),
    ("x+1", "x+1 or x+2"),
    ("x+1", "It is not x+1."),
    ("x+1", "x+1, or maybe x+2"),
    ("x+1", "Is it x+1?"),
    ("+1", "-1"),
    ("x+1", "x+1 is less than the answer"),
    ("x+1", "x+1,2"),
    ("x+1", r"\int x+1"),
    ("x+1", "x+1 -"),
    ("x+1", "x+1 < y"),
    (r"\sqrt{2}", r"\pm\sqrt{2}"),
    ("3", "3i"),
    ("1/2", r"\frac{1}{2}\pi"),
    ("1/2", r"\frac{1}{2}x"),
    ("x+1", "(x+1, 3)"),
    ("2", r"\sqrt{2}"),
    ("13", r"$c^2 = 2^2 + 3^2 = 13$, so $c = \sqrt{13}$."),
    ("2", "√2"),
    ("2", r"\log 2"),
    ("3", "x = 2 and x = 3"),
    *(("x+1", "The answer is x+1. Wait, no: x+2"), ("10^{20}+1", "10^{20}"), ("less than 5", "5"), ("at least 3", "3")),
]


@pytest.mark.parametrize("expected", REFERENCES)
async def test_a_reference_letter_for_letter_is_right(expected: str) -> None:
    for style in STYLES:
        assert await right(FinalAnswer(), {"target": expected}, style.format(expected), "Find it."), style


@pytest.mark.parametrize(("expected", "answer"), EQUAL)
async def test_equal_expressions_are_right(expected: str, answer: str) -> None:
    assert await right(FinalAnswer(), {"target": expected}, answer, "Find it.")


@pytest.mark.parametrize(("expected", "answer"), UNEQUAL)
async def test_other_expressions_are_wrong(expected: str, answer: str) -> None:
    assert not await right(FinalAnswer(), {"target": expected}, answer, "Find it.")


async def test_what_cannot_be_compared_has_no_score() -> None:
    for answer in (r"\boxed{x > \sqrt{2}}", "I don't know."):
        found = await outcome(FinalAnswer(), {"target": r"\{x\mid x>\sqrt 2\}"}, answer)
        assert isinstance(found, ScoreFailure)
        assert found.error_class == "permanent"
        assert "can't be compared" in found.reason


@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 20))
def test_expanded_products_are_equal_and_others_are_not(a: int, b: int, c: int) -> None:
    product, expanded = parse(f"{c}(x+({a}))(x+({b}))"), parse(f"{c}x^2 + ({c * (a + b)})x + ({c * a * b})")
    other = parse(f"{c}x^2 + ({c * (a + b)})x + ({c * a * b + 1})")
    assert product is not None
    assert expanded is not None
    assert other is not None
    assert product.equals(expanded)
    assert not product.equals(other)


@pytest.mark.parametrize(
    "text", ["(" * 500, "-" * 200 + "x", "9^9^9^9^9", "x 2", "1.2.3", "x^", ")", "", "x^(9999999999)", "1/0"]
)
def test_what_is_no_expression_or_none_of_use_harms_nothing(text: str) -> None:
    found = parse(text)
    assert found is None or not found.equals(found) or text.startswith("x^(")


async def test_long_answers_cost_work_in_proportion_to_their_length() -> None:
    for piece in ("x + ", "x ) ", r"\frac{", "x^2 = ", "\\sqrt{x} "):
        short, long = [await _calls(piece * (length // len(piece))) for length in (15_000, 30_000)]
        assert long < 3 * short, piece


async def _calls(text: str) -> int:
    count = 0

    def counted(frame: FrameType, event: str, what: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        await right(FinalAnswer(), {"target": "x+1"}, text)
    finally:
        sys.setprofile(None)
    return count
