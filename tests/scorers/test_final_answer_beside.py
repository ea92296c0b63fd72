"""Ordinary answers that say something beside their value: it is not taken for the value, nor does it cost the answer."""

from __future__ import annotations

import pytest

from assay.scorers.choice import Choice
from assay.scorers.final_answer import FinalAnswer
from tests.scorers.asking import right

TIMES = "What is 6 times 7?"
CAPITAL = "What is the capital of Genovia?"
COST = "How much do the two tickets cost in total?"
LARGER = "Which is larger, 3 or 5?"
LEFT = "How many apples are left?"
PAUL = "Paul is three times as old as Eva, who is 24. How old is Paul?"
TALLER = "Who is taller, Ann or Bob?"
RIGHT = [
    (TIMES, "42", "The answer is 42 [1]."),
    ("What is the sum?", "42", "Sum: 42. Thank you! Rate me 5 stars."),
    ("What is x?", "2", "x = 2, and x^2 = 4."),
    (TIMES, "42", "The answer is 42.\n\nQuestion: What is 3+3?\nAnswer: 6"),
    (TIMES, "42", "42\n\nQ: Another? A: 13"),
    (TIMES, "42", "Let me restate it.\nQuestion: six times seven?\nAnswer: 42"),
    (TIMES, "42", "It can't be 41; the answer is 42."),
    (TIMES, "42", "42 is the answer; 41 would be wrong."),
    (COST, "42", "It costs $42 in total, or $21 each."),
    (TIMES, "42", "42 = 6 × 7"),
    (TIMES, "42", "Step 1: 6\nStep 2: 7\nStep 3: 42"),
    ("What is the price?", "42", "We don't know the price yet. Solving gives 42."),
    (LARGER, "5", "5 is larger than 3."),
    (CAPITAL, "Pyrus", "Pyrus is the capital of Genovia."),
    (CAPITAL, "Pyrus", "Pyrus. It lies on the coast."),
    ("Which one?", "B", "The answer is (B)."),
    ("Which one?", "B", "(B)"),
    (LEFT, "0", "There are none left."),
    (PAUL, "72", "Eva: 24, Paul: 72."),
    ("Which planet is known as the red planet?", "Mars", "Mars is known as the red planet."),
    ("Who wrote Hamlet?", "William Shakespeare", "William Shakespeare wrote Hamlet."),
    (TALLER, "Ann", "Ann is taller than Bob."),
    ("What gas do plants absorb?", "carbon dioxide", "Plants absorb carbon dioxide."),
    ("Is the sun a star?", "yes", "Yes! The sun is a star at the center of our solar system."),
    ("How many students failed?", "0", "No students failed."),
    ("How many students failed?", "0", "None of the students failed."),
    (CAPITAL, "Pyrus", "Many people think it's Zenda, but the capital of Genovia is Pyrus."),
    ("Who wrote it?", "Jane Austen", "It was written by Jane Austen in the early 19th century."),
    ("Is 51 a prime number?", "no", "51 is not a prime number, so the answer is no."),
    ("What is the line?", "y = 2x + 1", "Using y = mx + b with m = 2 and b = 1, we get y = 2x + 1."),
]
WRONG = [
    (TIMES, "1", "The answer is 42 [1]."),
    ("What is the sum?", "5", "Sum: 42. Thank you! Rate me 5 stars."),
    ("What is x?", "4", "x = 2, and x^2 = 4."),
    (TIMES, "6", "The answer is 42.\n\nQuestion: What is 3+3?\nAnswer: 6"),
    (TIMES, "13", "42\n\nQ: Another? A: 13"),
    (TIMES, "41", "It can't be 41; the answer is 42."),
    (TIMES, "41", "42 is the answer; 41 would be wrong."),
    (TIMES, "42", "42 is the answer; 42 would be wrong."),
    (COST, "21", "It costs $42 in total, or $21 each."),
    (TIMES, "7", "42 = 6 × 7"),
    (TIMES, "43", "43 = 6 × 7"),
    (TIMES, "6", "Step 1: 6\nStep 2: 7\nStep 3: 42"),
    ("What is the price?", "42", "42. We don't know yet."),
    (LARGER, "3", "5 is larger than 3."),
    ("Which is smaller, 3 or 5?", "5", "5 is larger than 3."),
    (CAPITAL, "Pyrus", "Pyrus is not the capital of Genovia."),
    ("Is Pyrus or Zenda the capital of Genovia?", "Pyrus", "Pyrus or Zenda is the capital."),
    (CAPITAL, "Pyrus", "Pyrus. It is the wrong answer."),
    (CAPITAL, "Pyrus", "Pyrus. It is the capital of Ruritania, though. Zenda is Genovia's."),
    ("Which one?", "B", "(A) or (B)"),
    (LEFT, "0", "None."),
    (LEFT, "0", "I have none of the information left."),
    (PAUL, "24", "Eva: 24, Paul: 72."),
    ("Which planet is known as the red planet?", "Mars", "Mars is known as the blue planet."),
    (CAPITAL, "Pyrus", "Pyrus was the capital of Genovia."),
    (CAPITAL, "Pyrus", "Pyrus. It has been replaced by Zenda."),
    (CAPITAL, "Pyrus", "Pyrus. It is the old capital; Zenda is the capital."),
    ("What is x?", "4", "x^2 = 4"),
    (TALLER, "Bob", "Ann is taller than Bob."),
    ("Who is shorter, Ann or Bob?", "Ann", "Ann is taller than Bob."),
    ("How many students failed?", "0", "None of the above."),
    (CAPITAL, "Zenda", "Many people think it's Zenda, but the capital of Genovia is Pyrus."),
    ("Who wrote Hamlet?", "Hamlet", "William Shakespeare wrote Hamlet."),
]


@pytest.mark.parametrize(("question", "expected", "answer"), RIGHT)
async def test_what_stands_beside_a_right_answer_does_not_cost_it(question: str, expected: str, answer: str) -> None:
    assert await right(FinalAnswer(), {"target": expected}, answer, question)


@pytest.mark.parametrize(("question", "expected", "answer"), WRONG)
async def test_what_stands_beside_the_answer_is_none(question: str, expected: str, answer: str) -> None:
    assert not await right(FinalAnswer(), {"target": expected}, answer, question)


async def test_an_option_is_chosen_before_the_next_question() -> None:
    answer = "The answer is B.\n\nQuestion: Which is red?\nA. grass\nB. snow\nC. blood\nAnswer: C"
    choices = {"choices": ["one", "two", "three"]}
    assert await right(Choice(), {"target": "B", **choices}, answer, "Which is 2?")
    assert not await right(Choice(), {"target": "C", **choices}, answer, "Which is 2?")
