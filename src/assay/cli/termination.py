"""SIGTERM, before an event loop hears it: it ends a command as Ctrl-C does, and is not lost.

An exception that a signal's handler raises within a destructor or a callback of the interpreter's is printed and dropped, as
it may be while modules are imported. So that one came is remembered, and asked for where a command begins its work.
"""

from __future__ import annotations

import signal
from types import FrameType

_came = False


def listen() -> None:
    """Do at SIGTERM what Ctrl-C does: raise `KeyboardInterrupt`, or where `asyncio.Runner` is at work cancel that."""
    signal.signal(signal.SIGTERM, _end)


def came() -> bool:
    """Whether SIGTERM has come, though the command goes on."""
    return _came


def _end(number: int, frame: FrameType | None) -> None:
    global _came
    _came = True
    at_ctrl_c = signal.getsignal(signal.SIGINT)
    if callable(at_ctrl_c):  # it isn't where Ctrl-C is ignored, as by `nohup`
        at_ctrl_c(number, frame)
    else:
        raise KeyboardInterrupt
