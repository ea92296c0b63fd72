"""Where an SSH host is: `ssh://[user@]host[:port]/path`, as the user writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from assay.errors import BadInput

SCHEME = "ssh://"
_FORM = "write ssh://[USER@]HOST[:PORT]/PATH"

# A host's or user's name may reach the user's own `ProxyCommand`: neither may mean anything to a shell, or look like an option.
_HOST = re.compile(r"[^\W_][\w.-]*|[0-9A-Fa-f:.]+(%[\w.-]+)?")
_USER = re.compile(r"[^\W][\w.@\\+-]*")


@dataclass(frozen=True, slots=True)
class Address:
    """A host as the user names it. host: a name, an alias of the SSH configuration, or an IP address. None: not given."""

    host: str
    user: str | None = None
    port: int | None = None


def parse_address(text: str) -> tuple[Address, PurePosixPath]:
    """Read an address. The path is relative to the user's home where it begins with `/~/`.

    Percent-escapes stand for bytes, in any part: `%20` is a space, `%25` a percent sign. Nothing else is special in a path,
    so `?` and `#` stand for themselves. Raises `BadInput`.
    """
    authority, slash, path = text[len(SCHEME) :].partition("/")
    if not slash:
        raise BadInput(f"{text!r} names no folder; {_FORM}, or {text.rstrip('/')}/~ for the home folder")
    return parse_authority(authority), _path(text, path)


def parse_authority(authority: str) -> Address:
    """Read `[user@]host[:port]`, as in an address or after `ProxyJump`. Raises `BadInput`."""
    login, at, place = authority.rpartition("@")
    if ":" in login:
        raise BadInput(f"an SSH address can't hold a password; use a key, and {_FORM}")
    user = _unescape(authority, login) if at else None
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", place)
    host, port = (bracketed[1], bracketed[2]) if bracketed else _split(place)
    host = host if bracketed else _unescape(authority, host)
    if not host:
        raise BadInput(f"{authority!r} names no host; {_FORM}")
    if not _HOST.fullmatch(host):
        raise BadInput(f"{host!r} can't be the name of a host; {_FORM}")
    if user is not None and not _USER.fullmatch(user):
        raise BadInput(f"{user!r} can't be the name of a user; {_FORM}")
    return Address(host, user, None if port is None else _port(port))


def _split(place: str) -> tuple[str, str | None]:
    host, colon, port = place.partition(":")
    if ":" in port:
        raise BadInput(f"an IPv6 address stands in brackets: ssh://[{place}]/PATH")
    return host, port if colon else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        raise BadInput(f"{text!r} is no port; give a number from 1 to 65535")
    return int(text)


def _path(text: str, path: str) -> PurePosixPath:
    plain = _unescape(text, path)
    if "\0" in plain:
        raise BadInput(f"{text!r} holds a zero byte, which no path can hold")
    if path == "~" or path.startswith("~/"):
        return PurePosixPath(plain[1:].lstrip("/") or ".")
    return PurePosixPath("/" + plain.lstrip("/"))


def _unescape(whole: str, part: str) -> str:
    if re.search("%(?![0-9A-Fa-f]{2})", part):
        raise BadInput(f"{whole!r} has a percent sign that begins no escape; write it as %25")
    return unquote(part, errors="surrogateescape")
