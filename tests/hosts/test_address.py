"""SSH addresses as users write them."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import BadInput
from assay.hosts.address import Address, parse_address, parse_authority


@pytest.mark.parametrize(
    ("text", "address", "path"),
    [
        ("ssh://trainer/runs", Address("trainer"), "/runs"),
        ("ssh://ann@trainer:2222/runs/a", Address("trainer", "ann", 2222), "/runs/a"),
        ("ssh://trainer/", Address("trainer"), "/"),
        ("ssh://trainer//runs//a/", Address("trainer"), "/runs/a"),
        ("ssh://trainer/~/runs", Address("trainer"), "runs"),
        ("ssh://trainer/~", Address("trainer"), "."),
        ("ssh://trainer/~//etc", Address("trainer"), "etc"),
        ("ssh://trainer/%7E/runs", Address("trainer"), "/~/runs"),
        ("ssh://trainer/~ann/runs", Address("trainer"), "/~ann/runs"),
        ("ssh://[::1]:22/a", Address("::1", None, 22), "/a"),
        ("ssh://[fe80::1%eth0]/a", Address("fe80::1%eth0"), "/a"),
        ("ssh://192.168.0.7/a", Address("192.168.0.7"), "/a"),
        ("ssh://a%40corp@trainer/a", Address("trainer", "a@corp"), "/a"),
        ("ssh://CORP%5Cann@trainer/a", Address("trainer", "CORP\\ann"), "/a"),
        ("ssh://trainer/a b?c#d", Address("trainer"), "/a b?c#d"),
        ("ssh://trainer/;%20rm%20-rf%20x", Address("trainer"), "/; rm -rf x"),
        ("ssh://trainer/%ff%0a'%25", Address("trainer"), "/\udcff\n'%"),
        ("ssh://trainer/läufe", Address("trainer"), "/läufe"),
        ("ssh://bücher.example/a", Address("bücher.example"), "/a"),
        ("SSH://trainer/a", Address("trainer"), "/a"),
    ],
)
def test_addresses_are_read(text: str, address: Address, path: str) -> None:
    assert parse_address(text) == (address, PurePosixPath(path))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ssh://trainer", "names no folder"),
        ("ssh:///runs", "names no host"),
        ("ssh://ann@/runs", "names no host"),
        ("ssh://ann:secret@trainer/runs", "can't hold a password"),
        ("ssh://trainer:0/runs", "'0' is no port"),
        ("ssh://trainer:65536/runs", "'65536' is no port"),
        ("ssh://trainer:/runs", "'' is no port"),
        ("ssh://trainer:ssh/runs", "'ssh' is no port"),
        ("ssh://trainer:²/runs", "'²' is no port"),
        ("ssh://::1/runs", "stands in brackets"),
        ("ssh://-oProxyCommand=x/runs", "can't be the name of a host"),
        ("ssh://$(x)/runs", "can't be the name of a host"),
        ("ssh://a%20b/runs", "can't be the name of a host"),
        ("ssh://`x`@trainer/runs", "can't be the name of a user"),
        ("ssh://-l@trainer/runs", "can't be the name of a user"),
        ("ssh://@trainer/runs", "can't be the name of a user"),
        ("ssh://trainer/50%/runs", "write it as %25"),
        ("ssh://trainer/a%00b", "zero byte"),
    ],
)
def test_wrong_addresses_are_refused_in_one_sentence(text: str, why: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_address(text)
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_authority_stands_alone_too() -> None:
    assert parse_authority("ann@gate:2200") == Address("gate", "ann", 2200)


@given(st.binary(min_size=1).filter(lambda b: 0 not in b))
def test_every_path_can_be_written(raw: bytes) -> None:
    escaped = "".join(f"%{byte:02x}" for byte in raw)
    _, path = parse_address(f"ssh://trainer/{escaped}")
    expected = PurePosixPath("/" + raw.decode("utf-8", "surrogateescape").lstrip("/"))
    assert path == expected
