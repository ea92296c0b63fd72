"""The journal keeps what was appended, whatever happens to its writer or its disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assay.errors import WorkspaceError
from assay.results.index import Ledger
from assay.results.journal import Damage, Journal, hold, is_held, read, segments
from assay.results.records import SCHEMA_VERSION, CompletionMade, Failure, Finished, Proof, ScoreMade


def completion(key: str, text: str = "an answer", batch: str = "") -> CompletionMade:
    return CompletionMade(
        run="r", checkpoint="r @10", iteration=10, digest="d", identity="i", suite="s", suite_version=1,
        suite_digest="sd", sample=key, group="g", index=0, batch=batch, key=key, prompt="p", options={"max_tokens": 3},
        text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=2, seconds=0.5,
    )  # fmt: skip


def score(key: str, batch: str = "", run: str = "r") -> ScoreMade:
    return ScoreMade(
        run=run, checkpoint="r @10", iteration=10, digest="d", identity="i", suite="s", suite_version=1,
        suite_digest="sd", sample=key, group="g", index=0, batch=batch, key="score-" + key, completion=key,
        scorer="contains_word", scorer_version=1, metric="correct", value=True, low=0, high=1,
    )  # fmt: skip


def proof(batch: str, verdict: str) -> Proof:
    return Proof(run="r", digest="d", identity="i", batch=batch, verdict=verdict, fingerprint=(("a", (1,), (-0.5,)),))


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    texts = ["plain", "line\nbreak", "line separator\u2028", "nul\x00", "emoji 🦙", "", "a" * 100_000]
    with Journal(tmp_path, 1) as journal:
        for number, text in enumerate(texts):
            journal.append(completion(str(number), text))
    records = [record for _, record in read(tmp_path)]
    assert [r.text for r in records if isinstance(r, CompletionMade)] == texts
    assert [r.seq for r in records] == list(range(1, len(texts) + 1))
    assert all(r.v == SCHEMA_VERSION for r in records)


def test_a_command_that_writes_nothing_leaves_no_segment(tmp_path: Path) -> None:
    Journal(tmp_path, 1).close()
    assert segments(tmp_path) == []


def test_two_writers_never_share_a_segment(tmp_path: Path) -> None:
    with Journal(tmp_path, 1) as one, Journal(tmp_path, 1) as two:
        one.append(completion("a"))
        two.append(completion("b"))
        one.append(completion("c"))
    assert len(segments(tmp_path)) == 2
    assert sorted(r.key for _, r in read(tmp_path) if isinstance(r, CompletionMade)) == ["a", "b", "c"]


def test_a_clock_that_is_turned_back_changes_no_order(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    for name in ("20990101T000000.999999999-1-abcdef.jsonl", "20200101T000000.000000000-1-abcdef.jsonl"):
        (folder / name).touch()
    written = []
    for _ in range(3):
        with Journal(tmp_path, 1) as journal:
            journal.append(completion("a"))
            written.append(journal.segment)
    assert segments(tmp_path)[2:] == written
    (folder / "zzz.jsonl").touch()
    with Journal(tmp_path, 1) as journal:
        journal.append(completion("a"))


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_torn_tail_is_skipped_and_counted(tmp_path: Path, cut: int) -> None:
    with Journal(tmp_path, 1) as journal:
        journal.append(completion("a"))
        journal.append(completion("b"))
    [segment] = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - cut)
    damage = Damage()
    assert [r.key for _, r in read(tmp_path, damage) if isinstance(r, CompletionMade)] == ["a"]
    assert damage.lines == 1


@pytest.mark.parametrize("rubbish", [b"\0\0\0\0", b'{"kind":"completion","v":1,"key":"\xff"}', b"[" * 100_000])
def test_a_line_of_rubbish_costs_itself_only(tmp_path: Path, rubbish: bytes) -> None:
    with Journal(tmp_path, 1) as journal:
        journal.append(completion("a"))
    [segment] = segments(tmp_path)
    with segment.open("ab") as file:
        file.write(rubbish + b"\n" + segment.read_bytes().replace(b'"a"', b'"b"'))
    damage = Damage()
    assert [r.key for _, r in read(tmp_path, damage) if isinstance(r, CompletionMade)] == ["a", "b"]
    assert damage.lines == 1


@pytest.mark.parametrize("kind", ["completion", "something_new"])
def test_a_newer_schema_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "journal").mkdir()
    segment = tmp_path / "journal" / "x.jsonl"
    segment.write_text(f'{{"kind":"{kind}","v":{SCHEMA_VERSION + 1},"novel":1}}\n')
    with pytest.raises(WorkspaceError, match=r"x\.jsonl:1: .*newer assay \(schema 2") as caught:
        list(read(tmp_path))
    assert caught.value.exit_code == 2


def test_an_unwritable_workspace_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot be written to"):
        Journal(tmp_path / "file", 1)


_FILL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_journal import completion
from assay.errors import DiskFault
from assay.results.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 100000))
journal = Journal(Path(sys.argv[1]), 1)
kept = 0
try:
    while True:
        journal.append(completion(str(kept), "x" * 700))
        kept += 1
except DiskFault as error:
    assert "cannot be written to" in str(error), error
    assert error.exit_code == 3
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
journal.append(completion("after", "room again"))
journal.close()
print(kept)
"""


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """A file-size limit makes the kernel write a part of a line and refuse the rest, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    damage = Damage()
    keys = [r.key for _, r in read(tmp_path, damage) if isinstance(r, CompletionMade)]
    assert int(done.stdout) > 0
    assert keys == [*map(str, range(int(done.stdout))), "after"]
    assert damage.lines == 0


_WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_journal import completion
from assay.results.journal import Journal
journal = Journal(Path(sys.argv[1]), 1)
number = 0
while True:
    journal.append(completion(str(number)))
    print(number, flush=True)
    number += 1
"""


def test_killing_the_writer_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(tmp_path), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 200:
            break
    writer.send_signal(signal.SIGKILL)
    said = [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    writer.wait()
    writer.stdout.close()
    keys = {int(r.key) for _, r in read(tmp_path) if isinstance(r, CompletionMade)}
    assert keys >= set(range(max(said, default=200) + 1))


def test_one_watch_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from assay.results.journal import hold; "
        "lock = hold(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert is_held(tmp_path)
    with pytest.raises(WorkspaceError, match="another assay watch is at work"):
        hold(tmp_path)
    other.kill()
    other.wait()
    other.stdout.close()
    assert not is_held(tmp_path)
    hold(tmp_path).release()
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()
    assert not is_held(tmp_path), "where no lock can be taken, nobody has one"


def test_the_ledger_knows_what_is_paid_for(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(completion("a"))
    ledger.append(score("a"))
    ledger.close()
    again = Ledger(tmp_path)
    found = again.completion("a")
    assert found is not None
    assert found.text == "an answer"
    assert [s.value for s in again.scores("score-a")] == [True]
    assert again.is_placed(score("a"))
    assert not again.is_placed(score("a", run="another"))
    assert again.completion("b") is None
    again.append(completion("b"))
    records = [r for _, r in read(tmp_path)]
    assert max(r.seq for r in records) == len(records), "the logical clock goes on where the last writer stopped"
    again.close()


def test_a_void_batch_is_not_known(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(proof("b1", "open"))
    ledger.append(completion("a", batch="b1"))
    ledger.append(score("a", batch="b1"))
    assert ledger.is_unvouched("b1")
    assert ledger.completion("a") is not None
    ledger.append(proof("b1", "void"))
    for each in (ledger, Ledger(tmp_path)):
        assert each.completion("a") is None
        assert each.scores("score-a"), "what the text is worth does not depend on who gave it"
        assert not each.is_placed(score("a", batch="b1"))
        assert not each.is_unvouched("b1")
        each.close()


def test_a_failure_satisfies_no_key_and_a_truncation_stands(tmp_path: Path) -> None:
    common: Any = dict(  # noqa: C408
        run="r", checkpoint="c", iteration=1, digest="d", identity="i", suite="s", suite_version=1, suite_digest="sd",
        sample="a", group="g", index=0, metric="correct", reason="why",
    )  # fmt: skip
    crash = Failure(**common, stage="generate", error_class="transient")
    cut = Failure(**common, stage="score", error_class="truncated", key="k", completion="a")
    ledger = Ledger(tmp_path)
    ledger.append(crash)
    ledger.append(cut)
    assert ledger.is_placed(cut)
    assert ledger.completion("a") is None
    ledger.close()


@pytest.mark.parametrize(
    ("recorded", "failed", "wanted", "done"),
    [(0, 0, 0, True), (0, 0, 5, True), (5, 0, 0, False), (5, 0, 5, True), (5, 0, 6, False), (0, 1, 0, False)],
)
def test_finished_means_that_no_work_is_left(
    tmp_path: Path, recorded: int, failed: int, wanted: int, done: bool
) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(
        Finished(
            run="r",
            checkpoint="c",
            iteration=1,
            digest="d",
            identity="i",
            suite="s",
            suite_version=1,
            suite_digest="sd",
            limit=recorded,
            asked=10,
            scored=10 - failed,
            failed=failed,
            truncated=0,
            seconds=1.0,
        )
    )
    assert (ledger.finished("r", "d", "sd", "i", wanted) is not None) is done
    assert ledger.finished("r", "d", "another suite", "i", wanted) is None
    ledger.close()
