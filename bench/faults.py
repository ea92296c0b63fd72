"""Does `assay score` lose answers, or time, to a judge behind a bad server, or to its own death?

1,000 different answers, 64 calls at once, 50 ms for each reply, a deadline of 5 s a call, and a server (`judge_server.py`)
that fails: 5 % of the calls are answered 500, 2 % 429 with `Retry-After: 1`, 1 % not before 30 s, 1 % with broken JSON.

- Faults that pass (drawn for each attempt): every answer ends scored, or failed with a class; within 12 s.
- Faults that last (drawn for each answer): exactly the answers with a fault end classed, all others scored; within 12 s.
- The command is killed (SIGKILL) and run again: half way with faults that pass, and at random moments of a run without
  faults. Nothing that it had journaled is asked again, and all is scored in the end.

What "repeats no finished call" means: a reply that was sent at the moment of the kill may not have been read yet, or not
been journaled; nobody can keep it, and its call is made again. So a call is finished if its reply was sent at least 100 ms
before the kill. How many younger ones were repeated, and how old the oldest of them was, is printed.

    python bench/faults.py
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lab
from judge_server import JudgeServer, Seen, fate
from score_command import ENVIRONMENT, run, score, scored, write_answers, write_settings

LATENCY = 0.05
GRACE = 0.1  # seconds before a kill; see above
DIMENSIONS = 4


def disturbed(folder: Path, answers: Path, faults: str, arguments: argparse.Namespace) -> int:
    """One run against a server with faults."""
    with JudgeServer(LATENCY, faults=faults, seed=arguments.seed) as server:
        ran = run(score(folder, answers, server.spec, faults), folder)
        seen = server.seen()
    whole, classed = scored(folder / f"{faults}.jsonl")
    fates = Counter(call.fate for call in seen.calls)
    print(f"faults that are {faults}: {ran.seconds:.2f} s, exit code {ran.code}, {len(seen.calls)} calls {dict(fates)}")
    print(f"  {whole} scored, {classed} failed with a class: {dict(classes(folder / f'{faults}.jsonl'))}")
    if faults == "lasting":
        faulty = sum(fate(item, 0, arguments.seed) != "fine" for item in range(arguments.answers))
        if classed != faulty:
            lab.fail(f"{faulty} answers have a fault that lasts, {classed} were classed")
    lost = arguments.answers - whole - classed
    code = lab.verdict("answers neither scored nor classed", lost, 0, at_most=True)
    if ran.code != (1 if classed else 0):
        lab.fail(f"assay score ended with {ran.code}: {ran.err[-2000:]}")
    return max(code, lab.verdict("seconds, start-up included", ran.seconds, 12, at_most=True))


def classes(path: Path) -> Counter[str]:
    """The answers' failures by class."""
    with path.open(encoding="utf-8") as file:
        return Counter(failures[0]["error_class"] for line in file if (failures := json.loads(line)["failures"]))


@dataclass(frozen=True)
class Killed:
    """A command that was killed, and what its second run asked again.

    answered: items whose verdict had been sent. young: repeated items, with how long before the kill their reply was sent.
    """

    answered: int
    journaled: int
    repeated_journaled: int
    repeated_finished: int
    young: list[float]
    lost: int


def killed(
    folder: Path, answers: Path, faults: str, after: int, workspace: str, arguments: argparse.Namespace
) -> Killed:
    """Kill the command once the server has sent `after` verdicts, and run it again."""
    with JudgeServer(LATENCY, faults=faults, seed=arguments.seed) as server:
        command = score(folder, answers, server.spec, workspace)
        quiet = subprocess.DEVNULL
        job = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdin=quiet, stdout=quiet, stderr=quiet)
        while server.answered() < after and job.poll() is None:
            time.sleep(0.003)
        moment = time.monotonic()
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
        first = server.seen()
        kept = set(journaled(folder / workspace))
        server.clear()
        again = run(command, folder)
        second = server.seen()
    if again.code not in (0, 1):
        lab.fail(f"the second run ended with {again.code}: {again.err[-2000:]}")
    whole, classed = scored(folder / f"{workspace}.jsonl")
    asked = {call.item for call in second.calls}
    ages = ages_of(first, moment, asked)
    return Killed(
        len(first.answered),
        len(kept),
        len(kept & asked),
        sum(age > GRACE for age in ages),
        [age for age in ages if age <= GRACE],
        arguments.answers - whole - classed,
    )


def ages_of(first: Seen, moment: float, asked: set[int]) -> list[float]:
    """Of each answered call that was asked again: how long before the kill its reply was sent."""
    return [max(0.0, moment - call.sent) for call in first.calls if call.answered and call.sent and call.item in asked]


def journaled(workspace: Path) -> Iterator[int]:
    """The items that have all their scores in the journal."""
    found: Counter[str] = Counter()
    for segment in (workspace / "journal").glob("*.jsonl"):
        for line in segment.read_bytes().split(b"\n")[:-1]:
            record = json.loads(line)
            if record["kind"] == "score":
                found[record["sample"]] += 1
    return (int(sample.removeprefix("a")) for sample, count in found.items() if count == DIMENSIONS)


def kills(folder: Path, answers: Path, arguments: argparse.Namespace) -> int:
    chance = random.Random(arguments.seed)
    plan = [("passing", arguments.answers // 2)]
    plan += [("none", chance.randrange(1, arguments.answers)) for _ in range(arguments.kills)]
    found: list[Killed] = []
    for number, (faults, after) in enumerate(plan):
        each = killed(folder, answers, faults, after, f"killed{number}", arguments)
        found.append(each)
        oldest = f", the oldest {max(each.young) * 1000:.0f} ms before" if each.young else ""
        print(
            f"killed after {each.answered} replies (faults: {faults}), {each.journaled} journaled; "
            f"repeated {each.repeated_finished + len(each.young)}{oldest}",
            flush=True,
        )
    print(f"repeated of those sent within {GRACE * 1000:.0f} ms of a kill: {sum(len(k.young) for k in found)}")
    bad = [k.repeated_journaled for k in found], [k.repeated_finished for k in found], [k.lost for k in found]
    code = lab.verdict("journaled calls that were repeated", sum(bad[0]), 0, at_most=True)
    code = max(code, lab.verdict("finished calls that were repeated", sum(bad[1]), 0, at_most=True))
    return max(code, lab.verdict("answers lost in the end", sum(bad[2]), 0, at_most=True))


def main() -> int:
    parser = argparse.ArgumentParser(description="`assay score` with a judge behind a bad server, and killed.")
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--kills", type=int, default=5, help="at random moments, besides the one half way [5]")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_settings(folder, concurrency=arguments.concurrency, call_seconds=5)
        answers = write_answers(folder / "answers.jsonl", arguments.answers)
        codes = [disturbed(folder, answers, faults, arguments) for faults in ("passing", "lasting")]
        return max(*codes, kills(folder, answers, arguments))


if __name__ == "__main__":
    sys.exit(main())
