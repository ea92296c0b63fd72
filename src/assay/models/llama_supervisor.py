"""The process between assay and a server program: the program ends when assay ends, however that ends.

A script that needs nothing but Python: `python -I -S llama_supervisor.py PROGRAM ARGUMENT…`, with a pipe as standard input
whose other end only assay holds. The system closes it when assay is gone, even by SIGKILL; then all of this process's group is
killed: the program may be a script that runs another one.

Should this process be killed as well, Linux kills the program (PR_SET_PDEATHSIG, which goes by the thread that forked: here
the one that lives as long as the process). Elsewhere nobody does if assay was killed too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_NOT_STARTED = 127  # as shells say it


def _bound_to_this_process() -> Callable[[], None] | None:
    """What a forked child does before it becomes the program."""
    if sys.platform != "linux":
        return None
    prctl, here = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != here:  # it was killed in between
            os._exit(1)

    return bind


def _end(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)  # this process as well


def _end_with_input() -> None:
    os.read(0, 1)
    _end()


def main(command: list[str]) -> int:
    """Run the program; its exit code, or 128 and the signal that ended it. This process leads a group of its own."""
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_bound_to_this_process())
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        return _NOT_STARTED
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ending, _end)
    threading.Thread(target=_end_with_input, daemon=True).start()
    code = program.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
