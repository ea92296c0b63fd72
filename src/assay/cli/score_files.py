"""Where `assay score` reads answers and writes its lines: files, pipes, standard input and output."""

from __future__ import annotations

import fcntl
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from assay.errors import NO_ROOM, BadInput, DiskFault
from assay.suites.formats.packed import unpacked_name

# What stands for standard input and for standard output.
DASH = Path("-")

# An address, of which a path keeps one slash.
_URL = re.compile(r"([a-z][a-z0-9+.-]+:)/+(.*)", re.IGNORECASE)


def run_named_after(file: Path) -> str:
    """The run's name, of the file's."""
    return "stdin" if file == DASH else Path(unpacked_name(file)).stem


def check_folder(output: Path | None) -> None:
    """Raise `BadInput` for what can't be the folder that gets the lines of several files; make it."""
    if output is None:
        return
    if output == DASH or (output.exists() and not output.is_dir()):
        raise BadInput(f"-o {output} takes the lines of one file; for several name a folder, which gets a file of each")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{output} cannot be made: {error.strerror}") from error


def check_output(output: Path | None, inputs: Iterable[Path]) -> None:
    """Raise `BadInput` for what would only fail once all the work is done."""
    if output is None or output == DASH:
        return
    if output.is_dir():
        raise BadInput(f"{output} is a folder; name a file with -o")
    if output.exists() and any(file.exists() and output.samefile(file) for file in inputs):
        raise BadInput(f"{output} holds the answers; name another file with -o")


@contextmanager
def source(file: Path) -> Iterator[Path]:
    """The file, or a copy of what comes through a pipe: its format is told by a look at its beginning.

    What is wrong with the copy is told of the pipe.
    """
    if (url := _URL.match(str(file))) is not None and not file.exists():
        raise BadInput(f"{url[1]}//{url[2]} is an address; answers are read from files: fetch it, and name the file")
    if file != DASH and (not file.exists() or file.is_file() or file.is_dir()):
        yield file
        return
    import shutil  # both pull in what nothing else here needs

    from assay.scratch import Scratch

    with Scratch("answers") as folder:
        copy = folder / run_named_after(file)
        try:
            with _reading(file) as reading, copy.open("wb") as writing:
                shutil.copyfileobj(reading, writing)
        except OSError as error:
            raise BadInput(
                f"{said(file)} cannot be copied to {folder}: {error.strerror}; set TMPDIR, or name a file"
            ) from error
        try:
            yield copy
        except BadInput as error:
            raise type(error)(str(error).replace(str(copy), said(file))) from error


def said(file: Path) -> str:
    """What the user knows the file as."""
    return "standard input" if file == DASH else str(file)


@contextmanager
def _reading(file: Path) -> Iterator[IO[bytes]]:
    if file != DASH:
        with file.open("rb") as reading:
            yield reading
    elif sys.stdin is None:
        raise BadInput("there is no standard input; name a file")
    else:
        yield sys.stdin.buffer


@contextmanager
def lines(path: Path | None) -> Iterator[IO[bytes] | None]:
    """A file that appears whole: written beside its place and moved there at the end. Standard output gets lines at once."""
    if path is None:
        yield None
    elif path == DASH:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with _whole(path.resolve()) as file:  # a link stays one
            yield file


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    special = path.exists() and not path.is_file()  # a pipe or a device is written to, and never replaced
    part = path if special else path.with_name(path.name + ".part")
    try:
        file = part.open("wb") if special else _claimed(part, path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file:  # closed last: it is this process's alone for as long as it is open
            try:
                yield file
                file.flush()
                if not special:
                    part.replace(path)
            except BaseException:
                if not special:
                    part.unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFault(
                f"{path} cannot be written ({error.strerror}); what was judged is kept: make room and run the same command "
                "again, or name another file with -o"
            ) from error
        raise


def _claimed(part: Path, path: Path) -> IO[bytes]:
    """The file under this name, empty, for one process at a time: the lines of two would be mixed."""
    while True:
        file = part.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise BadInput(f"another command is writing {path}; wait for it, or name another file with -o") from None
        except OSError:  # a file system without locks
            pass
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                file.truncate(0)
                return file
        file.close()  # its writer has just moved it to its place
