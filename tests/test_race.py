"""Suites of every kind over several models at once, into one journal: it comes to what one after the other comes to.

Latencies are drawn at random, from a seed of each run; a verdict depends on what is judged alone.
"""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assay.evaluated import Evaluation
from assay.evaluation import Subject, evaluate
from assay.models.base import ModelInfo, TextModel
from assay.models.open import open_model
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.records import CompletionMade, Failure, Record, ScoreMade
from assay.scorers.base import Scorer
from assay.scorers.judge import Judge
from assay.scorers.rubric_file import load_rubric
from assay.scorers.sets import Picker
from assay.scoring import ScoredAnswer, score_answers
from assay.suites.answers import read_answers
from assay.suites.suite import Suite, load_suite
from assay.types import Chunk, GenerateOptions, Prompt, Sample, Usage
from tests.cli.running import SEMANTIC, jsonl
from tests.making import written
from tests.models.http_opened import opened
from tests.models.openai_server import Ask, OpenAIServer, Reply

SUITE = """\
name: all-kinds
version: 1
options: {temperature: 0, max_tokens: 12}
samples:
  - {id: word, group: text, prompt: Name a town., target: Pyrus, scorer: contains_word}
  - {id: number, group: text, prompt: How many legs?, target: "4", scorer: final_number}
  - {id: sum, group: text, prompt: Add 3 and 4., target: "7", scorer: final_answer}
  - {id: again, group: text, prompt: Add 3 and 4., target: "7", scorer: final_answer}
  - {id: probe, group: probes, prompt: Add 5 and 4., target: "9", scorer: {name: probe_answer, kind: number}}
  - {id: letter, group: exact, prompt: A or B?, target: B, scorer: choice}
  - {id: gsm, group: exact, prompt: Add 8 and 9., target: "17", scorer: gsm8k_v1}
  - {id: marks, group: heuristic, prompt: What happened?, reference: {fact_markers: [rain, snow]}, scorer: markers}
  - {id: style, group: heuristic, prompt: Write a verse., scorer: lek}
  - {id: long, group: text, prompt: Go on and on., target: "1", scorer: final_number}
  - {id: broken, group: text, prompt: Break., target: "1", scorer: final_number}
"""
ANSWERS = {
    "Name a town.": "It is Pyrus.",
    "How many legs?": "There are 4.",
    "Add 3 and 4.": "3 + 4 = 7",
    "Add 5 and 4.": "The answer is 9.",
    "A or B?": "B",
    "Add 8 and 9.": "#### 17",
    "What happened?": "There was rain.",
    "Write a verse.": "Whisper of shadow and light",
}
EARLIER = [
    {"id": f"e{n}", "model": "old", "prompt": f"Question {n}?", "response": f"Answer {n}.", "target": str(n % 3)}
    for n in range(8)
]
RUBRICS = ("semantic", "toxigen")


@dataclass
class Paced:
    """A judge in this process, as many at once as it is told; its verdict is a digest of what it is shown."""

    latency: Callable[[], float]
    info: ModelInfo = field(default_factory=lambda: ModelInfo("paced", "paced", "1", "paced", concurrency=5))
    asked: list[str] = field(default_factory=list)
    now: int = 0

    async def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        shown = str(prompt)
        self.asked.append(shown)
        self.now += 1
        try:
            await asyncio.sleep(self.latency())
            yield Chunk(json.dumps(verdict(shown, "kindness", "awareness")), "stop", Usage(1, 1))
        finally:
            self.now -= 1

    async def aclose(self) -> None: ...


def verdict(shown: str, *metrics: str) -> dict[str, int]:
    # Without the code that marks the blocks, which is only there to be unforeseen.
    return {metric: 1 + zlib.crc32(f"{metric}{shown}".encode()) % 9 for metric in metrics}


def replies(latency: Callable[[], float]) -> Callable[[Ask], Reply]:
    """What the server says: an answer to a question, a verdict to what is held to a schema."""

    def reply(ask: Ask) -> Reply:
        if "response_format" in ask.body:
            return Reply(json.dumps(verdict(ask.question, *SEMANTIC)), latency=latency())
        if ask.question == "Break.":
            return Reply(status=400)
        if ask.question == "Go on and on.":
            return Reply("1 2 3 4 5", finish="length", latency=latency())
        return Reply(ANSWERS[ask.question] + " Indeed.", latency=latency())

    return reply


@dataclass
class Stage:
    """A server, the models that are asked, and the judges of every answer."""

    server: OpenAIServer
    models: dict[str, TextModel]
    paced: Paced
    http: TextModel

    def judges(self, sample: Sample) -> list[Scorer]:
        return [Judge(self.http, load_rubric("semantic")), Judge(self.paced, load_rubric("toxigen"))]

    def picker(self) -> Picker:
        judges: dict[str, TextModel] = {"semantic": self.http, "toxigen": self.paced}
        return Picker(["heuristic", "answer", "semantic"], lambda rubric: Judge(judges[rubric], load_rubric(rubric)))


def pause(seed: int, most: float) -> Callable[[], float]:
    drawn = random.Random(seed)
    return lambda: drawn.uniform(0, most)


@asynccontextmanager
async def stage(
    folder: Path, server: OpenAIServer, seed: int, most: float, concurrency: int = 6
) -> AsyncIterator[Stage]:
    server.script = replies(pause(seed, most))
    async with AsyncExitStack() as stack:
        models: dict[str, TextModel] = {}
        for name in ("one", "two"):
            drawn = random.Random(name)  # a script is part of a model's identity, so its pace is always the same
            rules: list[dict[str, Any]] = [
                {"prompt": prompt, "answer": f"{text} Says {name}.", "seconds": round(drawn.uniform(0, 0.004), 4)}
                for prompt, text in ANSWERS.items()
            ]
            rules += [{"prompt": "Go on and on.", "answer": "1 " * 40}, {"prompt": "Break.", "fail": "error"}]
            script = written(folder / f"{name}.yaml", json.dumps({"name": name, "answers": rules}))
            models[name] = await open_model(f"scripted:{script}")
            stack.push_async_callback(models[name].aclose)
        models["far"] = await stack.enter_async_context(opened(server, concurrency=concurrency))
        judge = await stack.enter_async_context(opened(server, concurrency=concurrency))
        yield Stage(server, models, Paced(pause(seed + 1, most)), judge)


def what_it_says(record: Record) -> str:
    """A record without what tells one run from another: when, and in which order. An answer is one for all who asked it."""
    told = msgspec.to_builtins(record)
    for name in ("seq", "time", "batch", "seconds", "identity", "run_id"):
        told.pop(name, None)
    if isinstance(record, CompletionMade):
        for name in ("sample", "index", "group"):
            told.pop(name, None)
    return json.dumps(told, sort_keys=True)


def journaled(workspace: Path) -> list[Record]:
    return [record for _, record in read(workspace) if isinstance(record, Record)]


def paid(server: OpenAIServer) -> tuple[set[str], int]:
    """What the server was asked: the questions, and the number of verdicts."""
    asked = [ask for ask in server.asked if "response_format" not in ask.body]
    return {ask.question for ask in asked}, len(server.asked) - len(asked)


def places(records: list[Record]) -> list[tuple[str, ...]]:
    made = [r for r in records if isinstance(r, ScoreMade | Failure)]
    return [(r.run, r.checkpoint, r.suite, r.sample, r.metric, getattr(r, "scorer", "")) for r in made]


async def all_of(work: Stage, suite: Suite, ledger: Ledger, answers: Path, *, together: bool) -> list[Any]:
    """Every model evaluated and the earlier answers scored: at once, or one after the other."""

    async def scored() -> list[ScoredAnswer]:
        found = score_answers(read_answers(answers), work.picker(), ledger=ledger, run="earlier", concurrency=4)
        return [s async for s in found]

    jobs = [
        evaluate(model, suite, ledger=ledger, subject=Subject(name, name), also=work.judges)
        for name, model in work.models.items()
    ]
    if together:
        return list(await asyncio.gather(*jobs, scored()))
    return [*[await job for job in jobs], await scored()]


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return load_suite(written(tmp_path / "suite.yaml", SUITE))


async def test_all_at_once_comes_to_what_one_after_the_other_comes_to(suite: Suite, tmp_path: Path) -> None:
    answers = jsonl(tmp_path / "a.jsonl", EARLIER)
    async with OpenAIServer() as server:
        async with stage(tmp_path, server, 0, 0.0, concurrency=1) as work:
            ledger = Ledger(tmp_path / "serial")
            expected = await all_of(work, suite, ledger, answers, together=False)
            ledger.close()
            assert server.peak == 1
        serial = journaled(tmp_path / "serial")
        for seed in (1, 2):
            server.asked.clear()
            server.peak = 0
            async with stage(tmp_path, server, seed, 0.04) as work:
                ledger = Ledger(tmp_path / f"at-once-{seed}")
                found = await all_of(work, suite, ledger, answers, together=True)
                ledger.close()
                assert work.paced.now == server.active == 0
            assert server.peak > 1, "or nothing was shown"
            assert paid(server)[1] == len({r.key for r in serial if isinstance(r, ScoreMade) and r.metric in SEMANTIC})
            _agree(serial, journaled(tmp_path / f"at-once-{seed}"))
            for one, other in zip(expected, found, strict=True):
                assert _outcomes(one) == _outcomes(other)
    assert len(asyncio.all_tasks()) == 1


def _agree(serial: list[Record], together: list[Record]) -> None:
    assert Counter(map(what_it_says, together)) == Counter(map(what_it_says, serial))
    assert len(places(together)) == len(set(places(together))), "none stands there twice"
    seqs = [r.seq for r in together]
    assert len(seqs) == len(set(seqs))
    keys = [r.key for r in together if isinstance(r, CompletionMade)]
    assert len(keys) == len(set(keys)), "and no answer is paid for twice"


def _outcomes(done: Evaluation | list[ScoredAnswer]) -> list[tuple[object, ...]]:
    """What came of each, in the order given."""
    if isinstance(done, Evaluation):
        return [(r.sample.id, r.answer and r.answer.text, r.scores, r.failures) for r in done.results]
    return [(s.answered.id, [(suite, outcomes) for suite, _, outcomes in s.outcomes]) for s in done]


async def test_a_server_that_takes_one_gets_one_whoever_asks(suite: Suite, tmp_path: Path) -> None:
    """Two evaluations and a judge share one model behind a URL; its limit is the model's, not each asker's."""
    answers = jsonl(tmp_path / "a.jsonl", EARLIER)
    async with OpenAIServer() as server, opened(server, concurrency=1) as only:
        server.script = replies(pause(1, 0.004))
        ledger = Ledger(tmp_path / "ws")
        work = Stage(server, {"one": only, "two": only}, Paced(pause(2, 0.004)), only)
        done = await all_of(work, suite, ledger, answers, together=True)
        ledger.close()
        assert server.peak == 1
        assert [r.sample.id for r in done[0].results] == [s.id for s in suite.samples]
        assert [s.answered.id for s in done[-1]] == [record["id"] for record in EARLIER]


@pytest.mark.parametrize("served", [3, 11, 24])
async def test_cancelled_in_mid_run_nothing_is_under_way_and_only_the_rest_is_asked(
    suite: Suite, tmp_path: Path, served: int
) -> None:
    answers = jsonl(tmp_path / "a.jsonl", EARLIER)
    async with OpenAIServer() as server:
        async with stage(tmp_path, server, 1, 0.0) as work:
            ledger = Ledger(tmp_path / "undisturbed")
            await all_of(work, suite, ledger, answers, together=True)
            ledger.close()
        whole = journaled(tmp_path / "undisturbed")
        server.asked.clear()
        async with stage(tmp_path, server, 1, 0.002) as work:
            quick = server.script
            server.script = lambda ask: quick(ask) if ask.number < served else Reply(hang=True)
            ledger = Ledger(tmp_path / "ws")
            task = asyncio.create_task(all_of(work, suite, ledger, answers, together=True))
            async with asyncio.timeout(20):
                while server.active < 2 or len(server.asked) < served + 2:
                    await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(20):
                while server.active:
                    await asyncio.sleep(0.005)
            assert work.paced.now == 0
            ledger.close()
            kept = [r for r in journaled(tmp_path / "ws") if isinstance(r, CompletionMade | ScoreMade)]
            earned = {r.key for r in kept}
            assert {what_it_says(r) for r in kept} <= {what_it_says(r) for r in whole}
            server.asked.clear()
            server.script = quick
            ledger = Ledger(tmp_path / "ws")
            await all_of(work, suite, ledger, answers, together=True)
            ledger.close()
            _agree_but_for_order(whole, journaled(tmp_path / "ws"))
            rest = [r for r in whole if isinstance(r, CompletionMade | ScoreMade) and r.key not in earned]
            answered, judged = paid(server)
            assert answered - {"Break."} == {
                _question(r) for r in rest if isinstance(r, CompletionMade) and r.run == "far"
            }
            assert judged == len({r.key for r in rest if isinstance(r, ScoreMade) and r.metric in SEMANTIC})


def _question(answer: CompletionMade) -> str:
    """The question of an answer, whose prompt the journal holds as it was rendered."""
    return next(question for question in (*ANSWERS, "Go on and on.") if question in answer.prompt)


def _agree_but_for_order(whole: list[Record], resumed: list[Record]) -> None:
    """The same results; failures may stand there once for each time they came."""
    for kind in (CompletionMade, ScoreMade):
        expected = Counter(what_it_says(r) for r in whole if isinstance(r, kind))
        assert Counter(what_it_says(r) for r in resumed if isinstance(r, kind)) == expected
    assert {what_it_says(r) for r in resumed if isinstance(r, Failure)} == {
        what_it_says(r) for r in whole if isinstance(r, Failure)
    }
