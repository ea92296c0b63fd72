"""The file that `assay score -o` writes: one JSON object a line, in input order."""

from __future__ import annotations

import math
from pathlib import Path
from shlex import quote
from typing import Any

import msgspec

from assay.errors import BadInput, at
from assay.plugins import nearest
from assay.results.columns import Column
from assay.types import Cell

# Not a metric: what a scorer took for the answer.
EXTRACTED = "extracted"


class FailureLine(msgspec.Struct):
    """Why a metric has no score."""

    suite: str
    metric: str
    error_class: str
    reason: str


class JudgedLine(msgspec.Struct):
    """Who gave the scores of these metrics, and by what measure. bounds: the least and the most that each number can be."""

    suite: str
    scorer: str
    judge: str
    measure: str
    metrics: list[str]
    bounds: dict[str, tuple[float, float]] = {}


class ScoreLine(msgspec.Struct):
    """One answer. scores: suite → name → value (a metric's number or boolean, or what a scorer extracted).

    repeat: which of the model's answers to the question `id`, where it was asked several times. question: a digest of it.
    numbered: the id is only the line's number. beginning: that of the question, then.
    """

    id: str
    model: str
    scores: dict[str, dict[str, Any]] = {}
    failures: list[FailureLine] = []
    group: str = "all"
    repeat: int = 0
    question: str = ""
    numbered: bool = False
    beginning: str = ""
    judged: list[JudgedLine] = []


# Each line that `assay score` writes has the key, if there is no score under it.
_SCORES = b'"scores":'

_decoder = msgspec.json.Decoder(ScoreLine)


def read_score_file(path: Path, model: str | None = None) -> list[tuple[Column, Cell]]:
    """The cells of one model's answers, with the column of each.

    Raises `BadInput` if the file is something else, or holds several models unnamed.
    """
    with path.open("rb") as file:
        lines = [_line(path, number, text) for number, text in enumerate(file, 1)]
    if not lines:
        raise BadInput(f"{path} holds no scores")
    models = list(dict.fromkeys(line.model for line in lines))
    if model is None and len(models) > 1:
        raise BadInput(f"{path} holds {len(models)} models; name one: {path}#{next(filter(None, models))}")
    if model is not None and model not in models:
        raise BadInput(f"{path} holds no model {model!r}; {nearest(model, models)}")
    return [cell for line in lines if model in (None, line.model) for cell in _cells(path, line)]


def _line(path: Path, number: int, text: bytes) -> ScoreLine:
    try:
        line = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        line = None
    if line is not None and (line.scores or line.failures or _SCORES in text):
        return line
    if number == 1:
        raise BadInput(
            f"{path} is no file of scores; if it holds answers, score them first: "
            f"assay score {quote(str(path))} -o scored.jsonl"
        )
    raise BadInput(at(path, number, "not a line that assay score writes; score the answers again with assay score -o"))


def _cells(path: Path, line: ScoreLine) -> list[tuple[Column, Cell]]:
    columns = {
        (by.suite, metric): Column(metric, by.scorer, by.judge, by.measure)
        for by in line.judged
        for metric in by.metrics
    }
    bounds = {(by.suite, metric): found for by in line.judged for metric, found in by.bounds.items()}

    def cell(suite: str, metric: str, outcome: Any, value: Any) -> tuple[Column, Cell]:
        boolean = not isinstance(value, int | float) or isinstance(value, bool)
        number = None if value is None else float(value)
        place = (path.name, line.model, 0, line.model, suite, line.group, line.id, metric)
        # The file says the bounds of a judge's numbers alone.
        low, high = (0.0, 1.0) if boolean else bounds.get((suite, metric), (-math.inf, math.inf))
        column = columns.get((suite, metric)) or Column(metric, "", "", "")
        return column, Cell(*place, outcome, number, boolean, low, high, line.question, line.numbered, line.beginning)

    found = [
        cell(suite, metric, "scored", value)
        for suite, metrics in line.scores.items()
        for metric, value in metrics.items()
        if isinstance(value, bool | int | float) and metric != EXTRACTED
    ]
    for failure in line.failures:
        if not failure.suite:  # no suite has counted it
            continue
        outcome = "truncated" if failure.error_class == "truncated" else "failed"
        found.append(cell(failure.suite, failure.metric, outcome, None))
    return found
