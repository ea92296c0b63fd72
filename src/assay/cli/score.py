"""`assay score`: score answers that already exist."""

from __future__ import annotations

import asyncio
import gc
import json as js
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import msgspec
from cyclopts import Parameter

from assay.cli.http import HttpFlags, with_flags
from assay.cli.judging import Judging, Votes, close_judge, judge_maker, open_judge
from assay.cli.reasons import print_reasons
from assay.cli.score_files import DASH, check_output, lines, run_named_after, said, source
from assay.cli.settings import Config, ConfigFile, Json, Workspace, check_limit, check_run, settings
from assay.cli.stopping import resumable
from assay.cli.stopping import run as run_work
from assay.errors import BadInput
from assay.models.base import TextModel
from assay.report.reasons import Reasons
from assay.report.score_table import print_tallies, tally_rows
from assay.results.index import Ledger
from assay.results.tally import Questions, Tally
from assay.scorers.sets import Picker
from assay.scoring import answer_record, count, score_answers, score_line
from assay.suites.answers import Answered, BadLine, read_answers

_SHOWN_BAD_LINES = 20
# Answers scored between two looks for Ctrl-C and SIGTERM: scorers that only read text leave the event loop no turn.
_LISTEN_EVERY = 50
_FIRST_WAIT = 0.02  # seconds until the first questions are on their way

Tallies = dict[tuple[str, str, str], Tally]


def score(
    file: Path,
    /,
    *,
    suite: Annotated[list[str] | None, Parameter(negative="")] = None,
    judge: Judging = None,
    votes: Votes = 1,
    http: HttpFlags = None,
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
        The answers: JSON lines, lm-eval samples, an inspect log, OpenAI Batch output, Parquet or CSV; - is standard input.
    suite
        heuristic, exact, answer, standard, semantic, content, capability, a scorer's name or a rubric's file; commas or
        the flag again for more [heuristic].
    output
        Write a JSON line for each answer here, in input order; - is standard output (the table goes to standard error).
    limit
        Only the first so many answers.
    strict
        Stop at the first bad line.
    run
        The run's name [from the file].
    """
    found = with_flags(settings(config, workspace), http, judge)
    names = [name.strip() for given in suite or ["heuristic"] for name in given.split(",") if name.strip()]
    if not names:
        raise BadInput("--suite names no suite")
    job = _Job(file, names, judge, votes, output, limit, strict, run_named_after(file) if run is None else run)
    check_limit(limit)
    check_run(job.run)
    check_output(output, file)
    table = sys.stderr if output == DASH else sys.stdout
    if json and output == DASH:
        raise BadInput("-o - and --json would both write to standard output; name a file with -o, or leave out --json")
    gc.freeze()  # what is loaded by now stays to the end: no collection needs to look at it again
    reasons = Reasons()
    with resumable(found.workspace), source(file) as readable:
        tallies, bad = run_work(_score(job, readable, found, reasons))
    if json:
        print(js.dumps(tally_rows(tallies, job.run), ensure_ascii=False, indent=2))
    else:
        print_tallies(tallies, table)
    print_reasons(reasons)
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


def _note_unfit(suites: Sequence[str], tallies: Tallies) -> None:
    for suite in suites:
        if not any(suite == name for _, name, _ in tallies):
            print(f"assay: no answer has the fields that the suite {suite!r} goes by", file=sys.stderr)


async def _score(job: _Job, file: Path, found: Config, reasons: Reasons) -> tuple[Tallies, int]:
    model = await open_judge(job.judge, found)
    bad: list[BadLine] = []

    def told(line: BadLine) -> None:
        bad.append(line)
        _print_bad(str(line).replace(str(file), said(job.file)), len(bad))

    try:
        picker = Picker(job.suites, judge_maker(model, job.votes))
        answers: Iterator[Answered] = read_answers(file, on_bad=told, strict=job.strict)
        ledger = Ledger(found.workspace)
        try:
            with lines(job.output) as out:
                tallies = await _run(job, file, islice(answers, job.limit), picker, ledger, model, out, reasons)
        finally:
            ledger.close()
        _note_unfit(picker.names, tallies)
        return tallies, len(bad)
    finally:
        await close_judge(model)


async def _run(
    job: _Job,
    file: Path,
    answers: Iterator[Answered],
    picker: Picker,
    ledger: Ledger,
    model: TextModel | None,
    out: IO[bytes] | None,
    reasons: Reasons,
) -> Tallies:
    from assay.cli.score_progress import ScoreProgress

    tallies: Tallies = {}
    questions = Questions()
    concurrency = model.info.concurrency if model is not None else 1
    if model is not None:
        asyncio.get_running_loop().call_later(_FIRST_WAIT, _prepare_table)
    stream = score_answers(answers, picker, ledger=ledger, run=job.run, concurrency=concurrency)
    with ScoreProgress(file, job.limit) as progress:
        async with aclosing(stream) as done:
            async for scored in done:
                line = score_line(scored)
                count(scored, tallies, questions)
                reasons.add_answer(line["failures"], scored.name)
                if out is not None:
                    out.write(msgspec.json.encode(line) + b"\n")
                    if job.output == DASH:  # somebody waits for it
                        out.flush()
                record = answer_record(scored, job.run, said(job.file))
                if record is not None:
                    ledger.append(record)
                progress.advance()
                if progress.done % _LISTEN_EVERY == 0:
                    await asyncio.sleep(0)
    return tallies


def _prepare_table() -> None:
    """Load what the table needs while the judge thinks, and not after it is done."""
    import rich.console
    import rich.table  # noqa: F401


def _print_bad(said: str, count: int) -> None:
    if count <= _SHOWN_BAD_LINES:
        print(f"assay: {said}", file=sys.stderr)
    elif count == _SHOWN_BAD_LINES + 1:
        print("assay: more bad lines are counted and not shown", file=sys.stderr)
