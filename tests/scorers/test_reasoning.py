"""Reasoning before an answer: cut away whatever its markers, and never mistaken for an answer or a wrong one."""

from __future__ import annotations

import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.scorers.base import score_answer
from assay.scorers.match import ContainsWord
from assay.scorers.reasoning import final_answer
from assay.types import Completion, FinishReason, Sample, Score, ScoreFailure, Usage

PAIRS = [
    ("<think>", "</think>"),
    ("<Think>", "</Think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
    ("Here is my thought process:", "Here is my response:"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final"),
]


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_a_block_at_the_front_is_cut(opening: str, closing: str) -> None:
    assert final_answer(f"{opening}\nIs it 8?\n{closing}\n7") == "\n7"
    assert final_answer(f"\n{opening} Is it 8?{closing}7") == "7"
    assert final_answer(f"{opening}{closing}7") == "7"
    assert final_answer(f"{opening}Is it 8?{closing}") == ""


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
@pytest.mark.parametrize("finish", get_args(FinishReason))
async def test_a_block_that_never_closes_is_truncated(opening: str, closing: str, finish: FinishReason) -> None:
    text = f"{opening}\nThe answer is Pyrus, but let me check"
    assert final_answer(text) is None
    answer = Completion(text, finish, Usage(1, 9))
    (found,) = await score_answer(ContainsWord(), Sample("a", "?", reference={"target": "Pyrus"}), answer)
    assert isinstance(found, ScoreFailure)
    assert found.error_class == "truncated"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("7", "7"),
        ("", ""),
        ("8?</think>\n7", "\n7"),  # the template opened the block
        ("Is it 8?\n[/THINK]7", "7"),
        ("<think>8?</think>\n<think>9?</think>7", "7"),
        ("<think>8?</think><thinking>9?</thinking>7", "7"),
        ("<think>8? <think>9?</think> 10?</think>7", "7"),
        ("<think>a block starts with <think> and</think>7", "7"),
        ("Let me think.\n<think>\n8?\n</think>\n7", "Let me think.\n\n7"),
        ("Let me think.\n<think>\n8?", None),
        ("<think>8?</think>Write `<think>` first.", "Write `<think>` first."),
        ("<think>Say '8'</think>'7'", "'7'"),
        ("<think>'</think>'7'", "'7'"),
        ("<|channel|>analysis<|message|>8?<|end|>", None),
        ("<|channel|>commentary<|message|>8?<|end|><|start|>assistant<|channel|>final<|message|>7<|return|>", "7"),
        ("analysisThe user asks for a sum.assistantfinal7", "7"),
        ("<|channel|>final<|message|>7", "7"),
        ("analysisThe user asks for a sum. Is it 8", None),
        ("Here are my reasoning steps:\n8?\n[BEGIN FINAL RESPONSE]\n7", "\n7"),
        ("8?<|end|><|start|>assistant<|channel|>final<|message|>7", "7"),
    ],
)
def test_what_follows_the_reasoning(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "a <think> tag",
        "Use <think> to open a block.",
        "Put it between <think> and </think>.",
        "Models write `</think>` at its end.",
        'The tag is "<think>".',
        "I think, therefore I am.",
        "Example:\n```\n<think>\n...\n```\nThat is all.",
        "The [THINK] marker is Mistral's.",
        "Here is my response: 7",
        "The harmony format has <|channel|> markers.",
        "analysis of the finals",
        "analysis\nof the finals",
        "Here are my reasoning steps:\n3 + 4 = 7",
    ],
)
def test_a_marker_that_is_spoken_about_is_no_block(text: str) -> None:
    assert final_answer(text) == text


async def test_the_answer_after_the_reasoning_is_scored() -> None:
    for opening, closing in PAIRS:
        answer = Completion(f"{opening} Zenda, no. {closing} Pyrus", "stop", Usage(1, 9))
        (found,) = await score_answer(ContainsWord(), Sample("a", "?", reference={"target": "Pyrus"}), answer)
        (other,) = await score_answer(ContainsWord(), Sample("a", "?", reference={"target": "Zenda"}), answer)
        assert isinstance(found, Score)
        assert isinstance(other, Score)
        assert (found.value, other.value) == (True, False)


plain = st.text(st.characters(blacklist_characters="<>[]|◁▷", blacklist_categories=["Cs"]), max_size=60)


@given(plain, plain, st.sampled_from(PAIRS[:13]))
def test_any_thought_is_cut_and_any_answer_kept(thought: str, answer: str, pair: tuple[str, str]) -> None:
    opening, closing = pair
    assert final_answer(f"{opening}{thought}{closing}{answer}") == answer
    assert final_answer(f"{opening}{thought}") is None


@given(st.lists(st.sampled_from([*(m for pair in PAIRS for m in pair), "7", "\n", "```", " ", "`"]), max_size=12))
def test_no_order_of_markers_upsets_it(parts: list[str]) -> None:
    text = "".join(parts)
    found = final_answer(text)
    assert found is None or len(found) <= len(text)


def test_many_markers_take_reasonable_time() -> None:
    start = time.perf_counter()
    for text in ("<think></think>", "<think>", "</think>", "<think>\n", "x\n<think>\n", "<|channel|>analysis"):
        final_answer(text * 3000)
    assert time.perf_counter() - start < 20
