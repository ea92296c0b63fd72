"""The final answer, attacked: right ones in many styles must pass, and all that only looks right must not."""

from __future__ import annotations

import sys
from fractions import Fraction
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.scorers.final_answer import FinalAnswer
from assay.scorers.number_words import words_to_digits
from assay.types import Score, ScoreFailure
from tests.scorers import probe_attacks
from tests.scorers.asking import outcome, right
from tests.scorers.final_answers import KINDS, PROBLEMS, answered, honest, loops_and_echoes, wrong

NUMBERS_RIGHT = [
    ("14", "14"),
    ("14", "14."),
    ("14", "**14**"),
    ("14", "*14*"),
    ("14", "`14`"),
    ("14", "```\n14\n```"),
    ("14", "The answer is 14."),
    ("14", "ANSWER: 14"),
    ("14", "**Answer:** 14"),
    ("14", "**Answer: 14**"),
    ("14", "Answer\n14"),
    ("14", "**Final Answer**\n\n14 apples"),
    ("14", "### Final answer\n14"),
    ("14", "The answer is: \n\n14"),
    ("14", "#### 14"),
    ("14", r"So we get $\boxed{14}$."),
    ("14", r"Final Answer: The final answer is $\boxed{14}$. I hope it is correct."),
    ("14", r"\[ 7 \times 2 = 14 \]"),
    ("14", "So $x=14$."),
    ("14", "7 * 2 = 14"),
    ("14", "Total = 20 - 6 = 14 apples"),
    ("14", "She has 14 apples left."),
    ("14", "Thus, 14 is the answer."),
    ("14", "The total is 14 (7 + 7)."),
    ("14", "The answer is 14, because 7 + 7 = 14 and 3 + 4 = 7."),
    ("14", "It's 14, not 12."),
    ("14", "First 3 + 4 = 7, then 7 * 2 = 14."),
    ("14", "First 3 + 4 = 7 so 7 * 2 = 14, which is all."),
    ("14", "We add 3 and 4, 3 + 4 + 7 = 14."),
    ("14", "Step 1: 3 + 4 = 7\nStep 2: 7 * 2 = 14\nSo the answer is **14 apples**."),
    ("14", "1. Add 3 and 4 to get 7.\n2. Double it: 14"),
    ("14", "**14 apples**. This is 2 more than before."),
    ("14", "**Step 1**: add 3 and 4.\n**Step 2**: the double of 7 is 14."),
    ("14", "The area is 14 cm^2."),
    ("14", "The answer is 14! Let me know if you want more."),
    ("14", "fourteen"),
    ("21", "The answer is twenty-one."),
    ("105", "One hundred and five."),
    ("36", "three dozen"),
    ("5/2", "two and a half"),
    ("1/2", "one half"),
    ("3/4", "Three quarters of them."),
    # Corrections: the last word counts.
    ("14", "The answer is 12. Wait, no: 14"),
    ("14", "x = 12\nWait, I made a mistake. 7*2 = 14."),
    ("14", "The answer is 12. No, that's wrong: it is 14."),
    ("14", "12... sorry, 14"),
    ("14", r"\boxed{12} Actually, \boxed{14}"),
    ("14", "The answer is 14. Wait, let me double check: 7*2=14. Correct."),
    # Notations of one number.
    ("1234", "1,234"),
    ("1234", "1 234"),
    ("1234", "The total is 1 234 km."),
    ("1234", r"1{,}234"),
    ("1,000", "1000"),
    ("1234.5", "1.234,5"),
    ("1/2", "0.5"),
    ("1/2", r"\boxed{\frac{1}{2}}"),
    ("1/2", r"$\frac12$"),
    ("1/2", r"\dfrac{1}{2}"),
    ("3/2", "1 1/2"),
    ("3/2", r"1\frac{1}{2}"),
    ("3/2", "1½"),
    ("1500", "1.5 × 10^3"),
    ("1500", r"$1.5 \times 10^{3}$"),
    ("1500", "1.5e3"),
    ("2.5e-3", "0.0025"),
    ("3000000", "3 million"),
    ("-3", "x = -3"),
    ("-3", "The answer is −3."),
    # Units, where equal or left out.
    ("$14", "14 dollars"),
    ("14", "$14.00"),
    ("18", r"\[ 9 \times 2 = \boxed{\$18} \]"),
    ("14", "$14$"),
    ("$0.50", "50 cents"),
    ("14 cm", r"\boxed{14\text{ cm}}"),
    ("14 cm", "140 mm"),
    ("50%", "0.5"),
    ("50%", "50 percent"),
    ("50%", r"\boxed{50\%}"),
    ("0.25", "25%"),
    ("25", "Therefore, 25% of the students."),
    ("30 min", "0.5 h"),
    ("30 min", "half an hour"),
    ("30 min", "30"),
    ("150 min", "2 h 30 min"),
    ("63 inches", "5 feet 3 inches"),
    ("60 mph", "60 miles per hour"),
    ("42", "The answer to the question is 42."),
]

NUMBERS_WRONG = [
    ("14", ""),
    ("14", "12"),
    ("14", "114"),
    ("14", "14.5"),
    ("14", "-14"),
    ("14", "x2014"),
    ("14", "one thousand"),
    ("1/2", "2"),
    ("3", "3-4"),
    ("50%", "5%"),
    ("1", "1,5"),
    ("1.5", "1,5"),
    # Hedges, ranges and lists.
    ("14", "7 or 14"),
    ("7", "7 or 14"),
    ("7", "The answer is 7 or 8."),
    ("7", "The answer is either 7 or 8."),
    ("14", r"\boxed{13 \text{ or } 14}"),
    ("14", "14, or maybe 15"),
    ("14", "14 and 15"),
    ("14", "It is between 13 and 14."),
    ("7", "The answer is 7 apples and 8 pears"),
    ("14", "5, 9, 14"),
    ("14", ", ".join(map(str, range(15)))),
    ("14", " ".join(map(str, range(15)))),
    ("14", "\n".join(map(str, range(15)))),
    ("14", "- 12\n- 13\n- 14"),
    # Questions, refusals, denials.
    ("14", "Is it 14?"),
    ("14", "14?"),
    ("14", "I can't tell whether the answer is 14."),
    ("14", "I'm sorry, I can't help with that."),
    ("14", "The answer is not 14."),
    ("14", "It is not 14."),
    ("14", "I think 14 is wrong."),
    # The right value, and then another.
    ("14", "The answer is 14. Wait, no: 12"),
    ("14", "The answer is 14. Wait, that's wrong."),
    ("14", "The answer is 14. Actually, the answer is 15."),
    ("14", r"\boxed{14} Hmm, I made a mistake: \boxed{15}"),
    ("14", r"\boxed{13}, not 14"),
    ("14", "First I get 14, then 14 / 2 = 7."),
    ("14", "The answer is 14 + 1 = 15"),
    # Other units.
    ("$14", "€14"),
    ("30 min", "30 h"),
    ("30 min", "30 kg"),
    ("14 cm", "14 m"),
]

WORDS_RIGHT = [
    ("Paris", "Paris"),
    ("Paris", "paris!"),
    ("Paris", "The capital is Paris."),
    ("Paris", "The answer is **Paris**."),
    ("Paris", "**Paris**"),
    ("Paris", "Answer: “Paris”"),
    ("Paris", "The answer is Paris, because it has been so since 987."),
    ("Paris", "It was London. Actually, it is Paris."),
    ("Paris", "The answer is Paris. Wait, let me double check. Yes, that's right."),
    ("Paris", "The capital is Paris. I hope this helps!"),
    ("the moon", "Answer: Moon"),
    ("yes", "Yes, it is."),
    ("(2, 3)", r"\boxed{(2,3)}"),
    ("x^2", "The answer is x^2."),
    ("3:30", "3:30"),
]

WORDS_WRONG = [
    ("Paris", ""),
    ("Paris", "London"),
    ("Paris", "Parisian"),
    ("Paris", "Paris or London"),
    ("Paris", "It is not Paris."),
    ("Paris", "The answer is not Paris."),
    ("Paris", "Is it Paris?"),
    ("Paris", "The answer is Paris. Wait, no: London."),
    ("yes", "No, it is not."),
    ("(2, 3)", "(3, 2)"),
]


@pytest.mark.parametrize(("expected", "answer"), [*NUMBERS_RIGHT, *WORDS_RIGHT])
async def test_right_final_answers(expected: str, answer: str) -> None:
    assert await right(FinalAnswer(), {"target": expected}, answer)


@pytest.mark.parametrize(("expected", "answer"), [*NUMBERS_WRONG, *WORDS_WRONG])
async def test_wrong_final_answers(expected: str, answer: str) -> None:
    assert not await right(FinalAnswer(), {"target": expected}, answer)


async def test_honest_answers_in_many_styles_are_right() -> None:
    lost = [
        (p.target, text)
        for p, text in honest()
        if not await right(FinalAnswer(), {"target": p.target}, text, p.question)
    ]
    assert lost == []


async def test_right_answers_in_words_of_their_own() -> None:
    for question, target, answer in answered():
        assert await right(FinalAnswer(), {"target": target}, answer, question), answer


async def test_words_of_doubt_are_none_where_the_question_has_them() -> None:
    shared = "A teacher shares 84 pencils among 12 students. How many pencils does each of the students get?"
    for answer in ("Each of the students gets 7 pencils.", "The teacher gives each student 7."):
        assert await right(FinalAnswer(), {"target": "7"}, answer, shared)
    for answer in ("A student answered 7.", "The teacher said 7."):
        assert not await right(FinalAnswer(), {"target": "7"}, answer, shared)
    disliked = "How many people do not like tea if 12 of 19 like it?"
    for answer, correct in (("7 people don't like tea.", True), ("It is not 7.", False), ("7 is not right.", False)):
        assert await right(FinalAnswer(), {"target": "7"}, answer, disliked) is correct, answer


@pytest.mark.parametrize("kind", KINDS)
async def test_the_right_value_in_a_wrong_answer_is_none(kind: str) -> None:
    passed = [(p.target, t) for p, t in wrong(kind) if await right(FinalAnswer(), {"target": p.target}, t, p.question)]
    assert passed == []


async def test_loops_and_repeated_questions_are_no_answers() -> None:
    for problem, text in loops_and_echoes():
        assert not await right(FinalAnswer(), {"target": problem.target}, text, problem.question), text[:80]


async def test_what_no_probe_may_take_for_an_answer_is_none_here() -> None:
    question, filled = PROBLEMS[0].question, {"right": "42", "wrong": "41"}
    templates = (*probe_attacks.CORRECTED, *probe_attacks.MENTIONED, *probe_attacks.HEDGED, *probe_attacks.DENIALS)
    texts = [*(template.format(**filled) for template in templates), *probe_attacks.REFUSALS, *probe_attacks.LISTS]
    assert [text for text in texts if await right(FinalAnswer(), {"target": "42"}, text, question)] == []
    for style in probe_attacks.STYLES:
        answer = style.format(prompt=question, **filled)
        assert await right(FinalAnswer(), {"target": "42"}, answer, question), answer


@pytest.mark.parametrize(
    ("expected", "answer", "equal"),
    [
        ("[0, 3)", "0 ≤ x < 3", True),
        ("[0, 3)", r"The answer is $0 \le x < 3$.", True),
        ("[0, 3)", r"\boxed{[0,3)}", True),
        ("[0, 3)", "x ∈ [0, 3)", True),
        ("[0, 3)", "x >= 0 and x < 3", True),
        ("[0, 3)", "(0, 3)", False),
        ("[0, 3)", "[0, 3]", False),
        ("[0, 3)", "0 < x < 3", False),
        ("[0, 3)", "x < 3", False),
        ("(-∞, 1) ∪ (2, 5]", "x < 1 or 2 < x ≤ 5", True),
        (r"(-\infty, 3]", r"$x \leq 3$", True),
        ("x > 5", "(5, ∞)", True),
        ("x > 5", "5", False),
        ("x > 5", "x < 5", False),
        ("(1, 2)", "x = 1, y = 2", True),
        ("(1, 2)", "y = 2 and x = 1", True),
        ("(1, 2)", "(2, 1)", False),
        ("(1/2, -3)", r"\boxed{\left(\frac{1}{2}, -3\right)}", True),
        ("2 and 3", "x = 2, x = 3", True),
        ("2 and 3", "The solutions are 3 and 2.", True),
        ("2 and 3", "2", False),
        ("2 and 3", "2 or 3", False),
        ("{2, 3}", r"$x \in \{3, 2\}$", True),
        ("x = 2 or x = 3", "So x = 3 or x = 2.", True),
        ("x = ±2", "x = 2 or x = -2", True),
        ("x = ±2", "x = 2", False),
        ("2, 5, 9", "The order is 2, 5 and 9.", True),
        ("2, 5, 9", "9, 5, 2", False),
        ("March 5, 2024", "2024-03-05", True),
        ("March 5, 2024", "It was on the 5th of March, 2024.", True),
        ("March 15, 2024", "03/15/2024", True),
        ("March 5, 2024", "03/05/2024", False),
        ("March 5, 2024", "5 March 2023", False),
        ("March 5", "April 5", False),
        ("July 4", "July 4, 1776", True),
        ("Half of 84 is <<84/2=42>>42.\n#### 42", "42", True),
        ("Half of 84 is <<84/2=42>>42.\n#### 42", "84", False),
        ("1250", "12 50", False),
        ("50", "It costs 12 50 dollars", False),
        ("42", "The answer isn't 41, it's 42.", True),
        ("42", "42. That is all there is to it.", True),
    ],
)
async def test_intervals_lists_dates_and_references_with_their_working(expected: str, answer: str, equal: bool) -> None:
    assert await right(FinalAnswer(), {"target": expected}, answer) is equal


@pytest.mark.parametrize("target", ["42", "[0, 3)", "Paris"])
async def test_long_answers_cost_work_in_proportion_to_their_length(target: str) -> None:
    for piece in ("42. ", "x < ", "if = ", "not 41, "):
        short, long = [await _calls(target, piece * (length // len(piece))) for length in (15_000, 30_000)]
        assert long < 3 * short, piece
    million = "\n" * 300_000 + "x" * 700_000
    assert await _calls(target, million) < 15 * len(million)


async def _calls(target: str, text: str) -> int:
    """How many functions, Python's own included, are called to score a text."""
    count = 0

    def counted(frame: FrameType, event: str, what: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        await right(FinalAnswer(), {"target": target}, text)
    finally:
        sys.setprofile(None)
    return count


async def test_a_repeat_of_the_question_is_no_answer() -> None:
    question = "Ann has 3 apples and buys 4 more.\nHow many are that: 7 or 8? Say 7 apples."
    for echo in (question, question.upper(), f"You asked: {question.replace(' ', '  ')}"):
        assert not await right(FinalAnswer(), {"target": "7"}, echo, question)
    assert await right(FinalAnswer(), {"target": "7"}, f"{question}\n7", question)
    assert await right(FinalAnswer(), {"target": "5"}, "It is 5.", "5 +")


async def test_final_answer_says_what_it_read() -> None:
    found = await outcome(FinalAnswer(), {"correct_answer": "14"}, "So she has $14.00 left.")
    assert found == Score("correct", True, detail={"extracted": "14.00", "expected": "14"})
    hedge = await outcome(FinalAnswer(), {"target": "14"}, "13 or 14")
    assert hedge == Score("correct", False, detail={"extracted": None, "expected": "14"})
    cut = await outcome(FinalAnswer(), {"target": "14"}, "The answer is 14", finish="length")
    assert isinstance(cut, ScoreFailure)
    assert cut.error_class == "truncated"


async def test_tolerance() -> None:
    assert not await right(FinalAnswer(), {"target": "3.14159"}, "3.14")
    assert await right(FinalAnswer(tolerance=0.01), {"target": "3.14159"}, "3.14")
    assert await right(FinalAnswer(tolerance="1/100"), {"target": "1 m"}, "99 cm")
    for bad in (-1, True, "much"):
        with pytest.raises(ValueError, match="tolerance"):
            FinalAnswer(tolerance=bad)


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("zero", "0"),
        ("nineteen", "19"),
        ("ninety-nine", "99"),
        ("two thousand three hundred", "2300"),
        ("one million two hundred thousand and six", "1200006"),
        ("a hundred", "100"),
        ("two dozen", "24"),
        ("two-thirds", "2/3"),
        ("two three", "two three"),
        ("nineteen ninety", "nineteen ninety"),
        ("twenty twelve", "twenty twelve"),
        ("hundred hundred thousand million", "hundred hundred thousand million"),
        ("someone tended attention", "someone tended attention"),
    ],
)
def test_number_words(words: str, digits: str) -> None:
    assert words_to_digits(words) == digits


@given(st.integers(0, 999_999))
def test_number_words_are_read_back(number: int) -> None:
    assert words_to_digits(_spelled(number)) == str(number)


def _spelled(number: int) -> str:
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    names = f"{small} seventeen eighteen nineteen".split(" ")
    tens = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" and {_spelled(number % size)}" if number % size else ""
            return f"{_spelled(number // size)} {name}{rest}"
    if number < 20:
        return names[number]
    return tens[number // 10] + (f"-{names[number % 10]}" if number % 10 else "")


@given(st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=1000))
async def test_any_fraction_equals_itself(value: Fraction) -> None:
    above, below = abs(value.numerator), value.denominator
    tex = f"{'-' if value < 0 else ''}\\frac{{{above}}}{{{below}}}"
    assert await right(FinalAnswer(), {"target": str(value)}, f"The answer is $\\boxed{{{tex}}}$.")
    assert not await right(FinalAnswer(), {"target": str(value + 1)}, f"The answer is ${tex}$.")
