"""The flags that every verb has, how they join the environment and assay.toml, and what is checked of those that many have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.config import Config, load_config
from assay.errors import BadInput

Workspace = Annotated[Path | None, Parameter(name="--workspace", help="The folder for the results [assay-results].")]
ConfigFile = Annotated[Path | None, Parameter(name="--config", help="The assay.toml to use.")]
Json = Annotated[
    bool, Parameter(name="--json", negative="", show_default=False, help="Print the table's rows as JSON.")
]


def settings(config: Path | None, workspace: Path | None) -> Config:
    """Flags before environment before assay.toml before defaults."""
    return load_config(config=config, workspace=workspace)


def check_limit(limit: int | None) -> None:
    """Raise `BadInput` for a `--limit` that leaves nothing."""
    if limit is not None and limit < 1:
        raise BadInput(f"--limit {limit}: give a whole number of at least 1")


def check_run(name: str | None) -> None:
    """Raise `BadInput` for a run's name that no table can show; None stands for no name."""
    if name is not None and not (name.isprintable() and name.strip()):
        raise BadInput(f"the run's name {name!r} can't be shown in a table; give another with --run")


__all__ = ["Config", "ConfigFile", "Json", "Workspace", "check_limit", "check_run", "settings"]
