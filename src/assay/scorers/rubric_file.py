"""Rubrics from files: a user's own in YAML by path, the built-in ones by name. All errors are `SuiteError`s with a line.

The built-in ones are the same in TOML, which is read in 5 ms and not in 23: every judged run waits for it.

name: brevity
version: 1
guidance: Judge the length alone.            # optional: what holds for all dimensions
reason: true                                 # optional: ask for a short explanation before the scores
inputs:                                      # what the judge is shown
  question: prompt
  answer: answer
  ideal: {from: reference.best_answer, optional: true}
dimensions:
  brevity:
    range: [1, 10]
    decimals: false                          # optional
    better: higher                           # optional: or lower
    asks: Does the answer say no more than was asked?
    anchors: {"1": most of it is padding, "10": not a word could go}
template: |                                  # optional: each input once
  {{question}} was answered with {{answer}}. The ideal: {{ideal}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.plugins import nearest
from assay.scorers.rubric import REASON, Dimension, Input, Rubric
from assay.suites.readers import Node, builtins, find_named, plain, read_toml, read_yaml

BUILTIN = Path(__file__).parent / "rubrics"

_RUBRIC_KEYS = ("name", "version", "guidance", "reason", "inputs", "dimensions", "template")
_DIMENSION_KEYS = ("range", "decimals", "better", "asks", "anchors")
_INPUT_KEYS = ("from", "optional")
_SOURCES = ("prompt", "answer", "reference.KEY")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def builtin_rubrics() -> tuple[str, ...]:
    """The names of the rubrics that come with assay, sorted."""
    return tuple(builtins(BUILTIN))


def load_rubric(source: str | Path) -> Rubric:
    """Read a rubric from a file, or a built-in one by its bare name. Raises `SuiteError`."""
    path = find_named(source, BUILTIN, "rubric")
    root = read_toml(path) if path.parent == BUILTIN else read_yaml(path)
    keys = _mapping(root, "a rubric", _RUBRIC_KEYS, required=("name", "version", "inputs", "dimensions"))
    version = keys["version"]
    if isinstance(version.value, bool) or not isinstance(version.value, int) or not 1 <= version.value < 2**31:
        raise version.place.error(f"version must be a whole number of at least 1, not {plain(version)!r}")
    inputs = _inputs(keys["inputs"])
    return Rubric(
        name=_named(_text(keys["name"], "name"), keys["name"], "a rubric's name"),
        version=version.value,
        inputs=inputs,
        dimensions=_dimensions(keys["dimensions"]),
        template=_template(keys, inputs),
        guidance=_text(keys["guidance"], "guidance").strip() if "guidance" in keys else "",
        reason=_flag(keys["reason"], "reason") if "reason" in keys else True,
    )


def _inputs(node: Node) -> tuple[Input, ...]:
    found = []
    for name, value in _mapping(node, "inputs", None).items():
        _named(name, value, "an input's name")
        optional = False
        source = value
        if isinstance(value.value, Mapping):
            keys = _mapping(value, f"the input {name!r}", _INPUT_KEYS, required=("from",))
            source = keys["from"]
            optional = _flag(keys["optional"], "optional") if "optional" in keys else False
        text = _text(source, f"the input {name!r}")
        if text not in ("prompt", "answer") and not re.fullmatch(r"reference\.\S+", text):
            hint = nearest(text, _SOURCES)
            raise source.place.error(f"the input {name!r} can't come from {text!r}; {hint}")
        found.append(Input(name, text, optional))
    sources = [i.source for i in found]
    if "answer" not in sources:
        raise node.place.error("no input shows the answer; add `answer: answer`")
    for source_name in sources:
        if sources.count(source_name) > 1:
            raise node.place.error(f"more than one input shows {source_name!r}")
    return tuple(found)


def _dimensions(node: Node) -> tuple[Dimension, ...]:
    if not node.value and not isinstance(node.value, bool | int | float):
        raise node.place.error("the rubric has no dimensions, so there is nothing to score")
    found = _mapping(node, "dimensions", None)
    for name, value in found.items():
        other = next((known for known in found if known != name and known.lower() == name.lower()), None)
        if other is not None:
            raise value.place.error(
                f"the dimensions {name!r} and {other!r} differ only in case; call one of them otherwise"
            )
    return tuple(_dimension(name, value) for name, value in found.items())


def _dimension(name: str, node: Node) -> Dimension:
    _named(name, node, "a dimension's name")
    if name == REASON:
        raise node.place.error(f"a dimension can't be called {REASON!r}, which is the judge's explanation")
    keys = _mapping(node, f"the dimension {name!r}", _DIMENSION_KEYS, required=("range", "asks", "anchors"))
    whole = not (_flag(keys["decimals"], "decimals") if "decimals" in keys else False)
    low, high = _range(keys["range"], whole)
    anchors = _anchors(keys["anchors"], name, low, high)
    better = _text(keys["better"], "better") if "better" in keys else "higher"
    if better not in ("higher", "lower"):
        raise keys["better"].place.error(f"better must be higher or lower, not {better!r}")
    return Dimension(name, low, high, whole, _text(keys["asks"], "asks").strip(), anchors, better == "lower")


def _range(node: Node, whole: bool) -> tuple[float, float]:
    ends = [n.value for n in node.value] if isinstance(node.value, Sequence) and not isinstance(node.value, str) else []
    numbers = [v for v in ends if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e9]
    if len(numbers) != 2 or len(ends) != 2 or not numbers[0] < numbers[1]:
        raise node.place.error(f"range must be two numbers, the lower one first, such as [1, 10], not {plain(node)!r}")
    if whole and any(v != int(v) for v in numbers):
        raise node.place.error("a range without decimals must begin and end with whole numbers; or say decimals: true")
    return float(numbers[0]), float(numbers[1])


def _anchors(node: Node, name: str, low: float, high: float) -> tuple[tuple[float, str], ...]:
    found: dict[float, str] = {}
    for key, value in _mapping(node, "anchors", None).items():
        try:
            point = float(key)
        except ValueError:
            raise value.place.error(f"an anchor must be a number in quotes, not {key!r}") from None
        if not low <= point <= high:
            raise value.place.error(f"the anchor {key} is not from {low:g} to {high:g}")
        if point in found:
            raise value.place.error(f"two anchors say what {point:g} means")
        found[point] = _text(value, "an anchor").strip()
    for end in (low, high):
        if end not in found:
            raise node.place.error(f"the dimension {name!r} needs an anchor that says what {end:g} means")
    return tuple(sorted(found.items()))


def _template(keys: Mapping[str, Node], inputs: Sequence[Input]) -> str:
    """The template, with each input in it exactly once; by default all of them, in their order."""
    if "template" not in keys:
        return "\n\n".join(f"The {i.name.replace('_', ' ')}:\n{{{{{i.name}}}}}" for i in inputs)
    node = keys["template"]
    text = _text(node, "template").strip()
    used = _PLACEHOLDER.findall(text)
    names = [i.name for i in inputs]
    for name in used:
        if name not in names:
            raise node.place.error(f"the template shows {name!r}, which is no input; {nearest(name, names)}")
        if used.count(name) > 1:
            raise node.place.error(f"the template shows {name!r} more than once")
    for name in names:
        if name not in used:
            raise node.place.error(f"the template does not show the input {name!r}; add {{{{{name}}}}}")
    # Each input becomes a block of lines, whose edges must begin a line to be seen.
    lines = [line.strip() if _PLACEHOLDER.fullmatch(line.strip()) else line for line in text.split("\n")]
    for name in names:
        if not any((found := _PLACEHOLDER.fullmatch(line)) and found[1] == name for line in lines):
            raise node.place.error(f"the template must show {name!r} on a line of its own")
    return _PLACEHOLDER.sub(lambda m: f"{{{{{m[1]}}}}}", "\n".join(lines))


def _mapping(node: Node, what: str, known: Sequence[str] | None, required: Sequence[str] = ()) -> Mapping[str, Node]:
    if not isinstance(node.value, Mapping):
        raise node.place.error(f"{what} must be a mapping of keys to values")
    for key, value in node.value.items():
        if known is not None and key not in known:
            raise value.place.error(f"unknown key {key!r} in {what}; {nearest(key, known)}")
    for key in required:
        if key not in node.value:
            raise node.place.error(f"{what} needs the key {key!r}")
    return node.value


def _text(node: Node, what: str) -> str:
    if not isinstance(node.value, str) or not node.value.strip():
        raise node.place.error(f"{what} must be text that is not empty; write it in quotes")
    return node.value


def _named(name: str, node: Node, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise node.place.error(f"{what} must be letters, digits and underscores, beginning with a letter, not {name!r}")
    return name


def _flag(node: Node, what: str) -> bool:
    if not isinstance(node.value, bool):
        raise node.place.error(f"{what} must be true or false, not {node.text!r}")
    return node.value
