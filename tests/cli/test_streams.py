"""Standard streams that are full, closed, or read by nobody: one sentence at most, the right exit code, nothing lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from assay.cli.score_files import lines
from assay.errors import BadInput
from assay.results.journal import Damage, read
from assay.results.records import AnswerScored
from tests.cli.running import ASSAY, jsonl


@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">/dev/full", 3, "assay: standard output cannot be written (No space left on device); what was earned is kept\n"),
        ("-o - >/dev/full", 3, "assay: standard output cannot be written (No space left on device); what was earned is kept\n"),
        (">&- <&-", 0, ""),
        ("| true", 141, ""),
    ],
)  # fmt: skip
def test_an_output_that_takes_nothing(tmp_path: Path, streams: str, code: int, said: str) -> None:
    jsonl(tmp_path / "a.jsonl", ({"id": str(n), "prompt": "Q", "response": "A."} for n in range(3)))
    words = ["bash", "-c", f"{ASSAY} score a.jsonl {streams}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, said)
    damage = Damage()
    kept = [r for _, r in read(tmp_path / "assay-results", damage) if isinstance(r, AnswerScored)]
    assert len(kept) == (0 if "-o" in streams else 3)
    assert damage.lines == 0, "nothing that was printed got into the journal"


def test_one_command_at_a_time_writes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with lines(path) as file:
        assert file is not None
        with pytest.raises(BadInput, match=r"another command is writing .*s\.jsonl"), lines(path):
            pass
        file.write(b"mine\n")
    with lines(path) as file:
        assert file is not None
        file.write(b"and mine\n")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"and mine\n"]
