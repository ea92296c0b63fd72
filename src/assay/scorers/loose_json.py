"""A JSON object as language models write it, read from the middle of a text.

Beyond JSON's own form: trailing commas, comments, single quotes, keys without quotes, values that are no JSON as the text
they are. An object that the text ends in keeps its whole pairs. Nothing is guessed: a number at the text's very end may
have been cut short, so it is no value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec

from assay.types import Json

_MAX_DEPTH = 16

# Possessive, and comments bounded: no text makes the search take time that grows with its square.
SPACE = re.compile(r"(?:\s++|//[^\n]{0,1000}+|/\*.{0,1000}?\*/)*+", re.DOTALL)
_STRINGS = {
    '"': re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL),
    "'": re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'", re.DOTALL),
}
_BARE = re.compile(r"[^\s,{}\[\]\"':]+?(?=//|/\*|[\s,{}\[\]\"':]|$)")
_WORDS: Mapping[str, Json] = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,300})(?:\.\d{1,300})?(?:[eE][+-]?\d{1,3})?", re.ASCII)


class NoObject(Exception):
    """A brace that opens no object: a set, a formula, a placeholder."""


class Broken(Exception):
    """An object that cannot be read on."""


class Ended(Exception):
    """The text ended within the object."""


class LooseReader(msgspec.Struct):
    """Reads one object at `position`; `top` holds its whole pairs as they are read, so that a cut one has its front."""

    text: str
    position: int
    top: dict[str, Json] = {}
    twice: set[str] = set()

    def object(self, depth: int) -> dict[str, Json]:
        found = self.top if depth == 0 else {}
        self.position += 1
        while self._next() != "}":
            key = self._key(first=depth == 0 and not found)
            if self._next() != ":":
                if depth == 0 and not found:
                    raise NoObject
                raise Broken(f"expected a colon after the key {key!r}")
            self.position += 1
            value = self._value(depth)
            if key in found:
                self.twice.add(key)
            found[key] = value
            self._comma("}")
        self.position += 1
        return found

    def _array(self, depth: int) -> list[Json]:
        found: list[Json] = []
        self.position += 1
        while self._next() != "]":
            found.append(self._value(depth))
            self._comma("]")
        self.position += 1
        return found

    def _comma(self, closing: str) -> None:
        following = self._next()
        if following == ",":
            self.position += 1
        elif following != closing:
            raise Broken(f"expected a comma or {closing!r}")

    def _next(self) -> str:
        """The next character that is neither space nor comment."""
        space = SPACE.match(self.text, self.position)
        self.position = space.end() if space else self.position
        if self.position >= len(self.text):
            raise Ended
        return self.text[self.position]

    def _key(self, first: bool) -> str:
        mark = self.text[self.position]
        if mark in _STRINGS:
            return self._string(mark)
        bare = re.compile(r"[A-Za-z_]\w*").match(self.text, self.position)
        if bare is None:
            raise NoObject if first else Broken("expected a key")
        self.position = bare.end()
        return bare[0]

    def _value(self, depth: int) -> Json:
        mark = self._next()
        if mark in _STRINGS:
            return self._string(mark)
        if mark in "{[":
            if depth >= _MAX_DEPTH:
                raise Broken("nested too deeply")
            return self.object(depth + 1) if mark == "{" else self._array(depth + 1)
        token = _BARE.match(self.text, self.position)
        if token is None:
            raise Broken("expected a value")
        if token.end() == len(self.text):
            raise Ended  # "1" may have been the beginning of "10"
        self.position = token.end()
        return _bare_value(token[0])

    def _string(self, mark: str) -> str:
        match = _STRINGS[mark].match(self.text, self.position)
        if match is None:
            raise Ended
        self.position = match.end()
        body = match[0][1:-1]
        if mark == "'":
            body = re.sub(r'\\.|"', lambda m: {"\\'": "'", '"': '\\"'}.get(m[0], m[0]), body, flags=re.DOTALL)
        try:
            return str(json.loads(f'"{body}"', strict=False))
        except ValueError:  # an escape that JSON doesn't know, such as LaTeX's
            return body


def _bare_value(token: str) -> Json:
    if token in _WORDS:
        return _WORDS[token]
    if _JSON_NUMBER.fullmatch(token):
        return json.loads(token)  # type: ignore[no-any-return]
    return token  # not JSON's; the field decides, and takes "7/10" but neither "NaN" nor "0x7"
