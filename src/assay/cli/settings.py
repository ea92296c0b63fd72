"""The flags that every verb has, and how they join the environment and assay.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.config import Config, load_config

Workspace = Annotated[Path | None, Parameter(name="--workspace")]
ConfigFile = Annotated[Path | None, Parameter(name="--config")]
Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]


def settings(config: Path | None, workspace: Path | None) -> Config:
    """Flags before environment before assay.toml before defaults."""
    return load_config(config=config, workspace=workspace)


__all__ = ["Config", "ConfigFile", "Json", "Workspace", "settings"]
