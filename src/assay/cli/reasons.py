"""Why answers have no score, on standard error after the table."""

from __future__ import annotations

import sys

from assay.report.reasons import Reasons


def print_reasons(reasons: Reasons) -> None:
    """Print the commonest reasons of each suite."""
    sys.stdout.flush()  # the table comes first, also where both go to one place
    for line in reasons.lines():
        print(f"assay: {line}", file=sys.stderr)
