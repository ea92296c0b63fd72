"""Which answers of two sides are to one question, where each side says itself what it asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from assay.types import Cell


class Paired(NamedTuple):
    """Both sides' cells, one question under one name. unlike: by suite, ids under which the sides asked different ones."""

    old: list[Cell]
    new: list[Cell]
    unlike: Mapping[str, Sequence[str]]


def paired(old: Sequence[Cell], new: Sequence[Cell]) -> Paired:
    """Pair by ids; in suites where a side has none, by the questions.

    A question without an id is called by the number of its line in `old`. An id whose questions are known and differ is
    on neither side any more. Cells that don't know their question keep their names.
    """
    by_question = {cell.suite for cell in (*old, *new) if cell.numbered and cell.question}
    names: dict[tuple[str, str], str] = {}
    for cell in old:
        if cell.suite in by_question and cell.question:
            names.setdefault((cell.suite, cell.question), cell.sample)

    def named(cells: Iterable[Cell]) -> list[Cell]:
        # What only `new` asked is in no pair: any name will do that no id of `old` has.
        found = [(cell, cell.suite in by_question and cell.question) for cell in cells]
        return [
            replace(cell, sample=names.get((cell.suite, question), question)) if question else cell
            for cell, question in found
        ]

    before, after = named(old), named(new)
    unlike = _unlike(before, after)
    left_out = {(suite, name) for suite, samples in unlike.items() for name in samples}
    before, after = ([c for c in side if (c.suite, c.sample) not in left_out] for side in (before, after))
    return Paired(before, after, unlike)


def _unlike(old: Sequence[Cell], new: Sequence[Cell]) -> dict[str, list[str]]:
    asked = _asked(old), _asked(new)
    found: dict[str, list[str]] = {}
    for (suite, name), questions in asked[0].items():
        if not questions & asked[1].get((suite, name), questions):
            found.setdefault(suite, []).append(name)
    return found


def _asked(cells: Sequence[Cell]) -> dict[tuple[str, str], set[str]]:
    """What stood under each suite's ids, as far as it is known."""
    asked: dict[tuple[str, str], set[str]] = {}
    for cell in cells:
        if cell.question:
            asked.setdefault((cell.suite, cell.sample), set()).add(cell.question)
    return asked
