"""Whom one talks to and as whom: host keys, users' keys, the agent, and what is said when it isn't so."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

import pytest

from assay.errors import AssayError, BadInput, Unreachable
from assay.hosts.address import Address
from assay.hosts.base import Host
from assay.hosts.known_hosts import Known
from assay.hosts.open import open_host
from assay.hosts.ssh import SSHHost
from assay.hosts.ssh_config import resolve
from assay.hosts.ssh_connect import Login, Lost, NoHost, meaning_of
from assay.hosts.ssh_link import Patience
from tests.hosts.sshd import USER, Home, Server, make_key, server

HASTE = Patience(first=1, again=5, answer=5, pause=0.02, longest_pause=0.2)
ROOT = PurePosixPath("/")


@asynccontextmanager
async def connected(running: Server, name: str = "127.0.0.1") -> AsyncIterator[SSHHost]:
    host = SSHHost(Address(name, None, running.port if name == "127.0.0.1" else None), HASTE)
    try:
        yield host
    finally:
        await host.aclose()


async def refused(host: SSHHost, kind: type[AssayError] = BadInput) -> str:
    """What is said when the host can't be used: one sentence on one line."""
    with pytest.raises(kind) as caught:
        await host.list(ROOT)
    await host.aclose()
    text = str(caught.value)
    assert "\n" not in text
    assert not text.endswith(".")
    return text


def fingerprint(running: Server) -> str:
    said = subprocess.run(
        ["ssh-keygen", "-lf", running.folder / "host_key.pub"], capture_output=True, text=True, check=True
    )
    return said.stdout.split()[1]


def direct(running: Server) -> SSHHost:
    return SSHHost(Address("127.0.0.1", None, running.port), HASTE)


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An agent without keys, which is the user's. Its socket's path must be short."""
    folder = tmp_path_factory.mktemp("a")
    started = subprocess.Popen(["ssh-agent", "-D", "-a", folder / "s"], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(folder / "s"))
    while subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode == 2:  # not there yet
        assert started.poll() is None
    yield str(folder / "s")
    started.terminate()
    started.wait()


def add(key: Path, tmp_path: Path, passphrase: str = "") -> None:
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\necho {shlex.quote(passphrase)}\n")
    ask.chmod(0o700)
    asking = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", key], env=asking, check=True, capture_output=True)


# Host keys


async def test_an_unknown_host_key_is_shown_and_the_command_that_accepts_it_works(
    sshd: Server, home: Home, tmp_path: Path
) -> None:
    home.known_hosts.unlink()
    said = await refused(direct(sshd))
    assert f"the host key of 127.0.0.1:{sshd.port} is not known: ssh-ed25519 {fingerprint(sshd)};" in said
    assert not home.known_hosts.exists()
    command = said.partition("accept it with: ")[2]
    assert command == f"ssh -o StrictHostKeyChecking=ask -p {sshd.port} 127.0.0.1 exit"
    yes = tmp_path / "yes"
    yes.write_text("#!/bin/sh\necho yes\n")
    yes.chmod(0o700)
    home.configure(f"UserKnownHostsFile {home.known_hosts}\nIdentityFile {home.key}\n")
    words = shlex.split(command)
    words[1:1] = ["-F", str(home.ssh / "config")]  # ssh doesn't go by $HOME
    asking = {**os.environ, "SSH_ASKPASS": str(yes), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(words, env=asking, check=True, capture_output=True)
    async with connected(sshd) as host:
        assert await host.list(ROOT)


@pytest.mark.parametrize(
    "lax",
    [
        "StrictHostKeyChecking no\n",
        "StrictHostKeyChecking accept-new\n",
        "StrictHostKeyChecking off\nUserKnownHostsFile none\nGlobalKnownHostsFile none\n",
        "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\n",
        "UserKnownHostsFile none\n",
    ],
)
async def test_no_configuration_turns_the_check_off(sshd: Server, home: Home, lax: str) -> None:
    home.known_hosts.unlink()
    home.configure(lax)
    assert "is not known" in await refused(direct(sshd))
    assert not home.known_hosts.exists()
    assert sshd.connections == 0


async def test_a_changed_host_key_is_never_followed(sshd: Server, home: Home) -> None:
    before = fingerprint(sshd)
    lines = "# of the lab\n" + home.known_hosts.read_text()
    home.known_hosts.write_text(lines)
    home.configure("StrictHostKeyChecking no\n")
    sshd.stop()
    (sshd.folder / "host_key").unlink()
    make_key(sshd.folder / "host_key")
    sshd.again()
    said = await refused(direct(sshd))
    assert (
        f"the host key of 127.0.0.1:{sshd.port} has changed, so nothing was sent: it is ssh-ed25519 {fingerprint(sshd)}"
        in said
    )
    assert f"where {home.known_hosts}:2 has ssh-ed25519 {before}" in said
    assert home.known_hosts.read_text() == lines
    assert sshd.connections == 0
    command = said.partition("remove the old one with: ")[2]
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    assert "is not known" in await refused(direct(sshd))
    home.trust(sshd)
    async with connected(sshd) as host:
        assert await host.list(ROOT)


async def test_a_host_key_that_changes_while_assay_runs_ends_it(sshd: Server, home: Home) -> None:
    async with connected(sshd) as host:
        assert await host.list(ROOT)
        sshd.drop()
        sshd.stop()
        (sshd.folder / "host_key").unlink()
        make_key(sshd.folder / "host_key")
        sshd.again()
        with pytest.raises(BadInput, match="has changed"):
            await host.list(ROOT)


async def test_a_key_of_another_kind_than_the_known_one_is_a_changed_key(
    sshd: Server, home: Home, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other", "ecdsa")
    home.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {other.with_suffix('.pub').read_text()}")
    said = await refused(direct(sshd))
    assert "has changed" in said
    assert "has ecdsa-sha2-nistp256 SHA256:" in said


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
async def test_the_known_one_of_several_host_keys_is_asked_for(home: Home, tmp_path: Path, kind: str) -> None:
    keys = {each: make_key(tmp_path / each, each) for each in ("rsa", "ecdsa", "ed25519")}
    with server(tmp_path / "sshd", home.key, *(f"HostKey {key}" for key in keys.values())) as running:
        home.known_hosts.write_text(f"[127.0.0.1]:{running.port} {keys[kind].with_suffix('.pub').read_text()}")
        async with connected(running) as host:
            assert await host.list(ROOT)


async def test_a_revoked_host_key(sshd: Server, home: Home) -> None:
    home.known_hosts.write_text(sshd.known_hosts_line() + "@revoked * " + (sshd.folder / "host_key.pub").read_text())
    assert "is revoked" in await refused(direct(sshd))


async def test_known_hosts_in_all_their_forms(sshd: Server, home: Home) -> None:
    key = (sshd.folder / "host_key.pub").read_text()
    for pattern in (
        "127.0.0.1",
        "127.0.0.*",
        f"[127.0.0.1]:{sshd.port},other",
        "127.0.0.0/8",
        f"!other,[127.*]:{sshd.port}",
    ):
        home.known_hosts.write_text(f"a broken line\n\n# {key}\n{pattern} {key}")
        async with connected(sshd) as host:
            assert await host.list(ROOT), pattern
    for pattern in ("127.0.0.2", f"!127.0.0.1,![127.0.0.1]:{sshd.port},*", f"[127.0.0.1]:{sshd.port + 1}"):
        home.known_hosts.write_text(f"{pattern} {key}")
        assert "is not known" in await refused(direct(sshd)), pattern
    home.known_hosts.write_text(sshd.known_hosts_line())
    subprocess.run(["ssh-keygen", "-Hf", home.known_hosts], check=True, capture_output=True)
    assert "127.0.0.1" not in home.known_hosts.read_text()
    async with connected(sshd) as host:
        assert await host.list(ROOT)


async def test_a_key_known_without_the_port_must_match_but_is_no_changed_one(
    sshd: Server, home: Home, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other")
    home.known_hosts.write_text(f"127.0.0.1 {other.with_suffix('.pub').read_text()}")
    assert "is not known" in await refused(direct(sshd))


async def test_a_host_key_alias_names_the_machine(sshd: Server, home: Home) -> None:
    home.known_hosts.write_text(sshd.known_hosts_line("the-trainer"))
    home.configure(f"Host t\n  HostName 127.0.0.1\n  Port {sshd.port}\n  HostKeyAlias the-trainer\n")
    async with connected(sshd, "t") as host:
        assert await host.list(ROOT)
        assert host.name == f"ssh://{USER}@the-trainer:{sshd.port}"


async def test_a_host_certificate(sshd: Server, home: Home, tmp_path: Path) -> None:
    authority = make_key(tmp_path / "authority")
    public = sshd.folder / "host_key.pub"
    names = ["-h", "-n", "127.0.0.1", "-I", "host", public]
    subprocess.run(["ssh-keygen", "-q", "-s", authority, *names], check=True)
    sshd.stop()
    with (sshd.folder / "sshd_config").open("a") as config:
        config.write(f"HostCertificate {sshd.folder}/host_key-cert.pub\n")
    sshd.again()
    home.known_hosts.write_text(f"@cert-authority * {authority.with_suffix('.pub').read_text()}")
    async with connected(sshd) as host:
        assert await host.list(ROOT)
    stranger = make_key(tmp_path / "stranger")
    home.known_hosts.write_text(f"@cert-authority * {stranger.with_suffix('.pub').read_text()}")
    assert "the host key of" in await refused(direct(sshd))


async def test_known_hosts_that_may_not_be_read(sshd: Server, home: Home) -> None:
    home.known_hosts.unlink()
    home.known_hosts.mkdir()
    assert f"{home.known_hosts}, which holds the known host keys, can't be read" in await refused(direct(sshd))


# Users' keys


async def test_a_key_that_is_not_accepted(sshd: Server, home: Home, tmp_path: Path) -> None:
    home.key.unlink()
    home.key.with_suffix(".pub").unlink()
    make_key(home.key)
    said = await refused(direct(sshd))
    assert said == (
        f"127.0.0.1:{sshd.port} accepts none of the keys that were offered ({home.key}) for the user {USER}; "
        f"let it accept one with: ssh-copy-id -p {sshd.port} 127.0.0.1"
    )


async def test_no_key_at_all(sshd: Server, home: Home) -> None:
    home.key.unlink()
    said = await refused(direct(sshd))
    assert "asks for a key, and there is none to offer" in said
    assert "make one with ssh-keygen" in said


async def test_an_encrypted_key_needs_the_agent(sshd: Server, home: Home, agent: str, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "a secret", "-f", home.key], check=True, capture_output=True
    )
    said = await refused(direct(sshd))
    assert said.endswith(f"{home.key} is encrypted and no agent holds it, so run: ssh-add {home.key}")
    add(home.key, tmp_path, "a secret")
    async with connected(sshd) as host:
        assert await host.list(ROOT)
        sshd.drop()
        assert await host.list(ROOT)  # the agent is asked again


async def test_the_agent_alone_is_enough(sshd: Server, home: Home, agent: str, tmp_path: Path) -> None:
    add(home.key, tmp_path)
    home.key.unlink()
    home.key.with_suffix(".pub").unlink()
    async with connected(sshd) as host:
        assert await host.list(ROOT)


async def test_an_agent_that_is_gone_is_no_hindrance(sshd: Server, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home.folder / "gone"))
    async with connected(sshd) as host:
        assert await host.list(ROOT)


async def test_an_agent_full_of_other_keys(home: Home, agent: str, tmp_path: Path) -> None:
    for number in range(5):
        add(make_key(tmp_path / f"other{number}"), tmp_path)
    with server(tmp_path / "sshd", home.key, "MaxAuthTries 3") as running:
        home.trust(running)
        said = await refused(direct(running))
        assert "was offered more keys than it allows tries" in said
        assert "IdentitiesOnly yes" in said
        add(home.key, tmp_path)  # what the agent holds of the user's own keys is offered first
        async with connected(running) as host:
            assert await host.list(ROOT)
        subprocess.run(["ssh-add", "-q", "-d", home.key.with_suffix(".pub")], check=True, capture_output=True)
        home.configure(f"IdentityFile {home.key}\nIdentitiesOnly yes\n")
        async with connected(running) as host:
            assert await host.list(ROOT)


async def test_only_the_named_keys_of_the_agent(sshd: Server, home: Home, agent: str, tmp_path: Path) -> None:
    add(home.key, tmp_path)
    other = make_key(tmp_path / "other")
    home.configure(f"IdentityFile {other}\nIdentitiesOnly yes\n")
    assert f"({other})" in await refused(direct(sshd))
    home.configure(f"IdentityFile {home.key}.pub\nIdentitiesOnly yes\n")  # the agent's key, named by its public half
    shutil.move(home.key, tmp_path / "elsewhere")
    async with connected(sshd) as host:
        assert await host.list(ROOT)
    home.configure("IdentityAgent none\n")
    assert "there is none to offer" in await refused(direct(sshd))
    home.configure(f"IdentityAgent {agent}\n")
    async with connected(sshd) as host:
        assert await host.list(ROOT)


async def test_a_named_key_that_is_not_there_or_broken(sshd: Server, home: Home, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nbroken\n-----END OPENSSH PRIVATE KEY-----\n")
    home.configure(f"IdentityFile {tmp_path}/gone\nIdentityFile {tmp_path}/broken\nIdentityFile ~/.ssh/id_ed25519\n")
    async with connected(sshd) as host:
        assert await host.list(ROOT)
    home.configure(f"IdentityFile {tmp_path}/gone\nIdentityFile {tmp_path}/broken\n")
    assert f"the key {tmp_path}/broken can't be used" in await refused(direct(sshd))


async def test_a_user_that_is_not_let_in(sshd: Server) -> None:
    host = SSHHost(Address("127.0.0.1", "nobody-of-this-name", sshd.port), HASTE)
    assert "for the user nobody-of-this-name" in await refused(host)


async def test_a_login_that_is_refused_for_a_while_after_it_worked(sshd: Server, home: Home) -> None:
    allowed = sshd.folder / "authorized_keys"
    async with connected(sshd) as host:
        assert await host.list(ROOT)
        allowed.rename(sshd.folder / "away")
        sshd.drop()
        listing = asyncio.create_task(host.list(ROOT))
        while "Connection closed by authenticating user" not in sshd.log:
            await asyncio.sleep(0.02)
        (sshd.folder / "away").rename(allowed)
        assert await listing


# Hosts that aren't there


@pytest.mark.parametrize("name", ["no..such", "x" * 70, "127.0.0.1"])
async def test_an_unknown_host(home: Home, name: str) -> None:
    """Names that need no name server to be found unknown: tests ask none."""
    home.configure("AddressFamily inet6\n")
    assert f"there is no host {name}" in await refused(SSHHost(Address(name), HASTE))


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (socket.EAI_NONAME, NoHost, "there is no host trainer; check its name, or add it to ~/.ssh/config"),
        (socket.EAI_AGAIN, Lost, "the name trainer can't be looked up: later"),
    ],
)
def test_what_a_name_server_says(home: Home, number: int, kind: type[Exception], said: str) -> None:
    route = resolve(Address("trainer"))
    meaning = meaning_of(socket.gaierror(number, "later"), route, Known(), Login(route))
    assert (type(meaning), str(meaning)) == (kind, said)


async def test_a_port_where_nobody_listens(home: Home) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        said = await refused(SSHHost(Address("127.0.0.1", None, port), HASTE), Unreachable)
    assert re.fullmatch(
        rf"127\.0\.0\.1:{port} refuses connections; is that the port, and does an SSH server run there\? \(\d+ tries in \d s\)",
        said,
    )
    assert int(re.findall(r"\d+", said.partition("(")[2])[0]) > 1


async def test_a_server_that_speaks_something_else(home: Home) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(web, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        said = await refused(SSHHost(Address("127.0.0.1", None, port), HASTE), Unreachable)
    assert f"the connection to 127.0.0.1:{port} failed" in said


async def test_a_server_that_says_nothing(home: Home) -> None:
    home.configure("ConnectTimeout 1\n")
    open_connections: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.append(writer)

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        said = await refused(SSHHost(Address("127.0.0.1", None, port), HASTE), Unreachable)
        for writer in open_connections:
            writer.close()
    assert f"127.0.0.1:{port} does not answer" in said


async def test_an_account_without_sftp(home: Home, tmp_path: Path) -> None:
    with server(tmp_path / "sshd", home.key, "Subsystem sftp /no/such/sftp-server") as running:
        home.trust(running)
        assert f"offers no SFTP to {USER}" in await refused(direct(running))


async def test_login_scripts_that_print(home: Home, tmp_path: Path) -> None:
    with server(tmp_path / "sshd", home.key, "ForceCommand echo Welcome to the trainer") as running:
        home.trust(running)
        assert "see that its login scripts print nothing" in await refused(direct(running))


# The user's configuration


async def test_an_alias_says_where_as_whom_and_with_which_key(sshd: Server, home: Home, tmp_path: Path) -> None:
    shutil.move(home.key, tmp_path / "key")
    (home.ssh / "more").write_text("Host *\n  ServerAliveInterval 20\n")
    home.configure(
        f"Include more\nHost trainer other\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {USER}\n"
        f"  IdentityFile {tmp_path}/key\n  ForwardAgent yes\n  RemoteCommand tmux\n  RequestTTY force\n"
        "\nHost *\n  User nobody\n"
    )
    opened, path = open_host(f"ssh://trainer{tmp_path}")
    (tmp_path / "file").touch()
    assert [e.path.name for e in await opened.list(path)] == ["file", "key"]
    assert (await opened.run(["printf", "%s", "a b"])).output == "a b"
    assert opened.name == f"ssh://{USER}@127.0.0.1:{sshd.port}"
    assert open_host("ssh://other/x")[0].name == opened.name
    assert open_host(f"ssh://{USER}@127.0.0.1:{sshd.port}/x")[0].name == opened.name
    await opened.aclose()


@pytest.mark.parametrize(
    "wrong", ["Port many\n", "Host t\n  IdentityFile 'unclosed\n", "ProxyJump a b\n", "Port 22 23\n"]
)
def test_a_configuration_that_makes_no_sense_is_named_with_its_line(home: Home, wrong: str) -> None:
    home.configure("# first\n" + wrong)
    with pytest.raises(BadInput) as caught:
        SSHHost(Address("t"))
    assert f"{home.ssh}/config line {wrong.count(chr(10)) + 1}" in str(caught.value)


@pytest.mark.parametrize("jump", ["a:b:c", "-oProxyCommand=x", "user:password@host", "%h"])
def test_a_jump_host_that_makes_no_sense(home: Home, jump: str) -> None:
    home.configure(f"ProxyJump {jump}\n")
    with pytest.raises(BadInput, match="ProxyJump of t in the SSH configuration can't be used"):
        SSHHost(Address("t"))


# Jump hosts


@pytest.fixture
def gate(tmp_path_factory: pytest.TempPathFactory, home: Home) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("gate"), home.key) as running:
        home.trust(running, "gate")
        yield running


def behind(gate: Server, sshd: Server, jump: str = "ProxyJump gate") -> str:
    return (
        f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  HostKeyAlias gate\n"
        f"Host inner\n  HostName 127.0.0.1\n  Port {sshd.port}\n  {jump}\n"
    )


async def read_something(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1" * 100_000)
    assert await host.read(PurePosixPath(tmp_path / "file")) == b"1" * 100_000


async def test_a_jump_host(sshd: Server, gate: Server, home: Home, tmp_path: Path) -> None:
    home.configure(behind(gate, sshd))
    async with connected(sshd, "inner") as host:
        await read_something(host, tmp_path)
        assert host.name == f"ssh://{USER}@127.0.0.1:{sshd.port}?via=gate"
        assert (sshd.connections, gate.connections) == (1, 1)
        gate.drop()
        await read_something(host, tmp_path)
        sshd.drop()
        await read_something(host, tmp_path)
        assert (sshd.connections, gate.connections) == (3, 3)


async def test_two_jump_hosts_and_one_that_has_its_own(
    sshd: Server, gate: Server, home: Home, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with server(tmp_path_factory.mktemp("outer"), home.key) as outer:
        home.trust(outer)
        written = f"{USER}@127.0.0.1:{outer.port}"
        home.configure(behind(gate, sshd, f"ProxyJump {written},gate"))
        async with connected(sshd, "inner") as host:
            await read_something(host, tmp_path)
        assert (sshd.connections, gate.connections, outer.connections) == (1, 1, 1)
        home.configure(
            behind(gate, sshd).replace("HostKeyAlias gate\n", f"HostKeyAlias gate\n  ProxyJump ssh://{written}\n")
        )
        async with connected(sshd, "inner") as host:
            await read_something(host, tmp_path)
        assert (sshd.connections, gate.connections, outer.connections) == (2, 2, 2)


async def test_a_jump_hosts_key_is_checked_as_strictly(sshd: Server, gate: Server, home: Home) -> None:
    home.configure(behind(gate, sshd) + "Host *\n  StrictHostKeyChecking no\n")
    home.known_hosts.write_text(sshd.known_hosts_line())
    said = await refused(SSHHost(Address("inner"), HASTE))
    assert f"the host key of 127.0.0.1:{gate.port} is not known" in said
    assert said.endswith("ssh -o StrictHostKeyChecking=ask gate exit")
    assert (sshd.connections, gate.connections) == (0, 0)
    home.known_hosts.write_text(gate.known_hosts_line("gate"))
    said = await refused(SSHHost(Address("inner"), HASTE))
    assert f"the host key of 127.0.0.1:{sshd.port} is not known" in said
    assert said.endswith("ssh -o StrictHostKeyChecking=ask inner exit")


async def test_a_jump_host_that_lets_nobody_through(sshd: Server, home: Home, tmp_path: Path) -> None:
    with server(tmp_path / "gate", home.key, "AllowTcpForwarding no") as closed:
        home.trust(closed, "gate")
        home.configure(behind(closed, sshd))
        assert "does not let connections through" in await refused(SSHHost(Address("inner"), HASTE))


async def test_a_host_that_the_jump_host_does_not_reach(sshd: Server, gate: Server, home: Home) -> None:
    home.configure(behind(gate, sshd))
    sshd.stop()
    said = await refused(SSHHost(Address("inner"), HASTE), Unreachable)
    assert f"the jump host can't reach 127.0.0.1:{sshd.port}" in said
    sshd.again()


async def test_jump_hosts_in_a_circle(sshd: Server, gate: Server, home: Home) -> None:
    home.configure(behind(gate, sshd).replace("HostKeyAlias gate\n", "HostKeyAlias gate\n  ProxyJump inner\n"))
    assert "is ProxyJump a circle?" in await refused(SSHHost(Address("inner"), HASTE))


async def test_a_proxy_command(sshd: Server, gate: Server, home: Home, tmp_path: Path) -> None:
    ssh = f"ssh -F {home.ssh}/config -o UserKnownHostsFile={home.known_hosts} -i {home.key} -W %h:%p gate"
    home.configure(behind(gate, sshd, f"ProxyCommand {ssh}"))
    async with connected(sshd, "inner") as host:
        await read_something(host, tmp_path)
        assert re.fullmatch(rf"ssh://{USER}@127\.0\.0\.1:{sshd.port}\?via=[0-9a-f]{{12}}", host.name)
    assert (sshd.connections, gate.connections) == (1, 1)


def test_the_same_address_behind_two_jump_hosts_is_two_machines(home: Home) -> None:
    text = "Host {0}\n  HostName localhost\n  ProxyJump gate-{0}\n"
    home.configure(text.format("a") + text.format("b"))
    assert open_host("ssh://a/x")[0].name != open_host("ssh://b/x")[0].name
