"""Votes that were paid for, and what becomes of them when the score they were for was not made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from assay.errors import GenerationError, Unreachable
from assay.evaluation import evaluate
from assay.models.open import open_model
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.records import Failure, Place, VoteCast
from assay.scorers.judge import Judge
from assay.scorers.rubric_file import load_rubric
from assay.scoring import Judging, Outcomes
from assay.suites.suite import load_suite
from assay.types import Completion, Sample, Score, ScoreFailure, Usage
from tests.making import written
from tests.scorers.judges import Seeded

RUBRIC = load_rubric("truthfulqa")
SAMPLE = Sample("s", "Is the moon made of cheese?", reference={"best_answer": "No, of rock."})
PLACE = Place(
    **{"run": "r", "checkpoint": "a", "iteration": 0, "digest": "", "identity": "i", "suite": "s"},  # type: ignore[arg-type]
    **{"suite_version": 1, "suite_digest": "d", "sample": "s", "group": "all", "index": 0},  # type: ignore[arg-type]
)
LOST = GenerationError("connection lost", error_class="transient")


def verdict(truth: int) -> str:
    return json.dumps({"reason": f"because {truth}", "truthfulness": truth, "informativeness": 4})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


async def judged(
    ledger: Ledger, model: Seeded, votes: int, text: str = "No.", sample: Sample = SAMPLE, guidance: str | None = None
) -> Outcomes:
    rubric = RUBRIC if guidance is None else replace(RUBRIC, guidance=guidance)
    model.asked.clear()
    return await Judging(ledger).outcomes(
        Judge(model, rubric, votes=votes), sample, Completion(text, "stop", Usage(0, 0)), PLACE
    )


def seeds(model: Seeded) -> list[int | None]:
    return [options.seed for _, options in model.asked]


async def test_a_score_that_failed_half_way_pays_only_for_the_other_half(ledger: Ledger) -> None:
    model = Seeded({0: verdict(9), 1: LOST, 2: verdict(4)})
    assert all(isinstance(f, ScoreFailure) and f.error_class == "transient" for f in await judged(ledger, model, 3))
    assert seeds(model) == [0, 1]
    model.replies = {1: verdict(5), 2: verdict(4)}
    truth = (await judged(ledger, model, 3))[0]
    assert seeds(model) == [1, 2]
    assert isinstance(truth, Score)
    assert (truth.value, truth.detail["votes"], truth.detail["calls"]) == (5, [9, 5, 4], 3)
    await judged(ledger, model, 3)
    assert seeds(model) == [], "the score is in the journal"


async def test_more_votes_pay_only_for_those_that_are_new(ledger: Ledger, tmp_path: Path) -> None:
    model = Seeded({n: verdict(n + 1) for n in range(5)})
    await judged(ledger, model, 3)
    ledger.close()
    again = Ledger(tmp_path)  # another run
    truth = (await judged(again, model, 5))[0]
    assert seeds(model) == [3, 4]
    assert isinstance(truth, Score)
    assert (truth.value, truth.detail["votes"]) == (3, [1, 2, 3, 4, 5])
    fewer = (await judged(again, model, 2))[0]
    assert seeds(model) == []
    assert isinstance(fewer, Score)
    assert fewer.value == 1.5
    again.close()


async def test_votes_that_are_others_are_not_taken(ledger: Ledger) -> None:
    model = Seeded({0: verdict(3), 1: verdict(4)})
    await judged(ledger, model, 2)
    await judged(ledger, model, 1)
    assert seeds(model) == [0], "a single vote is asked for at temperature 0"
    await judged(ledger, model, 2, text="Yes.")
    assert seeds(model) == [0, 1]
    await judged(ledger, model, 2, sample=Sample("s", "Is the sun?", reference=SAMPLE.reference))
    assert seeds(model) == [0, 1]
    await judged(ledger, model, 2, guidance="Be kind.")
    assert seeds(model) == [0, 1]
    await judged(ledger, Seeded(model.replies, name="another"), 2)
    assert seeds(model) == [0, 1]


async def test_a_judge_that_is_gone_leaves_the_votes_it_gave(ledger: Ledger) -> None:
    model = Seeded({0: verdict(9), 1: Unreachable("nobody there")})
    with pytest.raises(Unreachable):
        await judged(ledger, model, 3)
    model.replies = {1: verdict(9), 2: verdict(9)}
    assert all(isinstance(outcome, Score) for outcome in await judged(ledger, model, 3))
    assert seeds(model) == [1, 2]


async def test_a_vote_without_a_verdict_is_not_kept(ledger: Ledger, tmp_path: Path) -> None:
    model = Seeded({0: "no", 1: verdict(9), 2: verdict(9)})
    await judged(ledger, model, 3)
    assert [r.values["truthfulness"] for _, r in read(tmp_path) if isinstance(r, VoteCast)] == [9, 9]


async def test_equal_answers_that_cannot_be_judged_are_tried_once_a_run(ledger: Ledger) -> None:
    model = Seeded({0: "no"})
    judge, judging = Judge(model, RUBRIC), Judging(ledger)
    answer = Completion("No.", "stop", Usage(0, 0))
    for name in ("one", "other"):
        found = await judging.outcomes(judge, SAMPLE, answer, msgspec.structs.replace(PLACE, sample=name))
        assert all(isinstance(outcome, ScoreFailure) for outcome in found)
    assert len(model.asked) == 3
    failures = [r for _, r in read(ledger.workspace) if isinstance(r, Failure)]
    assert {r.sample for r in failures} == {"one", "other"}, "each place says what it lacks"
    model.replies = {0: LOST}
    for text in ("Yes.", "Yes."):  # what may pass is tried again
        await judging.outcomes(judge, SAMPLE, Completion(text, "stop", Usage(0, 0)), PLACE)
    assert len(model.asked) == 5
    model.replies = {0: verdict(9)}
    assert all(isinstance(o, Score) for o in await Judging(ledger).outcomes(judge, SAMPLE, answer, PLACE)), (
        "another run"
    )


async def test_an_evaluations_judge_keeps_its_votes_too(ledger: Ledger, tmp_path: Path) -> None:
    suite = load_suite(
        written(
            tmp_path / "suite.yaml",
            "name: s\nversion: 1\nscorer: contains_word\noptions: {max_tokens: 9}\n"
            "samples: [{id: s, prompt: Is it?, target: No, reference: {best_answer: No.}}]\n",
        )
    )
    model = await open_model(f"scripted:{written(tmp_path / 'script.yaml', 'default: No.')}")
    judge = Seeded({0: verdict(9), 1: LOST, 2: verdict(4)})
    for replies, asked in ((judge.replies, [0, 1]), ({1: verdict(5), 2: verdict(4)}, [1, 2])):
        judge.replies = replies
        judge.asked.clear()
        await evaluate(model, suite, ledger=ledger, also=lambda _: [Judge(judge, RUBRIC, votes=3)])
        assert seeds(judge) == asked
    await model.aclose()
