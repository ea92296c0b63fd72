"""What a week brings: connections that drop, servers that are restarted, freeze or refuse, sources that change."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

import psutil
import pytest

from assay.errors import HostFault, Unreachable
from assay.hosts.address import Address
from assay.hosts.base import Copied
from assay.hosts.local import LocalHost
from assay.hosts.partial import partial_name
from assay.hosts.ssh import SSHHost
from assay.hosts.ssh_link import Patience
from tests.hosts.cutting import Proxy, cutting
from tests.hosts.sshd import USER, Home, Server, server

MIB = 1 << 20
HASTE = Patience(first=2, again=20, answer=5, pause=0.02, longest_pause=0.2)


def posix(path: Path) -> PurePosixPath:
    return PurePosixPath(path)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def some_file(path: Path, mib: int) -> bytes:
    content = os.urandom(mib * MIB + 17)
    path.write_bytes(content)
    return content


@asynccontextmanager
async def connected(port: int, patience: Patience = HASTE) -> AsyncIterator[SSHHost]:
    host = SSHHost(Address("127.0.0.1", None, port), patience)
    try:
        yield host
    finally:
        await host.aclose()


@pytest.fixture
async def proxy(sshd: Server, home: Home) -> AsyncIterator[Proxy]:
    async with cutting(sshd.port) as made:
        home.trust(sshd, f"[127.0.0.1]:{made.port}")
        yield made


# Connections that drop


async def test_a_connection_that_drops_in_mid_list_is_opened_again(proxy: Proxy, tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number:05}").touch()
    proxy.budgets = [60_000, 150_000]
    async with connected(proxy.port) as host:
        found = await host.list(posix(tmp_path))
    assert [e.path.name for e in found] == [f"{number:05}" for number in range(3000)]
    assert proxy.connections == 3


async def test_all_who_were_at_work_go_on_over_one_new_connection(sshd: Server, tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}").mkdir()
    async with connected(sshd.port) as host:

        async def one(number: int) -> int:
            for _ in range(5):
                assert await host.list(posix(tmp_path / f"{number}")) == []
            return number

        working = asyncio.gather(*(one(number) for number in range(200)))
        while sshd.connections == 0:
            await asyncio.sleep(0.01)
        sshd.drop()
        assert await working == list(range(200))
        assert sshd.connections == 2


@pytest.mark.parametrize("way", ["from", "to"])
async def test_a_copy_survives_dropped_connections(proxy: Proxy, tmp_path: Path, way: str) -> None:
    content = some_file(tmp_path / "source", 24)
    if way == "from":
        proxy.budgets = [5 * MIB, 9 * MIB, 30_000, 7 * MIB]
    async with connected(proxy.port) as host:
        if way == "from":
            copied = await host.copy_from(posix(tmp_path / "source"), tmp_path / "target")
            assert proxy.connections == 5
            assert proxy.carried < len(content) + 4 * 9 * MIB  # at most what was on its way was carried again
        else:
            sending = asyncio.create_task(host.copy_to(tmp_path / "source", posix(tmp_path / "target")))
            for size in (4 * MIB, 12 * MIB):
                while not any(p.stat().st_size >= size for p in tmp_path.glob(".assay-*")):
                    await asyncio.sleep(0.005)
                await proxy.cut()
            copied = await sending
            assert proxy.connections == 3
    assert copied == Copied(len(content), hashlib.sha256(content).hexdigest())
    assert (tmp_path / "target").read_bytes() == content
    assert names(tmp_path) == ["source", "target"]


async def test_a_link_that_carries_little_each_time_still_brings_the_file(proxy: Proxy, tmp_path: Path) -> None:
    content = some_file(tmp_path / "source", 12)
    proxy.budgets = [1_500_000] * 12
    async with connected(proxy.port) as host:
        await host.copy_from(posix(tmp_path / "source"), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content
    assert proxy.connections > 5


async def test_a_copy_goes_on_after_a_restart_of_the_program(proxy: Proxy, home: Home, tmp_path: Path) -> None:
    content = some_file(tmp_path / "source", 40)
    program = (
        "import asyncio, pathlib\nfrom assay.hosts.open import open_host\n"
        f"host, source = open_host('ssh://127.0.0.1:{proxy.port}{tmp_path}/source')\n"
        f"asyncio.run(host.copy_from(source, pathlib.Path('{tmp_path}/target')))\n"
    )
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    while not any(p.stat().st_size >= 8 * MIB for p in tmp_path.glob(".assay-*")):
        await asyncio.sleep(0.005)
        assert running.returncode is None
    running.send_signal(signal.SIGKILL)
    await running.wait()
    assert not (tmp_path / "target").exists()
    (partial,) = tmp_path.glob(".assay-*")
    here, carried = partial.stat().st_size, proxy.carried
    async with connected(proxy.port) as host:
        await host.copy_from(posix(tmp_path / "source"), tmp_path / "target")
    assert proxy.carried - carried < len(content) - here + MIB
    assert (tmp_path / "target").read_bytes() == content
    assert names(tmp_path) == ["source", "target"]


async def test_sending_goes_on_after_a_restart(proxy: Proxy, tmp_path: Path) -> None:
    content = some_file(tmp_path / "source", 20)
    (tmp_path / "there").mkdir()
    target = posix(tmp_path / "there" / "target")
    async with connected(proxy.port) as host:
        sending = asyncio.create_task(host.copy_to(tmp_path / "source", target))
        while not any(p.stat().st_size >= 8 * MIB for p in (tmp_path / "there").iterdir()):
            await asyncio.sleep(0.005)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    (partial,) = (tmp_path / "there").iterdir()
    assert 8 * MIB <= partial.stat().st_size < len(content)
    started = partial.stat().st_ino
    async with connected(proxy.port) as host:
        await host.copy_to(tmp_path / "source", target)
    assert (tmp_path / "there" / "target").read_bytes() == content
    assert (tmp_path / "there" / "target").stat().st_ino == started
    assert names(tmp_path / "there") == ["target"]


async def test_a_host_that_goes_away_is_unreachable_and_found_again_later(sshd: Server, tmp_path: Path) -> None:
    patience = Patience(first=1, again=0.5, answer=5, pause=0.02, longest_pause=0.1)
    async with connected(sshd.port, patience) as host:
        assert await host.list(posix(tmp_path)) == []
        sshd.drop()
        sshd.stop()
        for asking in (host.list(posix(tmp_path)), host.run(["true"])):
            with pytest.raises(
                Unreachable, match=rf"127\.0\.0\.1:{sshd.port} refuses connections.* \(\d+ tries in \d s\)"
            ):
                await asking
        sshd.again()
        assert await host.list(posix(tmp_path)) == []


async def test_a_server_that_is_restarted_is_waited_for(sshd: Server, tmp_path: Path) -> None:
    async with connected(sshd.port) as host:
        assert await host.list(posix(tmp_path)) == []
        sshd.drop()
        sshd.stop()
        listing = asyncio.create_task(host.list(posix(tmp_path)))
        await asyncio.sleep(0.3)
        assert not listing.done()
        sshd.again()
        assert await listing == []


async def test_connections_that_drop_again_and_again_at_one_thing_are_no_endless_matter(
    proxy: Proxy, tmp_path: Path
) -> None:
    for number in range(3000):
        (tmp_path / f"{number:05}").touch()
    proxy.budgets = [100_000] * 99
    async with connected(proxy.port) as host:
        with pytest.raises(Unreachable, match="dropped, 5 times in a row"):
            await host.list(posix(tmp_path))
    assert proxy.connections == 5


def sessions(running: Server) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


@pytest.mark.parametrize("alive", [True, False])
async def test_a_connection_that_freezes_is_dropped(sshd: Server, home: Home, tmp_path: Path, alive: bool) -> None:
    """By the keep-alive, or where that is long, because an answer is overdue."""
    home.configure("ServerAliveInterval 1\n" if alive else "ServerAliveInterval 600\n")
    patience = Patience(first=2, again=20, answer=600 if alive else 1, pause=0.02, longest_pause=0.2)
    async with connected(sshd.port, patience) as host:
        assert await host.list(posix(tmp_path)) == []
        frozen = sessions(sshd)
        for process in frozen:
            process.suspend()
        assert await host.list(posix(tmp_path)) == []
        assert sshd.connections == 2
        for process in frozen:
            process.kill()


async def test_a_server_that_never_answers_is_unreachable(sshd: Server, home: Home, tmp_path: Path) -> None:
    home.configure("ServerAliveInterval 600\nConnectTimeout 1\n")
    patience = Patience(first=2, again=2, answer=0.5, pause=0.02, longest_pause=0.2)
    async with connected(sshd.port, patience) as host:
        assert await host.list(posix(tmp_path)) == []
        stopped = [psutil.Process(sshd.process.pid), *sessions(sshd)]
        for process in stopped:
            process.suspend()
        with pytest.raises(Unreachable, match="does not answer"):
            await host.list(posix(tmp_path))
        for process in stopped:
            process.resume()
        assert await host.list(posix(tmp_path)) == []


async def test_a_program_whose_connection_drops_is_not_run_twice(sshd: Server, tmp_path: Path) -> None:
    async with connected(sshd.port) as host:
        running = asyncio.create_task(host.run(["sh", "-c", 'echo x >>"$0"/runs; exec sleep 1000', str(tmp_path)]))
        while not (tmp_path / "runs").exists():
            await asyncio.sleep(0.01)
        sshd.drop()
        with pytest.raises(Unreachable, match="dropped while sh ran there"):
            await running
        assert (await host.run(["echo", "again"])).output == "again\n"
        assert (tmp_path / "runs").read_text() == "x\n"


async def test_after_closing_nothing_is_opened(sshd: Server, tmp_path: Path) -> None:
    async with connected(sshd.port) as host:
        assert await host.list(posix(tmp_path)) == []
        await host.aclose()
        with pytest.raises(Unreachable, match="was closed"):
            await host.list(posix(tmp_path))
        await host.aclose()
    assert sshd.connections == 1


async def test_closing_ends_what_waits_for_a_connection(home: Home, tmp_path: Path) -> None:
    async with connected(9, Patience(first=600, pause=600)) as host:
        waiting = asyncio.create_task(host.list(posix(tmp_path)))
        await asyncio.sleep(0.2)
        await host.aclose()
        with pytest.raises(Unreachable, match="was closed"):
            await waiting


async def test_a_caller_that_is_cancelled_takes_nobody_with_it(sshd: Server, tmp_path: Path) -> None:
    async with connected(sshd.port) as host:
        first, second = (asyncio.create_task(host.list(posix(tmp_path))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == []
        with pytest.raises(asyncio.CancelledError):
            await first


# Sources that change


@pytest.mark.parametrize("what", ["longer", "shorter", "other", "gone"])
async def test_a_source_that_changes_during_the_copy(proxy: Proxy, tmp_path: Path, what: str) -> None:
    source = tmp_path / "source"
    content = some_file(source, 24)
    times = source.stat()
    async with connected(proxy.port) as host:
        copying = asyncio.create_task(host.copy_from(posix(source), tmp_path / "target"))
        while not any(p.stat().st_size >= 2 * MIB for p in tmp_path.glob(".assay-*")):
            await asyncio.sleep(0.001)
        match what:
            case "longer":
                os.truncate(source, 50 * MIB)
            case "shorter":
                os.truncate(source, MIB)
            case "gone":
                source.unlink()
            case _:
                source.write_bytes(os.urandom(len(content)))
                os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))  # within the same second, as SFTP sees it
        with pytest.raises(HostFault) as caught:
            await copying
    assert caught.value.kind == ("missing" if what == "gone" else "changed")
    assert names(tmp_path) == ([] if what == "gone" else ["source"])


async def test_a_source_that_changes_while_it_is_sent(proxy: Proxy, tmp_path: Path) -> None:
    source = tmp_path / "source"
    content = some_file(source, 24)
    (tmp_path / "there").mkdir()
    async with connected(proxy.port) as host:
        sending = asyncio.create_task(host.copy_to(source, posix(tmp_path / "there" / "target")))
        while not any(p.stat().st_size >= 2 * MIB for p in (tmp_path / "there").iterdir()):
            await asyncio.sleep(0.001)
        source.write_bytes(os.urandom(len(content)))
        with pytest.raises(HostFault, match="changed while it was copied") as caught:
            await sending
    assert caught.value.kind == "changed"
    assert names(tmp_path / "there") == []


async def test_damaged_parts_on_either_side_are_copied_again(sshd: Server, tmp_path: Path) -> None:
    content = some_file(tmp_path / "source", 3)
    async with connected(sshd.port) as host:
        there = await host.stat(posix(tmp_path / "source"))
        here = await LocalHost().stat(posix(tmp_path / "source"))
        assert there is not None
        assert here is not None
        (tmp_path / partial_name("from", host.name, there)).write_bytes(b"\0" * MIB)
        await host.copy_from(posix(tmp_path / "source"), tmp_path / "from")
        (tmp_path / partial_name("to", "", here)).write_bytes(b"\0" * MIB)
        await host.copy_to(tmp_path / "source", posix(tmp_path / "to"))
        (tmp_path / partial_name("to", "", here)).write_bytes(content + b"more")
        await host.copy_to(tmp_path / "source", posix(tmp_path / "to"))
    assert (tmp_path / "from").read_bytes() == (tmp_path / "to").read_bytes() == content
    assert names(tmp_path) == ["from", "source", "to"]


async def test_what_is_left_of_sending_another_state_is_removed(sshd: Server, tmp_path: Path) -> None:
    some_file(tmp_path / "source", 1)
    entry = await LocalHost().stat(posix(tmp_path / "source"))
    assert entry is not None
    (tmp_path / partial_name("to", "", entry)).write_bytes(b"1")
    (tmp_path / partial_name("another", "", entry)).write_bytes(b"1")
    content = some_file(tmp_path / "source", 2)
    async with connected(sshd.port) as host:
        await host.copy_to(tmp_path / "source", posix(tmp_path / "to"))
    assert (tmp_path / "to").read_bytes() == content
    assert names(tmp_path) == sorted(["source", "to", partial_name("another", "", entry)])


async def test_an_empty_file_is_sent(sshd: Server, tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    async with connected(sshd.port) as host:
        assert (await host.copy_to(tmp_path / "source", posix(tmp_path / "to"))).size == 0
        assert (await host.copy_from(posix(tmp_path / "to"), tmp_path / "back")).size == 0
    assert names(tmp_path) == ["back", "source", "to"]


async def test_a_folder_in_the_targets_place(sshd: Server, tmp_path: Path) -> None:
    some_file(tmp_path / "source", 1)
    (tmp_path / "folder").mkdir()
    async with connected(sshd.port) as host:
        with pytest.raises(HostFault, match="folder can't be read or written"):
            await host.copy_to(tmp_path / "source", posix(tmp_path / "folder"))
        with pytest.raises(HostFault, match="folder can't be read or written"):
            await host.copy_from(posix(tmp_path / "source"), tmp_path / "folder")


async def test_no_room_on_the_host(sshd: Server, tmp_path: Path, small_disk: Path) -> None:
    some_file(tmp_path / "source", 30)
    async with connected(sshd.port) as host:
        with pytest.raises(HostFault, match="there is no room for ssh://") as caught:
            await host.copy_to(tmp_path / "source", posix(small_disk / "target"))
    assert caught.value.kind == "full"
    assert names(small_disk) == []


# Accounts and servers that do less


async def everything_but_programs(host: SSHHost, tmp_path: Path) -> None:
    content = some_file(tmp_path / "source", 10)
    digest = hashlib.sha256(content).hexdigest()
    for _ in range(2):
        assert await host.digest(posix(tmp_path / "source")) == digest
    assert (await host.copy_from(posix(tmp_path / "source"), tmp_path / "here")).sha256 == digest
    assert (await host.copy_to(tmp_path / "here", posix(tmp_path / "there"))).sha256 == digest
    assert (tmp_path / "there").read_bytes() == content
    assert [e.path.name for e in await host.list(posix(tmp_path)) if e.kind == "file"] == ["here", "source", "there"]


@pytest.mark.parametrize(
    "settings",
    [
        ["ForceCommand internal-sftp"],
        ["MaxSessions 1"],
        ["SetEnv PATH=/no/such/folder"],
    ],
)
async def test_an_account_that_runs_no_programs(home: Home, tmp_path: Path, settings: list[str]) -> None:
    with server(tmp_path / "sshd", home.key, *settings) as running:
        home.trust(running)
        async with connected(running.port) as host:
            await everything_but_programs(host, tmp_path)
            with pytest.raises(HostFault, match="runs no programs for this account"):
                await host.run(["echo", "1"])
            assert running.connections == 1


@pytest.mark.parametrize("programs", [["shasum"], ["sha256sum"], []])
async def test_whichever_program_takes_digests(home: Home, tmp_path: Path, programs: list[str]) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    real = {name: shutil.which(name) for name in ("sh", "sha256sum", "echo")}
    (folder / "sh").symlink_to(str(real["sh"]))
    for name in programs:
        shift = "shift 2; " if name == "shasum" else ""
        script = f'#!{real["sh"]}\n{shift}echo {name} >>{folder}/log\nexec {real["sha256sum"]} "$@"\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o700)
    with server(tmp_path / "sshd", home.key, f"SetEnv PATH={folder}") as running:
        home.trust(running)
        async with connected(running.port) as host:
            await everything_but_programs(host, tmp_path)
            awkward = tmp_path / "back\\slash\nnew line"
            content = some_file(awkward, 1)  # what is smaller is read again
            assert await host.digest(posix(awkward)) == hashlib.sha256(content).hexdigest()
            assert (await host.run([str(real["echo"]), "1"])).output == "1\n"
    assert not programs or (folder / "log").read_text() == f"{programs[0]}\n" * 5


async def test_login_scripts_that_print_are_passed_over(home: Home, tmp_path: Path) -> None:
    login = tmp_path / "login"
    (tmp_path / "files").mkdir()
    login.write_text(
        "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in\n*sftp-server) exec /usr/lib/openssh/sftp-server;;\nesac\n"
        'echo Welcome; printf "no end of line"\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    login.chmod(0o700)
    settings = ["Subsystem sftp /usr/lib/openssh/sftp-server", f"ForceCommand {login}"]
    with server(tmp_path / "sshd", home.key, *settings) as running:
        home.trust(running)
        async with connected(running.port) as host:
            ran = await host.run(["printf", "%s", "a  b"])
            assert (ran.status, ran.output) == (0, "a  b")
            await everything_but_programs(host, tmp_path / "files")


async def test_relative_paths_begin_where_sftp_begins(home: Home, tmp_path: Path) -> None:
    start = tmp_path / "start"
    (start / "runs").mkdir(parents=True)
    content = some_file(start / "runs" / "file", 1)
    with server(tmp_path / "sshd", home.key, f"Subsystem sftp internal-sftp -d {start}") as running:
        home.trust(running)
        async with connected(running.port) as host:
            assert await host.real(PurePosixPath(".")) == posix(start.resolve())
            (entry,) = await host.list(PurePosixPath("runs"))
            assert entry.path == PurePosixPath("runs/file")
            assert await host.digest(entry.path) == hashlib.sha256(content).hexdigest()
            with pytest.raises(HostFault, match=rf"there is no ssh://{USER}@127\.0\.0\.1:{running.port}/~/gone;"):
                await host.list(PurePosixPath("gone"))


async def test_what_may_not_be_read_or_written(tmp_path_factory: pytest.TempPathFactory, home: Home) -> None:
    """Root may do everything, so the paths are such as even root can't write to."""
    with server(tmp_path_factory.mktemp("sshd"), home.key, "Subsystem sftp internal-sftp -R") as running:
        home.trust(running)
        async with connected(running.port) as host:
            folder = tmp_path_factory.mktemp("there")
            some_file(folder / "source", 1)
            with pytest.raises(HostFault, match="check the permissions there") as caught:
                await host.copy_to(folder / "source", posix(folder / "target"))
            assert caught.value.kind == "forbidden"


async def test_messages_are_on_one_line_whatever_the_name(sshd: Server, tmp_path: Path) -> None:
    async with connected(sshd.port) as host:
        with pytest.raises(HostFault) as caught:
            await host.list(posix(tmp_path / "new\nline\x1b[31m\udcff"))
    assert re.fullmatch(r"there is no ssh://\S+new\\nline\\x1b\[31m\\xff; it may have been removed", str(caught.value))
