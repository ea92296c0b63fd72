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
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec

from assay.reasoning import final_answer
from assay.scorers.loose_json import SPACE, Broken, Ended, LooseReader, NoObject
from assay.scorers.rubric import REASON
from assay.types import Json

_REASON_CHARS = 1000

_FLAT_OBJECT = re.compile(r"\{[^{}]*+\}")
# What makes a number that follows a dimension's name its score: "clarity: 7", "clarity is **7**.", "clarity: 7 - easy to
# read", but not "clarity (1-10)", "reasoning: 1. First, …" or "reasoning: 2 + 2 = 4".
_SAID = (
    r"(?:[\s\"'*_`]{0,4}(?:score|rating|grade)?[\s\"'*_`]{0,3}[:=|→–—-]"
    r"|[\s\"'*_`]{1,4}(?:is|was|of|at|as|to|gets?|scores?|scored|rating|deserve[sd]?|earn(?:s|ed)?|merits?|an?"
    r"|(?:should|would|could|must|may|might|can|will|ought to|needs? to|has to)(?: \w+ly| well| rather)?(?: have)?"
    r" (?:be|been|get|become|score))(?: only| rather)?(?: an?)?\b"
    r"|[\s\"'*_`]{0,3}\((?=\d{1,9}(?:\.\d{1,9})?\s?/)|(?=\s+[\d*]+(?:[.,;/]|\s*$)))"
    r"[\s\"'*_`|(]{0,6}(?!1\.\s+[A-Za-z])(?P<number>\d{1,9}(?:\.\d{1,9})?)(?!\d|\.\d)"
    r"(?=[ \t]*(?:$|\n|/\s*\d|[,;)|*_\"'`\]]|\.(?:\s|$)|out of\b|because\b|since\b|points?\b|[-–—][ \t]+[^\d\s]|\())"
)
# "a 9 for clarity".
_SAID_BEFORE = r"(?<![\w./])(?P<number>\d{1,9}(?:\.\d{1,9})?)(?:\s?/\s?\d+| points?)? (?:for|on) (?:its? |the )?"
_QUOTED = "the only verdict in the reply stands in the material that was judged"
_UNFOUNDED = "it gives no reason, and its numbers stand in the material that was judged"
# What may stand between a name and its value in material, whatever notation it is in; the value, as JSON or a word.
_GIVEN = r"[\s\"'*_`\\:=|→–—>(-]{1,12}(?:(?:is|of|an?|to|be|as|at)\s+)*[\s\"'*_`\\]{0,6}(\w[\w.+-]*(?:\s?/\s?\d+)?)"
_STARTS_WITH_OBJECT = re.compile(r"\s*(?:```\w*\s*)?\{")

# Turns a JSON value into the field's value; raises ValueError with a clause that completes "NAME …".
Field = Callable[[Json], Any]


class ReplyError(ValueError):
    """The reply holds no verdict that can be relied on; the message, one sentence, says why."""


class Verdict(msgspec.Struct, frozen=True):
    """What a reply said: each field's value, and the judge's explanation if it gave one."""

    values: Mapping[str, Any]
    reason: str | None = None


def read_verdict(
    reply: str, fields: Mapping[str, Field], *, cut: bool = False, judged: str = "", reasoned: bool = False
) -> Verdict:
    """The one verdict in the reply, with all of `fields`. Raises `ReplyError`.

    cut: the reply ended at its token limit. judged: the material that was shown. A verdict that stands in it is not taken:
    the judge quotes it, or was made to repeat it. reasoned: the judge was asked for a reason. Some never give one, so the
    numbers alone count, but not where the material gives each field the same: then nothing shows that they are the judge's.
    Where no reason was asked for they count as well, for they may be equal by chance. A cut reply is not read unless it
    begins with the object.
    """
    verdict = _read(reply, fields, cut, judged)
    if reasoned and verdict.reason is None and _gives(judged, verdict.values, fields):
        raise ReplyError(_UNFOUNDED)
    return verdict


def _read(reply: str, fields: Mapping[str, Field], cut: bool, judged: str) -> Verdict:
    plain = _plain(reply, fields)
    if plain is not None:
        verdict = _checked(plain, fields)
        if verdict.reason and _is_planted(verdict, [reply], fields, judged):
            raise ReplyError(_QUOTED)
        return verdict
    bare = _STARTS_WITH_OBJECT.match(reply) is not None
    text = _unthought(reply, fields) if bare else _answer(reply, cut)
    verdicts, spans, forms = [], [], []
    for found in _objects(text, fields):
        if _holds_schema(found, fields):
            forms.append((found.start, found.end))
            continue
        for candidate in _candidates(found, fields):
            verdicts.append(_checked(candidate, fields))
            spans.append((found.start, found.end))
    if not verdicts:
        raise ReplyError(f"the reply holds no JSON object with the keys {', '.join(fields)}")
    if any(verdict.values != verdicts[0].values for verdict in verdicts):
        raise ReplyError("the reply holds more than one verdict, and they differ")
    _no_strays(text, fields, [*spans, *forms])
    _no_other_words(text, verdicts[0], [*spans, *forms])
    alone = bare and not any(verdict.reason for verdict in verdicts)
    if not alone and all(
        _is_planted(verdict, [text[start:end]], fields, judged)
        for verdict, (start, end) in zip(verdicts, spans, strict=True)
    ):
        raise ReplyError(_QUOTED)
    return verdicts[-1]


def _answer(reply: str, cut: bool) -> str:
    """The reply behind its reasoning."""
    if cut:
        raise ReplyError("the reply was cut off at its token limit")
    answer = final_answer(reply)
    if answer is None:
        raise ReplyError("the reply ended within its reasoning")
    return answer


def _unthought(reply: str, fields: Mapping[str, Field]) -> str:
    """A reply that begins with an object, without reasoning outside of it: the chat template may have opened it."""
    if "think" not in reply and "THINK" not in reply:
        return reply
    pieces, end = [], 0
    for found in _objects(reply, fields):
        pieces += [reply[end : found.start], "." * (found.end - found.start)]
        end = found.end
    masked = "".join([*pieces, reply[end:]])
    answer = final_answer(masked)
    if answer is None:
        raise ReplyError("the reply ended within its reasoning")
    return reply[len(reply) - len(answer) :] if masked.endswith(answer) else reply


def _plain(reply: str, fields: Mapping[str, Field]) -> dict[str, Json] | None:
    """The reply if it is nothing but a sound JSON object with all fields, as most are; None leaves it to the slow way."""
    flat = _flat(reply)
    if flat is not None and all(name in flat for name in fields):
        return flat
    try:
        value = json.loads(reply, object_pairs_hook=_unique, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and all(name in value for name in fields) else None


def _flat(reply: str) -> dict[str, Json] | None:
    """The object that the reply is, if nothing in it is nested, escaped or stands twice, in a third of `json`'s time."""
    if "\\" in reply:
        return None
    try:
        value = msgspec.json.decode(reply)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    kinds = [type(inner) for inner in value.values()]
    if dict in kinds or list in kinds:
        return None
    # Without escapes each text has two quotation marks; more of them are those of a key that stands twice.
    return value if reply.count('"') == 2 * (len(value) + kinds.count(str)) else None


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _is_planted(verdict: Verdict, written: Iterable[str], fields: Mapping[str, Field], judged: str) -> bool:
    """Does the verdict stand in the material that was judged, as it is written or in other signs for the same?"""
    if not all(name in judged for name in fields):
        return False
    if any(_squeezed(text) in _squeezed(judged) for text in written):
        return True
    for match in _FLAT_OBJECT.finditer(judged):
        if not all(name in match[0] for name in fields):
            continue
        try:
            reader = LooseReader(judged, match.start())
            reader.object(0)
            planted = _checked(reader.top, fields)
        except (NoObject, Broken, Ended, ReplyError):
            continue
        if planted.values != verdict.values:
            continue
        if verdict.reason is None or _squeezed(planted.reason or "") == _squeezed(verdict.reason):
            return True
    return False


def _gives(judged: str, values: Mapping[str, Any], fields: Mapping[str, Field]) -> bool:
    """Does the material give each field the value that it has here, in whatever notation?"""
    return all(
        any(_is_value(match, values[name], convert) for match in _after(name).finditer(judged))
        for name, convert in fields.items()
    )


@lru_cache(maxsize=256)
def _after(name: str) -> re.Pattern[str]:
    spelled = re.escape(name).replace("_", r"[_\s-]")
    return re.compile(rf"(?<![^\W_]){spelled}(?![^\W_]){_GIVEN}", re.IGNORECASE)


def _is_value(match: re.Match[str], value: Any, convert: Field) -> bool:
    written = match[1].rstrip(".")
    for form in (written, f"-{written}") if match.string[match.start(1) - 1] == "-" else (written,):
        with suppress(ValueError):
            if convert(form) == value:
                return True
    return False


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
    opener = re.compile(r"\{" + SPACE.pattern + r"(?:[\"'}]|(?:" + _names((*fields, REASON)) + r")\b)", re.DOTALL)
    position = 0
    while match := opener.search(text, position):
        start = match.start()
        reader = LooseReader(text, start)
        try:
            reader.object(0)
            found = _Found(start, reader.position, reader.top, frozenset(reader.twice), cut=False)
        except NoObject:
            position = start + 1
            continue
        except Ended:
            found = _Found(start, len(text), reader.top, frozenset(reader.twice), cut=True)
        except Broken as error:
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


def _holds_schema(found: _Found, fields: Mapping[str, Field]) -> bool:
    """Is it the form of a verdict that the judge was given, repeated, and no verdict?"""
    form = found.value.get("properties")
    return isinstance(form, dict) and all(isinstance(form.get(name), dict) for name in fields)


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
    for name, value in _inner_values(candidate, fields):
        if value != values[name]:
            raise ReplyError(f"the object holds a second verdict, in which {name} differs")
    return Verdict(values, _explanation(candidate.get(REASON)))


def _inner_values(candidate: Mapping[str, Json], fields: Mapping[str, Field]) -> Iterator[tuple[str, Any]]:
    """The fields' values in objects within the candidate, as far as they are any."""
    waiting: list[Json] = [value for value in candidate.values() if isinstance(value, dict | list)]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            for name in (name for name in fields if name in inner):
                with suppress(ValueError):
                    yield name, fields[name](inner[name])
        parts = inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ()
        waiting += [part for part in parts if isinstance(part, dict | list)]


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


def _no_other_words(text: str, verdict: Verdict, spans: list[tuple[int, int]]) -> None:
    """Raise if the words around the object give a dimension another number."""
    numbers = {name: value for name, value in verdict.values.items() if isinstance(value, int | float)}
    if not numbers:
        return
    spelled = {name.lower().replace("_", " "): name for name in numbers}
    names = "|".join(re.escape(name).replace("_", "[_ ]") for name in sorted(numbers, key=len, reverse=True))
    after = rf"\b(?P<name>{names})\b{_SAID}"
    before = rf"{_SAID_BEFORE}(?P<name>{names})\b"
    for match in (*re.finditer(after, text, re.IGNORECASE), *re.finditer(before, text, re.IGNORECASE)):
        if any(start <= match.start() < end for start, end in spans):
            continue
        name = spelled[match["name"].lower().replace("_", " ")]
        if float(match["number"]) != numbers[name]:
            raise ReplyError(f"the words around the object give {name} another number: {' '.join(match[0].split())!r}")


def _names(keys: Iterable[str]) -> str:
    return "|".join(re.escape(key) for key in keys)
