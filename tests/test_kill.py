"""SIGKILL the main job at random moments and run it again: nothing finished is asked again, nothing is counted twice,
and the table is that of an undisturbed run. The real command, the real engine, the lab."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from assay.results.journal import Damage, read
from assay.results.records import CompletionMade
from tests.conftest import LAB

ASSAY = str(Path(sys.executable).parent / "assay")
KILLS = 20


def command(workspace: Path) -> list[str]:
    return [
        ASSAY, "watch", str(LAB / "checkpoints"), "--base", f"llama:{LAB / 'base' / 'lab-f32.gguf'}",
        "--suite", str(LAB / "suite.yaml"), "--once", "--workspace", str(workspace),
    ]  # fmt: skip


def table(workspace: Path) -> str:
    """What `assay report` prints."""
    done = subprocess.run([ASSAY, "report", "--workspace", str(workspace)], capture_output=True, text=True, check=True)
    return done.stdout


def counted(workspace: Path) -> list[dict[str, object]]:
    done = subprocess.run(
        [ASSAY, "report", "--json", "--workspace", str(workspace)], capture_output=True, text=True, check=True
    )
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def finished_asking(workspace: Path) -> Counter[str]:
    return Counter(r.key for _, r in read(workspace) if isinstance(r, CompletionMade))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    workspace = tmp_path_factory.mktemp("undisturbed")
    started = time.monotonic()
    subprocess.run(command(workspace), check=True, capture_output=True)
    return workspace, time.monotonic() - started


def kill_after(workspace: Path, seconds: float) -> bool:
    """Run the job and kill it, its child included only by its own doing. False if it ended before."""
    job = subprocess.Popen(command(workspace), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        job.wait(seconds)
    except subprocess.TimeoutExpired:
        children = psutil.Process(job.pid).children(recursive=True)
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "the engine's process outlived the watch"
        return True
    return False


def test_twenty_kills_change_nothing(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    reference, whole = undisturbed
    chance = random.Random(20)
    kills = workspaces = 0
    while kills < KILLS:
        workspaces += 1
        workspace = tmp_path / str(workspaces)
        while kills < KILLS:
            before = finished_asking(workspace)
            # Up to the length of a whole run: some kills hit the start, some the middle, some the very end.
            if not kill_after(workspace, chance.uniform(0.2, whole)):
                break
            kills += 1
            assert finished_asking(workspace) >= before
        subprocess.run(command(workspace), check=True, capture_output=True)
        asked = finished_asking(workspace)
        assert set(asked.values()) == {1}, "something finished was asked again"
        assert asked.keys() == finished_asking(reference).keys()
        assert table(workspace) == table(reference)
        assert counted(workspace) == counted(reference)
        damage = Damage()
        list(read(workspace, damage))
        assert damage.lines <= kills


def test_a_second_run_of_a_finished_job_asks_nothing(undisturbed: tuple[Path, float]) -> None:
    workspace, _ = undisturbed
    asked, shown = finished_asking(workspace), table(workspace)
    subprocess.run(command(workspace), check=True, capture_output=True)
    assert finished_asking(workspace) == asked
    assert table(workspace) == shown
