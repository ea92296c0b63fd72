"""What stands for a `llama-server` where there is none: the same server, as xllamacpp embeds it, in a process of its own.

It takes those of llama-server's flags that assay gives, and no others: `python -m assay.models.llama_standin --version`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.errors import ModelError
from assay.models.llama_embedded import ERRORS, build_number, import_xllamacpp, port_of, start
from assay.models.llama_process import flags
from assay.models.llama_server import HOST, ServerSettings


def main(called: Sequence[str]) -> None:
    """Serve until the process is ended."""
    if called == ["--list-devices"]:
        print("Available devices:\n  (none)")
        return
    try:
        xllamacpp = import_xllamacpp()
    except ModelError as error:
        sys.exit(str(error))
    if called == ["--version"]:
        info = xllamacpp.BUILD_INFO
        print(f"version: b{build_number(xllamacpp)} of xllamacpp {xllamacpp.__version__}")
        print(f"built with {info['compiler']} for {info['build_target']}")
    else:
        _serve(_settings(called))


def _settings(called: Sequence[str]) -> ServerSettings:
    """The settings that these flags stand for; whatever else they say must be what assay always says."""
    parser = argparse.ArgumentParser("llama-server", allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--ctx-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--lora-scaled", default="")
    found, _ = parser.parse_known_args(called)
    adapters = [part.rpartition(":")[0] for part in found.lora_scaled.split(",") if part]
    settings = ServerSettings(found.model, found.ctx_size, found.threads, tuple(Path(path) for path in adapters))
    if list(called) != flags(settings, adapters):
        parser.error(f"these are not the flags that assay gives: {' '.join(called)}")
    return settings


def _serve(settings: ServerSettings) -> None:
    try:
        server: Any = start(settings, os.environ["LLAMA_API_KEY"], ERRORS)
    except RuntimeError:  # its log says why
        sys.exit(1)
    print(f"listening on http://{HOST}:{port_of(server)}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
