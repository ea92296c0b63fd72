"""What a template leaves around an answer: its tokens, a name of who speaks, a wrapper."""

from __future__ import annotations

import pytest

from assay.answer_edges import answer_alone
from assay.scorers.base import score_answer
from assay.scorers.exact import Gsm8kV1
from assay.scorers.final_answer import FinalAnswer
from assay.scorers.keys import key_of
from assay.types import Completion, Sample, Score, Usage

ENDS = """<|im_end|> </s> <|eot_id|> <end_of_turn> <|endoftext|> <|end|> <eos> [/INST] <|return|> <|END_OF_TURN_TOKEN|>
    <|end_of_text|> <｜end▁of▁sentence｜> [|endofturn|] <turn|>""".split()  # noqa: SIM905
SAMPLE = Sample("a", "What is 2 + 3?", reference={"target": "5", "correct_answer": "5"})


@pytest.mark.parametrize("end", ENDS)
def test_a_token_ends_the_answer(end: str) -> None:
    for answer in ("5 km", "It is so.\n\n5 km", "```\n5 km\n```"):
        for rest in ("", "\n", f"\n{end}\n", "<|im_start|>user\nAnd 7?", "\n<start_of_turn>user\nAnd 7?"):
            assert answer_alone(f"{answer}{end}{rest}") == (answer, True)
        assert answer_alone(f"{answer} {end}") == (answer, True)


@pytest.mark.parametrize(
    "text",
    [
        "ChatML ends a message with `<|im_end|>`, so 5.",
        "The token <|im_end|> ends a message, so 5.",
        "Do you mean <end_of_turn>? It is 5.",
        "```\nHi<|im_end|>\n```\nSo it is 5.",
        "It was <s>7</s> 5",
        "<s>7</s> 5",
        "What is 2 + 3? [/INST] 5",
        "2 < 3, and [1] says so",
        "<answer>5</answer> or <answer>7</answer>",
        "It is <answer>5</answer>",
    ],
)
def test_what_is_spoken_about_ends_nothing(text: str) -> None:
    assert answer_alone(text) == (text, False)


@pytest.mark.parametrize(
    "text",
    [
        "<answer>5</answer>",
        "<answer>\n5\n</answer><|im_end|>",
        "<|START_RESPONSE|>5<|END_RESPONSE|>",
        "<|START_RESPONSE|>5",
        "<|begin_of_solution|>5<|end_of_solution|>",
        "<|begin_of_box|>5<|end_of_box|>",
        "<response><answer>5</answer></response>",
        "Assistant: 5",
        "AI: 5",
        "<|im_start|>assistant\n5<|im_end|>",
        "<start_of_turn>model\n5<end_of_turn>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n5<|eot_id|>",
        "</s>5</s>",
        "<s> 5</s>",
    ],
)
def test_what_encloses_the_answer_is_no_part_of_it(text: str) -> None:
    assert answer_alone(text).text == "5"


async def test_an_answer_that_a_token_ends_is_whole_although_the_model_went_on() -> None:
    scorer = FinalAnswer()
    text = "<think>7?</think><answer>The answer is \\boxed{5}.</answer><|im_end|>\n<|im_start|>user\nWhat is 3 + 4? 7"
    (score,) = await score_answer(scorer, SAMPLE, Completion(text, "length", Usage(1, 40)))
    assert isinstance(score, Score)
    assert score.value is True
    alone = key_of(scorer, SAMPLE, "The answer is \\boxed{5}.", "stop")
    assert key_of(scorer, SAMPLE, text, "length") == alone, "it is the same answer"


async def test_the_compatible_scorers_read_the_text_as_it_is() -> None:
    (score,) = await score_answer(Gsm8kV1(), SAMPLE, Completion("5</s> 7", "stop", Usage(1, 4)))
    assert isinstance(score, Score)
    assert score.value is False
    assert key_of(Gsm8kV1(), SAMPLE, "5</s>", "stop") != key_of(Gsm8kV1(), SAMPLE, "5", "stop")
