"""How a host is reached, by the user's own SSH configuration."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from assay.errors import BadInput
from assay.hosts.address import SCHEME, Address, parse_authority

# What OpenSSH's client reads where its configuration names nothing else.
_USER_CONFIG = "~/.ssh/config"
_SYSTEM_CONFIG = "/etc/ssh/ssh_config"
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa", "~/.ssh/id_ed25519_sk", "~/.ssh/id_ecdsa_sk")


@dataclass(frozen=True, slots=True)
class Route:
    """A host as the configuration resolves it.

    alias: what the host's key is known as, instead of host and port. agent: the agent's socket, None for no agent.
    only_named_keys: keys of the agent count only if they are among `keys`. jumps: the hosts on the way, nearest first.
    proxy: the command that makes the connection. None for what nothing says.
    """

    address: Address
    host: str
    port: int
    user: str
    alias: str | None
    known_hosts: tuple[Path, ...]
    keys: tuple[Path, ...]
    certificates: tuple[Path, ...]
    only_named_keys: bool
    agent: str | None
    jumps: tuple[Address, ...]
    proxy: str | None
    host_key_algorithms: str | None
    ciphers: str | None
    connect_seconds: float | None
    alive_seconds: float | None
    config: tuple[Path, ...]

    @property
    def place(self) -> str:
        """Host and port, as messages name them."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def name(self) -> str:
        """What tells the host apart in the journal, the same whichever alias leads to it.

        `localhost:2200` behind one jump host is another machine than behind the next, so these are part of the name, unless
        the user has given the machine a name of its own (`HostKeyAlias`).
        """
        name = f"{SCHEME}{self.user}@{bracketed(self.alias or self.host).lower()}:{self.port}"
        if self.alias:
            return name
        if self.jumps:
            return name + "?via=" + ",".join(_written(jump) for jump in self.jumps)
        if self.proxy:  # its words may hold secrets
            return name + "?via=" + hashlib.sha256(self.proxy.encode()).hexdigest()[:12]
        return name

    def command(self) -> str:
        """How `ssh` is told of the same host, for the user to type."""
        port = f"-p {self.address.port} " if self.address.port is not None else ""
        login = f"{self.address.user}@" if self.address.user is not None else ""
        return f"{port}{login}{self.address.host}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _written(address: Address) -> str:
    login = f"{address.user}@" if address.user is not None else ""
    port = f":{address.port}" if address.port is not None else ""
    return f"{login}{bracketed(address.host)}{port}".lower()


def resolve(address: Address) -> Route:
    """Look the address up in the configuration. Raises `BadInput` for a configuration that can't be read."""
    files = tuple(path for path in (Path(_USER_CONFIG).expanduser(), Path(_SYSTEM_CONFIG)) if os.access(path, os.R_OK))
    try:
        options = asyncssh.SSHClientConnectionOptions(
            config=list(files),
            host=address.host,
            port=() if address.port is None else address.port,
            username=() if address.user is None else address.user,
            known_hosts=b"",
            client_keys=None,  # loaded when they are needed
        )
        if options.config.has_match_final():
            options.update(host=address.host, reload=True, canonical=False, final=True)
    except (ValueError, OSError) as error:
        raise BadInput(f"the SSH configuration can't be used: {error}") from None
    return _route(address, options, files)


def _route(address: Address, options: asyncssh.SSHClientConnectionOptions, files: tuple[Path, ...]) -> Route:
    config = options.config
    named: Any = config.get("IdentityFile")
    jump: Any = options.tunnel
    proxy = options.proxy_command
    connect_seconds: Any = config.get("ConnectTimeout")
    alive_seconds: Any = config.get("ServerAliveInterval")
    algorithms: Any = config.get("HostKeyAlgorithms")
    ciphers: Any = config.get("Ciphers")
    return Route(
        address=address,
        host=options.host,
        port=options.port,
        user=options.username,
        alias=options.host_key_alias,
        known_hosts=_paths(config.get("UserKnownHostsFile"), _KNOWN_HOSTS)
        + _paths(config.get("GlobalKnownHostsFile"), _SYSTEM_KNOWN_HOSTS),
        keys=_paths(named, _KEYS),
        certificates=_paths(config.get("CertificateFile"), ()),
        only_named_keys=bool(config.get("IdentitiesOnly")),
        agent=_agent(config.get("IdentityAgent", "SSH_AUTH_SOCK")),
        jumps=_jumps(address, jump) if jump else (),
        proxy=" ".join(proxy) if proxy and not jump else None,
        host_key_algorithms=algorithms or None,
        ciphers=ciphers or None,
        connect_seconds=connect_seconds or None,
        alive_seconds=alive_seconds or None,
        config=files,
    )


def _paths(named: Any, default: Sequence[str]) -> tuple[Path, ...]:
    return tuple(Path(name).expanduser() for name in (default if named is None else named))


def _agent(named: Any) -> str | None:
    if named is None:  # `IdentityAgent none`
        return None
    if named == "SSH_AUTH_SOCK" or named.startswith("$"):
        return os.environ.get(named.lstrip("$").strip("{}")) or None
    return str(Path(named).expanduser())


def _jumps(address: Address, text: str) -> tuple[Address, ...]:
    try:
        return tuple(parse_authority(hop.strip().removeprefix(SCHEME).rstrip("/")) for hop in text.split(","))
    except BadInput as error:
        raise BadInput(f"ProxyJump of {address.host} in the SSH configuration can't be used: {error}") from None
