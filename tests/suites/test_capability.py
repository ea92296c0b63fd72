"""The capability suite: twenty-three questions, each with one answer that is worked out here a second time."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest

from assay.scorers.base import check_suite
from assay.suites.suite import builtin_suites, load_suite
from assay.types import GenerateOptions

SUITE = load_suite("capability")
TARGETS = {sample.id: str(sample.reference["target"]) for sample in SUITE.samples}
PROMPTS = {sample.id: str(sample.prompt) for sample in SUITE.samples}


def test_the_categories_are_the_sixteen_with_their_counts() -> None:
    assert "capability" in builtin_suites()
    assert SUITE.name == "capability"
    assert SUITE.options == GenerateOptions(temperature=0.1, max_tokens=500)
    counts = Counter(sample.group for sample in SUITE.samples)
    twice = {"arithmetic": 2, "algebra": 2, "word_problems": 2, "deduction": 3, "code": 3}
    once = ("probability", "geometry", "sequences", "percentages", "puzzles", "sets", "analogy", "causal", "spatial")
    assert counts == {**dict.fromkeys((*once, "temporal", "pattern"), 1), **twice}
    assert len(SUITE.samples) == 23
    for sample in SUITE.samples:
        group, _, number = sample.id.rpartition("-")
        assert (group, number.isdigit()) == (sample.group, True)


def test_every_question_fits_its_checker() -> None:
    assert all(scorer.name == "probe_answer" for scorer in check_suite(SUITE).values())


def test_no_numeric_answer_can_be_copied_from_its_question() -> None:
    for name, target in TARGETS.items():
        if target[0].isdigit() or target[0] == "[":
            assert target not in PROMPTS[name]


@pytest.mark.parametrize("name", ["code-1", "code-2", "code-3"])
def test_code_prints_its_target(name: str) -> None:
    program = PROMPTS[name].split("\n\n", 1)[1]
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == TARGETS[name]


def test_arithmetic_algebra_and_geometry() -> None:
    assert TARGETS["arithmetic-1"] == str(47 * 36 - 128)
    assert Fraction(TARGETS["arithmetic-2"]) == Fraction(7, 12) + Fraction(3, 8)
    assert [x for x in range(-99, 99) if 5 * x - 17 == 2 * x + 25] == [int(TARGETS["algebra-1"])]
    pairs = [(x, y) for x in range(-99, 99) for y in range(-99, 99) if (x + y, x - y) == (31, 7)]
    assert [x * y for x, y in pairs] == [int(TARGETS["algebra-2"])]
    assert int(TARGETS["geometry-1"]) ** 2 == 45**2 + 28**2


def test_counting() -> None:
    marbles = ["red"] * 5 + ["blue"] * 3 + ["green"] * 4
    draws = list(itertools.permutations(range(12), 2))
    red = sum(marbles[a] == marbles[b] == "red" for a, b in draws)
    assert Fraction(TARGETS["probability-1"]) == Fraction(red, len(draws))
    rabbits = [r for r in range(24) if 4 * r + 2 * (23 - r) == 64]
    assert rabbits == [int(TARGETS["puzzles-1"])]
    both = [n for n in range(21) if (25 - n) + (20 - n) + n + 8 == 42]
    assert both == [int(TARGETS["sets-1"])]


def test_sequences_prices_times_and_rates() -> None:
    terms = [3]
    while len(terms) < 6:
        terms.append(2 * terms[-1] + 2)
    assert ", ".join(map(str, terms[:5])) in PROMPTS["sequences-1"]
    assert TARGETS["sequences-1"] == str(terms[5])
    assert Fraction(TARGETS["percentages-1"]) == 240 * Fraction(85, 100) * Fraction(110, 100)
    assert TARGETS["temporal-1"] == str((21 * 60 + 10) - (19 * 60 + 25))
    assert Fraction(TARGETS["word_problems-1"]) == Fraction(45, 60) * 20 + Fraction(90, 60) * 16
    assert 1 / Fraction(TARGETS["word_problems-2"]) == Fraction(1, 4) + Fraction(1, 6)


def test_deductions_hold_in_every_case() -> None:
    things = list(itertools.product((False, True), repeat=3))
    allowed = [(glim, torv, plask) for glim, torv, plask in things if (torv or not glim) and not (torv and plask)]
    assert not any(glim and plask for glim, _, plask in allowed)
    assert TARGETS["deduction-1"] == "no"
    orders = [
        order
        for order in itertools.permutations(["Ravi", "Lena", "Otto", "Mika"])
        if order.index("Ravi") < order.index("Lena") < order.index("Otto") < order.index("Mika")
    ]
    assert {order[2] for order in orders} == {TARGETS["deduction-2"]}
    cases = [
        (armed, lit) for armed, lit in itertools.product((False, True), repeat=2) if (lit or not armed) and not lit
    ]
    assert not any(armed for armed, _ in cases)
    assert TARGETS["deduction-3"] == "yes"


def test_directions_and_codes() -> None:
    x, y = 0, 1  # north
    x, y = y, -x  # right
    x, y = -x, -y  # around
    x, y = -y, x  # left
    assert {(0, -1): "south"}[x, y] == TARGETS["spatial-1"]
    assert TARGETS["pattern-1"] == f"{chr(ord('A') + 4 * 3)}{2 + 4 * 2}"
