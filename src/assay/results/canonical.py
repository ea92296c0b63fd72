"""Values as canonical JSON (sorted keys, no spaces, UTF-8), whose digest is a key: not one byte of it may ever change.

`json` defines the form. msgspec writes nearly all values alike, in an eighth of the time; with the look at what it is given, in
half of it. A judged answer takes two digests. Where msgspec writes a value another way (floats with an exponent, those that
JSON lacks) or refuses it (halves of surrogate pairs, keys that are no text), `json` does it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

_slow = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_fast = msgspec.json.Encoder(order="sorted").encode

_PLAIN = frozenset({str, int, bool, type(None)})
# Between these no float is written with an exponent.
_LEAST, _MOST = 1e-4, 1e16


def canonical(value: object) -> bytes:
    """The value as canonical JSON; half of a surrogate pair as the three bytes that UTF-8 would give it."""
    if _alike(value):
        try:
            return _fast(value)
        except (UnicodeEncodeError, TypeError):
            pass
    return _slow(value).encode("utf-8", "surrogatepass")


def digest_of(*parts: object) -> str:
    """sha256 hex of the parts as canonical JSON: equal meaning, equal digest."""
    return hashlib.sha256(canonical(parts)).hexdigest()


def _alike(value: Any) -> bool:
    """Whether msgspec, if it takes the value, writes it as `json` does. Only exact types: subclasses have their own ways."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is float:
        return value == 0 or bool(_LEAST <= abs(value) < _MOST)
    if kind is not dict and kind is not list and kind is not tuple:
        return False
    for part in value.values() if kind is dict else value:  # noqa: SIM110 -- a generator takes more than twice the time
        if type(part) not in _PLAIN and not _alike(part):
            return False
    return True
