"""Answers as models really write them, to school sums and multiple choice: what they come to, and what they don't."""

from __future__ import annotations

import time

import pytest

from assay.scorers.choice import Choice
from assay.scorers.clock import single_time, times
from assay.scorers.final_answer import FinalAnswer
from assay.types import Json
from tests.scorers.asking import right

SUMS_RIGHT = [
    # Money, in the styles of benchmarks' solutions.
    ("18", "Janet makes $9 × 2 = **$18** every day at the farmer's market."),
    ("18", "She makes 9 * 2 = $<<9*2=18>>18 every day."),
    ("18", "Janet makes $18 every day at the farmers' market, selling 9 eggs at $2 each."),
    ("18", "Janet sells 9 eggs at $2 each, making $18."),
    ("18", "So the total is 18 dollars per day ($2 × 9 eggs)."),
    ("18", r"$$\boxed{18 \text{ dollars}}$$"),
    ("18", "**Final Answer:** She makes **$18** every day."),
    ("14", "USD 14"),
    ("14", "US$14"),
    ("14", "14 €"),
    ("14", "₹14"),
    ("70000", "The profit is **$70,000** ($200,000 − $130,000)."),
    ("70000", "He made a profit of $70,000 over 3 years."),
    ("70000", "He made a profit of $70k."),
    ("2500000", "$2.5M"),
    ("64", "Kylar needs to pay $64 for 16 glasses."),
    ("64", "For 16 glasses, Kylar needs to pay $64."),
    ("64", "To buy 16 glasses, Kylar will pay 8 × $5 + 8 × $3 = $40 + $24 = $64."),
    ("694", "Toula paid $694 for everything: $204 for donuts, $272 for mini cupcakes and $218 for cheesecakes."),
    ("41", "She paid $200 - $16 - $143 = $57 - $16 = $41 for the pair of shoes."),
    ("25", "The price is $25 after a 20% discount."),
    ("25", "With a 20% discount the price drops from $31.25 to $25."),
    ("25", "The price increased by 25%, from $20 to $25."),
    # Separators of other countries.
    ("70000", "70.000,00 €"),
    ("1000000", "1.000.000"),
    ("1234.56", "1 234,56"),
    ("1234.56", "1'234.56"),
    ("1234567", "12,34,567"),
    ("100000", "The total is ₹1,00,000."),
    ("70000", r"\boxed{70{,}000}"),
    # What an answer is for, in or of.
    ("10", "She earned $10 for 50 minutes of babysitting."),
    ("45", "At the end of the 4 hours, he is 45 miles from home."),
    ("990", "Tina earns $990 if she works 10 hours a day for 5 days."),
    ("990", "If she works 10 hours every day for 5 days, Tina makes $990."),
    ("14", "So, 14 students passed out of 20."),
    ("14", "14 of the 20 students passed."),
    ("14", "Of the 20 students, 14 passed."),
    ("14", "After giving away 6 apples, Tom has 14 apples."),
    ("14", "Tom has 14 apples left after giving 6 to Ann and 0 to Bob."),
    ("14", "Subtracting 6 from 20 gives 14."),
    ("14", "By giving away 6, he keeps 14."),
    ("14", "He needs 20 - 6 = 14 more to get to 20."),
    ("14", "He has 14 more than Ann's 6."),
    ("14", "He was 14 in 2020."),
    ("5", "It takes Carla 5 hours to read 10 pages."),
    ("5", "She needs 5 boxes to pack 60 apples."),
    ("5", "She will have to buy 5 boxes for the 60 apples."),
    ("10", "The price rises by 5 to about 10."),
    ("14", "The number of apples left is 20 - 6, which is 14."),
    ("13", "After 12 years he breaks even, so it is year 13."),
    # Sums of parts.
    ("72", "Natalia sold 48 clips in April and 24 in May, for a total of 72."),
    ("72", "Natalia sold 72 clips altogether in April and May (48 in April, 24 in May)."),
    ("35", "Mark has 35 flowers: 10 yellow, 18 purple, and 7 green."),
    ("35", "In total, there are 35 flowers in his garden: 10 yellow, 18 purple, 7 green."),
    ("14", "| Item | Cost |\n|---|---|\n| A | 6 |\n| B | 8 |\n| **Total** | **14** |"),
    # One value in two forms.
    ("160", "It takes 2 hours and 40 minutes (160 minutes)."),
    ("160", "It takes Carla 160 minutes, or 2 hours and 40 minutes."),
    ("90", "1.5 hours = 90 minutes"),
    ("3/4", "The probability is 3/4, or 0.75."),
    ("3/4", "3/4 or 75%"),
    ("3/4", "3 out of 4"),
    ("16/3", "The answer is 16/3 ≈ 5.33."),
    ("7", "6.5, which rounds up to 7."),
    ("1500", "fifteen hundred"),
    # Signs.
    ("-5", "The temperature is -5°C."),
    ("-5", "negative 5"),
    ("-5", "It is minus five."),
    # Corrections and checks.
    ("7", "I initially thought 8, but the correct answer is 7."),
    ("7", "Answer: 8\n\nWait, I miscounted. Answer: 7"),
    ("7", "~~8~~ 7"),
    ("12", "The answer is not 14, but 12."),
    ("12", "It's not 14, it's 12."),
    ("14", "It's 14. Double-check: 14 + 6 = 20. ✔"),
    ("14", "**14**\n\n**Check:** 14 + 6 = **20** ✓"),
    ("14", "14\n\nExplanation: 20 apples minus 6 is 14. He had 3 friends."),
    # Marks of several kinds.
    ("14", "<answer> 14 </answer>\nLet me know if you have 2 more questions."),
    ("14", "<|begin_of_box|>14<|end_of_box|>"),
    ("14", "<think>20 - 7 = 13?</think><response>14</response>"),
    ("14", "The answer is 14.<|im_end|>"),
    ("14", r"**\( \boxed{14} \)**"),
    # Times.
    ("5:00 PM", "They meet at 5 PM."),
    ("3:30", "The train arrives at 3:30 PM."),
    ("5:00 PM", "17:00"),
]

SUMS_WRONG = [
    ("16", "Kylar needs to pay $64 for 16 glasses."),
    ("2", "Janet sells 9 eggs at $2 each, making $18."),
    ("50", "She earned $10 for 50 minutes."),
    ("20", "14 of the 20 students passed."),
    ("6", "After giving away 6 apples, Tom has 14 apples."),
    ("7", "Mark has 35 flowers: 10 yellow, 18 purple, and 7 green."),
    ("10", "Mark has 35 flowers: 10 yellow, 18 purple, and 7 green."),
    ("20", "**14**\n\n**Check:** 14 + 6 = **20** ✓"),
    ("20", "He needs 20 - 6 = 14 more to get to 20."),
    ("26", "He sold 12 on Monday and 14 on Tuesday"),
    ("8", "~~8~~ 7"),
    ("5", "negative 5"),
    ("5", "It is minus 5."),
    ("3/4", "3/4 or 80%"),
    ("0.8", "3/4 or 80%"),
    ("14", "The answer is not 14, but 12."),
    ("14", "It's not 14, it's 12."),
    ("14", "<answer>13</answer> 14"),
    ("14", "13 or 14 in 3 days"),
    ("14", "between 13 and 14 in total"),
    ("14", "x = 14, y = 6"),
    ("2.5", "$2.5 million"),
    ("1000", "1.000"),
    ("5", "They meet at 4:05 PM."),
    ("5:00 PM", "5:00 AM"),
    ("3:30", "It is not 3:30."),
    ("4:30", "3:30 or 4:30"),
]

LETTERS = [
    ("B", r"\(B\)"),
    ("B", "'B'"),
    ("B", "<answer>\nB\n</answer>"),
    ("B", "B<|im_end|>"),
    ("B", "Option B is correct because A and C are wrong."),
    ("B", "The answer is B: the others are wrong."),
    ("B", "B.\n\nA is incorrect because it is in France. C is incorrect because it is in Italy."),
    ("B", "B\n\nExplanation: Option A is wrong, and option C is too general."),
    ("B", "It can't be A, so it's B."),
    ("B", "I'm torn between A and B, but I'll go with B."),
    ("A", "A - Paris"),
    ("A", "A because it is the capital."),
    ("A", "The answer is A because the others are wrong."),
    ("C", "The answer is (C) because (A) and (B) are too small and (D) is too large."),
    ("C", "The correct answer is not A, it's C."),
    ("C", "Not A or B, but C."),
    ("C", "Eliminating A, B and D, we are left with C."),
    ("C", "**C**\n\n**A** is wrong. **B** is wrong. **D** is wrong."),
    ("C", "**C) Rome**\n\nWhy the others are wrong:\n* **A) Paris:** in France.\n* **B) London:** in England."),
    ("C", "The correct answer is C) Rome.\n\nThe others:\nA) Paris is in France.\nB) London is in England."),
    ("C", "Answer: C\n\nA. Paris\nB. London\nC. Rome\nD. Berlin"),
    ("C", "A. Paris\nB. London\nC. Rome\nD. Berlin\n\nC. Rome"),
    ("C", "A) Incorrect.\nB) Incorrect.\nC) Correct.\nD) Incorrect."),
    ("C", "A) Paris ❌\nB) London ❌\nC) Rome ✅\nD) Berlin ❌"),
]

NO_LETTER = [
    "C is not correct.",
    "It is not C.",
    "B or C",
    "C) Rome\nA) Paris",
    "A. Paris\nB. London\nC. Rome\nD. Berlin",
    "A) Correct.\nB) Incorrect.\nC) Correct.\nD) Incorrect.",
    "Sorry, I can't answer. A, B, C and D are all possible.",
    "C or maybe D, because A is wrong.",
]

CITIES: dict[str, Json] = {"choices": ["Paris", "London", "Rome", "Rome in Georgia"]}


@pytest.mark.parametrize(("expected", "answer"), SUMS_RIGHT)
async def test_sums_that_are_right(expected: str, answer: str) -> None:
    assert await right(FinalAnswer(), {"target": expected}, answer)


@pytest.mark.parametrize(("expected", "answer"), SUMS_WRONG)
async def test_sums_that_are_wrong(expected: str, answer: str) -> None:
    assert not await right(FinalAnswer(), {"target": expected}, answer)


@pytest.mark.parametrize(("letter", "answer"), LETTERS)
async def test_letters_amid_reasons(letter: str, answer: str) -> None:
    assert await right(Choice(), {"target": letter}, answer)
    for other in {"A", "B", "C", "D"} - {letter}:
        assert not await right(Choice(), {"target": other}, answer)


@pytest.mark.parametrize("answer", NO_LETTER)
async def test_reasons_that_choose_none(answer: str) -> None:
    for letter in "ABCD":
        assert not await right(Choice(), {"target": letter}, answer)


@pytest.mark.parametrize(
    ("letter", "answer"),
    [
        ("B", "London is the capital of England."),
        ("B", "It's London, which is on the Thames."),
        ("B", "B. London\n\nExplanation: Paris (A) is in France, Rome (C) is in Italy."),
        ("D", "That would have to be Rome in Georgia, I think."),
        (None, "Both London and Paris lie on rivers."),
        (None, "London can't be it."),
    ],
)
async def test_options_within_a_sentence(letter: str | None, answer: str) -> None:
    for each in "ABCD":
        assert await right(Choice(), {"target": each, **CITIES}, answer) is (each == letter)


def test_times_of_day() -> None:
    assert times("from 3 to 4, at 3:30, 3:30 pm, 15:30, 99:10, 1:2:3, 13 pm or 12 a.m.") == [
        ("3:30", frozenset({210, 930})),
        ("3:30 pm", frozenset({930})),
        ("15:30", frozenset({930})),
        ("12 a.m.", frozenset({0})),
    ]
    assert single_time("at 3:30") is None
    assert single_time(" 3:30 PM ") == {930}


async def test_long_texts_take_reasonable_time() -> None:
    start = time.perf_counter()
    for piece in ("\n", "111 ", "1.", "not ", "a, ", "<<", "~~", "<answer>", "**", "A) ", "check. ", "for 1 ", "12,"):
        assert not await right(FinalAnswer(), {"target": "14"}, piece * 5000)
        assert not await right(Choice(), {"target": "B"}, piece * 5000)
    assert time.perf_counter() - start < 60
