"""What the run of a file's answers is called: after the file, and never like the run of another one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from msgspec.structs import replace

from assay.cli.score_files import run_named_after
from assay.results.canonical import digest_of
from assay.results.index import Ledger
from assay.results.records import AnswersRead
from assay.suites.answers import Answered

Runs: TypeAlias = Mapping[str, Sequence[AnswersRead]]

# Digits that tell two files of one name apart.
_DIGITS = 6


def run_of(wanted: str | None, file: Path, readable: Path, ledger: Ledger, note: Callable[[str], None]) -> AnswersRead:
    """`file`, with the run that its answers belong to. wanted: what the user calls it.

    readable: the file, or a copy of what came through a pipe. Two files in two folders may have one name: whoever comes second
    has digits of its own in the run's name, each time, which `note` is told; as it is where a run that was named holds
    another file already. A file is known by its path, whatever it holds by now, or by its content, if it was moved or came
    through a pipe.
    """
    with readable.open("rb") as reading:
        digest = hashlib.file_digest(reading, "sha256").hexdigest()
    path = str(file.resolve()) if file is readable else ""
    runs = ledger.answer_files()
    run = _named(run_named_after(file), path, digest, runs, note) if wanted is None else wanted
    others = [one.path for one in _present(runs.get(run, ())) if one.path and not _same(path, digest, one)]
    if wanted is not None and others:
        note(
            f"the run {run!r} also holds the answers of {others[-1]}; of an id that both have, what was read last counts"
        )
    return AnswersRead(run=run, path=path, digest=digest)


def noting(answers: Iterator[Answered], read: AnswersRead, ledger: Ledger) -> Iterator[Answered]:
    """The answers; with the first of them it is journaled whose they are, if that is news."""
    for number, answered in enumerate(answers):
        if not number:
            known = ledger.answer_files().get(read.run, ())
            last = next((one for one in reversed(known) if _what(one) == _what(read)), None)
            if last is None or last.digest != read.digest:
                ledger.append(read)
        yield answered


def note_whole(read: AnswersRead, ledger: Ledger) -> None:
    """Journal that all of the file was read, if that is news."""
    if not any(one.whole for one in ledger.answer_files().get(read.run, ()) if one.digest == read.digest):
        ledger.append(replace(read, whole=True))


def _named(name: str, path: str, digest: str, runs: Runs, note: Callable[[str], None]) -> str:
    mine = (
        run
        for run, files in runs.items()
        if _is_of(run, name) and any(_same(path, digest, one) for one in _present(files))
    )
    called = next(mine, name if name not in runs else "")
    if not called:
        digits = digest_of("file", path or digest)
        names = (f"{name}-{digits[:count]}" for count in range(_DIGITS, len(digits) + 1))
        called = next(each for each in names if each not in runs)
    if called != name:
        other = next((one.path for one in runs.get(name, ()) if one.path), "other answers")
        note(f"the run {name!r} is that of {other}; this one is called {called!r} (--run gives another name)")
    return called


def _is_of(run: str, name: str) -> bool:
    return re.fullmatch(rf"(-[0-9a-f]{{{_DIGITS},}})?", run.removeprefix(name)) is not None and run.startswith(name)


def _what(one: AnswersRead) -> str:
    """The file whose content may change: what comes through a pipe is another one each time."""
    return one.path or one.digest


def _present(files: Sequence[AnswersRead]) -> list[AnswersRead]:
    """The files where they were last: one that was moved is no more where it lay before."""
    last = {_what(one): one for one in files}
    at = {one.digest: one.path for one in last.values()}
    return [one for one in last.values() if one.path == at[one.digest]]


def _same(path: str, digest: str, known: AnswersRead) -> bool:
    if path and path == known.path:
        return True
    # A copy is another file as long as both are there: what changes in one must not change the other's numbers.
    return digest == known.digest and not (known.path and path and Path(known.path).exists())
