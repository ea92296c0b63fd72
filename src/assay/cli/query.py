"""`assay query`: SQL over the journal."""

from __future__ import annotations

import json as js
from typing import TYPE_CHECKING

from assay.cli.settings import ConfigFile, Json, Workspace, settings

if TYPE_CHECKING:
    from assay.results.lens import Table

# Characters of a line that no terminal breaks.
_ENDLESS = 10_000
# A longer text is broken, rather than given a block of its own.
_LEAST = 30
# A first column that takes less of the width is repeated in each block.
_SHARE = 3


def query(
    sql: str,
    /,
    *,
    json: Json = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Ask the journal in SQL (DuckDB's).

    The tables: cells, scores, failures, completions, samples, checkpoints, checkpoint_scores, probe_results, proofs,
    run_suites, and records with every line of the journal. `assay query "show tables"` lists them, `assay query
    "describe cells"` tells the columns.

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
    _print(table)
    return 0


def _print(table: Table) -> None:
    """On a terminal in blocks of columns that fit it, each with the first column; else a line a row, for other programs."""
    from assay.report.blocks import Column, blocks, console_on, print_all

    rows = [["–" if value is None else str(value) for value in row] for row in table.rows]
    columns = [Column(name, [row[at] for row in rows], _LEAST) for at, name in enumerate(table.columns)]
    console = console_on(piped=_ENDLESS)
    labels = [column for column in columns[:1] if len(columns) > 1 and column.full < console.width / _SHARE]
    print_all(console, blocks(labels, columns[len(labels) :], console.width))
