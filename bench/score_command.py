"""What the benchmarks of `assay score` share: answers to score, settings, and the command's time, CPU time and memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lab
from judge_server import MARK

_SYLLABLES = [consonant + vowel for consonant in "bdfghklmnprstvw" for vowel in "aeo"]


# Compiled modules are kept and output is buffered, as a user has it.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED") and not name.startswith("ASSAY_")
}


@dataclass(frozen=True)
class Ran:
    """A process that has ended. cpu: user and system seconds. peak: megabytes of resident memory at the highest."""

    code: int
    seconds: float
    cpu: float
    peak: float
    out: str
    err: str


def run(command: Sequence[str], folder: Path, **environment: str) -> Ran:
    """Run a command to its end, with these variables besides."""
    variables = {**ENVIRONMENT, **environment}
    with (folder / "out.txt").open("w+") as out, (folder / "err.txt").open("w+") as err:
        began = time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        # macOS counts bytes, Linux KiB.
        peak = usage.ru_maxrss / 1e6 if sys.platform == "darwin" else usage.ru_maxrss * 1024 / 1e6
        return Ran(child.returncode, seconds, usage.ru_utime + usage.ru_stime, peak, out.read(), err.read())


def score(folder: Path, answers: Path, judge: str, workspace: str, *more: str) -> list[str]:
    """The command that has `answers` judged by the rubric `semantic`; results and settings are in `folder`."""
    out = ["-o", str(folder / f"{workspace}.jsonl"), "--workspace", str(folder / workspace)]
    return [lab.assay(), "score", str(answers), "--suite", "semantic", "--judge", judge, *out, *more]


def write_answers(path: Path, count: int) -> Path:
    """So many different answers of some 600 characters, each with a mark that tells it from the others."""
    source = random.Random(7)

    def sentence() -> str:
        words = ["".join(source.choices(_SYLLABLES, k=source.randint(1, 3))) for _ in range(source.randint(6, 14))]
        return " ".join(words).capitalize() + "."

    with path.open("w", encoding="utf-8") as file:
        for item in range(count):
            text = " ".join([MARK.format(item), *(sentence() for _ in range(12))])
            record = {"id": f"a{item}", "model": "m", "prompt": sentence(), "response": text}
            file.write(json.dumps(record) + "\n")
    return path


def write_settings(folder: Path, **http: float) -> None:
    """The folder's `assay.toml`: how to talk to a server."""
    lines = [f"{name} = {value}" for name, value in http.items()]
    (folder / "assay.toml").write_text("\n".join(["[http]", *lines, ""]), encoding="utf-8")


def scored(path: Path) -> tuple[int, int]:
    """How many of the lines that `assay score -o` wrote hold scores, and how many a failure with its class."""
    with path.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    whole = sum(len(line["scores"].get("semantic", {})) == 4 and not line["failures"] for line in lines)
    classed = sum(bool(line["failures"]) and all(f["error_class"] for f in line["failures"]) for line in lines)
    return whole, classed
