"""The keys that the user logs in with: an agent's, and files."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from assay.hosts.ssh_config import Route


@dataclass(slots=True)
class Keys:
    """What is offered to a host, in this order. of_agent: how many of `pairs` are the agent's; `offered` are the files.

    encrypted: files that only an agent could use, for nobody is there to type a passphrase. broken: file and why.
    """

    pairs: list[asyncssh.SSHKeyPair] = field(default_factory=list)
    of_agent: int = 0
    offered: list[Path] = field(default_factory=list)
    encrypted: list[Path] = field(default_factory=list)
    broken: list[tuple[Path, str]] = field(default_factory=list)


async def agent_of(route: Route) -> asyncssh.SSHAgentClient | None:
    """A connection to the agent, which must last for as long as its keys are used; None if there is no agent."""
    if route.agent is None:
        return None
    try:
        return await asyncssh.connect_agent(route.agent)
    except OSError:
        return None


async def agent_keys(agent: asyncssh.SSHAgentClient) -> list[asyncssh.SSHKeyPair]:
    """What the agent holds; nothing if it doesn't answer."""
    try:
        return list(await agent.get_keys())
    except (OSError, ValueError):
        return []


def gather_keys(route: Route, agent: list[asyncssh.SSHKeyPair]) -> Keys:
    """What to offer, as OpenSSH chooses it: keys of the agent, those first that the configuration names, then files. Blocks.

    A file that isn't there is passed over. Servers allow only a few tries, so nothing is offered twice.
    """
    named = {path: _public_halves(path) for path in route.keys if path.exists()}
    halves = [half for path in named for half in named[path]]
    if route.only_named_keys:
        agent = [pair for pair in agent if pair.public_data in halves]
    keys = Keys(sorted(agent, key=lambda pair: pair.public_data not in halves), len(agent))
    held = {pair.public_data for pair in agent}
    certificates = [str(path) for path in route.certificates if path.exists()]
    for path in named:
        try:
            pairs = asyncssh.load_keypairs(str(path), certlist=certificates)
        except asyncssh.KeyImportError as error:
            if not str(error).startswith("Passphrase"):
                if not named[path]:  # else the public half of a key, meant for the agent
                    keys.broken.append((path, str(error)))
            elif held.isdisjoint(named[path]):
                keys.encrypted.append(path)
        except (OSError, ValueError) as error:
            keys.broken.append((path, getattr(error, "strerror", None) or str(error)))
        else:
            keys.pairs += (pair for pair in pairs if pair.public_data not in held)
            keys.offered.append(path)
    return keys


def _public_halves(path: Path) -> list[bytes]:
    found = []
    for candidate in (path, path.with_name(path.name + ".pub"), path.with_name(path.name + "-cert.pub")):
        with contextlib.suppress(OSError, ValueError, asyncssh.KeyImportError):
            found.append(asyncssh.read_public_key(str(candidate)).public_data)
        with contextlib.suppress(OSError, ValueError, asyncssh.KeyImportError):
            found.append(asyncssh.read_certificate(str(candidate)).public_data)
    return found


def refusal(route: Route, keys: Keys) -> str:
    """Why nobody could log in, and what the user can do, in one sentence."""
    offered = [str(path) for path in keys.offered] + ([f"{keys.of_agent} of the agent"] if keys.of_agent else [])
    if offered:
        why = f"accepts none of the keys that were offered ({', '.join(offered)})"
        what = f"let it accept one with: ssh-copy-id {route.command()}"
    else:
        why = "asks for a key, and there is none to offer"
        what = "make one with ssh-keygen, or name one as IdentityFile in ~/.ssh/config"
    if keys.encrypted:
        what = f"{keys.encrypted[0]} is encrypted and no agent holds it, so run: ssh-add {keys.encrypted[0]}"
    elif keys.broken:
        path, problem = keys.broken[0]
        what = f"the key {path} can't be used ({problem})"
    return f"{route.place} {why} for the user {route.user}; {what}"
