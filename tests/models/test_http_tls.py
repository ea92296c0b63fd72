"""TLS and proxies, over real sockets: certificates are checked, tunnels are asked for, passwords go to the proxy alone."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assay.errors import GenerationError, ModelError, Unreachable
from assay.models.base import complete
from assay.models.http_address import Proxy, parse_address
from assay.models.http_faults import Fault
from assay.models.http_pool import Pool
from assay.secret import Secret
from tests.models.http_opened import opened
from tests.models.openai_server import OpenAIServer, Reply
from tests.models.raw_server import RawServer, response

BODY = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "?"}]})


def made(folder: Path, subject: str = "IP:127.0.0.1", days: int = 2) -> Path:
    """The folder, with a key and a certificate of its own, which ends in so many days."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command, which makes the certificate, is not installed")
    (folder / "names").write_text(f"subjectAltName={subject}\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=test"]
    signed = ["-in", "request.pem", "-signkey", "key.pem", "-days", f"{days}", "-extfile", "names"]
    for command in (
        ["req", *curve, "-keyout", "key.pem", "-out", "request.pem"],
        ["x509", "-req", *signed, "-out", "cert.pem"],
    ):
        subprocess.run([openssl, *command], check=True, capture_output=True, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key and a certificate of its own for 127.0.0.1."""
    return made(tmp_path_factory.mktemp("tls"))


def serving(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@asynccontextmanager
async def forwarding(status: int = 200) -> AsyncIterator[tuple[Proxy, list[list[str]]]]:
    """A proxy that makes tunnels, and passes other requests on; with the heads of what it was asked."""
    heads: list[list[str]] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        heads.append(head)
        method, target, _ = head[0].split(" ")
        host, _, port = target.removeprefix("http://").split("/")[0].rpartition(":")
        if status != 200:
            writer.write(f"HTTP/1.1 {status} No\r\n\r\n".encode())
            writer.close()
            return
        there, here = await asyncio.open_connection(host, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            first = head[0].replace(f"http://{host}:{port}", "")
            here.write("\r\n".join([first, *head[1:]]).encode())
        await asyncio.gather(copy(reader, here), copy(there, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        port = int(server.sockets[0].getsockname()[1])
        yield Proxy("127.0.0.1", port, Secret("Basic dXNlcjpzZWtyaXQ=")), heads
    finally:
        server.close()
        await asyncio.sleep(0.05)


async def test_a_certificate_that_is_trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    async with OpenAIServer(tls=serving(certificate)) as server, opened(server) as model:
        for listener in (None, lambda _: None, None):
            assert (await complete(model, "?", None, listener)).text == "Fine."
        assert server.connections == 1


async def test_a_certificate_that_is_not(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with OpenAIServer(tls=serving(certificate)) as server, opened(server) as model:
        with pytest.raises(ModelError, match=r"certificate that can't be trusted: self-signed.*SSL_CERT_FILE"):
            await complete(model, "?")


@pytest.mark.parametrize(
    ("subject", "days", "said"), [("DNS:elsewhere.example", 2, "mismatch"), ("IP:127.0.0.1", -1, "expired")]
)
async def test_a_certificate_for_another_host_or_time(
    subject: str, days: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, subject, days)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
    async with OpenAIServer(tls=serving(folder)) as server, opened(server) as model:
        with pytest.raises(ModelError, match=f"(?i)certificate that can't be trusted: .*{said}"):
            await complete(model, "?")
        assert not server.asked


async def test_a_file_of_certificates_that_holds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    for name, said in (("missing.pem", "No such file"), ("empty.pem", "holds no certificates")):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
        async with opened("https://127.0.0.1:9/v1#m") as model:
            with pytest.raises(ModelError, match=f"SSL_CERT_FILE names .*{name}, which can't be used: {said}"):
                await complete(model, "?")


async def test_tls_where_there_is_none() -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(16)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")  # to what it can't read
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as plain:
        spec = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/v1#m"
        async with opened(spec) as model:
            with pytest.raises(ModelError, match=r"does not speak TLS.*http://"):
                await complete(model, "?")


async def test_no_tls_where_there_is_some(certificate: Path) -> None:
    async with OpenAIServer(tls=serving(certificate)) as server:
        spec = server.spec.replace("https:", "http:")
        async with opened(spec, attempts=1) as model:
            with pytest.raises(GenerationError, match="closed the connection"):
                await complete(model, "?")


async def test_a_proxy_is_asked_for_a_tunnel(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    async with OpenAIServer(tls=serving(certificate)) as server, forwarding() as (proxy, heads):
        pool = Pool(parse_address(server.spec), 5.0, agent="test", key=Secret("sekrit"), proxy=proxy)
        connection = await pool.ask("/chat/completions", BODY, 5.0)
        assert connection.status == 200
        assert b"Fine." in await connection.body()
        pool.release(connection)
        await pool.aclose()
        assert heads[0][0] == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
        assert "Proxy-Authorization: Basic dXNlcjpzZWtyaXQ=" in heads[0]
        assert "sekrit" not in "".join(heads[0]), "the server's key is not for the proxy"
        assert "proxy-authorization" not in server.asked[0].headers
        assert server.asked[0].headers["authorization"] == "Bearer sekrit"


async def test_a_proxy_passes_plain_requests_on() -> None:
    async with OpenAIServer() as server, forwarding() as (proxy, heads):
        pool = Pool(parse_address(server.spec), 5.0, agent="test", proxy=proxy)
        connection = await pool.ask("/chat/completions", BODY, 5.0)
        assert (connection.status, heads[0][0]) == (200, f"POST {server.url}/chat/completions HTTP/1.1")
        pool.release(connection)
        await pool.aclose()


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [(403, "unconnected", "the proxy answered 'HTTP/1[.]1 403 No'"), (407, "setup", "the proxy wants a user name")],
)
async def test_a_proxy_that_refuses(certificate: Path, status: int, kind: str, said: str) -> None:
    async with OpenAIServer(tls=serving(certificate)) as server, forwarding(status) as (proxy, _):
        pool = Pool(parse_address(server.spec), 5.0, agent="test", proxy=proxy)
        with pytest.raises(Fault, match=said) as caught:
            await pool.ask("/chat/completions", BODY, 5.0)
        assert caught.value.kind == kind
        await pool.aclose()


async def test_a_proxy_that_wants_a_password_for_plain_requests() -> None:
    async with OpenAIServer() as server, opened(server) as model:
        server.script = lambda ask: Reply(status=407, raw=b"")
        with pytest.raises(ModelError, match="the proxy wants a user name and password"):
            await complete(model, "?")


@pytest.mark.parametrize("listener", [None, lambda _: None])
async def test_the_systems_proxy_is_used_and_named_where_something_fails(
    listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASSAY_API_KEY", "sk-sekrit")
    async with RawServer(lambda _: [response()]) as proxy:
        where = proxy.spec.removeprefix("http://").partition("/")[0]
        monkeypatch.setenv("HTTP_PROXY", f"http://user:pass-sekrit@{where}")
        async with opened("http://far.example/v1#m") as model:
            assert (await complete(model, "?", None, listener)).text == "Fine."
            assert proxy.asked[0].startswith(
                b"POST http://far.example/v1/chat/completions HTTP/1.1\r\nHost: far.example\r\n"
            )
            proxy.script = lambda _: [response(b"No way", status="403 No")]
            with pytest.raises(GenerationError) as caught:
                await complete(model, "?", None, listener)
            assert f"far.example/v1#m (through the proxy {where}): the server answered 403" in str(caught.value)
    async with opened("http://far.example/v1#m") as model:
        with pytest.raises(Unreachable, match=rf"through the proxy {where}\): no connection") as gone:
            await complete(model, "?", None, listener)
    assert "sekrit" not in str(caught.value) + str(gone.value)


async def test_no_proxy_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with OpenAIServer() as server, opened(server) as model:
        assert (await complete(model, "?")).text == "Fine."
