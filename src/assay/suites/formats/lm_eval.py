"""lm-evaluation-harness's `samples_TASK_DATE.jsonl`, written by its `--log_samples` (read with version 0.4.13).

A line is one doc under one filter: `doc_id`, `doc`, `target`, `arguments` (for each request what the model was sent),
`resps` (for each request its answers, unfiltered). Where a task has several filters, each doc is written once for each,
with the same answers: only the first filter's lines count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from assay.suites.formats.base import (
    Answered,
    BadLine,
    Unfit,
    as_prompt,
    identity,
    kind,
    loosely,
    repeated,
    taken_reference,
)
from assay.suites.formats.packed import unpacked_name
from assay.suites.formats.records import read_lines
from assay.types import Prompt, Raw, Sample

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")


class _Line(msgspec.Struct):
    doc_id: int | str
    resps: list[Any]
    doc: Any = None
    target: Any = None
    arguments: Any = None
    filter: str = ""


class _Config(msgspec.Struct):
    model: Any = None
    model_args: Any = None


class _Results(msgspec.Struct):
    model_name: str | None = None
    config: _Config | None = None


def fits(record: dict[str, Any]) -> bool:
    """Is this a line of a samples file?"""
    return "doc_id" in record and "resps" in record


def read(path: Path) -> Iterator[Answered | BadLine]:
    """The file's answers. An id is `TASK/DOC_ID`; the docs' own fields are the samples' metadata."""
    return read_lines(path, _Reader(path).one)


class _Reader:
    def __init__(self, path: Path) -> None:
        named = _NAME.fullmatch(unpacked_name(path))
        self.task = named["task"] if named else ""
        self.model = _model(path, named["date"]) if named else ""
        self.filter: str | None = None
        self.decode = msgspec.json.Decoder(_Line).decode

    def one(self, line: bytes, number: int) -> list[Answered]:
        found: _Line = loosely(line, self.decode)
        if self.filter is None:
            self.filter = found.filter
        if found.filter != self.filter:
            return []
        name = identity(found.doc_id, number)
        name = f"{self.task}/{name}" if self.task else name
        try:
            return self._answers(found, name, number)
        except Unfit as unfit:
            raise Unfit(str(unfit), id=name, model=self.model) from None

    def _answers(self, found: _Line, name: str, number: int) -> list[Answered]:
        metadata = dict(found.doc) if isinstance(found.doc, dict) else {}
        reference = taken_reference(metadata)
        if found.target is not None:
            reference["target"] = str(found.target)
        answers: list[Answered] = []
        for request, texts in enumerate(found.resps):
            prompt = _prompt(found.arguments, request)
            sample = Sample(name, prompt, self.task or "all", reference, metadata)
            for text in texts if isinstance(texts, list) else [texts]:
                if isinstance(text, list):
                    raise Unfit("log-likelihoods of given choices, not an answer that the model wrote")
                if not isinstance(text, str):
                    raise Unfit(f"an answer in resps must be text, not {kind(text)}")
                repeat = len(answers)
                answers.append(Answered(repeated(name, repeat), self.model, sample, text, None, number, repeat))
        if not answers:
            raise Unfit("resps holds no answer")
        return answers


def _prompt(arguments: Any, request: int) -> Prompt:
    """What the model was sent: text as it was rendered, untouched, or the messages that an API was given."""
    if isinstance(arguments, dict):
        arguments = arguments.get(f"gen_args_{request}")
        context = arguments.get("arg_0") if isinstance(arguments, dict) else None
    else:  # older versions write the lists themselves
        arguments = arguments[request] if isinstance(arguments, list) and request < len(arguments) else None
        context = arguments[0] if isinstance(arguments, list) and arguments else None
    if isinstance(context, list) and len(context) == 1 and isinstance(context[0], str):
        try:
            return as_prompt(msgspec.json.decode(context[0]))
        except msgspec.DecodeError:
            context = context[0]
    if not isinstance(context, str):
        raise Unfit("arguments doesn't hold the prompt")
    return Raw(context)


@lru_cache(maxsize=16)
def _model(path: Path, date: str) -> str:
    """The model's name from the results file of the same run, else from the folder that the run made for it."""
    try:
        results = msgspec.json.decode((path.parent / f"results_{date}.json").read_bytes(), type=_Results)
    except (OSError, msgspec.DecodeError):
        results = _Results()
    if results.model_name:
        return results.model_name
    if results.config is not None and isinstance(results.config.model, str) and results.config.model:
        return results.config.model
    return path.absolute().parent.name.replace("__", "/")
