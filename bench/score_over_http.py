"""What does `assay score` cost where a judge behind a URL scores the answers?

2,000 different answers, 64 calls at once, the rubric `semantic` with its four dimensions, a whole `assay score … -o` with
progress, journal, output file and table. The judge is a server of our own (`judge_server.py`) in a process of its own.

- With 50 ms for each call: the ideal time, calls × latency ÷ concurrency, as a share of what it took; once from the first
  request to the last reply as the server saw them (at least 95 %; the 2,000 calls are 31.25 rounds of 64, so 97.7 % is the
  most that anybody can reach), and once from the start of the command to its exit (at least 80 %).
- With an answer at once: CPU seconds a call, user and system, against a bare aiohttp loop that posts the very same bodies
  and parses the same replies and verdicts (at most 1.6 times). What a run over a single answer takes is start-up, and left
  out. assay's share does all that scoring is besides: it reads the answers, builds prompts and keys, checks each
  verdict, journals four scores an answer and writes the output. The bare loop is measured once its connections are open.

The two take turns. With 50 ms, too, the bare loop is run: where it is far from the ideal itself, the machine has other work,
and the first figure says nothing. aiohttp may be in another environment:

    python3 -m venv aiohttp && aiohttp/bin/pip install aiohttp
    python bench/score_over_http.py --aiohttp-python aiohttp/bin/python
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lab
from judge_server import JudgeServer, Seen
from score_command import Ran, run, score, scored, write_answers, write_settings

LATENCY = 0.05


async def bare(url: str, bodies: list[dict[str, Any]], concurrency: int) -> float:
    """CPU seconds of the plainest loop that one would write with aiohttp."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

        async def ask(body: dict[str, Any]) -> None:
            async with session.post(url, json=body) as response:
                reply = await response.json()
            assert json.loads(reply["choices"][0]["message"]["content"])["sovereignty"] == 5

        async def work() -> None:
            for body in left:
                await ask(body)

        await asyncio.gather(*(ask(body) for body in bodies[:concurrency]))
        left = iter(bodies)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.gather(*(work() for _ in range(concurrency)))
        after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def bare_cpu(server: JudgeServer, bodies: Path, arguments: argparse.Namespace) -> float:
    url = f"{server.url}/v1/chat/completions"
    command = [
        arguments.aiohttp_python,
        __file__,
        "--concurrency",
        str(arguments.concurrency),
        "--bare",
        url,
        str(bodies),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def whole_run(folder: Path, answers: Path, server: JudgeServer, workspace: str, count: int) -> tuple[Ran, Seen]:
    """One `assay score` over the first `count` answers into a new workspace."""
    server.clear()
    ran = run(score(folder, answers, server.spec, workspace, "--limit", str(count)), folder)
    seen = server.seen()
    if ran.code != 0 or scored(folder / f"{workspace}.jsonl") != (count, 0) or len(seen.calls) != count:
        lab.fail(f"assay score ended with {ran.code} after {len(seen.calls)} calls: {ran.err[-2000:]}")
    return ran, seen


def pace(folder: Path, answers: Path, arguments: argparse.Namespace) -> int:
    ideal = arguments.answers * LATENCY / arguments.concurrency
    inner, whole, server_share, reachable = [], [], [], []
    bodies = folder / "bodies.json"
    with JudgeServer(LATENCY, keep=True) as server:
        for number in range(arguments.rounds):
            ran, seen = whole_run(folder, answers, server, f"pace{number}", arguments.answers)
            bodies.write_text(json.dumps(server.bodies()))
            server.clear()
            bare_cpu(server, bodies, arguments)
            reachable.append(ideal * (1 + arguments.concurrency / arguments.answers) / server.seen().seconds)
            inner.append(ideal / seen.seconds)
            whole.append(ideal / ran.seconds)
            server_share.append(seen.cpu / seen.seconds)
            print(
                f"{ran.seconds:.2f} s in all, {seen.seconds:.2f} s from the first request to the last reply, "
                f"{ideal:.2f} s ideal; CPU: assay {ran.cpu:.2f} s, the server {seen.cpu:.2f} s",
                flush=True,
            )
    print(f"share of the ideal pace: {lab.spread(inner)}; start-up and exit included: {lab.spread(whole)}")
    print(f"share of the ideal pace, bare aiohttp, what this machine can reach just now: {lab.spread(reachable)}")
    print(f"the server was busy for {statistics.median(server_share):.0%} of the time")
    code = lab.verdict("pace against the ideal", statistics.median(inner), 0.95, at_most=False)
    return max(code, lab.verdict("the same for the whole process", statistics.median(whole), 0.80, at_most=False))


def cpu(folder: Path, answers: Path, arguments: argparse.Namespace) -> int:
    bodies = folder / "bodies.json"
    ours, start_up, theirs = [], [], []
    with JudgeServer(0.0, keep=True) as server:
        whole_run(folder, answers, server, "warm", arguments.answers)
        bodies.write_text(json.dumps(server.bodies()))
        for number in range(arguments.rounds):
            one, _ = whole_run(folder, answers, server, f"one{number}", 1)
            ran, _ = whole_run(folder, answers, server, f"cpu{number}", arguments.answers)
            start_up.append(one.cpu)
            ours.append((ran.cpu - one.cpu) / (arguments.answers - 1) * 1000)
            theirs.append(bare_cpu(server, bodies, arguments) / arguments.answers * 1000)
    print(f"CPU seconds of a run over one answer: {lab.spread(start_up)}")
    print(f"CPU seconds per 1,000 calls: assay score {lab.spread(ours)}, bare aiohttp {lab.spread(theirs)}")
    ratio = statistics.median(ours) / statistics.median(theirs)
    return lab.verdict("CPU per call, all of scoring against bare aiohttp's calls", ratio, 1.6, at_most=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="What does `assay score` cost over HTTP?")
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--aiohttp-python", default=sys.executable, help="the Python that aiohttp is installed for")
    parser.add_argument("--bare", nargs=2, metavar=("URL", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare is not None:
        url, file = arguments.bare
        print(asyncio.run(bare(url, json.loads(Path(file).read_text()), arguments.concurrency)))
        return 0
    if subprocess.run([arguments.aiohttp_python, "-c", "import aiohttp"], capture_output=True).returncode != 0:
        lab.fail(f"{arguments.aiohttp_python} has no aiohttp; this file's first lines say how to install it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_settings(folder, concurrency=arguments.concurrency)
        answers = write_answers(folder / "answers.jsonl", arguments.answers)
        return max(pace(folder, answers, arguments), cpu(folder, answers, arguments))


if __name__ == "__main__":
    sys.exit(main())
