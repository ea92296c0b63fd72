"""Answers of many styles: honest ones, and wrong ones in which the right value stands all the same (`final_answers.yaml`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_DATA: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_EACH = 3  # problems that a template is tried on


class Problem(NamedTuple):
    """right, wrong: values as they would be written. target: the right one, as the reference has it."""

    question: str
    target: str
    right: str
    wrong: str
    noun: str
    work: str
    number: bool


PROBLEMS = tuple(Problem(**problem) for problem in _DATA["problems"])
NUMBERS = tuple(problem for problem in PROBLEMS if problem.number)
KINDS: Mapping[str, Sequence[str]] = {**_DATA["wrong"], "numbers": _DATA["wrong_numbers"]}


def honest() -> Iterator[tuple[Problem, str]]:
    yield from _tried(_DATA["honest"], PROBLEMS)
    yield from _tried(_DATA["honest_numbers"], NUMBERS)


def answered() -> Iterator[tuple[str, str, str]]:
    """Questions, their targets, and right answers in words of their own."""
    for each in _DATA["answered"]:
        yield from ((each["question"], each["target"], answer) for answer in each["answers"])


def wrong(kind: str) -> Iterator[tuple[Problem, str]]:
    yield from _tried(KINDS[kind], NUMBERS if kind == "numbers" else PROBLEMS)


def loops_and_echoes() -> Iterator[tuple[Problem, str]]:
    for problem in PROBLEMS:
        for text in (
            f"It is {problem.right}. " * 60,
            f"{problem.right} " * 60,
            problem.question,
            f"> {problem.question}",
        ):
            yield problem, text


def _tried(templates: Sequence[str], problems: Sequence[Problem]) -> Iterator[tuple[Problem, str]]:
    """Each template with a few of the problems, in turn."""
    for index, template in enumerate(templates):
        for step in range(_EACH):
            problem = problems[(index + 5 * step) % len(problems)]
            yield problem, _written(template, problem)


def _written(template: str, problem: Problem) -> str:
    """The template filled in; where nothing is counted, the noun is left out, with the space before it."""
    money = "boxed" in template and problem.right.startswith("$")  # in TeX a dollar needs its backslash
    right, wrong_ = (("\\" if money else "") + value for value in (problem.right, problem.wrong))
    text = template.format(r=right, w=wrong_, n=problem.noun or "\x00", q=problem.question, work=problem.work)
    return text.replace(" \x00", "").replace("\x00", "")
