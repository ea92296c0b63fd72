"""Server-sent events: bytes in, as packets cut them; the data of whole events out.

The format is the WHATWG's (https://html.spec.whatwg.org/multipage/server-sent-events.html), of which servers of language
models use little. One thing differs: an event that the connection's end left without its blank line counts.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = (b"\n", b"\r")


class EventReader:
    """Splits a byte stream into events. How it is cut into packets, even within a character, makes no difference."""

    def __init__(self) -> None:
        self._rest = bytearray()  # a line that has not ended yet
        self._data: list[bytes] = []
        self._after_cr = False  # a line feed that comes now belongs to the carriage return before it
        self._first = True

    def feed(self, packet: bytes) -> list[str]:
        """Take a packet; return the data of the events that it completes, in order."""
        if not packet:
            return []
        if self._after_cr:
            packet = packet.removeprefix(b"\n")
        self._after_cr = packet.endswith(b"\r")
        self._rest += packet
        if b"\n" not in packet and b"\r" not in packet:
            return []
        lines = self._rest.splitlines(keepends=True)
        self._rest = bytearray() if lines[-1].endswith(_LINE_ENDS) else lines.pop()
        events: list[str] = []
        for line in lines:
            self._take(bytes(line.rstrip(b"\r\n")), events)
        return events

    def finish(self) -> list[str]:
        """The data of an event that was begun when the stream ended: the last blank line is often left out."""
        events: list[str] = []
        if self._rest:
            self._take(bytes(self._rest), events)
            self._rest.clear()
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[str]) -> None:
        if self._first:
            line, self._first = line.removeprefix(_BOM), False
        if not line:
            if self._data:
                events.append(b"\n".join(self._data).decode("utf-8", errors="replace"))
                self._data.clear()
            return
        name, _, value = line.partition(b":")  # a comment's name is empty
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
