"""Addresses, keys and proxies: what is accepted, what is sent where, and that no secret gets into a message."""

from __future__ import annotations

import pytest

from assay.errors import ModelError
from assay.models.http_address import api_key, masked, parse_address, proxy_for
from assay.models.open import resolve


@pytest.mark.parametrize(
    ("spec", "canonical", "authority"),
    [
        ("http://127.0.0.1:8000/v1#m", "http://127.0.0.1:8000/v1#m", "127.0.0.1:8000"),
        ("HTTP://LocalHost:80/v1/#org/Model-7B:latest", "http://localhost/v1#org/Model-7B:latest", "localhost"),
        ("https://api.example.org/v1#m", "https://api.example.org/v1#m", "api.example.org"),
        ("https://api.example.org:443/v1#m", "https://api.example.org/v1#m", "api.example.org"),
        ("http://[::1]:8080#m%20x", "http://[::1]:8080#m%20x", "[::1]:8080"),
    ],
)
def test_addresses_have_one_canonical_form(spec: str, canonical: str, authority: str) -> None:
    address = parse_address(spec)
    assert address.spec == canonical
    assert address.authority == authority
    assert parse_address(address.spec) == address


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("http://host/v1", r"which model .* http://host/v1#MODEL"),
        ("http://host/v1#", "which model"),
        ("http:///v1#m", "names no host"),
        ("http://host:port/v1#m", "not a valid one"),
        ("http://host:99999/v1#m", "not a valid one"),
        ("http://ho st/v1#m", "characters"),
        ("http://user:sekrit@host/v1#m", "ASSAY_API_KEY"),
        ("http://sekrit@host/v1#m", "ASSAY_API_KEY"),
        ("http://host/v1?key=sekrit#m", "ASSAY_API_KEY"),
        ("http://user:sekrit@host:port/v1#m", "not a valid one"),
        ("http://host:0/v1#m", "host or port that there can't be"),
        ("http://a..b/v1#m", "host or port that there can't be"),
        ("http://.b/v1#m", "host or port that there can't be"),
        (f"http://{'a' * 64}.org/v1#m", "host or port that there can't be"),
        ("http://exämple.org/v1#m", "characters"),
        ("http://host/v1#m\x1b[2J", "characters"),
        ("http://host/v1/chat/completions#m", r"write http://host/v1#m"),
        ("http://host:81/api/completions/#m", r"write http://host:81/api#m"),
    ],
)
def test_addresses_that_are_wrong_and_their_secrets_kept(spec: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        parse_address(spec)
    assert "sekrit" not in str(caught.value)


@pytest.mark.parametrize(
    "mistyped",
    ["htp://user:sekrit@host/v1#m", "ftp://sekrit@host/v1#m", "http:user:sekrit@host", "http//user:sekrit@host/v1#m"],
)
def test_a_mistyped_address_keeps_its_secrets(mistyped: str) -> None:
    for spec in (mistyped, f" {mistyped}"):
        with pytest.raises(ModelError, match=r"\*\*\*@host") as caught:
            resolve(spec)
        assert "sekrit" not in str(caught.value)


def test_what_is_no_secret_is_shown() -> None:
    for text in ("models/a@b/x.gguf", "a:b", "http://host/v1#m@4bit", "C:/me@home/x"):
        assert masked(text) == text


def test_which_addresses_are_this_machine() -> None:
    here = ("localhost", "a.localhost", "127.0.0.1", "127.3.4.5", "[::1]", "0.0.0.0", "[::]")
    assert all(parse_address(f"http://{host}:8000/v1#m").loopback for host in here)
    assert not any(parse_address(f"http://{host}/v1#m").loopback for host in ("10.0.0.1", "a.org", "localhost.org"))


def test_where_the_key_comes_from() -> None:
    here, tls, plain = (parse_address(f"{url}/v1#m") for url in ("http://localhost", "https://a.org", "http://a.org"))
    assert api_key(here, {}) is None
    both = {"ASSAY_API_KEY": "own", "OPENAI_API_KEY": "other"}
    assert [key and key.reveal() for key in (api_key(a, both) for a in (here, tls, plain))] == ["own"] * 3
    other = {"ASSAY_API_KEY": "", "OPENAI_API_KEY": " other\n"}
    found = [api_key(address, other) for address in (here, tls, plain)]
    assert [key and key.reveal() for key in found] == ["other", "other", None], "not in clear text to another machine"
    with pytest.raises(ModelError, match="ASSAY_API_KEY holds characters") as caught:
        api_key(tls, {"ASSAY_API_KEY": "sek\r\nrit: x"})
    assert "rit" not in str(caught.value)


def test_proxies_are_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://us%20er:sekrit@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "near.example, port.example:8000,10.0.0.0/8,fd00::/8,192.168.1.7")
    here = ("127.0.0.1", "localhost:1", "[::1]", "0.0.0.0:8000")
    near = ("near.example", "a.near.example:81", "port.example:8000", "10.2.3.4:8000", "[fd00::7]", "192.168.1.7:1")
    for host in (*here, *near):
        assert proxy_for(parse_address(f"http://{host}/v1#m")) is None, host
    for host in ("port.example:8001", "11.2.3.4", "[fe00::7]", "192.168.1.8", "nearer.example"):
        assert proxy_for(parse_address(f"http://{host}/v1#m")) is not None, host
    found = proxy_for(parse_address("http://far.example/v1#m"))
    assert found is not None
    assert (found.host, found.port) == ("proxy.example", 3128)
    assert found.authorization is not None
    assert found.authorization.reveal() == "Basic dXMgZXI6c2Vrcml0"
    assert "sekrit" not in repr(found)
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:sekrit@proxy.example:1080")
    with pytest.raises(ModelError, match="NO_PROXY") as caught:
        proxy_for(parse_address("http://far.example/v1#m"))
    assert "sekrit" not in str(caught.value)
