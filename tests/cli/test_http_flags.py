"""How to talk to a server: assay.toml's [http], a model's own keys, and the flags, seen from the server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.running import SEMANTIC, assay, bad, jsonl, script
from tests.making import SUITE, written
from tests.models.openai_server import OpenAIServer, Reply

LABELS = dict.fromkeys(("reasoning", "correctness", "clarity"), 5)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    questions = [{"id": f"q{n:02}", "prompt": f"Question {n:02}?", "response": f"Answer {n:02}."} for n in range(12)]
    jsonl(tmp_path / "q.jsonl", questions)
    labelled = [{"id": f"q{n}", "prompt": "Q?", "answer": f"Answer {n}.", "labels": LABELS} for n in range(6)]
    jsonl(tmp_path / "labels.jsonl", labelled)
    written(tmp_path / "suite.yaml", SUITE)
    script(tmp_path / "judge.yaml", [], default=SEMANTIC)
    return tmp_path


def settings(place: Path, server: OpenAIServer, http: str = "", model: str = "") -> None:
    written(place / "assay.toml", f"[http]\n{http}\n[models.judge]\nspec = '{server.spec}'\n{model}\n")


@pytest.mark.parametrize(
    ("http", "model", "flags", "peak"),
    [
        ("concurrency = 3", "", [], 3),
        ("concurrency = 3", "concurrency = 2", [], 2),
        ("concurrency = 3", "concurrency = 2", ["--concurrency", "4"], 4),
        ("", "", ["--concurrency", "1"], 1),
    ],
)
async def test_a_flag_goes_before_the_models_keys_before_those_of_http(
    place: Path, http: str, model: str, flags: list[str], peak: int
) -> None:
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply(json.dumps(SEMANTIC), latency=0.1)
        settings(place, server, http, model)
        words = ("score", "q.jsonl", "--suite", "semantic", "--judge", "judge", *flags)
        done = await asyncio.to_thread(assay, place, *words)
        assert done.returncode == 0, done.stderr
        assert (len(server.asked), server.peak) == (12, peak)


async def test_every_verb_that_asks_a_server_takes_the_flags(place: Path) -> None:
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply("right", latency=0.05)
        probe = ("probe", server.spec, "--suite", "suite.yaml", "--run", "p")
        done = await asyncio.to_thread(assay, place, *probe, "--concurrency", "2")
        assert (done.returncode, len(server.asked), server.peak) == (0, 4, 2), done.stderr
        server.script = lambda ask: Reply(json.dumps(SEMANTIC), latency=0.05)
        rescore = ("rescore", "suite.yaml", "--judge", server.spec, "--concurrency", "3", "--timeout", "60")
        server.peak = 0
        done = await asyncio.to_thread(assay, place, *rescore)
        assert (done.returncode, len(server.asked), server.peak) == (0, 8, 3), done.stderr
        server.script = lambda ask: Reply(
            json.dumps({"better": "tie"} if "You compare two answers" in str(ask.body) else LABELS), latency=0.05
        )
        server.peak = 0
        done = await asyncio.to_thread(assay, place, "judge-check", server.spec, "labels.jsonl", "--concurrency", "2")
        assert (done.returncode, server.peak) == (0, 2), done.stderr


async def test_a_timeout_ends_one_question_and_not_the_others(place: Path) -> None:
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply(json.dumps(SEMANTIC), hang="Answer 11." in ask.question)
        settings(place, server, "attempts = 1\ncall_seconds = 3600\ntotal_seconds = 7200")
        words = ("score", "q.jsonl", "--suite", "semantic", "--judge", "judge", "--timeout", "3.5", "-o", "s.jsonl")
        done = await asyncio.to_thread(assay, place, *words)
        assert done.returncode == 1, done.stderr
        last = json.loads((place / "s.jsonl").read_text().splitlines()[-1])
        assert "3.5" in last["failures"][0]["reason"]
        assert len(server.asked) == 12


def test_bad_flags(place: Path) -> None:
    score = ("score", "q.jsonl", "--suite", "semantic", "--judge")
    assert "--concurrency 0: give a whole number" in bad(place, *score, "http://h/v1#m", "--concurrency", "0")
    for wrong in ("0", "-1", "nan", "inf"):
        assert f"--timeout {wrong}: give a number of seconds" in bad(place, *score, "http://h/v1#m", "--timeout", wrong)
    for verb in (
        (*score, "scripted:judge.yaml"),
        ("score", "q.jsonl"),
        ("probe", "scripted:judge.yaml"),
        ("judge-check", "scripted:judge.yaml"),
        ("rescore", "suite.yaml", "--scorer", "lek"),
    ):
        assert "--timeout is for a model behind a URL, and none is asked here" in bad(place, *verb, "--timeout", "9")
