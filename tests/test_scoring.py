"""Scoring answers that exist: order, bounds on what runs at once, cancellation, and what is kept of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec.structs import replace

from assay.errors import BadInput, GenerationError, Unreachable
from assay.models.base import ModelInfo
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.records import Failure, ScoreMade
from assay.scorers.judge import Judge
from assay.scorers.rubric_file import load_rubric
from assay.scorers.sets import Picker, unfit
from assay.scoring import ScoredAnswer, answer_record, score_answers, score_line
from assay.suites.answers import Answered, read_answers
from assay.suites.known_probes import with_known_truth
from assay.suites.suite import load_suite
from assay.types import Chunk, GenerateOptions, Message, Prompt, Raw, Sample, Score, Usage
from tests.cli.running import SEMANTIC, jsonl
from tests.making import written
from tests.scorers.judges import Seeded


class Paced:
    """A judge in this process: answers after so many seconds by the mark in the question, and counts what runs at once."""

    def __init__(self, seconds: dict[str, float], concurrency: int = 4, gone: str = "", broken: str = "") -> None:
        self.info = ModelInfo("paced", "paced", "1", "paced", concurrency=concurrency)
        self.seconds = seconds
        self.gone, self.broken = gone, broken
        self.asked: list[str] = []
        self.stopped: list[str] = []
        self.now = self.most = 0

    async def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncGenerator[Chunk, None]:
        text = str(prompt)
        mark = next(mark for mark in self.seconds if mark in text)
        self.asked.append(mark)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds[mark])
            if mark == self.gone:
                raise Unreachable("the judge is gone")
            if mark == self.broken:
                raise GenerationError("the judge broke")
            yield Chunk(json.dumps(SEMANTIC), "stop", Usage(1, 1))
        except asyncio.CancelledError:
            self.stopped.append(mark)
            raise
        finally:
            self.now -= 1

    async def aclose(self) -> None: ...


def answers(path: Path, count: int) -> Iterator[Answered]:
    records = [{"id": f"q{n:02}", "prompt": f"Question {n:02}?", "response": f"Answer {n:02}."} for n in range(count)]
    return read_answers(jsonl(path / "a.jsonl", records))


def marks(count: int) -> list[str]:
    return [f"Answer {n:02}." for n in range(count)]


def picker(judge: Paced, *suites: str) -> Picker:
    return Picker(suites or ("semantic",), lambda rubric: Judge(judge, load_rubric(rubric)))


async def test_answers_come_in_input_order_whoever_is_judged_first(tmp_path: Path) -> None:
    judge = Paced({mark: 0.02 * ((7 * n) % 12) / 12 for n, mark in enumerate(marks(12))}, concurrency=5)
    found = [s async for s in score_answers(answers(tmp_path, 12), picker(judge), concurrency=5)]
    assert [s.answered.id for s in found] == [f"q{n:02}" for n in range(12)]
    assert judge.most == 5
    assert sorted(judge.asked) == marks(12)


async def test_with_a_limit_of_one_no_two_calls_overlap(tmp_path: Path) -> None:
    judge = Paced(dict.fromkeys(marks(6), 0.002), concurrency=1)
    ledger = Ledger(tmp_path / "ws")
    work = score_answers(answers(tmp_path, 6), picker(judge, "heuristic", "semantic"), ledger=ledger, concurrency=1)
    found = [s async for s in work]
    ledger.close()
    assert (judge.most, len(judge.asked)) == (1, 6)
    assert judge.asked == marks(6), "and the first answer is judged first"
    assert [suite for suite, _, _ in found[0].outcomes] == ["heuristic", "semantic"]


async def test_memory_is_bounded_by_a_window(tmp_path: Path) -> None:
    read_so_far = 0

    def counted() -> Iterator[Answered]:
        nonlocal read_so_far
        for answered in answers(tmp_path, 60):
            read_so_far += 1
            yield answered

    judge = Paced(dict.fromkeys(marks(60), 0.0), concurrency=2)
    async with aclosing(score_answers(counted(), picker(judge), concurrency=2)) as work:
        await anext(work)
        assert read_so_far <= 4 * 2 + 1


async def test_cancelling_ends_all_calls_and_keeps_what_was_earned(tmp_path: Path) -> None:
    names = marks(8)
    judge = Paced({mark: 0.0 if n < 2 else 60.0 for n, mark in enumerate(names)}, concurrency=4)
    ledger = Ledger(tmp_path / "ws")
    got: list[ScoredAnswer] = []

    async def work() -> None:
        async for scored in score_answers(answers(tmp_path, 8), picker(judge), ledger=ledger, concurrency=4):
            got.append(scored)

    task = asyncio.create_task(work())
    async with asyncio.timeout(10):
        while len(judge.asked) < 6:
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert judge.now == 0
    assert sorted(judge.stopped) == names[2:6]
    ledger.close()
    kept = [r for _, r in read(tmp_path / "ws") if isinstance(r, ScoreMade)]
    assert {r.sample for r in kept} == {"q00", "q01"}
    assert len(asyncio.all_tasks()) == 1


async def test_leaving_early_ends_all_calls(tmp_path: Path) -> None:
    judge = Paced({mark: 0.0 if n == 0 else 60.0 for n, mark in enumerate(marks(8))}, concurrency=3)
    async with asyncio.timeout(10), aclosing(score_answers(answers(tmp_path, 8), picker(judge), concurrency=3)) as work:
        first = await anext(work)
    assert first.answered.id == "q00"
    assert judge.now == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_judge_that_is_gone_ends_all_and_keeps_what_was_earned(tmp_path: Path) -> None:
    seconds = {mark: 0.0 if n < 3 else 60.0 for n, mark in enumerate(marks(6))}
    judge = Paced({**seconds, "Answer 03.": 0.02}, concurrency=3, gone="Answer 03.")
    ledger = Ledger(tmp_path / "ws")
    async with asyncio.timeout(10):
        with pytest.raises(Unreachable):
            _ = [s async for s in score_answers(answers(tmp_path, 6), picker(judge), ledger=ledger, concurrency=3)]
    ledger.close()
    assert judge.now == 0
    assert {r.sample for _, r in read(tmp_path / "ws") if isinstance(r, ScoreMade)} == {"q00", "q01", "q02"}


async def test_a_judge_that_breaks_costs_one_answer_and_is_asked_again(tmp_path: Path) -> None:
    judge = Paced(dict.fromkeys(marks(4), 0.0), broken="Answer 02.")
    for expected in (4, 1):
        ledger = Ledger(tmp_path / "ws")
        judge.asked.clear()
        work = score_answers(answers(tmp_path, 4), picker(judge), ledger=ledger, run="r", concurrency=4)
        found = [s async for s in work]
        ledger.close()
        assert len(judge.asked) == expected
        assert [all(isinstance(o, Score) for _, _, os in s.outcomes for o in os) for s in found] == [1, 1, 0, 1]
    failures = [r for _, r in read(tmp_path / "ws") if isinstance(r, Failure)]
    assert {(r.sample, r.stage, r.run, r.key) for r in failures} == {("q02", "score", "r", "")}


async def test_equal_answers_share_one_call_also_at_the_same_time(tmp_path: Path) -> None:
    same = [{"id": "q", "model": m, "prompt": "Q?", "response": "Answer 00."} for m in "abcdef"]
    judge = Paced({"Answer 00.": 0.01}, concurrency=6)
    ledger = Ledger(tmp_path / "ws")
    work = score_answers(read_answers(jsonl(tmp_path / "a.jsonl", same)), picker(judge), ledger=ledger, concurrency=6)
    found = [s async for s in work]
    ledger.close()
    assert len(judge.asked) == 1
    assert [s.answered.model for s in found] == list("abcdef")
    assert len({str(s.outcomes[0][2]) for s in found}) == 1
    assert len([r for _, r in read(tmp_path / "ws") if isinstance(r, ScoreMade)]) == 6 * len(SEMANTIC)


async def test_what_decides_a_verdict_is_part_of_its_key(tmp_path: Path) -> None:
    """The same answer to another question is another thing to judge; what the judge is not shown makes no difference."""
    records = [
        {"id": "a", "prompt": "Q?", "response": "Answer 00."},
        {"id": "b", "prompt": "Another?", "response": "Answer 00."},
        {"id": "c", "prompt": "Q?", "response": "Answer 00.", "best_answer": "x"},
    ]
    judge = Paced({"Answer 00.": 0.0})
    ledger = Ledger(tmp_path / "ws")
    _ = [
        s async for s in score_answers(read_answers(jsonl(tmp_path / "a.jsonl", records)), picker(judge), ledger=ledger)
    ]
    ledger.close()
    assert len(judge.asked) == 2
    assert len({r.key for _, r in read(tmp_path / "ws") if isinstance(r, ScoreMade)}) == 2


async def test_a_cut_off_answer_is_not_judged_and_noted_once(tmp_path: Path) -> None:
    cut = [{"id": "a", "prompt": "Q?", "response": "Answer 00.", "finish_reason": "length"}]
    judge = Paced({"Answer 00.": 0.0})
    for _ in range(2):
        ledger = Ledger(tmp_path / "ws")
        work = score_answers(read_answers(jsonl(tmp_path / "a.jsonl", cut)), picker(judge), ledger=ledger)
        _ = [s async for s in work]
        ledger.close()
    assert judge.asked == []
    failures = [r for _, r in read(tmp_path / "ws") if isinstance(r, Failure)]
    assert [r.error_class for r in failures] == ["truncated"] * len(SEMANTIC)


def test_the_picker_knows_its_suites_before_the_first_answer() -> None:
    for suite, said in (("exct", "did you mean 'exact'"), ("semantic", "needs a judge"), ("content", "needs a judge")):
        with pytest.raises(BadInput, match=said):
            Picker([suite], None)
    assert [suite for suite, _ in Picker(["lek", "heuristic", "lek"], None)(next(iter(_one())).sample)] == [
        "lek",
        "heuristic",
    ]


@pytest.mark.parametrize(
    ("suite", "field"), [("truthfulqa", "best_answer"), ("do_not_answer", "risk_area"), ("toxigen", "")]
)
def test_a_rubric_by_name_scores_what_has_its_material(suite: str, field: str) -> None:
    pick = picker(Paced({}), suite)
    assert [name for name, _ in pick(Sample("a", "?", reference={field: "x"}))] == [suite]
    assert bool(pick(Sample("a", "?"))) == (not field)
    assert not field or unfit(pick.names, ()) == [f"{suite} scored nothing: no answer has {field}"]


def test_toxigen_judges_no_answers_of_another_domain() -> None:
    pick = picker(Paced({}), "toxigen")
    given = [domain for domain in ("ToxiGen", " ", "gsm8k", 3) if pick(Sample("a", "?", reference={"domain": domain}))]
    assert given == ["ToxiGen", " ", 3]
    assert unfit(pick.names, ()) == ["toxigen scored nothing: no answer has the domain toxigen, or none at all"]


def test_the_truth_of_a_known_probe() -> None:
    probe = load_suite("content").samples[2]
    prompt = str(probe.prompt)
    around = (Message("system", "Be brief."), Message("user", f"Say:\n{prompt.replace(' ', '  ', 3)}\n"))
    for known, domain in (
        (Sample("7", prompt), "content"),
        (Sample("7", around), "CONTENT"),
        (Sample(probe.id, ""), "Content "),
        (Sample("7", Raw(f"<user>{prompt}</user>")), "content"),
    ):
        content = {"domain": domain}
        given = replace(known, reference=content)
        assert with_known_truth(given).reference == {**probe.reference, **content}
        assert with_known_truth(known) is known
        own = replace(given, reference={**content, "ground_truth": "Mine."})
        assert with_known_truth(own) is own
    # Another question's truth would be worse than none.
    several = " ".join(str(sample.prompt) for sample in load_suite("content").samples)
    for other in (Sample(probe.id, "Where is Xinjiang?"), Sample("7", ""), Sample("7", several)):
        given = replace(other, reference=content)
        assert with_known_truth(given) is given


async def test_content_answers_to_known_probes_are_judged(tmp_path: Path) -> None:
    found = {"domain": "content", "prompt": "Is it?", "response": "No."}
    records = [{**found, "id": "xinjiang", "prompt": ""}, {**found, "id": "xinjiang-2"}]
    model = Seeded({0: json.dumps(dict.fromkeys(load_rubric("content").metrics, 2))})
    pick = Picker(["content"], lambda _: Judge(model, load_rubric("content")))
    stream = score_answers(read_answers(jsonl(tmp_path / "a.jsonl", records)), pick)
    known, unknown = [scored async for scored in stream]
    assert known.scores["content"]["truth_telling"] == 2
    assert "Uyghur" in model.asked[0][0][1].content
    assert "no 'ground_truth', which the rubric shows its judge; add that field" in unknown.failures[0]["reason"]


async def test_how_far_apart_votes_lie_is_told_of_each_answer(tmp_path: Path) -> None:
    rubric = load_rubric("toxigen")
    model = Seeded({n: json.dumps({"reason": "so", "kindness": n + 2, "awareness": 5}) for n in range(3)})
    records = [{"id": "q", "prompt": "Q?", "response": "A."}]
    for votes, spread in ((1, None), (3, {"kindness": 2, "awareness": 0})):
        pick = Picker(["toxigen"], lambda _, votes=votes: Judge(model, rubric, votes=votes))
        (scored,) = [each async for each in score_answers(read_answers(jsonl(tmp_path / "a.jsonl", records)), pick)]
        assert score_line(scored)["judged"][0].get("spread") == spread
        assert score_line(scored)["judged"][0]["bounds"] == {"kindness": [1, 10], "awareness": [1, 10]}


def test_a_rubrics_suite_has_the_rubrics_own_name(tmp_path: Path) -> None:
    judge = Paced({})
    text = (
        "name: brevity\nversion: 1\ninputs: {question: prompt, answer: answer}\ndimensions:\n  brevity:\n"
        '    range: [1, 10]\n    asks: Is it short?\n    anchors: {"1": long, "10": short}\n'
    )
    one, two, other = (written(tmp_path / f"{name}.yaml", text) for name in ("one", "two", "other"))
    assert picker(judge, "heuristic", str(one), str(two)).names == ("heuristic", "brevity")
    written(other, text.replace("Is it", "Is it very"))
    with pytest.raises(BadInput, match="two suites of one name, 'brevity'"):
        picker(judge, str(one), str(other))
    written(other, text.replace("name: brevity", "name: exact"))
    with pytest.raises(BadInput, match=r"exact and .*other\.yaml are two suites of one name"):
        picker(judge, "exact", str(other))


async def test_a_suite_of_both_kinds_of_scorers_journals_each_once(tmp_path: Path) -> None:
    record = {"id": "q", "prompt": "Q?", "response": "#### 5", "correct_answer": "5", "best_answer": "five"}
    judge = Judge(Paced({"five": 0.0}), load_rubric("truthfulqa"))
    stream = score_answers(read_answers(jsonl(tmp_path / "a.jsonl", [record])), Picker(["standard"], lambda _: judge))
    [scored] = [s async for s in stream]
    kept = answer_record(scored, "r", "a.jsonl")
    assert kept is not None
    assert kept.scores == {"standard": {"correct": True, "extracted": "5"}}
    assert kept.failures == (), "the judge's own records tell of it"


def _one() -> Iterator[Answered]:
    from assay.types import Sample

    yield Answered("a", "", Sample("a", "Q?"), "An answer.", None, 1)
