"""lm-evaluation-harness's samples, written by its `--log_samples` (read with versions 0.4.0, 0.4.3 and 0.4.13).

A record is one doc under one filter: `doc_id`, `doc`, `target`, `arguments` (for each request what the model was sent),
`resps` (for each request its answers, unfiltered). Several answers are repeats of one question, also where a filter kept
only one of them: its text is scored as the model wrote it. Where a task has several filters, each doc is written once for
each, with the same answers, which count once.

The name says the task: `samples_TASK_DATE.jsonl`, lines, from 0.4.3 on; before that `ARGUMENTS_TASK.jsonl`, one list,
whose records don't name the filter.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from assay.suites.formats.base import (
    Answered,
    BadLine,
    Unfit,
    as_prompt,
    digest_of_json,
    identity,
    kind,
    loosely,
    taken_reference,
)
from assay.suites.formats.packed import unpacked_name
from assay.suites.formats.records import read_lines
from assay.suites.formats.seen import Seen
from assay.types import Json, Prompt, Raw, Sample

# Of a doc's hash, enough to tell apart docs of one number.
_DIGITS = 8
_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")


class _Line(msgspec.Struct):
    doc_id: int | str
    resps: list[Any]
    doc: Any = None
    target: Any = None
    arguments: Any = None
    filter: str = ""
    doc_hash: str = ""


class _Config(msgspec.Struct):
    model: Any = None
    model_args: Any = None


class _Results(msgspec.Struct):
    model_name: str | None = None
    config: _Config | None = None
    configs: dict[str, Any] = {}


def fits(record: dict[str, Any]) -> bool:
    """Is this a line of a samples file?"""
    return "doc_id" in record and "resps" in record


def read(path: Path) -> Iterator[Answered | BadLine]:
    """The file's answers; the docs' own fields are the samples' metadata.

    An id is `TASK/DOC_ID`. Where the name doesn't say the task, the file may hold several, and an id is the doc's number
    with the beginning of its hash.
    """
    return read_lines(path, _Reader(path).one)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.task, self.model = _origin(path)
        self.seen, self.filtered = Seen(), Seen()
        self.decode = msgspec.json.Decoder(_Line).decode

    def one(self, line: bytes, number: int) -> list[Answered | Unfit]:
        found: _Line = loosely(line, self.decode)
        name = identity(found.doc_id, number)
        if self.task:
            name = f"{self.task}/{name}"
        elif found.doc_hash:
            name = f"{name}-{found.doc_hash[:_DIGITS]}"
        if self._filtered_anew(found, name):
            return []
        try:
            return self._answers(found, name, number)
        except Unfit as unfit:
            raise Unfit(str(unfit), id=name, model=self.model) from None

    def _filtered_anew(self, found: _Line, name: str) -> bool:
        """Did this record stand here before, under another filter?"""
        content = blake2b(msgspec.json.encode([found.doc, found.arguments, found.resps]), digest_size=8).hexdigest()
        before = self.seen.add(name, content)
        again = self.filtered.add(name, content + found.filter)
        return before and (not again or not found.filter)

    def _answers(self, found: _Line, name: str, number: int) -> list[Answered | Unfit]:
        metadata = dict(found.doc) if isinstance(found.doc, dict) else {}
        reference = taken_reference(metadata)
        if found.target is not None:
            reference["target"] = _target(found.target)
            if "gsm" in self.task:
                reference.setdefault("correct_answer", reference["target"])
        count = sum(len(texts) if isinstance(texts, list) else 1 for texts in found.resps)
        # Chat templates and examples differ from model to model, the doc doesn't.
        asked = digest_of_json(found.doc) if found.doc else ""
        answers: list[Answered | Unfit] = []
        for request, texts in enumerate(found.resps):
            prompt = _prompt(found.arguments, request)
            sample = Sample(name, prompt, self.task or "all", reference, metadata)
            for text in texts if isinstance(texts, list) else [texts]:
                if isinstance(text, list):
                    raise Unfit("log-likelihoods of given choices, not an answer that the model wrote")
                if isinstance(text, float):
                    raise Unfit("the log-likelihood of a whole text, not an answer that the model wrote")
                if isinstance(text, str):
                    repeat = len(answers) if count > 1 else None
                    answers.append(Answered(name, self.model, sample, text, None, number, repeat, asked=asked))
                else:
                    reason = f"an answer in resps must be text, not {kind(text)}"
                    answers.append(Unfit(reason, id=name, model=self.model))
        if not answers:
            raise Unfit("resps holds no answer")
        return answers


def _target(target: Any) -> Json:
    """The target, or a list of those that are right, which newer versions write as Python shows it."""
    if isinstance(target, str) and target.startswith(("['", '["')):
        try:
            shown = literal_eval(target)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            shown = target
        target = shown if all(isinstance(item, str) for item in shown) else target
    several = [str(item) for item in target] if isinstance(target, list) else []
    return several if len(several) > 1 else several[0] if several else str(target)


def _prompt(arguments: Any, request: int) -> Prompt:
    """What the model was sent: text as it was rendered, untouched, or the messages that an API was given."""
    if isinstance(arguments, dict):
        held = arguments.get(f"gen_args_{request}")
        sent = list(held.values()) if isinstance(held, dict) else held
    else:  # older versions write the lists themselves
        sent = arguments[request] if isinstance(arguments, list) and request < len(arguments) else None
    context = sent[0] if isinstance(sent, list) and sent else None
    if isinstance(context, list) and len(context) == 1 and isinstance(context[0], str):
        try:
            return as_prompt(msgspec.json.decode(context[0]))
        except msgspec.DecodeError:
            context = context[0]
    if not isinstance(context, str):
        raise Unfit("arguments doesn't hold the prompt")
    if isinstance(sent, list) and len(sent) < 2:  # an answer is asked for with options, even if there are none
        raise Unfit("the log-likelihood of a whole text, not an answer that the model wrote")
    return Raw(context)


def _origin(path: Path) -> tuple[str, str]:
    """The task and the model that a file's name and its neighbours tell of; "" where they don't."""
    name = unpacked_name(path)
    if (named := _NAME.fullmatch(name)) is not None:
        return named["task"], _model(path, named["date"])
    results = _results(path.parent / "results.json")
    ends = [task for task in results.configs if name.removesuffix(".jsonl").endswith(f"_{task}")]
    if not ends or results.config is None:
        return "", ""
    arguments = results.config.model_args if isinstance(results.config.model_args, str) else ""
    pretrained = re.search(r"(?:^|,)(?:pretrained|model)=([^,]+)", arguments)
    return max(ends, key=len), pretrained[1] if pretrained else str(results.config.model or "")


@lru_cache(maxsize=16)
def _model(path: Path, date: str) -> str:
    """The model's name from the results file of the same run, else from the folder that the run made for it."""
    results = _results(path.parent / f"results_{date}.json")
    if results.model_name:
        return results.model_name
    if results.config is not None and isinstance(results.config.model, str) and results.config.model:
        return results.config.model
    return path.absolute().parent.name.replace("__", "/")


def _results(path: Path) -> _Results:
    """What a run's file of results says, if it is there."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Results)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Results()
