"""What every host does, on this machine and over SSH alike."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from pathlib import Path, PurePosixPath

import pytest

from assay.errors import HostFault
from assay.hosts.base import Entry, Host

# Names that a shell, a terminal or a careless program could take for something else.
NASTY = [
    "a folder with spaces",
    "; rm -rf x",
    "$(touch x)`touch x`",
    "'",
    '"',
    'it\'s "both"',
    "back\\slash",
    "new\nline",
    "tab\there",
    "-rf",
    "--",
    "~",
    "*?[a]",
    "!history",
    "%41",
    "# no comment",
    "häufig-試-🙂",
    " leading and trailing ",
    "\udcff\udcfe no UTF-8",
    "\x1b[31mred",
]


def posix(path: Path) -> PurePosixPath:
    return PurePosixPath(path)


async def test_a_folder_is_listed_by_name_with_sizes_kinds_and_times(host: Host, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.bin").write_bytes(b"12345")
    os.utime(tmp_path / "a.bin", (1_700_000_000, 1_700_000_000))
    (tmp_path / "c").write_bytes(b"")
    found = await host.list(posix(tmp_path))
    assert [(e.path.name, e.kind, e.link) for e in found] == [
        ("a.bin", "file", False),
        ("b", "folder", False),
        ("c", "file", False),
    ]
    assert found[0] == Entry(posix(tmp_path / "a.bin"), "file", 5, 1_700_000_000 * 10**9)
    assert await host.stat(posix(tmp_path / "a.bin")) == found[0]


async def test_an_empty_folder_holds_nothing(host: Host, tmp_path: Path) -> None:
    assert await host.list(posix(tmp_path)) == []


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowded")
    for number in range(10_000):
        (folder / f"{number:07}_adapters.safetensors").touch()
    return folder


async def test_ten_thousand_entries(host: Host, crowded: Path) -> None:
    found = await host.list(posix(crowded))
    assert [e.path.name for e in found] == [f"{number:07}_adapters.safetensors" for number in range(10_000)]


@pytest.mark.parametrize("name", NASTY)
async def test_any_name_is_only_a_name(host: Host, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    file = folder / name
    file.write_bytes(b"weights")
    (tmp_path / "x").mkdir()
    names = sorted([name, "x"])
    assert [e.path.name for e in await host.list(posix(tmp_path))] == names
    assert [e.path for e in await host.list(posix(folder))] == [posix(file)]
    assert await host.stat(posix(file)) is not None
    assert await host.real(posix(file)) == posix(file.resolve())
    assert await host.read(posix(file)) == b"weights"
    assert await host.digest(posix(file)) == hashlib.sha256(b"weights").hexdigest()
    assert (await host.copy_from(posix(file), tmp_path / "copy")).size == 7
    assert (tmp_path / "copy").read_bytes() == b"weights"
    assert (await host.copy_to(tmp_path / "copy", posix(folder / "back"))).size == 7
    assert (folder / "back").read_bytes() == b"weights"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "x", "copy"])
    assert sorted(p.name for p in folder.iterdir()) == sorted([name, "back"])


@pytest.mark.parametrize("word", [*NASTY, ""])
async def test_an_argument_is_handed_over_as_it_is(host: Host, tmp_path: Path, word: str) -> None:
    ran = await host.run(["printf", "%s|", word, "next"])
    assert (ran.status, ran.output, ran.errors, ran.cut) == (0, f"{word}|next|", "", False)
    assert list(tmp_path.iterdir()) == []


async def test_links_are_what_they_lead_to(host: Host, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"123")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "file").symlink_to("real/file")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    found = {
        e.path.name: (e.kind, e.size if e.kind == "file" else None, e.link) for e in await host.list(posix(tmp_path))
    }
    assert found == {
        "real": ("folder", None, False),
        "folder": ("folder", None, True),
        "file": ("file", 3, True),
        "nowhere": ("other", None, True),
        "circle": ("other", None, True),
    }
    for broken in ("nowhere", "circle"):
        for asking in (host.real, host.list, host.read):
            with pytest.raises(HostFault) as caught:
                await asking(posix(tmp_path / broken))
            assert caught.value.kind in ("missing", "other")
        with pytest.raises(HostFault, match=f"there is no .*{broken}") as caught:
            await host.real(posix(tmp_path / broken))
        assert caught.value.kind == "missing"
    for name, (kind, _, link) in found.items():
        entry = await host.stat(posix(tmp_path / name))
        assert entry is not None
        assert (entry.kind, entry.link) == (kind, link)
    assert await host.real(posix(tmp_path / "folder" / ".." / "file")) == posix((tmp_path / "real" / "file").resolve())
    assert [e.path for e in await host.list(posix(tmp_path / "folder"))] == [posix(tmp_path / "folder" / "file")]


async def test_sockets_and_pipes_are_no_files_and_block_nobody(host: Host, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        monkey = os.open(tmp_path, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{monkey}/socket")
        finally:
            os.close(monkey)
        assert [(e.path.name, e.kind) for e in await host.list(posix(tmp_path))] == [
            ("pipe", "other"),
            ("socket", "other"),
        ]
        for name in ("pipe", "socket"):
            with pytest.raises(HostFault, match="is not a file"):
                await host.read(posix(tmp_path / name))
            with pytest.raises(HostFault, match="is not a file"):
                await host.copy_from(posix(tmp_path / name), tmp_path / "copy")


async def test_what_is_not_there(host: Host, tmp_path: Path) -> None:
    gone = posix(tmp_path / "gone")
    (tmp_path / "file").write_bytes(b"1")
    assert await host.stat(gone) is None
    assert await host.stat(posix(tmp_path / "file" / "below")) is None
    for asking in (
        host.list(gone),
        host.real(gone),
        host.read(gone),
        host.digest(gone),
        host.copy_from(gone, tmp_path / "copy"),
        host.copy_to(tmp_path / "gone", posix(tmp_path / "copy")),
        host.copy_from(posix(tmp_path / "file"), tmp_path / "gone" / "copy"),
        host.copy_to(tmp_path / "file", gone / "copy"),
    ):
        with pytest.raises(HostFault, match="gone") as caught:
            await asking
        assert caught.value.kind == "missing"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


async def test_a_file_is_no_folder_and_a_folder_no_file(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(HostFault, match="file is not a folder"):
        await host.list(posix(tmp_path / "file"))
    with pytest.raises(HostFault, match="is not a file"):
        await host.read(posix(tmp_path))
    with pytest.raises(HostFault, match="is not a file"):
        await host.copy_from(posix(tmp_path), tmp_path / "copy")


async def test_parts_of_a_file(host: Host, tmp_path: Path) -> None:
    content = os.urandom(700_000)
    (tmp_path / "file").write_bytes(content)
    file = posix(tmp_path / "file")
    assert await host.read(file) == content
    assert await host.read(file, 0, 8) == content[:8]
    assert await host.read(file, 300_000) == content[300_000:]
    assert await host.read(file, 299_999, 300_001) == content[299_999:600_000]
    assert await host.read(file, 699_999, 100) == content[-1:]
    assert await host.read(file, 700_000, 100) == b""
    assert await host.read(file, 900_000) == b""
    assert await host.read(file, 5, 0) == b""


async def test_everything_at_once(host: Host, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "file").write_bytes(str(number).encode())

    async def one(number: int) -> None:
        folder = posix(tmp_path / f"{number}")
        (entry,) = await host.list(folder)
        assert await host.read(entry.path) == str(number).encode()

    await asyncio.gather(*(one(number) for number in range(300)), *(host.run(["true"]) for _ in range(12)))


async def test_a_program_says_how_it_ended(host: Host) -> None:
    ran = await host.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (ran.status, ran.output, ran.errors) == (7, "out\n", "err\n")
    ran = await host.run(["sh", "-c", "kill -TERM $$"])
    assert ran.status == -15
    for missing in ("no-such-program-here", "/no/such/program"):
        ran = await host.run([missing])
        assert (ran.status, ran.output) == (127, "")
        assert "not found" in ran.errors
    assert (await host.run(["/"])).status == 126
    assert (await host.run(["cat"])).output == ""


async def test_what_a_program_prints_is_bounded(host: Host) -> None:
    ran = await host.run(["sh", "-c", "head -c 9000000 /dev/zero; echo end >&2"])
    assert (len(ran.output), ran.errors, ran.cut, ran.status) == (1 << 20, "end\n", True, 0)


async def test_a_program_that_hangs_is_killed_with_all_it_started(host: Host, tmp_path: Path) -> None:
    script = 'echo $$ >"$0"/pid; sleep 1000 & echo $! >"$0"/child; wait'
    with pytest.raises(HostFault, match=r"sh did not end within 3 s"):
        await host.run(["sh", "-c", script, str(tmp_path)], timeout_seconds=3)
    for name in ("pid", "child"):
        pid = int((tmp_path / name).read_text())
        for _ in range(500):
            if (
                not Path(f"/proc/{pid}").exists()
                or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            ):
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError(f"{name} still runs")


@pytest.mark.parametrize("command", [[], ["printf", "a\0b"]])
async def test_what_no_program_can_be_given(host: Host, command: list[str]) -> None:
    with pytest.raises(ValueError, match="zero byte"):
        await host.run(command)
