"""The probes' checker under attack: nothing that isn't an answer passes, and every right answer does, whatever its style."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from assay.errors import SuiteError
from assay.scorers.base import build_scorer, check_suite, score_answer
from assay.scorers.probe import ProbeAnswer
from assay.suites.suite import ScorerSpec, Suite, load_suite
from assay.suites.variants import variants
from assay.types import Completion, FinishReason, Json, Message, Sample, Score, ScoreFailure, Usage
from tests.scorers.probe_attacks import STYLES, attacks, candidates

CAPABILITY = load_suite("capability")
SCORERS = check_suite(CAPABILITY)
IDS = [sample.id for sample in CAPABILITY.samples]
ANSWERS: Mapping[str, list[str]] = YAML(typ="safe").load(Path(__file__).parent / "probe_answers.yaml")


def sample_of(suite: Suite, name: str) -> Sample:
    return next(sample for sample in suite.samples if sample.id == name)


async def result(
    scorer: ProbeAnswer, sample: Sample, answer: str, finish: FinishReason = "stop"
) -> Score | ScoreFailure:
    (only,) = await score_answer(scorer, sample, Completion(answer, finish, Usage(1, 24)))
    return only


async def passes(suite: Suite, name: str, answer: str) -> bool:
    sample = sample_of(suite, name)
    scorer = build_scorer(suite.scorers[name])
    assert isinstance(scorer, ProbeAnswer)
    found = await result(scorer, sample, answer)
    assert isinstance(found, Score), found
    assert set(found.detail) == {"extracted", "expected"}
    assert found.detail["expected"] == sample.reference["target"]
    return found.value is True


@pytest.mark.parametrize("name", IDS)
async def test_no_attack_passes(name: str) -> None:
    kinds: Counter[str] = Counter()
    for kind, text in attacks(sample_of(CAPABILITY, name), CAPABILITY.scorers[name]):
        kinds[kind] += 1
        assert not await passes(CAPABILITY, name, text), f"{kind}: {text[:300]!r}"
    expected = {"echo", "refusal", "nothing", "list", "loop", "corrected", "mentioned", "hedged", "denied", "wrong"}
    assert expected <= set(kinds)


@pytest.mark.parametrize("name", IDS)
async def test_every_right_answer_passes(name: str) -> None:
    assert len(ANSWERS[name]) >= 6
    right, wrong, *_ = candidates(sample_of(CAPABILITY, name), CAPABILITY.scorers[name])
    prompt = str(sample_of(CAPABILITY, name).prompt)
    styled = [style.format(right=right, wrong=wrong, prompt=prompt) for style in STYLES]
    for answer in (*ANSWERS[name], *styled, *(f"<think>{wrong}?</think>\n\n{a}" for a in ANSWERS[name])):
        assert await passes(CAPABILITY, name, answer), answer


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deduction-1", "no, no: yes"),
        ("deduction-1", "no (no, yes)"),
        ("deduction-1", "no. Hmm, no. Let me redo it."),
        ("deduction-3", "yes (no, no)"),
        ("deduction-2", "Another person's answer is Otto."),
        ("causal-1", "A certain kind of person goes for rain."),
        ("analogy-1", "Like orchestra."),
        ("probability-1", "Confidence: 5/33"),
        ("arithmetic-1", "<answer>1565</answer> <!-- 1564 -->"),
        ("temporal-1", "In the movie the answer was 105 minutes."),
    ],
)
async def test_who_wavers_gives_no_answer(name: str, text: str) -> None:
    assert not await passes(CAPABILITY, name, text)


@pytest.mark.parametrize("name", IDS)
async def test_a_template_leaves_its_tokens_around_a_right_answer(name: str) -> None:
    right, *_ = candidates(sample_of(CAPABILITY, name), CAPABILITY.scorers[name])
    for text in ("{}<|im_end|>", "{}</s>", "{}<end_of_turn>\n<start_of_turn>user\nThanks", "Assistant: {}", "AI: {}"):
        assert await passes(CAPABILITY, name, text.format(right)), text
    assert await passes(CAPABILITY, name, f"<think>Hm.</think><answer>The answer is {right}.</answer>")
    assert await passes(CAPABILITY, name, f"Let's think step by step. {right}")


@pytest.mark.parametrize("seed", range(8))
async def test_a_drawn_yes_or_no_question_has_checks_of_its_own(seed: int) -> None:
    suite = variants("capability", seed)
    kinds, device = sample_of(suite, "deduction-1"), sample_of(suite, "deduction-3")
    a, b, c = re.findall(r"Every (\w+) is a (\w+)\..* is a (\w+)\?", str(kinds.prompt))[0]
    said = {
        "yes": (f"Yes, some {a} might be a {c}.", f"It is possible. Both could be {b}s.", f"Yes, a {a} can be a {c}."),
        "no": (f"No {a} can be a {c}.", f"No. Every {a} is a {b}, so a {a} cannot be a {c}.", "It is impossible."),
    }
    certain = {
        "yes": ("Yes, we can be certain.", "Yes, it must be so, because the rule says so."),
        "no": ("No, because something else might light the lamp.", "No, we can't know for certain."),
    }
    for sample, answers in ((kinds, said), (device, certain)):
        for answer, texts in answers.items():
            for text in texts:
                assert await passes(suite, sample.id, text) is (answer == sample.reference["target"]), text


@pytest.mark.parametrize("seed", range(3))
async def test_variants_are_as_safe_as_the_suite(seed: int) -> None:
    suite = variants("capability", seed)
    for sample in suite.samples:
        spec = suite.scorers[sample.id]
        for kind, text in [*attacks(sample, spec)][seed::7]:
            assert not await passes(suite, sample.id, text), f"{sample.id}, {kind}: {text[:300]!r}"
        right, wrong, *_ = candidates(sample, spec)
        for style in STYLES:
            text = style.format(right=right, wrong=wrong, prompt=sample.prompt)
            assert await passes(suite, sample.id, text), f"{sample.id}: {text!r}"


async def test_an_answer_to_the_old_numbers_is_wrong_for_new_ones() -> None:
    suite = variants("capability", 4)
    for sample in suite.samples:
        old = sample_of(CAPABILITY, sample.id).reference["target"]
        if sample.reference["target"] != old:
            assert not await passes(suite, sample.id, f"The answer is {old}.")


def number(target: str = "105", **parameters: Json) -> tuple[ProbeAnswer, Sample]:
    scorer = build_scorer(ScorerSpec("probe_answer", parameters))
    assert isinstance(scorer, ProbeAnswer)
    return scorer, Sample("a", "How long?", reference={"target": target})


@pytest.mark.parametrize(
    ("target", "unit", "answer"),
    [
        ("50", "cm", "0.5 m"),
        ("50", "cm", "500 mm"),
        ("0.5", "m", "50 cm"),
        ("90", "minutes", "1 h 30"),
        ("90", "minutes", "1.5 hours"),
        ("90", "minutes", "an hour and a half"),
        ("90", "minutes", "1:30"),
        ("1.5", "hours", "90 min"),
        ("90", "minutes", "5400 seconds"),
        ("2.5", "dollars", "$2.50"),
        ("2.5", "dollars", "250 cents"),
        ("0.25", "part", "25%"),
        ("0.25", "part", "1 in 4"),
        ("0.25", "part", "a quarter"),
        ("1/3", "part", "one third"),
        ("3", "pupil pupils", "three pupils"),
        ("-7", "", "-7"),
        ("-7", "", "The answer is −7."),
        ("1234567", "", "1,234,567"),
        ("1/2", "", "½"),
        ("2.5", "", "2 1/2"),
        ("21", "", "Twenty-one"),
        ("3000000", "", "3 million"),
    ],
)
async def test_equal_quantities_are_equal(target: str, unit: str, answer: str) -> None:
    found = await result(*number(target, unit=unit), answer)
    assert isinstance(found, Score)
    assert found.value is True


@pytest.mark.parametrize(
    ("target", "unit", "answer"),
    [
        ("50", "cm", "50 m"),
        ("50", "cm", "50 kg"),
        ("50", "cm", "50 cm²"),
        ("50", "cm", "50%"),
        ("90", "minutes", "1 h 20"),
        ("90", "minutes", "90 hours"),
        ("90", "minutes", "90 km/h"),
        ("2.5", "dollars", "€2.50"),
        ("2.5", "dollars", "2.5 cents"),
        ("0.25", "part", "25"),
        ("7", "", "-7"),
        ("7", "", "7 kg"),
        ("7", "", "7x"),
        ("7", "", "7 thousand"),
        ("9", "rabbit rabbits", "9 chickens"),
        ("9", "rabbit rabbits", "Chickens: 9"),
    ],
)
async def test_other_quantities_are_not(target: str, unit: str, answer: str) -> None:
    found = await result(*number(target, unit=unit, others=["chickens"]), answer)
    assert isinstance(found, Score)
    assert found.value is False


async def test_a_tolerance_is_for_decimals_of_fractions() -> None:
    for answer, right in (("0.333", True), ("0.3333", True), ("1/3", True), ("0.33", False), ("0.34", False)):
        found = await result(*number("1/3", tolerance=0.0005), answer)
        assert isinstance(found, Score)
        assert found.value is right


async def test_the_score_says_what_was_read() -> None:
    scorer, sample = number(unit="minutes")
    assert await result(scorer, sample, "So it lasts 1 h 40 min.") == Score(
        "correct", False, detail={"extracted": "100 minutes", "expected": "105"}
    )
    assert await result(scorer, sample, "Hard to say.") == Score(
        "correct", False, detail={"extracted": None, "expected": "105"}
    )


async def test_a_cut_answer_is_truncated_unless_it_runs_in_a_loop() -> None:
    scorer, sample = number()
    cut = await result(scorer, sample, "The answer is 105. To see why", "length")
    assert isinstance(cut, ScoreFailure)
    assert cut.error_class == "truncated"
    for text in ("The answer is 105. " * 20, "I do not know. " * 20 + "I do n", "105 " * 100):
        for finish in ("stop", "length"):
            found = await result(scorer, sample, text, finish)  # type: ignore[arg-type]
            assert isinstance(found, Score)
            assert found.value is False


async def test_the_last_user_message_is_the_question() -> None:
    asked = (Message("system", "Be brief."), Message("user", "Is it 3 or 105 minutes that it lasts?"))
    sample = Sample("a", asked, reference={"target": "105"})
    found = await result(ProbeAnswer(), sample, "Is it 3 or 105 minutes that it lasts?")
    assert isinstance(found, Score)
    assert found.value is False


@pytest.mark.parametrize(
    ("scorer", "target", "sentence"),
    [
        (
            "{name: probe_answer, kind: numbers}",
            "7",
            "kind must be one of number, choice, yes_no, pattern, not 'numbers'",
        ),
        ("{name: probe_answer, tolerance: -1}", "7", "tolerance must be a number of at least 0"),
        ("{name: probe_answer, kind: choice, choices: [a]}", "a", "at least two choices"),
        ("{name: probe_answer, kind: choice, choices: [a, 7]}", "a", "choices must be words, not 7"),
        ("{name: probe_answer, kind: choice, choices: {a: b, c: []}}", "a", "the forms of 'a' must be a list"),
        ("{name: probe_answer, kind: choice, choices: [a, b]}", "c", "its target 'c' is none of the choices a, b"),
        ("{name: probe_answer, kind: yes_no}", "maybe", "is none of the choices yes, no, undetermined"),
        ("{name: probe_answer, kind: pattern}", "7", "a pattern is needed"),
        ("{name: probe_answer, pattern: x}", "7", "a pattern is needed for the kind 'pattern', and for no other"),
        ("{name: probe_answer, kind: pattern, pattern: '['}", "7", "is not a regular expression"),
        ("{name: probe_answer, kind: pattern, pattern: '[a-z]'}", "7", "doesn't match the pattern"),
        ("{name: probe_answer}", "seven", "its target 'seven' is not one number"),
        ("{name: probe_answer, unit: 7}", "7", "unit and pattern must be texts"),
        ("{name: probe_answer, others: cats}", "7", "others must be a list of words"),
        ("{name: probe_answer, ask: [x]}", "7", "has no parameter 'ask'"),
    ],
)
def test_a_wrong_suite_is_named_with_its_line(tmp_path: Path, scorer: str, target: str, sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: s\nversion: 1\nsamples:\n  - {{id: a, prompt: Hi, target: '{target}', scorer: {scorer}}}\n")
    with pytest.raises(SuiteError) as caught:
        check_suite(load_suite(path))
    assert str(caught.value).startswith(f"{path}:4: ")
    assert sentence in str(caught.value)


def test_a_sample_needs_a_target() -> None:
    with pytest.raises(ValueError, match="it has no target"):
        ProbeAnswer().check(Sample("a", "Hi"))


@given(st.text(max_size=120))
@example("\ue000 \ue001 \ue002")
@example("\\boxed{")
@example("$\\frac{1}{0}$ 1/0 9^9999 1e99999")
async def test_no_text_upsets_the_checker(text: str) -> None:
    for name in ("arithmetic-1", "probability-1", "temporal-1", "deduction-1", "analogy-1", "code-3"):
        assert await passes(CAPABILITY, name, text) in (False, True)


pieces = st.sampled_from(
    [
        "1564",
        "1550",
        "not",
        "or",
        "the answer is",
        "wait",
        "no",
        ",",
        ".",
        "\n",
        "=",
        "×",
        "**",
        "(",
        ")",
        "because",
        "\\boxed{",
        "}",
        "-",
    ]
)


@given(st.lists(pieces, max_size=14))
async def test_without_the_right_number_nothing_passes(words: list[str]) -> None:
    text = " ".join(word for word in words if word != "1564")
    assert not await passes(CAPABILITY, "arithmetic-1", text)
    await passes(CAPABILITY, "arithmetic-1", " ".join(words))


@given(st.integers(0, 10**7).filter(lambda n: n != 1564))
async def test_no_other_number_passes(wrong: int) -> None:
    for text in (f"{wrong}", f"The answer is {wrong:,}.", f"47 × 36 − 128 = {wrong}", f"1564? No: {wrong}"):
        assert not await passes(CAPABILITY, "arithmetic-1", text)


async def test_long_answers_are_read_in_reasonable_time() -> None:
    start = time.perf_counter()
    for part in (
        "9 ",
        "= 1 ",
        "one ",
        "no, ",
        "the answer is 7 ",
        "(",
        "a:",
        "**x",
        "| 1 ",
        "1, ",
        "$",
        "not ",
        "\n1. x",
        "wait ",
    ):
        text = "".join(f"{part}{n % 7}" if n % 3 else part for n in range(20_000))
        assert not await passes(CAPABILITY, "arithmetic-1", text)
        assert not await passes(CAPABILITY, "deduction-2", text)
    assert time.perf_counter() - start < 30
