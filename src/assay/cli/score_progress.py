"""A progress bar for `assay score`: answers done, how long is left."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_FORMATS = {".jsonl", ".ndjson", ".csv", ".tsv"}
_SAY_EVERY = 30.0  # seconds, where there is no terminal
_REDRAW_EVERY = 0.1  # seconds, where there is one


class ScoreProgress:
    """A bar on a terminal, a line now and then elsewhere. The total is the file's lines, where it has lines.

    done: answers scored so far.
    """

    def __init__(self, path: Path, limit: int | None) -> None:
        self._total = _lines_in(path)
        if limit is not None:
            self._total = min(limit, self._total) if self._total else limit
        self.done = 0
        self._started = self._said = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ScoreProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("scoring"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("scoring", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self) -> None:
        """One more answer is scored."""
        self.done += 1
        now = time.monotonic()
        if self._progress is not None and self._task is not None:
            if now - self._said > _REDRAW_EVERY or self.done == self._total:
                self._said = now
                self._progress.update(self._task, completed=self.done)
        elif now - self._said > _SAY_EVERY:
            self._said = now
            left = ""
            if self._total:
                pace = (now - self._started) / self.done
                left = f" of {self._total}, about {pace * max(0, self._total - self.done):.0f} s left"
            print(f"scored {self.done}{left}", file=sys.stderr, flush=True)


def _lines_in(path: Path) -> int | None:
    if path.suffix.lower() not in _LINE_FORMATS:
        return None
    count = 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                count += block.count(b"\n")
    except OSError:
        return None
    return count
