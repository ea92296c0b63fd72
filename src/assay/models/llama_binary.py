"""Which program `llama-server:` models run on, and what it says of itself.

It is the one that the settings name, else `llama-server` as PATH finds it. Where there is none, the server that xllamacpp
embeds stands for it, in a process of its own (`llama_standin`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.errors import ModelError
from assay.models import llama_supervisor

NAME = "llama-server"
_SECONDS = 60.0  # to say its version; one with CUDA looks at the GPUs first
_READ = 20_000  # bytes of what it says
_INSTALL = (
    "install llama.cpp, or name its llama-server in assay.toml (llama_server = 'PATH'); pip install 'assay[llama]' "
    "brings a server that stands for it"
)
_VERSION = re.compile(r"^version: (.+?)$(?:\s*^built with (.+?)$)?", re.MULTILINE)
_DEVICE = re.compile(r"^\s+(\w+): (.+) \((\d+) MiB, \d+ MiB free\)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Binary:
    """A llama-server that runs. command: how it is called. devices: the names of its GPUs; memory: theirs, in bytes."""

    command: tuple[str, ...]
    version: str
    built: str = ""
    devices: tuple[str, ...] = ()
    memory: int = 0


def find(named: str | None) -> tuple[str, ...]:
    """How the program is called: `named` (a path, or a command on PATH), llama-server, or what stands for it.

    Raises `ModelError`.
    """
    if named is not None and os.sep in named:
        return (_executable(Path(named).expanduser().absolute()),)
    if found := shutil.which(named or NAME):
        return (str(Path(found).absolute()),)
    if named is not None:
        raise ModelError(f"there is no program {named} on PATH, which llama_server names; give its path")
    if importlib.util.find_spec("xllamacpp") is None:
        raise ModelError(f"there is no llama-server on PATH: {_INSTALL}")
    return stand_in()


def stand_in() -> tuple[str, ...]:
    """The call of the program that stands for a llama-server, with the modules that this process has."""
    paths = [str(Path(path).absolute()) for path in sys.path]
    code = f"import sys; sys.path[:] = {paths!r}; from assay.models.llama_standin import main; main(sys.argv[1:])"
    return (sys.executable, "-c", code)


def ask(command: Sequence[str]) -> Binary:
    """The program's own account of itself. Raises `ModelError` for one that is no llama.cpp, or can't be run."""
    said = _said(command, "--version")
    found = _VERSION.search(said)
    if found is None:
        words = " ".join(said.split())[:200]
        raise ModelError(
            f"{command[0]} is not llama.cpp's llama-server: asked for its --version, it says "
            + (repr(words) if words else "nothing")
        )
    devices = _DEVICE.findall(_said(command, "--list-devices"))
    return Binary(
        tuple(command),
        found[1].strip(),
        (found[2] or "").strip(),
        tuple(name.strip() for _, name, _ in devices),
        sum(int(size) << 20 for *_, size in devices),
    )


def _executable(path: Path) -> str:
    if not path.exists():
        raise ModelError(f"there is no {path}, which llama_server names; give the path of llama.cpp's llama-server")
    if path.is_dir() or not os.access(path, os.X_OK):
        raise ModelError(f"{path}, which llama_server names, is not a program; name llama.cpp's llama-server")
    return str(path)


def supervised(called: Sequence[str], more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a program that ends with this process, or when its `stdin` is closed here. more: of its environment.

    The process that is given back leads a group of its own, and ends as the program does (`llama_supervisor`).
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", llama_supervisor.__file__, *called],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(more or {}),
        # Ctrl-C at the terminal is assay's to handle, and what is left of a group can be killed together.
        start_new_session=True,
    )


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's, without llama-server's own variables: they would change answers, and nobody would know."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_", "AIP_"))}
    return {**kept, **more}


def _said(command: Sequence[str], flag: str) -> str:
    """What it writes when it is called with one flag. One that says more, or does something else, is not waited for."""
    with supervised([*command, flag]) as program:
        assert program.stdout is not None
        late = threading.Timer(_SECONDS, os.killpg, (program.pid, signal.SIGKILL))
        late.daemon = True
        late.start()
        try:
            return program.stdout.read(_READ).decode(errors="replace")
        finally:
            late.cancel()
