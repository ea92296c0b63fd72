"""The command line."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

from assay.cli import streams, termination
from assay.errors import NO_ROOM, AssayError, DiskFault

# What shells report for a program that Ctrl-C ended.
INTERRUPTED = 130


def main() -> NoReturn:
    """Run `assay`; a user's mistake is one sentence on standard error and an exit code, never a traceback."""
    try:
        termination.listen()
        code = _run()
    except AssayError as error:
        streams.say(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # DuckDB's words for Ctrl-C
            raise
        code = INTERRUPTED
    except BrokenPipeError:  # `assay report | head`
        streams.abandon()
        code = streams.UNREAD
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename is not None:
            raise
        streams.abandon()
        streams.say(f"standard output cannot be written ({error.strerror}); what was earned is kept")
        code = DiskFault.exit_code
    sys.exit(code)


def _run() -> int:
    # A thousand answers under way hold far more objects than Python's 700 before it looks for dead cycles, which took a
    # twentieth of the time of a judged answer.
    gc.set_threshold(50_000, 20, 20)
    streams.prepare()
    from assay.cli.app import app  # here, for Ctrl-C may come while it is imported

    if termination.came():
        raise KeyboardInterrupt
    # Alone, - is a name and no flag, which the parser doesn't know; as a path ./- is the same.
    words = ["./-" if word == "-" else word for word in sys.argv[1:]]
    code = app(words, result_action="return_value")
    streams.finish()
    return code if isinstance(code, int) else 0
