"""Hosts under test: this machine, and a real OpenSSH server on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from assay.hosts.address import Address
from assay.hosts.base import Host
from assay.hosts.local import LocalHost
from tests.hosts.sshd import Home, Server, make_home, server


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The user's home, without an agent."""
    made = make_home(tmp_path_factory.mktemp("home"))
    _move_in(made, monkeypatch)
    return made


def _move_in(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home.folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory, home: Home) -> Iterator[Server]:
    """A server that the user of `home` knows and may use."""
    with server(tmp_path_factory.mktemp("sshd"), home.key) as running:
        home.trust(running)
        yield running


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def shared_sshd(tmp_path_factory: pytest.TempPathFactory, shared_home: Home) -> Iterator[Server]:
    """One server for a module's tests that do nothing to it."""
    with server(tmp_path_factory.mktemp("sshd"), shared_home.key) as running:
        shared_home.trust(running)
        yield running


@pytest.fixture(params=["local", "ssh"])
async def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    if request.param == "local":
        yield LocalHost()
        return
    from assay.hosts.ssh import SSHHost

    running: Server = request.getfixturevalue("shared_sshd")
    _move_in(request.getfixturevalue("shared_home"), monkeypatch)
    opened = SSHHost(Address("127.0.0.1", None, running.port))
    yield opened
    await opened.aclose()
