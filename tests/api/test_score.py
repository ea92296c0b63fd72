"""Scoring from Python: what can be given, what comes back and how it shows itself."""

from __future__ import annotations

import asyncio
import builtins
import html
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from assay import (
    Answered,
    BadInput,
    Completion,
    Sample,
    Score,
    ScoreFailure,
    iterate_sync,
    read_answers,
    score,
    score_stream,
    score_sync,
)
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.records import ScoreMade
from assay.scorers.judge import Judge
from assay.scorers.match import ContainsWord, FinalNumber
from assay.scorers.rubric_file import load_rubric
from tests.cli.running import SEMANTIC, STANDARD, jsonl, script

MINE: list[dict[str, Any]] = [
    {"id": "sum", "prompt": "What is 2 + 2?", "response": "2 + 2 = 4", "target": "4"},
    {"id": "town", "prompt": "A town?", "response": "It is Zenda.", "target": ["Pyrus", "Zenda"]},
    {"id": "wrong", "prompt": "A town?", "response": "It is Rome.", "target": "Pyrus"},
]


def rows(found: Any) -> list[tuple[Any, ...]]:
    return [(row["id"], row["suite"], row["metric"], row["value"]) for row in found.to_dicts()]


def judge(folder: Path) -> str:
    return f"scripted:{script(folder / 'judge.yaml', [], default=SEMANTIC)}"


async def test_a_path_records_and_answers_give_the_same(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", MINE)
    wanted = [("sum", "contains_word", "correct", True), ("town", "contains_word", "correct", True)]
    wanted.append(("wrong", "contains_word", "correct", False))
    assert rows(await score(path, "contains_word")) == wanted
    assert rows(await score(str(path), ["contains_word"])) == wanted
    assert rows(await score(MINE, ContainsWord())) == wanted
    assert rows(await score((dict(one) for one in MINE), (ContainsWord(),))) == wanted
    assert rows(await score(read_answers(path), ["contains_word"])) == wanted
    assert MINE[0]["response"] == "2 + 2 = 4", "what was given is not taken apart"


async def test_functions_are_scorers() -> None:
    async def words(text: str) -> int:
        return len(text.split())

    def names_target(sample: Sample, text: str) -> bool | None:
        target = sample.reference["target"]
        return None if isinstance(target, list) else str(target) in text

    def broken(text: str) -> float:
        raise RuntimeError("no idea")

    found = await score(MINE, [words, names_target, broken, len, lambda text: text.isascii()])
    assert [suite for suite in found[0].scores if found[0].scores[suite]] == [
        "words",
        "names_target",
        "len",
        "<lambda>",
    ]
    assert [one.scores["words"] for one in found] == [{"words": 5}, {"words": 3}, {"words": 3}]
    assert [one.scores["names_target"].get("names_target") for one in found] == [True, None, False]
    assert [f["reason"] for f in found[1].failures if f["suite"] == "names_target"] == ["names_target gave no score"]
    assert {f["reason"] for one in found for f in one.failures if f["suite"] == "broken"} == {
        "the scorer 'broken' failed: RuntimeError: no idea"
    }
    averages = {row["suite"]: row for row in found.averages()}
    assert (averages["names_target"]["mean"], averages["names_target"]["correct"]) == (0.5, 1)
    assert (averages["words"]["mean"], averages["words"]["correct"]) == (pytest.approx(11 / 3), None)
    assert (averages["broken"]["asked"], averages["broken"]["scored"], averages["broken"]["failed"]) == (3, 0, 3)


async def test_a_function_sees_the_final_answer_and_none_that_was_cut_off() -> None:
    seen: list[str] = []

    def note(text: str) -> bool:
        seen.append(text)
        return True

    records = [
        {"prompt": "Q?", "response": "<think>Hm.</think>Yes."},
        {"prompt": "Q?", "response": "Cut o", "finish_reason": "length"},
        {"prompt": "Q?", "error": "gone"},
    ]
    found = await score(records, note)
    assert seen == ["Yes."]
    assert [f["error_class"] for one in found for f in one.failures] == ["truncated", "permanent"]


class Polite:
    """A scorer of one's own, with two metrics."""

    name = "polite"
    version = 3
    needs_whole_answer = False
    parameters: ClassVar[dict[str, Any]] = {}
    metrics = ("please", "thanks")

    def check(self, sample: Sample) -> None: ...

    async def score(self, sample: Sample, completion: Completion) -> list[Score | ScoreFailure]:
        return [Score(word, word in completion.text) for word in self.metrics]


async def test_scorers_of_ones_own_and_several_kinds_keep_their_order() -> None:
    found = await score([{"prompt": "Q?", "response": "thanks"}], [len, "lek", Polite(), FinalNumber()])
    assert list(found[0].scores) == ["len", "lek", "polite"], "and a scorer that needs a target asks for none"
    assert found[0].scores["polite"] == {"please": False, "thanks": True}
    assert "final_number scored nothing: no answer has target" in str(found)


def shouts(text: str) -> Any:
    return text.upper()


def two(text: str) -> Any:
    import numpy

    return numpy.array([1, 2])


@pytest.mark.parametrize(
    ("scorer", "wrong"),
    [
        (shouts, "returned str 'THANKS'; it may return True, False, a number or None"),
        (two, "returned ndarray array([1, 2]); it may return True, False, a number or None"),
        ("THANKS", "returned str 'THANKS'; it may return a list of Score and ScoreFailure"),
        ([1.0], "returned float 1.0 in a list; it may hold Score and ScoreFailure"),
        ([Score("please", "yes")], "returned a Score of str 'yes'; its value may be True, False or a number"),  # type: ignore[arg-type]
    ],
    ids=["text", "array", "no list", "numbers", "a text as value"],
)
async def test_a_scorer_that_returns_something_else_is_named_with_its_file(scorer: Any, wrong: str) -> None:
    class Wrong(Polite):
        async def score(self, sample: Sample, completion: Completion) -> Any:
            return scorer

    found = await score([{"prompt": "Q?", "response": "thanks"}], scorer if callable(scorer) else Wrong())
    for failure in found[0].failures:
        assert failure["error_class"] == "permanent"
        assert re.search(rf"\({re.escape(__file__)}:\d+\) {re.escape(wrong)}", failure["reason"]), failure
    assert found[0].failures


async def test_judges_by_spec_by_model_and_as_scorers(tmp_path: Path) -> None:
    from assay import open_model

    spec = judge(tmp_path)
    ledger = Ledger(tmp_path / "ws")
    assert (await score(MINE[:1], "semantic", judge=spec, ledger=ledger))[0].scores["semantic"] == SEMANTIC
    ledger.close()
    assert {r.metric for _, r in read(tmp_path / "ws") if isinstance(r, ScoreMade)} == set(SEMANTIC)
    model = await open_model(spec)
    assert (await score(MINE[:1], ["semantic"], judge=model))[0].scores["semantic"] == SEMANTIC
    own = await score(MINE, [Judge(model, load_rubric("semantic"))])
    assert own[2].scores == {"judge:semantic": SEMANTIC}
    await model.aclose()


class ZMQInteractiveShell:
    """By this name rich knows a notebook."""


async def test_what_comes_back_shows_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [*MINE, {"id": "<b>", "model": "<m>", "prompt": "Q?", "error": "no & never"}, {"prompt": "Q?"}, 7]
    found = await score(records, ["contains_word", "exact", len])  # type: ignore[list-item]
    text = str(found)
    assert text == found.table()
    with monkeypatch.context() as notebook:
        notebook.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
        assert str(found) == text
    assert capsys.readouterr().out == "", "it is text, and nothing is displayed beside it"
    assert "contains_word  correct  67% [21%–94%] (n=3)" in text
    assert "len            len" in text
    assert "exact scored nothing: no answer has correct_answer" in text
    assert "len: 1 without a score (permanent; <b> of <m>): the request failed: no & never" in text
    assert "2 could not be read:\nanswers: row 5: no 'response'; there are: prompt\nanswers: row 6: " in text
    page = found._repr_html_()
    assert "<td" in page
    assert "67% [21%–94%] (n=3)" in page
    assert "<m>" not in page
    assert html.escape("no & never") in page
    assert max(map(len, found.table(width=40).splitlines()[:6])) <= 40
    assert repr(found) == "<Scores of 4 answers; print it for the table>"
    assert (len(found), found[1].id, [one.id for one in found][2]) == (4, "town", "wrong")
    json.dumps([found.to_dicts(), found.averages()])
    last = found.to_dicts()[-1]
    assert (last["id"], last["model"], last["value"], last["error_class"]) == ("<b>", "<m>", None, "permanent")


async def test_many_answers_need_not_be_kept() -> None:
    taken = 0

    def many() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield {"prompt": "Q?", "response": str(number)}

    ids = []
    stream = score_stream(many(), len)
    async for one in stream:
        ids.append(one.id)
        if len(ids) == 5:
            break
    await stream.aclose()
    assert ids == ["1", "2", "3", "4", "5"]
    assert taken <= 6


def test_plain_calls_also_within_a_loop(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", STANDARD)
    assert [one.id for one in score_sync(path, "lek")] == [record["id"] for record in STANDARD]
    assert [one.id for one in iterate_sync(score_stream(path, ["exact"]))] == [record["id"] for record in STANDARD]

    async def cell() -> int:
        return len(score_sync(path, "semantic", judge=judge(tmp_path)))

    assert asyncio.run(cell()) == len(STANDARD)
    assert score_sync.__name__ == "score_sync"
    assert "plain call" in (score_sync.__doc__ or "")


def test_an_interrupt_ends_plain_calls_and_streams() -> None:
    ended: list[str] = []

    async def interrupted(text: str) -> bool:
        if text.startswith("2 + 2"):
            return True
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            ended.append(text)
        return True

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            score_sync(MINE, interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(iterate_sync(score_stream(MINE, interrupted)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(ended) == 2, "the work has come to its end before the interrupt is raised"


@pytest.mark.parametrize(
    ("answers", "scorers", "options", "sentence"),
    [
        (MINE, [], {}, "there is no scorer"),
        (MINE, "exct", {}, "there is no suite or scorer 'exct'; did you mean 'exact'?"),
        (MINE, "semantic", {}, "the suite 'semantic' needs a judge for the rubric 'semantic'; give one as judge"),
        (MINE, [len, len, lambda text, b, c: 1], {}, "a function takes the answer's text, or the sample and the text"),
        (MINE, [lambda: 1], {}, "<lambda> can't score"),
        (MINE, [FinalNumber(), FinalNumber("0.1")], {}, "two of the scorers are called 'final_number'"),
        (MINE, 7, {}, "a scorer must be a name, a scorer or a function, not int"),
        (MINE, "lek", {"votes": 0}, "votes must be a whole number from 1 to 99"),
        ([], "lek", {}, "answers: there are no answers in it"),
        ([{"prompt": "Q?"}, 7], "lek", {}, "answers: row 1: no 'response'; there are: prompt; none of the other 1"),
        ([MINE[0], {"prompt": "Q?"}], "lek", {"strict": True}, "answers: row 2: no 'response'"),
        (["a.jsonl", Path("b.jsonl")], "lek", {}, "answers are one file or records; score several files one by one"),
        ("nowhere.jsonl", "lek", {}, "nowhere.jsonl: there is no such file"),
        (MINE, "semantic", {"judge": "scripted:nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_mistakes_are_one_sentence(answers: Any, scorers: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        score_sync(answers, scorers, **options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_records_of_data_frames(tmp_path: Path) -> None:
    class Frame:
        columns = ("prompt", "response")

        def __iter__(self) -> Iterator[str]:
            return iter(self.columns)

    with pytest.raises(BadInput, match=r"give df.to_dict\('records'\)"):
        score_sync(Frame(), "lek")  # type: ignore[arg-type]
    gap = float("nan")
    records = [{"prompt": "Q?", "response": "7", "target": 7.0, "model": gap, "repeat": gap, "best_answer": gap}]
    found = score_sync([*records, {**records[0], "response": gap}], "contains_word")
    assert rows(found) == [("1", "contains_word", "correct", True)]
    assert found[0].answered.sample.reference == {"target": "7"}
    assert [str(bad) for bad in found.bad] == ["answers: row 2: response holds nothing: there is no answer"]


def test_an_answer_that_was_asked_again_did_not_fail() -> None:
    gone = {"id": "a", "prompt": "Q?", "error": "gone"}
    there = {"id": "a", "prompt": "Q?", "response": "Yes."}
    assert [one.failures for one in score_sync([gone, there], len)] == [[]]
    assert [len(one.failures) for one in score_sync(iter([gone, there]), len)] == [1, 0]
    answered = Answered("b", "m", Sample("b", "Q?"), "Yes.", None, 1)
    assert [one.model for one in score_sync([answered], len)] == ["m"]
