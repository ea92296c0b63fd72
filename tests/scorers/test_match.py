"""Matching scorers, attacked: what must count as right, and all that looks right and isn't."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from assay.errors import SuiteError
from assay.plugins import SCORERS
from assay.scorers.base import Scorer, build_scorer, check_suite, final_answer, score_answer
from assay.scorers.match import ContainsWord, FinalNumber, read_numbers, single_number
from assay.suites.suite import ScorerSpec, load_suite
from assay.types import Completion, FinishReason, Sample, Score, ScoreFailure, Usage


async def result(scorer: Scorer, target: str, answer: str, finish: FinishReason = "stop") -> Score | ScoreFailure:
    (only,) = await score_answer(scorer, sample(target), Completion(answer, finish, Usage(1, 24)))
    return only


def sample(target: str) -> Sample:
    return Sample("a", "?", reference={"target": target})


async def right(scorer: Scorer, target: str, answer: str) -> bool:
    found = await result(scorer, target, answer)
    assert isinstance(found, Score)
    assert isinstance(found.value, bool)
    assert (found.metric, found.low, found.high, "extracted" in found.detail) == ("correct", 0.0, 1.0, True)
    return found.value


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("Pyrus", "Pyrus"),
        ("Pyrus", "The capital is **pyrus**."),
        ("Pyrus", "_Pyrus_ it is"),
        ("Pyrus", "Pyrus's old town"),
        ("Pyrus", "Ｐｙｒｕｓ"),
        ("Pyrus", "Py\u00adrus"),
        ("New York", "in new\n   york, of course"),
        ("Straße", "die STRASSE"),
        ("é", "e\u0301"),
        ("O'Brien", "Mr O’Brien"),
        ("1939-1945", "from 1939–1945"),
        ("Italie", "l'Italie"),
        ("C++", "Use C++."),
        ("C#", "(C#)"),
        (".NET", "It runs on .NET"),
        ("😀", "I feel 😀!"),
        ("7", "It is 7."),
        ("7", "1, 7, 9"),
        ("-7", "It is -7"),
        ("D", "(D) because it is so"),
        ("北京", "首都是北京。"),
        ("Paris", "答案是Paris。"),
        ("7", "答案是7。"),
    ],
)
async def test_whole_words_are_found(target: str, answer: str) -> None:
    assert await right(ContainsWord(), target, answer)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("Pyrus", ""),
        ("Pyrus", "Papyrus"),
        ("Pyrus", "Pyrusville"),
        ("Pyrus", "my_Pyrus"),
        ("New York", "NewYork"),
        ("Ana", "Añana"),
        ("e", "e\u0301"),
        ("क", "का"),
        ("C", "C++"),
        ("C", "C#"),
        ("A", "A+"),
        ("C++", "C++14"),
        ("D", "I'd say B"),
        ("S", "It's T"),
        ("2", "The answer is 12"),
        ("7", "7.5"),
        ("5", "1.5"),
        ("5", "it is .5"),
        ("234", "1,234"),
        ("1", "1,234"),
        ("7", "-7"),
        ("102", "10²"),
    ],
)
async def test_parts_of_words_are_not(target: str, answer: str) -> None:
    assert not await right(ContainsWord(), target, answer)


async def test_letter_case_counts_if_asked_for() -> None:
    assert await right(ContainsWord(case_sensitive=True), "US", "the US")
    assert not await right(ContainsWord(case_sensitive=True), "US", "all of us")


async def test_the_score_says_what_was_found() -> None:
    found = await result(ContainsWord(), "Pyrus", "It is PYRUS.")
    assert found == Score("correct", True, detail={"extracted": "pyrus"})
    missed = await result(ContainsWord(), "Pyrus", "Zenda")
    assert missed == Score("correct", False, detail={"extracted": None})


@pytest.mark.parametrize(
    ("target", "answer", "outcome"),
    [
        ("12", "The answer is 12", "truncated"),  # of 123, perhaps
        ("12", "The answer is 12.", "truncated"),  # of 12.5
        ("Pyr", "It is Pyr", "truncated"),
        ("C", "In C", "truncated"),  # of C++
        ("C", "In C++, wh", "truncated"),
        ("Pyrus", "It is Pyrus.", "True"),
        ("Pyrus", "It is Pyrus, the old town on the ri", "True"),
        ("Pyrus", "It is Pyrus, not Pyrus", "True"),
        ("Pyrus", "Well, as everybody knows who has", "truncated"),  # it may have come later,
    ],
)
async def test_an_answer_that_was_cut_off(target: str, answer: str, outcome: str) -> None:
    found = await result(ContainsWord(), target, answer, "length")
    assert (str(found.value) if isinstance(found, Score) else found.error_class) == outcome


words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(words, st.sampled_from(["", " ", "\n", '"', "**", "(", "; "]), st.sampled_from(["", " ", ".", "\n", '"', "**"]))
async def test_a_word_is_found_between_what_is_no_word(word: str, before: str, after: str) -> None:
    assume(word.casefold() not in ("s", "t", "d", "m", "ll", "re", "ve"))
    assert await right(ContainsWord(), word, f"{before}{word}{after}")


@given(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.from_regex(r"[a-z0-9]{1,3}", fullmatch=True))
async def test_a_word_within_a_word_is_not_found(word: str, more: str) -> None:
    assert not await right(ContainsWord(), word, f"{word}{more}")
    assert not await right(ContainsWord(), f"{word}{more}", word)


@given(st.text(max_size=40), st.text(min_size=1, max_size=5), st.sampled_from(["stop", "length"]))
@example("ẞ", "ß", "stop")
async def test_no_text_upsets_a_scorer(answer: str, target: str, finish: FinishReason) -> None:
    for scorer in (ContainsWord(), FinalNumber()):
        try:
            scorer.check(sample(target))
        except ValueError:
            continue
        assert isinstance(await scorer.score(sample(target), Completion("", "stop", Usage(1, 0))), Sequence)
        found = await result(scorer, target, answer, finish)
        assert isinstance(found, Score) or found.error_class == "truncated"
        empty = await result(scorer, target, "")
        assert isinstance(empty, Score)
        assert empty.value is False


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("7", "7"),
        ("7", "3 + 4 = 7."),
        ("7", "7.0"),
        ("7.0", "+7"),
        ("-1", "3 - 4 = -1"),
        ("-1", "3-4=-1"),
        ("-1", "3 - 4 = - 1"),
        ("-7", "It is −7"),
        ("-7", "It is –7."),
        ("-7", "**-7**"),
        ("-7", r"\boxed{-7}"),
        ("3", "5 - 3"),
        ("3", "5 -3"),
        ("7", "Answer - 7"),
        ("7", "Answer: --7"),
        ("1234567", "1,234,567 people"),
        ("1234", "1 234"),
        ("1234", "1\u202f234"),
        ("1234", "1_234"),
        ("1234", "1'234"),
        ("1,234.5", "1234.50"),
        ("300", "1 2 300"),
        ("1000.50", "$1,000.50"),
        ("-5", "-$5"),
        ("-5", "$-5"),
        ("50", "about 50%"),
        ("50%", "50"),
        ("0.5", "it is .5"),
        ("5", "wait...5"),
        ("5", "No.5"),
        ("1000000", "10^6"),
        ("1000000", "1e6"),
        ("1500000", "1.5 × 10⁶"),
        ("0.001", "10^{-3}"),
        ("1/2", "½"),
        ("0.5", "1/2"),
        ("1/3", r"\frac{1}{3}"),
        ("1.5", "1 1/2"),
        ("1.5", "1½ cups"),
        ("7", "7th"),
        ("5", "5 km²"),
        ("7", "答案是7。"),
        ("7", "٧"),
        ("7", "7 (as of 2024-05-12, v1.2.3, GPT-4, 12:30, x2)"),
        ("12345678901234567890.1", "12345678901234567890.10"),
    ],
)
async def test_the_last_number_is_right(target: str, answer: str) -> None:
    assert await right(FinalNumber(), target, answer)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("2", "The answer is 12"),
        ("7", ""),
        ("7", "seven"),
        ("7", "7, or rather 8"),
        ("7", "-7"),
        ("-3", "5-3"),
        ("-3", "5 - 3"),
        ("3", "5-3"),
        ("4", "3-4"),
        ("3", "v1.2.3"),
        ("6", "10^6"),
        ("2", "m^2"),
        ("2", "x2"),
        ("4", "GPT-4"),
        ("567", "1,234,567"),
        ("234", "1 234"),
        ("2", "1/2"),
        ("2", r"\frac{1}{2}"),
        ("12", "2024-05-12"),
        ("2024", "12/05/2024"),
        ("30", "12:30"),
        ("5", "1,5"),
        ("0", "0x1F"),
        ("12345678901234567890.1", "12345678901234567890.2"),
        ("0.1", "0.10000000000000000001"),
        ("1", "1e-999999999"),
    ],
)
async def test_another_last_number_is_wrong(target: str, answer: str) -> None:
    assert not await right(FinalNumber(), target, answer)


async def test_the_score_says_which_number_was_read() -> None:
    assert await result(FinalNumber(), "7", "so: $1,000.50") == Score(
        "correct", False, detail={"extracted": "1,000.50"}
    )
    assert await result(FinalNumber(), "7", "none") == Score("correct", False, detail={"extracted": None})


async def test_a_cut_answer_has_no_last_number() -> None:
    found = await result(FinalNumber(), "12", "The answer is 12", "length")
    assert isinstance(found, ScoreFailure)
    assert found.error_class == "truncated"
    alone = await FinalNumber().score(sample("12"), Completion("12", "length", Usage(1, 24)))
    assert isinstance(alone[0], ScoreFailure)


async def test_a_tolerance_is_exact() -> None:
    assert await right(FinalNumber(tolerance=0.1), "1", "1.1")
    assert not await right(FinalNumber(tolerance=0.1), "1", "1.10000000000000000001")


decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3)


@given(decimals, st.sampled_from(["", "The answer is ", "3 + 4 = ", "x=", "So:\n", "**", "in 1999, "]))
async def test_a_number_is_read_as_it_was_written(value: Decimal, before: str) -> None:
    for written in (f"{value:f}", f"{value:,f}", f"{value:.8e}"):
        *_, (_, last) = read_numbers(f"{before}{written}.")
        assert last == Fraction(Decimal(written.replace(",", "")))
        assert single_number(written) == last


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
async def test_an_integer_equals_only_itself(target: int, value: int) -> None:
    for written in (f"{value:,}", f"{value:_}", f"{value:,}".replace(",", "\u202f"), f"${value}", f"{value}.00"):
        assert await right(FinalNumber(), str(target), f"It is {written}") is (target == value)


@pytest.mark.parametrize("target", ["seven", "7 apples", "7 8", "3-4", "1,5", "v1.2", "x2", "12:30", "1e999999", "--7"])
def test_a_target_must_be_one_number(target: str) -> None:
    with pytest.raises(ValueError, match="is not one number"):
        FinalNumber().check(sample(target))


async def test_a_worked_target_is_the_number_behind_its_marks() -> None:
    assert await right(FinalNumber(), "6*7=42\n#### 1,042.", "It is 1042") is True
    assert await right(FinalNumber(), "6*7=42\n#### 43", "It is 42") is False
    for target in ("no number", ""):
        failure = await result(FinalNumber(), target, "It is 42")
        assert isinstance(failure, ScoreFailure)
        assert failure.reason.startswith("the sample can't be scored: its target ")
        assert "Error" not in failure.reason


async def test_long_answers_are_read_in_reasonable_time() -> None:
    for text in ("9", "1,", "1 ", "1 100 ", "^", "1/", "-", "½"):
        assert all(value is None or abs(value) < 10**1000 for _, value in read_numbers(text * 20_000))
    assert list(read_numbers("9^9999 1e999999999")) == [("9^9999", None), ("1e999999999", None)]
    assert not await right(ContainsWord(), "a", "a" * 200_000)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("7", "7"),
        ("<think>8?</think> 7", " 7"),
        ("8?</think>\n7", "\n7"),
        ("<think>8", None),
        ("a <think> tag", "a <think> tag"),
    ],
)
def test_the_final_answer_follows_the_reasoning(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


async def test_reasoning_is_not_scored() -> None:
    assert not await right(ContainsWord(), "Pyrus", "<think>Pyrus? No.</think>Zenda")
    for finish in get_args(FinishReason):
        cut = await result(ContainsWord(), "Pyrus", "<think>Pyrus, I think", finish)
        assert isinstance(cut, ScoreFailure)
        assert cut.error_class == "truncated"


class Faulty(ContainsWord):
    """Misbehaves in the way that the answer asks for."""

    async def score(self, sample: Sample, completion: Completion) -> Sequence[Score | ScoreFailure]:
        if completion.text == "raise":
            raise KeyError("nothing")
        return {"none": [], "twice": [Score("correct", True)] * 2, "high": [Score("correct", 2.0)]}[completion.text]


@pytest.mark.parametrize(
    ("answer", "why"), [("raise", "KeyError"), ("none", "0 values"), ("twice", "2"), ("high", "2.0")]
)
async def test_a_scorer_at_fault_gives_a_failure(answer: str, why: str) -> None:
    found = await result(Faulty(), "x", answer)
    assert isinstance(found, ScoreFailure)
    assert found.error_class == "permanent"
    assert why in found.reason


HEAD = "name: s\nversion: 1\nscorer: contains_word\nsamples:\n"


def test_every_registered_scorer_is_one() -> None:
    of_tasks = {"lm_eval", "lm_eval_weighed"}
    for name in of_tasks:
        with pytest.raises(SuiteError, match=f"the scorer '{name}' needs the parameter 'task'"):
            build_scorer(ScorerSpec(name))
    for name in set(SCORERS.names()) - of_tasks:
        scorer = build_scorer(ScorerSpec(name))
        assert isinstance(scorer, Scorer)
        assert (scorer.name, bool(scorer.metrics)) == (name, True)


def test_samples_with_one_scorer_share_it(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        HEAD + "  - {id: a, prompt: Hi, target: x}\n  - {id: b, prompt: Hi, target: y}\n"
        "  - {id: c, prompt: Hi, target: 7, scorer: {name: final_number, tolerance: 0.5}}\n"
    )
    scorers = check_suite(load_suite(path))
    assert scorers["a"] is scorers["b"]
    assert scorers["c"].parameters == {"tolerance": "0.5"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{id: a, prompt: Hi}", "the sample 'a': it has no target"),
        ("{id: a, prompt: Hi, target: '\u00ad'}", "the sample 'a': its target is empty"),
        ("{id: a, prompt: Hi, target: x, scorer: final_number}", "its target 'x' is not one number"),
        (
            "{id: a, prompt: Hi, target: 7, scorer: {name: final_number, tolerence: 1}}",
            "the scorer 'final_number' has no parameter 'tolerence'; did you mean 'tolerance'?",
        ),
        ("{id: a, prompt: Hi, target: 7, scorer: {name: final_number, tolerance: -1}}", "at least 0, not -1"),
        ("{id: a, prompt: Hi, target: 7, scorer: {name: final_number, tolerance: [1]}}", "at least 0, not [1]"),
        (
            "{id: a, prompt: Hi, target: x, scorer: {name: contains_word, case_sensitive: 'no'}}",
            "must be true or false",
        ),
    ],
)
def test_a_sample_unfit_for_its_scorer_is_named_with_its_line(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(HEAD + f"  - {{id: ok, prompt: Hi, target: x}}\n  - {line}\n", encoding="utf-8")
    with pytest.raises(SuiteError) as caught:
        check_suite(load_suite(path))
    assert str(caught.value).startswith(f"{path}:6: ")
    assert sentence in str(caught.value)
