"""The llama-servers that tests run: what stands for one, and a real one where TEST_LLAMA_SERVER names it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from assay.models.llama_binary import stand_in

REAL = os.environ.get("TEST_LLAMA_SERVER", "")
PROGRAMS = ["stand-in", *(["real"] if REAL else [])]


def program(kind: str, folder: Path, run: str = "exec") -> str:
    """The path of a llama-server of this kind. run: how a script calls what stands for one."""
    return REAL if kind == "real" else script(folder / "llama-server", f'{run} {shlex.join(stand_in())} "$@"')


def script(path: Path, body: str) -> str:
    """A program that runs these shell commands."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)
