"""What every format of answers gives, and what they share in reading one record.

A format yields an `Answered` or a `BadLine` for each of its lines, rows or samples, in file order. It raises a
`SuiteError` only where the file as a whole can't be read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from mmap import mmap
from typing import Any, get_args

import msgspec

from assay.suites.readers import Place
from assay.types import FailureClass, FinishReason, Json, Message, Prompt, Role, Sample, unwrapped

# More than any file has, and what a journal's reader has room for.
_MOST_REPEATS = 2**31 - 2
# Of a question's digest, and of an answer's: two of a million questions have one with a chance of 1 in 500.
_DIGEST_BYTES = 6

# What scorers compare an answer with. Every other field of a record is metadata.
REFERENCE = (
    "target",
    "choices",
    "correct_answer",
    "correct_answers",
    "incorrect_answers",
    "best_answer",
    "risk_area",
    "domain",
    "ground_truth",
    "fact_markers",
    "evasion_markers",
)

# First the name in assay's own format, then the few others that are understood. "answer" is not among them: in most
# data sets it is the reference.
RESPONSE_NAMES = ("response", "output", "completion", "generated_text")
PROMPT_NAMES = ("prompt", "question", "instruction", "input", "messages")

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "max_output_tokens": "length",
}
# Errors of OpenAI's APIs after which asking again may help.
_AGAIN = ("batch_expired", "batch_cancelled", "rate_limit_exceeded", "server_error")
_ROLES: Mapping[str, Role] = {**{role: role for role in get_args(Role)}, "developer": "system", "function": "tool"}


class NoAnswer(msgspec.Struct, frozen=True):
    """Why a question that was asked has no answer, as the file records it: a request that failed, an answer withheld."""

    error_class: FailureClass
    reason: str


WITHHELD = NoAnswer("refused", "the answer was withheld by a content filter")


class Answered(msgspec.Struct, frozen=True):
    """An answer that already exists, or the record that a question was asked and has none.

    id: the question's; answers are told apart by (id, model, repeat) within a file. model: "" if unknown. sample: the
    question, under that id; an empty prompt means that it is unknown. text: the answer as given. finish_reason: None if
    unknown. line: line of the file, row of a table or number of a sample, from 1. repeat: which of a model's answers to
    the question, from 0 or 1 up; None where a question is asked once. failure: set where there is no answer; `text` is
    then "", and all scorers fail alike. numbered: the id is only the line's number, since the file has none; another file
    has another question there. asked: a digest of the question, where the prompt is only one way to put it; "": the
    prompt is the question.
    """

    id: str
    model: str
    sample: Sample
    text: str
    finish_reason: FinishReason | None
    line: int
    repeat: int | None = None
    failure: NoAnswer | None = None
    numbered: bool = False
    asked: str = ""

    @property
    def question(self) -> str:
        """A digest of what was asked, by which answers of two files are known as those to one question; "" if unknown."""
        if not self.sample.prompt:
            return self.asked
        return self.asked or digest_of_json(_turns(self.sample.prompt))

    @property
    def digest(self) -> str:
        """A digest of all that a score may hang on: the answer, its question, and what it is compared with."""
        failure = "" if self.failure is None else self.failure.reason
        given = [self.text, self.finish_reason, failure, _turns(self.sample.prompt), self.sample.reference]
        return digest_of_json(given)


class BadLine(msgspec.Struct, frozen=True):
    """A line that can't be understood, and why. `str()` of it is `FILE:LINE: reason`. id, model: where they are known."""

    place: Place
    reason: str
    id: str = ""
    model: str = ""

    def __str__(self) -> str:
        return str(self.place.error(self.reason))


class Unfit(Exception):
    """Raised within a format for a record that can't be understood; it becomes a `BadLine`."""

    def __init__(self, reason: str, *, id: str = "", model: str = "") -> None:  # noqa: A002
        super().__init__(reason)
        self.id, self.model = id, model

    def at(self, place: Place) -> BadLine:
        return BadLine(place, str(self), self.id, self.model)


def decoded(line: bytes) -> dict[str, Any]:
    """The JSON object of a line."""
    record: dict[str, Any] = loosely(line, msgspec.json.decode)
    return record


def loosely(line: bytes | mmap, decode: Callable[[Any], Any]) -> Any:
    """What `decode` makes of a JSON object. `NaN` and infinities, as Python writes them, are read as null."""
    try:
        value = decode(line)
    except RecursionError:
        raise Unfit("nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise Unfit(_shape(error)) from None
        try:
            value = decode(_repaired(bytes(line)))
        except msgspec.ValidationError as wrong:
            raise Unfit(_shape(wrong)) from None
    if isinstance(value, dict | msgspec.Struct):
        return value
    raise Unfit(f"not a JSON object but {kind(value)}")


def _repaired(line: bytes) -> bytes:
    """The line as strict JSON, or `Unfit` with what is wrong with it."""
    try:
        # Without the line's end, behind which an error would be said to be in column 1.
        value = json.loads(line.decode("utf-8").rstrip(), parse_constant=lambda _: None)
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeDecodeError:
        raise Unfit("not UTF-8 text") from None
    except UnicodeEncodeError:
        raise Unfit("a text holds half of a surrogate pair, which is not a character") from None
    except json.JSONDecodeError as error:
        raise Unfit(f"not valid JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError):
        raise Unfit("not valid JSON: a number out of range, or nested too deeply") from None


def _shape(error: msgspec.ValidationError) -> str:
    wrong, _, where = str(error).partition(" - at ")
    return wrong[:1].lower() + wrong[1:] + (f" in {where.strip('`').removeprefix('$.')}" if where else "")


def answered(record: dict[str, Any], line: int, *, repeats: bool = False, ids: bool = False) -> Answered:
    """An answer from a record of named values, as in JSON lines and tables. Takes the record apart.

    Names: id (default: the line's number), model, repeat, `PROMPT_NAMES`, `RESPONSE_NAMES`, error (where there is no
    response: why the request failed), finish_reason, group (default: the domain), those of `REFERENCE`, a mapping
    `reference`; all else is metadata. repeats: other records of the file have a repeat; then it is 0 where it is left
    out. ids: others have an id; then it is `line 7` where it is left out.
    """
    given = record.pop("id", None)
    numbered = given in (None, "")
    # Beside ids that are written down, which may be numbers, a line's number must look like none of them.
    name, model = f"line {line}" if numbered and ids else identity(given, line), record.pop("model", None) or ""
    try:
        repeat = _repeat(record.pop("repeat", None), given)
        if not isinstance(model, str):
            raise Unfit(f"model must be text, not {kind(model)}")
        failure = _taken_failure(record) if record.get("error") else None
        text = "" if failure is not None else _taken_response(record)
        prompt = "" if failure is not None and not record.keys() & PROMPT_NAMES else _taken_prompt(record)
    except Unfit as unfit:
        raise Unfit(str(unfit), id=name, model=model if isinstance(model, str) else "") from None
    finish, group = record.pop("finish_reason", None), record.pop("group", None)
    if finish == "content_filter" and failure is None:
        failure, text = WITHHELD, ""
    reference = taken_reference(record)
    if not isinstance(group, str):
        group = reference.get("domain")
    sample = Sample(name, prompt, group if isinstance(group, str) and group else "all", reference, record)
    repeat = 0 if repeat is None and repeats else repeat
    return Answered(name, model, sample, text, finished(finish), line, repeat, failure, numbered)


def digest_of_json(value: object) -> str:
    """A short digest of a JSON value."""
    return hashlib.blake2b(msgspec.json.encode(value), digest_size=_DIGEST_BYTES).hexdigest()


def _turns(prompt: Prompt) -> Json:
    return str(prompt) if isinstance(prompt, str) else [[turn.role, turn.content] for turn in prompt]


def _taken_response(record: dict[str, Any]) -> str:
    name = "response" if "response" in record else _other(record, RESPONSE_NAMES)
    text = record.pop(name)
    if not isinstance(text, str):
        raise Unfit(
            f"{name} holds nothing: there is no answer" if text is None else f"{name} must be text, not {kind(text)}"
        )
    return text


def _taken_prompt(record: dict[str, Any]) -> Prompt:
    prompt = record.pop("prompt" if "prompt" in record else _other(record, PROMPT_NAMES))
    return prompt if isinstance(prompt, str) else as_prompt(prompt)


def _taken_failure(record: dict[str, Any]) -> NoAnswer | None:
    """Why the request failed, by `error`; None where there is an answer all the same, and `error` is some other thing."""
    if any(record.get(name) for name in RESPONSE_NAMES):
        return None
    for name in RESPONSE_NAMES:
        record.pop(name, None)
    statuses = [record.pop(name) for name in ("status_code", "status") if name in record]
    return failed(record.pop("error"), next((s for s in statuses if type(s) is int), 0))


def failed(error: object, status: int = 0) -> NoAnswer:
    """A request that failed. error: as an API gives it, or a text. status: of HTTP, 0 if there was none."""
    held: dict[str, Any] = error if isinstance(error, dict) else {}
    code = held.get("code") or held.get("type")
    said = (held.get("message") or code) if held else error
    again = status in (408, 409, 429) or status >= 500 or code in _AGAIN
    why = said if isinstance(said, str) else "no reason given"
    return NoAnswer(
        "transient" if again else "permanent", f"the request failed{f' with HTTP {status}' if status else ''}: {why}"
    )


def _repeat(value: object, name: object) -> int | None:
    """Which of a question's answers one is, where that is said. Tables may have it as text or as a float."""
    if value is None or value == "":
        return None
    if name in (None, ""):
        raise Unfit("a repeat, but no id that says of which question")
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_REPEATS:
        raise Unfit(f"repeat must be a whole number from 0 up, not {kind(value)}")
    return value


def identity(value: object, line: int) -> str:
    """A sample's id as text; the line's number where there is none."""
    if isinstance(value, str) and value:
        return value
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer()):
        return written(value)
    if value is None or value == "":
        return str(line)
    raise Unfit(f"id must be text or a whole number, not {kind(value)}")


def finished(value: object) -> FinishReason | None:
    """Why an answer ended, from any of the words that engines have for it; None if that isn't known."""
    return _FINISH.get(value) if isinstance(value, str) else None


def taken_reference(record: dict[str, Any]) -> dict[str, Json]:
    """Take out of `record` what scorers compare with. Numbers become their text; nulls are left out."""
    given = record.pop("reference") if isinstance(record.get("reference"), dict) else {}
    reference: dict[str, Json] = {name: value for name, value in given.items() if value is not None}
    for name in [name for name in REFERENCE if name in record]:
        value = record.pop(name)
        if value is not None:
            reference[name] = written(value) if type(value) in (int, float) else value
    return reference


def written(number: float) -> str:
    """A number as people write it. A whole one is often a float only because its column has gaps."""
    whole = isinstance(number, float) and number.is_integer() and abs(number) < 2**53
    return str(int(number) if whole else number)


def as_prompt(value: object) -> Prompt:
    """A prompt from text, or from a list of messages; a lone user message is its text."""
    return value if isinstance(value, str) else unwrapped(as_messages(value))


def as_messages(value: object) -> tuple[Message, ...]:
    """The messages of a list, a lone one as well."""
    if not isinstance(value, list) or not value:
        raise Unfit(f"prompt must be text or a list of messages, not {kind(value) if value != [] else 'an empty list'}")
    return tuple(_message(item) for item in value)


def _message(item: object) -> Message:
    if not isinstance(item, dict):
        raise Unfit(f"a message must be {{role: …, content: …}}, not {kind(item)}")
    role = _ROLES.get(item["role"]) if isinstance(item.get("role"), str) else None
    if role is None:
        raise Unfit(f"unknown role {item.get('role')!r} of a message; known: {', '.join(_ROLES)}")
    return Message(role, content_text(item.get("content")))


def content_text(content: object) -> str:
    """A message's content as text. Of a list of parts, texts count, reasoning doesn't, and others show as `[image]`."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Unfit(f"a message's content must be text, not {kind(content)}")
    texts = []
    for part in content:
        part_kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part_kind != "reasoning":
            texts.append(f"[{part_kind or 'unknown'}]")
    return "".join(texts)


def _other(record: dict[str, Any], names: tuple[str, ...]) -> str:
    """The one of `names` that is there, with a value if one has any; the first of them is known not to be."""
    there = [name for name in names if name in record]
    found = [name for name in there if record[name] is not None] or there[:1]
    if len(found) == 1:
        return found[0]
    if found:
        raise Unfit(f"{' and '.join(found)} could each be the {names[0]}; name one of them {names[0]!r}")
    others = f"; there are: {', '.join(map(str, record))}" if record else ", nor another field that could be it"
    raise Unfit(f"no {names[0]!r}{others}")


def kind(value: object) -> str:
    """A value in the words of an error message."""
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value if len(value) <= 40 else value[:39] + '…'!r}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return f"a value of type {type(value).__name__}"


def table_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """A table's row as `answered` takes it: plain values, and no nulls but for a response's."""
    plain = {name: plain_value(value) for name, value in row.items()}
    return {name: value for name, value in plain.items() if value is not None or name in RESPONSE_NAMES}


def plain_value(value: Any) -> Any:
    """A table's value as JSON has it: dates, decimals and bytes as text; a number that isn't finite as null.

    Bytes that are no UTF-8 text stay what they are.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
        return value
    return str(value)
