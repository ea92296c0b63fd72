"""Rubrics as data: the built-in ones, users' own, and every way in which a file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.errors import SuiteError
from assay.scorers.rubric import Dimension, Input, Rubric
from assay.scorers.rubric_file import BUILTIN, builtin_rubrics, load_rubric
from tests.making import written

EXPECTED = {
    "semantic": (("sovereignty", "ethical_depth", "creative_expression", "self_concept"), 1, 10, True),
    "content": (
        (
            "ccp_compliance",
            "truth_telling",
            "engagement",
            "axiom_integration",
            "sovereignty_reasoning",
            "emotional_register",
        ),
        0,
        10,
        True,
    ),
    "capability": (("reasoning", "correctness", "clarity"), 0, 10, False),
    "truthfulqa": (("truthfulness", "informativeness"), 1, 10, True),
    "do_not_answer": (("safety", "nuance"), 1, 10, True),
    "toxigen": (("kindness", "awareness"), 1, 10, True),
}

GOOD = """\
name: brevity
version: 2
inputs:
  question: prompt
  answer: answer
  ideal: {from: reference.best_answer, optional: true}
dimensions:
  brevity:
    range: [1, 5]
    asks: Is it short?
    anchors: {"1": long, "5": short}
  tone:
    range: [-1, 1]
    decimals: true
    asks: Is it friendly?
    anchors: {"-1": rude, "0": neutral, "1": friendly}
"""


def test_the_built_in_rubrics() -> None:
    assert builtin_rubrics() == tuple(sorted(EXPECTED))
    for name, (metrics, low, high, whole) in EXPECTED.items():
        rubric = load_rubric(name)
        assert (rubric.name, rubric.metrics) == (name, metrics)
        for dimension in rubric.dimensions:
            assert (dimension.low, dimension.high, dimension.whole) == (low, high, whole)
            assert len(dimension.anchors) >= 4
            assert len({means for _, means in dimension.anchors}) == len(dimension.anchors)
            assert dimension.asks
    assert len({load_rubric(name).digest for name in EXPECTED}) == len(EXPECTED)


# A word that is changed in a rubric makes other scores. So it makes another version, and its line here changes with it.
DIGESTS = {
    ("capability", 2): "1982d6af6aff033b",
    ("content", 2): "e65b08894d86bf1d",
    ("do_not_answer", 2): "442d533fd7c3c41c",
    ("semantic", 2): "7e4bab5c17ad22d4",
    ("toxigen", 2): "948efe0aff77599b",
    ("truthfulqa", 2): "9bfc2cc18bc99410",
}


def test_a_changed_rubric_has_a_new_version() -> None:
    assert {(name, (rubric := load_rubric(name)).version): rubric.digest[:16] for name in EXPECTED} == DIGESTS


def test_what_the_built_in_rubrics_show() -> None:
    def sources(name: str) -> set[str]:
        return {item.source for item in load_rubric(name).inputs}

    assert "reference.best_answer" in sources("truthfulqa")
    assert "reference.risk_area" in sources("do_not_answer")
    assert {"reference.ground_truth", "reference.evasion_markers", "reference.fact_markers"} <= sources("content")
    assert sources("semantic") == sources("toxigen") == {"prompt", "answer"}


def test_which_numbers_count_something_bad() -> None:
    lower = {d.name for name in EXPECTED for d in load_rubric(name).dimensions if d.lower_is_better}
    assert lower == {"ccp_compliance"}


def test_a_users_own_rubric(tmp_path: Path) -> None:
    rubric = load_rubric(written(tmp_path / "brevity.yaml", GOOD))
    assert rubric.metrics == ("brevity", "tone")
    assert rubric.inputs[2] == Input("ideal", "reference.best_answer", optional=True)
    assert rubric.dimensions[1].anchors == ((-1.0, "rude"), (0.0, "neutral"), (1.0, "friendly"))
    assert rubric.template.count("{{") == 3  # one is made where none is given
    assert rubric.reason
    assert load_rubric(str(tmp_path / "brevity.yaml")) == rubric


def test_the_schema_is_strict() -> None:
    schema = load_rubric("capability").schema()
    assert list(schema["properties"]) == ["reason", "reasoning", "correctness", "clarity"]
    assert schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
    assert schema["properties"]["clarity"] == {"type": "number", "minimum": 0, "maximum": 10}
    assert load_rubric("semantic").schema()["properties"]["sovereignty"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10,
    }
    json.dumps(schema)


def test_the_schema_without_a_reason(tmp_path: Path) -> None:
    rubric = load_rubric(written(tmp_path / "r.yaml", GOOD + "reason: false\n"))
    assert rubric.schema()["required"] == ["brevity", "tone"]


@pytest.mark.parametrize(
    "change",
    [
        ("name: brevity", "name: shortness"),
        ("version: 2", "version: 3"),
        ("Is it short?", "Is it brief?"),
        ('"5": short', '"5": brief'),
        ("[1, 5]", "[1, 5]\n    decimals: true"),
        (", optional: true", ""),
        ("version: 2", "version: 2\nguidance: Be strict."),
        ("version: 2", "version: 2\nreason: false"),
        ("    asks: Is it short?", "    better: lower\n    asks: Is it short?"),
    ],
)
def test_every_change_changes_the_digest(tmp_path: Path, change: tuple[str, str]) -> None:
    before = load_rubric(written(tmp_path / "r.yaml", GOOD))
    assert GOOD.count(change[0]) == 1
    after = load_rubric(written(tmp_path / "r.yaml", GOOD.replace(*change)))
    assert before.digest != after.digest


NO_DIMENSIONS = GOOD[: GOOD.index("dimensions:")]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (NO_DIMENSIONS, 1, "needs the key 'dimensions'"),
        (NO_DIMENSIONS + "dimensions: {}\n", 7, "no dimensions, so there is nothing to score"),
        (NO_DIMENSIONS + "dimensions: []\n", 7, "no dimensions"),
        (NO_DIMENSIONS + "dimensions:\n", 7, "no dimensions"),
        (NO_DIMENSIONS + "dimensions: many\n", 7, "must be a mapping"),
        (GOOD.replace("version: 2", "version: 0"), 2, "at least 1"),
        (GOOD.replace("version: 2", "version: true"), 2, "whole number"),
        (GOOD.replace("version: 2", "verzion: 2"), 2, "did you mean 'version'"),
        (GOOD.replace("[1, 5]", "[5, 1]"), 9, "lower one first"),
        (GOOD.replace("[1, 5]", "[1, 2, 5]"), 9, "two numbers"),
        (GOOD.replace("[1, 5]", "[true, 5]"), 9, "two numbers"),
        (GOOD.replace("[1, 5]", "high"), 9, "two numbers"),
        (GOOD.replace("[1, 5]", "[1, 4.5]"), 9, "decimals: true"),
        (GOOD.replace('"1": long, ', ""), 11, "what 1 means"),
        (GOOD.replace('"5": short', '"5": short, "6": shorter'), 11, "not from 1 to 5"),
        (GOOD.replace('"5": short', '"5": short, "5.0": shorter'), 11, "two anchors"),
        (GOOD.replace('"5": short', '"five": short'), 11, "a number in quotes"),
        (GOOD.replace('"5": short', "5: short"), 11, "write it in quotes"),
        (GOOD.replace('"5": short', '"nan": short'), 11, "not from 1 to 5"),
        (GOOD.replace("  brevity:\n", "  two words:\n"), 8, "letters, digits"),
        (GOOD.replace("  brevity:\n", "  reason:\n"), 8, "the judge's explanation"),
        (GOOD.replace("  tone:\n", "  brevity:\n"), 12, "line 8"),
        (GOOD.replace("  tone:\n", "  Brevity:\n"), 8, "'brevity' and 'Brevity' differ only in case"),
        (GOOD.replace("version: 2", 'version: "2"'), 2, "not '2'"),
        (GOOD.replace("Is it short?", "''"), 10, "asks must be text"),
        (GOOD.replace("  answer: answer\n", ""), 3, "no input shows the answer"),
        (GOOD.replace("question: prompt", "question: promt"), 4, "did you mean 'prompt'"),
        (GOOD.replace("question: prompt", "question: reference."), 4, "can't come from"),
        (GOOD.replace("question: prompt", "question: answer"), 3, "more than one input shows 'answer'"),
        (GOOD + "template: '{{question}} {{answer}}'\n", 17, "does not show the input 'ideal'"),
        (GOOD + "template: '{{question}} {{answer}} {{answer}} {{ideal}}'\n", 17, "more than once"),
        (GOOD + "template: '{{question}} {{anser}} {{ideal}}'\n", 17, "did you mean 'answer'"),
        (GOOD + "template: 'Q: {{question}} {{answer}} {{ideal}}'\n", 17, "'question' on a line of its own"),
        (GOOD + "reason: maybe\n", 17, "true or false"),
        (
            GOOD.replace("    asks: Is it short?", "    better: less\n    asks: Is it short?"),
            10,
            "higher or lower, not 'less'",
        ),
    ],
)
def test_a_wrong_file_is_named_by_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = written(tmp_path / "r.yaml", text)
    with pytest.raises(SuiteError) as caught:
        load_rubric(path)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)


def test_an_unknown_rubric() -> None:
    with pytest.raises(SuiteError, match=r"no rubric 'semantics'.*did you mean 'semantic'"):
        load_rubric("semantics")
    with pytest.raises(SuiteError, match="no such file"):
        load_rubric("nowhere/semantic.yaml")


def test_a_rubric_made_in_python_needs_dimensions_too() -> None:
    inputs = (Input("answer", "answer"),)
    with pytest.raises(ValueError, match="no dimensions"):
        Rubric("r", 1, inputs, (), "{{answer}}")
    one = Dimension("a", 0, 1, True, "?", ())
    with pytest.raises(ValueError, match="more than one dimension 'a'"):
        Rubric("r", 1, inputs, (one, one), "{{answer}}")
    with pytest.raises(ValueError, match="differs from 'a' only in case"):
        Rubric("r", 1, inputs, (one, Dimension("A", 0, 1, True, "?", ())), "{{answer}}")


@pytest.mark.parametrize("given", [1, 7, 10, 7.0, "7", " 7 ", "7/10", "7 / 10", "+7", "7.0"])
def test_values_that_are_scores(given: int | float | str) -> None:
    assert load_rubric("semantic").dimensions[0].value(given) in (1, 7, 10)


@pytest.mark.parametrize(
    "given",
    [
        0,
        11,
        -7,
        7.5,
        "7.5",
        True,
        False,
        None,
        float("nan"),
        float("inf"),
        10**400,
        "nan",
        "inf",
        "7,5",
        "0x7",
        "seven",
        "7/5",
        "4/5",
        "7/0",
        "7-8",
        "7 or 8",
        "7/10/10",
        "٧",
        "７",
        "7%",
        "",
        [7],
        {"score": 7},
        "1e0",
        "7 out of 10",
    ],
)
def test_values_that_are_none(given: object) -> None:
    with pytest.raises(ValueError, match="must be a whole number from 1 to 10"):
        load_rubric("semantic").dimensions[0].value(given)  # type: ignore[arg-type]


def test_decimals_where_the_rubric_has_them() -> None:
    clarity = load_rubric("capability").dimensions[2]
    assert clarity.value(7.25) == clarity.value("7.25") == 7.25
    with pytest.raises(ValueError, match="a number from 0 to 10"):
        clarity.value(10.01)


def test_every_built_in_file_is_a_rubric() -> None:
    assert {path.stem for path in BUILTIN.iterdir()} == set(EXPECTED)
