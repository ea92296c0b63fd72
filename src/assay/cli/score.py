"""`assay score`: score answers that already exist."""

from __future__ import annotations

import asyncio
import errno
import gc
import json as js
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import msgspec
from cyclopts import Parameter

from assay.cli.http import HttpFlags, with_flags
from assay.cli.judging import Judging, Votes, close_judge, judge_maker, open_judge
from assay.cli.reasons import print_reasons
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
from assay.suites.formats.packed import unpacked_name

_SHOWN_BAD_LINES = 20
# Answers scored between two looks for Ctrl-C and SIGTERM: scorers that only read text leave the event loop no turn.
_LISTEN_EVERY = 50
_FIRST_WAIT = 0.02  # seconds until the first questions are on their way
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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
        The answers: JSON lines, lm-eval samples, an inspect log, OpenAI Batch output, Parquet or CSV.
    suite
        heuristic, exact, answer, standard, semantic, content, capability, a scorer's name or a rubric's file; commas or
        the flag again for more [heuristic].
    output
        Write a JSON line for each answer here, in input order.
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
    job = _Job(file, names, judge, votes, output, limit, strict, Path(unpacked_name(file)).stem if run is None else run)
    check_limit(limit)
    check_run(job.run)
    _check_output(job)
    gc.freeze()  # what is loaded by now stays to the end: no collection needs to look at it again
    reasons = Reasons()
    with resumable(found.workspace), _seekable(job.file) as source:
        tallies, bad = run_work(_score(msgspec.structs.replace(job, file=source), found, reasons))
    if json:
        print(js.dumps(tally_rows(tallies, job.run), ensure_ascii=False, indent=2))
    else:
        print_tallies(tallies)
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


def _check_output(job: _Job) -> None:
    """What would only fail once all the work is done."""
    if job.output is None:
        return
    if job.output.is_dir():
        raise BadInput(f"{job.output} is a folder; name a file with -o")
    if job.output.exists() and job.file.exists() and job.output.samefile(job.file):
        raise BadInput(f"{job.output} holds the answers; name another file with -o")


def _note_unfit(suites: Sequence[str], tallies: Tallies) -> None:
    for suite in suites:
        if not any(suite == name for _, name, _ in tallies):
            print(f"assay: no answer has the fields that the suite {suite!r} goes by", file=sys.stderr)


async def _score(job: _Job, found: Config, reasons: Reasons) -> tuple[Tallies, int]:
    model = await open_judge(job.judge, found)
    bad: list[BadLine] = []
    try:
        picker = Picker(job.suites, judge_maker(model, job.votes))
        answers: Iterator[Answered] = read_answers(job.file, on_bad=lambda line: _bad(line, bad), strict=job.strict)
        ledger = Ledger(found.workspace)
        try:
            with _lines(job.output) as out:
                tallies = await _run(job, islice(answers, job.limit), picker, ledger, model, out, reasons)
        finally:
            ledger.close()
        _note_unfit(picker.names, tallies)
        return tallies, len(bad)
    finally:
        await close_judge(model)


async def _run(
    job: _Job,
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
    with ScoreProgress(job.file, job.limit) as progress:
        async with aclosing(stream) as done:
            async for scored in done:
                line = score_line(scored)
                count(scored, tallies, questions)
                reasons.add_answer(line["failures"], scored.name)
                if out is not None:
                    out.write(msgspec.json.encode(line) + b"\n")
                record = answer_record(scored, job.run, str(job.file))
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


@contextmanager
def _lines(path: Path | None) -> Iterator[IO[bytes] | None]:
    """A file that appears whole: written beside its place and moved there at the end."""
    if path is None:
        yield None
        return
    path = path.resolve()  # a link stays one
    special = path.exists() and not path.is_file()  # a pipe or a device is written to, and never replaced
    part = path if special else path.with_name(path.name + ".part")
    try:
        file = part.open("wb")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file
        if not special:
            part.replace(path)
    except BaseException as error:
        if not special:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from error
        raise


@contextmanager
def _seekable(file: Path) -> Iterator[Path]:
    """The file, or a copy of what comes through a pipe: its format is told by a look at its beginning."""
    if not file.exists() or file.is_file() or file.is_dir():
        yield file
        return
    import shutil  # both pull in what nothing else here needs
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="assay-") as folder:
        copy = Path(folder) / file.name
        with file.open("rb") as reading, copy.open("wb") as writing:
            shutil.copyfileobj(reading, writing)
        yield copy


def _bad(line: BadLine, bad: list[BadLine]) -> None:
    bad.append(line)
    if len(bad) <= _SHOWN_BAD_LINES:
        print(f"assay: {line}", file=sys.stderr)
    elif len(bad) == _SHOWN_BAD_LINES + 1:
        print("assay: more bad lines are counted and not shown", file=sys.stderr)
