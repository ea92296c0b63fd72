"""`assay export`: the journal's tables as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.settings import ConfigFile, Workspace, settings

_TABLES = ("checkpoint_scores", "probe_results", "checkpoints", "losses", "curves")


def export(
    folder: Path,
    /,
    *,
    table: Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)] = None,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Write the journal's tables into a folder as Parquet files, one a table.

    Parameters
    ----------
    folder
        Where to; it is made if it isn't there. Files of the same names are replaced.
    table
        A table or view as `assay query "show tables"` lists them; give it again for more [those of checkpoints].
    """
    from assay.results.lens import Lens

    found = settings(config, workspace)
    with Lens(found.workspace) as lens:
        for name in table or _TABLES:
            rows = lens.export(name, folder / f"{name}.parquet")
            print(f"{folder / name}.parquet: {rows} rows")
    return 0
