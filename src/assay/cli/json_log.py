"""What happens as JSON lines on standard error, for services: an `Observer` for machines."""

from __future__ import annotations

import json
import sys
import time

from assay.evaluated import SampleResult


class JsonLog:
    """An `Observer` whose lines hold `time` (seconds since the epoch), `event`, and what belongs to it.

    Events: note (text), said (text), ahead (samples), evaluating (checkpoint, suite), behind (samples: done with, of how many).
    """

    def __init__(self) -> None:
        self._behind = 0
        self._total = 0

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(self, *_: object) -> None: ...

    def note(self, text: str) -> None:
        self._write("note", text=text)

    def said(self, text: str) -> None:
        """What a command says for itself: why it ended, and what is left to do."""
        self._write("said", text=text)

    def expect(self, samples: int) -> None:
        self._total = self._behind + samples
        self._write("ahead", samples=samples)

    def settled(self, samples: int) -> None:
        self._behind += samples
        if samples:
            self._write("behind", samples=self._behind, of=max(self._total, self._behind))

    def subject(self, label: str, suite: str) -> None:
        self._write("evaluating", checkpoint=label, suite=suite)

    def answered(self, result: SampleResult) -> None:
        """Nothing: a line a sample is for the journal."""

    def _write(self, event: str, **fields: object) -> None:
        line = {"time": round(time.time(), 3), "event": event, **fields}
        print(json.dumps(line, ensure_ascii=False), file=sys.stderr, flush=True)
