"""What the benchmarks share: the lab's paths, one `assay watch` over it, its journal, and how results are printed."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / "examples" / "lab"
BASE = LAB / "base"
CHECKPOINTS = LAB / "checkpoints"
SUITE = LAB / "suite.yaml"
SUBJECTS = 13  # the base and twelve checkpoints

Row = dict[str, Any]


@dataclass(frozen=True)
class Watched:
    """One `assay watch`: its seconds from start to exit, and its journal's records in the order they were written."""

    seconds: float
    records: list[Row]

    @property
    def completions(self) -> list[Row]:
        return [r for r in self.records if r["kind"] == "completion"]

    def answers(self, iteration: int) -> dict[str, str]:
        """Sample id -> answer of one checkpoint; iteration 0 is the base."""
        return {r["sample"]: r["text"] for r in self.completions if r.get("iteration", 0) == iteration}


def assay() -> str:
    """The `assay` command of the environment that this Python belongs to."""
    command = Path(sys.executable).with_name("assay")
    if not command.exists():
        fail(f"there is no {command}; run this with the Python of an environment that assay is installed in")
    return str(command)


def watch(workspace: Path, base: str) -> Watched:
    """Evaluate the base and all checkpoints into a new workspace."""
    command = [assay(), "watch", str(CHECKPOINTS), "--base", base, "--suite", str(SUITE), "--once"]
    started = time.perf_counter()
    done = subprocess.run([*command, "--workspace", str(workspace)], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        fail(f"assay watch ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    (segment,) = (workspace / "journal").glob("*.jsonl")
    with segment.open(encoding="utf-8") as file:
        watched = Watched(seconds, [json.loads(line) for line in file])
    asked = sum(r["kind"] == "finished" for r in watched.records)
    if asked != SUBJECTS:
        fail(f"assay watch finished {asked} of {SUBJECTS} subjects")
    return watched


def spread(values: Sequence[float], unit: str = "") -> str:
    """The median, with the range: "1.21 (1.18 to 1.30)"."""
    return f"{statistics.median(values):.2f}{unit} ({min(values):.2f} to {max(values):.2f})"


def verdict(what: str, value: float, target: float, *, at_most: bool) -> int:
    """Print the last line, and return the exit code."""
    met = value <= target if at_most else value >= target
    bound = "at most" if at_most else "at least"
    print(f"{'ok' if met else 'MISSED'}: {what} is {value:.3f}, the target is {bound} {target:g}")
    return 0 if met else 1


def fail(reason: str) -> NoReturn:
    print(f"FAILED: {reason}", file=sys.stderr)
    sys.exit(1)
