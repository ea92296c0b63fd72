"""GSM8K's exact match against its definition, faults and all; and what holds for every exact scorer."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.scorers.base import Scorer
from assay.scorers.choice import Choice
from assay.scorers.exact import Gsm8kV1, extract_gsm8k, gsm8k_equal
from assay.scorers.final_answer import FinalAnswer, normal_text
from assay.scorers.match import ContainsWord, FinalNumber
from assay.scorers.quantities import quantities
from assay.types import Completion, Json, Sample, Score, ScoreFailure, Usage
from tests.scorers.asking import outcome, right

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("text", "extracted"),
    [
        ("", ""),
        ("ERROR 42", ""),
        ("Error 42", "42"),
        ("#### 42", "42"),
        ("####42 and #### 43", "42"),
        ("It is 7.\n####\n 1,234.50 dollars", "1,234.50"),
        ("#### -5", "-5"),
        ("#### 5.", "5."),
        ("#### 1-2", "1-2"),
        ("#### $42", ""),
        ("#### $42 or 7", "7"),
        ("3 + 4 = 7", "7"),
        ("3+4=7", "7"),
        ("It costs $42", ""),
        ("It is 42.", "42"),
        ("It is 42.5%", "42.5"),
        ("(42) 7)", "7"),
        ("1,234 then -5,6", "-5,6"),
        ("so , and", ","),
        ("x-5 y -6", "-6"),
        ("no number", ""),
        ("٣ ٤", ""),  # other scripts' digits are none here
    ],
)
def test_gsm8k_extraction(text: str, extracted: str) -> None:
    assert extract_gsm8k(text) == extracted


@pytest.mark.parametrize(
    ("extracted", "expected", "equal"),
    [
        ("42", "42", True),
        ("1,234", "1234", True),
        ("42.009", "42", True),
        ("42.011", "42", False),
        ("5.", "5", True),
        ("-5", "5", False),
        ("1-2", "1", False),
        ("1.2.3", "1.2", False),
        ("-", "0", False),
        (",", "0", False),
        ("", "", False),
        ("42", "forty-two", False),
        ("1", "1e0", True),
        ("1", "1_0", False),
        ("9" * 400, "9" * 400, False),  # more than a float holds
    ],
)
def test_gsm8k_comparison(extracted: str, expected: str, equal: bool) -> None:
    assert gsm8k_equal(extracted, expected) is equal


async def test_gsm8k_scores() -> None:
    found = await outcome(Gsm8kV1(), {"correct_answer": "1234"}, "So: 1,234")
    assert found == Score("correct", True, detail={"extracted": "1,234", "expected": "1234"})
    assert await right(Gsm8kV1(), {"target": 7}, "3 + 4 = 7")
    assert not await right(Gsm8kV1(), {"correct_answer": "8", "target": "7"}, "7")


@pytest.mark.parametrize("key", ["target", "correct_answer"])
async def test_gsm8k_reads_worked_references(key: str) -> None:
    worked = "First #### 3, then 8 - 3.\n#### 1,005"
    found = await outcome(Gsm8kV1(), {key: worked}, "It is 1005.")
    assert found == Score("correct", True, detail={"extracted": "1005", "expected": "1,005"})
    assert not await right(Gsm8kV1(), {key: worked}, "#### 3")


async def test_gsm8k_calls_no_answer_wrong_for_a_reference_without_a_number() -> None:
    sample = Sample("a", "?", reference={"target": "an apple"})
    with pytest.raises(ValueError, match="'an apple', which is no number"):
        Gsm8kV1().check(sample)
    (found,) = await Gsm8kV1().score(sample, Completion("7", "stop", Usage(0, 0)))
    assert isinstance(found, ScoreFailure)
    assert (found.error_class, "'an apple', which is no number" in found.reason) == ("permanent", True)


@pytest.mark.parametrize(("answer", "settled"), [("#### 42\nNext", True), ("#### 42", False), ("It is 42, so", False)])
async def test_gsm8k_cut_off(answer: str, settled: bool) -> None:
    found = await outcome(Gsm8kV1(), {"target": "42"}, answer, finish="length")
    assert isinstance(found, Score) is settled
    if isinstance(found, ScoreFailure):
        assert found.error_class == "truncated"


def test_gsm8k_reference_verdicts() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"the reference answers in {SHARED} are absent")
    with (SHARED / "responses.jsonl").open(encoding="utf-8") as file:
        answers = [json.loads(line) for line in file]
    with (SHARED / "lek_expected.jsonl").open(encoding="utf-8") as file:
        verdicts = [json.loads(line).get("exact") for line in file]
    checked = 0
    for answer, verdict in zip(answers, verdicts, strict=True):
        if verdict is None:
            continue
        extracted = extract_gsm8k(answer["response"])
        found = {"correct": gsm8k_equal(extracted, answer["correct_answer"]), "extracted": extracted}
        assert {**found, "expected": answer["correct_answer"]} == verdict, answer["id"]
        checked += 1
    assert checked == 150


@pytest.mark.parametrize("scorer", [Gsm8kV1(), FinalAnswer(), Choice()])
def test_a_reference_is_needed(scorer: Scorer) -> None:
    assert isinstance(scorer, Scorer)
    wrong: list[Json] = [" ", None, [], ["B", None], ["B", " "], {"B": 1}, True]
    for reference in ({}, *({key: value} for key in ("target", "correct_answer") for value in wrong)):
        with pytest.raises(ValueError, match="it"):
            scorer.check(Sample("a", "?", reference=reference))


@pytest.mark.parametrize(
    ("scorer", "target", "text", "outcome"),
    [
        (ContainsWord(), ["Paris", "Lutetia"], "It is Lutetia.", True),
        (ContainsWord(), ["Paris", "Lutetia"], "It is Rome.", False),
        (FinalNumber(), ["seven", "7", 8], "It is 7", True),
        (FinalNumber(), ["7", "8"], "It is 9", False),
        (FinalAnswer(), ["24", "twenty-four"], "The answer is 24.", True),
        (FinalAnswer(), ["the Danube", "Donau"], "The answer is the Donau.", True),
        (FinalAnswer(), ["the Danube", "Donau"], "The answer is the Rhine.", False),
        (Gsm8kV1(), ["7", "8"], "#### 8", True),
        (Gsm8kV1(), ["7", "8"], "#### 9", False),
    ],
)
async def test_each_of_several_targets_is_right(scorer: Scorer, target: Json, text: str, outcome: bool) -> None:
    sample = Sample("a", "?", reference={"target": target})
    scorer.check(sample)
    (found,) = await scorer.score(sample, Completion(text, "stop", Usage(0, 0)))
    assert isinstance(found, Score)
    assert found.value is outcome


async def test_what_a_cut_leaves_open_for_one_of_several_targets_is_open() -> None:
    sample = Sample("a", "?", reference={"target": ["12", "Paris"]})
    for text, value in (("It is 12", None), ("Paris, or 12", True), ("Paris", None)):
        (found,) = await ContainsWord().score(sample, Completion(text, "length", Usage(0, 0)))
        assert (found.value if isinstance(found, Score) else None) is value


def test_of_several_options_none_is_chosen() -> None:
    with pytest.raises(ValueError, match="its scorer takes one option"):
        Choice().check(Sample("a", "?", reference={"target": ["A", "B"], "choices": ["x", "y"]}))


@given(st.text(max_size=80))
async def test_any_text_gets_a_verdict(text: str) -> None:
    for scorer, target in ((Gsm8kV1(), "7"), (FinalAnswer(), "7"), (FinalAnswer(), "Paris"), (Choice(), "B")):
        found = await outcome(scorer, {"target": target}, text)
        # A text that opens a block of reasoning and does not close it was cut off.
        assert isinstance(found, Score) or found.error_class == "truncated"
    quantities(text)
    normal_text(text)


@pytest.mark.parametrize(
    "part",
    ["wait ", r"\boxed{", "**a ", "the answer is ", "answer   ", "1=", "1 or ", "one ", "#### ", "A, ", "\n7", "7 "],
)
async def test_looping_answers_take_no_time(part: str) -> None:
    text = part * (20_000 // len(part))
    started = time.process_time()
    for scorer, target in ((Gsm8kV1(), "7.5"), (FinalAnswer(), "7.5"), (FinalAnswer(), "Paris"), (Choice(), "B")):
        assert not await right(scorer, {"target": target}, text)
    assert time.process_time() - started < 4
