"""`assay score` for programs: answers from a file or from memory, scored by suites, scorers and functions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from assay.api.scores import Scores
from assay.errors import BadInput
from assay.models.base import TextModel
from assay.models.open import opened
from assay.models.sync import plain
from assay.results.index import Ledger
from assay.scorers.base import Scorer
from assay.scorers.functions import FunctionScorer, ScoreFunction
from assay.scorers.judge import MAX_VOTES, Judge
from assay.scorers.rubric_file import load_rubric
from assay.scorers.sets import Picker
from assay.scoring import ScoredAnswer, score_answers
from assay.suites.answers import Answered, BadLine, answers_of, read_answers

# A file's path, or records: mappings named as JSON lines are, or `Answered`s.
Answers: TypeAlias = str | Path | Iterable[Mapping[str, Any] | Answered]
# The name of a suite, of a scorer or of a rubric's file; a scorer; or a function.
OneScorer: TypeAlias = str | Scorer | ScoreFunction


async def score(
    answers: Answers,
    scorers: OneScorer | Sequence[OneScorer],
    *,
    judge: TextModel | str | None = None,
    votes: int = 1,
    ledger: Ledger | None = None,
    strict: bool = False,
) -> Scores:
    """Score answers that exist, and keep them all with their scores.

    answers: the path of a file in any format that `read_answers` reads; or records, each a mapping with `response`,
    `prompt` and what else JSON lines have, or an `Answered`. scorers: one or several of a name (of a suite, a scorer or a
    rubric's file, as for `assay score`), a `Scorer`, or a function of the answer's text, or of the sample and the text,
    that returns a boolean or a number. judge: the model that judges, open or by its spec; one that is opened here is
    closed here. votes: verdicts asked of it for each answer. With a `ledger`, judged scores it holds are not paid for
    again. strict: raise for the first record that can't be read; left out, such records are in the result's `bad`.

    Raises `BadInput` for a name that nobody knows, for a suite that needs a judge where there is none, for a file that
    can't be read, and if there is not one answer; `Unreachable` if the judge can't be reached.
    """
    async with _picker(scorers, judge, votes) as (picker, concurrency):
        scores = Scores(picker.names)
        found = _read(answers, scores.bad.append, strict)
        async with aclosing(score_answers(found, picker, ledger=ledger, concurrency=concurrency)) as done:
            async for scored in done:
                scores.add(scored)
    return scores


async def score_stream(
    answers: Answers,
    scorers: OneScorer | Sequence[OneScorer],
    *,
    judge: TextModel | str | None = None,
    votes: int = 1,
    ledger: Ledger | None = None,
    strict: bool = False,
    on_bad: Callable[[BadLine], None] | None = None,
) -> AsyncGenerator[ScoredAnswer, None]:
    """The same one by one, in the order of the answers, which are read as they are needed: nothing is kept.

    on_bad: told of each record that can't be read; left out, they are logged as warnings. Leaving the loop early ends what
    is under way.
    """
    async with _picker(scorers, judge, votes) as (picker, concurrency):
        found = _read(answers, on_bad, strict)
        async with aclosing(score_answers(found, picker, ledger=ledger, concurrency=concurrency)) as done:
            async for scored in done:
                yield scored


score_sync = plain(score)


def _several(scorers: OneScorer | Sequence[OneScorer]) -> list[OneScorer]:
    found: list[OneScorer] = []
    for one in scorers if isinstance(scorers, Sequence) and not isinstance(scorers, str) else [scorers]:
        found += [name.strip() for name in one.split(",") if name.strip()] if isinstance(one, str) else [one]
    if not found:
        raise BadInput("there is no scorer; give the name of a suite or scorer, a scorer or a function")
    return found


def _read(answers: Answers, on_bad: Callable[[BadLine], None] | None, strict: bool) -> Iterator[Answered]:
    if isinstance(answers, str | Path):
        return read_answers(answers, on_bad=on_bad, strict=strict)
    if isinstance(answers, Sequence) and answers and all(isinstance(one, str | Path) for one in answers):
        raise BadInput("answers are one file or records; score several files one by one: each has a table of its own")
    if hasattr(answers, "columns"):
        raise BadInput("answers must be records and not a data frame; give df.to_dict('records')")
    return answers_of(answers, on_bad=on_bad, strict=strict)


@asynccontextmanager
async def _picker(
    scorers: OneScorer | Sequence[OneScorer], judge: TextModel | str | None, votes: int
) -> AsyncIterator[tuple[Picker, int]]:
    """Picks an answer's scorers; and how many answers may be judged at once. A judge that was named is open until the end."""
    if not 1 <= votes <= MAX_VOTES:
        raise BadInput(f"votes must be a whole number from 1 to {MAX_VOTES}, not {votes!r}")
    chosen = [one if isinstance(one, str | Scorer) else FunctionScorer(one) for one in _several(scorers)]
    own = [one.concurrency for one in chosen if isinstance(one, Judge)]
    async with opened(judge) if judge is not None else nullcontext() as model:
        make = None if model is None else lambda rubric: Judge(model, load_rubric(rubric), votes=votes)
        concurrency = max([1, *own, *([model.info.concurrency] if model is not None else [])])
        yield Picker(chosen, make, how="give one as judge"), concurrency
