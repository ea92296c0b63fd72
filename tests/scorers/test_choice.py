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


QUESTION = "Which gas do plants take in?\nA. Oxygen\nB. Carbon dioxide\nC. A noble gas\nD. None of it is true"
GASES: dict[str, Json] = {"choices": ["Oxygen", "Carbon dioxide", "A noble gas", "None of it is true"]}
# {right} and {wrong} are letters; {text} is the right option's.
CHOOSES = [
    *(
        "{right}",
        "{right}.",
        "**{right}**",
        "*{right}*",
        "<b>{right}</b>",
        "{{{right}}}",
        "{right} ✅",
        "✅ {right}",
        "👉 {right}",
    ),
    *(
        "{right}\n{right}",
        "{right}) {text}",
        "{right}: {text}",
        "{right} ({text})",
        "{text} ({right})",
        "{right}, {text}",
    ),
    *(
        "**{right}. {text}**",
        "The correct choice is ({right}) {text}.",
        "The correct answer is {text} ({right}).",
        "It's {text}.",
    ),
    *(
        "{right} it is.",
        "Among these, {right} fits best.",
        "My choice: {right}",
        "Selected option: {right}",
        "{right}, not {wrong}",
    ),
    *(
        "{wrong} is wrong, so {right}.",
        "{right} rather than {wrong}.",
        "Unlike {wrong}, {right} is correct.",
        "答案是{right}",
    ),
    *(
        "Between {wrong} and {right}, {right} is the better answer.",
        "I'm sure: {right}.",
        '{{"answer": "{right}", "why": "not {wrong}"}}',
    ),
    *(
        "{right} because {wrong} is wrong.",
        "The answer is {right}. {wrong} is wrong.",
        "A quick check shows that it is {right}.",
    ),
    *(
        "- {wrong}: incorrect\n- {right}: correct",
        "| Option | Verdict |\n|---|---|\n| {wrong} | wrong |\n| {right} | right |",
    ),
]
CHOOSES_NOT = [
    *(
        "Maybe {right}, maybe {wrong}.",
        "Possibly {right}.",
        "It might be {right}.",
        "I doubt it's {right}.",
        "Avoid {right}.",
    ),
    *(
        "The answer is never {right}.",
        "Any option except {right}.",
        "All except {right}.",
        "The answer is anything but {right}.",
    ),
    *("Students often pick {right}.", "My friend picked {right}.", "The grader wants {right}.", "He chose {right}."),
    *(
        "If the question were different, {right}.",
        "The answer is {right}. That's wrong.",
        "The answer is {right}. Just kidding.",
    ),
    *(
        "\\boxed{{{wrong}}}, not \\boxed{{{right}}}",
        '{{"answer": null, "options": ["{right}"]}}',
        "{right} ❌",
        "{right} is out.",
    ),
    *(
        "Plan {right}",
        "Team {right}",
        "Mr {right}",
        "Mr. {right}.",
        "Figure {right}",
        "Type {right} blood",
        "{right} is for apple",
    ),
    *("J. {right}. Smith", "the letter after {right}", "First {right}, then {wrong}", "{right}, unless it's {wrong}"),
    *(
        "Nein, nicht {right}.",
        "Die Antwort ist nicht {right}.",
        "Не {right}",
        "{right} can be ruled out.",
        "50% {right}, 50% {wrong}",
    ),
    *(
        "{right} is the worst option.",
        "{right} if you ask me twice, {wrong} otherwise",
        "Step {right}",
        "I, too, wonder about {right}.",
    ),
]


@pytest.mark.parametrize("right_letter", "AB")
@pytest.mark.parametrize("reference", [{}, GASES])
async def test_choices_in_many_styles(reference: dict[str, Json], right_letter: str) -> None:
    text = str(GASES["choices"][ord(right_letter) - ord("A")])  # type: ignore[index,call-overload]
    for wrong in "CD":
        for style in CHOOSES:
            answer = style.format(right=right_letter, wrong=wrong, text=text)
            assert await right(Choice(), {"target": right_letter, **reference}, answer, QUESTION), answer
        for style in CHOOSES_NOT:
            answer = style.format(right=right_letter, wrong=wrong, text=text)
            assert not await right(Choice(), {"target": right_letter, **reference}, answer, QUESTION), answer


async def test_options_are_read_off_the_question() -> None:
    assert await right(Choice(), {"target": "B"}, "It is carbon dioxide.", QUESTION)
    assert not await right(Choice(), {"target": "B"}, "It is oxygen.", QUESTION)
    earlier = "Pick one.\nA. red\nB. blue\n\nPick one.\nA) blue\nB) red"
    assert await right(Choice(), {"target": "A"}, "Blue", earlier)
    assert await right(Choice(), {"target": "E"}, "E", QUESTION)


async def test_letters_of_another_alphabet_are_none() -> None:
    # In Russian the third option is В, and В, И and А are words, too.
    assert not await right(Choice(), {"target": "B"}, "В", QUESTION)
