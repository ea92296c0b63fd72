"""`assay ship`: forward to sinks what they lack."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from assay.cli import streams
from assay.cli.settings import ConfigFile, Workspace, settings
from assay.errors import ConfigError
from assay.results.journal import hold, segments


def ship(
    *,
    sink: Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)] = None,
    again: Annotated[bool, Parameter(negative="")] = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Forward to sinks what they don't have yet, and end.

    `assay watch --sink` does the same while it runs. Each sink remembers how far it has got.

    Parameters
    ----------
    sink
        A name from assay.toml, duckdb, duckdb:FILE, influx, or influx:URL#DATABASE; give it again for more.
    again
        Send also what the sinks have had: for one that has lost some of it. What is there is overwritten by the same.
    """
    from assay.sinks.forwarding import forward
    from assay.sinks.open import open_sinks

    found = settings(config, workspace)
    names = sink or list(found.watch.sinks)
    if not names:
        raise ConfigError("no sink: name one with --sink, or in assay.toml under [watch]")
    if not segments(found.workspace):
        raise ConfigError(f"there are no results in {found.workspace}; name the folder with --workspace")
    sinks = open_sinks(names, found)
    with hold(found.workspace):
        note = partial(print, file=sys.stderr)
        forwarded = asyncio.run(forward(found.workspace, sinks, note, again=again))
    for name, (sent, fault) in forwarded.items():
        print(f"{name}: {sent} sent")
        if fault is not None:
            streams.say(str(fault))
    return min((fault.exit_code for _, fault in forwarded.values() if fault is not None), default=0)
