"""Copies: whole or not there, resumed, verified."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from assay.errors import HostFault, Unreachable
from assay.hosts.base import Copied
from assay.hosts.local import LocalHost
from assay.hosts.partial import partial_name

MIB = 1 << 20


class Watched(LocalHost):
    """This machine, with a hook before each read: what else happens meanwhile."""

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.meanwhile: dict[int, object] = {}

    async def read(self, path: PurePosixPath, start: int = 0, length: int | None = None) -> bytes:
        self.reads.append(start)
        happening = self.meanwhile.pop(start, None)
        if isinstance(happening, BaseException):
            raise happening
        if callable(happening):
            happening()
        return await super().read(path, start, length)


def source(folder: Path, mib: int = 20) -> tuple[Path, bytes]:
    content = os.urandom(mib * MIB + 17)
    path = folder / "source"
    path.write_bytes(content)
    return path, content


async def partial_of(host: LocalHost, path: Path, target: Path) -> Path:
    entry = await host.stat(PurePosixPath(path))
    assert entry is not None
    return target.with_name(partial_name(target.name, host.name, entry))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


async def test_a_copy_tells_its_size_and_digest(tmp_path: Path) -> None:
    path, content = source(tmp_path)
    copied = await LocalHost().copy_from(PurePosixPath(path), tmp_path / "target")
    assert copied == Copied(len(content), hashlib.sha256(content).hexdigest())
    assert (tmp_path / "target").read_bytes() == content
    assert names(tmp_path) == ["source", "target"]


async def test_an_empty_file_is_copied(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    copied = await LocalHost().copy_from(PurePosixPath(tmp_path / "source"), tmp_path / "target")
    assert copied == Copied(0, hashlib.sha256(b"").hexdigest())


async def test_an_interrupted_copy_goes_on_where_it_was(tmp_path: Path) -> None:
    path, content = source(tmp_path)
    host, target = Watched(), tmp_path / "target"
    host.meanwhile[12 * MIB] = Unreachable("gone")
    with pytest.raises(Unreachable):
        await host.copy_from(PurePosixPath(path), target)
    partial = await partial_of(host, path, target)
    assert not target.exists()
    here = partial.stat().st_size
    assert here == 12 * MIB
    again = Watched()  # a restart knows nothing but the files
    await again.copy_from(PurePosixPath(path), target)
    assert min(again.reads) == here
    assert target.read_bytes() == content
    assert names(tmp_path) == ["source", "target"]


async def test_a_cancelled_copy_goes_on_where_it_was(tmp_path: Path) -> None:
    path, content = source(tmp_path)
    host, target = Watched(), tmp_path / "target"
    copying = asyncio.create_task(host.copy_from(PurePosixPath(path), target))
    host.meanwhile[18 * MIB] = copying.cancel
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert not target.exists()
    again = Watched()
    await again.copy_from(PurePosixPath(path), target)
    assert min(again.reads) > 0
    assert target.read_bytes() == content


async def test_a_partial_file_that_was_damaged_is_copied_again(tmp_path: Path) -> None:
    path, content = source(tmp_path)
    host, target = Watched(), tmp_path / "target"
    (await partial_of(host, path, target)).write_bytes(b"\0" * 5 * MIB)  # as a loss of power leaves it
    await host.copy_from(PurePosixPath(path), target)
    assert host.reads[0] == 5 * MIB
    assert target.read_bytes() == content


async def test_a_partial_file_that_is_too_long_is_copied_again(tmp_path: Path) -> None:
    path, content = source(tmp_path)
    host, target = LocalHost(), tmp_path / "target"
    (await partial_of(host, path, target)).write_bytes(content + b"more")
    await host.copy_from(PurePosixPath(path), target)
    assert target.read_bytes() == content


async def test_a_whole_partial_file_is_only_verified(tmp_path: Path) -> None:
    path, content = source(tmp_path)
    host, target = Watched(), tmp_path / "target"
    (await partial_of(host, path, target)).write_bytes(content)
    await host.copy_from(PurePosixPath(path), target)
    assert host.reads == []
    assert target.read_bytes() == content


async def test_parts_of_an_earlier_state_are_not_gone_on_with_and_removed(tmp_path: Path) -> None:
    path, _ = source(tmp_path)
    host, target = Watched(), tmp_path / "target"
    host.meanwhile[12 * MIB] = Unreachable("gone")
    with pytest.raises(Unreachable):
        await host.copy_from(PurePosixPath(path), target)
    _, content = source(tmp_path, mib=21)
    await host.copy_from(PurePosixPath(path), target)
    assert target.read_bytes() == content
    assert names(tmp_path) == ["source", "target"]


@pytest.mark.parametrize("at", [0, 18, 20])
@pytest.mark.parametrize("same_size", [True, False])
async def test_a_source_that_changes_meanwhile(tmp_path: Path, at: int, same_size: bool) -> None:
    path, content = source(tmp_path)
    host = Watched()
    other = os.urandom(len(content) if same_size else len(content) // 2)

    def overwrite() -> None:
        times = path.stat()
        path.write_bytes(other)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a clock too coarse to tell

    host.meanwhile[at * MIB] = overwrite
    if at == 0 and same_size:  # all that was read is of the new state, which is a copy like any other
        await host.copy_from(PurePosixPath(path), tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == other
        return
    with pytest.raises(HostFault, match="changed while it was copied") as caught:
        await host.copy_from(PurePosixPath(path), tmp_path / "target")
    assert caught.value.kind == "changed"
    assert names(tmp_path) == ["source"]


async def test_a_source_that_grows_meanwhile(tmp_path: Path) -> None:
    path, _ = source(tmp_path)
    host = Watched()
    host.meanwhile[18 * MIB] = lambda: os.truncate(path, 30 * MIB)
    with pytest.raises(HostFault, match="changed while it was copied"):
        await host.copy_from(PurePosixPath(path), tmp_path / "target")
    assert names(tmp_path) == ["source"]


async def test_a_source_that_is_removed_meanwhile(tmp_path: Path) -> None:
    path, _ = source(tmp_path)
    host = Watched()
    host.meanwhile[18 * MIB] = path.unlink
    with pytest.raises(HostFault, match=r"there is no .*source") as caught:
        await host.copy_from(PurePosixPath(path), tmp_path / "target")
    assert caught.value.kind == "missing"
    assert names(tmp_path) == []


async def test_a_target_that_was_there_is_replaced_in_one_step(tmp_path: Path) -> None:
    path, content = source(tmp_path)
    target = tmp_path / "target"
    target.write_bytes(b"old")
    host = Watched()
    host.meanwhile[20 * MIB] = lambda: seen.append(target.read_bytes())
    seen: list[bytes] = []
    await host.copy_from(PurePosixPath(path), target)
    assert seen == [b"old"]
    assert target.read_bytes() == content


async def test_two_copies_to_one_place_do_not_meet(tmp_path: Path) -> None:
    path, content = source(tmp_path)
    host, target = LocalHost(), tmp_path / "target"
    one, two = await asyncio.gather(*(host.copy_from(PurePosixPath(path), target) for _ in range(2)))
    assert one == two
    assert target.read_bytes() == content
    assert names(tmp_path) == ["source", "target"]


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that everybody may use, and a process that isn't root, whom nothing is forbidden."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield folder
        os.seteuid(0)
    else:
        yield folder
    shutil.rmtree(folder)


async def test_a_file_that_may_not_be_read(nobody: Path) -> None:
    path, _ = source(nobody, 1)
    path.chmod(0)
    with pytest.raises(HostFault, match="check the permissions") as caught:
        await LocalHost().copy_from(PurePosixPath(path), nobody / "target")
    assert caught.value.kind == "forbidden"


async def test_a_folder_that_may_not_be_written(nobody: Path) -> None:
    path, _ = source(nobody, 1)
    (nobody / "closed").mkdir(mode=0o500)
    with pytest.raises(HostFault, match=r"closed/target may not be .* check the permissions") as caught:
        await LocalHost().copy_from(PurePosixPath(path), nobody / "closed" / "target")
    assert caught.value.kind == "forbidden"


async def test_no_room_is_seen_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.touch()
    os.truncate(path, shutil.disk_usage(tmp_path).free)  # a file without blocks
    host = Watched()
    with pytest.raises(HostFault, match=r"there is no room for .*target") as caught:
        await host.copy_from(PurePosixPath(path), tmp_path / "target")
    assert caught.value.kind == "full"
    assert host.reads == []
    assert names(tmp_path) == ["source"]


async def test_a_disk_that_fills_up_meanwhile_gets_its_room_back(tmp_path: Path, small_disk: Path) -> None:
    path, content = source(tmp_path, mib=7)
    host = Watched()
    fill = small_disk / "others"
    host.meanwhile[0] = lambda: fill.write_bytes(b"\0" * (20 * MIB))
    with pytest.raises(HostFault) as caught:
        await host.copy_from(PurePosixPath(path), small_disk / "target")
    assert caught.value.kind == "full"
    assert names(small_disk) == ["others"]
    fill.unlink()
    await host.copy_from(PurePosixPath(path), small_disk / "target")
    assert (small_disk / "target").read_bytes() == content
    assert shutil.disk_usage(small_disk).used < 8 * MIB
