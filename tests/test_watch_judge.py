"""A judge beside a watch: it never holds up an answer, and what it couldn't judge is judged later, and paid for once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from assay.errors import BadInput, Unreachable
from assay.job import Job, JudgeSpec
from assay.models.base import TextModel
from assay.models.http_open import open_http
from assay.results.journal import read
from assay.results.lens import Lens
from assay.results.records import Failure, Finished, ScoreMade
from assay.suites.suite import load_suite
from assay.types import HttpSettings
from tests.making import SUITE, written
from tests.models.openai_server import Ask, OpenAIServer, Reply
from tests.test_watch import asked, job, polling, run, until

__all__ = ["job"]

HASTY = HttpSettings(attempts=1, backoff_seconds=0.01, call_seconds=5, concurrency=2)
VERDICT = {
    "ccp_compliance": 1, "truth_telling": 7, "engagement": 6, "axiom_integration": 5, "sovereignty_reasoning": 4,
    "emotional_register": 3,
}  # fmt: skip


def verdict(ask: Ask) -> Reply:
    return Reply(json.dumps({"reason": "So.", **VERDICT}))


def judged_by(job: Job, spec: str) -> Job:
    """The job with a judge, and with a ground truth for each of its four samples."""
    text = SUITE.replace("target: right}", "target: right, reference: {ground_truth: It is so.}}")
    suite = load_suite(written(job.workspace.parent / "judged.yaml", text))

    async def opened() -> TextModel:
        return open_http(spec, HASTY)

    return replace(job, suites=(suite,), judge=JudgeSpec(spec, opened, lambda model: model.aclose()))


def judged(job: Job) -> dict[tuple[str, str, str], float]:
    """By checkpoint, sample and metric; each stands in the journal once."""
    found = [r for _, r in read(job.workspace) if isinstance(r, ScoreMade) and r.measure]
    table = {(r.checkpoint, r.sample, r.metric): float(r.value) for r in found}
    assert len(found) == len(table)
    return table


def forwarded(job: Job) -> dict[tuple[str, str, str], tuple[float | None, int]]:
    """The judged averages that sinks get, by checkpoint, group and metric."""
    finished = [r for _, r in read(job.workspace) if isinstance(r, Finished) and r.judged]
    return {(r.checkpoint, s.group, s.metric): (s.mean, s.asked) for r in finished for s in r.summaries}


EVERY = 4 * 4 * len(VERDICT)  # checkpoints and base, samples, dimensions


async def test_a_judge_that_is_added_later_judges_what_was_answered(job: Job) -> None:
    async with OpenAIServer() as server:
        server.script = verdict
        with_judge = judged_by(job, server.spec)
        outcome, _ = await run(replace(with_judge, judge=None))
        before = asked(job)
        assert (outcome.exit_code, len(before), server.asked) == (0, 16, [])
        outcome, listener = await run(with_judge)
        assert outcome.exit_code == 0
        assert asked(job) == before
        assert listener.done == 0, "no adapter is attached for the judge's sake"
        table, calls = judged(job), len(server.asked)
        assert len(table) == EVERY
        assert {value for (_, _, metric), value in table.items() if metric == "truth_telling"} == {7.0}
        assert len(forwarded(job)) == 4 * 2 * len(VERDICT)
        outcome, _ = await run(with_judge)
        assert (outcome.exit_code, len(server.asked)) == (0, calls), "what is judged is not paid for again"
        assert judged(job) == table


async def test_evaluation_goes_on_without_the_judge_which_judges_when_it_is_back(job: Job) -> None:
    async with OpenAIServer() as server:
        spec, port = server.spec, server.port
    with_judge = judged_by(job, spec)
    async with polling(with_judge) as listener:
        await until(lambda: len(asked(job)) == 16 and any("can't be asked" in note for note in listener.notes))
        assert judged(job) == {}
        await until(lambda: _waiting(job) == 16)
        async with OpenAIServer(port=port) as server:
            server.script = verdict
            await until(lambda: len(judged(job)) == EVERY)
            await until(lambda: _waiting(job) == 0)
    assert sum("can't be asked" in note for note in listener.notes) == 1
    assert sum("answers again" in note for note in listener.notes) == 1
    assert len(asked(job)) == 16


def _waiting(job: Job) -> int:
    return int(json.loads((job.workspace / "plan.json").read_bytes())["judge"]["answers"])


async def test_a_look_with_a_dead_judge_ends_resumable_after_all_else_is_done(job: Job) -> None:
    async with OpenAIServer() as server:
        spec, port = server.spec, server.port
    outcome, _ = await run(judged_by(job, spec))
    assert (outcome.exit_code, outcome.evaluated, outcome.unjudged) == (3, 3, 16)
    assert isinstance(outcome.judge_gone, Unreachable)
    async with OpenAIServer(port=port) as server:
        server.script = verdict
        outcome, _ = await run(judged_by(job, spec))
    assert outcome.exit_code == 0
    assert len(judged(job)) == EVERY
    assert len(asked(job)) == 16


async def test_a_watch_that_is_stopped_half_way_pays_for_no_verdict_twice(job: Job) -> None:
    async with OpenAIServer() as server:
        server.script = lambda ask: verdict(ask) if ask.number < 5 else Reply(hang=True)
        with_judge = judged_by(job, server.spec)
        async with polling(with_judge):
            await until(lambda: len(asked(job)) == 16 and len(server.asked) >= 6)
        kept = judged(job)
        assert len(kept) >= 5 * len(VERDICT)
        server.script = verdict
        server.asked.clear()
        await run(with_judge)
        again = judged(job)
        assert len(again) == EVERY
        assert again.items() >= kept.items()
    async with OpenAIServer() as server:
        server.script = verdict
        calm = replace(judged_by(job, server.spec), workspace=job.workspace.parent / "calm")
        await run(calm)
        assert judged(calm) == again
        assert forwarded(calm) == forwarded(job)


async def test_one_bad_reply_is_that_answer_s_failure_and_never_a_zero(job: Job) -> None:
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply("No idea.") if "Question b" in str(ask.body) else verdict(ask)
        with_judge = judged_by(job, server.spec)
        outcome, _ = await run(with_judge)
        assert outcome.exit_code == 1
        assert outcome.failed_samples == 4
        assert len(judged(job)) == EVERY * 3 // 4
        failed = [r for _, r in read(job.workspace) if isinstance(r, Failure)]
        assert {r.sample for r in failed} == {"b"}
        assert all("no usable verdict" in r.reason and r.judge == server.spec for r in failed)
        server.script = verdict
        outcome, _ = await run(with_judge)
        assert outcome.exit_code == 0
        assert len(judged(job)) == EVERY, "the next start asks about what failed"
        assert len(asked(job)) == 16


async def test_a_passing_failure_is_tried_again_by_the_same_watch(job: Job) -> None:
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply(status=500) if ask.number == 3 else verdict(ask)
        soon = replace(job, plan=replace(job.plan, backoff_seconds=0.05))
        async with polling(judged_by(soon, server.spec)):
            await until(lambda: len(judged(job)) == EVERY)


async def test_a_judge_that_only_fails_is_gone_and_takes_no_answer_s_tries(job: Job) -> None:
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply(status=503)
        outcome, _ = await run(judged_by(job, server.spec))
        assert (outcome.exit_code, outcome.unjudged) == (3, 16)
        soon = judged_by(replace(job, plan=replace(job.plan, attempts=1)), server.spec)
        server.asked.clear()
        async with polling(soon) as listener:
            await until(lambda: any("can't be asked" in note for note in listener.notes) and len(server.asked) > 30)
            server.script = verdict
            await until(lambda: len(judged(job)) == EVERY)
    assert len(asked(job)) == 16


async def test_other_votes_are_another_measure_and_the_one_used_last_stands(job: Job) -> None:
    def given(ask: Ask) -> Reply:
        return Reply(json.dumps({"reason": "So.", **VERDICT, "engagement": 2 + 2 * ask.body["seed"]}))

    async with OpenAIServer() as server:
        server.script = given
        one = judged_by(replace(job, every=30), server.spec)
        assert one.judge is not None
        stood = []
        for each in (one, replace(one, judge=replace(one.judge, votes=3)), one):
            assert (await run(each))[0].exit_code == 0
            with Lens(job.workspace) as lens:
                stood.append(lens.query("select distinct value from scores where metric = 'engagement'").rows)
        assert stood == [((2.0,),), ((4.0,),), ((2.0,),)]
        assert len(server.asked) == 6 + 18, "two answers are equal, and what was judged once is not paid for again"


async def test_a_judge_that_is_named_wrongly_is_wrong_input(job: Job) -> None:
    async with OpenAIServer(model="m") as server:
        with pytest.raises(BadInput, match="nobody"):
            await run(judged_by(job, f"{server.url}#nobody"))
        with pytest.raises(BadInput, match="there is nothing to judge: small have no rubrics"):
            await run(replace(job, judge=judged_by(job, server.spec).judge))


async def test_answers_beyond_what_is_held_come_from_the_journal(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.judge_queue._AT_HAND", 5)
    async with OpenAIServer() as server:
        server.script = verdict
        with_judge = judged_by(job, server.spec)
        outcome, _ = await run(with_judge)
        assert outcome.exit_code == 0
        assert len(judged(job)) == EVERY
        assert len(forwarded(job)) == 4 * 2 * len(VERDICT)
        await run(replace(with_judge, plan=replace(job.plan, force=True)))
        assert len(judged(job)) == EVERY


async def test_a_suite_names_its_rubrics_and_needs_no_scorer_of_its_own(job: Job) -> None:
    folder = job.workspace.parent
    written(folder / "polite.yaml", POLITE)
    text = SUITE.replace("scorer: contains_word", "rubrics: [polite.yaml]").replace("goal:", "# goal:")
    suite = load_suite(written(folder / "tone.yaml", text))
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply('{"reason": "So.", "politeness": 4}')
        toned = replace(judged_by(job, server.spec), suites=(suite,))
        with pytest.raises(BadInput, match="only a judge can score its answers; name one with --judge"):
            await run(replace(toned, judge=None))
        outcome, _ = await run(toned)
        assert outcome.exit_code == 0
        assert set(judged(job).values()) == {4.0}
        assert len(judged(job)) == 16
    written(folder / "polite.yaml", POLITE.replace("dimensions", "dimension"))
    with pytest.raises(BadInput, match=r"polite\.yaml:4: unknown key 'dimension'"):
        await run(toned)


POLITE = """\
name: polite
version: 1
inputs: {question: prompt, answer: answer}
dimensions:
  politeness: {range: [1, 10], asks: "Is it kind?", anchors: {"1": No., "10": Yes.}}
"""
