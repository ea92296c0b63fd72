"""Which files are checkpoints, what a run is called, and which of them can be read now."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path, PurePosixPath

import pytest

from assay.checkpoints.discover import Discovery
from assay.checkpoints.naming import names_of, run_name
from assay.checkpoints.readiness import Look, Readiness
from assay.errors import BadInput
from assay.hosts.local import LocalHost
from assay.types import Checkpoint
from tests.making import adapter_file, checkpoints, discovered


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("lab/checkpoints", "lab"),
        ("runs/vi-12b", "vi-12b"),
        ("adapters-vi-12b", "vi-12b"),
        ("my run/adapters", "my run"),
        ("a/output/checkpoints", "a"),
        ("adapters-", "adapters-"),
    ],
)
def test_run_names(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    assert run_name(tmp_path / folder) == name


def test_a_relative_folder_is_named_as_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "lab" / "checkpoints")
    assert names_of(PurePosixPath(Path().absolute())).run == "lab"


def test_only_checkpoint_files_count_and_they_are_in_order(tmp_path: Path) -> None:
    checkpoints(tmp_path, (100, 20, 3))
    for name in ("x_adapters.safetensors", "0000010_adapters.safetensors.tmp", "optimizer.safetensors", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "0000999_adapters.safetensors").mkdir()
    found = discovered(tmp_path, "r")
    assert [(c.iteration, c.numbered) for c in found] == [(3, True), (20, True), (100, True), (100, False)]
    assert [c.label for c in found] == ["r @3", "r @20", "r @100", "r @100"]
    assert found[0].size == Path(found[0].weights).stat().st_size


def test_a_number_that_no_table_can_hold_is_passed_over_and_said(tmp_path: Path) -> None:
    checkpoints(tmp_path, (20, 10**18))
    found = asyncio.run(Discovery(LocalHost(), PurePosixPath(tmp_path), None).look())
    assert [c.iteration for c in found.checkpoints if c.numbered] == [20]
    assert [note.rsplit("/", 1)[-1] for note in found.unlisted] == [
        "1000000000000000000_adapters.safetensors, whose number is too large for an iteration's"
    ]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no folder"):
        discovered(tmp_path / "gone", "r")


def looked(readiness: Readiness, found: list[Checkpoint]) -> Look:
    return asyncio.run(readiness.look(found))


def labels(pairs: list[tuple[object, str]]) -> list[str]:
    return [getattr(c, "label", "") for c, _ in pairs]


def test_polling_offers_a_file_once_it_is_unchanged_for_a_round(tmp_path: Path) -> None:
    path = adapter_file(tmp_path / "0000010_adapters.safetensors", 1)
    readiness = Readiness(LocalHost(), once=False)
    assert not looked(readiness, discovered(tmp_path, "r")).ready
    [ready] = looked(readiness, discovered(tmp_path, "r")).ready
    readiness.settle(ready)
    assert not looked(readiness, discovered(tmp_path, "r")).ready, "it is dealt with"
    adapter_file(path, 2)
    os.utime(path, ns=(1, 1))
    assert labels(looked(readiness, discovered(tmp_path, "r")).waiting) == ["r @10"], "overwritten in place: a new one"
    assert looked(readiness, discovered(tmp_path, "r")).ready


def test_where_times_are_whole_seconds_a_file_is_read_once_its_next_change_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints(tmp_path, (10,))
    now = int(time.time())
    for path in tmp_path.iterdir():
        os.utime(path, (now, now))
    monkeypatch.setattr("assay.checkpoints.readiness._COARSE_SECONDS", 1e6)
    found = discovered(tmp_path, "r")
    readiness = Readiness(LocalHost(), once=False)
    for _ in range(3):
        assert not looked(readiness, found).ready
    assert Readiness(LocalHost(), once=True).pause(found) == 1e6
    assert readiness.pause(found) == 0
    monkeypatch.setattr("assay.checkpoints.readiness._COARSE_SECONDS", 0)
    assert looked(readiness, found).ready
    monkeypatch.undo()
    for path in tmp_path.iterdir():
        os.utime(path, (now - 100, now - 100))
    assert Readiness(LocalHost(), once=True).pause(discovered(tmp_path, "r")) == 0, "it is old enough"


def test_a_short_file_waits_until_a_later_one_is_whole(tmp_path: Path) -> None:
    path = adapter_file(tmp_path / "0000010_adapters.safetensors", 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    readiness = Readiness(LocalHost(), once=False)
    for _ in range(3):
        look = looked(readiness, discovered(tmp_path, "r"))
        assert labels(look.waiting) == ["r @10"]
        assert not look.ready
        assert not look.broken
    adapter_file(tmp_path / "0000020_adapters.safetensors", 2)
    looked(readiness, discovered(tmp_path, "r"))
    look = looked(readiness, discovered(tmp_path, "r"))
    assert labels(look.broken) == ["r @10"]
    assert [c.label for c in look.ready] == ["r @20"]


def test_a_single_look_waits_for_nothing(tmp_path: Path) -> None:
    path = adapter_file(tmp_path / "0000010_adapters.safetensors", 1)
    adapter_file(tmp_path / "0000020_adapters.safetensors", 2)
    os.truncate(path, 100)
    look = looked(Readiness(LocalHost(), once=True), discovered(tmp_path, "r"))
    assert labels(look.broken) == ["r @10"]
    assert [c.label for c in look.ready] == ["r @20"]
    (tmp_path / "adapter_config.json").unlink()
    look = looked(Readiness(LocalHost(), once=True), discovered(tmp_path, "r"))
    assert labels(look.broken) == ["r @10", "r @20"]
    assert "adapter_config.json is missing" in look.broken[1][1]


def test_a_configuration_that_may_still_change_unseen_is_read_again(tmp_path: Path) -> None:
    """Where times are whole seconds, another text of the same size within the second looks the same."""
    checkpoints(tmp_path, (10,))
    config = tmp_path / "adapter_config.json"
    discovery = Discovery(LocalHost(), PurePosixPath(tmp_path), "r")

    def base_after(named: str, seconds: int) -> str:
        config.write_text(json.dumps({"model": named}))
        os.utime(config, (seconds, seconds))
        return asyncio.run(_base(discovery))

    now = int(time.time())
    assert [base_after(name, now) for name in ("one", "two")] == ["one", "two"]
    assert [base_after(name, now - 1000) for name in ("old", "new")] == ["old", "old"], "it is long settled"


async def _base(discovery: Discovery) -> str:
    found = await discovery.look()
    return await discovery.base_of(found.checkpoints[0])
