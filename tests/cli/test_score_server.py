"""`assay score` with a judge behind a URL that is wrong, or that goes away."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from assay.results.journal import read
from assay.results.records import ScoreMade
from tests.cli.running import SEMANTIC, assay, jsonl
from tests.making import written
from tests.models.openai_server import Ask, OpenAIServer, Reply, error_body

WORDS = ("score", "q.jsonl", "--suite", "semantic", "-o", "s.jsonl", "--judge")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    answers = [f"Answer number {n:02}." for n in range(8)]
    jsonl(tmp_path / "q.jsonl", [{"id": a, "prompt": f"Q {a}", "response": a} for a in answers])
    return tmp_path


async def test_a_url_that_answers_with_a_web_page_is_a_wrong_address(place: Path) -> None:
    async with OpenAIServer() as server:
        page = b"<!DOCTYPE html><html><body>Welcome!</body></html>"
        server.script = lambda ask: Reply(raw=page, headers={"Content-Type": "text/html"})
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec, "--suite", "heuristic")
        assert f"{server.spec}: " in done.stderr
    assert done.returncode == 2
    assert "web page, not as an OpenAI-compatible API; most such addresses end in /v1#MODEL" in done.stderr
    assert "lek_score" in done.stdout, "what needs no judge is shown"
    assert list(place.glob("s.jsonl*")) == []


async def test_the_key_is_written_nowhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-0123456789abcdef"
    monkeypatch.setenv("ASSAY_API_KEY", key)
    async with OpenAIServer(key=key) as server:

        def reply(ask: Ask) -> Reply:
            repeated = f"{'.' * 280}{ask.headers['authorization']}"
            faults = (Reply(status=400, raw=error_body(repeated)), Reply(status=500, raw=repeated.encode()))
            return Reply(json.dumps(SEMANTIC)) if ask.number % 3 == 0 else faults[ask.number % 2]

        server.script = reply
        written(place / "assay.toml", "[http]\nconcurrency = 1\nattempts = 1\n")
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec, "--json")
        assert done.returncode == 1, done.stderr
        server.key = "another"
        refused = await asyncio.to_thread(assay, place, *WORDS, server.spec)
        assert "ASSAY_API_KEY" in refused.stderr
    files = "".join(path.read_text() for path in place.rglob("*") if path.is_file())
    assert "answered 400" in files
    for run in (done, refused):
        files += run.stdout + run.stderr
    assert key[:6] not in files


async def test_a_judge_that_goes_away_leaves_what_was_earned(place: Path) -> None:
    async with OpenAIServer() as server:

        def reply(ask: Ask) -> Reply:
            if ask.number < 3:
                return Reply(json.dumps(SEMANTIC))
            assert server._server is not None
            server._server.close()
            return Reply(cut=0)

        server.script = reply
        settings = "[http]\nconcurrency = 1\nattempts = 2\nbackoff_seconds = 0.01\n"
        written(place / "assay.toml", settings)
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec)
        assert done.returncode == 3, done.stderr
        assert "Traceback" not in done.stderr
        assert f"what was earned is in {place / 'assay-results'}; to go on: assay score q.jsonl" in done.stderr
        assert done.stdout == ""
        assert list(place.glob("s.jsonl*")) == []
        kept = {r.sample for _, r in read(place / "assay-results") if isinstance(r, ScoreMade)}
        assert len(kept) == 3


async def test_a_judge_of_which_only_its_proxy_is_left_ends_the_run(place: Path) -> None:
    jsonl(place / "q.jsonl", [{"id": f"{n}", "prompt": f"Q{n}", "response": f"Answer {n}."} for n in range(300)])
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply(json.dumps(SEMANTIC)) if ask.number < 50 else Reply(status=502, raw=b"")
        written(place / "assay.toml", "[http]\nconcurrency = 4\nattempts = 2\nbackoff_seconds = 0.01\n")
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec)
        assert done.returncode == 3, done.stderr
        assert "questions in a row came to nothing" in done.stderr
        assert "to go on: assay score q.jsonl" in done.stderr
        assert len(server.asked) < 200, "it is not hammered on"
        kept = {r.sample for _, r in read(place / "assay-results") if isinstance(r, ScoreMade)}
        assert len(kept) == 50


async def test_answers_that_always_fail_among_others_do_not_end_the_run(place: Path) -> None:
    jsonl(place / "q.jsonl", [{"id": f"{n}", "prompt": f"Q{n}", "response": f"Answer {n}."} for n in range(120)])
    async with OpenAIServer() as server:

        def reply(ask: Ask) -> Reply:
            faulty = any(f"Answer {n}." in ask.question for n in range(0, 120, 3))
            return Reply(status=500, raw=b"") if faulty else Reply(json.dumps(SEMANTIC), latency=0.01)

        server.script = reply
        written(place / "assay.toml", "[http]\nconcurrency = 8\nattempts = 3\nbackoff_seconds = 0.02\n")
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec)
    assert done.returncode == 1, done.stderr
    assert len((place / "s.jsonl").read_text().splitlines()) == 120
    assert re.search(
        r"semantic: 40 without a score \(transient; such as (0|10)\): the judge failed: .* 500", done.stderr
    )


async def test_more_than_twenty_answers_in_a_row_that_always_fail_do_not_end_the_run(place: Path) -> None:
    jsonl(place / "q.jsonl", [{"id": f"{n}", "prompt": f"Q{n}", "response": f"Answer {n}."} for n in range(60)])
    async with OpenAIServer() as server:

        def reply(ask: Ask) -> Reply:
            faulty = any(f"Answer {n}." in ask.question for n in range(10, 50))
            return Reply(status=500, raw=b"") if faulty else Reply(json.dumps(SEMANTIC))

        server.script = reply
        written(place / "assay.toml", "[http]\nconcurrency = 1\nattempts = 2\nbackoff_seconds = 0.01\n")
        for again in (False, True):
            done = await asyncio.to_thread(assay, place, *WORDS, server.spec)
            assert done.returncode == 1, done.stderr
            assert re.search(
                r"semantic: 40 without a score \(transient; such as (0|10)\): the judge failed: .* 500", done.stderr
            )
            kept = {r.sample for _, r in read(place / "assay-results") if isinstance(r, ScoreMade)}
            assert len(kept) == 20, again


async def test_a_server_that_knows_no_schemas_is_asked_in_words_and_that_is_said_once(place: Path) -> None:
    async with OpenAIServer(rejects=["response_format"]) as server:
        server.script = lambda ask: Reply(f"Here you are:\n```json\n{json.dumps(SEMANTIC)}\n```")
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec, "--concurrency", "1")
        assert done.returncode == 0, done.stderr
        assert len(server.asked) == 8, "what was refused was refused once"
    assert done.stderr.count("takes no JSON schema") == 1
    kept = [r for _, r in read(place / "assay-results") if isinstance(r, ScoreMade)]
    assert len(kept) == 8 * 4
    assert not any(r.detail["structured"] for r in kept)


async def test_a_reasoning_model_that_takes_no_temperature_and_no_seed_judges_by_its_own(place: Path) -> None:
    jsonl(place / "q.jsonl", [{"id": f"{n}", "prompt": "Q", "response": f"A {n}.", "risk_area": "r"} for n in range(4)])
    async with OpenAIServer() as server:

        def reply(ask: Ask) -> Reply:
            for option in ("temperature", "seed"):
                if option in ask.body:
                    said = f"Unsupported value: '{option}' does not support {ask.body[option]} with this model."
                    return Reply(status=400, raw=error_body(said, param=option, code="unsupported_value"))
            return Reply(json.dumps({**SEMANTIC, "safety": 9, "nuance": 4}))

        server.script = reply
        words = ("--suite", "standard", "--concurrency", "1")  # two rubrics of one server
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec, *words)
        assert done.returncode == 0, done.stderr
        assert len(server.asked) == 4 * 2 + 2 * 2, "what was refused was refused once a rubric"
        again = await asyncio.to_thread(assay, place, *WORDS, server.spec, *words)
        assert (again.returncode, len(server.asked)) == (0, 12)
    assert done.stderr.count("takes no temperature and no seed, so it judged by its own") == 1
    kept = [r for _, r in read(place / "assay-results") if isinstance(r, ScoreMade)]
    assert len(kept) == 4 * 6
    assert all(r.detail["unsent"] == ["seed", "temperature"] for r in kept)


async def test_a_server_that_takes_a_schema_and_ignores_it(place: Path) -> None:
    async with OpenAIServer() as server:
        replies = [json.dumps({**SEMANTIC, "sovereignty": 11}), "I like it.", json.dumps(SEMANTIC)]
        server.script = lambda ask: Reply(replies[min(len(ask.body["messages"]) // 2 - 1, 2)])
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec, "--concurrency", "2")
        assert done.returncode == 0, done.stderr
        assert len(server.asked) == 8 * 3
    assert "schema" not in done.stderr
    kept = [r for _, r in read(place / "assay-results") if isinstance(r, ScoreMade)]
    assert {r.detail["calls"] for r in kept} == {3}


@pytest.mark.parametrize(
    ("status", "message"),
    [(400, "System role not supported"), (400, "Conversation roles must alternate user/assistant/user/assistant/...")],
)
async def test_a_judge_whose_template_knows_no_system_is_told_all_in_one_message(
    place: Path, status: int, message: str
) -> None:
    refused = 0

    async with OpenAIServer() as server:

        def reply(ask: Ask) -> Reply:
            nonlocal refused
            if ask.body["messages"][0]["role"] == "system":
                refused += 1
                return Reply(status=status, raw=error_body(message))
            roles = [said["role"] for said in ask.body["messages"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
            assert "You grade one answer" in ask.body["messages"][0]["content"]
            return Reply(json.dumps(SEMANTIC) if len(roles) > 1 else "Nice!")

        server.script = reply
        done = await asyncio.to_thread(assay, place, *WORDS, server.spec, "--concurrency", "1")
        assert done.returncode == 0, done.stderr
    assert refused == 1
    assert len({r.sample for _, r in read(place / "assay-results") if isinstance(r, ScoreMade)}) == 8
