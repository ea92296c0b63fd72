"""What a rubric is: by which dimensions a judge scores an answer, what each point means, and what the judge is shown.

A rubric is data. It knows nothing of models or of prompts' wording; `rubric_file` reads one, `judge_prompt` shows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from assay.results.canonical import digest_of
from assay.types import Json

# The judge's own short explanation stands under this key, so no dimension may have the name.
REASON = "reason"

_NUMBER = re.compile(r"\s*([+-]?(?:0|[1-9]\d*)(?:\.\d+)?)\s*(?:/\s*(\d+(?:\.\d+)?)\s*)?", re.ASCII)


class Input(msgspec.Struct, frozen=True):
    """One piece of material that the judge is shown, under `name`.

    source: "prompt", "answer", or "reference.KEY". optional: a sample may lack it; the judge is then told so.
    """

    name: str
    source: str
    optional: bool = False


class Dimension(msgspec.Struct, frozen=True):
    """One number that the judge gives: from `low` to `high`, both included; `whole` numbers, or decimals too.

    asks: the question it answers. anchors: what certain points mean, in rising order, the two ends among them.
    lower_is_better: what is rare: the number counts something bad.
    """

    name: str
    low: float
    high: float
    whole: bool
    asks: str
    anchors: tuple[tuple[float, str], ...]
    lower_is_better: bool = False

    @property
    def range(self) -> str:
        """The values that are allowed, in words."""
        return f"{'a whole number' if self.whole else 'a number'} from {self.low:g} to {self.high:g}"

    def value(self, given: Json) -> float:
        """The score that a judge's JSON value stands for. Raises `ValueError`, which completes "NAME …".

        Text is taken where it is nothing but a number ("7"), also out of the highest one ("7/10"). Booleans, null, numbers
        that are not finite, out of range, or not whole where they must be, stand for no score.
        """
        if type(given) is int and self.whole and self.low <= given <= self.high:  # as most judges reply
            return given
        number = _number(given, self.high)
        # No comparison holds of a number that isn't one, so NaN ends here too.
        if number is None or not self.low <= number <= self.high:
            raise ValueError(f"must be {self.range}, not {_shown(given)}")
        if self.whole and number != int(number):
            raise ValueError(f"must be {self.range}, without a fraction, not {_shown(given)}")
        return int(number) if self.whole else number


def _number(given: Json, high: float) -> float | None:
    match given:
        case bool():
            return None
        case int() | float():
            return _as_float(given)
        case str():
            found = _NUMBER.fullmatch(given)
            # "4/5" on a scale up to 10 could mean 4 or 8: only the scale's own top says which.
            if found is None or (found[2] is not None and float(found[2]) != high):
                return None
            return _as_float(found[1])
    return None


def _as_float(given: int | float | str) -> float | None:
    try:
        return float(given)
    except OverflowError:  # a whole number beyond what floats hold
        return None


def _shown(given: Json) -> str:
    text = repr(given)
    return text if len(text) <= 40 else text[:39] + "…"


@dataclass(frozen=True, slots=True)
class Rubric:
    """Dimensions, what the judge is shown, and how it is told to judge.

    template: the judge's material in its order, each input once as `{{name}}`. guidance: what holds for all dimensions.
    reason: the judge says in a sentence or two why, before it scores. digest: sha256 hex of all of it.
    Raises `ValueError` without dimensions, or where a name is used twice; a judge may not mind letter case.
    """

    name: str
    version: int
    inputs: tuple[Input, ...]
    dimensions: tuple[Dimension, ...]
    template: str
    guidance: str = ""
    reason: bool = True
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise ValueError(f"the rubric {self.name!r} has no dimensions, so there is nothing to score")
        for what, names in (
            ("dimension", [d.name for d in self.dimensions] + [REASON]),
            ("input", [i.name for i in self.inputs]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"the rubric {self.name!r} has more than one {what} {name!r}")
                if [other.lower() for other in names].count(name.lower()) > 1:
                    raise ValueError(
                        f"the rubric {self.name!r} has another {what} that differs from {name!r} only in case"
                    )
        object.__setattr__(self, "digest", digest_of("rubric", _meaning(self)))

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The dimensions' names, in order."""
        return tuple(d.name for d in self.dimensions)

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a verdict: strict, as structured-output requests want it (every key required, no others)."""
        properties: dict[str, Any] = {}
        if self.reason:
            # No maxLength: engines that constrain by grammar expand it into hundreds of rules, others refuse it.
            properties[REASON] = {"type": "string"}
        for dimension in self.dimensions:
            low, high = (int(v) if v == int(v) else v for v in (dimension.low, dimension.high))
            kind = "integer" if dimension.whole else "number"
            properties[dimension.name] = {"type": kind, "minimum": low, "maximum": high}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


def _meaning(rubric: Rubric) -> Mapping[str, Any]:
    return {
        "name": rubric.name,
        "version": rubric.version,
        "inputs": [[i.name, i.source, i.optional] for i in rubric.inputs],
        "dimensions": [
            [d.name, float(d.low), float(d.high), d.whole, d.asks, [[float(at), means] for at, means in d.anchors]]
            + ["lower is better"] * d.lower_is_better
            for d in rubric.dimensions
        ],
        "template": rubric.template,
        "guidance": rubric.guidance,
        "reason": rubric.reason,
    }
