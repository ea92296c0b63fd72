"""One connection to a host: through its jump hosts, with its key checked, logged in, with SFTP ready."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field

import asyncssh

from assay.errors import Absent, BadInput
from assay.hosts import known_hosts, ssh_keys
from assay.hosts.known_hosts import Known
from assay.hosts.ssh_config import Route, resolve
from assay.hosts.ssh_keys import Keys

# Where the user's configuration says nothing else. A connection whose other end falls silent is given up after three times
# `_ALIVE_SECONDS`.
_CONNECT_SECONDS = 15.0
_LOGIN_SECONDS = 30.0
_ALIVE_SECONDS = 15.0
_ALIVE_COUNT = 3
_MOST_JUMPS = 8
# Tried first: the other ciphers are several calls a packet here, and these are one.
_FAST_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"


# There is no such name, or none with an address of the kind that is asked for. Not all systems have all of these.
_NO_HOST = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")}


class Lost(Exception):
    """The host could not be reached this time, or was lost. `str(error)` says why, without a full stop."""


class Refusal(BadInput):
    """What the user must put right if it was never otherwise, but which may pass if it has worked before.

    An account whose home is not mounted for a minute, a name server that is down: no reason to end an agent that has
    been running for days.
    """


class NoHost(Refusal, Absent):
    """No host has this name, as far as the name server knows now."""


@dataclass(slots=True)
class Session:
    """An open connection and what runs over it. through: the connections to jump hosts that carry it."""

    connection: asyncssh.SSHClientConnection
    sftp: asyncssh.SFTPClient
    through: list[asyncssh.SSHClientConnection] = field(default_factory=list)

    def abort(self) -> None:
        """Drop it at once."""
        for connection in (self.connection, *self.through):
            connection.abort()

    async def aclose(self) -> None:
        """Take leave, as far as the other end still listens."""
        self.sftp.exit()
        try:
            async with asyncio.timeout(2):
                for connection in (self.connection, *self.through):
                    connection.close()
                    await connection.wait_closed()
        except TimeoutError:
            self.abort()


class Login(asyncssh.SSHClient):
    """The client's part while a connection is made: what the host showed, and what is offered to it."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._agent: asyncssh.SSHAgentClient | None = None
        self.shown: asyncssh.SSHKey | None = None
        self.keys: Keys | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = key  # asked for keys only that no file knows
        return False

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = key
        return False

    async def public_key_auth_requested(self) -> list[asyncssh.SSHKeyPair] | None:
        if self.keys is not None:
            return None
        self._agent = await ssh_keys.agent_of(self._route)
        held = await ssh_keys.agent_keys(self._agent) if self._agent else []
        self.keys = await asyncio.to_thread(ssh_keys.gather_keys, self._route, held)
        return self.keys.pairs or None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._agent is not None:
            self._agent.close()


async def open_session(route: Route) -> Session:
    """Connect and log in, once. Raises `Lost` for what may pass, `BadInput` for what the user must put right."""
    opened: list[asyncssh.SSHClientConnection] = []
    try:
        for hop in (*_way(route), route):
            opened.insert(0, await _dial(hop, opened[0] if opened else None))
        sftp = await _start_sftp(route, opened[0])
    except BaseException:
        for connection in opened:
            connection.abort()
        raise
    return Session(opened[0], sftp, opened[1:])


def _way(route: Route) -> list[Route]:
    """The jump hosts on the way, nearest first, which may be behind others by its own configuration, as with OpenSSH."""
    way: list[Route] = []
    jumps = route.jumps
    while jumps:
        way[:0] = (resolve(jump) for jump in jumps)
        jumps = way[0].jumps
        if len(way) > _MOST_JUMPS:
            raise BadInput(f"the way to {route.place} is longer than {_MOST_JUMPS} jump hosts; is ProxyJump a circle?")
    return way


async def _dial(route: Route, tunnel: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
    known = await asyncio.to_thread(known_hosts.look_up, route)
    login = Login(route)
    try:
        return await asyncssh.connect(
            route.address.host,
            () if route.address.port is None else route.address.port,
            username=() if route.address.user is None else route.address.user,
            config=list(route.config),
            canonicalize_hostname=False,  # the route knows the host by the name that it was looked up under
            client_factory=lambda: login,
            tunnel=tunnel,
            known_hosts=lambda host, addr, port: known.trusted(),
            server_host_key_algs=() if route.host_key_algorithms else known.algorithms(),
            encryption_algs=() if route.ciphers else _FAST_CIPHERS,
            client_keys=None,  # `Login` offers them
            password_auth=False,
            kbdint_auth=False,
            connect_timeout=route.connect_seconds or _CONNECT_SECONDS,
            login_timeout=_LOGIN_SECONDS,
            keepalive_interval=route.alive_seconds or _ALIVE_SECONDS,
            keepalive_count_max=_ALIVE_COUNT,
            agent_forwarding=False,
            x11_forwarding=False,
            request_pty=False,
            command=None,
        )
    except (asyncssh.Error, OSError, ValueError) as error:
        raise meaning_of(error, route, known, login) from error


def meaning_of(error: Exception, route: Route, known: Known, login: Login) -> Exception:
    """What an error while connecting means."""
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return known_hosts.refusal(route, known, login.shown)
        case asyncssh.PermissionDenied():
            return Refusal(ssh_keys.refusal(route, login.keys or Keys()))
        case asyncssh.DisconnectError() if "authentication failures" in str(error):
            return Refusal(
                f"{route.place} was offered more keys than it allows tries; name the right one as IdentityFile for this "
                "host in ~/.ssh/config, with IdentitiesOnly yes"
            )
        case asyncssh.KeyExchangeFailed():
            return BadInput(f"{route.place} and this machine have no way to speak in common: {error}")
        case asyncssh.ChannelOpenError(code=asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED):
            return Refusal(f"the jump host on the way to {route.place} does not let connections through: {error}")
        case asyncssh.ChannelOpenError():
            return Lost(f"the jump host can't reach {route.place}: {error}")
        case socket.gaierror() if error.errno in _NO_HOST:
            return NoHost(f"there is no host {route.host}; check its name, or add it to ~/.ssh/config")
        case socket.gaierror():
            return Lost(f"the name {route.host} can't be looked up: {error.strerror}")
        case UnicodeError():
            return BadInput(f"there is no host {route.host}, for no host can have such a name")
        case ConnectionRefusedError():
            return Lost(f"{route.place} refuses connections; is that the port, and does an SSH server run there?")
        case TimeoutError():
            return Lost(f"{route.place} does not answer")
        case asyncssh.Error() | OSError():
            return Lost(f"the connection to {route.place} failed: {getattr(error, 'strerror', None) or error}")
        case _:
            return BadInput(f"{route.place} can't be connected to as the SSH configuration says: {error}")


async def _start_sftp(route: Route, connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
    try:
        async with asyncio.timeout(_LOGIN_SECONDS):
            return await connection.start_sftp_client(path_encoding=None)
    except TimeoutError:
        raise Lost(f"SFTP on {route.place} does not answer") from None
    except (asyncssh.Error, OSError) as error:
        if await _closes(connection):
            raise Lost(f"the connection to {route.place} dropped: {error}") from None
        raise Refusal(
            f"{route.place} offers no SFTP to {route.user} ({error}); set `Subsystem sftp internal-sftp` in its sshd_config, "
            "or see that its login scripts print nothing"
        ) from None


async def _closes(connection: asyncssh.SSHClientConnection) -> bool:
    """Whether the connection is on its way out: what runs over it hears of that first."""
    try:
        async with asyncio.timeout(1):
            await connection.wait_closed()
    except TimeoutError:
        return False
    return True
