"""`assay report`: the table again, from the journal."""

from __future__ import annotations

from assay.cli.settings import ConfigFile, Json, Workspace, settings
from assay.cli.show import show


def report(
    *,
    run: str | None = None,
    suite: str | None = None,
    json: Json = False,
    workspace: Workspace = None,
    config: ConfigFile = None,
) -> int:
    """Show the table again, from the journal: no model is loaded. A watch may be at work meanwhile.

    Parameters
    ----------
    run
        Only this run.
    suite
        Only this suite.
    """
    show(settings(config, workspace).workspace, run=run, suite=suite, as_json=json, answers=True)
    return 0
