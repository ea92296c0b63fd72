"""Does a week's trouble change a result? Disturbed watches over SSH, each held against an undisturbed one.

    python bench/chaos.py                         # 200 runs, some half an hour
    python bench/chaos.py --runs 20 --first 57    # runs 57 to 76 of the same series

Each run is the lab's `assay watch` over SSH, with a DuckDB file and an InfluxDB as sinks, into a workspace of its own. At a
random moment one of these happens to it, in turn, all drawn from the seed:

* kill: the watch is killed (SIGKILL);
* influx: InfluxDB is killed, and started again a random while later;
* cut: for a random while all SSH connections are cut, and no new one is taken;
* disk: for a random while the workspace's disk, a small tmpfs, is full;
* clock: for a random while the clock is up to a month behind (libfaketime).

Then the same command is run until it ends well, as a service manager would, and `assay ship` sends what the sinks lack. What
the journal, the DuckDB tables and the InfluxDB hold is then compared with the undisturbed run: nothing may be missing, double
or other. Left out of the comparison are times, durations, random names of batches, places in the journal, and attempts.

Needs OpenSSH's server, InfluxDB 1 and libfaketime (Debian: openssh-server influxdb faketime), and to be root for the tmpfs.
"""

from __future__ import annotations

import argparse
import contextlib
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
from typing import Any

import lab

sys.path.insert(0, str(lab.ROOT))

from tests.hosts.sshd import Home, Server, make_home, server
from tests.sinks.servers import Influx1, influx1

from assay.results.journal import read
from assay.results.records import Attempt, LossSeen, ScoreMade
from assay.results.records import CompletionMade as Completion
from assay.sinks.duckdb import STORE

FAULTS = ("kill", "influx", "cut", "disk", "clock")
STORES = ("journal", "DuckDB samples", "DuckDB groups", "DuckDB losses", "DuckDB checkpoint_scores", "InfluxDB")
PATIENCE = 120  # seconds that one command may take; the undisturbed one takes some five
STARTS = 6  # how often the command may be started until it ends well
DISK = 24 << 20  # bytes of the tmpfs; a run needs about half

_ASIDE = {"time", "seq", "scored_at", "seen_at", "journal", "seconds", "batch", "v"}

Facts = dict[str, Counter[str]]


@dataclass
class Site:
    """The trainer's machine, the store of the points, and the user's home here."""

    folder: Path
    home: Home
    trainer: Server
    influx: Influx1

    def environment(self, clock: Path | None = None) -> dict[str, str]:
        environment = {**os.environ, "HOME": str(self.home.folder)}
        environment.pop("SSH_AUTH_SOCK", None)
        if clock is not None:
            # Monotonic clocks don't go back when somebody sets the time.
            faked = {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_CACHE_DURATION": "1", "DONT_FAKE_MONOTONIC": "1"}
            environment |= {"LD_PRELOAD": str(faketime()), **faked}
        return environment

    def command(self, workspace: Path, database: str) -> list[str]:
        return [
            lab.assay(), "watch", f"ssh://127.0.0.1:{self.trainer.port}{lab.CHECKPOINTS}",
            "--base", f"llama:{lab.BASE / 'lab-f32.gguf'}", "--suite", str(lab.SUITE), "--suite", "capability",
            "--limit", "4", "--once", *self.sinks(workspace, database), "--log-json",
        ]  # fmt: skip

    def sinks(self, workspace: Path, database: str) -> list[str]:
        return ["--sink", "duckdb", "--sink", f"influx:{self.influx.url}#{database}", "--workspace", str(workspace)]


def faketime() -> Path | None:
    """The library that tells programs another time."""
    return next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


def fault_of(number: int) -> str:
    """What happens in a run of this number."""
    return FAULTS[number % len(FAULTS)]


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    home = make_home(folder / "home")
    with server(folder / "sshd", home.key) as trainer, influx1(folder / "influx") as influx:
        home.trust(trainer)
        yield Site(folder, home, trainer, influx)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "assay-chaos", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def disturb(
    fault: str, job: subprocess.Popen[bytes], at: Site, workspace: Path, clock: Path, chance: random.Random
) -> None:
    """What happens to the watch, from the random moment on to its end."""
    until = time.monotonic() + chance.uniform(0.1, 4)
    if fault == "kill":
        job.send_signal(signal.SIGKILL)
    elif fault == "influx":
        at.influx.kill()
        time.sleep(max(0, until - time.monotonic()))
        at.influx.start()
    elif fault == "cut":
        at.trainer.vanish()
        time.sleep(max(0, until - time.monotonic()))
        at.trainer.again()
    elif fault == "disk":
        ballast = workspace.parent / "ballast"
        while time.monotonic() < until:
            with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            time.sleep(0.01)
        ballast.unlink()
    elif fault == "clock":
        clock.write_text(f"-{chance.randrange(1, 30 * 86400)}\n")
        time.sleep(max(1.5, until - time.monotonic()))  # the watch asks once a second how late it is
        clock.write_text("+0\n")


def run(at: Site, number: int, fault: str | None, seed: int, whole: float) -> tuple[Facts, str]:
    """The facts after one run, and what happened in it."""
    chance = random.Random(f"{seed}/{number}")
    name, database = f"run{number}", f"run{number}"
    at.influx.ask(f'create database "{database}"')
    with contextlib.ExitStack() as stack:
        place = at.folder / name
        stack.enter_context(small_disk(place)) if fault == "disk" else place.mkdir()
        workspace, clock = place / "workspace", at.folder / f"{name}.clock"
        clock.write_text("+0\n")
        command = at.command(workspace, database)
        environment = at.environment(clock if fault == "clock" else None)
        log = stack.enter_context((at.folder / f"{name}.log").open("ab"))
        job = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        moment = chance.uniform(0.1, 0.8 * whole)  # later ones come when it has ended
        if fault is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.wait(moment)
            disturb(fault, job, at, workspace, clock, chance)
        codes = [job.wait(PATIENCE)]
        while codes[-1] != 0 and len(codes) < STARTS:
            codes.append(subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=PATIENCE).returncode)
        ship = [lab.assay(), "ship", *at.sinks(workspace, database)]
        codes.append(subprocess.run(ship, env=environment, stdout=log, stderr=log, timeout=PATIENCE).returncode)
        facts = facts_of(at, workspace, database)
    return facts, f"{fault or 'undisturbed'} at {moment:.2f} s, ended with {', '.join(map(str, codes))}"


def facts_of(at: Site, workspace: Path, database: str) -> Facts:
    """What is known in the end: in each store, each fact and how often it is there."""
    return {
        "journal": Counter(journaled(workspace)),
        **{f"DuckDB {table}": Counter(rows) for table, rows in tables(workspace).items()},
        "InfluxDB": Counter(line(row) for row in at.influx.ask("select * from /_(score|judge|loss)$/", database)),
    }


def journaled(workspace: Path) -> Iterator[str]:
    for _, record in read(workspace):
        if isinstance(record, Completion | ScoreMade | LossSeen):
            fields = {name: getattr(record, name) for name in record.__struct_fields__}
            yield type(record).__name__ + line(fields)
        elif isinstance(record, Attempt) and record.final:
            yield f"set aside: {record.checkpoint}"


def tables(workspace: Path) -> dict[str, list[str]]:
    import duckdb

    with duckdb.connect(str(workspace / "results.duckdb"), read_only=True) as db:
        names = [str(row[0]) for row in db.execute("show tables").fetchall() if row[0] != STORE.name]
        found = {}
        for name in names:
            rows = db.execute(f'select * from "{name}"')
            columns = [column[0] for column in rows.description or ()]
            found[name] = [line(dict(zip(columns, row, strict=True))) for row in rows.fetchall()]
    return found


def line(fields: dict[str, Any]) -> str:
    kept = {name: value for name, value in fields.items() if name not in _ASIDE}
    return json.dumps(kept, sort_keys=True, default=str)


def difference(facts: Facts, reference: Facts) -> list[str]:
    """What is missing, and what is double or other, with an example of each."""
    said = []
    for store in sorted({*facts, *reference}):
        have, want = facts.get(store, Counter()), reference.get(store, Counter())
        for what, surplus in (("lost", want - have), ("doubled or other", have - want)):
            if surplus:
                said.append(f"{store}: {surplus.total()} {what}, such as {next(iter(surplus))}")
    return said


def series(folder: Path, runs: int, first: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """What happened in each run, and how its facts differ from those of the undisturbed one."""
    with site(folder) as at:
        started = time.monotonic()
        reference, _ = run(at, first - 1, None, seed, 0)
        whole = time.monotonic() - started
        if not all(reference[store] for store in STORES):
            lab.fail(f"the undisturbed run left nothing behind; its log: {folder}/run{first - 1}.log")
        for number in range(first, first + runs):
            facts, happened = run(at, number, fault_of(number), seed, whole)
            yield f"run {number}: {happened}", difference(facts, reference)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--keep", type=Path, help="a folder for the runs' logs and workspaces, to look at them afterwards"
    )
    chosen = parser.parse_args()
    if faketime() is None:
        lab.fail("libfaketime is not installed (Debian: apt-get install faketime)")
    wrong = 0
    with contextlib.ExitStack() as stack:
        folder = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for happened, differences in series(folder, chosen.runs, chosen.first, chosen.seed):
            wrong += bool(differences)
            print(happened, *differences, sep="\n    ", flush=True)
    print(f"seed {chosen.seed}: {chosen.runs} runs")
    return lab.verdict("the number of runs with a result lost, doubled or other", wrong, 0, at_most=True)


if __name__ == "__main__":
    sys.exit(main())
