"""SIGTERM, as a scheduler or a container sends it: a clean end, nothing that was earned is lost or paid for again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from assay.results.journal import read
from assay.results.records import CompletionMade, ScoreMade
from tests.cli.running import ASSAY, SEMANTIC, assay, completions, jsonl, script
from tests.making import SUITE, written
from tests.models.openai_server import Ask, OpenAIServer, Reply

WORKSPACE = "assay-results"
GOES_ON = "assay: stopped; the same command goes on from here\n"


@contextmanager
def begun(place: Path, *words: str, interrupts: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A command at work in a process group of its own.

    interrupts: does it hear Ctrl-C? What a shell runs in the background does not; SIGTERM must be heard all the same.
    """
    heard = signal.SIG_DFL if interrupts else signal.SIG_IGN
    with subprocess.Popen(
        [ASSAY, *words],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, heard),
    ) as job:
        try:
            yield job
        finally:
            job.kill()


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.02)


def terminated(job: subprocess.Popen[str], *, times: int = 1) -> str:
    """Standard error of a command that was terminated and ended cleanly, with all of its process group."""
    for _ in range(times):
        job.send_signal(signal.SIGTERM)
    out, err = job.communicate(timeout=60)
    assert job.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""
    with pytest.raises(ProcessLookupError):
        os.killpg(job.pid, 0)
    return err


async def test_a_judged_score_goes_on_and_asks_nothing_twice_that_was_answered(tmp_path: Path) -> None:
    answers = [f"Answer number {n:02}." for n in range(16)]
    jsonl(tmp_path / "q.jsonl", [{"id": a, "prompt": f"Q {a}", "response": a} for a in answers])
    first = set(answers[:10])
    asked: Counter[str] = Counter()

    def reply(ask: Ask) -> Reply:
        (about,) = (answer for answer in answers if answer in ask.question)
        asked[about] += 1
        return Reply(json.dumps(SEMANTIC), hang=hanging and about not in first)

    def earned() -> set[str]:
        return {r.sample for _, r in read(tmp_path / WORKSPACE) if isinstance(r, ScoreMade)}

    async with OpenAIServer() as server:
        server.script = reply
        words = ("score", "q.jsonl", "--suite", "semantic", "--judge", server.spec, "-o", "s.jsonl")
        hanging = True
        with begun(tmp_path, *words) as job:
            await asyncio.to_thread(until, lambda: earned() == first and len(asked) == len(answers))
            assert await asyncio.to_thread(terminated, job) == GOES_ON
        assert list(tmp_path.glob("s.jsonl*")) == [], "the file is whole or not there"
        hanging = False
        done = await asyncio.to_thread(assay, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert asked == {answer: 1 if answer in first else 2 for answer in answers}
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == len(answers)


EARLY = """\
import os, signal, sys, weakref

class Dying: pass

def lose(event, args):
    if event == "import" and args[0] == "MODULE":
        dying = Dying()
        weak = weakref.ref(dying, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        del dying

sys.addaudithook(lose)
"""


@pytest.mark.parametrize("module", ["assay.cli.app", "assay.watch"])
def test_a_signal_that_the_interpreter_drops_while_it_imports_is_heard(tmp_path: Path, module: str) -> None:
    (tmp_path / "early").mkdir()
    written(tmp_path / "early" / "sitecustomize.py", EARLY.replace("MODULE", module))
    script(tmp_path / "model.yaml", [{"contains": "", "answer": "x"}])
    written(tmp_path / "suite.yaml", SUITE)
    (tmp_path / "run").mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "early"), *sys.path])}
    done = subprocess.run(
        [ASSAY, "watch", "run", "--base", "scripted:model.yaml", "--suite", "suite.yaml"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "KeyboardInterrupt" in done.stderr.split("assay:")[0], (
        "it was dropped where the interpreter drops exceptions"
    )
    assert done.returncode == 130, done.stderr


def test_a_probe_goes_on(tmp_path: Path) -> None:
    slow = [{"contains": f"Question {name}", "answer": "right and so on", "seconds": 0.1} for name in "abcd"]
    script(tmp_path / "slow.yaml", slow)
    written(tmp_path / "suite.yaml", SUITE)
    words = ("probe", "scripted:slow.yaml", "--suite", "suite.yaml")
    with begun(tmp_path, *words) as job:
        until(lambda: len(completions(tmp_path / WORKSPACE)) >= 2)
        assert terminated(job, times=3).endswith(GOES_ON)
    kept = completions(tmp_path / WORKSPACE)
    assert 2 <= len(kept) < 4
    done = assay(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert Counter(r.key for r in completions(tmp_path / WORKSPACE)) == dict.fromkeys(
        {r.key for _, r in read(tmp_path / WORKSPACE) if isinstance(r, CompletionMade)}, 1
    )


async def test_rescore_and_judge_check(tmp_path: Path) -> None:
    written(tmp_path / "suite.yaml", SUITE)
    script(tmp_path / "model.yaml", [], default="right")
    assert assay(tmp_path, "probe", "scripted:model.yaml", "--suite", "suite.yaml").returncode == 0
    before = sorted((tmp_path / WORKSPACE / "journal").glob("*"))
    async with OpenAIServer() as server:
        server.script = lambda ask: Reply(hang=True)
        for words, said in (
            (("rescore", "suite.yaml", "--judge", server.spec), GOES_ON),
            (
                ("judge-check", server.spec),
                "assay: stopped; nothing is kept of a check, so the same command begins anew\n",
            ),
        ):
            server.asked.clear()
            with begun(tmp_path, *words) as job:
                await asyncio.to_thread(until, lambda: bool(server.asked))
                assert await asyncio.to_thread(terminated, job) == said
    assert sorted((tmp_path / WORKSPACE / "journal").glob("*")) == before, "nothing was earned"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_scorers_that_only_read_text_are_stopped_in_their_midst(tmp_path: Path, number: signal.Signals) -> None:
    many = [{"id": str(n), "prompt": "Q", "response": f"Some answer {n} that feels joy. " * 20} for n in range(60_000)]
    jsonl(tmp_path / "many.jsonl", many)
    part = tmp_path / "s.jsonl.part"
    with begun(tmp_path, "score", "many.jsonl", "-o", "s.jsonl", interrupts=True) as job:
        until(lambda: part.exists() and part.stat().st_size > 0)
        job.send_signal(number)
        out, err = job.communicate(timeout=60)
    assert (job.returncode, out, err) == (130, "", GOES_ON)
    scored = sum(1 for _ in read(tmp_path / WORKSPACE))
    assert 0 < scored < len(many), "it did not wait until all was done"
    assert list(tmp_path.glob("s.jsonl*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_query_that_would_take_for_ever(tmp_path: Path, number: signal.Signals) -> None:
    jsonl(tmp_path / "a.jsonl", [{"prompt": "Q", "response": "A."}])
    assert assay(tmp_path, "score", "a.jsonl").returncode == 0
    endless = "select sum(a.range * b.range) from range(10000000) a, range(10000000) b"
    with begun(tmp_path, "query", endless, interrupts=True) as job:
        until(lambda: psutil.Process(job.pid).num_threads() > 1)  # the database is at work
        job.send_signal(number)
        out, err = job.communicate(timeout=60)
    assert (job.returncode, out, err) == (130, "", "")


def test_a_services_log_is_json_to_the_last_word(tmp_path: Path) -> None:
    script(tmp_path / "model.yaml", [{"contains": "", "answer": "x"}])
    written(tmp_path / "suite.yaml", SUITE)
    words = ("--base", "scripted:model.yaml", "--suite", "suite.yaml", "--log-json")

    def told(err: str) -> list[str]:
        return [line["text"] for line in map(json.loads, err.splitlines()) if line["event"] == "said"]

    none = assay(tmp_path, "watch", "gone", *words)
    assert none.returncode == 2
    assert [text for text in told(none.stderr) if "there is no folder gone" in text]
    (tmp_path / "run").mkdir()
    with begun(tmp_path, "watch", "run", *words, "--sink", "influx:http://127.0.0.1:9#lab") as job:
        until(lambda: bool(completions(tmp_path / WORKSPACE)))
        job.send_signal(signal.SIGTERM)
        _, err = job.communicate(timeout=60)
    assert told(err)[-1] == "stopped; the same command goes on from here"
