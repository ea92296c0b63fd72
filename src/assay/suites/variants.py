"""The built-in probes with other numbers, so that a model can't have learnt the answers: same questions, same checkers.

A question is a template with the values that it is asked with, a way to draw others, and a way to work the answer out.
The values of the suite file are one case of many: filled in with them, each template gives the file's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt
from random import Random
from typing import Any, TypeAlias

import msgspec

from assay.errors import BadInput
from assay.plugins import nearest
from assay.suites import variant_words as words
from assay.suites.suite import Suite, load_suite
from assay.types import Json

Values: TypeAlias = Mapping[str, Any]

_NAMES = ("Ravi", "Lena", "Otto", "Mika")
_DIRECTIONS = ("north", "east", "south", "west")
_TURNS = {
    "make a quarter turn to the right": 1,
    "turn right around to look the opposite way": 2,
    "make a quarter turn to the left": 3,
}
_WORDS = ("mint", "plum", "fig", "cedar", "oak", "ash", "willow", "rye", "basil", "olive", "lime", "quince")


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt with gaps: `base` fills them as in the suite file, `draw` anew; `answer` is the target, as text.

    checks: the scorer's parameters that go with the values, where they are not the same for all.
    """

    prompt: str
    base: Values
    draw: Callable[[Random], Values]
    answer: Callable[[Values], str]
    checks: Callable[[Values], Mapping[str, Json]] = lambda _: {}

    def asked(self, values: Values) -> str:
        return self.prompt.format(**values)


def variants(name: str, seed: int) -> Suite:
    """The built-in suite `name` with all values drawn anew; the same seed gives the same suite.

    The suite is called `NAME-seed-SEED`, has the same sample ids and scorers, these with what goes with the values, and a
    digest of its own. Raises `BadInput` for a suite without templates.
    """
    if name not in QUESTIONS:
        raise BadInput(f"the suite {name!r} has no variants; {nearest(name, QUESTIONS)}")
    suite = load_suite(name)
    samples, scorers = [], {}
    for sample in suite.samples:
        question = QUESTIONS[name][sample.id]
        values = _drawn(question, Random(f"{name}/{sample.id}/{seed}"))
        samples.append(
            msgspec.structs.replace(
                sample,
                prompt=question.asked(values),
                reference={**sample.reference, "target": question.answer(values)},
                metadata={**sample.metadata, "seed": seed},
            )
        )
        spec = suite.scorers[sample.id]
        scorers[sample.id] = replace(spec, parameters={**spec.parameters, **question.checks(values)})
    return replace(suite, name=f"{suite.name}-seed-{seed}", samples=tuple(samples), scorers=scorers, path=None)


def _drawn(question: Question, random: Random) -> Values:
    """Values other than the file's own, whose answer can't be copied from the question."""
    while True:
        values = question.draw(random)
        copied = question.answer(values) in question.asked(values)
        copied = copied and (question.answer(values)[0].isdigit() or question.answer(values) == values.get("start"))
        if values != question.base and not copied:
            return values


def _number(value: Fraction | int) -> str:
    """A number as text: a decimal where it has at most two places, else a fraction."""
    value = Fraction(value)
    if (value * 100).denominator != 1:
        return str(value)
    return f"{float(value):.2f}".rstrip("0").rstrip(".")


def _arithmetic(r: Random) -> Values:
    return {"a": r.randint(23, 89), "b": r.randint(17, 68), "c": r.randint(103, 289)}


def _fractions(r: Random) -> Values:
    first, second = r.sample(((5, 12), (7, 12), (3, 8), (5, 8), (1, 6), (5, 6), (2, 9), (4, 9), (3, 10), (7, 15)), 2)
    whole = (Fraction(*first) + Fraction(*second)).denominator == 1  # which is no "fraction in lowest terms"
    return _fractions(r) if whole else {"a": first[0], "b": first[1], "c": second[0], "d": second[1]}


def _linear(r: Random) -> Values:
    a, c, x, b = r.randint(5, 9), r.randint(2, 4), r.randint(11, 29), r.randint(11, 39)
    return {"a": a, "b": b, "c": c, "d": (a - c) * x - b} if (a - c) * x > b else _linear(r)


def _pair(r: Random) -> Values:
    x, y = r.randint(15, 29), r.randint(5, 14)
    return {"sum": x + y, "difference": x - y}


def _product(v: Values) -> int:
    x = (v["sum"] + v["difference"]) // 2
    return int(x * (v["sum"] - x))


def _marbles(r: Random) -> Values:
    return {"red": r.randint(3, 7), "blue": r.randint(2, 6), "green": r.randint(2, 6)}


def _both_red(v: Values) -> Fraction:
    marbles = v["red"] + v["blue"] + v["green"]
    return Fraction(v["red"] * (v["red"] - 1), marbles * (marbles - 1))


def _plate(r: Random) -> Values:
    m, n = r.choice(((4, 3), (5, 2), (5, 4), (6, 1), (6, 5), (7, 2), (7, 4), (8, 3), (8, 5), (9, 2)))
    scale = r.randint(1, 2)
    sides = sorted((scale * (m * m - n * n), scale * 2 * m * n))
    return {"long": sides[1], "wide": sides[0]}


def _sequence(r: Random) -> Values:
    factor, plus, term = r.randint(2, 3), r.randint(1, 7), r.randint(2, 6)
    terms = [term]
    for _ in range(4):
        terms.append(factor * terms[-1] + plus)
    return {"factor": factor, "plus": plus, "terms": ", ".join(map(str, terms))}


def _next_term(v: Values) -> int:
    return int(v["factor"]) * int(v["terms"].split(", ")[-1]) + int(v["plus"])


def _prices(r: Random) -> Values:
    return {"price": 20 * r.randint(6, 24), "down": r.choice((15, 25, 30, 35, 40)), "up": r.choice((5, 10, 20))}


def _race(r: Random) -> Values:
    first, second, third, fourth = r.sample(_NAMES, 4)
    return {"a": first, "b": second, "c": third, "d": fourth}


def _farm(r: Random) -> Values:
    rabbits, chickens = r.randint(6, 19), r.randint(6, 19)
    heads = rabbits + chickens
    return {"heads": heads, "legs": 4 * rabbits + 2 * chickens} if rabbits != chickens else _farm(r)


def _class(r: Random) -> Values:
    both, chess, go, neither = r.randint(5, 13), r.randint(6, 15), r.randint(6, 15), r.randint(2, 9)
    if both in (chess, go):  # the number of those who play only one game must be no right answer
        return _class(r)
    return {"all": both + chess + go + neither, "chess": chess + both, "go": go + both, "neither": neither}


def _walk(r: Random) -> Values:
    turns = [r.choice(tuple(_TURNS)) for _ in range(3)]
    return {"start": r.choice(_DIRECTIONS), "a": turns[0], "b": turns[1], "c": turns[2]}


def _facing(v: Values) -> str:
    turned = sum(_TURNS[v[key]] for key in "abc")
    return _DIRECTIONS[(_DIRECTIONS.index(v["start"]) + turned) % 4]


def _film(r: Random) -> Values:
    start, length = 5 * r.randint(17 * 12, 20 * 12), 5 * r.randint(14, 34)
    return {"start": _clock(start), "end": _clock(start + length)}


def _clock(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02d}"


def _lasting(v: Values) -> int:
    (h, m), (hours, minutes) = ([int(part) for part in v[key].split(":")] for key in ("start", "end"))
    return 60 * (hours - h) + minutes - m


def _codes(r: Random) -> Values:
    step, plus = r.randint(2, 4), r.randint(2, 5)
    letter, number = r.randint(0, 4), r.randint(1, 6)
    return {"codes": ", ".join(f"{chr(65 + letter + i * step)}{number + i * plus}" for i in range(4))}


def _next_code(v: Values) -> str:
    before, last = v["codes"].split(", ")[-2:]
    return f"{chr(2 * ord(last[0]) - ord(before[0]))}{2 * int(last[1:]) - int(before[1:])}"


def _loop(r: Random) -> Values:
    start, step = r.randint(1, 4), r.randint(2, 4)
    return {"start": start, "stop": start + 3 * step + r.randint(1, step), "step": step}


def _three_words(r: Random) -> Values:
    first, second, third = r.sample(_WORDS, 3)
    return {"a": first, "b": second, "c": third}


def _initials(v: Values) -> str:
    return "-".join(f"{v[key][0].upper()}{len(v[key])}" for key in "cba")


def _lists(r: Random) -> Values:
    a, b, c, d = r.sample(range(1, 10), 4)
    return {"a": a, "b": b, "c": c, "d": d}


def _ride(r: Random) -> Values:
    first, second = r.sample((30, 45, 75, 90, 105), 2)
    return {"m": first, "v": 4 * r.randint(4, 7), "n": second, "w": 4 * r.randint(3, 6)}


def _pumps(r: Random) -> Values:
    a, b = r.choice(((3, 6), (4, 6), (3, 5), (6, 9), (6, 10), (5, 20), (4, 12), (8, 12), (10, 15), (2, 8), (3, 7)))
    return {"a": a, "b": b}


_CAPABILITY: Mapping[str, Question] = {
    "arithmetic-1": Question(
        "Work out {a} × {b} − {c}.",
        {"a": 47, "b": 36, "c": 128},
        _arithmetic,
        lambda v: _number(v["a"] * v["b"] - v["c"]),
    ),
    "arithmetic-2": Question(
        "Add {a}/{b} and {c}/{d}. Give the sum as a fraction in lowest terms.",
        {"a": 7, "b": 12, "c": 3, "d": 8},
        _fractions,
        lambda v: str(Fraction(v["a"], v["b"]) + Fraction(v["c"], v["d"])),
    ),
    "algebra-1": Question(
        "Solve for x: {a}x − {b} = {c}x + {d}.",
        {"a": 5, "b": 17, "c": 2, "d": 25},
        _linear,
        lambda v: _number(Fraction(v["b"] + v["d"], v["a"] - v["c"])),
    ),
    "algebra-2": Question(
        "Two numbers x and y satisfy x + y = {sum} and x − y = {difference}. What is the product of x and y?",
        {"sum": 31, "difference": 7},
        _pair,
        lambda v: _number(_product(v)),
    ),
    "probability-1": Question(
        "A bag holds {red} red, {blue} blue and {green} green marbles. Two marbles are drawn at random, without putting the "
        "first one back. How likely is it that both are red?",
        {"red": 5, "blue": 3, "green": 4},
        _marbles,
        lambda v: str(_both_red(v)),
    ),
    "geometry-1": Question(
        "A rectangular metal plate is {long} cm long and {wide} cm wide. How long is its diagonal?",
        {"long": 45, "wide": 28},
        _plate,
        lambda v: _number(isqrt(v["long"] ** 2 + v["wide"] ** 2)),
    ),
    "sequences-1": Question(
        "Each number in this sequence follows from the one before it by the same rule: {terms}. Which number is next?",
        {"factor": 2, "plus": 2, "terms": "3, 8, 18, 38, 78"},
        _sequence,
        lambda v: _number(_next_term(v)),
    ),
    "percentages-1": Question(
        "A coat costs ${price}. A shop lowers the price by {down}%, and a month later raises the lowered price by {up}%. What "
        "does the coat cost then?",
        {"price": 240, "down": 15, "up": 10},
        _prices,
        lambda v: _number(Fraction(v["price"] * (100 - v["down"]) * (100 + v["up"]), 10_000)),
    ),
    "deduction-1": Question(
        "Every {a} is a {b}. {second} Is it possible that some {a} is a {c}? Answer yes or no, and say why.",
        {"a": "glim", "b": "torv", "c": "plask", "second": "No torv is a plask."},
        words.kinds,
        words.may_be,
        words.kinds_checks,
    ),
    "deduction-2": Question(
        "Ravi, Lena, Otto and Mika ran a race, and no two of them arrived together. {a} arrived before {b}. {c} arrived after "
        "{b}. {d} arrived after {c}. Who came third?",
        {"a": "Ravi", "b": "Lena", "c": "Otto", "d": "Mika"},
        _race,
        lambda v: str(v["c"]),
    ),
    "deduction-3": Question(
        "Whenever the {thing} is {on}, the {lamp} is lit. Right now {seen}. Can we be certain that {claim}? Answer yes or no, "
        "and say why.",
        {
            **{"thing": "alarm", "on": "armed", "lamp": "red lamp"},
            **{"seen": "the red lamp is dark", "claim": "the alarm is not armed"},
        },
        words.device,
        words.follows,
        words.device_checks,
    ),
    "puzzles-1": Question(
        "A farmer keeps chickens and rabbits. Together they have {heads} heads and {legs} legs. How many rabbits are there?",
        {"heads": 23, "legs": 64},
        _farm,
        lambda v: _number(Fraction(v["legs"] - 2 * v["heads"], 2)),
    ),
    "sets-1": Question(
        "Of the {all} pupils in a class, {chess} play chess and {go} play go; {neither} play neither game. How many of them "
        "play both?",
        {"all": 42, "chess": 25, "go": 20, "neither": 8},
        _class,
        lambda v: _number(v["chess"] + v["go"] + v["neither"] - v["all"]),
    ),
    "analogy-1": Question(
        "{first} is to {of} as {second} is to which of these: {options}?",
        {"first": "Captain", "of": "ship", "second": "conductor", "options": "baton, orchestra, violin, concert"},
        words.relation,
        words.related,
        words.relation_checks,
    ),
    "causal-1": Question(
        "{seen} Which one of these most likely explains both: {options}?",
        {
            "seen": "On days when more people in a town carry umbrellas, more people slip on its pavements.",
            "options": "umbrellas, shoes, rain, weekends",
        },
        words.cause,
        words.common_cause,
        words.cause_checks,
    ),
    "spatial-1": Question(
        "You face {start}. You {a}, then {b}, then {c}. Which direction do you face now?",
        {"start": "north", **dict(zip("abc", _TURNS, strict=True))},
        _walk,
        _facing,
    ),
    "temporal-1": Question(
        "A film starts at {start} and ends at {end} on the same evening. How many minutes does it last?",
        {"start": "19:25", "end": "21:10"},
        _film,
        lambda v: _number(_lasting(v)),
    ),
    "pattern-1": Question("What comes next: {codes}, …?", {"codes": "A2, D4, G6, J8"}, _codes, _next_code),
    "code-1": Question(
        "What does this Python program print?\n\ntotal = 0\nfor n in range({start}, {stop}, {step}):\n"
        "    total += n * n\nprint(total)",
        {"start": 1, "stop": 12, "step": 3},
        _loop,
        lambda v: _number(sum(n * n for n in range(v["start"], v["stop"], v["step"]))),
    ),
    "code-2": Question(
        'What does this Python program print?\n\nwords = ["{a}", "{b}", "{c}"]\nparts = []\nfor word in reversed(words):\n'
        '    parts.append(word[0].upper() + str(len(word)))\nprint("-".join(parts))',
        {"a": "mint", "b": "plum", "c": "fig"},
        _three_words,
        _initials,
    ),
    "code-3": Question(
        "What does this Python program print?\n\nfirst = [{a}, {b}]\nsecond = first\nsecond.append({c})\n"
        "first = first + [{d}]\nprint(second + first[:1])",
        {"a": 4, "b": 9, "c": 2, "d": 7},
        _lists,
        lambda v: f"[{v['a']}, {v['b']}, {v['c']}, {v['a']}]",
    ),
    "word_problems-1": Question(
        "A cyclist rides for {m} minutes at {v} km/h, and then for {n} minutes at {w} km/h. How far does she ride altogether?",
        {"m": 45, "v": 20, "n": 90, "w": 16},
        _ride,
        lambda v: _number(Fraction(v["m"] * v["v"] + v["n"] * v["w"], 60)),
    ),
    "word_problems-2": Question(
        "One pump fills a tank in {a} hours, another one fills it in {b} hours. How long do both of them together take to "
        "fill the empty tank?",
        {"a": 4, "b": 6},
        _pumps,
        lambda v: str(Fraction(v["a"] * v["b"], v["a"] + v["b"])),
    ),
}

# By suite and sample id.
QUESTIONS: Mapping[str, Mapping[str, Question]] = {"capability": _CAPABILITY}
