"""Answers that come compressed. Nobody asks for that here, and some gateways do it all the same."""

from __future__ import annotations

import zlib

from assay.models.http_faults import Fault

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # told apart by their first bytes


class Inflater:
    """The plain bytes of a body that comes compressed, piece by piece (RFC 9110, 8.4.1).

    most: bytes that may come out in all; a small body can stand for a very large one. Raises `Fault` for an encoding that
    can't be read.
    """

    def __init__(self, encoding: str, most: int) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise Fault(
                "setup", f"the server sends its answers in the encoding {encoding[:40]!r}, though it was asked for none"
            )
        self._encoding = encoding
        self._left = most
        self._engine = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return what it stands for. Raises `Fault`."""
        try:
            plain = self._inflated(data)
        except zlib.error:
            raise Fault("garbled", f"the server's answer is no whole {self._encoding}, as it says it is") from None
        self._begun = self._begun or bool(data)
        self._left -= len(plain)
        if self._left < 0:
            raise Fault("garbled", "the server's answer does not end")
        return plain

    def _inflated(self, data: bytes) -> bytes:
        most = self._left + 1  # 0 would mean "no limit"
        try:
            return self._engine.decompress(data, most)
        except zlib.error:
            if self._encoding != "deflate" or self._begun:
                raise
            # Some leave out the header that "deflate" is to have.
            self._engine = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._engine.decompress(data, most)
