"""Multiple choice, attacked: letters that choose, letters that do not, and options named by their text."""

from __future__ import annotations

import pytest

from assay.scorers.choice import Choice, poses_choice
from assay.types import Json, Sample, Score
from tests.scorers.asking import outcome, right

OPTIONS: dict[str, Json] = {"choices": ["Paris", "London", "the Moon", "A dog"]}


@pytest.mark.parametrize(
    ("letter", "answer"),
    [
        ("B", "B"),
        ("B", "b"),
        ("B", "B."),
        ("B", "B)"),
        ("B", "(B)"),
        ("B", "(b)"),
        ("B", "[B]"),
        ("B", "**B**"),
        ("B", "B: London"),
        ("B", "B) London is right."),
        ("B", "B because of London"),
        ("B", "The answer is B"),
        ("B", "The answer is (B)."),
        ("B", "The answer is B. London"),
        ("B", "The correct answer is **B. London**."),
        ("B", "My answer: `B`"),
        ("B", "Answer:\nB"),
        ("B", r"$\boxed{\text{B}}$"),
        ("B", "#### B"),
        ("B", "I'd go with B."),
        ("B", "Choice (B)"),
        ("B", "The best choice is therefore B"),
        ("B", "I think it is B, because A is wrong."),
        ("B", "The answer is A. Wait, no: B."),
        ("B", "Let's see:\nA) no\nB) yes\nC) no\n\nThe answer is B."),
        ("A", "A"),
        ("A", "(A) because"),
        ("A", "A is correct."),
        ("A", "The answer is A."),
        ("A", "Option A is the best."),
        ("I", "(I)"),
    ],
)
async def test_letters_that_choose(letter: str, answer: str) -> None:
    assert await right(Choice(), {"target": letter}, answer)
    other = "C" if letter != "C" else "D"
    assert not await right(Choice(), {"target": other}, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "A dog ran home.",
        "A good answer needs thought.",
        "The answer is a dog.",
        "I think so.",
        "I am not sure.",
        "A or B",
        "The answer is A or B.",
        "Either (A) or (B)",
        "Both A and B",
        "I cannot choose between A and B",
        "All of the above",
        "A, B, C, D",
        "A B C D",
        "(A) (B) (C) (D)",
        "A\nB\nC\nD",
        "A) x\nB) y\nC) z\nD) w",
        "The answer is not B.",
        "The answer is B. Wait, that's wrong.",
        "Is it B?",
        "Vitamin B12",
        "Plan B-1",
        "It's",
    ],
)
async def test_letters_that_do_not(answer: str) -> None:
    for letter in "ABCDI":
        assert not await right(Choice(), {"target": letter}, answer)


@pytest.mark.parametrize(
    ("letter", "answer"),
    [
        ("A", "Paris"),
        ("A", "The answer is Paris."),
        ("B", "**London**"),
        ("B", "B) London"),
        ("B", "(B) London."),
        ("B", "The answer is B) London, not Paris"),
        ("C", "It is the moon."),
        ("C", "Moon"),
        ("D", "The answer is a dog."),
    ],
)
async def test_options_by_their_text(letter: str, answer: str) -> None:
    assert await right(Choice(), {"target": letter, **OPTIONS}, answer)
    assert not await right(Choice(), {"target": "B" if letter != "B" else "A", **OPTIONS}, answer)


@pytest.mark.parametrize(
    "answer", ["Paris or London", "Paris, London", "Is it Paris?", "It is not London.", "E", "Rome"]
)
async def test_texts_that_choose_none(answer: str) -> None:
    for letter in "ABCD":
        assert not await right(Choice(), {"target": letter, **OPTIONS}, answer)


async def test_a_repeat_of_the_options_chooses_none() -> None:
    question = "Which is the capital of France?\nA) London\nB) Paris\nAnswer with a letter, such as B."
    assert not await right(Choice(), {"target": "B"}, question, question)
    assert await right(Choice(), {"target": "B"}, f"{question}\nB", question)


async def test_choices_in_other_forms() -> None:
    by_letter: dict[str, Json] = {"choices": {"a": "Paris", "b": "London"}}
    assert await right(Choice(), {"target": "London", **by_letter}, "B")
    assert await right(Choice(), {"target": "(b)", **by_letter}, "London")
    assert await right(Choice(), {"target": "A", "choices": [4, 5]}, "4")


@pytest.mark.parametrize(
    ("target", "choices"),
    [
        ("E", ["x", "y"]),
        ("A", ["x"]),
        ("A", "xy"),
        ("A", list("abcdefghijk")),
        ("A", {"A": "x", "Z": "y"}),
        ("A", [["x"], "y"]),
    ],
)
def test_choices_that_cannot_be(target: str, choices: Json) -> None:
    with pytest.raises(ValueError, match="its "):
        Choice().check(Sample("a", "?", reference={"target": target, "choices": choices}))


@pytest.mark.parametrize(
    ("answer", "chosen"), [("The answer is B. For", True), ("The answer is B", False), ("Let me", False)]
)
async def test_choice_cut_off(answer: str, chosen: bool) -> None:
    found = await outcome(Choice(), {"target": "B"}, answer, finish="length")
    assert isinstance(found, Score) is chosen


@pytest.mark.parametrize(
    ("reference", "posed"),
    [
        ({"target": "B"}, True),
        ({"correct_answer": "(c)"}, True),
        ({"target": "Oslo", "choices": ["Oslo", "Rome"]}, True),
        ({"target": 7, "choices": [7, 8]}, True),
        ({"target": "72"}, False),
        ({"target": "Oslo"}, False),
        ({"target": ""}, False),
        ({"target": 7}, False),
        ({"choices": ["Oslo", "Rome"]}, False),
        ({}, False),
    ],
)
def test_what_makes_it_multiple_choice(reference: dict[str, Json], posed: bool) -> None:
    assert poses_choice(reference) is posed
