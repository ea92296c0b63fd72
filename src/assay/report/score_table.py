"""The table that `assay score` ends with, and `report` shows again: averages per model, with intervals and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO, TypeAlias

from assay.report.figures import number_figure, share_figure
from assay.results.means import Means
from assay.results.tally import Tally
from assay.results.weighted import WeightedMeans

if TYPE_CHECKING:
    from assay.report.blocks import Column
    from assay.results.lens import Lens

Tallies: TypeAlias = Mapping[tuple[str, str, str], Tally]  # by model, suite and metric


def answer_tables(lens: Lens, run: str | None = None, suite: str | None = None) -> dict[str, Tallies]:
    """From a run's name to its answers from files as they were last scored; of this `run` and `suite` only, if named."""
    runs = dict.fromkeys(r for r, s in lens.answer_suites() if run in (None, r) and suite in (None, s))
    return {name: lens.tallies(name, suite) for name in runs}


def former_note(lens: Lens, run: str) -> str:
    """A sentence about the answers of a run that are in no table, since their file has changed; "" if there are none."""
    count = lens.former_answers(run)
    if not count:
        return ""
    many = "1 answer is" if count == 1 else f"{count:,} answers are"
    return f"{run}: {many} left out, in part or whole: the file has changed since; score it again for what is missing"


def tally_rows(tallies: Tallies, run: str) -> list[dict[str, object]]:
    """One row a model, suite and metric, for JSON. mean is None where nothing was scored, low and high where nothing tells."""
    rows: list[dict[str, object]] = []
    for (model, suite, metric), tally in tallies.items():
        interval, means = tally.interval(), tally.means()
        rows.append(
            {
                "run": run,
                "model": model,
                "suite": suite,
                "metric": metric,
                "mean": means.shown if tally.scored else None,
                "low": interval[0] if interval else None,
                "high": interval[1] if interval else None,
                "correct": tally.correct if tally.boolean else None,
                "asked": tally.asked,
                "scored": tally.scored,
                "failed": tally.failed,
                "truncated": tally.truncated,
                "questions": means.questions,
            }
        )
    return rows


def print_tallies(tallies: Tallies, stream: TextIO | None = None) -> None:
    """Print a line a suite and metric, a column a model, on `stream` (standard output)."""
    from assay.report.blocks import blocks, console_on, print_all

    console = console_on(stream)
    print_all(console, blocks(*tally_columns(tallies), console.width))


def tally_columns(tallies: Tallies, what: str = "suite", whose: str = "answers") -> tuple[list[Column], list[Column]]:
    """The table's labels, suite (called `what`) and metric, and a column a model, called `whose` where it has no name."""
    from assay.report.blocks import Column

    models = list(dict.fromkeys(model for model, _, _ in tallies))
    suites = list(dict.fromkeys(suite for _, suite, _ in tallies))
    heads = sorted(
        dict.fromkeys((suite, metric) for _, suite, metric in tallies), key=lambda head: suites.index(head[0])
    )
    repeated = ["" if row and heads[row - 1][0] == suite else suite for row, (suite, _) in enumerate(heads)]
    labels = [Column(what, repeated), Column("metric", [metric for _, metric in heads])]
    columns = [
        Column(model or whose, [_cell(tallies.get((model, suite, metric))) for suite, metric in heads])
        for model in models
    ]
    return labels, columns


def _cell(tally: Tally | None) -> str:
    if tally is None:
        return "–"
    means = tally.means()
    counts = f"n={_counted(means)}"
    if tally.failed:
        counts += f", {tally.failed} failed"
    if tally.truncated:
        counts += f", {tally.truncated} truncated"
    if not tally.scored:
        return f"– ({counts})"
    figure = share_figure if tally.boolean else number_figure
    return f"{figure(means.shown, tally.interval())} ({counts})"


def _counted(means: Means | WeightedMeans) -> str:
    """`50` questions, `50×4` where each has so many answers with a score, `50, 198 answers` where not all have as many."""
    if means.answers == means.questions:
        return str(means.questions)
    # The sum of 1 / answers is least where each question has as many.
    each, rest = divmod(means.answers, means.questions)
    even = rest == 0 and math.isclose(means.shares * each, means.questions, rel_tol=1e-9)
    return f"{means.questions}×{each}" if even else f"{means.questions}, {means.answers} answers"
