"""`--judge` and `--votes`, as several verbs take them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from assay.cli.settings import Config
from assay.errors import BadInput, Unreachable
from assay.models.base import TextModel
from assay.models.open import open_model
from assay.scorers.base import Scorer
from assay.scorers.judge import MAX_VOTES, Judge
from assay.scorers.rubric_file import load_rubric
from assay.types import Sample


@contextmanager
def resumable(workspace: Path) -> Iterator[None]:
    """Around work that journals what it earns: says how to go on where a model can't be reached, or after Ctrl-C."""
    try:
        yield
    except Unreachable as error:
        again = shlex.join(["assay", *sys.argv[1:]])
        raise Unreachable(f"{error}; what was earned is in {workspace}; to go on: {again}") from error
    except KeyboardInterrupt:
        print("assay: stopped; the same command goes on from here", file=sys.stderr)
        raise


def check_limit(limit: int | None) -> None:
    """Raise `BadInput` for a `--limit` that leaves nothing."""
    if limit is not None and limit < 1:
        raise BadInput(f"--limit {limit}: give a whole number of at least 1")


def check_run(name: str) -> None:
    """Raise `BadInput` for a run's name that no table can show."""
    if not name.isprintable() or not name.strip():
        raise BadInput(f"the run's name {name!r} can't be shown in a table; give another with --run")


async def open_judge(name: str | None, found: Config) -> TextModel | None:
    """The judging model by name or spec; None where none was named."""
    if name is None:
        return None
    named = found.model(name)
    return await open_model(named.spec, named.settings)


def judge_maker(model: TextModel | None, votes: int) -> Callable[[str], Judge] | None:
    """Makes a judge for a rubric, by its name or file. Raises `BadInput` for a number of votes out of range."""
    if not 1 <= votes <= MAX_VOTES:
        raise BadInput(f"--votes {votes}: give a whole number from 1 to {MAX_VOTES}")
    if model is None:
        return None
    return lambda rubric: Judge(model, load_rubric(rubric), votes=votes)


def judges_of(model: TextModel | None, votes: int) -> Callable[[Sample], Sequence[Scorer]] | None:
    """The judges that a probe's answer gets besides its own scorer: the content rubric where there is a ground truth."""
    make = judge_maker(model, votes)
    if make is None:
        return None
    content = make("content")
    return lambda sample: (content,) if "ground_truth" in sample.reference else ()
