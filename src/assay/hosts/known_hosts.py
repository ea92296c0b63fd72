"""Host keys are checked against the user's `known_hosts` files as OpenSSH does it, strictly: nothing turns that off.

`StrictHostKeyChecking no` in the configuration has no effect: an agent that runs for days must not follow a changed key.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from assay.errors import BadInput
from assay.hosts.ssh_config import Route

# Offered in this order, but those first of which a key is known: a server has several keys, and must show the known one.
_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_CERTIFIED = "-cert-v01@openssh.com"
_SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A host's key as a file has it. line: counted from 1."""

    key: asyncssh.SSHKey
    file: Path
    line: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the files know of one host. elsewhere: keys of the same host without its port, good if they match."""

    keys: tuple[KnownKey, ...] = ()
    elsewhere: tuple[KnownKey, ...] = ()
    authorities: tuple[asyncssh.SSHKey, ...] = ()
    revoked: tuple[asyncssh.SSHKey, ...] = ()

    def trusted(self) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
        """Host keys, authorities' keys, and revoked keys, in the form that the client takes."""
        return [known.key for known in (*self.keys, *self.elsewhere)], list(self.authorities), list(self.revoked)

    def algorithms(self) -> list[str]:
        """What to ask the host for, best first."""
        known = {algorithm.decode() for have in (*self.keys, *self.elsewhere) for algorithm in have.key.sig_algorithms}
        plain = sorted(_ALGORITHMS, key=lambda algorithm: algorithm not in known)
        certified = [algorithm + _CERTIFIED for algorithm in plain]
        return [*certified, *plain] if self.authorities else plain


def look_up(route: Route) -> Known:
    """What the files know of the host. Raises `BadInput` for a file that can't be read; a broken line in it is passed over."""
    plain = (route.alias or route.host).lower()
    ported = plain if route.alias or route.port == _SSH_PORT else f"[{plain}]:{route.port}"
    keys: list[KnownKey] = []
    elsewhere: list[KnownKey] = []
    authorities: list[asyncssh.SSHKey] = []
    revoked: list[asyncssh.SSHKey] = []
    for file, number, line in _lines(route.known_hosts):
        try:
            entry = asyncssh.import_known_hosts(line)
        except ValueError:
            continue
        for name, found in ((ported, keys), (plain, elsewhere)):
            host_keys, authority_keys, revoked_keys, *_ = entry.match(name, "", None)
            if host_keys or authority_keys or revoked_keys:
                found += (KnownKey(key, file, number) for key in host_keys)
                authorities += authority_keys
                revoked += revoked_keys
                break
    return Known(tuple(keys), tuple(elsewhere), tuple(authorities), tuple(revoked))


def _lines(files: Sequence[Path]) -> Iterator[tuple[Path, int, str]]:
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise BadInput(f"{file}, which holds the known host keys, can't be read: {error.strerror}") from None
        for number, line in enumerate(text.splitlines(), 1):
            yield file, number, line


def refusal(route: Route, known: Known, key: asyncssh.SSHKey | None) -> BadInput:
    """Why the key that the host showed is not accepted, and what the user can do. None: none that could be looked at."""
    if key is None:
        return BadInput(f"the host key of {route.place} is revoked or not valid, so nothing was sent")
    now = f"{key.get_algorithm()} {key.get_fingerprint()}"
    if known.keys:
        was = known.keys[0]
        name = (route.alias or route.host).lower()
        name = name if route.alias or route.port == _SSH_PORT else f"[{name}]:{route.port}"
        forget = shlex.join(["ssh-keygen", "-R", name, "-f", str(was.file)])
        return BadInput(
            f"the host key of {route.place} has changed, so nothing was sent: it is {now}, where {was.file}:{was.line} "
            f"has {was.key.get_algorithm()} {was.key.get_fingerprint()}; somebody may be listening in between, and only if you "
            f"know that the machine has a new key, remove the old one with: {forget}"
        )
    return BadInput(
        f"the host key of {route.place} is not known: {now}; compare this fingerprint with the machine's own, and accept it "
        f"with: ssh -o StrictHostKeyChecking=ask {route.command()} exit"
    )
