"""A sink that was down for 100,000 results: how fast it catches up, and in how much memory.

    python bench/sink_catch_up.py

Journals 100,000 scored answers of an adapter, then forwards them to a DuckDB file in a fresh process, and says records a
second and the most memory that was resident. What it is held against is what a script would do: DuckDB's `executemany`, a tenth
of as many rows of the same width in batches of the same size.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from assay.results.index import Ledger
from assay.results.records import CompletionMade, Place, Proof, Run, ScoreMade, place_of
from assay.sinks.duckdb import DuckDBSink
from assay.sinks.shipper import BATCH, Shipper

IDENTITY = "1" * 64


def fill(workspace: Path, count: int) -> None:
    """Journal `count` answers with a score each, a hundred to a checkpoint."""
    ledger = Ledger(workspace)
    ledger.append(Run(run="lab", base="base", engine="mlx", engine_version="1", identity=IDENTITY))
    for checkpoint in range(count // 100):
        digest, batch = f"{checkpoint:064x}", f"b{checkpoint}"
        records: list[CompletionMade | ScoreMade | Proof] = []
        for index in range(100):
            place = place_of(
                Place(
                    run="lab",
                    checkpoint=f"lab @{checkpoint}",
                    iteration=checkpoint,
                    digest=digest,
                    identity=IDENTITY,
                    suite="small",
                    suite_version=1,
                    suite_digest="s" * 64,
                    sample=f"sample {index}",
                    group=f"group {index % 5}",
                    index=index,
                    batch=batch,
                )
            )
            key = f"{checkpoint * 1000 + index:064x}"
            text = f"The answer to the question is {index}, as a model would put it in a sentence or two. " * 3
            records.append(
                CompletionMade(
                    **place,
                    key=key,
                    prompt=f"What is question {index}?",
                    options={},
                    text=text,
                    finish_reason="stop",
                    prompt_tokens=10,
                    completion_tokens=60,
                    seconds=0.1,
                )
            )
            records.append(
                ScoreMade(
                    **place,
                    key=key,
                    completion=key,
                    scorer="contains_word",
                    scorer_version=1,
                    metric="correct",
                    value=index % 3 > 0,
                    low=0.0,
                    high=1.0,
                )
            )
        records.append(Proof(run="lab", digest=digest, identity=IDENTITY, batch=batch, verdict="live"))
        ledger.append_all(records)
    ledger.close()


async def ship(workspace: Path) -> None:
    """Forward all there is, and print seconds, facts sent, and the peak of resident memory in MB."""
    sink = DuckDBSink("duckdb", workspace / "results.duckdb")
    shipper = Shipper(workspace, sink, print)
    started = time.perf_counter()
    await shipper.drain()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(f"{seconds:.3f} {shipper.state.sent} {peak:.0f}")


def by_hand(workspace: Path, count: int) -> float:
    """Seconds that a script's `executemany` takes for as many rows of the same width, in batches of the same size."""
    import duckdb

    text = "The answer to the question is 7, as a model would put it in a sentence or two. " * 3
    started = time.perf_counter()
    with duckdb.connect(workspace / "by-hand.duckdb") as db:
        db.execute(
            "create table samples (run text, checkpoint text, digest text, sample text, value double, response text)"
        )
        for first in range(0, count, BATCH):
            rows = [("lab", f"lab @{n}", f"{n:064x}", f"sample {n}", 1.0, text) for n in range(first, first + BATCH)]
            db.executemany("insert into samples values (?, ?, ?, ?, ?, ?)", rows)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.workspace:
        asyncio.run(ship(given.workspace))
        return
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        fill(workspace, given.records)
        command = [sys.executable, __file__, "--workspace", str(workspace)]
        seconds, sent, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        script = by_hand(workspace, given.records // 10) * 10
        print(f"caught up: {int(sent):,} results in {float(seconds):.1f} s, {int(sent) / float(seconds):,.0f} a second")
        print(f"memory:    {peak} MB at most")
        print(
            f"a script's executemany: {given.records / script:,.0f} a second, {script / float(seconds):.1f} times the time"
        )


if __name__ == "__main__":
    main()
