"""Logs of inspect_ai: `.eval` (a zip with a JSON file for each sample) and the older `.json` (one document).

Read with version 0.3.285, log schema 2. An epoch is a repeat, counted from 0. What was asked is the conversation as
the model last saw it, with the solvers' prompts in place; the answer is `output`, without the reasoning that the engine
set apart. An `.eval` is read sample by sample; a `.json` is one document, mapped into memory.
"""

from __future__ import annotations

import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from assay.errors import SuiteError
from assay.suites.formats.base import (
    WITHHELD,
    Answered,
    BadLine,
    NoAnswer,
    Unfit,
    as_prompt,
    content_text,
    finished,
    identity,
    loosely,
    taken_reference,
)
from assay.suites.formats.packed import head, whole
from assay.suites.readers import Place
from assay.types import Sample

_ZSTD = 93  # the zip format's number for it
# What a damaged member of the archive raises, by the place of the damage.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)
_ATTACHMENT = re.compile(r"attachment://([0-9a-f]{32})")


class _Damaged(Exception):
    """The log's header can't be read."""


class _Message(msgspec.Struct):
    role: str
    content: Any = None


class _Choice(msgspec.Struct):
    message: _Message
    stop_reason: str = ""


class _Output(msgspec.Struct):
    choices: list[_Choice] = []


class _Error(msgspec.Struct):
    message: str = ""


class _Limit(msgspec.Struct):
    type: str = ""


class _Invalidation(msgspec.Struct):
    reason: str | None = None


class _Fallback(msgspec.Struct):
    fallback_model: str


class _Sample(msgspec.Struct):
    id: int | str
    epoch: int = 1
    input: Any = None
    target: Any = None
    choices: Any = None
    messages: list[_Message] = []
    output: _Output = msgspec.field(default_factory=_Output)
    metadata: dict[str, Any] = {}
    attachments: dict[str, str] = {}
    error: _Error | None = None
    limit: _Limit | None = None
    invalidation: _Invalidation | None = None
    model_fallbacks: list[_Fallback] | None = None


class _Dataset(msgspec.Struct):
    sample_ids: list[Any] | None = None


class _Config(msgspec.Struct):
    epochs: int | None = None


class _Spec(msgspec.Struct):
    model: str = ""
    task: str = ""
    dataset: _Dataset = msgspec.field(default_factory=_Dataset)
    config: _Config = msgspec.field(default_factory=_Config)


class _Header(msgspec.Struct):
    eval: _Spec
    status: str = "started"


class _Document(_Header):
    samples: list[msgspec.Raw] | None = None


def is_log(path: Path) -> bool:
    """Is this a `.json` log? Only its beginning is looked at."""
    return re.match(rb'\s*\{\s*"version":\s*\d+,\s*"status":', head(path)) is not None


def read_json(path: Path) -> Iterator[Answered | BadLine]:
    """The answers of a `.json` log, in its order."""
    data = whole(path)
    log: _Document = _whole(path, lambda: loosely(data, msgspec.json.Decoder(_Document).decode))
    samples = log.samples or []
    for number, raw in enumerate(samples, start=1):
        yield _one(bytes(raw), number, log.eval, Place(path / f"samples/{number}"))
    yield from _missing(log, len(samples), path)


def read_eval(path: Path) -> Iterator[Answered | BadLine]:
    """The answers of an `.eval` log, in the order in which they were finished. One still being written has a part."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}  # of a name written twice, the last counts
            header = members.get("header.json") or members.get("_journal/start.json")
            if header is None:
                raise SuiteError(f"{path}: a zip file, but not a log of inspect_ai, which holds a header.json")
            try:
                first = _data(archive, header)
            except _DAMAGED as error:
                raise _Damaged(f"its header is damaged: {error}") from None
            log: _Header = _whole(path, lambda: _header(first))
            samples = [info for name, info in members.items() if re.fullmatch(r"samples/.+\.json", name)]
            for number, info in enumerate(samples, start=1):
                place = Place(path / info.filename)
                try:
                    data = _data(archive, info)
                except _DAMAGED as error:
                    yield BadLine(place, f"damaged: {error}")
                else:
                    yield _one(data, number, log.eval, place)
            yield from _missing(log, len(samples), path)
    except (_Damaged, *_DAMAGED) as error:
        raise SuiteError(f"{path}: not a whole .eval log: {error}") from None


def _missing(log: _Header, count: int, path: Path) -> Iterator[BadLine]:
    """Say it if samples are not in the log: its run was stopped, or goes on."""
    wanted = len(log.eval.dataset.sample_ids or ()) * max(log.eval.config.epochs or 1, 1)
    if 0 < count < wanted:
        yield BadLine(
            Place(path), f"{wanted - count} of its {wanted} samples are not in the log of this run ({log.status})"
        )


def _header(data: bytes) -> _Header:
    found: _Header = loosely(data, msgspec.json.Decoder(_Header).decode)
    return found


def _whole(path: Path, decode: Any) -> Any:
    try:
        return decode()
    except Unfit as unfit:
        raise SuiteError(f"{path}: not a log of inspect_ai: {unfit}") from None


def _one(data: bytes, number: int, spec: _Spec, place: Place) -> Answered | BadLine:
    try:
        found: _Sample = loosely(data, msgspec.json.Decoder(_Sample).decode)
    except Unfit as unfit:
        return unfit.at(place)
    try:
        return _answered(found, identity(found.id, number), number, spec)
    except Unfit as unfit:
        return BadLine(place, str(unfit), str(found.id), spec.model)


def _answered(found: _Sample, name: str, number: int, spec: _Spec) -> Answered:
    metadata = dict(found.metadata)
    reference = taken_reference(metadata)
    if found.target not in (None, "", []):
        only = isinstance(found.target, list) and len(found.target) == 1
        reference["target"] = found.target[0] if only else found.target
    if found.choices:
        reference["choices"] = found.choices
    asked = as_prompt(_restored(_asked(found), found.attachments))
    text, end, failure = _output(found)
    sample = Sample(name, asked, spec.task or "all", reference, metadata)
    model = found.model_fallbacks[-1].fallback_model if found.model_fallbacks else spec.model
    repeat = None if spec.config.epochs == found.epoch == 1 else max(found.epoch - 1, 0)
    return Answered(name, model, sample, text, finished(end), number, repeat, failure)


def _output(found: _Sample) -> tuple[str, str, NoAnswer | None]:
    """The answer, why it ended, and where there is none, why. Ended by a limit of the sample, it was cut off."""
    if found.invalidation is not None:
        return (
            "",
            "",
            NoAnswer("permanent", f"the sample was made invalid: {found.invalidation.reason or 'no reason given'}"),
        )
    if found.error is not None:
        return "", "", _failure(found.error.message)
    if not found.output.choices and found.limit is not None:
        return "", "", NoAnswer("truncated", f"the sample came to its {found.limit.type} limit before an answer")
    if not found.output.choices:
        return "", "", NoAnswer("permanent", "the sample has no output")
    choice = found.output.choices[0]
    end = choice.stop_reason if found.limit is None else "length"
    if choice.stop_reason == "content_filter":
        return "", end, WITHHELD
    if choice.message.content is None:
        return "", end, NoAnswer("permanent", "the output holds no text")
    return content_text(_restored(choice.message.content, found.attachments)), end, None


def _failure(message: str) -> NoAnswer:
    if message.startswith("CancelledError"):  # what follows speaks of tasks and scopes
        return NoAnswer("transient", "the sample was cancelled")
    return NoAnswer("permanent", f"the sample failed: {message or 'no reason given'}")


def _asked(found: _Sample) -> Any:
    """The conversation before the last turn of the assistant; the sample's input where none was logged."""
    turns = [index for index, message in enumerate(found.messages) if message.role == "assistant"]
    messages = found.messages[: turns[-1]] if turns else found.messages
    return [msgspec.to_builtins(message) for message in messages] or found.input


def _restored(value: Any, attachments: Mapping[str, str]) -> Any:
    """The value with the texts in place that the log keeps apart as attachments."""
    if isinstance(value, str):
        return _ATTACHMENT.sub(lambda m: attachments.get(m[1], m[0]), value) if "attachment://" in value else value
    if isinstance(value, list):
        return [_restored(item, attachments) for item in value]
    if isinstance(value, dict):
        return {key: _restored(item, attachments) for key, item in value.items()}
    return value


def _data(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes. Newer logs are compressed with zstd, which `zipfile` knows from Python 3.14 on."""
    if info.compress_type != _ZSTD or sys.version_info >= (3, 14):
        return archive.read(info)
    try:
        from backports import zstd
    except ImportError:
        message = "this log is compressed with zstd, which needs the package backports.zstd (or Python 3.14)"
        raise SuiteError(f"{archive.filename}: {message}") from None
    file = archive.fp
    assert file is not None  # the archive is open
    # The local header has 30 bytes, then a name and an extra field of lengths of its own.
    file.seek(info.header_offset + 26)
    name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    file.seek(info.header_offset + 30 + name + extra)
    try:
        data: bytes = zstd.decompress(file.read(info.compress_size))
    except zstd.ZstdError as error:
        raise zipfile.BadZipFile(str(error)) from None
    if zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile("its checksum is wrong")
    return data
