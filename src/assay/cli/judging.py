"""`--judge` and `--votes`, as several verbs take them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated

from cyclopts import Parameter

from assay.cli.settings import Config
from assay.errors import BadInput
from assay.models.base import TextModel
from assay.models.open import open_model
from assay.scorers.base import Scorer
from assay.scorers.judge import MAX_VOTES, Judge
from assay.scorers.rubric_file import load_rubric
from assay.suites.suite import Suite
from assay.types import Sample

Judging = Annotated[
    str | None, Parameter(help="The model that judges: a URL with #MODEL, a local model, or a name from assay.toml.")
]
Votes = Annotated[int, Parameter(help="Verdicts asked of the judge for each answer; their median counts.")]


async def open_judge(name: str | None, found: Config) -> TextModel | None:
    """The judging model by name or spec; None where none was named."""
    if name is None:
        return None
    named = found.model(name)
    return await open_model(named.spec, named.settings, http=named.http)


async def close_judge(model: TextModel | None) -> None:
    """Close it, and say it where the judge could not be held to the rubrics' schema, or refused an option."""
    if model is None:
        return
    if getattr(model, "takes_schemas", True) is False:
        print(f"assay: {model.info.name} takes no JSON schema, so its replies were read as plain text", file=sys.stderr)
    refused = [option for option in ("temperature", "seed") if option in getattr(model, "refused", ())]
    if refused:
        print(f"assay: {model.info.name} takes no {' and no '.join(refused)}, so it judged by its own", file=sys.stderr)
    await model.aclose()


def judge_maker(model: TextModel | None, votes: int) -> Callable[[str], Judge] | None:
    """Makes a judge for a rubric, by its name or file. Raises `BadInput` for a number of votes out of range."""
    if not 1 <= votes <= MAX_VOTES:
        raise BadInput(f"--votes {votes}: give a whole number from 1 to {MAX_VOTES}")
    if model is None:
        return None
    return lambda rubric: Judge(model, load_rubric(rubric), votes=votes)


def judges_of(model: TextModel | None, votes: int) -> Callable[[Suite, Sample], Sequence[Scorer]]:
    """The judges that a probe's answer gets besides its own scorer.

    By the rubrics of its suite, and by the content rubric where there is a ground truth; none without a model.
    """
    make = judge_maker(model, votes)
    judge = cache(make) if make is not None else None

    def judges(suite: Suite, sample: Sample) -> Sequence[Scorer]:
        if judge is None:
            return ()
        truth = ["content"] if "ground_truth" in sample.reference else []
        return [judge(rubric) for rubric in dict.fromkeys([*suite.rubrics, *truth])]

    return judges
