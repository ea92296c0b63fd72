"""What a program prints is kept within a bound, wherever it runs."""

from __future__ import annotations

from typing import Protocol

OUTPUT_BYTES = 1 << 20


class Reader(Protocol):
    """What both asyncio's and an SSH channel's streams can do."""

    async def read(self, n: int = -1, /) -> bytes: ...


async def read_bounded(stream: Reader) -> tuple[str, bool]:
    """A stream's first mebibyte as text, and whether there was more. It is read to its end, so that nobody waits for a reader.

    Bytes that are no UTF-8 become surrogates, as in names.
    """
    kept = bytearray()
    cut = False
    while block := await stream.read(1 << 16):
        room = OUTPUT_BYTES - len(kept)
        kept += block[:room]
        cut = cut or len(block) > room
    return kept.decode("utf-8", "surrogateescape"), cut


def check_command(command: tuple[str, ...]) -> None:
    """Raises `ValueError` for what no program can be given."""
    if not command or any("\0" in word for word in command):
        raise ValueError("a command is a program and arguments, none of which can hold a zero byte")
