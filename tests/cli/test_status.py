"""`assay status` and `assay watch --dry-run` go by weights and places, and say the same of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.running import assay, bad
from tests.making import SCRIPT, SUITE, adapter_file, written

WATCH = ("watch", "lab", "--base", "scripted:script.yaml", "--suite", "suite.yaml")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    written(tmp_path / "script.yaml", SCRIPT)
    written(tmp_path / "suite.yaml", SUITE)
    adapter_file(tmp_path / "lab" / "0000010_adapters.safetensors", 10)
    return tmp_path


def watched(place: Path, *flags: str) -> None:
    done = assay(place, *WATCH, "--once", *flags)
    assert done.returncode == 0, done.stderr


def states(place: Path) -> list[tuple[str, str]]:
    [run] = json.loads(assay(place, "status", "--json").stdout)["runs"]
    return [(each["checkpoint"], each["state"]) for each in run["checkpoints"] if each["digest"]]


def planned(place: Path, *flags: str) -> list[tuple[str, str]]:
    rows = json.loads(assay(place, *WATCH, "--once", "--dry-run", "--json", *flags).stdout)
    return sorted((row["checkpoint"], row["action"]) for row in rows)


def test_another_file_of_one_label_does_not_change_what_is_said_of_it(place: Path) -> None:
    """The last file keeps older weights, and is seen after the numbered one."""
    lab = place / "lab"
    adapter_file(lab / "adapters.safetensors", 99)
    (lab / "adapter_config.json").write_text(
        (lab / "adapter_config.json").read_text().replace('"iters": 30', '"iters": 10')
    )
    watched(place)
    assert states(place) == [("lab @10", "done")] * 2
    adapter_file(lab / "adapters.safetensors", 98)
    (lab / "adapter_config.json").write_text(
        (lab / "adapter_config.json").read_text().replace('"iters": 30', '"iters": 10')
    )
    watched(place, "--limit", "1")  # which is not all of the suite
    written(place / "other.yaml", SUITE.replace("name: small", "name: other"))
    watched(place, "--suite", "other.yaml", "--filter", "*/0000010_*")
    assert states(place) == [("lab @10", "done"), ("lab @10", "waiting")]
    said = assay(place, "status").stdout
    assert "run lab (small, other): 1 done, 1 waiting" in said
    assert "lab @10 (" in said
    assert "adapters.safetensors): waiting" in said


def test_what_has_the_weights_of_another_one_is_called_so_whichever_was_there_first_or_is_left(place: Path) -> None:
    lab = place / "lab"
    watched(place)
    shutil.copy(lab / "0000010_adapters.safetensors", lab / "0000005_adapters.safetensors")
    shutil.copy(lab / "0000010_adapters.safetensors", lab / "0000015_adapters.safetensors")
    watched(place)
    same = [("lab @10", "same"), ("lab @15", "same"), ("lab @5", "done")]
    assert sorted(states(place)) == planned(place) == same
    (lab / "0000010_adapters.safetensors").unlink()
    assert sorted(states(place)) == same
    assert planned(place) == same[1:]
    watched(place)
    assert sorted(states(place)) == same[1:]
    adapter_file(lab / "0000010_adapters.safetensors", 11)
    watched(place)
    now = [("lab @10", "done"), ("lab @15", "same"), ("lab @5", "done")]
    assert sorted(states(place)) == planned(place) == now, "lab @10 has other weights"


def test_a_run_that_was_moved_is_told_of_as_it_is_now(place: Path) -> None:
    """Weights that were never asked, and whose label stands for others in the new folder, wait for nobody."""
    for iteration in (20, 30):
        adapter_file(place / "lab" / f"{iteration:07d}_adapters.safetensors", iteration)
    broken = SCRIPT.replace("answers:\n", "answers:\n  - {prompt: Question a, fail: die}\n")
    written(place / "script.yaml", broken)
    assay(place, *WATCH, "--once")
    written(place / "script.yaml", SCRIPT)
    (place / "moved").mkdir()
    (place / "lab").rename(place / "moved" / "lab")
    adapter_file(place / "moved" / "lab" / "0000030_adapters.safetensors", 31)
    moved = ("watch", "moved/lab", *WATCH[2:], "--once", "--run", "lab")
    assert assay(place, *moved).returncode == 0
    assert states(place) == [("lab @10", "done"), ("lab @20", "done"), ("lab @30", "done")]


def test_a_plan_is_the_same_from_any_folder(place: Path) -> None:
    watched(place)
    away = place / "away"
    away.mkdir()
    words = ("watch", "../lab", "--base", "scripted:../script.yaml", "--suite", "../suite.yaml", "--once", "--dry-run")
    told = assay(away, *words, "--workspace", "../assay-results")
    assert told.stdout.split()[0] == "done", told.stdout + told.stderr


def test_names_of_files_are_printed_on_one_line(place: Path) -> None:
    strange = place / "lab" / "a\nevaluate   lab @99\x1b[31m"
    adapter_file(strange / "checkpoint-10" / "x", 1)
    (strange / "checkpoint-10" / "x").rename(strange / "checkpoint-10" / "adapter_model.bin")
    adapter_file(strange / "0000010_adapters.safetensors", 2)
    written(strange / "0000020_adapters.safetensors", "\x7f" * 100)
    (strange / "away").symlink_to(place)
    for flags in (("--dry-run",), ()):
        done = assay(place, *WATCH, "--once", *flags)
        said = assay(place, "status")
        for text in (done.stdout, done.stderr, *([said.stdout] if not flags else [])):
            assert "\x1b" not in text
            assert not [line for line in text.splitlines() if line.startswith("evaluate   lab @99")]
        if flags:
            assert len(done.stdout.splitlines()) == 4, done.stdout


def test_what_no_flag_lets_through_is_said(place: Path) -> None:
    for flags, said in (
        (("--filter", "*@99"), "none of the 1 checkpoints in lab fits --filter *@99"),
        (("--every", "7"), "none of the 1 checkpoints in lab is at a multiple of --every 7"),
        (("--every", "7", "--filter", "lab*"), "none of the 1 checkpoints in lab is at a multiple of --every 7"),
        (("--every", "7", "--filter", "*@99"), "none of the 1 checkpoints in lab fits --filter *@99"),
    ):
        assert said in bad(place, *WATCH, "--once", "--dry-run", *flags)
        waiting = assay(place, *WATCH, "--dry-run", *flags)
        assert (waiting.returncode, waiting.stdout) == (0, "")
        assert said in waiting.stderr
    written(place / "lab" / "0000010_adapters.safetensors", "").rename(place / "lab" / "else")
    assert "lab holds no checkpoint yet" in assay(place, *WATCH, "--dry-run").stderr
    assert "lab holds no checkpoint (expected" in bad(place, *WATCH, "--dry-run", "--once")
