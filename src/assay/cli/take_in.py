"""`assay import`: results of go-ml's that it could not push, taken into the journal."""

from __future__ import annotations

from pathlib import Path

from assay.cli.settings import ConfigFile, Workspace, settings
from assay.results.go_ml import take_in
from assay.results.index import Ledger
from assay.results.journal import hold


def import_command(file: Path, /, *, workspace: Workspace = None, config: ConfigFile = None) -> int:
    """Take go-ml's influx_buffer.jsonl into the journal, from where `assay ship` sends it on.

    Lines that the journal holds already are passed over.

    Parameters
    ----------
    file
        go-ml's influx_buffer.jsonl.
    """
    found = settings(config, workspace)
    with hold(found.workspace):
        ledger = Ledger(found.workspace)
        try:
            taken = take_in(file, ledger)
        finally:
            ledger.close()
    print(f"{taken} checkpoints taken in from {file}")
    return 0
