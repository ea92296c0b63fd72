"""Reading a judge's verdict out of its reply: tolerant of how it is wrapped, never of doubt about what it says.

Accepted: prose and code fences around the object, reasoning before it, trailing commas, comments, single quotes, keys
without quotes, one object around it ({"scores": {...}}), and an object that was cut off after its last score. Whatever
leaves two readings open is an error that the judge can be asked to mend: two verdicts that differ, a key that stands
twice, a score outside of the object that was read, a number that the end of the text may have cut short. General
repair libraries decide such cases by guessing (`{"a": 7, "b": 1` becomes 1 where 10 was being written), which is fine
for most data and not for scores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from assay.scorers.reasoning import final_answer
from assay.scorers.rubric import REASON
from assay.types import Json

_MAX_DEPTH = 16
_REASON_CHARS = 1000

# Possessive, and comments bounded: no text makes the search take time that grows with its square.
_SPACE = re.compile(r"(?:\s++|//[^\n]{0,1000}+|/\*.{0,1000}?\*/)*+", re.DOTALL)
_STRINGS = {
    '"': re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL),
    "'": re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'", re.DOTALL),
}
_BARE = re.compile(r"[^\s,{}\[\]\"':]+?(?=//|/\*|[\s,{}\[\]\"':]|$)")
_WORDS: Mapping[str, Json] = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,300})(?:\.\d{1,300})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_STARTS_WITH_OBJECT = re.compile(r"\s*(?:```\w*\s*)?\{")

# Turns a JSON value into the field's value; raises ValueError with a clause that completes "NAME …".
Field = Callable[[Json], Any]


class ReplyError(ValueError):
    """The reply holds no verdict that can be relied on; the message, one sentence, says why."""


class Verdict(msgspec.Struct, frozen=True):
    """What a reply said: each field's value, and the judge's explanation if it gave one."""

    values: Mapping[str, Any]
    reason: str | None = None


def read_verdict(reply: str, fields: Mapping[str, Field], *, cut: bool = False, judged: str = "") -> Verdict:
    """The one verdict in the reply, with all of `fields`. Raises `ReplyError`.

    cut: the reply ended at its token limit. judged: what was judged. Where the reply begins with something other than the
    object, a cut reply is not read, and a verdict that stands in `judged` just so is not taken: either may be a quotation.
    """
    plain = _plain(reply, fields)
    if plain is not None:
        return _checked(plain, fields)
    text = reply
    bare = _STARTS_WITH_OBJECT.match(reply) is not None
    if not bare:
        if cut:
            raise ReplyError("the reply was cut off at its token limit")
        answer = final_answer(reply)
        if answer is None:
            raise ReplyError("the reply ended within its reasoning")
        text = answer
    verdicts, spans = [], []
    for found in _objects(text, fields):
        for candidate in _candidates(found, fields):
            verdicts.append(_checked(candidate, fields))
            spans.append((found.start, found.end))
    if not verdicts:
        raise ReplyError(f"the reply holds no JSON object with the keys {', '.join(fields)}")
    if any(verdict.values != verdicts[0].values for verdict in verdicts):
        raise ReplyError("the reply holds more than one verdict, and they differ")
    _no_strays(text, fields, spans)
    if not bare and all(_squeezed(text[start:end]) in _squeezed(judged) for start, end in spans):
        raise ReplyError("the only verdict in the reply quotes what was judged")
    return verdicts[-1]


def _plain(reply: str, fields: Mapping[str, Field]) -> dict[str, Json] | None:
    """The reply if it is nothing but a sound JSON object with all fields, as most are; None leaves it to the slow way."""
    try:
        value = json.loads(reply, object_pairs_hook=_unique, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and all(name in value for name in fields) else None


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


class _Found(msgspec.Struct, frozen=True):
    """An object in the text, its span, and the keys that stood in it twice. cut: the text ended before it did."""

    start: int
    end: int
    value: dict[str, Json]
    twice: frozenset[str]
    cut: bool


def _objects(text: str, fields: Mapping[str, Field]) -> Iterator[_Found]:
    """The outermost JSON objects of the text, from its front. One that is broken is an error, for who can say where
    it ends and what was within it?"""
    opener = re.compile(r"\{" + _SPACE.pattern + r"(?:[\"'}]|(?:" + _names((*fields, REASON)) + r")\b)", re.DOTALL)
    position = 0
    while match := opener.search(text, position):
        start = match.start()
        reader = _Reader(text, start)
        try:
            reader.object(0)
            found = _Found(start, reader.position, reader.top, frozenset(reader.twice), cut=False)
        except _NoObject:
            position = start + 1
            continue
        except _Ended:
            found = _Found(start, len(text), reader.top, frozenset(reader.twice), cut=True)
        except _Broken as error:
            here = text[reader.position : reader.position + 20]
            raise ReplyError(f"the JSON object is broken at {here!r}: {error}") from None
        yield found
        position = found.end


def _candidates(found: _Found, fields: Mapping[str, Field]) -> list[dict[str, Json]]:
    """The object if it has any of the fields, else the objects directly in it that do."""
    if fields.keys() & found.value.keys():
        doubled = sorted(fields.keys() & found.twice)
        if doubled:
            raise ReplyError(f"the key {doubled[0]!r} stands twice in the object")
        missing = [name for name in fields if name not in found.value]
        if found.cut and missing:
            raise ReplyError(f"the reply ends before {missing[0]!r} is complete")
        return [found.value]
    if found.cut:
        raise ReplyError("the reply ends before its JSON object does")
    inner = [value for value in found.value.values() if isinstance(value, dict) and fields.keys() & value.keys()]
    if inner and found.twice:
        raise ReplyError("the object around the verdict has a key that stands twice")
    return inner


def _checked(candidate: Mapping[str, Json], fields: Mapping[str, Field]) -> Verdict:
    """The candidate's values; all that is wrong with them in one message."""
    values: dict[str, Any] = {}
    wrong = []
    for name, convert in fields.items():
        if name not in candidate:
            wrong.append(f"{name} is missing")
            continue
        try:
            values[name] = convert(candidate[name])
        except ValueError as error:
            wrong.append(f"{name} {error}")
    if wrong:
        raise ReplyError("; ".join(wrong))
    return Verdict(values, _explanation(candidate.get(REASON)))


def _explanation(given: Json) -> str | None:
    if not isinstance(given, str) or not given.strip():
        return None
    # Half of a surrogate pair, which "\\ud83d" can leave behind, can't be written to a journal.
    text = given.strip().encode("utf-8", "replace").decode()
    return text if len(text) <= _REASON_CHARS else text[: _REASON_CHARS - 1] + "…"


def _no_strays(text: str, fields: Mapping[str, Field], spans: list[tuple[int, int]]) -> None:
    """Raise if a field's key stands outside of the objects read: one of them may then be a quotation within another."""
    names = _names(fields)
    for match in re.finditer(rf"([\"'])(?:{names})\1\s*:|[{{,]\s*(?:{names})\s*:", text):
        if not any(start <= match.start() < end for start, end in spans):
            raise ReplyError(f"a part of a second verdict stands outside of the object: {match[0].strip()!r}")


def _names(keys: Iterable[str]) -> str:
    return "|".join(re.escape(key) for key in keys)


class _NoObject(Exception):
    """A brace that opens no object: a set, a formula, a placeholder."""


class _Broken(Exception):
    """An object that cannot be read on."""


class _Ended(Exception):
    """The text ended within the object."""


class _Reader(msgspec.Struct):
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
                    raise _NoObject
                raise _Broken(f"expected a colon after the key {key!r}")
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
            raise _Broken(f"expected a comma or {closing!r}")

    def _next(self) -> str:
        """The next character that is neither space nor comment."""
        space = _SPACE.match(self.text, self.position)
        self.position = space.end() if space else self.position
        if self.position >= len(self.text):
            raise _Ended
        return self.text[self.position]

    def _key(self, first: bool) -> str:
        mark = self.text[self.position]
        if mark in _STRINGS:
            return self._string(mark)
        bare = re.compile(r"[A-Za-z_]\w*").match(self.text, self.position)
        if bare is None:
            raise _NoObject if first else _Broken("expected a key")
        self.position = bare.end()
        return bare[0]

    def _value(self, depth: int) -> Json:
        mark = self._next()
        if mark in _STRINGS:
            return self._string(mark)
        if mark in "{[":
            if depth >= _MAX_DEPTH:
                raise _Broken("nested too deeply")
            return self.object(depth + 1) if mark == "{" else self._array(depth + 1)
        token = _BARE.match(self.text, self.position)
        if token is None:
            raise _Broken("expected a value")
        if token.end() == len(self.text):
            raise _Ended  # "1" may have been the beginning of "10"
        self.position = token.end()
        return _bare_value(token[0])

    def _string(self, mark: str) -> str:
        match = _STRINGS[mark].match(self.text, self.position)
        if match is None:
            raise _Ended
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
