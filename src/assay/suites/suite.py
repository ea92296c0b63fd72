"""What a suite is, and how one is read from its file.

Whatever is wrong with a file is a `SuiteError`, one sentence that names file and line. A scorer's parameters, and
whether a sample has what its scorer compares with, are checked by `assay.scorers.base.check_suite`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import msgspec

from assay.errors import BadInput, UnknownName
from assay.plugins import SCORERS, nearest
from assay.suites.readers import Node, Place, builtins, find_named, plain, read_samples, read_yaml
from assay.types import GenerateOptions, Goal, Json, Message, Prompt, Raw, Role, Sample, unwrapped

BUILTIN = Path(__file__).parent / "data"

_SUITE_KEYS = ("name", "version", "options", "scorer", "rubrics", "goal", "samples")
_PROMPT_KEYS = ("prompt", "messages", "raw", "text")
_SAMPLE_KEYS = ("id", "group", *_PROMPT_KEYS, "target", "reference", "scorer", "metadata")
_GOAL_KEYS = ("improve", "keep", "tolerance")


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """A scorer by name, with its parameters. The name is known; the parameters are the scorer's to check."""

    name: str
    parameters: Mapping[str, Json] = field(default_factory=dict)
    place: Place | None = field(default=None, compare=False)


# Where only a judge can tell how good an answer is, all that can be said without one is that there is one.
UNSCORED = ScorerSpec("answered")


@dataclass(frozen=True, slots=True)
class Suite:
    """Samples, a scorer for each, and how to generate.

    scorers: by sample id, one for every sample. places: where each sample id stands. path: the file it was read from.
    digest: sha256 hex of all that decides what is asked and how it is scored, wherever the samples are stored: name,
    version, options, and the samples in order with their scorers. The goal, which only reads results, is left out, as are the
    rubrics by which a judge scores the answers: a built-in one's name, or a file's path.
    """

    name: str
    version: int
    samples: tuple[Sample, ...]
    scorers: Mapping[str, ScorerSpec]
    options: GenerateOptions = field(default_factory=GenerateOptions)
    goal: Goal | None = None
    path: Path | None = field(default=None, compare=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)
    rubrics: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", _digest(self))

    @property
    def groups(self) -> tuple[str, ...]:
        """The samples' groups, in file order."""
        return tuple(dict.fromkeys(sample.group for sample in self.samples))

    @property
    def needs_judge(self) -> bool:
        """Whether nothing is known of how good its answers are without a judge."""
        return bool(self.rubrics) and all(spec == UNSCORED for spec in self.scorers.values())

    def limited(self, count: int) -> Suite:
        """A suite of `count` samples at most, for a first look: one of each group in turn, in file order.

        The choice is fixed by the file, and a smaller one is part of a larger one. It asks something else, so it has
        another digest, unless nothing was left out. Raises `BadInput` for a count below 1.
        """
        if count < 1:
            raise BadInput(f"a limit must be at least 1 sample, not {count}")
        if count >= len(self.samples):
            return self
        turn: dict[str, int] = {}
        order = []
        for index, sample in enumerate(self.samples):
            turn[sample.group] = turn.get(sample.group, -1) + 1
            order.append((turn[sample.group], self.groups.index(sample.group), index))
        samples = tuple(self.samples[index] for index in sorted(index for _, _, index in sorted(order)[:count]))
        return replace(self, samples=samples, scorers={s.id: self.scorers[s.id] for s in samples})


def builtin_suites() -> tuple[str, ...]:
    """The names of the suites that come with assay, sorted."""
    return tuple(builtins(BUILTIN))


def load_suite(source: str | Path) -> Suite:
    """Read a suite from a file, or a built-in one by its bare name. Raises `SuiteError`."""
    path = find_named(source, BUILTIN, "suite")
    file = read_yaml(path)
    if isinstance(file.value, Mapping) and "dimensions" in file.value:
        raise file.value["dimensions"].place.error(
            "this is a rubric, which asks nothing; name it under rubrics: in a suite, and who judges with --judge"
        )
    root = _mapping(file, "a suite", _SUITE_KEYS, required=("name", "version", "samples"))
    name, version = _name(root["name"]), _checked(root["version"], "version", _WHOLE_FROM_1)
    options = _options(root["options"]) if "options" in root else GenerateOptions()
    rubrics = _rubrics(root["rubrics"], path) if "rubrics" in root else ()
    samples, scorers, places = _samples(
        _sample_nodes(root["samples"], path),
        _scorer(root["scorer"]) if "scorer" in root else UNSCORED if rubrics else None,
    )
    if "goal" in root and all(spec == UNSCORED for spec in scorers.values()):
        raise root["goal"].place.error("a goal needs a scorer: what a judge says is shown, and decides nothing")
    goal = _goal(root["goal"], {sample.group for sample in samples}) if "goal" in root else None
    return Suite(name, version, samples, scorers, options, goal, path, places, rubrics)


def _rubrics(node: Node, path: Path) -> tuple[str, ...]:
    """Built-in names as they are, and the paths of files, which lie beside the suite."""
    names = [_text(item, "a rubric") for item in _list(node, "rubrics", "a list of names and files, such as [content]")]
    return tuple(str(path.parent / name) if Path(name).suffix else name for name in dict.fromkeys(names))


def _samples(
    nodes: Sequence[Node], shared: ScorerSpec | None
) -> tuple[tuple[Sample, ...], dict[str, ScorerSpec], dict[str, Place]]:
    """The samples, and by their ids each one's scorer and place."""
    samples: list[Sample] = []
    scorers: dict[str, ScorerSpec] = {}
    places: dict[str, Place] = {}
    for node in nodes:
        sample, own = _sample(node)
        if sample.id in places:
            raise node.place.error(f"the id {sample.id!r} is already that of the sample in {places[sample.id]}")
        spec = own or shared
        if spec is None:
            raise node.place.error(f"the sample {sample.id!r} has no scorer, and the suite names none for all")
        samples.append(sample)
        scorers[sample.id], places[sample.id] = spec, node.place
    return tuple(samples), scorers, places


def _name(node: Node) -> str:
    name = _text(node, "name")
    if name != name.strip() or not name.isprintable():
        raise node.place.error("name must be one line, without white space around it")
    return name


def _sample_nodes(node: Node, path: Path) -> Sequence[Node]:
    if isinstance(node.value, str):
        found: Sequence[Node] = read_samples(path.parent / _text(node, "samples"), node.place)
    else:
        found = _list(node, "samples", "a list, or the name of a .jsonl or .parquet file")
    if not found:
        raise node.place.error("there are no samples")
    return found


def _sample(node: Node) -> tuple[Sample, ScorerSpec | None]:
    keys = _mapping(node, "a sample", _SAMPLE_KEYS, required=("id",))
    name = _label(keys["id"], "id")
    reference = _free(keys, "reference")
    if "target" in reference:
        raise keys["reference"].place.error("the target belongs beside reference:, as target:, not inside it")
    if "text" in keys and "target" in keys:
        raise keys["target"].place.error("a text is weighed as a whole and has no target; give one of the two")
    if "text" in keys:
        reference = {"target": _text(keys["text"], "text"), **reference}
    if "target" in keys:
        reference = {"target": _target(keys["target"]), **reference}
    sample = Sample(
        id=name,
        prompt=_prompt(node, keys, name),
        group=_label(keys["group"], "group") if "group" in keys else "all",
        reference=reference,
        metadata=_free(keys, "metadata"),
    )
    return sample, _scorer(keys["scorer"]) if "scorer" in keys else None


def _target(node: Node) -> Json:
    if not isinstance(node.value, list):
        return _label(node, "target")
    if not node.value:
        raise node.place.error("target must not be an empty list")
    return [_label(item, "target") for item in node.value]


def _prompt(node: Node, keys: Mapping[str, Node], name: str) -> Prompt:
    given = [key for key in _PROMPT_KEYS if key in keys]
    if len(given) != 1:
        what = "none" if not given else " and ".join(given)
        raise node.place.error(
            f"the sample {name!r} needs exactly one of prompt, messages, raw and text; it has {what}"
        )
    value = keys[given[0]]
    if given[0] == "text":
        return Raw("")
    if given[0] == "prompt":
        return _text(value, "prompt")
    if given[0] == "raw":
        return Raw(_text(value, "raw"))
    messages = tuple(_message(item) for item in _list(value, "messages", "a list of {role: …, content: …}"))
    if not messages:
        raise value.place.error("messages must hold at least one message")
    return messages


def _message(node: Node) -> Message:
    keys = _mapping(node, "a message", ("role", "content"), required=("role", "content"))
    role, content = keys["role"], keys["content"]
    roles: tuple[Role, ...] = get_args(Role)
    for known in roles:
        if role.value == known:
            if not isinstance(content.value, str):
                raise content.place.error(f"content must be text, not {_kind(content)}")
            return Message(known, content.value)
    hint = nearest(role.value, roles) if isinstance(role.value, str) else nearest("", roles)
    raise role.place.error(f"unknown role {plain(role)!r}; {hint}")


def _scorer(node: Node) -> ScorerSpec:
    place = node.place
    if isinstance(node.value, str):
        name, parameters = _text(node, "scorer"), {}
    else:
        keys = _mapping(node, "a scorer", None, required=("name",))
        name, place = _text(keys["name"], "name"), keys["name"].place
        parameters = {key: plain(value) for key, value in keys.items() if key != "name"}
    try:
        SCORERS.check(name)
    except UnknownName as error:
        raise place.error(str(error)) from None
    return ScorerSpec(name, parameters, node.place)


def _goal(node: Node, groups: Collection[str]) -> Goal:
    keys = _mapping(node, "goal", _GOAL_KEYS)
    named = {key: _goal_groups(keys[key], key, groups) for key in ("improve", "keep") if key in keys}
    if not any(named.values()):
        raise node.place.error("a goal needs at least one group to improve or to keep")
    tolerance = _checked(keys["tolerance"], "tolerance", _UNIT) if "tolerance" in keys else 0.0
    return Goal(improve=named.get("improve", ()), keep=named.get("keep", ()), tolerance=tolerance)


def _goal_groups(node: Node, key: str, groups: Collection[str]) -> tuple[str, ...]:
    found: list[str] = []
    for item in _list(node, key, "a list of groups, such as [new]"):
        group = _label(item, "a group")
        if group not in groups:
            raise item.place.error(f"no sample is of the group {group!r}; {nearest(group, groups)}")
        if group in found:
            raise item.place.error(f"the group {group!r} is named twice in {key}")
        found.append(group)
    return tuple(found)


class _Rule(msgspec.Struct, frozen=True):
    """Which numbers are fine; `says` completes "must be …". `kind` float takes whole numbers, too."""

    kind: type[int] | type[float]
    fine: Callable[[float], bool]
    says: str


_WHOLE_FROM_1 = _Rule(int, lambda v: v >= 1, "a whole number of at least 1")
_WHOLE_FROM_0 = _Rule(int, lambda v: v >= 0, "a whole number of at least 0")
_UNIT = _Rule(float, lambda v: 0 <= v <= 1, "a number from 0 to 1")
_OPTIONS: Mapping[str, _Rule] = {
    "temperature": _Rule(float, lambda v: v >= 0, "a number of at least 0"),
    "max_tokens": _WHOLE_FROM_1,
    "top_p": _Rule(float, lambda v: 0 < v <= 1, "a number above 0, of at most 1"),
    "top_k": _WHOLE_FROM_0,
    "repeat_penalty": _Rule(float, lambda v: v > 0, "a number above 0"),
    "seed": _WHOLE_FROM_0,
}


def _checked(node: Node, what: str, rule: _Rule) -> Any:
    match node.value:
        case bool():
            pass
        # A float could not hold a longer whole number, and nothing here is meant to be that large.
        case int() as value if abs(value) < 2**63 and rule.fine(value):
            return rule.kind(value)
        case float() as value if rule.kind is float and rule.fine(value):
            return value
    raise node.place.error(f"{what} must be {rule.says}, not {_kind(node)}")


def _options(node: Node) -> GenerateOptions:
    keys = _mapping(node, "options", (*_OPTIONS, "stop"))
    values: dict[str, Any] = {key: _checked(keys[key], key, _OPTIONS[key]) for key in _OPTIONS if key in keys}
    if "stop" not in keys:
        return GenerateOptions(**values)
    stop = keys["stop"]
    items = [stop] if isinstance(stop.value, str) else _list(stop, "stop", "a text, or a list of texts")
    for item in items:
        # A single newline is a stop worth having, so only the empty text is refused here.
        if not isinstance(item.value, str) or not item.value:
            raise item.place.error(f"stop must be text that is not empty, not {_kind(item)}")
    return GenerateOptions(**values, stop=tuple(str(item.value) for item in items))


def _mapping(node: Node, what: str, known: Sequence[str] | None, required: Sequence[str] = ()) -> Mapping[str, Node]:
    """The mapping's keys, each of them in `known` (None: any) and all of `required` among them."""
    if not isinstance(node.value, Mapping):
        raise node.place.error(f"{what} must be a mapping of keys to values, not {_kind(node)}")
    for key, value in node.value.items():
        if known is not None and key not in known:
            raise value.place.error(f"unknown key {key!r} in {what}; {nearest(key, known)}")
    for key in required:
        if key not in node.value:
            raise node.place.error(f"{what} needs the key {key!r}")
    return node.value


def _list(node: Node, what: str, wanted: str) -> Sequence[Node]:
    if isinstance(node.value, Sequence) and not isinstance(node.value, str):
        return node.value
    raise node.place.error(f"{what} must be {wanted}, not {_kind(node)}")


def _text(node: Node, what: str) -> str:
    if not isinstance(node.value, str):
        raise node.place.error(f"{what} must be text, not {_kind(node)}; write it in quotes")
    if not node.value.strip():
        raise node.place.error(f"{what} must not be empty")
    return node.value


def _label(node: Node, what: str) -> str:
    """Text; a whole number stands for its digits, if they are what was written (`007` and `0x10` are not)."""
    whole = isinstance(node.value, int) and not isinstance(node.value, bool)
    if whole and node.text == str(node.value):
        return node.text
    return _text(node, what)


def _free(keys: Mapping[str, Node], key: str) -> dict[str, Json]:
    if key not in keys:
        return {}
    return {name: plain(value) for name, value in _mapping(keys[key], key, None).items()}


def _kind(node: Node) -> str:
    match node.value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {node.text}"
        case int() | float():
            return f"the number {node.text}"
        case str() as text:
            return f"the text {text if len(text) <= 40 else text[:39] + '…'!r}"
        case Mapping():
            return "a mapping"
    return "a list"


def _digest(suite: Suite) -> str:
    meaning = {
        "name": suite.name,
        "version": suite.version,
        "options": suite.options.as_told(),
        "samples": [
            {
                "id": sample.id,
                "group": sample.group,
                "prompt": _prompt_meaning(sample.prompt),
                "reference": sample.reference,
                "metadata": sample.metadata,
                "scorer": [suite.scorers[sample.id].name, suite.scorers[sample.id].parameters],
            }
            for sample in suite.samples
        ],
    }
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _prompt_meaning(prompt: Prompt) -> Json:
    prompt = unwrapped(prompt)
    if isinstance(prompt, str):
        return {"raw": str(prompt)} if isinstance(prompt, Raw) else {"prompt": prompt}
    return {"messages": [[message.role, message.content] for message in prompt]}
