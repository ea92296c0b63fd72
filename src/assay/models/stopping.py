"""Text that is on its way out: stop strings held back, and characters held until their last byte has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class StopFinder:
    """Lets text through up to the first stop string, and never any part of one that was hit.

    The stop string that is complete first wins; of two that end together, the longer. How the text is cut into pieces
    makes no difference.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """Take a piece; return what may be shown by now. After a hit, `hit` is set and nothing more comes."""
        if self.hit:
            return ""
        self._held += text
        ends = [(at + len(s), at) for s in self._stops if (at := self._held.find(s)) >= 0]
        if ends:
            self.hit = True
            shown, self._held = self._held[: min(ends)[1]], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """What was held back, at the end of generation: it did not become a stop string."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class TokenDecoder:
    """Token ids in, text out as it becomes certain: a character spelled in several tokens comes with its last.

    `decode` is the tokenizer's own. Only the last few tokens are decoded each time, with enough before them that
    spaces come out as they do in the whole; the pieces together equal `decode` of all ids.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0  # ids from here on are decoded …
        self._shown = 0  # … and the text of those before here is out already

    def push(self, token: int) -> str:
        """Take a token; return the text that is certain now, which may be none."""
        self._ids.append(token)
        text = self._new_text()
        if not text or text.endswith("\ufffd"):  # the decoder's mark for bytes that are no character yet
            return ""
        self._context, self._shown = self._shown, len(self._ids)
        return text

    def flush(self) -> str:
        """The rest at the end of generation; bytes that never became a character show as U+FFFD."""
        text = self._new_text()
        self._context = self._shown = len(self._ids)
        return text

    def _new_text(self) -> str:
        before = self._decode(self._ids[self._context : self._shown])
        return self._decode(self._ids[self._context :])[len(before) :]
