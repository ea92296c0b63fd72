"""What a server program writes: the last of it is kept, and quoted where the server fails."""

from __future__ import annotations

import re
import threading
from collections import deque
from typing import IO

_LINES = 400
_LINE = 1000  # characters; the rest of a longer line counts as the next one
_LAST_LINES = 30
_QUOTED = 400  # characters

# "main: server is listening on http://127.0.0.1:41237 - starting the main loop", and later "listening on http://127.0.0.1:41237"
_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
# How llama.cpp marks an error ("0.00.123.456 E …"), and how lines of it begin that a reader can do without.
_ERROR = re.compile(r"^\S+ E (.+)")
_PLACE = re.compile(r"^(?:[\w.:~-]+: +)+")
_FAILED = re.compile(r"\b(?:error|fail(?:ed)?|unable|invalid|cannot|couldn't|not found)\b", re.IGNORECASE)


class ServerLog:
    """Reads on a thread of its own, so that the server never waits for a reader. Complete once the source has ended."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._changed = threading.Condition()
        self._port: int | None = None
        self._ended = False
        threading.Thread(target=self._read, name="llama-server's log", daemon=True).start()

    def _read(self) -> None:
        while line := self._source.readline(_LINE):
            text = line.decode(errors="replace").rstrip()
            with self._changed:
                if text:
                    self._lines.append(text)
                if self._port is None and (found := _LISTENING.search(text)):
                    self._port = int(found[1])
                    self._lines.clear()  # the model is loaded, and what was said of that explains no later failure
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._source.close()

    def port(self, seconds: float) -> int | None:
        """The port that the server says it listens on; None if it ended, or the time did, before it said so."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._port is not None, seconds)
            return self._port

    def ended(self, seconds: float) -> bool:
        """Has everything ended that could write here? Waits for it so long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, seconds)

    def reason(self) -> str:
        """What the log says of a failure: its first error before the server listens, or its end; after that the last error.

        "" if there is none.
        """
        with self._changed:
            lines, loading = list(self._lines), self._port is None
        if loading:
            marked = [line for line in lines if _ERROR.match(line)]
            told = marked[:1] or [line for line in lines if _FAILED.search(line)][:1] or lines[-3:]
        else:  # what was wrong with questions long ago is of no interest
            told = [line for line in lines[-_LAST_LINES:] if _ERROR.match(line) or _FAILED.search(line)][-1:]
        told = [_ERROR.sub(r"\1", line) for line in told]
        return _in_short(" ".join(_PLACE.sub("", line) or line for line in told))


def _in_short(text: str) -> str:
    words = " ".join(text.split()).removeprefix("error loading model: ")
    return words if len(words) <= _QUOTED else words[:_QUOTED] + "…"
