"""A fine-tuner's own data as a suite: the JSON lines that trainers take, a few parameters, and no suite file.

What a line asks, and what answers are compared with:

- `{"messages": [...]}`: all turns but the last one, which must be the assistant's and is the target;
- `{"prompt": …, "completion": …}`: as named, texts or lists of messages. A text is one user message, as it is to
  mlx-lm and TRL where the model has a chat template;
- `{"text": …}`: raw text. Where the question ends, only a marker can tell (`split`): what stands up to its last
  occurrence is sent untouched, the rest is the target. Markers of an end (`<|im_end|>`, `</s>`) are cut from the target.

Keys are tried in mlx-lm's order: prompt and completion, messages, text. Other keys don't matter here.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.errors import BadInput, SuiteError, UnknownName
from assay.plugins import SCORERS, nearest
from assay.suites.formats.base import Unfit, as_prompt, decoded, kind
from assay.suites.formats.packed import unpacked_name
from assay.suites.formats.records import numbered_lines
from assay.suites.readers import Place
from assay.suites.suite import ScorerSpec, Suite
from assay.types import GenerateOptions, Json, Message, Prompt, Raw, Sample

# A target of more words is not looked for in answers unless a scorer was chosen: hardly any answer repeats it.
SHORT = 6

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_END = re.compile(r"(?:\s*(?:<\|[^<>|]{1,40}\|>|</s>|<eos>|<end_of_turn>))+\s*\Z")
_SPLITS = ("test.jsonl", "valid.jsonl")


@dataclass(frozen=True, slots=True)
class _Fields:
    """Where in a line things are, and what of them counts."""

    prompt: str
    target: str
    group: str | None
    split: str | None
    target_after: str | None


@dataclass(frozen=True, slots=True, order=True)
class _Asked:
    """A line's question, ordered by the draw."""

    draw: bytes
    line: int
    prompt: Prompt = field(compare=False)
    target: str = field(compare=False)
    group: str = field(compare=False)
    id: str = field(compare=False)


def suite_from_data(
    path: str | Path,
    *,
    name: str | None = None,
    scorer: str | ScorerSpec | None = None,
    parameters: Mapping[str, Json] | None = None,
    group_field: str | None = None,
    prompt_field: str | None = None,
    target_field: str | None = None,
    split: str | None = None,
    target_after: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_tokens: int = 512,
) -> Suite:
    """A suite from a file of training data, or from a folder that holds `test.jsonl` or `valid.jsonl`.

    name: by default the file's, with the folder's before it if the file is a `train`, `valid` or `test`. scorer: for
    all samples, with its `parameters`; by default `final_number` where the target is a number and `contains_word` where
    it has `SHORT` words at most, and for longer ones it must be named. group_field: the key that holds a line's group.
    prompt_field, target_field: other names for `prompt` and `completion`. split: the marker in `text` lines after which
    the answer begins. target_after: only what follows the last of these in a target counts (`####`, `</think>`).
    limit: that many lines at most, drawn by their content and `seed`: the same ones wherever they stand, a smaller draw
    being part of a larger one. max_tokens: of an answer; it is asked for greedily.

    A sample's id is the line's own `id`, else a digest of question and target: equal questions keep their ids when
    lines come and go. Raises `SuiteError`, with file and line, for the first line that doesn't fit.
    """
    path = _file(Path(path))
    _check_arguments(limit, max_tokens, split, target_after)
    chosen = _chosen(scorer, parameters)
    fields = _Fields(prompt_field or "prompt", target_field or "completion", group_field, split, target_after)
    drawn = _drawn(path, fields, limit, seed)
    if chosen is None:
        _check_short(path, drawn)
    return _suite(path, name or _name(path), drawn, chosen, max_tokens)


def _check_arguments(limit: int | None, max_tokens: int, split: str | None, target_after: str | None) -> None:
    if limit is not None and limit < 1:
        raise BadInput(f"a limit must be at least 1 sample, not {limit}")
    if max_tokens < 1:
        raise BadInput(f"max_tokens must be at least 1, not {max_tokens}")
    if split == "" or target_after == "":
        raise BadInput("a marker must not be empty")


def _drawn(path: Path, fields: _Fields, limit: int | None, seed: int) -> list[_Asked]:
    """The lines to ask, in file order. All are read and checked, `limit` of them are kept."""
    asked = _lines(path, fields, seed)
    drawn = list(asked) if limit is None else sorted(heapq.nsmallest(limit, asked), key=lambda item: item.line)
    if not drawn:
        raise SuiteError(f"{path}: there are no lines in it")
    return drawn


def _suite(path: Path, name: str, drawn: list[_Asked], chosen: ScorerSpec | None, max_tokens: int) -> Suite:
    samples: dict[str, Sample] = {}
    scorers: dict[str, ScorerSpec] = {}
    places: dict[str, Place] = {}
    for item in drawn:
        place = Place(path, item.line)
        unique = _unique(item, samples, place)
        samples[unique] = Sample(unique, item.prompt, item.group, {"target": item.target})
        scorers[unique] = chosen or _fitting(item.target)
        places[unique] = place
    options = GenerateOptions(max_tokens=max_tokens)
    return Suite(name, 1, tuple(samples.values()), scorers, options, path=path, places=places)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise SuiteError(f"{path}: there is no such file")
    for split in _SPLITS:
        if (path / split).is_file():
            return path / split
    # What the model was trained on shows what it remembers; whoever wants that names the file.
    raise SuiteError(f"{path}: neither {' nor '.join(_SPLITS)} is in this folder; name the file to ask questions from")


def _name(path: Path) -> str:
    stem = Path(unpacked_name(path)).stem
    if stem in ("train", "valid", "test") and path.absolute().parent.name:
        return f"{path.absolute().parent.name}-{stem}"
    return stem


def _chosen(scorer: str | ScorerSpec | None, parameters: Mapping[str, Json] | None) -> ScorerSpec | None:
    if isinstance(scorer, str):
        try:
            SCORERS.check(scorer)
        except UnknownName as error:
            raise SuiteError(str(error)) from None
        return ScorerSpec(scorer, dict(parameters or {}))
    if parameters:
        raise BadInput("a scorer's parameters need its name")
    return scorer


def _fitting(target: str) -> ScorerSpec:
    return ScorerSpec("final_number" if _NUMBER.fullmatch(target) else "contains_word")


def _check_short(path: Path, drawn: list[_Asked]) -> None:
    words = [len(item.target.split()) for item in drawn]
    long = next((item for item, count in zip(drawn, words, strict=True) if count > SHORT), None)
    if long is not None:
        raise Place(path, long.line).error(
            f"the target has {len(long.target.split())} words (median of all: {statistics.median(words):g}), too many to "
            f"be looked for in an answer; name a scorer, or with target_after what the final answer follows (such as ####)"
        )


def _lines(path: Path, fields: _Fields, seed: int) -> Iterator[_Asked]:
    key = str(seed).encode()[:64]
    for number, line in numbered_lines(path):
        try:
            if line is None:
                raise Unfit("too long for one line; write one object a line")
            record = decoded(line)
            prompt, target = _question(record, fields)
            target = _cut(target, fields)
            if not prompt:
                raise Unfit("the prompt is empty")
        except Unfit as unfit:
            raise Place(path, number).error(str(unfit)) from None
        group = _label(record, fields.group, path, number) if fields.group else "all"
        own = record.get("id")
        whole = isinstance(own, int) and not isinstance(own, bool)
        given = str(own) if whole or (isinstance(own, str) and own.strip()) else ""
        content = repr((prompt if isinstance(prompt, str) else [(m.role, m.content) for m in prompt], target)).encode()
        draw = hashlib.blake2b(given.encode() + b"\0" + content, key=key, digest_size=8).digest()
        digest = hashlib.blake2b(content, digest_size=5).hexdigest()
        yield _Asked(draw, number, prompt, target, group, given or digest)


def _unique(item: _Asked, samples: Mapping[str, Sample], place: Place) -> str:
    """The sample's id, with a number where the same question with the same target stands in the data again."""
    unique, count = item.id, 1
    while unique in samples:
        earlier = samples[unique]
        if (earlier.prompt, earlier.reference["target"]) != (item.prompt, item.target):
            raise place.error(f"the id {item.id!r} is already that of another question")
        count += 1
        unique = f"{item.id}-{count}"
    return unique


def _question(record: dict[str, Any], fields: _Fields) -> tuple[Prompt, str]:
    """What is asked, and the whole target."""
    if fields.prompt in record and fields.target in record:
        return as_prompt(record[fields.prompt]), _completion(record[fields.target], fields.target)
    if (fields.prompt, fields.target) != ("prompt", "completion"):
        missing = fields.target if fields.prompt in record else fields.prompt
        raise Unfit(f"no {missing!r}; {nearest(missing, record)}")
    if "messages" in record:
        return _conversation(record["messages"])
    if "text" in record:
        return _split(record["text"], fields.split)
    if "conversations" in record:
        raise Unfit("'conversations' is not read; write its turns as messages, each with role and content")
    held = ", ".join(record) or "no keys"
    raise Unfit(f"neither messages, nor prompt and completion, nor text; the line has: {held}")


def _conversation(value: object) -> tuple[Prompt, str]:
    if not isinstance(value, list) or len(value) < 2:
        raise Unfit("messages must be a list with a question and the assistant's answer")
    *before, last = value
    prompt, answer = as_prompt(before), _completion([last], "messages")
    return prompt, answer


def _completion(value: object, name: str) -> str:
    """The target's text. In a list of messages it is the one turn of the assistant."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, list) or len(value) != 1:
        raise Unfit(f"{name} must be text, or a list of one message, not {kind(value)}")
    messages = as_prompt(value)
    last = messages[0] if not isinstance(messages, str) else Message("user", messages)
    if last.role != "assistant":
        raise Unfit(f"the last message must be the assistant's, which answers are compared with, not the {last.role}'s")
    if not last.content.strip():
        calls = isinstance(value[0], dict) and value[0].get("tool_calls")
        raise Unfit("the assistant's last message is empty" + (" but for tool calls" if calls else ""))
    return last.content


def _split(value: object, marker: str | None) -> tuple[Prompt, str]:
    if not isinstance(value, str):
        raise Unfit(f"text must be text, not {kind(value)}")
    if marker is None:
        raise Unfit(
            "a text line doesn't tell the question from the answer; name the marker after which the answer begins "
            "(split), such as '### Response:' or '<|im_start|>assistant'"
        )
    before, found, after = value.rpartition(marker)
    if not found:
        raise Unfit(f"the marker {marker!r} is not in this text")
    answer = after.lstrip("\r\n")
    return Raw(before + found + after[: len(after) - len(answer)]), _END.sub("", answer)


def _cut(target: str, fields: _Fields) -> str:
    if fields.target_after is not None:
        _, found, target = target.rpartition(fields.target_after)
        if not found:
            raise Unfit(f"{fields.target_after!r} is not in the target")
    if not target.strip():
        raise Unfit("the target is empty")
    return target.strip()


def _label(record: dict[str, Any], name: str, path: Path, number: int) -> str:
    value = record.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    place = Place(path, number)
    if name not in record:
        raise place.error(f"no {name!r}, which is to hold the group; {nearest(name, record)}")
    raise place.error(f"the group {name!r} must be text or a whole number, not {kind(value)}")
