"""Temporary folders: what a killed process has left goes with the next one, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assay.scratch import Scratch

MAKE = """
import sys, time
from assay.scratch import Scratch
made = Scratch("test")
(made.path / "file").write_text("x")
print(made.path, flush=True)
time.sleep(600) if sys.argv[1] == "stay" else None
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def another(*what: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", MAKE, *(what or ("leave",))], stdout=subprocess.PIPE, text=True)


def made_by(process: subprocess.Popen[str]) -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_a_killed_process_leaves_what_the_next_one_removes(home: Path) -> None:
    with another("stay") as killed, another("stay") as alive:
        left, kept = made_by(killed), made_by(alive)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "file").exists(), "nobody could remove it"
        with another() as third:
            own = made_by(third)
            third.wait()
        assert [path for path in home.iterdir() if path.is_dir()] == [kept]
        assert not own.exists(), "it is gone with its process"
        assert (kept / "file").exists()
        alive.kill()


def test_a_child_does_not_hold_the_folder_of_its_parent(home: Path) -> None:
    started = "import subprocess, sys; subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL); "
    with subprocess.Popen([sys.executable, "-c", MAKE.replace("import sys", started + "import sys"), "stay"],
                          stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:  # fmt: skip
        left = made_by(parent)
        parent.kill()
        try:
            with another() as next_one:
                next_one.wait()
            assert not left.exists()
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def test_what_only_looks_alike_stays(home: Path) -> None:
    (home / "assay-results-abcdefgh").mkdir()
    (home / "assay-results-abcdefgh" / "journal").write_text("earned")
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / ".assay-scratch").write_text("")
    (home / "assay-test-abcdefgh").symlink_to(home / "elsewhere")
    (home / "assay-test-12345678").mkdir()
    (home / "assay-test-12345678" / ".assay-scratch").symlink_to(home / "elsewhere" / ".assay-scratch")
    with another() as process:
        process.wait()
    assert sorted(path.name for path in home.iterdir()) == [
        "assay-results-abcdefgh",
        "assay-test-12345678",
        "assay-test-abcdefgh",
        "elsewhere",
    ]


def test_it_is_gone_after_the_block(home: Path) -> None:
    with Scratch("test") as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()
