"""A real OpenSSH server on a loopback port, with a host key, users' keys and settings of its own, and the client's side."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
USER = getpass.getuser()


def needs_sshd() -> None:
    if not Path(SSHD).exists() or shutil.which("ssh-keygen") is None:
        pytest.skip("OpenSSH's server is not installed (Debian: openssh-server)")


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", path], check=True)
    return path


@dataclass
class Server:
    """A running server. folder: its files."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def connections(self) -> int:
        """How many logins it has seen."""
        return self.log.count("Accepted publickey")

    def known_hosts_line(self, name: str | None = None) -> str:
        key = (self.folder / "host_key.pub").read_text()
        return f"{name or f'[127.0.0.1]:{self.port}'} {key}"

    def drop(self) -> None:
        """Cut all connections, as a crash does."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def vanish(self) -> None:
        """Cut all connections and take no new one."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.stop()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def again(self) -> None:
        """Start it once more, on the same port."""
        self.process = _start(self.folder, self.port)


@contextmanager
def server(folder: Path, key: Path, *settings: str) -> Iterator[Server]:
    """A server that lets `key` in, with these lines of sshd_config first."""
    needs_sshd()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "host_key").exists():
        make_key(folder / "host_key")
    shutil.copy(key.with_name(key.name + ".pub"), folder / "authorized_keys")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    lines = [
        *settings,
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host_key",
        "PidFile none",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "LogLevel VERBOSE",
        "MaxStartups 100",
        "PrintMotd no",
    ]
    if not any(line.startswith("Subsystem") for line in settings):
        lines.append("Subsystem sftp internal-sftp")
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    running = Server(folder, port, _start(folder, port))
    try:
        yield running
    finally:
        children = (
            psutil.Process(running.process.pid).children(recursive=True) if running.process.poll() is None else []
        )
        running.stop()
        for child in children:
            if child.is_running():
                child.kill()


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "sshd_config"), "-p", str(port)], stdin=subprocess.DEVNULL, stderr=log
        )
    for _ in range(500):
        if process.poll() is not None:
            raise AssertionError(f"sshd ended: {(folder / 'log').read_text()}")
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.02)
    raise AssertionError("sshd does not listen")


@dataclass
class Home:
    """A user's home on the client's side: `~/.ssh` with a key, a configuration and the known hosts."""

    folder: Path
    key: Path
    lines: list[str] = field(default_factory=list)

    @property
    def ssh(self) -> Path:
        return self.folder / ".ssh"

    @property
    def known_hosts(self) -> Path:
        return self.ssh / "known_hosts"

    def trust(self, running: Server, name: str | None = None) -> None:
        with self.known_hosts.open("a") as file:
            file.write(running.known_hosts_line(name))

    def configure(self, text: str) -> None:
        (self.ssh / "config").write_text(text)


def make_home(folder: Path) -> Home:
    needs_sshd()
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    return Home(folder, make_key(folder / ".ssh" / "id_ed25519"))
