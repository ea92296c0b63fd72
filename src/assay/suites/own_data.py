"""A fine-tuner's own data as a suite: the JSON lines that trainers take, a few parameters, and no suite file.

What a line asks, and what answers are compared with, `training_lines` says. Here lines are drawn, and become samples with
scorers. `perplexity:PATH` names data whose loss is asked for: nothing is generated, and targets count as they stand.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from assay.errors import BadInput, SuiteError, UnknownName
from assay.plugins import SCORERS, nearest
from assay.reasoning import final_answer
from assay.suites.formats.base import Unfit, decoded, kind
from assay.suites.formats.packed import unpacked_name
from assay.suites.formats.records import begins_as_list, numbered_records
from assay.suites.readers import Place
from assay.suites.suite import ScorerSpec, Suite, builtin_suites
from assay.suites.training_lines import Fields, document, question
from assay.types import GenerateOptions, Json, Prompt, Raw, Sample, unwrapped

# A target of more words is not looked for in answers unless a scorer was chosen: hardly any answer repeats it.
SHORT = 6

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
# How GSM8K, and data made like it, ends a worked answer.
_WORKED = re.compile(rf"^####[ \t]*({_NUMBER.pattern})\s*\Z", re.MULTILINE)
_DATA = {".jsonl", ".ndjson"}
# The scorer of held-out loss, and what stands before a path to say that it is wanted.
_LOSS = "perplexity"
LOSS_OF = f"{_LOSS}:"
_SPLITS = ("test.jsonl", "valid.jsonl")


@dataclass(frozen=True, slots=True, order=True)
class _Asked:
    """A line's question, ordered by the draw."""

    draw: bytes
    line: int
    place: Place = field(compare=False)
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
    """A suite from training data: JSON lines, one JSON list, or a folder that holds `test.jsonl` or `valid.jsonl`.

    With `perplexity:` before the path, or the scorer `perplexity`, it is of the data's loss: each line's target, or its whole
    `text` where no `split` is given, as it stands.

    name: by default the file's, with the folder's before it if the file is a `train`, `valid` or `test`. scorer: for
    all samples, with its `parameters`; by default `final_number` where the target is a number and `contains_word` where
    it has `SHORT` words at most, and for longer ones it must be named. group_field: the key that holds a line's group.
    prompt_field, target_field: other names for `prompt` and `completion`. split: the marker in `text` lines after which
    the answer begins. A target counts without its reasoning, and one whose last line is `#### 7` is that number.
    target_after: only what follows the last of these in a target counts (`Answer:`).
    limit: that many lines at most, drawn by their content and `seed`: the same ones wherever they stand, a smaller draw
    being part of a larger one. max_tokens: of an answer; it is asked for greedily.

    A sample's id is the line's own `id`, else a digest of question and target: equal questions keep their ids when
    lines come and go. Raises `SuiteError`, with file and line, for the first line that doesn't fit.
    """
    if str(path).startswith(LOSS_OF):
        if scorer is not None:
            raise BadInput(f"{path} says its scorer itself; leave out the other one, or the {LOSS_OF!r}")
        path, scorer = str(path).removeprefix(LOSS_OF), _LOSS
    path = _file(Path(path))
    _check_arguments(limit, max_tokens, split, target_after)
    chosen = _chosen(scorer, parameters)
    weighed = chosen is not None and chosen.name == _LOSS
    if weighed and target_after is not None:
        raise BadInput("a loss is of the whole target; leave out what a final answer follows (target_after)")
    fields = Fields(prompt_field or "prompt", target_field or "completion", split)
    asked = _lines(path, fields, group_field, _Cut(target_after, whole=weighed), seed)
    drawn = list(asked) if limit is None else sorted(heapq.nsmallest(limit, asked), key=lambda item: item.line)
    if not drawn:
        raise SuiteError(f"{path}: there are no questions in it")
    if chosen is None:
        _check_short(drawn)
    return _suite(path, name or _name(path) + ("-loss" if weighed else ""), drawn, chosen, max_tokens)


def is_training_data(source: str | Path) -> bool:
    """Is it such data that `source` names? A suite that comes with assay is not, whatever folder is called like it."""
    if str(source).startswith(LOSS_OF):
        return True
    path = Path(source)
    ending = Path(unpacked_name(path)).suffix.lower()
    if ending == ".json" and path.is_file():
        return begins_as_list(path)
    return ending in _DATA or (path.is_dir() and source not in builtin_suites())


def _check_arguments(limit: int | None, max_tokens: int, split: str | None, target_after: str | None) -> None:
    if limit is not None and limit < 1:
        raise BadInput(f"a limit must be at least 1 sample, not {limit}")
    if max_tokens < 1:
        raise BadInput(f"max_tokens must be at least 1, not {max_tokens}")
    if split == "" or target_after == "":
        raise BadInput("a marker must not be empty")


def _suite(path: Path, name: str, drawn: list[_Asked], chosen: ScorerSpec | None, max_tokens: int) -> Suite:
    samples: dict[str, Sample] = {}
    scorers: dict[str, ScorerSpec] = {}
    places: dict[str, Place] = {}
    for item in drawn:
        unique = _unique(item, samples)
        samples[unique] = Sample(unique, item.prompt, item.group, {"target": item.target})
        scorers[unique] = chosen or _fitting(item.target)
        places[unique] = item.place
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


def _check_short(drawn: list[_Asked]) -> None:
    words = [len(item.target.split()) for item in drawn]
    long = next((item for item, count in zip(drawn, words, strict=True) if count > SHORT), None)
    if long is not None:
        raise long.place.error(
            f"the target has {len(long.target.split())} words (median of all: {statistics.median(words):g}), too many to "
            f"be looked for in an answer; name a scorer, or with target_after what the final answer follows (such as 'Answer:')"
        )


class _Cut(NamedTuple):
    """What of a target counts: what follows the last `after`, or all of it, as it stands, where it is `whole`."""

    after: str | None
    whole: bool


def _lines(path: Path, fields: Fields, group_field: str | None, cut: _Cut, seed: int) -> Iterator[_Asked]:
    """All questions, each checked, in file order."""
    key = str(seed).encode()[:64]
    for place, number, line in numbered_records(path):
        try:
            if line is None:
                raise Unfit("too long for one line; write one object a line")
            record = decoded(line)
            found = (document if cut.whole else question)(record, fields)
            if found is None:
                continue
            prompt, target = found[0], found[1] if cut.whole else _cut(found[1], cut.after)
            if not unwrapped(prompt) and not (cut.whole and isinstance(prompt, Raw)):
                raise Unfit("the prompt is empty")
            if not target:
                raise Unfit("there is no text to take the loss of")
        except Unfit as unfit:
            raise place.error(str(unfit)) from None
        group = _label(record, group_field, place) if group_field else "all"
        own = record.get("id")
        whole = isinstance(own, int) and not isinstance(own, bool)
        given = str(own) if whole or (isinstance(own, str) and own.strip()) else ""
        said = unwrapped(prompt)
        content = repr((said if isinstance(said, str) else [(m.role, m.content) for m in said], target)).encode()
        draw = hashlib.blake2b(given.encode() + b"\0" + content, key=key, digest_size=8).digest()
        digest = hashlib.blake2b(content, digest_size=5).hexdigest()
        yield _Asked(draw, number, place, prompt, target, group, given or digest)


def _unique(item: _Asked, samples: Mapping[str, Sample]) -> str:
    """The sample's id, with a number where the same question with the same target stands in the data again."""
    unique, count = item.id, 1
    while unique in samples:
        earlier = samples[unique]
        if (unwrapped(earlier.prompt), earlier.reference["target"]) != (unwrapped(item.prompt), item.target):
            raise item.place.error(f"the id {item.id!r} is already that of another question")
        count += 1
        unique = f"{item.id}-{count}"
    return unique


def _cut(whole: str, after: str | None) -> str:
    """What of a target answers are compared with. They come without their reasoning, so it is cut from targets as well."""
    if after is not None:
        _, found, whole = whole.rpartition(after)
        if not found:
            raise Unfit(f"{after!r} is not in the target")
    target = final_answer(whole)
    if target is None:
        raise Unfit("the target is reasoning that never ends")
    worked = _WORKED.search(target) if after is None else None
    target = worked[1] if worked is not None else target.strip()
    if not target:
        raise Unfit("the target is empty" + (" but for its reasoning" if whole.strip() else ""))
    return target


def _label(record: dict[str, Any], name: str, place: Place) -> str:
    value = record.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    if name not in record:
        raise place.error(f"no {name!r}, which is to hold the group; {nearest(name, record)}")
    raise place.error(f"the group {name!r} must be text or a whole number, not {kind(value)}")
