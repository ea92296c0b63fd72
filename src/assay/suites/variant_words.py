"""What the variants of the probes in words are drawn from: names, devices, relations and causes, with what says the answer.

Each kind has a way to draw its values, its answer, and its checks: the scorer's parameters that go with these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, TypeAlias

from assay.types import Json

Values: TypeAlias = Mapping[str, Any]

_MADE_UP = "glim torv plask brell drosk fenk gorp junt lomp mivet narb quib tweel vorp zant yarl".split()  # noqa: SIM905
# What is said of the second and third name, and whether something can then be of the first and the third kind.
_SECOND = {
    "No {b} is a {c}.": "no",
    "No {c} is a {b}.": "no",
    "Some {b} is a {c}.": "yes",
    "Every {c} is a {b}.": "yes",
}
_DEVICES = (
    ("alarm", "armed", "red lamp"),
    ("pump", "running", "green lamp"),
    ("oven", "hot", "blue lamp"),
    ("gate", "open", "yellow lamp"),
    ("heater", "on", "white lamp"),
    ("safe", "unlocked", "small lamp"),
)
# What is seen, what is asked, whether it follows, and how else one says that it does, and that it doesn't.
_SEEN: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "the {lamp} is dark",
        "the {thing} is not {on}",
        "yes",
        ("the {thing} cannot be {on}", "the {thing} can't be {on}"),
        ("the {thing} may still be {on}",),
    ),
    ("the {lamp} is lit", "the {thing} is {on}", "no", ("the {thing} must be {on}",), ("the {thing} may not be {on}",)),
    ("the {thing} is {on}", "the {lamp} is lit", "yes", ("the {lamp} must be lit",), ("the {lamp} may be dark",)),
    (
        "the {thing} is not {on}",
        "the {lamp} is dark",
        "no",
        ("the {lamp} must be dark",),
        ("the {lamp} may still be lit",),
    ),
)
_CERTAIN = ("we can be certain", "we can be sure", "it is certain")
_UNCERTAIN = (
    *("we cannot be certain", "we can't be certain", "we cannot be sure", "we can't be sure", "it is not certain"),
    *("we cannot know for certain", "we can't know for certain", "we cannot know for sure", "we can't know for sure"),
    *("we cannot say for certain", "we can't say for certain", "we cannot say for sure", "we can't say for sure"),
)
# Pairs of one relation, the second of each with what else has to do with the first.
_RELATIONS: tuple[tuple[tuple[str, str, tuple[str, str, str]], ...], ...] = (
    (
        ("captain", "ship", ("anchor", "harbour", "sailor")),
        ("conductor", "orchestra", ("baton", "violin", "concert")),
        ("coach", "team", ("whistle", "ball", "stadium")),
        ("mayor", "city", ("chain", "speech", "vote")),
        ("principal", "school", ("bell", "lesson", "chalk")),
    ),
    (
        ("carpenter", "hammer", ("wood", "table", "workshop")),
        ("surgeon", "scalpel", ("hospital", "patient", "nurse")),
        ("writer", "pen", ("novel", "library", "reader")),
        ("photographer", "camera", ("portrait", "gallery", "model")),
        ("gardener", "spade", ("flower", "hedge", "lawn")),
    ),
    (
        ("cat", "kitten", ("mouse", "whisker", "basket")),
        ("dog", "puppy", ("leash", "kennel", "bone")),
        ("cow", "calf", ("milk", "barn", "grass")),
        ("horse", "foal", ("saddle", "stable", "hay")),
        ("sheep", "lamb", ("wool", "meadow", "shepherd")),
    ),
)
# What is seen together, what explains both, and what doesn't, each with its other forms.
_CAUSES: tuple[tuple[str, str, Mapping[str, tuple[str, ...]]], ...] = (
    (
        "On days when more people in a town carry umbrellas, more people slip on its pavements.",
        "rain",
        {
            "rain": ("rainfall", "rainy weather", "wet weather", "raining", "rains"),
            **{"umbrellas": ("umbrella",), "shoes": ("shoe", "footwear"), "weekends": ("weekend",)},
        },
    ),
    (
        "On days when a beach sells more ice cream, more swimmers are rescued there.",
        "heat",
        {
            "heat": ("hot weather", "warm weather", "hot days", "hot day", "high temperatures"),
            **{"ice cream": ("ice creams",), "lifeguards": ("lifeguard",), "sand": ()},
        },
    ),
    (
        "Of the pupils of a primary school, those with bigger feet read better.",
        "age",
        {"age": ("being older",), "feet": ("foot",), "shoelaces": ("shoelace",), "pencils": ("pencil",)},
    ),
    (
        "Towns with more churches also have more bakeries.",
        "population",
        {
            "population": ("population size", "number of inhabitants"),
            **{"churches": ("church",), "flour": (), "sermons": ("sermon",)},
        },
    ),
    (
        "In weeks when more people in a town wear scarves, more of its water pipes burst.",
        "frost",
        {
            "frost": ("freezing weather", "freezing temperatures", "frosty weather"),
            **{"scarves": ("scarf",), "plumbers": ("plumber",), "wool": ()},
        },
    ),
    (
        "On mornings when more drivers switch on their headlights, more ferries arrive late.",
        "fog",
        {
            "fog": ("foggy weather", "mist"),
            "headlights": ("headlight",),
            "batteries": ("battery",),
            "tickets": ("ticket",),
        },
    ),
)


def kinds(r: Random) -> Values:
    first, second, third = r.sample(_MADE_UP, 3)
    return {"a": first, "b": second, "c": third, "second": r.choice(tuple(_SECOND)).format(b=second, c=third)}


def may_be(v: Values) -> str:
    return next(answer for said, answer in _SECOND.items() if said.format(b=v["b"], c=v["c"]) == v["second"])


def kinds_checks(v: Values) -> Mapping[str, Json]:
    a, c = v["a"], v["c"]
    denied = [f"cannot be a {c}", f"can't be a {c}", f"can never be a {c}", f"no {a} can be a {c}", f"no {a} is a {c}"]
    return {
        "choices": {
            "no": [*denied, "not possible", "isn't possible", "impossible"],
            "yes": ["it is possible", "it's possible", f"a {a} can be a {c}"],
        }
    }


def device(r: Random) -> Values:
    thing, on, lamp = r.choice(_DEVICES)
    seen, claim, *_ = r.choice(_SEEN)
    values = {"thing": thing, "on": on, "lamp": lamp}
    return {**values, "seen": seen.format(**values), "claim": claim.format(**values)}


def _observed(v: Values) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return next((answer, yes, no) for seen, _, answer, yes, no in _SEEN if seen.format(**v) == v["seen"])


def follows(v: Values) -> str:
    return _observed(v)[0]


def device_checks(v: Values) -> Mapping[str, Json]:
    _, yes, no = _observed(v)
    said = {"yes": (*_CERTAIN, *yes), "no": (*_UNCERTAIN, *no)}
    return {"choices": {choice: [form.format(**v) for form in forms] for choice, forms in said.items()}}


def relation(r: Random) -> Values:
    (first, of, _), (second, target, others) = r.sample(r.choice(_RELATIONS), 2)
    options = [target, *others]
    r.shuffle(options)
    return {"first": first.capitalize(), "of": of, "second": second, "options": ", ".join(options)}


def related(v: Values) -> str:
    return next(target for pairs in _RELATIONS for one, target, _ in pairs if one == v["second"])


def relation_checks(v: Values) -> Mapping[str, Json]:
    return {"choices": list(v["options"].split(", "))}


def cause(r: Random) -> Values:
    seen, _, choices = r.choice(_CAUSES)
    options = list(choices)
    r.shuffle(options)
    return {"seen": seen, "options": ", ".join(options)}


def common_cause(v: Values) -> str:
    return next(answer for seen, answer, _ in _CAUSES if seen == v["seen"])


def cause_checks(v: Values) -> Mapping[str, Json]:
    choices = next(choices for seen, _, choices in _CAUSES if seen == v["seen"])
    return {"choices": {choice: list(forms) for choice, forms in choices.items()}}
