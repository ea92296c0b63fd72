"""Where a model behind a URL is: `http://host:port/v1#model`, the key that it wants, and the proxy on the way there."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from urllib.parse import urlsplit

import msgspec

from assay.errors import ModelError
from assay.secret import Secret

SCHEMES = ("http://", "https://")
_PORTS = {"http": 80, "https": 443}


class Address(msgspec.Struct, frozen=True, dict=True):
    """A server's address and the model asked for there. path: of the API, without a slash at its end ("/v1").

    model: "" for the only one that the server has, whatever that is.
    """

    scheme: str
    host: str
    port: int
    path: str
    model: str

    @cached_property
    def base(self) -> str:
        """The canonical base URL."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @cached_property
    def authority(self) -> str:
        """Host and port as a request's `Host` names them: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def spec(self) -> str:
        return f"{self.base}#{self.model}" if self.model else self.base

    @property
    def root(self) -> Address:
        """Where a server has what is its own and not of the API."""
        return msgspec.structs.replace(self, path=self.path.removesuffix("/v1"))

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @cached_property
    def loopback(self) -> bool:
        """Is it this machine?"""
        try:
            here = ipaddress.ip_address(self.host)
            return here.is_loopback or here.is_unspecified  # servers show 0.0.0.0 as their address, and people copy it
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


def parse_address(spec: str) -> Address:
    """Read a spec. Raises `ModelError` with what is wrong, without repeating what may be a secret."""
    address = parse_url(spec)
    if not address.model:
        raise ModelError(f"{spec} does not say which model to ask there; write {address.base}#MODEL")
    return address


def parse_url(spec: str) -> Address:
    """The same for one that need not name a model."""
    try:
        parts = urlsplit(spec)
        port = parts.port
    except ValueError:
        raise ModelError("the model's URL is not a valid one; write http://HOST:PORT/v1#MODEL") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ModelError("a model's URL can't hold a user name or password; put the key into ASSAY_API_KEY")
    if parts.query:
        raise ModelError("a model's URL can't hold a query (?…), which might be a key; put the key into ASSAY_API_KEY")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ModelError(f"{spec} names no host; write http://HOST:PORT/v1#MODEL")
    rest = parts.netloc + parts.path
    if any(c.isspace() or not c.isascii() for c in rest) or not (rest + parts.fragment).isprintable():
        raise ModelError(f"{spec!r} holds characters that a URL can't hold; write them as %XX")
    if port == 0 or not all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):
        raise ModelError(f"{spec!r} names a host or port that there can't be; write http://HOST:PORT/v1#MODEL")
    path, model = parts.path.rstrip("/"), parts.fragment if parts.fragment.strip() else ""
    if (base := re.sub(r"(/chat)?/completions$", "", path)) != path:
        right = f"{parts.scheme}://{parts.netloc}{base}#{model or 'MODEL'}"
        raise ModelError(f"{spec} names one of the API's paths; write {right}")
    return Address(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path, model)


def masked(text: str) -> str:
    """A text that may be a mistyped URL, without a user name and password that it may hold."""
    return re.sub(r"(^|[/:])[^/:@\s]+:[^/@\s]*@|(//)[^/@\s]+@", r"\1\2***@", text)


def api_key(address: Address, environ: Mapping[str, str] | None = None) -> Secret | None:
    """The key to send: `ASSAY_API_KEY`, else `OPENAI_API_KEY`, which never goes in clear text to another machine.

    `OPENAI_API_KEY` is set on many machines for other programs, so a plain `http:` address elsewhere doesn't get it.
    Raises `ModelError` for a key that no request can carry.
    """
    environ = os.environ if environ is None else environ
    for name in ("ASSAY_API_KEY", "OPENAI_API_KEY"):
        key = environ.get(name, "").strip()
        if not key or (name == "OPENAI_API_KEY" and not (address.tls or address.loopback)):
            continue
        if not (key.isascii() and key.isprintable()):
            raise ModelError(f"{name} holds characters that a key can't have; set it again")
        return Secret(key)
    return None


class Proxy(msgspec.Struct, frozen=True):
    """A proxy's host and port, and the value of its `Proxy-Authorization`, if it wants one."""

    host: str
    port: int
    authorization: Secret | None = None


def proxy_for(address: Address) -> Proxy | None:
    """The proxy that this machine is set up to use for the address: never one for this machine itself.

    Raises `ModelError` for a proxy that is not reached over plain HTTP.
    """
    if address.loopback:
        return None
    from urllib.request import getproxies, proxy_bypass  # slow to import, and for other machines only

    found = getproxies().get(address.scheme) or getproxies().get("all")
    if not found or proxy_bypass(f"{address.host}:{address.port}") or _in_network(address.host):
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if parts.scheme != "http" or not parts.hostname:
        raise ModelError(f"the proxy that is set for {address.scheme} is no http:// one; set NO_PROXY={address.host}")
    return Proxy(parts.hostname, parts.port or 80, _basic(parts.username, parts.password))


def _in_network(host: str) -> bool:
    """Is it an address in one of the networks of `NO_PROXY` ("10.0.0.0/8"), which clusters are set up with?"""
    try:
        here = ipaddress.ip_address(host)
    except ValueError:
        return False
    for name in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(","):
        with suppress(ValueError):
            if here in ipaddress.ip_network(name.strip(), strict=False):
                return True
    return False


def _basic(user: str | None, password: str | None) -> Secret | None:
    if user is None:
        return None
    import base64
    from urllib.parse import unquote

    pair = f"{unquote(user)}:{unquote(password or '')}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode())


def tls_context() -> ssl.SSLContext:
    """Certificates are checked against the system's store, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name.

    Raises `ModelError` for a file that holds none.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if named := os.environ.get("SSL_CERT_FILE"):
        try:  # done above already, where it would fail in silence
            context.load_verify_locations(named)
        except OSError as error:
            what = "holds no certificates" if isinstance(error, ssl.SSLError) else os.strerror(error.errno or 0)
            raise ModelError(f"SSL_CERT_FILE names {named}, which can't be used: {what}") from None
    return context
