"""What is said after a table: how far a judge's votes lie apart, and, on standard error, why answers have no score."""

from __future__ import annotations

import sys
from typing import TextIO

from assay.report.reasons import Reasons
from assay.report.spread import Spreads


def print_reasons(reasons: Reasons) -> None:
    """Print the commonest reasons of each suite."""
    sys.stdout.flush()  # the table comes first, also where both go to one place
    for line in reasons.lines():
        print(f"assay: {line}", file=sys.stderr)


def print_spreads(spreads: Spreads, stream: TextIO | None = None) -> None:
    """Print a line for each rubric that was voted on, on `stream` (standard output)."""
    for line in spreads.lines():
        print(line, file=stream)
