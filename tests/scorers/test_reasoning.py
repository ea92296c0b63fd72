"""Reasoning before an answer: cut away whatever its markers, and never mistaken for an answer or a wrong one."""

from __future__ import annotations

import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.reasoning import continued, final_answer
from assay.scorers.base import score_answer
from assay.scorers.heuristic import LekScorer
from assay.scorers.match import ContainsWord
from assay.types import Completion, FinishReason, Sample, Score, ScoreFailure, Usage

HARMONY = "<|channel|>analysis<|message|>"
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
    ("<longcat_think>", "</longcat_think>"),
    ('<think budget="9" mode=deep>', "</think >"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("\ufeff<think>", "</think>"),
    ("<|im_start|>assistant\n<think>", "</think>"),
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
    assert final_answer(text) is final_answer(text, cut=True) is None
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
        ("<|channel|>analysis<|message|>8?<|channel|>final<|message|>7", "7"),
        (f"{HARMONY}I say <|channel|>final soon<|end|><|start|>assistant<|channel|>final<|message|>7<|return|>", "7"),
        (f"{HARMONY}8?<|end|><|start|>assistant to=functions.x<|channel|>commentary json<|message|>{{}}<|call|>", None),
        (
            "<|channel|>final<|message|>It begins with <|channel|>analysis<|message|>.",
            "It begins with <|channel|>analysis<|message|>.",
        ),
        ("<think/>7", "7"),
        ("<think />\n7", "\n7"),
        ("<think>\r\n8?\r\n</think>\r\n7", "\r\n7"),
        ("Sure.\r\n<think>\r\n8?\r\n</think>\r\n7", "Sure.\r\n\r\n7"),
        ("8? <think> is a marker\n</think>\n7", "\n7"),
        ("```\n8?\n</think>\nSo:\n```python\n7\n```", "\nSo:\n```python\n7\n```"),
        ("<think>8?</think></think>7", "7"),
        ("<think>8?</think>\n</think>\n7", "\n7"),
        ("<think>8?</think>9?\n</think>\n7", "\n7"),
        ("<think>8?</think></think>", "</think>"),
        ("<think>8?</think>Close it with </think> and write 7.", "Close it with </think> and write 7."),
        ("<think>I would write\n```\n</think>\n```\nhere.</think>7", "7"),
        ("<think>in the style of <reasoning></think><reasoning>8?</reasoning><answer>7</answer>", "<answer>7</answer>"),
        ("<think>8?</thinking>7", "7"),
        ("<think>8?</think>```xml\n<think>\n9\n</think>\n```", "```xml\n<think>\n9\n</think>\n```"),
        (
            "<think>Like this:\n```\n<think>\n```\n</think>\nIt takes <think> and </think>.",
            "\nIt takes <think> and </think>.",
        ),
        ("<think><think> again?\n</think>It takes <think> and </think>.", "It takes <think> and </think>."),
        ("<think>They want <reasoning>8?</reasoning> and so", None),
        ("<seed:think>8?<seed:cot_budget_reflect>10 left</seed:cot_budget_reflect>9?", None),
        ("<seed:think>8?<seed:cot_budget_reflect>10 left</seed:cot_budget_reflect>9?</seed:think>7", "7"),
        (f"{HARMONY}8?<|end|><|start|>assistant<|message|>7<|return|>", "7"),
        ("<think> 8? </think> 7", " 7"),
        ("<think> 8? </think> It is closed by </think>", " It is closed by </think>"),
        ("<think>I name </think>, too.\n</think>\nClose it with </think> then.", "\nClose it with </think> then."),
        ("<think>8?</think>\n```xml\n<think>\n9\n</think>\n```", "\n```xml\n<think>\n9\n</think>\n```"),
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
        "Example:\n```\n</think>\n```\nThat is all.",
        "Example:\n````\n```\n<think>\n```\n````\nThat is all.",
        "Example:\n~~~\n```\n<think>\n~~~\nThat is all.",
        "Example:\n\n    <think>\n    8?\n\nThat is all.",
        "Models end with </think>.",
        "The end (</think>) is missing.",
        "Write `8?</think>` first.",
        "Write `<think>8?</think>` first.",
        "Dear Sir,\nI must leave because\n<reason>\nYours",
        "<thoughts on the matter>\n7",
        "Fill in:\n<reasoning>\n…\n<answer>\n…",
        "Here is my thought process:\n3 + 4 = 7",
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


def test_words_begin_a_block_only_where_it_ends_or_the_text_was_cut() -> None:
    opening, closing = "Here is my thought process:", "Here's my response:"
    assert final_answer(f"{opening}\nIs it 8?\n{closing}\n7") == "\n7"
    assert final_answer(f"{opening}\nIs it 8?") == f"{opening}\nIs it 8?"
    assert final_answer(f"{opening}\nIs it 8?", cut=True) is None
    assert final_answer("I leave because\n<reason>\nof 8", cut=True) is None


@pytest.mark.parametrize("text", ["", " \n", "<think>Pyrus?</think>", "<think>Pyrus?</think>\n\n"])
async def test_an_answer_that_was_cut_before_it_began_is_truncated(text: str) -> None:
    sample = Sample("a", "?", reference={"target": "Pyrus"})
    for scorer in (ContainsWord(), LekScorer()):
        for found in await score_answer(scorer, sample, Completion(text, "length", Usage(1, 9))):
            assert isinstance(found, ScoreFailure)
            assert (found.error_class, found.reason) == (
                "truncated",
                "the answer was cut off before it began, at 9 tokens",
            )
    (uncounted, *_) = await score_answer(LekScorer(), sample, Completion(text, "length", Usage(0, 0)))
    assert isinstance(uncounted, ScoreFailure)
    assert uncounted.reason == "the answer was cut off before it began", "of an answer from a file"
    (ended,) = await score_answer(ContainsWord(), sample, Completion(text, "stop", Usage(1, 9)))
    assert isinstance(ended, Score)
    assert ended.value is False


@pytest.mark.parametrize(
    ("prompt", "text", "answer"),
    [
        ("<|Assistant|><think>\n", "8? Hm", None),
        ("<|Assistant|><think>\n", "8?</think>7", "7"),
        ("<|Assistant|><think>\n", "I name </think> and go on.</think>7", "7"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "7", "7"),
        ("<|im_start|>assistant\n", "7", "7"),
        ("[INST]?[/INST][THINK]", "8?", None),
        ("<|start|>assistant<|channel|>analysis<|message|>", "8?", None),
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            "8?<|end|><|start|>assistant<|channel|>final<|message|>7",
            "7",
        ),
        ('[["user","What does this open: <think>"]]', "A block.", "A block."),
    ],
)
def test_a_block_that_the_prompt_opened(prompt: str, text: str, answer: str | None) -> None:
    assert final_answer(continued(prompt, text)) == answer


plain = st.text(st.characters(blacklist_characters="<>[]|◁▷", blacklist_categories=["Cs"]), max_size=60)


@given(plain, plain, st.sampled_from(PAIRS[:17]))
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
    start = time.process_time()  # of this process alone, whatever else the machine does
    for text in (
        *("<think></think>", "<think>", "</think>", "<think>\n", "x\n<think>\n", "<|channel|>analysis", "<think a=b "),
        *("\n<reason>\n", "<think   ", "`<think>", "```\n<think>\n", "x <think> ", "<think>x</reason>"),
    ):
        final_answer(text * 3000)
    assert time.process_time() - start < 20
