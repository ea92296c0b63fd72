"""`assay query`: SQL over the journal."""

from __future__ import annotations

import json as js
import sys

from assay.cli.settings import ConfigFile, Json, Workspace, settings


def query(
    sql: str,
    /,
    *,
    json: Json = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Ask the journal in SQL (DuckDB's).

    The tables: cells, scores, failures, completions, checkpoints, checkpoint_scores, probe_results, proofs, run_suites, and
    records with every line of the journal. `assay query "show tables"` lists them, `assay query "describe cells"` tells the
    columns.

    Parameters
    ----------
    sql
        The query.
    """
    from assay.results.lens import Lens

    where = settings(config, workspace)
    with Lens(where.workspace) as lens:
        table = lens.query(sql)
    if json:
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        print(js.dumps(rows, ensure_ascii=False, indent=2, default=str))
        return 0
    from rich.console import Console
    from rich.table import Table

    shown = Table(*table.columns, box=None, header_style="bold", pad_edge=False)
    for row in table.rows:
        shown.add_row(*("–" if value is None else str(value) for value in row))
    width = None if sys.stdout.isatty() else 10_000
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))
    return 0
