"""How a command ends before its work is done: Ctrl-C, SIGTERM, a model that can't be reached."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from assay.cli import termination
from assay.errors import Unreachable

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, where SIGTERM ends the work as Ctrl-C does: it is cancelled, closes what it opened, and
    `KeyboardInterrupt` is raised.
    """
    stopped = False

    async def stoppable() -> T:
        task = asyncio.current_task()
        assert task is not None

        def stop() -> None:
            # Once: `timeout` and others send it to the process and to its group, and closing must not be cancelled.
            nonlocal stopped
            if not stopped:
                stopped = True
                task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        if termination.came():  # before the loop heard it
            stop()
        return await work

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        if stopped:
            raise KeyboardInterrupt from None
        raise


@contextmanager
def resumable(workspace: Path) -> Iterator[None]:
    """Around work that journals what it earns: says how to go on where a model can't be reached, or after Ctrl-C."""
    try:
        yield
    except Unreachable as error:
        again = shlex.join(["assay", *sys.argv[1:]])
        if not _earned(workspace):
            raise Unreachable(f"{error}; nothing was earned yet; to try again: {again}") from error
        raise Unreachable(f"{error}; what was earned is in {workspace}; to go on: {again}") from error
    except KeyboardInterrupt:
        print("assay: stopped; the same command goes on from here", file=sys.stderr)
        raise


def _earned(workspace: Path) -> bool:
    """Whether the journal holds anything that was paid for."""
    from assay.results.journal import read
    from assay.results.records import CompletionMade, ScoreMade, VoteCast

    return any(isinstance(record, CompletionMade | ScoreMade | VoteCast) for _, record in read(workspace))
