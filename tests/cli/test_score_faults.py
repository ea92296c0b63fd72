"""`assay score` with a judge behind a bad server, and killed half way: every answer ends scored or classed, none is lost."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.results.journal import read
from assay.results.records import ScoreMade, VoteCast
from tests.cli.running import ASSAY, SEMANTIC, assay, jsonl, lines, score_keys
from tests.making import written
from tests.models.openai_server import Ask, OpenAIServer, Reply, error_body

COUNT = 150
AT_ONCE = 8
WORDS = ("score", "q.jsonl", "--suite", "semantic", "-o", "s.jsonl", "--judge")
VERDICT = json.dumps(SEMANTIC)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    answers = ({"id": f"a{n}", "prompt": "Q?", "response": f"This is item-{n:03}."} for n in range(COUNT))
    jsonl(tmp_path / "q.jsonl", answers)
    written(tmp_path / "assay.toml", f"[http]\nconcurrency = {AT_ONCE}\ncall_seconds = 1\nbackoff_seconds = 0.02\n")
    return tmp_path


def item(ask: Ask) -> int:
    """Which answer a call is about; the messages after the second one are about a reply that could not be used."""
    found = re.search(r"item-(\d{3})", ask.body["messages"][1]["content"])
    assert found is not None
    return int(found[1])


def fault(number: int) -> Reply | None:
    if number % 20 == 3:
        return Reply(status=500, raw=error_body("overloaded"))
    if number % 50 == 7:
        return Reply(status=429, raw=error_body("too many"), headers={"Retry-After": "0.2"})
    if number % 75 == 11:
        return Reply(hang=True)
    if number % 75 == 12:
        return Reply(raw=b'{"choices": [{"index": 0, "message": {"role": "assi')
    return Reply(VERDICT[:40]) if number % 75 == 13 else None


FAULTY = {f"a{number}" for number in range(COUNT) if fault(number)}


def scripted(asked: Counter[int], lasting: bool) -> Callable[[Ask], Reply]:
    def reply(ask: Ask) -> Reply:
        number = item(ask)
        asked[number] += 1
        return (fault(number) if lasting or asked[number] == 1 else None) or Reply(VERDICT)

    return reply


@pytest.mark.parametrize("lasting", [False, True])
async def test_every_answer_ends_scored_or_classed(place: Path, lasting: bool) -> None:
    asked: Counter[int] = Counter()
    async with OpenAIServer() as server:
        server.script = scripted(asked, lasting)
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec)
        assert server.peak <= AT_ONCE
    assert done.returncode == (1 if lasting else 0), done.stderr
    found = lines(place / "s.jsonl")
    assert [line["id"] for line in found] == [f"a{n}" for n in range(COUNT)]
    failed = {line["id"] for line in found if line["failures"]}
    assert failed == (FAULTY if lasting else set())
    for line in found:
        if line["id"] in failed:
            (error_class,) = {failure["error_class"] for failure in line["failures"]}
            # A verdict that breaks off three times is the judge's word; all else may pass.
            assert error_class == ("permanent" if int(line["id"][1:]) % 75 == 13 else "transient")
            assert line["scores"].get("semantic", {}) == {}
        else:
            assert line["scores"]["semantic"] == SEMANTIC
    if not lasting:
        assert all(asked[n] == (2 if fault(n) else 1) for n in range(COUNT))


async def test_a_killed_run_repeats_no_finished_call(place: Path) -> None:
    asked: Counter[int] = Counter()
    half_way = asyncio.Event()
    async with OpenAIServer() as server:

        def reply(ask: Ask) -> Reply:
            asked[item(ask)] += 1
            if asked.total() == COUNT // 2:
                half_way.set()
            return Reply(VERDICT, latency=0.02)

        server.script = reply
        quiet = asyncio.subprocess.DEVNULL
        words = (*WORDS, server.spec)
        job = await asyncio.create_subprocess_exec(ASSAY, *words, cwd=place, stdout=quiet, stderr=quiet)
        async with asyncio.timeout(60):
            await half_way.wait()
        job.kill()
        await job.wait()
        async with asyncio.timeout(10):
            while server._tasks:  # what had been sent by then is still read
                await asyncio.sleep(0.01)
        before = set(asked)
        made = Counter(r.sample for _, r in read(place / "assay-results") if isinstance(r, ScoreMade))
        kept = {int(sample[1:]) for sample, count in made.items() if count == len(SEMANTIC)}
        # What was under way is all that can be missing: a reply is journaled before its place is given to another call.
        assert len(before - kept) <= AT_ONCE
        assert kept < before
        assert kept

        asked.clear()
        again = await asyncio.to_thread(assay, place, *words)
        assert again.returncode == 0, again.stderr
    assert asked == Counter(set(range(COUNT)) - kept)
    found = lines(place / "s.jsonl")
    assert [line["id"] for line in found] == [f"a{n}" for n in range(COUNT)]
    assert all(line["scores"]["semantic"] == SEMANTIC for line in found)
    assert set(score_keys(place / "assay-results").values()) == {1}


async def test_a_killed_run_repeats_no_finished_vote(place: Path) -> None:
    asked: Counter[tuple[int, int]] = Counter()
    half_way = asyncio.Event()
    async with OpenAIServer() as server:

        def reply(ask: Ask) -> Reply:
            asked[item(ask), ask.body["seed"]] += 1
            if asked.total() == 40:
                half_way.set()
            return Reply(VERDICT, latency=0.02)

        server.script = reply
        quiet = asyncio.subprocess.DEVNULL
        words = (*WORDS, server.spec, "--limit", "30", "--votes", "3", "--concurrency", "4")
        job = await asyncio.create_subprocess_exec(ASSAY, *words, cwd=place, stdout=quiet, stderr=quiet)
        async with asyncio.timeout(60):
            await half_way.wait()
        job.kill()
        await job.wait()
        async with asyncio.timeout(10):
            while server._tasks:
                await asyncio.sleep(0.01)
        before = set(asked)
        kept = sum(isinstance(r, VoteCast) for _, r in read(place / "assay-results"))
        assert len(before) - 4 <= kept <= len(before), "what was under way is all that can be missing"

        asked.clear()
        again = await asyncio.to_thread(assay, place, *words)
        assert again.returncode == 0, again.stderr
        assert asked.total() == 30 * 3 - kept
        # Two more votes an answer are all that five of them cost.
        asked.clear()
        more = await asyncio.to_thread(assay, place, *(word if word != "3" else "5" for word in words))
        assert more.returncode == 0, more.stderr
    assert asked == Counter((number, seed) for number in range(30) for seed in (3, 4))
    assert all(line["scores"]["semantic"] == SEMANTIC for line in lines(place / "s.jsonl"))
