"""Connections to one server, kept open between requests."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl

from assay.models.http_address import Address, Proxy, tls_context
from assay.models.http_connection import Connection
from assay.models.http_dial import Dialer
from assay.models.http_faults import Fault, closed, fault_of, in_short
from assay.secret import Secret

_IDLE_SECONDS = 55.0  # routers and load balancers forget a silent connection after a minute, and don't say so
_LEAST_SECONDS, _TRIFLE = 0.01, 0.02
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG")  # OpenSSL's words


class Pool:
    """Asks one server, over as many connections as are needed at once. The newest idle one is used first.

    agent: what requests name as their `User-Agent`. key: sent as a bearer token (RFC 6750).
    """

    def __init__(
        self,
        address: Address,
        connect_seconds: float,
        *,
        agent: str,
        key: Secret | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._address = address
        self._agent = agent
        self._key = key
        self._connect_seconds = connect_seconds
        self._proxy = proxy
        self._context: ssl.SSLContext | None = None
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._heads: dict[tuple[str, bool], bytes] = {}  # by path, and whether that is beside the API's
        self._dialer = Dialer(proxy.host, proxy.port) if proxy is not None else Dialer(address.host, address.port)
        self._closed = False

    async def ask(self, path: str, body: bytes | None, seconds: float, *, root: bool = False) -> Connection:
        """POST `body` to the API's `path`, or GET that; the connection that comes back has the answer's head. Raises `Fault`.

        The answer must be there as a whole after `seconds`. Whoever asked gives the connection back with `release`. root: the
        path is one beside the API's ("/v1").
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        anew = False
        while True:
            self._check_open()
            connection, fresh = await self._connection(min(seconds, self._connect_seconds), anew)
            try:
                self._check_open()
                # Connecting is part of the time that an answer may take, where it takes any to speak of.
                spent = min(loop.time() - began, seconds - _LEAST_SECONDS)
                connection.ask(self._request(path, body, root), seconds, spent if spent > _TRIFLE * seconds else 0.0)
                await connection.head()
                return connection
            except BaseException as error:
                self.release(connection)
                # The server may close an idle connection just as it is used again; that is no fault of anybody's. Others may
                # be closed by now, too, and it may be the question that did it: so once more only, and not on one of those.
                anew = isinstance(error, Fault) and error.kind == "broken" and not (fresh or connection.touched)
                if not anew:
                    raise

    def release(self, connection: Connection) -> None:
        """Take a connection back: kept if its answer was read to the end, else closed, which ends the request."""
        self._busy.discard(connection)
        if connection.reusable and not self._closed:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()

    async def aclose(self) -> None:
        """Close all connections. Whoever asks, or is asking, gets a `Fault`."""
        self._closed = True
        for connection in [*self._idle, *self._busy]:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # transports close in the loop's next round

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    def _request(self, path: str, body: bytes | None, root: bool) -> bytes:
        if body is None:
            return self._head("GET", path, root) + b"\r\n"
        return self._head("POST", path, root) + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def _head(self, method: str, path: str, root: bool) -> bytes:
        if (path, root) not in self._heads:
            direct = self._proxy is None or self._address.tls
            address = self._address.root if root else self._address
            target = f"{address.path}{path}" if direct else f"{address.base}{path}"
            lines = [f"{method} {target} HTTP/1.1", f"Host: {self._address.authority}"]
            if not direct and self._proxy is not None and self._proxy.authorization:
                lines.append(f"Proxy-Authorization: {self._proxy.authorization.reveal()}")
            if self._key:
                lines.append(f"Authorization: Bearer {self._key.reveal()}")
            lines += [f"User-Agent: {self._agent}", "Content-Type: application/json", "Accept-Encoding: identity"]
            self._heads[path, root] = ("\r\n".join(lines) + "\r\n").encode("latin-1")
        return self._heads[path, root]

    async def _connection(self, seconds: float, anew: bool) -> tuple[Connection, bool]:
        """A connection, and whether nothing was asked on it before. anew: it must be such a one."""
        now = asyncio.get_running_loop().time()
        while self._idle and not anew:
            connection = self._idle.pop()
            if not connection.closed and now - connection.idle_since < _IDLE_SECONDS:
                self._busy.add(connection)
                return connection, False
            connection.close()
        connection = await self._connected(seconds)
        self._busy.add(connection)
        return connection, True

    async def _connected(self, seconds: float) -> Connection:
        try:
            async with asyncio.timeout(seconds):
                if self._proxy is not None and self._address.tls:
                    return await self._through(self._proxy)
                secure = self._address.tls
                return (await self._dialer.open(Connection, self._tls() if secure else None))[1]
        except TimeoutError:
            raise Fault("unconnected", f"no connection could be made within {seconds:.3g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise Fault(
                "setup",
                f"the server shows a certificate that can't be trusted: {error.verify_message.rstrip('.')}; if it should "
                "be, name the file of its authority in SSL_CERT_FILE",
            ) from None
        except ssl.SSLError as error:
            if error.reason not in _NO_TLS:
                raise Fault("unconnected", f"no secure connection could be made: {_cause(error)}") from None
            raise Fault(
                "setup", "the server does not speak TLS; if that is right, write http:// for https://"
            ) from None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise Fault("busy", f"{_cause(error)}: more requests at once than `ulimit -n` allows") from None
            raise Fault("unconnected", f"no connection could be made: {_cause(error)}") from None

    async def _through(self, proxy: Proxy) -> Connection:
        """A secure connection through a proxy, which is asked for a tunnel (RFC 9110, 9.3.6)."""
        loop = asyncio.get_running_loop()
        transport, tunnel = await self._dialer.open(_Tunnel)
        try:
            host, port = self._address.authority.removesuffix(f":{self._address.port}"), self._address.port
            lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
            if proxy.authorization:
                lines.append(f"Proxy-Authorization: {proxy.authorization.reveal()}")
            transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
            status = (await tunnel.head).split(b"\r\n", 1)[0].decode("latin-1")
            code = status.split(" ")[1:2]
            if code == ["407"]:
                raise fault_of(407, {}, b"")
            if not (code and code[0].startswith("2")):
                raise OSError(f"the proxy answered {in_short(status)!r}")
            connection = Connection()
            secured = await loop.start_tls(transport, connection, self._tls(), server_hostname=self._address.host)
            if secured is None:
                raise OSError("the proxy closed the connection")
            connection.connection_made(secured)
            return connection
        except BaseException:
            transport.abort()
            raise

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = tls_context()
        return self._context


class _Tunnel(asyncio.Protocol):
    """What a proxy says before the connection is handed on. asyncio's streams would close it when they are let go."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        if b"\r\n\r\n" in self._data and not self.head.done():
            self.head.set_result(self._data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(exc or ConnectionResetError("the proxy closed the connection"))


def _cause(error: Exception) -> str:
    """The system's own words, without the addresses that asyncio puts around them."""
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and isinstance(number, int) and number > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(number)
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
