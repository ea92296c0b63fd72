"""Suite × model: bounded, resumable by key, failures and cut answers apart from wrong ones."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from assay.errors import UnsupportedOption
from assay.evaluated import SampleResult
from assay.evaluation import Subject, evaluate
from assay.models.base import ModelInfo
from assay.models.open import open_model
from assay.reasoning import final_answer
from assay.report.rows import rows
from assay.rescoring import journaled
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.keys import completion_key, seed_from
from assay.results.lens import Lens
from assay.results.records import CompletionMade, Failure, Run, ScoreMade, SuiteUse
from assay.scorers.judge import Judge
from assay.scorers.rubric_file import load_rubric
from assay.suites.suite import Suite, load_suite
from assay.types import Chunk, Completion, GenerateOptions, Json, Prompt, Sample, Score, Usage
from tests.making import written

SUITE = """\
name: small
version: 1
options: {temperature: 0, max_tokens: 4}
scorer: contains_word
samples:
  - {id: right, group: g, prompt: right, target: "yes"}
  - {id: wrong, group: g, prompt: wrong, target: "yes"}
  - {id: long, group: g, prompt: long, target: "yes"}
  - {id: number, group: g, prompt: number, target: "12", scorer: final_number}
  - {id: broken, group: g, prompt: broken, target: "yes"}
"""

SCRIPT = """\
answers:
  - {prompt: right, answer: "yes."}
  - {prompt: wrong, answer: "no"}
  - {prompt: long, answer: "on and on and on and on"}
  - {prompt: number, answer: "it is 1 2 3 4 5 12"}
  - {prompt: broken, fail: error}
"""


GIVEN = """\
default: '{"kindness": 3, "awareness": 4}'
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return load_suite(written(tmp_path / "suite.yaml", SUITE))


@dataclass
class Counting:
    """A model of a user's own: counts what is in flight, answers its prompt."""

    concurrency: int = 4
    asked: list[str] = field(default_factory=list)
    options: list[GenerateOptions] = field(default_factory=list)
    now: int = 0
    most: int = 0
    supported: frozenset[str] = frozenset({"temperature", "seed"})

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("counting", "counting", "1", "id", concurrency=self.concurrency, options=self.supported)

    async def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        self.asked.append(str(prompt))
        self.options.append(options)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.01 * (5 - len(self.asked) % 5))
            yield Chunk(str(prompt), "stop", Usage(1, 1))
        finally:
            self.now -= 1

    async def aclose(self) -> None: ...


async def test_wrong_cut_and_failed_are_three_different_things(suite: Suite, tmp_path: Path) -> None:
    model = await open_model(f"scripted:{written(tmp_path / 'script.yaml', SCRIPT)}")
    done = await evaluate(model, suite)
    await model.aclose()
    outcome = {r.sample.id: r for r in done.results}
    assert outcome["right"].scores[0].value is True
    assert outcome["wrong"].scores[0].value is False
    assert outcome["number"].failures[0].error_class == "truncated", "half a number may be all there is"
    assert outcome["broken"].answer is None
    assert outcome["broken"].failures[0].error_class == "permanent"
    assert (done.asked, done.failed, done.truncated) == (5, 1, 1 + (not outcome["long"].scores))
    assert done.scored == done.asked - done.failed - done.truncated


@pytest.mark.parametrize("limit", [1, 2])
async def test_no_more_are_in_flight_than_the_model_says(suite: Suite, limit: int) -> None:
    model = Counting(concurrency=limit)
    done = await evaluate(model, suite)
    assert model.most == limit
    assert [r.sample.id for r in done.results] == [s.id for s in suite.samples], "order doesn't depend on who is first"


async def test_what_is_journaled_is_not_asked_again(suite: Suite, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    model = Counting()
    await evaluate(model, suite, ledger=ledger, subject=Subject("r"), limit=2)
    assert len(model.asked) == 2
    ledger.close()
    ledger = Ledger(tmp_path)
    results: list[SampleResult] = []
    done = await evaluate(model, suite, ledger=ledger, subject=Subject("r"), on_result=results.append)
    assert sorted(model.asked) == sorted(s.id for s in suite.samples)
    assert [r.reused for r in done.results] == [s.id in model.asked[:2] for s in suite.samples]
    assert len(results) == 5
    again = await evaluate(model, suite, ledger=ledger, subject=Subject("another run"))
    assert len(model.asked) == 5, "another run of the same model pays nothing"
    assert [r.scores for r in again.results] == [r.scores for r in done.results]
    ledger.close()
    places = [(r.run, r.sample) for _, r in read(tmp_path) if isinstance(r, ScoreMade | Failure)]
    assert len(places) == len(set(places)) == 10, "each run has its own results, once"


@pytest.mark.parametrize(
    "change",
    [
        {"options": GenerateOptions(temperature=0.0, max_tokens=5)},
        {"options": GenerateOptions(temperature=0.5, max_tokens=4)},
    ],
)
async def test_other_options_are_another_question(
    suite: Suite, tmp_path: Path, change: dict[str, GenerateOptions]
) -> None:
    ledger = Ledger(tmp_path)
    model = Counting()
    await evaluate(model, suite, ledger=ledger)
    await evaluate(model, replace(suite, **change), ledger=ledger)
    assert len(model.asked) == 10
    ledger.close()


async def test_seeds_come_from_the_key_so_that_a_resumed_run_equals_an_undisturbed_one(suite: Suite) -> None:
    warm = replace(suite, options=GenerateOptions(temperature=0.8, max_tokens=4))
    one, two = Counting(), Counting()
    await evaluate(one, warm)
    await evaluate(two, warm, limit=3)
    seeds = dict(zip(one.asked, (o.seed for o in one.options), strict=True))
    assert len(set(seeds.values())) == 5
    assert None not in seeds.values()
    assert all(seeds[name] == o.seed for name, o in zip(two.asked, two.options, strict=True))
    assert seed_from(completion_key("id", None, "p", warm.options, 0)) != seed_from(
        completion_key("id", "adapter", "p", warm.options, 0)
    )


async def test_cancelling_ends_all_and_keeps_what_was_earned(suite: Suite, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    model = Counting(concurrency=1)
    task = asyncio.create_task(evaluate(model, suite, ledger=ledger))
    while len(model.asked) < 3:
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert model.now == 0
    await evaluate(model, suite, ledger=ledger)
    assert len(model.asked) == 6, "only the one in flight is asked again"
    ledger.close()


async def test_an_option_that_the_engine_lacks_is_said_before_anything_is_asked(suite: Suite) -> None:
    model = Counting(supported=frozenset({"seed"}))
    with pytest.raises(UnsupportedOption, match=r"cannot honour temperature=0\.7"):
        await evaluate(model, replace(suite, options=GenerateOptions(temperature=0.7)))
    assert model.asked == []


def run_record(suite: Suite, **change: object) -> Run:
    use = SuiteUse(name=suite.name, version=suite.version, digest=suite.digest, groups=suite.groups, goal=suite.goal)
    fields = {"run": "r", "base": "b", "engine": "counting", "engine_version": "1", "identity": "id", "suites": (use,)}
    return Run(**{**fields, **change})  # type: ignore[arg-type]


async def test_the_lens_counts_a_key_once_and_a_failure_until_it_is_mended(suite: Suite, tmp_path: Path) -> None:
    script = written(
        tmp_path / "script.yaml", SCRIPT.replace("{prompt: broken, fail: error}", "{prompt: broken, answer: x}")
    )
    ledger, other = Ledger(tmp_path), Ledger(tmp_path)
    model = await open_model(f"scripted:{script}")
    ledger.append(run_record(suite, identity=model.info.identity))
    for each in (ledger, other):  # two processes that knew nothing of one another
        await evaluate(model, suite, ledger=each, subject=Subject("r"))
        each.close()
    await model.aclose()
    assert sum(isinstance(r, CompletionMade) for _, r in read(tmp_path)) == 10
    with Lens(tmp_path) as lens:
        assert lens.query("select count(*), count(distinct key) from completions").rows == ((5, 5),)
        assert lens.query("select count(*) from cells").rows == ((5,),)
        assert [c.sample for c in lens.cells("r", "small")] == [s.id for s in suite.samples]


async def test_an_edited_suite_shows_its_own_results_only(suite: Suite, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    model = Counting()
    ledger.append(run_record(suite))
    await evaluate(model, suite, ledger=ledger, subject=Subject("r"))
    other = SUITE.replace('prompt: wrong, target: "yes"', "prompt: wrong, target: wrong")
    edited = load_suite(written(tmp_path / "suite.yaml", other))
    assert edited.digest != suite.digest
    ledger.append(run_record(edited))
    await evaluate(model, edited, ledger=ledger, subject=Subject("r"))
    ledger.close()
    assert len(model.asked) == 5, "a target is not part of the question"
    with Lens(tmp_path) as lens:
        values = {c.sample: c.value for c in lens.cells("r", "small")}
        assert values["wrong"] == 1.0
        assert len(values) == 5
        assert lens.query("select count(*) from all_cells").rows == ((10,),)


class Length:
    """A scorer whose numbers have no upper bound."""

    name, version, needs_whole_answer, metrics = "length", 1, False, ("length",)

    def __init__(self) -> None:
        self.parameters: dict[str, Json] = {}

    def check(self, sample: Sample) -> None:
        """Any will do."""

    async def score(self, sample: Sample, completion: Completion) -> list[Score]:
        return [Score("length", float(len(completion.text)), 0.0, math.inf)]


async def test_a_number_without_a_bound_is_journaled_read_and_shown(suite: Suite, tmp_path: Path) -> None:
    model = await open_model(f"scripted:{written(tmp_path / 'script.yaml', SCRIPT)}")
    found = []
    for _ in range(2):
        ledger = Ledger(tmp_path / "work")
        ledger.append(run_record(suite, identity=model.info.identity))
        done = await evaluate(model, suite, ledger=ledger, subject=Subject("r"), also=lambda _: [Length()])
        ledger.close()
        found.append([score for result in done.results for score in result.scores if score.metric == "length"])
    await model.aclose()
    assert found[0] == found[1], "the second time they come from the journal"
    assert {(score.low, score.high) for score in found[0]} == {(0.0, math.inf)}
    with Lens(tmp_path / "work") as lens:
        lengths = [cell for cell in lens.cells("r", "small") if cell.metric == "length" and cell.outcome == "scored"]
    assert {(cell.low, cell.high) for cell in lengths} == {(0.0, math.inf)}
    [row] = [row for row in rows(lengths, {}) if row.group == "g"]
    assert row.low is not None, "Student's, for the lengths differ"
    assert row.high is not None


async def test_an_answer_that_never_came_is_missing_under_each_scorers_own_name(suite: Suite, tmp_path: Path) -> None:
    model = await open_model(f"scripted:{written(tmp_path / 'script.yaml', SCRIPT)}")
    judging = await open_model(f"scripted:{written(tmp_path / 'j.yaml', GIVEN)}")
    judge = Judge(judging, load_rubric("toxigen"))
    ledger = Ledger(tmp_path)
    ledger.append(run_record(suite, identity=model.info.identity))
    await evaluate(model, suite, ledger=ledger, subject=Subject("r"), also=lambda _: (judge,))
    ledger.close()
    for opened in (model, judging):
        await opened.aclose()
    named = f"scripted:{tmp_path / 'j.yaml'}"
    with Lens(tmp_path) as lens:
        sql = "select metric, scorer, judge, outcome from cells where sample = 'broken' order by metric"
        assert lens.query(sql).rows == (
            ("awareness", "judge:toxigen", named, "failed"),
            ("correct", "contains_word", "", "failed"),
            ("kindness", "judge:toxigen", named, "failed"),
        )
        assert lens.query("select count(distinct measure) from cells where judge <> ''").rows == ((1,),)
        assert {c.metric for c in lens.cells("r", "small")} == {"correct", "kindness", "awareness"}


OPENED = """\
name: opened
version: 1
options: {temperature: 0, max_tokens: 4}
scorer: contains_word
samples:
  - {id: cut, raw: "cut? <think>\\n", target: "yes"}
  - {id: said, raw: "said? <think>\\n", target: "yes"}
  - {id: thought, raw: "thought? <think>\\n", target: "yes"}
  - {id: plain, raw: "plain?", target: "yes"}
"""

OPENED_SCRIPT = """\
answers:
  - {contains: cut, answer: "yes or no or what then"}
  - {contains: said, answer: "no</think> yes"}
  - {contains: thought, answer: "yes</think> no"}
  - {contains: plain, answer: "yes"}
"""


async def test_reasoning_that_the_prompt_opened_is_no_answer(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path / "suite.yaml", OPENED))
    model = await open_model(f"scripted:{written(tmp_path / 'script.yaml', OPENED_SCRIPT)}")
    ledger = Ledger(tmp_path)
    ledger.append(run_record(suite, identity=model.info.identity))
    done = await evaluate(model, suite, ledger=ledger, subject=Subject("r"))
    ledger.close()
    found = {result.sample.id: result for result in done.results}
    assert [f.error_class for f in found["cut"].failures] == ["truncated"]
    assert "within its reasoning" in found["cut"].failures[0].reason
    values = {name: [score.value for score in result.scores] for name, result in found.items()}
    assert values == {"cut": [], "said": [True], "thought": [False], "plain": [True]}
    assert found["cut"].answer is not None
    assert found["cut"].answer.text == "yes or no or", "the raw text is kept"
    with Lens(tmp_path) as lens:  # and scored anew, it is no answer either
        again = {place.sample: completion.text for place, _, completion in journaled(lens, "opened")}
    assert {name for name, text in again.items() if final_answer(text) is None} == {"cut"}
