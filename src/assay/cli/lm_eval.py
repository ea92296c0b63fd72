"""`assay lm-eval`: lm-evaluation-harness's own command line, in which the model `assay` is known."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from assay.adapters.fit import in_full
from assay.errors import BadInput, CheckpointError, ConfigError


def lm_eval_command(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run lm-evaluation-harness with any model of assay's: --model assay --model_args base=MODEL,adapter=FOLDER.

    Parameters
    ----------
    arguments
        What lm-evaluation-harness's own command takes; `assay lm-eval run --help` lists it.
    """
    try:
        from lm_eval.__main__ import cli_evaluate

        import assay.lm_eval  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"lm-evaluation-harness isn't installed ({error}): pip install 'assay[lm-eval]'") from None
    sys.argv = ["assay lm-eval", *arguments]
    try:
        cli_evaluate()
    except CheckpointError as error:  # of the adapter that was named
        raise BadInput(in_full(error)) from error
    return 0
