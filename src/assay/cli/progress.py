"""Progress on standard error: a bar with the time left on a terminal, a line a checkpoint elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from assay.evaluated import SampleResult

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter:
    """An `Observer` for people. Use it as a context manager."""

    def __init__(self) -> None:
        self._total = 0
        self._settled = 0
        self._current = 0
        self._timed = 0
        self._started = time.monotonic()
        self._label = ""
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Reporter:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("samples, left:"),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("loading the base", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def note(self, text: str) -> None:
        """Say something that matters beyond the moment."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def expect(self, samples: int) -> None:
        """So many samples lie ahead."""
        self._total = self._settled + samples
        self._redraw()

    def settled(self, samples: int) -> None:
        """So many samples are behind us: answered, known from before, or of a checkpoint that was set aside."""
        self._settled += samples
        self._current = 0
        self._redraw()

    @property
    def _done(self) -> int:
        # A batch that is asked again is not more work done.
        return min(self._settled + self._current, self._total)

    def subject(self, label: str, suite: str) -> None:
        """A checkpoint's suite begins."""
        self._label = f"{label} · {suite}"
        if self._progress is None:
            self.note(f"{self._label}: {self._done} of {self._total} samples done{self._left()}")
        self._redraw()

    def answered(self, result: SampleResult) -> None:
        """One sample is done."""
        if self._timed == 0:
            self._started = time.monotonic()
        self._current += 1
        self._timed += 1
        self._redraw()

    def _left(self) -> str:
        if self._timed < 2:
            return ""
        pace = (time.monotonic() - self._started) / (self._timed - 1)
        return f", {_duration(pace * (self._total - self._done))} left"

    def _redraw(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=self._label, completed=self._done, total=self._total)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 90:
        return f"about {max(whole, 1)} s"
    if whole < 5400:
        return f"about {round(whole / 60)} min"
    return f"about {whole / 3600:.1f} h"
