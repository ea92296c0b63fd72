"""What a sample comes to that is weighed and not asked: its weigher's scores, or failures where that one fails."""

from __future__ import annotations

from collections.abc import Sequence

from assay.results.canonical import digest_of
from assay.results.records import TextWeighed
from assay.scorers.base import Weigher, checked
from assay.types import Sample, Score, ScoreFailure


def score_weighed(weigher: Weigher, sample: Sample, weighed: Sequence[TextWeighed]) -> tuple[Score | ScoreFailure, ...]:
    """One score or failure for each of the weigher's metrics, in their order. Raises nothing."""
    try:
        return checked(weigher, weigher.weigh(sample, weighed))
    except Exception as error:  # one sample's mishap must not end the run; it is counted, and shown
        reason = f"the scorer {weigher.name!r} failed: {type(error).__name__}: {error}"
        return tuple(ScoreFailure(metric, "permanent", reason) for metric in weigher.metrics)


def weighed_key(weigher: Weigher, sample: Sample, weighed: Sequence[TextWeighed]) -> str:
    """What decides the scores: the texts as they were weighed, what they are compared with, and the weigher."""
    keys = [each.key for each in weighed]
    return digest_of(
        "weighed score", keys, dict(sample.reference), weigher.name, weigher.version, dict(weigher.parameters)
    )
