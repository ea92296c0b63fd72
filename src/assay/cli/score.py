"""`assay score`: score answers that already exist."""

from __future__ import annotations

import asyncio
import gc
import json as js
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, TextIO

import msgspec
from cyclopts import Parameter

from assay.cli.http import HttpFlags, with_flags
from assay.cli.judging import Judging, Votes, close_judge, judge_maker, open_judge
from assay.cli.reasons import print_reasons, print_spreads
from assay.cli.score_files import DASH, check_folder, check_output, lines, run_named_after, said, source
from assay.cli.score_run import note_whole, noting, run_of
from assay.cli.settings import Config, ConfigFile, Json, Workspace, check_limit, check_run, settings
from assay.cli.stopping import resumable
from assay.cli.stopping import run as run_work
from assay.cli.suites import named
from assay.errors import BadInput, ModelError, Unreachable
from assay.models.base import TextModel
from assay.report.reasons import Reasons
from assay.report.score_table import print_tallies, tally_rows
from assay.report.spread import SPREAD, Spreads
from assay.results.index import Ledger
from assay.results.records import AnswersRead
from assay.results.tally import Questions, Tally
from assay.scorers.keys import judged_by
from assay.scorers.sets import Pick, Picker, unfit
from assay.scoring import ScoredAnswer, answer_record, count, score_answers, score_line
from assay.suites.answers import Answered, BadLine, read_answers
from assay.types import Sample, Score

_SHOWN_BAD_LINES = 20
_FIRST_WAIT = 0.02  # seconds until the first questions are on their way

Tallies = dict[tuple[str, str, str], Tally]


def score(
    file: Path,
    /,
    *files: Path,
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
    files
        More of them: each has a run and a table of its own.
    suite
        heuristic, exact, answer, standard, a scorer's name, or a rubric's name or file; commas or the flag again for more
        [heuristic].
    output
        Write a JSON line for each answer here, in input order; - is standard output (the table goes to standard error). For
        several files a folder, which gets RUN.jsonl of each.
    limit
        Only the first so many answers.
    strict
        Stop at the first bad line.
    run
        The run's name [the file's].
    """
    found = with_flags(settings(config, workspace), http, judge)
    names = named(suite or ["heuristic"])
    if not names:
        raise BadInput("--suite names no suite")
    inputs = (file, *files)
    jobs = [_Job(each, names, judge, votes, output, limit, strict, run, inputs) for each in inputs]
    check_limit(limit)
    if files and run is not None:
        raise BadInput(
            f"--run {run} names one run, and {len(jobs)} files have one each, in which the ids of two may be alike; "
            "leave it out, or score the files one by one"
        )
    for each in jobs:
        check_run(run_named_after(each.file) if run is None else run)
        if files:
            check_folder(output)
        else:
            check_output(output, [each.file])
    if json and output == DASH:
        raise BadInput("-o - and --json would both write to standard output; name a file with -o, or leave out --json")
    gc.freeze()  # what is loaded by now stays to the end: no collection needs to look at it again
    with resumable(found.workspace):
        return run_work(_score_all(jobs, found, json))


class _Job(msgspec.Struct, frozen=True):
    file: Path
    suites: list[str]
    judge: str | None
    votes: int
    output: Path | None
    limit: int | None
    strict: bool
    run: str | None
    inputs: tuple[Path, ...]

    def output_of(self, run: str) -> Path | None:
        """The file for the run's lines, which of several inputs is one in the folder. Raises `BadInput` if it holds answers."""
        if self.output is None or len(self.inputs) == 1:
            return self.output
        file = self.output / f"{run}.jsonl"
        check_output(file, self.inputs)
        return file


class _Outcome(msgspec.Struct):
    """What scoring came to. read: the file, and its run.

    unfit: sentences about suites that scored nothing. gone: why the judge could not be asked.
    """

    read: AnswersRead
    bad: dict[str, None]  # lines that could not be read, as they were told
    tallies: Tallies = {}
    spreads: Spreads = msgspec.field(default_factory=Spreads)
    reasons: Reasons = msgspec.field(default_factory=Reasons)
    unfit: list[str] = []
    gone: Unreachable | ModelError | None = None

    @property
    def exit_code(self) -> int:
        """2 where no suite that was named fits any answer."""
        if self.unfit and not self.tallies:
            return 2
        failed = self.reasons.has_unplaced or any(t.failed for t in self.tallies.values())
        return 1 if self.unfit or self.bad or failed else 0


def _tell(outcome: _Outcome, whose: str) -> None:
    """After the table: what is not in it. whose: what sentences about the file begin with."""
    print_reasons(outcome.reasons)
    for sentence in outcome.unfit:
        print(f"assay: {whose}{sentence}", file=sys.stderr)
    if bad := len(outcome.bad):
        print(f"assay: {whose}{bad} {'line' if bad == 1 else 'lines'} could not be read", file=sys.stderr)


async def _score_all(jobs: Sequence[_Job], found: Config, json: bool) -> int:
    """Score the files one after another; the worst of their exit codes. One of several that can't be read stops no other."""
    rows: list[dict[str, object]] = []
    worst, shown = 0, False
    gone: Unreachable | ModelError | None = None
    model = await open_judge(jobs[0].judge, found)
    try:
        picker = Picker(jobs[0].suites, judge_maker(model, jobs[0].votes))
        for job in jobs:
            try:
                with source(job.file) as readable:
                    outcome = await _score(job, readable, found, model, picker, gone)
            except BadInput as error:
                if len(jobs) == 1:
                    raise
                _note(str(error))
                worst = max(worst, error.exit_code)
                continue
            rows += tally_rows(outcome.tallies, outcome.read.run)
            if not json:
                heading = "" if len(jobs) == 1 else f"{chr(10) if shown else ''}run {outcome.read.run}"
                _print(outcome, heading, sys.stderr if job.output == DASH else sys.stdout)
                shown = shown or bool(outcome.tallies)
            _tell(outcome, f"{outcome.read.run}: " if len(jobs) > 1 else "")
            worst, gone = max(worst, outcome.exit_code), outcome.gone
    finally:
        await close_judge(model)
    if json:
        print(js.dumps(rows, ensure_ascii=False, indent=2))
    if gone is not None:
        raise gone
    return worst


def _print(outcome: _Outcome, heading: str, table: TextIO) -> None:
    if heading and outcome.tallies:
        print(heading, file=table)
    print_tallies(outcome.tallies, table)
    print_spreads(outcome.spreads, table)


async def _score(
    job: _Job, file: Path, found: Config, model: TextModel | None, picker: Picker, gone: Unreachable | ModelError | None
) -> _Outcome:
    """Score one file. gone: why the judge could not be asked any more of the file before; it isn't tried again."""
    bad: dict[str, None] = {}

    def answers() -> Iterator[Answered]:
        def told(line: BadLine) -> None:
            _print_bad(str(line).replace(str(file), said(job.file)), bad)

        return islice(read_answers(file, on_bad=told, strict=job.strict), job.limit)

    first = answers()
    ledger = Ledger(found.workspace)
    try:
        read = run_of(job.run, job.file, file, ledger, _note)
        outcome = _Outcome(read, bad)
        try:
            if gone is not None:
                raise gone
            with lines(job.output_of(read.run)) as out:
                await _run(job, file, noting(first, read, ledger), picker, ledger, outcome, model, out)
        except (Unreachable, ModelError) as error:
            if picker.is_judged_only:
                raise
            # A judge that is gone takes nothing from those who need none.
            outcome = _Outcome(read, bad, gone=error)
            await _run(job, file, noting(answers(), read, ledger), picker.without_judges, ledger, outcome)
        if job.limit is None and not bad:
            note_whole(read, ledger)
    finally:
        ledger.close()
    if outcome.gone is None:
        outcome.unfit = unfit(picker.names, {suite for _, suite, _ in outcome.tallies})
    return outcome


async def _run(
    job: _Job,
    file: Path,
    answers: Iterator[Answered],
    pick: Callable[[Sample], Sequence[Pick]],
    ledger: Ledger,
    outcome: _Outcome,
    model: TextModel | None = None,
    out: IO[bytes] | None = None,
) -> None:
    """Score the answers into `outcome`."""
    from assay.cli.score_progress import ScoreProgress

    questions = Questions()
    concurrency = model.info.concurrency if model is not None else 1
    if model is not None:
        asyncio.get_running_loop().call_later(_FIRST_WAIT, _prepare_table)
    stream = score_answers(answers, pick, ledger=ledger, run=outcome.read.run, concurrency=concurrency)
    with ScoreProgress(file, job.limit) as progress:
        async with aclosing(stream) as done:
            async for scored in done:
                count(scored, outcome.tallies, questions)
                _count_votes(scored, outcome.spreads)
                line = score_line(scored)
                outcome.reasons.add_answer(line["failures"], scored.name)
                if out is not None:
                    out.write(msgspec.json.encode(line) + b"\n")
                    if job.output == DASH:  # somebody waits for it
                        out.flush()
                ledger.append(answer_record(scored, outcome.read.run, said(job.file), outcome.read.content))
                progress.advance()


def _count_votes(scored: ScoredAnswer, spreads: Spreads) -> None:
    for _, scorer, outcomes in scored.outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Score) and SPREAD in outcome.detail:  # asking who judged would be in vain for most
                spreads.add_score(scorer.name, judged_by(scorer)[0], outcome.detail)


def _note(said: str) -> None:
    print(f"assay: {said}", file=sys.stderr)


def _prepare_table() -> None:
    """Load what the table needs while the judge thinks, and not after it is done."""
    import rich.console
    import rich.table  # noqa: F401


def _print_bad(said: str, known: dict[str, None]) -> None:
    if said in known:  # the file is read a second time
        return
    known[said] = None
    if len(known) <= _SHOWN_BAD_LINES:
        print(f"assay: {said}", file=sys.stderr)
    elif len(known) == _SHOWN_BAD_LINES + 1:
        print("assay: more bad lines are counted and not shown", file=sys.stderr)
