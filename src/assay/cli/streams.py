"""Standard input, output and error as a command finds them: closed, full, or a pipe that nobody reads any more."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

# What shells report for a program that wrote to a pipe that nobody reads.
UNREAD = 141


def prepare() -> None:
    """Have streams that can be written to, whatever they are."""
    _fill_gaps()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ★ shows a question mark, and not a traceback


def _fill_gaps() -> None:
    """Nothing in place of closed streams, or the first file that is opened, the journal perhaps, would get what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    sys.stdout = sys.stdout or io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
    sys.stderr = sys.stderr or io.TextIOWrapper(io.FileIO(2, "w", closefd=False))


def finish() -> None:
    """Hand over what is still to be printed. Raises `OSError`, now and not in the interpreter's last breath."""
    sys.stdout.flush()


def say(text: str) -> None:
    """A sentence on standard error; where that can't be written to either, the exit code must do."""
    with contextlib.suppress(OSError):
        _voice(text)


def say_as(voice: Callable[[str], None]) -> None:
    """From now on let `say` say it so: a service's log has lines of its own."""
    global _voice
    _voice = voice


def _plainly(text: str) -> None:
    print(f"assay: {text}", file=sys.stderr, flush=True)


_voice: Callable[[str], None] = _plainly


def abandon() -> None:
    """Print nothing more: what the buffers hold would fail again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # a stream without a file, as in a test
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
