"""What does a look at a thousand finished checkpoints cost?

    python bench/polling.py

A hundred runs of ten checkpoints each lie on a real OpenSSH server on loopback, each checkpoint in a folder of its own, as
transformers writes them. `watch` evaluates them all (a scripted engine, one question), and is then left polling. Measured is a
round, the look over SSH and the plan made of it, the median of some. The server's own log says how many files were opened
meanwhile: none, as the journal knows each file's digest by its size and time.

Against: `ssh HOST find FOLDER`, which lists the same files with a size and a time, from start to exit.

Needs OpenSSH's server and client (Debian: openssh-server openssh-client).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import lab

sys.path.insert(0, str(lab.ROOT))

from tests.adapters.test_peft import write as write_adapter
from tests.hosts.sshd import Server, make_home, server
from tests.making import SCRIPT

from assay.evaluated import SampleResult
from assay.hosts.open import open_host
from assay.job import Job
from assay.results.index import Ledger
from assay.scout import Scout
from assay.suites.suite import load_suite
from assay.watch import watch

TARGET = 3.0
SUITE = """\
name: one
version: 1
scorer: contains_word
samples:
  - {id: a, group: a, prompt: Question, target: right}
"""


class Silence:
    """Hears everything and says nothing."""

    def note(self, text: str) -> None: ...
    def expect(self, samples: int) -> None: ...
    def settled(self, samples: int) -> None: ...
    def subject(self, label: str, suite: str) -> None: ...
    def answered(self, result: SampleResult) -> None: ...


class Rounds:
    """The seconds of each look, by the scout's own method with a clock around it; `all_seen` once there are enough."""

    def __init__(self, enough: int) -> None:
        self.seconds: list[float] = []
        self.all_seen = asyncio.Event()
        self._enough = enough
        self._look = Scout.look

    def __enter__(self) -> Rounds:
        rounds = self

        async def timed(scout: Scout) -> None:
            started = time.perf_counter()
            await rounds._look(scout)
            rounds.seconds.append(time.perf_counter() - started)
            if len(rounds.seconds) >= rounds._enough:
                rounds.all_seen.set()

        Scout.look = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Scout.look = self._look  # type: ignore[method-assign]


def lay_out(folder: Path, runs: int, each: int) -> None:
    """Checkpoints that differ, in folders of their own."""
    for run in range(runs):
        for step in range(each):
            place = folder / f"run-{run:03d}" / f"checkpoint-{100 * (step + 1)}"
            write_adapter(place, {"lora_alpha": run * each + step + 1})


async def evaluated(job: Job, count: int) -> None:
    """Evaluate them all, once."""
    ledger = Ledger(job.workspace)
    try:
        done = await watch(replace(job, once=True), ledger, Silence())
    finally:
        ledger.close()
        await job.host.aclose()
    if done.evaluated != count or done.exit_code:
        lab.fail(f"{done.evaluated} of {count} checkpoints were evaluated, {len(done.unusable)} could not be")


async def polled(job: Job, rounds: int) -> list[float]:
    """The seconds of each round but the first, which logs in."""
    ledger = Ledger(job.workspace)
    try:
        with Rounds(rounds + 1) as looks:
            polling = asyncio.create_task(watch(job, ledger, Silence()))
            seen = asyncio.create_task(looks.all_seen.wait())
            await asyncio.wait({polling, seen}, return_when=asyncio.FIRST_COMPLETED)
            for task in (polling, seen):
                task.cancel()
            await asyncio.gather(polling, seen, return_exceptions=True)
    finally:
        ledger.close()
        await job.host.aclose()
    return looks.seconds[1:]


def listed_by_find(trainer: Server, folder: Path, count: int) -> float:
    """Seconds that `find` takes over SSH to list the same files."""
    options = ["-p", str(trainer.port), "-i", os.environ["HOME"] + "/.ssh/id_ed25519"]
    options += ["-o", f"UserKnownHostsFile={os.environ['HOME']}/.ssh/known_hosts"]
    command = ["ssh", *options, "127.0.0.1", f"find {folder} -name adapter_model.safetensors -printf '%s %T@ %p\\n'"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.stdout.count("\n") != count:
        lab.fail(f"find lists {done.stdout.count(chr(10))} of {count} files: {done.stderr.strip()}")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=1000, help="in runs of ten")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder / "runs", chosen.checkpoints // 10, 10)
        (folder / "suite.yaml").write_text(SUITE)
        (folder / "script.yaml").write_text(SCRIPT)
        home, log = make_home(folder / "home"), folder / "sftp.log"
        os.environ["HOME"] = str(home.folder)
        os.environ.pop("SSH_AUTH_SOCK", None)
        sftp = f"Subsystem sftp /usr/lib/openssh/sftp-server -e -l VERBOSE 2>>{log}"
        with server(folder / "sshd", home.key, sftp) as trainer:
            home.trust(trainer)
            address = f"ssh://127.0.0.1:{trainer.port}{folder}/runs"
            host, place = open_host(address)
            suites = (load_suite(folder / "suite.yaml"),)
            base = f"scripted:{folder / 'script.yaml'}"
            job = Job(place, base, suites, None, folder / "results", poll_seconds=0.05, host=host)
            asyncio.run(evaluated(job, chosen.checkpoints))
            before = log.read_text().count("open ")
            seconds = asyncio.run(polled(replace(job, host=open_host(address)[0]), chosen.rounds))
            opened = log.read_text().count("open ") - before
            by_find = listed_by_find(trainer, folder / "runs", chosen.checkpoints)
    print(f"a round over {chosen.checkpoints:,} finished checkpoints: {lab.spread(seconds, ' s')}")
    print(f"ssh and find: {by_find:.2f} s")
    print(f"files opened in the rounds: {opened}")
    return max(
        lab.verdict("the number of files opened", opened, 0, at_most=True),
        lab.verdict("seconds of a round", statistics.median(seconds), TARGET, at_most=True),
    )


if __name__ == "__main__":
    sys.exit(main())
