"""Variants: the same questions with other values, whose answers are found here by other means than there."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import BadInput
from assay.scorers.base import check_suite
from assay.suites.suite import Suite, load_suite
from assay.suites.variants import variants

BASE = load_suite("capability")
SEEDS = st.integers(0, 10**6)


def numbers(prompt: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", prompt)]


def one(found: list[int]) -> Fraction:
    (only,) = found
    return Fraction(only)


def arithmetic(prompt: str) -> Fraction:
    return Fraction(eval(prompt.removeprefix("Work out ").rstrip(".").replace("×", "*").replace("−", "-")))


def fractions(prompt: str) -> Fraction:
    a, b, c, d = numbers(prompt)
    return next(Fraction(n, b * d) for n in range(2 * b * d) if n == a * d + c * b)


def linear(prompt: str) -> Fraction:
    a, b, c, d = numbers(prompt)
    return one([x for x in range(-500, 500) if a * x - b == c * x + d])


def product(prompt: str) -> Fraction:
    total, difference = numbers(prompt)
    return one([x * (total - x) for x in range(-99, 99) if x - (total - x) == difference])


def marbles(prompt: str) -> Fraction:
    red, blue, green = numbers(prompt)
    bag = "r" * red + "b" * blue + "g" * green
    draws = list(itertools.permutations(bag, 2))
    return Fraction(sum(draw == ("r", "r") for draw in draws), len(draws))


def diagonal(prompt: str) -> Fraction:
    a, b = numbers(prompt)
    return one([c for c in range(1, a + b) if c * c == a * a + b * b])


def sequence(prompt: str) -> Fraction:
    terms = numbers(prompt)
    rules = [
        (factor, plus)
        for factor in range(1, 9)
        for plus in range(-20, 21)
        if all(factor * a + plus == b for a, b in itertools.pairwise(terms))
    ]
    ((factor, plus),) = rules
    return Fraction(factor * terms[-1] + plus)


def price(prompt: str) -> Fraction:
    dollars, down, up = numbers(prompt)
    lowered = dollars - Fraction(dollars * down, 100)
    return lowered + lowered * up / 100


def rabbits(prompt: str) -> Fraction:
    heads, legs = numbers(prompt)
    return one([r for r in range(heads + 1) if 4 * r + 2 * (heads - r) == legs])


def both(prompt: str) -> Fraction:
    pupils, chess, go, neither = numbers(prompt)
    return one([n for n in range(min(chess, go) + 1) if chess + go - n + neither == pupils])


def minutes(prompt: str) -> Fraction:
    h, m, hours, end = numbers(prompt)
    count = 0
    while (h, m) != (hours, end):
        h, m, count = (h, m + 1, count + 1) if m < 59 else (h + 1, 0, count + 1)
    return Fraction(count)


def ride(prompt: str) -> Fraction:
    m, v, n, w = numbers(prompt)
    return sum((Fraction(v, 60) for _ in range(m)), Fraction(0)) + sum((Fraction(w, 60) for _ in range(n)), Fraction(0))


def pumps(prompt: str) -> Fraction:
    a, b = numbers(prompt)
    return 1 / (Fraction(1, a) + Fraction(1, b))


NUMERIC: dict[str, Callable[[str], Fraction]] = {
    **{"arithmetic-1": arithmetic, "arithmetic-2": fractions, "algebra-1": linear, "algebra-2": product},
    **{"probability-1": marbles, "geometry-1": diagonal, "sequences-1": sequence, "percentages-1": price},
    **{"puzzles-1": rabbits, "sets-1": both, "temporal-1": minutes, "word_problems-1": ride, "word_problems-2": pumps},
}
IN_WORDS = {"deduction-1", "deduction-3", "analogy-1", "causal-1"}
RELATED = {
    "leads": "captain ship conductor orchestra coach team mayor city principal school",
    "works with": "carpenter hammer surgeon scalpel writer pen photographer camera gardener spade",
    "bears": "cat kitten dog puppy cow calf horse foal sheep lamb",
}
CAUSES = {
    "pavements": "rain",
    "swimmers": "heat",
    "pupils": "age",
    "Towns": "population",
    "pipes": "frost",
    "ferries": "fog",
}


def prompts(suite: Suite) -> dict[str, str]:
    return {sample.id: str(sample.prompt) for sample in suite.samples}


def targets(suite: Suite) -> dict[str, str]:
    return {sample.id: str(sample.reference["target"]) for sample in suite.samples}


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_numeric_answers_are_right(seed: int) -> None:
    suite = variants("capability", seed)
    for name, solve in NUMERIC.items():
        assert Fraction(targets(suite)[name]) == solve(prompts(suite)[name]), prompts(suite)[name]
        assert targets(suite)[name] not in prompts(suite)[name]


def test_the_solvers_agree_with_the_suite_file_itself() -> None:
    for name, solve in NUMERIC.items():
        assert Fraction(targets(BASE)[name]) == solve(prompts(BASE)[name])


@pytest.mark.parametrize("seed", range(100))
def test_no_variant_is_degenerate(seed: int) -> None:
    suite = variants("capability", seed)
    asked, found = prompts(suite), targets(suite)
    assert all(Fraction(found[name]) > 0 for name in NUMERIC)
    assert Fraction(found["arithmetic-2"]).denominator > 1
    _, chess, go, _ = numbers(asked["sets-1"])
    assert int(found["sets-1"]) not in (chess - int(found["sets-1"]), go - int(found["sets-1"]))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_code_prints_its_answer(seed: int) -> None:
    suite = variants("capability", seed)
    for name in ("code-1", "code-2", "code-3"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(prompts(suite)[name].split("\n\n", 1)[1], {})
        assert printed.getvalue().strip() == targets(suite)[name]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_orders_directions_and_codes_are_right(seed: int) -> None:
    suite = variants("capability", seed)
    asked, found = prompts(suite), targets(suite)
    clues = re.findall(r"(\w+) arrived (before|after) (\w+)\.", asked["deduction-2"])
    orders = [
        order
        for order in itertools.permutations(["Ravi", "Lena", "Otto", "Mika"])
        if all((order.index(a) < order.index(b)) == (where == "before") for a, where, b in clues)
    ]
    assert {order[2] for order in orders} == {found["deduction-2"]}
    facing = {"north": (0, 1), "east": (1, 0), "south": (0, -1), "west": (-1, 0)}
    x, y = facing[re.findall(r"You face (\w+)", asked["spatial-1"])[0]]
    for turn in re.findall(r"to the right|around|to the left", asked["spatial-1"]):
        x, y = {"to the right": (y, -x), "around": (-x, -y), "to the left": (-y, x)}[turn]
    assert facing[found["spatial-1"]] == (x, y)
    codes = [(ord(letter), int(number)) for letter, number in re.findall(r"([A-Z])(\d+)", asked["pattern-1"])]
    steps = {
        (b[0] - a[0], b[1] - a[1])
        for a, b in itertools.pairwise([*codes, (ord(found["pattern-1"][0]), int(found["pattern-1"][1:]))])
    }
    assert len(steps) == 1
    assert "A" <= found["pattern-1"][0] <= "Z"


def possible(prompt: str) -> bool:
    """Is there a world of three things in which both statements hold, and something is of the first kind and the third?"""
    (one, two), (how, three, four), (a, c) = (
        re.findall(r"Every (\w+) is a (\w+)\.", prompt)[0],
        re.findall(r"\. (No|Some|Every) (\w+) is a (\w+)\.", prompt)[0],
        re.findall(r"some (\w+) is a (\w+)\?", prompt)[0],
    )
    names = sorted({one, two, three, four})
    for sets in itertools.product(range(8), repeat=3):
        world = dict(zip(names, sets, strict=True))
        common = world[three] & world[four]
        second = {"No": not common, "Some": bool(common), "Every": common == world[three]}[how]
        if second and all(sets) and world[one] & ~world[two] == 0 and world[a] & world[c]:
            return True
    return False


def certain(prompt: str) -> bool:
    """Does the claim hold in every state of device and lamp in which the rule and what is seen hold?"""
    thing, on, lamp = re.findall(r"Whenever the (.+) is (\w+), the (.+) is lit\.", prompt)[0]
    (seen,), (claim,) = re.findall(r"Right now (.+?)\.", prompt), re.findall(r"certain that (.+)\?", prompt)
    states = [(x, y) for x in (False, True) for y in (False, True) if y or not x]

    def holds(said: str, x: bool, y: bool) -> bool:
        return {f"the {thing} is {on}": x, f"the {thing} is not {on}": not x, f"the {lamp} is lit": y}.get(said, not y)

    return all(holds(claim, *state) for state in states if holds(seen, *state))


@pytest.mark.parametrize("seed", range(60))
def test_what_is_asked_in_words_has_its_one_answer(seed: int) -> None:
    suite = variants("capability", seed)
    asked, found = prompts(suite), targets(suite)
    assert found["deduction-1"] == ("yes" if possible(asked["deduction-1"]) else "no")
    assert found["deduction-3"] == ("yes" if certain(asked["deduction-3"]) else "no")
    first, of, second, options = re.findall(r"(\w+) is to (\w+) as (\w+) is to .*: (.+)\?", asked["analogy-1"])[0]
    (words,) = (words.split() for words in RELATED.values() if first.lower() in words.split())
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    assert pairs[first.lower()] == of
    assert [option for option in options.split(", ") if option in words] == [pairs[second]] == [found["analogy-1"]]
    assert [cause for word, cause in CAUSES.items() if word in asked["causal-1"]] == [found["causal-1"]]
    assert found["causal-1"] in asked["causal-1"].rpartition(": ")[2].rstrip("?").split(", ")
    for name in ("analogy-1", "causal-1"):
        assert set(suite.scorers[name].parameters["choices"]) == set(
            asked[name].rpartition(": ")[2].rstrip("?").split(", ")
        )


def test_their_answers_differ_from_seed_to_seed() -> None:
    found = [targets(variants("capability", seed)) for seed in range(30)]
    for name in ("deduction-1", "deduction-3"):
        assert {answers[name] for answers in found} == {"yes", "no"}
    for name in ("analogy-1", "causal-1"):
        assert len({answers[name] for answers in found}) >= 5


def test_a_seed_gives_one_suite_and_no_two_give_the_same() -> None:
    made = [variants("capability", seed) for seed in range(20)]
    assert len({BASE.digest, *(suite.digest for suite in made)}) == 21
    assert variants("capability", 7).digest == made[7].digest
    assert variants("capability", 7).samples == made[7].samples
    assert len({suite.name for suite in made}) == 20


def test_a_variant_asks_the_same_questions_with_other_values() -> None:
    for seed in range(10):
        suite = variants("capability", seed)
        check_suite(suite)
        assert [s.id for s in suite.samples] == [s.id for s in BASE.samples]
        assert (suite.groups, suite.options) == (BASE.groups, BASE.options)
        assert {name for name in suite.scorers if suite.scorers[name] != BASE.scorers[name]} <= IN_WORDS
        assert not {name for name, prompt in prompts(suite).items() if prompt == prompts(BASE)[name]}
        assert all(sample.metadata["seed"] == seed for sample in suite.samples)


def test_the_suite_file_is_a_case_of_its_templates() -> None:
    from assay.suites.variants import QUESTIONS

    for name, question in QUESTIONS["capability"].items():
        assert question.asked(question.base) == prompts(BASE)[name]
        assert question.answer(question.base) == targets(BASE)[name]
        assert question.checks(question.base).items() <= BASE.scorers[name].parameters.items()
    assert {s.id for s in BASE.samples} == set(QUESTIONS["capability"])


def test_a_suite_without_templates_has_no_variants() -> None:
    with pytest.raises(BadInput, match="the suite 'capabilty' has no variants; did you mean 'capability'"):
        variants("capabilty", 1)
