"""`assay score`: score answers that already exist."""

from __future__ import annotations

import asyncio
import errno
import json as js
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
from cyclopts import Parameter

from assay.cli.judging import check_limit, check_run, judge_maker, open_judge, resumable
from assay.cli.settings import Config, ConfigFile, Json, Workspace, settings
from assay.errors import BadInput
from assay.models.base import TextModel
from assay.report.score_file import EXTRACTED
from assay.report.score_table import print_tallies, tally_rows
from assay.results.index import Ledger
from assay.results.records import AnswerScored
from assay.results.tally import Tally
from assay.scorers.keys import judge_of
from assay.scorers.sets import Picker
from assay.scoring import ScoredAnswer, score_answers
from assay.suites.answers import Answered, BadLine, read_answers
from assay.types import Score

_SHOWN_BAD_LINES = 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Tallies = dict[tuple[str, str, str], Tally]


def score(
    file: Path,
    /,
    *,
    suite: Annotated[list[str] | None, Parameter(negative="")] = None,
    judge: str | None = None,
    votes: int = 1,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    limit: int | None = None,
    strict: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    run: str | None = None,
    json: Json = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Score answers that already exist, and show averages per model with intervals.

    Judged scores are kept in the journal and not paid for again: run the same command to go on after an interruption.

    Parameters
    ----------
    file
        The answers: JSON lines, lm-eval samples, an inspect log, OpenAI Batch output, Parquet or CSV.
    suite
        heuristic, exact, answer, standard, semantic, content, capability, a scorer's name or a rubric's file; commas or
        the flag again for more [heuristic].
    judge
        The model that judges: a URL with #MODEL, a local model, or a name from assay.toml.
    votes
        Verdicts asked of the judge for each answer; their median counts.
    output
        Write a JSON line for each answer here, in input order.
    limit
        Only the first so many answers.
    strict
        Stop at the first bad line.
    run
        The run's name [from the file].
    json
        Print the table's rows as JSON.
    workspace
        The folder for the results [assay-results].
    config
        The assay.toml to use.
    """
    found = settings(config, workspace)
    names = [name.strip() for given in suite or ["heuristic"] for name in given.split(",") if name.strip()]
    if not names:
        raise BadInput("--suite names no suite")
    job = _Job(file, names, judge, votes, output, limit, strict, run or file.stem)
    check_limit(limit)
    check_run(job.run)
    _check_output(job)
    with resumable(found.workspace):
        tallies, bad = asyncio.run(_score(job, found))
    _note_unfit(job, tallies)
    if json:
        print(js.dumps(tally_rows(tallies, job.run), ensure_ascii=False, indent=2))
    else:
        print_tallies(tallies)
    if bad:
        print(f"assay: {bad} {'line' if bad == 1 else 'lines'} could not be read", file=sys.stderr)
    return 1 if bad or any(t.failed for t in tallies.values()) else 0


class _Job(msgspec.Struct, frozen=True):
    file: Path
    suites: list[str]
    judge: str | None
    votes: int
    output: Path | None
    limit: int | None
    strict: bool
    run: str


def _check_output(job: _Job) -> None:
    """What would only fail once all the work is done."""
    if job.output is None:
        return
    if job.output.is_dir():
        raise BadInput(f"{job.output} is a folder; name a file with -o")
    if job.output.exists() and job.file.exists() and job.output.samefile(job.file):
        raise BadInput(f"{job.output} holds the answers; name another file with -o")


def _note_unfit(job: _Job, tallies: Tallies) -> None:
    for suite in dict.fromkeys(job.suites):
        if not any(suite == name for _, name, _ in tallies):
            print(f"assay: no answer has the fields that the suite {suite!r} goes by", file=sys.stderr)


async def _score(job: _Job, found: Config) -> tuple[Tallies, int]:
    model = await open_judge(job.judge, found)
    bad: list[BadLine] = []
    try:
        picker = Picker(job.suites, judge_maker(model, job.votes))
        answers: Iterator[Answered] = read_answers(job.file, on_bad=lambda line: _bad(line, bad), strict=job.strict)
        ledger = Ledger(found.workspace)
        try:
            with _lines(job.output) as out:
                tallies = await _run(job, islice(answers, job.limit), picker, ledger, model, out)
        finally:
            ledger.close()
        return tallies, len(bad)
    finally:
        if model is not None:
            await model.aclose()


async def _run(
    job: _Job,
    answers: Iterator[Answered],
    picker: Picker,
    ledger: Ledger,
    model: TextModel | None,
    out: IO[bytes] | None,
) -> Tallies:
    from assay.cli.score_progress import ScoreProgress

    tallies: Tallies = {}
    concurrency = model.info.concurrency if model is not None else 1
    stream = score_answers(answers, picker, ledger=ledger, run=job.run, concurrency=concurrency)
    with ScoreProgress(job.file, job.limit) as progress:
        async with aclosing(stream) as done:
            async for scored in done:
                line, failures = _line(scored, tallies)
                if out is not None:
                    out.write(msgspec.json.encode(line) + b"\n")
                _journal(job, scored, line, failures, ledger)
                progress.advance()
    return tallies


def _line(scored: ScoredAnswer, tallies: Tallies) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The output's line; counts its outcomes on the way."""
    answered = scored.answered
    scores: dict[str, dict[str, Any]] = {}
    failures: list[dict[str, str]] = []
    for suite, _, outcomes in scored.outcomes:
        values = scores.setdefault(suite, {})
        for outcome in outcomes:
            tallies.setdefault((answered.model, suite, outcome.metric), Tally()).add(outcome)
            if isinstance(outcome, Score):
                values[outcome.metric] = _number(outcome.value)
                if EXTRACTED in outcome.detail:
                    values[EXTRACTED] = outcome.detail[EXTRACTED]
            else:
                failures.append(
                    {
                        "suite": suite,
                        "metric": outcome.metric,
                        "error_class": outcome.error_class,
                        "reason": outcome.reason,
                    }
                )
    line = {"id": answered.id, "model": answered.model, "scores": scores, "failures": failures}
    if answered.sample.group != "all":
        line["group"] = answered.sample.group
    return line, failures


def _number(value: bool | float) -> bool | int | float:
    if isinstance(value, bool):
        return value
    return int(value) if float(value).is_integer() else value


def _journal(
    job: _Job, scored: ScoredAnswer, line: dict[str, Any], failures: list[dict[str, str]], ledger: Ledger
) -> None:
    """Journal what was read off the text; judged scores are journaled as they are earned."""
    plain = {suite for suite, scorer, _ in scored.outcomes if not judge_of(scorer)}
    if plain:
        ledger.append(
            AnswerScored(
                run=job.run,
                source=str(job.file),
                line=scored.answered.line,
                sample=scored.answered.id,
                model=scored.answered.model,
                scores={suite: values for suite, values in line["scores"].items() if suite in plain},
                failures=tuple(tuple(f.values()) for f in failures if f["suite"] in plain),  # type: ignore[misc]
            )
        )


@contextmanager
def _lines(path: Path | None) -> Iterator[IO[bytes] | None]:
    """A file that appears whole: written beside its place and moved there at the end."""
    if path is None:
        yield None
        return
    part = path.with_name(path.name + ".part")
    try:
        file = part.open("wb")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from error
        raise


def _bad(line: BadLine, bad: list[BadLine]) -> None:
    bad.append(line)
    if len(bad) <= _SHOWN_BAD_LINES:
        print(f"assay: {line}", file=sys.stderr)
    elif len(bad) == _SHOWN_BAD_LINES + 1:
        print("assay: more bad lines are counted and not shown", file=sys.stderr)
